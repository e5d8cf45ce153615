"""Saturation mutagenesis: every single-base substitution of a region as records, scored like those of a VCF."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from varfm.contigs import ContigMap, read_contig_map
from varfm.errors import InputError, OptionError, ReferenceMismatch
from varfm.genome import Genome, decode
from varfm.io.block import Block
from varfm.io.header import bytes_of, parse_header
from varfm.io.scan import block_of
from varfm.protocols import Model
from varfm.session import Session, SessionOptions
from varfm.variants import Variant, VariantKind, trim

MAX_LENGTH = 100_000
"""Positions of a region, at most: 300,000 alleles."""

FLANK = 50
"""Positions on either side of a variant, unless the user says otherwise."""

OWN_ID = "variant"
"""What stands as ID beside the variant that the region lies around."""

BASES = "ACGT"
_HEADER = (b"##fileformat=VCFv4.3\n", b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
_NUMBER = r"\d{1,3}(?:,\d{3}){1,9}|\d{1,30}"  # Python refuses to read much longer ones
_REGION = re.compile(rf"(?P<contig>.+):(?P<start>{_NUMBER})-(?P<end>{_NUMBER})", re.ASCII)
_VARIANT = re.compile(
    rf"(?P<contig>.+)(?P<sep>[:-])(?P<pos>{_NUMBER})(?P=sep)(?P<ref>\w+)(?:(?P=sep)|>)(?P<alt>\w+)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Place:
    """What is mutated.

    Attributes:
        contig: As the user wrote it.
        start: 0-based.
        end: 0-based, after the last base; inside the contig.
        bases: The reference there, upper case, N for all that is not A, C, G or T.
        written: The variant that the region lies around, as the user wrote it; None for a plain region.
    """

    contig: str
    start: int
    end: int
    bases: str
    written: Variant | None = None

    @property
    def variant(self) -> Variant | None:
        """The variant without the bases that its alleles share."""
        return trim(self.written) if self.written else None

    @property
    def is_substitution(self) -> bool:
        """True if the variant is one of the region's own substitutions."""
        variant = self.variant
        if variant is None or variant.kind is not VariantKind.SNV:
            return False
        return self.bases[variant.start - self.start] == variant.ref

    def __str__(self) -> str:
        """Give `contig:start-end`, 1-based, ends included."""
        return f"{self.contig}:{self.start + 1}-{self.end}"


def is_variant(text: str) -> bool:
    """Tell whether a text is written like a variant."""
    return _VARIANT.fullmatch(text) is not None


def read_place(text: str, flank: int, contigs: ContigMap, genome: Genome) -> Place:
    """Read a region or a variant, and the reference there.

    Args:
        text: `contig:start-end` (1-based, ends included), or `contig:position:REF:ALT`, also with `-` for `:` and `>`
            for the last one.
        flank: Bases on either side of a variant; those outside the contig are left out.
        contigs: Finds the FASTA's name.
        genome: The reference.

    Raises:
        OptionError: If it is neither, lies outside the contig, or is too long.
        ReferenceMismatch: If the variant's REF is not what the FASTA has.
    """
    variant = _VARIANT.fullmatch(text)
    if variant:
        return _around(text, variant, flank, contigs, genome)
    region = _REGION.fullmatch(text)
    if not region:
        raise OptionError(
            f"{text!r} is no region and no variant. Give contig:start-end, such as chr1:1001-1100 (1-based, "
            "both ends included), or contig:position:REF:ALT, such as chr1:1050:A:G."
        )
    contig = _contig(text, region["contig"], contigs, genome)
    start, end = _number(region["start"]), _number(region["end"])
    length = genome.contigs[contig]
    if end < start:
        raise OptionError(f"{text!r}: the end is before the start. Swap them.")
    if start < 1 or end > length:
        raise OptionError(f"{text!r}: {region['contig']} has the positions 1 to {length:,}. Stay inside them.")
    return _place(text, region["contig"], contig, (start - 1, end), genome)


def _around(text: str, match: re.Match[str], flank: int, contigs: ContigMap, genome: Genome) -> Place:
    contig = _contig(text, match["contig"], contigs, genome)
    written = Variant(contig, _number(match["pos"]) - 1, match["ref"].upper(), match["alt"].upper())
    if written.ref.strip(BASES) or written.alt.strip(BASES):
        raise OptionError(f"{text!r}: REF and ALT are made of A, C, G and T.")
    if written.ref == written.alt:
        raise OptionError(
            f"{text!r}: REF and ALT are the same. Give a region as contig:start-end if you want no variant."
        )
    length = genome.contigs[contig]
    if written.start < 0 or written.end > length:
        raise OptionError(f"{text!r}: {match['contig']} has the positions 1 to {length:,}. Stay inside them.")
    if not genome.matches(contig, written.start, written.ref):
        found = decode(genome.codes(contig)[written.start : written.end].tobytes())
        raise ReferenceMismatch(
            f"{text!r}: {genome.path.name} has {_short(found)} there, not {_short(written.ref)}. Is this the assembly "
            "of the variant?"
        )
    trimmed = trim(written)
    span = max(0, trimmed.start - flank), min(length, trimmed.end + flank)
    return _place(text, match["contig"], contig, span, genome, written)


