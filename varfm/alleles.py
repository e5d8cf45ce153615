"""From the records of a block to alleles: classified, compared with the reference, trimmed and aligned.

Single-base changes, nearly all of a VCF, are handled as arrays; everything else one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from varfm.contigs import ContigMap
from varfm.errors import ReferenceMismatch
from varfm.genome import Genome, encode
from varfm.io.block import ALT, ID, Block
from varfm.normalise import normalise
from varfm.variants import Status, Variant

_NO_BASE = 255
_BASE_CODE = np.full(256, _NO_BASE, np.uint8)
for _code, _base in enumerate(b"ACGT"):
    _BASE_CODE[_base] = _BASE_CODE[_base + 32] = _code
_BASES = "ACGT"


class Aligned(NamedTuple):
    """One allele at its leftmost and at its rightmost place; equal for alleles of equal length."""

    left: Variant
    right: Variant


@dataclass(frozen=True, slots=True)
class Alleles:
    """The ALTs of one block, in order; a record with ALT `.` has one entry.

    Attributes:
        n_records: Records of the block.
        record: (n,) int64, ascending: which record of the block the ALT belongs to.
        number: (n,) int64, 0-based number of the ALT in its record.
        status: (n,) uint8, `Status` of the checks that do not depend on a model; `OK` where models may score.
        start: (n,) int64, 0-based start of the trimmed, left-aligned allele where status is `OK`, else POS - 1.
        contigs: Names in the FASTA that the block touches.
        contig: (n,) int32, index into `contigs`; -1 where the FASTA lacks the record's contig.
    """

    n_records: int
    record: NDArray[np.int64]
    number: NDArray[np.int64]
    status: NDArray[np.uint8]
    start: NDArray[np.int64]
    contigs: tuple[str, ...] = ()
    contig: NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    _snv: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 2), np.uint8))
    _others: dict[int, Aligned] = field(default_factory=dict)

    def __len__(self) -> int:
        """Count the ALTs."""
        return len(self.record)

    def aligned(self, index: int) -> Aligned:
        """Give the allele; only where its status is `OK`."""
        if index in self._others:
            return self._others[index]
        ref, alt = self._snv[index]
        variant = Variant(self.contigs[self.contig[index]], int(self.start[index]), _BASES[ref], _BASES[alt])
        return Aligned(variant, variant)


class AlleleReader:
    """Turns blocks of records into alleles on one genome.

    Args:
        genome: The reference.
        contigs: How the VCF's contig names map to the genome's.
        stop_on_mismatch: Raise at the first REF that differs from the reference.
    """

    def __init__(self, genome: Genome, contigs: ContigMap, *, stop_on_mismatch: bool = False) -> None:
        self._genome = genome
        self._contigs = contigs
        self._stop_on_mismatch = stop_on_mismatch

    def read(self, block: Block) -> Alleles:
        """Classify, compare with the reference and align every ALT of the block.

        Raises:
            ReferenceMismatch: If a REF differs and `stop_on_mismatch` was asked for.
            InputError: If a POS is not a number.
        """
        draft = _Draft(block)
        for name, first, last in block.contig_runs():
            contig = self._contigs.resolve(name)
            if contig is None:
                draft.set_status(first, last, Status.NO_CONTIG)
            else:
                self._read_run(draft, contig, first, last)
        alleles = draft.alleles()
        if self._stop_on_mismatch:
            _raise_on_mismatch(block, alleles, self._genome)
        return alleles

    def _read_run(self, draft: _Draft, contig: str, first: int, last: int) -> None:
        codes = self._genome.codes(contig)
        number = draft.contig_number(contig)
        draft.contig[first:last] = number
        rows = first + np.flatnonzero(draft.is_snv[first:last])
        starts = draft.start[rows]
        inside = (starts >= 0) & (starts < len(codes))
        found = codes[np.where(inside, starts, 0)]
        equal = found == draft.snv[rows, 0]
        for row in np.flatnonzero(inside & ~equal & (found == 4)):
            equal[row] = self._genome.matches(contig, int(starts[row]), _BASES[draft.snv[rows[row], 0]])
        draft.status[rows] = np.where(inside, np.where(equal, Status.OK, Status.REF_MISMATCH), Status.OUT_OF_CONTIG)
        for record, written in draft.written(first, last):
            draft.others[record] = [self._judge(contig, codes, item) for item in written]

    def _judge(self, contig: str, codes: NDArray[np.uint8], written: _Written) -> Status | Aligned:
        if written.status is not Status.OK:
            return written.status
        start, ref, alt, _ = written
        end = start + len(ref)
        if start < 0 or end > len(codes):
            return Status.OUT_OF_CONTIG
        # Equal codes need no search for ambiguity codes.
        if codes[start:end].tobytes() != encode(ref) and not self._genome.matches(contig, start, ref):
            return Status.REF_MISMATCH
        return Aligned(*normalise(Variant(contig, start, ref, alt), codes))


class _Written(NamedTuple):
    """An ALT as it stands in the record; `status` is `OK` if both alleles are bases."""

    start: int
    ref: str
    alt: str
    status: Status


class _Draft:
    """The arrays of a block while they are filled, one entry per record, and lists for records that are not SNVs."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.start = block.positions - 1
        single, ref, alt = block.snvs()
        self.snv = np.stack([_BASE_CODE[ref], _BASE_CODE[alt]], axis=1)
        self.is_snv = single & (self.snv < _NO_BASE).all(axis=1) & (self.snv[:, 0] != self.snv[:, 1])
        self.status = np.full(block.n_records, Status.NO_CONTIG, np.uint8)
        self.contig = np.full(block.n_records, -1, np.int32)
        self.names: dict[str, int] = {}
        self.others: dict[int, list[Status | Aligned]] = {}

    def contig_number(self, name: str) -> int:
        return self.names.setdefault(name, len(self.names))

    def set_status(self, first: int, last: int, status: Status) -> None:
        self.status[first:last] = status
        for record, written in self.written(first, last):
            self.others[record] = [status if item.status is Status.OK else item.status for item in written]

    def written(self, first: int, last: int) -> Iterator[tuple[int, list[_Written]]]:
        """Give what stands in the records of a run that are not SNVs."""
        records = first + np.flatnonzero(~self.is_snv[first:last])
        data = self.block.data
        places = self.block.ends[records, ID : ALT + 1]  # where ID, REF and ALT end
        for record, start, (id_end, ref_end, alt_end) in zip(
            records.tolist(), self.start[records].tolist(), places.tolist(), strict=True
        ):
            ref = data[id_end + 1 : ref_end].decode("latin-1").upper()
            alts = data[ref_end + 1 : alt_end].decode("latin-1").split(",")
            yield record, [_Written(start, ref, alt.upper(), classify(ref, alt)) for alt in alts]

    def alleles(self) -> Alleles:
        counts = np.ones(self.block.n_records, np.int64)
        for record, items in self.others.items():
            counts[record] = len(items)
        records = np.repeat(np.arange(self.block.n_records), counts)
        offsets = np.cumsum(counts) - counts
        status, start = self.status[records], self.start[records]
        others: dict[int, Aligned] = {}
        for number, items in self.others.items():
            for index, item in enumerate(items, int(offsets[number])):
                if isinstance(item, Status):
                    status[index] = item
                else:
                    status[index], start[index], others[index] = Status.OK, item.left.start, item
        return Alleles(
            n_records=self.block.n_records,
            record=records,
            number=np.arange(len(records)) - offsets[records],
            status=status,
            start=start,
            contigs=tuple(self.names),
            contig=self.contig[records],
            _snv=self.snv[records],
            _others=others,
        )


