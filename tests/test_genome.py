"""The reference genome: bases, windows, haplotypes, and the index of every kind of FASTA."""

from __future__ import annotations

import gzip
import logging
import os
import re
import stat
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyfaidx
import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varfm.errors import DiskError, InputError
from varfm.genome import Genome, decode, encode, reverse_complement, with_allele_turned
from varfm.variants import Variant
from varfm.windows import Haplotype, Window, reversed_strand

SHARED = Path(__file__).parents[2] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data are not at {SHARED}")

TOY = "ACGTTGCAAC"


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Genome]:
    path = tmp_path / "toy.fa"
    path.write_text(f">c1 a toy\n{TOY[:4]}\n{TOY[4:8]}\n{TOY[8:]}\n>c2\nnnRa\nuYcg\nKN\n")
    with Genome(path, tmp_path / "cache") as genome:
        yield genome


def opened(path: Path, content: bytes) -> Genome:
    path.write_bytes(content)
    return Genome(path, path.parent / "cache")


def letters(genome: Genome, contig: str) -> str:
    return decode(genome.codes(contig).tobytes())


# --- bases ---------------------------------------------------------------------------------------------------------


def test_contigs_come_in_file_order_with_their_lengths(tmp_path: Path) -> None:
    with opened(tmp_path / "a.fa", b">z\nAC\n>a\nACG\n>m words\nA\n") as genome:
        assert list(genome.contigs.items()) == [("z", 2), ("a", 3), ("m", 1)]


def test_codes_ignore_case_and_turn_every_other_letter_to_four(toy: Genome) -> None:
    assert toy.codes("c1").tolist() == [0, 1, 2, 3, 3, 2, 1, 0, 0, 1]
    assert toy.codes("c2").tolist() == [4, 4, 4, 0, 3, 4, 1, 2, 4, 4]


def test_codes_cannot_be_written(toy: Genome) -> None:
    with pytest.raises(ValueError, match="read-only"):
        toy.codes("c1")[0] = 2
    with pytest.raises(ValueError, match="read-only"):
        toy.codes("c2")[0] = 2


def test_ambiguity_codes_keep_their_letter_and_place(toy: Genome) -> None:
    assert dict(toy.ambiguity("c2")) == {2: "R", 5: "Y", 8: "K"}
    assert dict(toy.ambiguity("c1")) == {}


def test_letters_and_codes_turn_into_each_other() -> None:
    assert encode("ACGTUNacgtR-") == bytes([0, 1, 2, 3, 3, 4, 0, 1, 2, 3, 4, 4])
    assert decode(bytes([0, 1, 2, 3, 4])) == "ACGTN"
    assert decode(reverse_complement(encode("AACGN"))) == "NCGTT"


def test_an_allele_is_put_into_the_other_strand_of_a_window() -> None:
    window = Window("c", 10, 18)
    turned = encode("TTGCAAGN")  # of NCTTGCAA
    for variant, expected in (
        (Variant("c", 12, "T", "G"), "TTGCACGN"),  # NCGTGCAA
        (Variant("c", 10, "N", "A"), "TTGCAAGT"),
        (Variant("c", 17, "A", "C"), "GTGCAAGN"),
        (Variant("c", 13, "TG", ""), "TTGAGN"),  # NCTCAA
        (Variant("c", 12, "", "AC"), "TTGCAAGTGN"),  # NCACTTGCAA
        (Variant("c", 12, "TT", "ACC"), "TTGCGGTGN"),  # NCACCGCAA
    ):
        assert decode(with_allele_turned(turned, window, variant)) == expected, variant


