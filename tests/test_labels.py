"""Tables of labelled variants: what is read, what is refused, and how rows are divided."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from varfm.errors import InputError, OptionError
from varfm.io.vcf import VcfReader
from varfm.labels import Labels, read_labels, split_rows

HEAD = "contig\tpos\tref\talt\tlabel\n"


def table(tmp_path: Path, text: str) -> str:
    path = tmp_path / "labels.tsv"
    path.write_text(text)
    return str(path)


def test_columns_are_found_by_name_and_others_are_not_looked_at(tmp_path: Path) -> None:
    text = "#label\tnote\talt\tref\tcontig\tpos\r\n0.5\tx y\tGA\tg\tchr1\t12\r\n\n-1e-3\t\tN\tA\tHLA*01:01\t1"
    found = read_labels(table(tmp_path, text))
    assert found.variants == (("chr1", 12, "g", "GA"), ("HLA*01:01", 1, "A", "N"))
    assert found.values.tolist() == [0.5, -0.001]
    assert not found.is_binary and found.contigs == ("chr1", "HLA*01:01")


def test_a_compressed_table_is_read_and_becomes_a_vcf_of_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "labels.tsv.gz"
    path.write_bytes(gzip.compress((HEAD + "c\t7\tA\tAT\t1\nc\t9\tT\tG\t0\n").encode()))
    found = read_labels(str(path))
    assert found.is_binary
    found.write_vcf(tmp_path / "out.vcf")
    with VcfReader(str(tmp_path / "out.vcf")) as reader:
        (block,) = reader.blocks()
    assert block.column(0) == [b"c", b"c"] and block.positions.tolist() == [7, 9]
    assert (block.column(3), block.column(4)) == ([b"A", b"T"], [b"AT", b"G"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected one column contig, found an empty line"),
        ("contig\tpos\tref\talt\n", "line 1: expected one column label, found contig"),
        ("contig\tpos\tref\talt\tlabel\tpos\n", "one column pos"),
        (HEAD, "no row"),
        (HEAD + "c\t7\tA\n", "line 2: 3 columns, expected at least 5"),
        (HEAD + "c\t7\tA\tT\t1\nc\t7.5\tA\tT\t1\n", "line 3: pos is '7.5'"),
        (HEAD + "c\t-7\tA\tT\t1\n", "pos is '-7'"),
        (HEAD + "c c\t7\tA\tT\t1\n", "'c c' is no name of a contig"),
        (HEAD + "c\t7\tA\tT,G\t1\n", "alt is 'T,G', expected bases; one alt per row"),
        (HEAD + "c\t7\tA\t<DEL>\t1\n", "alt is '<DEL>'"),
        (HEAD + "c\t7\t\tT\t1\n", "ref is ''"),
        (HEAD + "c\t7\tA\tT\tyes\n", "line 2: label is 'yes', expected a number"),
        (HEAD + "c\t7\tA\tT\tnan\n", "label is 'nan'"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read_labels(table(tmp_path, text))


def labels(n: int = 60) -> Labels:
    variants = tuple((f"c{number % 3}", 1 + number // 6, "A", "CGT"[number % 3]) for number in range(n))
    return Labels("t", variants, np.arange(n) % 2.0)


def every(known: Labels) -> np.ndarray:
    return np.ones(len(known.values), np.bool_)


def test_contigs_are_held_out_and_validate_as_asked() -> None:
    known = labels()
    split = split_rows(known, every(known), ["c1"], ["c2"], seed=1)
    contigs = np.array([variant[0] for variant in known.variants])
    assert np.array_equal(split.held_out, contigs == "c1")
    assert np.array_equal(split.validation, contigs == "c2")
    assert np.array_equal(split.training, contigs == "c0")


def test_without_contigs_a_tenth_of_the_positions_validates_with_all_their_rows() -> None:
    known = labels(300)
    split = split_rows(known, every(known), ["c1"], [], seed=1)
    places = [variant[:2] for variant in known.variants]
    chosen = {places[row] for row in np.flatnonzero(split.validation)}
    assert len(chosen) == 10  # of 50 positions on two contigs
    assert not any(places[row] in chosen for row in np.flatnonzero(split.training))
    assert np.array_equal(split.training | split.validation, ~split.held_out)
    again, other = (split_rows(known, every(known), ["c1"], [], seed=seed) for seed in (1, 2))
    assert np.array_equal(again.validation, split.validation)
    assert not np.array_equal(other.validation, split.validation)


def test_rows_that_cannot_be_read_are_in_no_part() -> None:
    known = labels()
    usable = np.arange(60) > 20
    split = split_rows(known, usable, ["c1"], [], seed=1)
    assert not (split.training | split.validation | split.held_out)[:21].any()


def test_a_division_that_cannot_be_learned_from_is_refused() -> None:
    known = labels()
    with pytest.raises(OptionError, match="--held-out chr9: no row of t is on it"):
        split_rows(known, every(known), ["chr9"], [], 1)
    with pytest.raises(OptionError, match="--validation c1: is held out as well"):
        split_rows(known, every(known), ["c1"], ["c1"], 1)
    with pytest.raises(InputError, match="the part for training has no row that can be read"):
        split_rows(known, every(known), ["c0", "c1"], ["c2"], 1)
    alike = Labels("t", known.variants, np.where(np.arange(60) % 3 == 2, 1.0, known.values))
    with pytest.raises(InputError, match="the part for validation has no label but 1"):
        split_rows(alike, every(alike), [], ["c2"], 1)
