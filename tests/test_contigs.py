"""Contig names: exact, from the user's table, or a known alias; never by cutting letters."""

from __future__ import annotations

from pathlib import Path

import pytest

from varfm.contigs import ContigMap, read_contig_map
from varfm.errors import InputError

UCSC = {"chr1": 1000, "chr2": 900, "chrX": 800, "chrY": 700, "chrM": 16569, "chr1_KI270706v1_random": 50}
ENSEMBL = {"1": 1000, "2": 900, "X": 800, "Y": 700, "MT": 16569}


def test_an_exact_name_comes_first() -> None:
    contigs = ContigMap({"chr1": 1000, "1": 1000})
    assert contigs.resolve("1") == "1"
    assert contigs.resolve("chr1") == "chr1"
    assert contigs.aliases == []
    assert contigs.describe() is None


@pytest.mark.parametrize(
    ("name", "contig"), [("1", "chr1"), ("X", "chrX"), ("Y", "chrY"), ("MT", "chrM"), ("M", "chrM")]
)
def test_names_without_chr_find_contigs_with_chr(name: str, contig: str) -> None:
    assert ContigMap(UCSC).resolve(name) == contig


@pytest.mark.parametrize(
    ("name", "contig"), [("chr1", "1"), ("chrX", "X"), ("chrM", "MT"), ("M", "MT"), ("chrMT", "MT")]
)
def test_names_with_chr_find_contigs_without_chr(name: str, contig: str) -> None:
    assert ContigMap(ENSEMBL).resolve(name) == contig


@pytest.mark.parametrize(
    "name",
    [
        "Chr1", "CHR1", "chr01", "01", "chr23", "23", "chrW", "hr1", "c1", "r", "", "chr", "1 ", " 1", "chr1_random",
        "KI270706v1", "1_KI270706v1_random", "../chr1", "/chr1", "1:5-9", "chr1:5", "chrEBV", "\udcff1", "*", "1\n",
    ],
)  # fmt: skip
def test_nothing_is_cut_from_a_name_or_put_before_it(name: str) -> None:
    assert ContigMap(UCSC).resolve(name) is None
    assert ContigMap(ENSEMBL).resolve(name) is None


def test_the_mitochondrion_is_an_alias_only_with_16569_bases() -> None:
    assert ContigMap({"chrM": 16571}).resolve("MT") is None  # hg19's own
    assert ContigMap({"MT": 16299}).resolve("chrM") is None
    assert ContigMap({"chrM": 16571}).resolve("chrM") == "chrM"
    assert ContigMap({"chrM": 16569}, {"MT": 16571}).resolve("MT") is None


def test_an_alias_is_taken_only_if_the_stated_length_agrees() -> None:
    contigs = ContigMap(UCSC, {"1": 1000, "2": 901, "X": None})
    assert contigs.resolve("1") == "chr1"
    assert contigs.resolve("2") is None
    assert contigs.resolve("X") == "chrX"
    assert contigs.length_conflicts == [("2", 901, "chr2", 900)]


def test_an_exact_name_of_another_length_is_kept_and_reported() -> None:
    contigs = ContigMap(UCSC, {"chr1": 1001, "chr2": 900, "chr7": 5})
    assert contigs.resolve("chr1") == "chr1"
    assert contigs.length_conflicts == [("chr1", 1001, "chr1", 1000)]


def test_the_users_table_comes_before_the_aliases() -> None:
    contigs = ContigMap(UCSC, {"NC_2": 899}, {"1": "chr2", "NC_1": "chr1", "NC_2": "chr2", "NC_3": "chr3"})
    assert contigs.resolve("1") == "chr2"
    assert contigs.resolve("NC_1") == "chr1"
    assert contigs.resolve("NC_2") is None  # another stated length
    assert contigs.resolve("NC_3") is None  # not in the FASTA
    assert contigs.resolve("2") == "chr2"


def test_a_table_that_renames_a_contig_of_the_fasta_is_an_error() -> None:
    with pytest.raises(InputError, match="'chr1' is a contig of the FASTA itself"):
        ContigMap(UCSC, table={"chr1": "chr2"})
    assert ContigMap(UCSC, table={"chr1": "chr1"}).resolve("chr1") == "chr1"


def test_a_table_the_wrong_way_round_is_an_error() -> None:
    with pytest.raises(InputError, match="None of the 2 names in the second column"):
        ContigMap(UCSC, table={"x": "NC_1", "y": "NC_2"})


def test_aliases_are_told_in_one_line() -> None:
    contigs = ContigMap(UCSC)
    contigs.resolve("1")
    contigs.resolve("chr2")
    contigs.resolve("nothing")
    assert contigs.describe() == "contig names: 1 = chr1"
    for name in ("2", "X", "Y"):
        contigs.resolve(name)
    assert contigs.aliases == [("1", "chr1"), ("2", "chr2"), ("X", "chrX"), ("Y", "chrY")]
    assert contigs.describe() == "contig names: 1 = chr1, 2 = chr2, X = chrX, ... (4 aliases)"


def test_names_of_strange_bytes_can_be_told() -> None:
    contigs = ContigMap(UCSC, table={"\udcff\x1b[1m": "chr1"})
    contigs.resolve("\udcff\x1b[1m")
    line = contigs.describe()
    assert line == r"contig names: \udcff\x1b[1m = chr1"
    line.encode()


def test_a_contig_map_is_read_with_comments_and_line_ends_of_windows(tmp_path: Path) -> None:
    path = tmp_path / "map.txt"
    path.write_bytes(b"# VCF\tFASTA\r\nNC_000001.11\tchr1\r\n\r\nNC_2 chr2\r\nNC_2 chr2")
    assert read_contig_map(path) == {"NC_000001.11": "chr1", "NC_2": "chr2"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\na b c\n", r"map\.txt, line 2: 'a b c' has not two columns"),
        (b"a\n", r"map\.txt, line 1: 'a' has not two columns"),
        (b"a\t\n", r"map\.txt, line 1: 'a\\\\t' has not two columns"),
        (b"a\tb\na\tc\n", r"map\.txt, line 2: 'a' means 'c' here and 'b' before"),
    ],
)
def test_a_bad_contig_map_names_file_line_and_value(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "map.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_contig_map(path)


def test_a_missing_contig_map_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no\.txt"):
        read_contig_map(tmp_path / "no.txt")