@given(st.integers(-6, 12), st.integers(1, 12), st.data())
def test_a_turned_allele_is_the_changed_window_turned(start: int, length: int, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder, opened(Path(folder) / "a.fa", f">c\n{TOY}\n".encode()) as genome:
        window = Window("c", start, start + length)
        first = data.draw(st.integers(start, start + length))
        n_ref = data.draw(st.integers(0, start + length - first))
        variant = Variant("c", first, "N" * n_ref, data.draw(st.text("ACGT", max_size=4)))
        turned = reverse_complement(genome.forward(window, None))
        expected = reverse_complement(genome.forward(window, variant))
        assert with_allele_turned(turned, window, variant) == expected


@pytest.mark.parametrize("letter", ["L", "*", "-", "1", "X"])
def test_a_letter_that_is_no_nucleotide_is_named_with_its_place(tmp_path: Path, letter: str) -> None:
    with opened(tmp_path / "protein.fa", f">ok\nAC\n>p1\nAC\nG{letter}\n".encode()) as genome:
        assert letters(genome, "ok") == "AC"
        with pytest.raises(InputError, match=f"protein.fa: contig p1 has '{re.escape(letter)}' at position 4"):
            genome.codes("p1")


def test_an_unknown_contig_is_an_error_that_names_it(toy: Genome) -> None:
    with pytest.raises(InputError, match="no contig 'chr9'"):
        toy.codes("chr9")


def test_contigs_beyond_the_bound_are_dropped_but_one_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.fa"
    path.write_text(">a\nACGT\n>b\nACGT\n>c\nACGTA\n")
    with Genome(path, tmp_path, max_bytes=9) as genome:
        a, b = genome.codes("a"), genome.codes("b")
        assert genome.codes("a") is a
        genome.codes("c")  # 5 + 4 + 4 bytes are too many: b, which was not used for the longest time, goes
        assert genome.codes("a") is a
        assert genome.codes("b") is not b
        assert genome.codes("b").tolist() == [0, 1, 2, 3]
    with Genome(path, tmp_path, max_bytes=0) as genome:
        assert genome.codes("c") is genome.codes("c")


# --- REF -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contig", "start", "ref", "expected"),
    [
        ("c1", 0, "ACGTTGCAAC", True),
        ("c1", 3, "TT", True),
        ("c1", 3, "TA", False),
        ("c2", 3, "AT", True),  # lower case, and U for T
        ("c2", 2, "A", True),  # R is A or G
        ("c2", 2, "GATCCGT", True),  # R, Y and K
        ("c2", 2, "T", False),
        ("c2", 2, "GATACGT", False),  # Y is no A
        ("c2", 0, "A", False),  # N
        ("c2", 1, "CA", False),
        ("c2", 8, "TA", False),
    ],
)
def test_a_written_ref_agrees_with_the_bases_it_may_stand_for(
    toy: Genome, contig: str, start: int, ref: str, expected: bool
) -> None:
    assert toy.matches(contig, start, ref) is expected


# --- haplotypes ----------------------------------------------------------------------------------------------------

#        0123456789
# c1     ACGTTGCAAC
HAPLOTYPES = [
    ("reference", 2, 7, None, "GTTGC", "GCAAC"),
    ("SNV", 2, 7, (4, "T", "A"), "GTAGC", "GCTAC"),
    ("MNV", 2, 7, (3, "TT", "CA"), "GCAGC", "GCTGC"),
    ("insertion", 2, 6, (4, "", "AA"), "GTAATG", "CATTAC"),
    ("deletion", 2, 9, (4, "TG", ""), "GTCAA", "TTGAC"),
    ("delins", 2, 7, (4, "TG", "CCC"), "GTCCCC", "GGGGAC"),
    ("insertion at the window's start", 4, 6, (4, "", "CC"), "CCTG", "CAGG"),
    ("insertion at the window's end", 4, 6, (6, "", "CC"), "TGCC", "GGCA"),
    ("left of the contig", -3, 2, (0, "A", "G"), "NNNGC", "GCNNN"),
    ("right of the contig", 8, 12, (9, "C", "CTT"), "ACTTNN", "NNAAGT"),
    ("whole contig and more", -1, 11, (3, "T", ""), "NACGTGCAACN", "NGTTGCACGTN"),
    ("outside", 20, 23, None, "NNN", "NNN"),
    ("before", -9, -6, None, "NNN", "NNN"),
]


@pytest.mark.parametrize(("start", "end", "allele", "forward", "reverse"), [c[1:] for c in HAPLOTYPES])
def test_haplotypes_have_the_bases_worked_out_by_hand(
    toy: Genome, start: int, end: int, allele: tuple[int, str, str] | None, forward: str, reverse: str
) -> None:
    haplotype = Haplotype(Window("c1", start, end), None if allele is None else Variant("c1", *allele))
    assert decode(toy.sequence(haplotype)) == forward
    assert decode(toy.sequence(reversed_strand(haplotype))) == reverse
    assert haplotype.length == len(forward)


def test_an_allele_that_sticks_out_of_its_window_is_refused(toy: Genome) -> None:
    with pytest.raises(ValueError, match="does not lie inside"):
        toy.sequence(Haplotype(Window("c1", 2, 5), Variant("c1", 4, "TG", "A")))