def _place(
    text: str, name: str, contig: str, span: tuple[int, int], genome: Genome, written: Variant | None = None
) -> Place:
    start, end = span
    if end - start > MAX_LENGTH:
        raise OptionError(
            f"{text!r}: {end - start:,} positions; {MAX_LENGTH:,} are allowed at once. Give a shorter region, or parts "
            "of it one after the other."
        )
    if end == start:
        raise OptionError(f"{text!r}: an insertion has no position of its own. Give --flank 1 or more.")
    return Place(name, start, end, decode(genome.codes(contig)[start:end].tobytes()), written)


def _contig(text: str, name: str, contigs: ContigMap, genome: Genome) -> str:
    contig = contigs.resolve(name)
    if contig is None:
        known = list(genome.contigs)
        more = ", ..." if len(known) > 3 else ""
        raise OptionError(f"{text!r}: {genome.path.name} has no contig {name!r} (it has {', '.join(known[:3])}{more}).")
    return contig


def _number(text: str) -> int:
    return int(text.replace(",", ""))


def _short(bases: str) -> str:
    return bases if len(bases) <= 20 else f"{bases[:20]}... ({len(bases):,} bases)"


class SubstitutionReader:
    """The substitutions of a place as records of a VCF, made when they are asked for.

    Three records for each position, in the order of A, C, G, T; four, which cannot be scored, where the reference is N.
    A variant that is none of them stands first.

    Args:
        place: Where.

    Attributes:
        name: As errors call it.
        header: One without contigs.
    """

    def __init__(self, place: Place) -> None:
        self.name = str(place)
        self.header = parse_header(self.name, _HEADER)
        self.tail = b""
        self._place = place
        self._own = place.variant if place.is_substitution else None
        self._n_given = 0

    @property
    def fraction(self) -> float | None:
        """Share of the positions that were given."""
        return self._n_given / len(self._place.bases)

    def blocks(self, n_records: int = 4096) -> Iterator[Block]:
        """Give the records, about `n_records` at a time, always whole positions."""
        n_positions, n_before = max(1, n_records // 3), 0
        for first in range(0, len(self._place.bases), n_positions):
            places = range(first, min(first + n_positions, len(self._place.bases)))
            lines = [line for place in places for line in self._lines(place)]
            if first == 0:
                lines = self._own_line() + lines
            starts = np.concatenate([np.zeros(1, np.int64), np.cumsum([len(line) for line in lines])])
            first_line = len(_HEADER) + n_before + 1
            yield block_of(self.name, self.header, b"".join(lines), starts, first_line, n_before)
            self._n_given = places.stop
            n_before += len(lines)

    def _lines(self, place: int) -> list[bytes]:
        ref, start = self._place.bases[place], self._place.start + place
        own = self._own.alt if self._own and self._own.start == start else None
        return [self._line(start, OWN_ID if alt == own else ".", ref, alt) for alt in BASES if alt != ref]

    def _own_line(self) -> list[bytes]:
        written = self._place.written
        if written is None or self._own:
            return []
        return [self._line(written.start, OWN_ID, written.ref, written.alt)]

    def _line(self, start: int, name: str, ref: str, alt: str) -> bytes:
        return bytes_of(f"{self._place.contig}\t{start + 1}\t{name}\t{ref}\t{alt}\t.\t.\t.\n")


class IsmSession(Session):
    """A run whose records are the substitutions of a place; else like any other, so that scores are the same.

    Args:
        options: `vcf` is the region or the variant, as typed; `models` has one name.
        flank: Bases on either side of a variant.
        in_one_window: Score all substitutions in the window that an SNV at the first base of the variant, or at the
            middle base of the region, would have, instead of each in its own.

    Attributes:
        place: What is mutated.

    Raises:
        VarfmError: One of its children, before any scoring, if something cannot be used.
    """

    input_role = "region"

    def __init__(self, options: SessionOptions, flank: int = FLANK, *, in_one_window: bool = False) -> None:
        self._flank, self._in_one_window = flank, in_one_window
        super().__init__(options)

    def _open_input(self) -> tuple[SubstitutionReader, Genome]:
        if not self.options.fasta:
            raise InputError("no reference given. Give the FASTA with --fasta, or set VARFM_FASTA.")
        genome = self._stack.enter_context(Genome(Path(self.options.fasta)))
        table = read_contig_map(self.options.contig_map) if self.options.contig_map else {}
        self.place = read_place(self.options.vcf, self._flank, ContigMap(genome.contigs, table=table), genome)
        return SubstitutionReader(self.place), genome

    def _load_models(self) -> list[Model]:
        models = super()._load_models()
        return [in_one_window(model, self.place) for model in models] if self._in_one_window else models

    def _judged_blocks(self) -> Iterator[Block]:
        """Judge nothing: REF comes from the FASTA."""
        return self.reader.blocks(self._block_records())


def in_one_window(model: Model, place: Place) -> Model:
    """Let a model score all of a place in one window.

    Raises:
        OptionError: If the model cannot, or the place does not fit into its window.
    """
    from varfm.scorers.one_window import one_window

    scorer: Any = model.scorer  # a dataclass, if it has the placement that is looked for
    region = place.start, place.start + len(place.bases)
    middle = place.variant.start if place.variant else (region[0] + region[1] - 1) // 2
    placement = one_window(model.name, model.scorer, middle, region)
    first = placement.start
    said = ("one_window", f"{place.contig}:{first + 1}-{first + placement.length}")
    about = replace(model.origin, options=(*model.origin.options, said))
    return replace(model, scorer=replace(scorer, placement=placement), origin=about)
