"""Regions from the command line and from BED files, and which records touch them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varfm.contigs import ContigMap
from varfm.errors import InputError, OptionError
from varfm.regions import Regions, read_regions

CONTIGS = {"chr1": 1000, "chr2": 500, "HLA*01:01": 90, "odd:5-9": 70, "chr1:7": 30}


def touched(regions: Regions, contig: str, *records: tuple[int, int]) -> list[bool]:
    """Ask for records given as 1-based POS and length of REF."""
    starts = np.array([pos - 1 for pos, _ in records])
    return regions.mask(contig, starts, starts + np.array([length for _, length in records])).tolist()


def read(text: str, aliases: dict[str, str] | None = None) -> Regions:
    return read_regions(text, ContigMap(CONTIGS, table=aliases), CONTIGS)


def test_a_span_includes_both_its_ends() -> None:
    regions = read("chr1:100-200")
    assert touched(regions, "chr1", (99, 1), (100, 1), (200, 1), (201, 1)) == [False, True, True, False]
    assert touched(regions, "chr2", (150, 1)) == [False]


def test_a_long_ref_touches_a_span_it_reaches_into() -> None:
    assert touched(read("chr1:100-200"), "chr1", (90, 10), (90, 11), (50, 400), (200, 50)) == [False, True, True, True]


def test_a_contig_a_position_and_an_open_span_are_understood() -> None:
    assert touched(read("chr1"), "chr1", (1, 1), (1000, 1)) == [True, True]
    assert touched(read("chr1:30"), "chr1", (29, 1), (30, 1), (31, 1)) == [False, True, False]
    assert touched(read("chr1:990-"), "chr1", (989, 1), (990, 1), (1000, 1)) == [False, True, True]
    assert touched(read("chr1:990-5000"), "chr1", (1000, 1)) == [True]


def test_several_spans_are_separated_by_commas_and_merged() -> None:
    regions = read("chr2:5-9,chr1:30-40, chr1:10-20,chr1:15-35,chr1:37")
    assert touched(regions, "chr1", (9, 1), (10, 1), (25, 1), (40, 1), (41, 1)) == [False, True, True, True, False]
    assert touched(regions, "chr2", (5, 1), (10, 1)) == [True, False]
    assert regions.contigs == ("chr2", "chr1")


def test_names_of_the_vcf_and_of_the_fasta_both_work() -> None:
    assert read("1:5").contigs == ("chr1",)
    assert read("NC_1:5", {"NC_1": "chr1"}).contigs == ("chr1",)
    assert read("chr1:5", {"NC_1": "chr1"}).contigs == ("chr1",)


def test_contig_names_may_hold_colons() -> None:
    assert read("HLA*01:01").contigs == ("HLA*01:01",)
    assert touched(read("HLA*01:01:5-9"), "HLA*01:01", (4, 1), (5, 1)) == [False, True]
    assert read("odd:5-9,chr2").contigs == ("odd:5-9", "chr2")
    assert read("chr1:7").contigs == ("chr1:7",)  # the whole text names a contig
    assert read("chr1:7-7").contigs == ("chr1",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr9", "no contig 'chr9'"),
        ("chr9:5-9", "no contig 'chr9'"),
        ("", "no contig ''"),
        ("chr1,", "no contig ''"),
        ("chr1:", "'' is no position"),
        ("chr1:0", "'0' is no position"),
        ("chr1:-5", "'-5' is no position"),
        ("chr1:a-b", "'a-b' is no position"),
        ("chr1:5-9-11", "'5-9-11' is no position"),
        ("chr1: 5", "' 5' is no position"),
        ("chr1:1_0", "'1_0' is no position"),
        ("chr1:20-10", "the end is before the start"),
        ("chr1:1001", "chr1 has 1,000 bases only"),
        ("chr1:1001-", "chr1 has 1,000 bases only"),
        ("chr1:1,000", "no contig '000'"),
        ("../x.vcf", "no contig"),
    ],
)
def test_a_bad_region_is_a_usage_error_that_names_it(text: str, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        read(text)


BED = b"#a comment\ntrack name=x\nbrowser position\n\nchr1\t99\t200\tname\r\n1\t0\t5\nchr2\t7\t7\nchr2 490 9999\n"


@pytest.mark.parametrize("suffix", [".bed", ".bed.gz", ".BED"])
def test_a_bed_file_is_half_open_and_counts_from_zero(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(gzip.compress(BED) if suffix.endswith("gz") else BED)
    regions = read(str(path))
    assert touched(regions, "chr1", (5, 1), (6, 1), (99, 1), (100, 1), (200, 1), (201, 1)) == [
        True, False, False, True, True, False,
    ]  # fmt: skip
    assert touched(regions, "chr2", (7, 1), (8, 1), (490, 1), (491, 1), (500, 1)) == [False, False, False, True, True]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"chr1\t5", "line 2: 'chr1 5' is no span"),
        (b"chr1\t5\tx", "line 2: 'chr1 5 x' is no span"),
        (b"chr1\t-5\t7", "line 2: 'chr1 -5 7' is no span"),
        (b"chr1\t9\t7", "line 2: 'chr1 9 7' is no span"),
        (b"chr9\t5\t7", "line 2: the FASTA has no contig 'chr9'"),
        (b"\xff\t5\t7", "line 2: the FASTA has no contig"),
    ],
)
def test_a_bad_bed_file_is_an_input_error_that_names_the_line(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "a.bed"
    path.write_bytes(b"chr1\t1\t2\n" + line + b"\n")
    with pytest.raises(InputError, match=message):
        read(str(path))


def test_a_missing_bed_file_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.bed"):
        read(str(tmp_path / "no.bed"))


SPANS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)), max_size=12)


@given(spans=SPANS, records=SPANS)
def test_the_mask_equals_a_search_base_by_base(spans: list[tuple[int, int]], records: list[tuple[int, int]]) -> None:
    regions = Regions(("c", start, start + length) for start, length in spans)
    covered = {base for start, length in spans for base in range(start, start + length)}
    starts = np.array([start for start, _ in records], np.int64)
    ends = starts + np.array([length + 1 for _, length in records], np.int64)
    expected = [any(base in covered for base in range(s, e)) for s, e in zip(starts, ends, strict=True)]
    assert regions.mask("c", starts, ends).tolist() == expected