@pytest.fixture(scope="module")
def long_toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Genome, str]]:
    folder = tmp_path_factory.mktemp("long")
    bases = "".join(np.random.default_rng(5).choice(list("ACGTN"), 300).tolist())
    (folder / "l.fa").write_text(">x\n" + "\n".join(bases[i : i + 7] for i in range(0, 300, 7)) + "\n")
    with Genome(folder / "l.fa", folder) as genome:
        yield genome, bases


@given(
    start=st.integers(-40, 320),
    n_before=st.integers(0, 50),
    n_after=st.integers(0, 50),
    n_ref=st.integers(0, 20),
    alt=st.text("ACGT", max_size=12),
    strand=st.sampled_from("+-"),
)
def test_a_haplotype_is_the_slice_of_the_changed_genome(
    long_toy: tuple[Genome, str], start: int, n_before: int, n_after: int, n_ref: int, alt: str, strand: str
) -> None:
    genome, bases = long_toy
    padded = "N" * 500 + bases + "N" * 500
    variant = Variant("x", start, padded[start + 500 : start + n_ref + 500], alt)
    window = Window("x", start - n_before, variant.end + n_after)
    changed = padded[: start + 500] + alt + padded[variant.end + 500 :]
    expected = changed[window.start + 500 : window.start + 500 + n_before + len(alt) + n_after]
    if strand == "-":
        expected = expected[::-1].translate(str.maketrans("ACGT", "TGCA"))
    haplotype = Haplotype(window, variant, "-" if strand == "-" else "+")
    assert decode(genome.sequence(haplotype)) == expected
    assert len(expected) == haplotype.length


# --- windows -------------------------------------------------------------------------------------------------------


def test_windows_have_n_over_both_ends_and_outside(toy: Genome) -> None:
    windows = toy.windows("c1", np.array([-4, -3, -2, 0, 3, 6, 7, 9, 10, 99]), 4)
    expected = ["NNNN", "NNNA", "NNAC", "ACGT", "TTGC", "CAAC", "AACN", "CNNN", "NNNN", "NNNN"]
    assert [decode(row.tobytes()) for row in windows] == expected
    assert windows.dtype == np.uint8


def test_windows_longer_than_the_contig_are_padded_on_both_sides(toy: Genome) -> None:
    windows = toy.windows("c1", np.array([-1, 0]), 12)
    assert [decode(row.tobytes()) for row in windows] == [f"N{TOY}N", f"{TOY}NN"]


def test_windows_of_no_starts_are_an_empty_array(toy: Genome) -> None:
    assert toy.windows("c1", np.array([], np.int64), 4).shape == (0, 4)


@given(starts=st.lists(st.integers(-60, 360), max_size=20), length=st.integers(1, 400))
def test_windows_equal_the_reference_haplotypes(long_toy: tuple[Genome, str], starts: list[int], length: int) -> None:
    genome, _ = long_toy
    windows = genome.windows("x", np.array(starts, np.int64), length)
    for start, row in zip(starts, windows, strict=True):
        assert row.tobytes() == genome.sequence(Haplotype(Window("x", start, start + length), None))