def classify(ref: str, alt: str) -> Status:
    """Tell whether both alleles are bases, by what is written alone.

    Args:
        ref: REF of the record, upper case.
        alt: One ALT as written.

    Returns:
        `OK`, or the first reason in the order of `Status` why it is not a sequence.
    """
    if ref and alt and not ref.strip("ACGT") and not alt.strip("ACGTacgt"):
        return Status.OK
    if alt == ".":
        return Status.NO_ALT
    if alt == "*":
        return Status.STAR
    if alt.startswith("<"):
        return Status.SYMBOLIC
    if "[" in alt or "]" in alt or (len(alt) > 1 and (alt[0] == "." or alt[-1] == ".")):
        return Status.BREAKEND
    return Status.NON_ACGT


def _raise_on_mismatch(block: Block, alleles: Alleles, genome: Genome) -> None:
    wrong = np.flatnonzero(alleles.status == Status.REF_MISMATCH)
    if len(wrong) == 0:
        return
    record = int(alleles.record[wrong[0]])
    contig, pos, _, ref = (block.field(record, column).decode("utf-8", "replace") for column in range(4))
    raise ReferenceMismatch(
        f"{block.where(record)}: {contig}:{pos} has REF={ref[:50]}, {genome.path.name} has other bases there. "
        "Is this the assembly the VCF was called on? Use --on-ref-mismatch skip to leave such alleles out."
    )


