"""Alleles of a block: what is no sequence, what the reference says, and whether it is the right reference."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from toys import RecordText, vcf_text, write_fasta

from varfm.alleles import (
    ENOUGH,
    AlleleReader,
    Alleles,
    AssemblyEvidence,
    classify,
    comparable_blocks,
    gather_evidence,
    judge_assembly,
)
from varfm.contigs import ContigMap
from varfm.errors import InputError, ReferenceMismatch
from varfm.genome import Genome
from varfm.io.vcf import Block, VcfReader
from varfm.variants import Status

#        1234567890
BASES = "ACGTTRCAAC"
GENOME = {"c": BASES, "n": "NNACNNACGT", "l": "acgtacgt"}


@contextmanager
def opened(
    records: Sequence[RecordText], contigs: Mapping[str, str] = GENOME, block_records: int = 4096
) -> Iterator[tuple[Genome, AlleleReader, list[Block]]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        vcf = folder / "in.vcf"
        vcf.write_text(vcf_text(records))
        with Genome(write_fasta(folder, contigs), folder / "cache") as genome, VcfReader(str(vcf)) as reader:
            blocks = list(reader.blocks(block_records))
            yield genome, AlleleReader(genome, ContigMap(genome.contigs, reader.header.contigs)), blocks


def read(records: Sequence[RecordText]) -> Alleles:
    with opened(records) as (_, reader, blocks):
        (block,) = blocks
        return reader.read(block)


def statuses(*records: RecordText) -> list[str]:
    return [Status(number).name for number in read(records).status]


@pytest.mark.parametrize(
    ("ref", "alt", "status"),
    [
        ("A", ".", "NO_ALT"),
        ("N", ".", "NO_ALT"),
        ("A", "*", "STAR"),
        ("N", "*", "STAR"),
        ("A", "<DEL>", "SYMBOLIC"),
        ("A", "<*>", "SYMBOLIC"),
        ("A", "<NON_REF>", "SYMBOLIC"),
        ("N", "<DUP:TANDEM>", "SYMBOLIC"),
        ("A", "A[c:7[", "BREAKEND"),
        ("A", "]c:7]A", "BREAKEND"),
        ("A", "[<ctg>:1[A", "BREAKEND"),
        ("A", ".A", "BREAKEND"),
        ("A", "A.", "BREAKEND"),
        ("A", "N", "NON_ACGT"),
        ("N", "A", "NON_ACGT"),
        ("A", "R", "NON_ACGT"),
        ("A", "U", "NON_ACGT"),
        ("A", "", "NON_ACGT"),
        ("", "A", "NON_ACGT"),
        ("A", "A*", "NON_ACGT"),
        ("A", "-", "NON_ACGT"),
        ("A", "ac", "OK"),
        ("A", "A", "OK"),
    ],
)
def test_what_is_written_tells_whether_an_allele_is_a_sequence(ref: str, alt: str, status: str) -> None:
    assert classify(ref, alt) is Status[status]


@pytest.mark.parametrize(
    ("record", "status"),
    [
        (("c", 1, "A", "."), "NO_ALT"),
        (("z", 1, "A", "."), "NO_ALT"),
        (("z", 1, "N", "<DEL>"), "SYMBOLIC"),
        (("z", 0, "N", "A"), "NON_ACGT"),
        (("z", 0, "A", "C"), "NO_CONTIG"),
        (("z", 0, "AC", "C"), "NO_CONTIG"),
        (("c", 0, "T", "C"), "OUT_OF_CONTIG"),
        (("c", 0, "TA", "T"), "OUT_OF_CONTIG"),
        (("c", 11, "A", "C"), "OUT_OF_CONTIG"),
        (("c", 10, "CA", "C"), "OUT_OF_CONTIG"),  # REF goes past the end
        (("c", 10, "GA", "C"), "OUT_OF_CONTIG"),  # before the mismatch is seen
        (("c", 10**10, "A", "C"), "OUT_OF_CONTIG"),
        (("c", 10**10, "AT", "C"), "OUT_OF_CONTIG"),
        (("c", 2**31, "A", "C"), "OUT_OF_CONTIG"),
        (("c", 2**31 - 1, "A", "C"), "OUT_OF_CONTIG"),
        (("c", 10, "C", "CA"), "OK"),
        (("c", 10, "C", "A"), "OK"),
        (("c", 1, "C", "A"), "REF_MISMATCH"),
        (("c", 1, "AT", "A"), "REF_MISMATCH"),
        (("c", 1, "AT", "AT"), "REF_MISMATCH"),  # checked before trimming
        (("c", 1, "C", "C"), "REF_MISMATCH"),
        (("c", 3, "GTA", "GCA"), "REF_MISMATCH"),  # only the shared last base differs
        (("c", 6, "A", "C"), "OK"),  # R stands for A and G
        (("c", 6, "G", "C"), "OK"),
        (("c", 6, "C", "G"), "REF_MISMATCH"),
        (("c", 5, "TAC", "T"), "OK"),
        (("c", 5, "TTC", "T"), "REF_MISMATCH"),
        (("n", 1, "A", "C"), "REF_MISMATCH"),  # N agrees with no base
        (("n", 2, "NA", "N"), "NON_ACGT"),
        (("l", 2, "C", "T"), "OK"),
        (("c", 2, "c", "t"), "OK"),
        (("c", 2, "cg", "c"), "OK"),
        (("c", 2, "c", "C"), "OK"),
    ],
)
def test_the_first_reason_that_applies_is_the_status(record: RecordText, status: str) -> None:
    assert statuses(record) == [status]


def test_every_alt_of_a_record_has_its_own_status() -> None:
    alleles = read([("c", 1, "A", "C,*,<DEL>,N,AT,A,A[c:2["), ("z", 5, "A", "T,*"), ("c", 2, "T", "G,<X>")])
    assert [Status(number).name for number in alleles.status] == [
        "OK", "STAR", "SYMBOLIC", "NON_ACGT", "OK", "OK", "BREAKEND",
        "NO_CONTIG", "STAR",
        "REF_MISMATCH", "SYMBOLIC",
    ]  # fmt: skip
    assert alleles.record.tolist() == [0] * 7 + [1] * 2 + [2] * 2
    assert alleles.number.tolist() == [*range(7), 0, 1, 0, 1]
    assert alleles.n_records == 3


def test_places_and_contigs_are_those_of_the_aligned_allele() -> None:
    alleles = read([("c", 9, "A", "AA"), ("c", 2, "C", "T"), ("l", 4, "T", "TACGT"), ("z", 7, "A", "C")])
    assert alleles.start.tolist() == [7, 1, 0, 6]
    assert [alleles.contigs[n] if n >= 0 else None for n in alleles.contig] == ["c", "c", "l", None]
    assert alleles.aligned(0).left[1:] == (7, "", "A")
    assert alleles.aligned(0).right[1:] == (9, "", "A")
    assert alleles.aligned(1).left[1:] == alleles.aligned(1).right[1:] == (1, "C", "T")
    assert alleles.aligned(2).left == ("l", 0, "", "ACGT")


def test_an_snv_is_the_same_written_alone_or_beside_others() -> None:
    alleles = read([("c", 2, "C", "T"), ("c", 2, "C", "T,G"), ("c", 1, "ACG", "ATG")])
    assert alleles.aligned(0) == alleles.aligned(1) == alleles.aligned(3)


def test_stopping_at_a_mismatch_names_line_and_value() -> None:
    with opened([("c", 1, "A", "C"), ("c", 2, "T", "C")]) as (genome, _, blocks):
        strict = AlleleReader(genome, ContigMap(genome.contigs), stop_on_mismatch=True)
        with pytest.raises(ReferenceMismatch, match=r"in\.vcf, line 4: c:2 has REF=T, toy\.fa has other bases"):
            strict.read(blocks[0])


@pytest.mark.parametrize("pos", ["-1", "1e3", "", "1.0", "x"])
def test_a_pos_that_is_no_number_stops_the_run(pos: str) -> None:
    with pytest.raises(InputError, match="POS is"):
        read([("c", pos, "A", "C")])  # type: ignore[list-item]


# --- wrong assembly ------------------------------------------------------------------------------------------------


def judge(n_records: int, n_known: int, n_compared: int, n_mismatched: int, percent: float = 10.0) -> None:
    with opened([]) as (genome, _, _):
        evidence = AssemblyEvidence(n_records, n_known, n_compared, n_mismatched, "c:1 REF=A")
        judge_assembly(evidence, "in.vcf", genome, percent)


@pytest.mark.parametrize(
    ("n_compared", "n_mismatched"),
    [(50, 6), (50, 50), (5, 5), (49, 49), (1000, 101), (2000, 201)],
)
def test_too_many_mismatches_stop_the_run(n_compared: int, n_mismatched: int) -> None:
    with pytest.raises(ReferenceMismatch, match=f"{n_mismatched} of the first {n_compared:,} alleles"):
        judge(n_compared, n_compared, n_compared, n_mismatched)


@pytest.mark.parametrize(
    ("n_compared", "n_mismatched"),
    [(0, 0), (4, 4), (5, 4), (49, 48), (50, 5), (1000, 100), (2000, 200)],
)
def test_few_mismatches_or_few_alleles_do_not(n_compared: int, n_mismatched: int) -> None:
    judge(n_compared, n_compared, n_compared, n_mismatched)


def test_a_percentage_moves_the_threshold_and_100_turns_it_off() -> None:
    judge(100, 100, 100, 50, percent=50)
    with pytest.raises(ReferenceMismatch):
        judge(100, 100, 100, 51, percent=50)
    with pytest.raises(ReferenceMismatch):
        judge(100, 100, 100, 1, percent=0)
    judge(100, 100, 100, 100, percent=100)
    judge(10, 0, 0, 0, percent=100)


def test_five_records_on_unknown_contigs_stop_the_run_and_four_do_not() -> None:
    judge(4, 0, 0, 0)
    judge(5, 1, 0, 0)
    with pytest.raises(ReferenceMismatch, match=r"none of the contigs of its 5 records is in toy\.fa"):
        judge(5, 0, 0, 0)


def evidence_of(records: Sequence[RecordText], block_records: int = 4096) -> AssemblyEvidence:
    with opened(records, block_records=block_records) as (_, reader, blocks):
        return gather_evidence(comparable_blocks(blocks, reader))


def test_only_alleles_that_can_be_compared_are_counted() -> None:
    evidence = evidence_of(
        [
            ("z", 1, "A", "C"),
            ("c", 1, "A", "C,*,G"),
            ("c", 1, "A", "<DEL>"),
            ("c", 0, "A", "C"),
            ("c", 99, "A", "C"),
            ("c", 1, "N", "C"),
            ("c", 2, "T", "C"),
            ("c", 2, "C", "C"),
        ]
    )
    assert evidence == AssemblyEvidence(8, 7, 4, 1, "c:2 REF=T")


@pytest.mark.parametrize("block_records", [1, 7, 500, 4096])
def test_only_the_first_two_thousand_are_judged(block_records: int) -> None:
    assert ENOUGH == 2_000
    records = [("c", 1, "A", "C")] * 1_900 + [("c", 1, "C", "A")] * 1_000
    evidence = evidence_of(records, block_records)
    assert (evidence.n_compared, evidence.n_mismatched) == (2_000, 100)


def test_evidence_stops_in_the_middle_of_a_record() -> None:
    records = [("c", 2, "C", "A")] * 1_999 + [("c", 2, "T", "G,A,C")] * 3
    evidence = evidence_of(records)
    assert (evidence.n_compared, evidence.n_mismatched) == (2_000, 1)