# --- forms of FASTA ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b">a\nACGT\nAC\n>b\nGG\n",
        b">a\r\nACGT\r\nAC\r\n>b\r\nGG\r\n",  # Windows
        b">a\nACGT\nAC\n>b\nGG",  # no final newline
        b">a\r\nACGT\r\nAC\r\n>b\r\nGG",
        b">a\nACGTAC\n>b\nGG\n",
        b">a\nACGT\nAC\n\n\n>b\nGG\n\n\n",  # blank lines after a record
        b"\n>a\tx >c\nACGT\nAC\n>b\nGG\n",
        b">empty\n>a\nACGT\nAC\n>b\nGG\n",  # a header without bases is no contig
        b">a\nACGT \nAC \n>b\nGG \n",  # blanks at the ends of lines
    ],
)
@pytest.mark.parametrize("form", ["plain", "bgzf"])
def test_every_regular_form_gives_the_same_bases(tmp_path: Path, content: bytes, form: str) -> None:
    path = tmp_path / "a.fa"
    path.write_bytes(content)
    if form == "bgzf":
        pysam.tabix_compress(str(path), str(tmp_path / "a.fa.gz"))
        path = tmp_path / "a.fa.gz"
    for _ in range(2):  # the second time from the cache
        with Genome(path, tmp_path / "cache") as genome:
            assert dict(genome.contigs) == {"a": 6, "b": 2}
            assert letters(genome, "a") == "ACGTAC"
            assert letters(genome, "b") == "GG"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"ACGT\n", "not a FASTA file"),
        (b"@r\nACGT\n+\nIIII\n", "not a FASTA file"),
        (b"\xef\xbb\xbf>a\nACGT\n", "not a FASTA file"),
        (b">a\nACGT\nAC\nACGT\n", "line 4: the lines of 'a' differ"),
        (b">b\nACGT\n>a\nAC\nACGT\n", "line 5: the lines of 'a' differ"),
        (b">a\nACGT\n\nACGT\n", "line 4: the lines of 'a' differ in length, or one is blank"),
        (b">a\r\nACGT\r\nACGT\nAC\n", "line 3: the line ends of 'a' differ"),
        (b">a\nACGT\n>b\nAC\n>a\nAC\n", "line 5: the name 'a' stands there a second time"),
        (b">a\nACGT\n>\nAC\n", "line 3: the header has no name"),
        (b">a\xff\nACGT\n", "line 1: the name .* is not UTF-8"),
        (b">a\n>b\n", "no line of bases"),
        (b">a\nACGT\n>b\n", "ends after the header of 'b'; it may be cut"),
        (b">a\nACGT\nAC\n\n \n>b\nGG\n", "line 5: there are blanks or other bytes"),
        (b">a\nAC\xff\xfeG\n", "line 2: there are blanks or other bytes"),
        (b">a\nAC G\nAC\n", "line 2: there are blanks or other bytes"),
        (b">a\rACGT\rAC\r", "no line of bases"),
    ],
)
@pytest.mark.parametrize("form", ["plain", "bgzf"])
def test_a_fasta_that_cannot_serve_is_an_error_that_says_why(
    tmp_path: Path, content: bytes, message: str, form: str
) -> None:
    path = tmp_path / "bad.fa"
    path.write_bytes(content)
    if form == "bgzf":
        pysam.tabix_compress(str(path), str(tmp_path / "bad.fa.gz"))
        path = tmp_path / "bad.fa.gz"
    with pytest.raises(InputError, match=message) as caught:
        Genome(path, tmp_path / "cache")
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Genome(tmp_path / "no.fa", tmp_path)
    with pytest.raises(InputError, match="not a regular file"):
        Genome(tmp_path, tmp_path)


def test_plain_gzip_is_an_error_that_names_bgzip(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="with bgzip"):
        opened(tmp_path / "a.fa.gz", gzip.compress(b">a\nACGT\n"))


def bgzf_bytes(tmp_path: Path) -> bytes:
    """About 260 kB of bases in four blocks of BGZF, and the end mark."""
    bases = np.random.default_rng(1).choice(np.frombuffer(b"ACGT", np.uint8), (2, 2000, 60))
    text = b"".join(b">k%d\n" % k + b"".join(row.tobytes() + b"\n" for row in bases[k]) for k in range(2))
    (tmp_path / "source.fa").write_bytes(text)
    pysam.tabix_compress(str(tmp_path / "source.fa"), str(tmp_path / "source.fa.gz"))
    return (tmp_path / "source.fa.gz").read_bytes()


def test_a_cut_or_damaged_bgzf_file_is_an_error(tmp_path: Path) -> None:
    data = bgzf_bytes(tmp_path)
    first_block = struct.unpack("<H", data[16:18])[0] + 1
    for name, content, message in (
        ("mid.fa.gz", data[:40_000], "cut short: the end mark"),
        ("edge.fa.gz", data[:first_block], "cut short: the end mark"),
        ("bits.fa.gz", data[:30_000] + b"\0" * 40 + data[30_040:], "compressed data are damaged"),
        ("head.fa.gz", data[:100] + b"\0" * 40 + data[140:], "compressed data are damaged"),
    ):
        with pytest.raises(InputError, match=message):
            opened(tmp_path / name, content)


def test_a_cache_that_cannot_be_written_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where a folder should be")
    (tmp_path / "a.fa").write_text(">a\nACGT\n")
    with pytest.raises(DiskError, match="VARFM_CACHE"):
        Genome(tmp_path / "a.fa", tmp_path / "cache")


# --- the index -----------------------------------------------------------------------------------------------------