@dataclass(frozen=True, slots=True)
class AssemblyEvidence:
    """What the first comparable alleles of an input say about the reference.

    Attributes:
        n_records: Records read.
        n_known: Records whose contig is in the FASTA.
        n_compared: Alleles that could be compared, at most `AssemblyEvidence.ENOUGH`.
        n_mismatched: Of those, how many have another base in the FASTA.
        first_mismatch: `contig:pos REF` of the first one.
    """

    n_records: int = 0
    n_known: int = 0
    n_compared: int = 0
    n_mismatched: int = 0
    first_mismatch: str = ""


ENOUGH = 2_000
"""Comparable alleles after which the assembly is judged."""


def gather_evidence(blocks: Iterable[tuple[Block, Alleles]]) -> AssemblyEvidence:
    """Compare alleles with the reference until `ENOUGH` could be compared or the input ends."""
    n_records = n_known = n_compared = n_mismatched = 0
    first = ""
    for block, alleles in blocks:
        n_records += block.n_records
        n_known += len(np.unique(alleles.record[alleles.contig >= 0]))
        comparable = np.flatnonzero((alleles.status == Status.OK) | (alleles.status == Status.REF_MISMATCH))
        comparable = comparable[: ENOUGH - n_compared]
        wrong = comparable[alleles.status[comparable] == Status.REF_MISMATCH]
        if len(wrong) and not first:
            record = int(alleles.record[wrong[0]])
            fields = [block.field(record, column).decode("utf-8", "replace")[:50] for column in (0, 1, 3)]
            first = f"{fields[0]}:{fields[1]} REF={fields[2]}"
        n_compared += len(comparable)
        n_mismatched += len(wrong)
        if n_compared >= ENOUGH:
            break
    return AssemblyEvidence(n_records, n_known, n_compared, n_mismatched, first)


def judge_assembly(evidence: AssemblyEvidence, vcf: str, genome: Genome, max_mismatch_percent: float) -> None:
    """Stop if the reference is not the one that the VCF was called on (DESIGN, 3).

    Raises:
        ReferenceMismatch: If too many alleles mismatch, or no contig is known.
    """
    if max_mismatch_percent >= 100:
        return
    seen = evidence
    if seen.n_records >= 5 and seen.n_known == 0:
        known = ", ".join(list(genome.contigs)[:5])
        raise ReferenceMismatch(
            f"{vcf}: none of the contigs of its {seen.n_records:,} records is in {genome.path.name} (it has {known}"
            f"{', ...' if len(genome.contigs) > 5 else ''}). Give the FASTA that the VCF was called on, or "
            "--contig-map."
        )
    n, wrong = seen.n_compared, seen.n_mismatched
    if (n >= 50 and 100 * wrong > max_mismatch_percent * n) or (n >= 5 and wrong == n):
        raise ReferenceMismatch(
            f"{vcf}: REF differs from {genome.path.name} for {wrong:,} of the first {n:,} alleles that can be compared "
            f"({100 * wrong / n:.0f} %; first {seen.first_mismatch}). This is not the assembly that the VCF was called "
            "on: give the right FASTA, or --max-ref-mismatch 100 to go on without this check."
        )


def comparable_blocks(blocks: Iterable[Block], reader: AlleleReader) -> Iterator[tuple[Block, Alleles]]:
    """Pair each block with its alleles, lazily."""
    for block in blocks:
        yield block, reader.read(block)