def test_nothing_is_written_beside_the_fasta(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.fa").write_text(">a\nACGT\n")
    with Genome(tmp_path / "in" / "a.fa", tmp_path / "cache"):
        assert os.listdir(tmp_path / "in") == ["a.fa"]
    (folder,) = (tmp_path / "cache" / "fasta").iterdir()
    assert os.listdir(folder) == ["index.fai"]


def test_the_cache_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "mine"))
    (tmp_path / "a.fa").write_text(">a\nACGT\n")
    with Genome(tmp_path / "a.fa"):
        assert (tmp_path / "mine" / "fasta").is_dir()


def test_a_right_index_is_used_whatever_its_age(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.fa"
    path.write_text(">a\nACGT\nAC\n>b\nGG\n")
    (tmp_path / "a.fa.fai").write_text("a\t6\t3\t4\t5\nb\t2\t14\t2\t3\n")
    os.utime(tmp_path / "a.fa.fai", (1, 1))
    with Genome(path, tmp_path / "cache") as genome:
        assert letters(genome, "b") == "GG"
    assert not caplog.records
    assert not (tmp_path / "cache").exists()


WRONG_INDEXES = {
    "empty": "",
    "garbage": "\0\1\2 nonsense\n",
    "few columns": "a\t6\n",
    "another order": "b\t2\t14\t2\t3\na\t6\t3\t4\t5\n",
    "another name": "c\t6\t3\t4\t5\nb\t2\t14\t2\t3\n",
    "shorter contig": "a\t5\t3\t4\t5\nb\t2\t14\t2\t3\n",
    "longer contig": "a\t7\t3\t4\t5\nb\t2\t14\t2\t3\n",
    "longer last contig": "a\t6\t3\t4\t5\nb\t3\t14\t3\t4\n",
    "longer lines": "a\t6\t3\t6\t7\nb\t2\t14\t2\t3\n",
    "shorter lines": "a\t6\t3\t3\t4\nb\t2\t14\t2\t3\n",
    "offset by one": "a\t6\t4\t4\t5\nb\t2\t14\t2\t3\n",
    "a contig less": "a\t6\t3\t4\t5\n",
    "the second less": "b\t2\t14\t2\t3\n",
    "a contig more": "a\t6\t3\t4\t5\nb\t2\t14\t2\t3\nc\t2\t15\t2\t3\n",
    "twice the same": "a\t6\t3\t4\t5\na\t6\t3\t4\t5\n",
    "no line length": "a\t6\t3\t0\t0\nb\t2\t14\t2\t3\n",
    "negative": "a\t-6\t3\t4\t5\nb\t2\t14\t2\t3\n",
    "huge": "a\t99999999999999999999\t3\t4\t5\nb\t2\t14\t2\t3\n",
}


@pytest.mark.parametrize("fai", WRONG_INDEXES.values(), ids=WRONG_INDEXES)
def test_a_wrong_index_is_ignored_with_one_warning(tmp_path: Path, fai: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.fa"
    path.write_text(">a\nACGT\nAC\n>b\nGG\n")
    (tmp_path / "a.fa.fai").write_text(fai)
    with Genome(path, tmp_path / "cache") as genome:
        assert [(name, letters(genome, name)) for name in genome.contigs] == [("a", "ACGTAC"), ("b", "GG")]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "a.fa.fai does not describe a.fa" in caplog.text
    assert (tmp_path / "a.fa.fai").read_text() == fai


def test_a_fasta_cut_after_indexing_is_an_error(tmp_path: Path) -> None:
    content = b">a\nACGT\nAC\n>b\nGGGG\nGG\n"
    (tmp_path / "a.fa.fai").write_text("a\t6\t3\t4\t5\nb\t6\t14\t4\t5\n")
    with opened(tmp_path / "a.fa", content) as genome:
        assert letters(genome, "b") == "GGGGGG"
    for n_bytes in (20, 19, 16, 14, 12, 11):
        with pytest.raises(InputError, match=r"a\.fa is cut short"):
            opened(tmp_path / "a.fa", content[:n_bytes])


def test_a_change_of_the_file_makes_a_new_index_in_the_cache(tmp_path: Path) -> None:
    with opened(tmp_path / "a.fa", b">a\nACGT\nAC\n") as genome:
        assert letters(genome, "a") == "ACGTAC"
    with opened(tmp_path / "a.fa", b">abc\nACGT\nACG\n") as genome:
        assert letters(genome, "abc") == "ACGTACG"


def test_a_damaged_index_in_the_cache_is_made_again(tmp_path: Path) -> None:
    with opened(tmp_path / "a.fa", b">a\nACGT\nAC\n"):
        (fai,) = (tmp_path / "cache").rglob("*.fai")
    fai.write_text("a\t60\t3\t4\t5\nq\t1\t1\t1\t1\n")
    with Genome(tmp_path / "a.fa", tmp_path / "cache") as genome:
        assert letters(genome, "a") == "ACGTAC"
    assert fai.read_text() == "a\t6\t3\t4\t5\n"


@pytest.mark.parametrize("gzi", ["right", "missing", "garbage", "other", "none", "beyond"])
def test_a_bgzf_fasta_works_with_any_block_index(tmp_path: Path, gzi: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "z.fa.gz"
    path.write_bytes(bgzf_bytes(tmp_path))
    plain = (tmp_path / "source.fa").read_bytes()
    pysam.faidx(str(path))
    right = Path(f"{path}.gzi").read_bytes()
    contents = {
        "right": right,
        "garbage": b"\1\2\3",
        "other": right[:24] + struct.pack("<Q", 7) + right[32:],
        "none": struct.pack("<Q", 0),
        "beyond": right[:-16] + struct.pack("<QQ", 1 << 40, 1 << 41),
    }
    Path(f"{path}.gzi").unlink()
    if gzi in contents:
        Path(f"{path}.gzi").write_bytes(contents[gzi])
    with Genome(path, tmp_path / "cache") as genome:
        assert genome.contigs == {"k0": 120_000, "k1": 120_000}
        expected = plain[plain.index(b">k1") + 4 :].replace(b"\n", b"").decode()
        assert letters(genome, "k1") == expected
    assert len(caplog.records) == (gzi not in ("right", "missing"))


def test_an_independent_reader_finds_the_same_bases(tmp_path: Path) -> None:
    bgzf_bytes(tmp_path)
    with Genome(tmp_path / "source.fa", tmp_path / "cache") as genome:
        reader = pyfaidx.Fasta(str(tmp_path / "source.fa"), indexname=str(tmp_path / "other.fai"))
        assert letters(genome, "k1") == str(reader["k1"][:])
        reader.close()


def in_child(act: Callable[[], bool]) -> int:
    """Run `act` in a forked process; 0 if it gave True."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        code = 0 if act() else 2
    finally:
        os._exit(code)


def test_a_plain_user_reads_a_fasta_without_index_in_a_read_only_folder() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name) / "ref", Path(name) / "cache"
        folder.mkdir()
        cache.mkdir()
        (folder / "a.fa").write_text(">a\nACGT\nAC\n")
        folder.chmod(0o555)
        Path(name).chmod(0o755)
        cache.chmod(stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO)

        def act() -> bool:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with Genome(folder / "a.fa", cache) as genome:
                return letters(genome, "a") == "ACGTAC" and os.listdir(folder) == ["a.fa"]

        assert os.waitpid(in_child(act), 0)[1] == 0
        assert len(list(cache.rglob("*.fai"))) == 1


def test_twenty_processes_may_index_the_same_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "z.fa.gz"
    path.write_bytes(bgzf_bytes(tmp_path))

    def act() -> bool:
        with Genome(path, tmp_path / "cache") as genome:
            return len(letters(genome, "k1")) == 120_000

    children = [in_child(act) for _ in range(20)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 20
    (folder,) = (tmp_path / "cache" / "fasta").iterdir()
    assert sorted(os.listdir(folder)) == ["index.fai", "index.gzi"]


# --- real sequence -------------------------------------------------------------------------------------------------


@needs_shared
def test_a_real_contig_on_one_line_without_final_newline_is_read(tmp_path: Path) -> None:
    path = SHARED / "hg38_chr22_32000000_32300000.fa"
    with Genome(path, tmp_path) as genome:
        assert genome.contigs == {"chr22": 300_000}
        assert letters(genome, "chr22") == path.read_text().split("\n")[1].upper()


@needs_shared
def test_a_real_contig_with_n_is_read(tmp_path: Path) -> None:
    path = SHARED / "grch37_chr17_1mb.fa"
    with Genome(path, tmp_path) as genome:
        text = "".join(path.read_text().split("\n")[1:])
        assert letters(genome, "17") == text.upper()
        assert int((genome.codes("17") == 4).sum()) == text.upper().count("N")
