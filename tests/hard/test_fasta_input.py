"""References of every bad kind: a right answer, or an error that names the file, the line and what to do."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest
from conftest import PlainUser, Varfm, message_of
from vcf_bytes import BASES, COLUMNS, GOOD, bgzf, fasta, info_values, names_in, record, vcf

TWO = {"chr1": BASES, "chr2": "GATTACA" * 30}
ROWS = vcf(record(1, "A", "C"), record(7, "A", "G", contig="chr2"), record(14, "A", "G", contig="chr2"))


def statuses(varfm: Varfm, reference: Path) -> list[str]:
    return varfm.statuses(ROWS, "-f", reference)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", ["is empty", "Copy or download"], id="empty"),
        pytest.param(b"\n\n\n", ["not a FASTA"], id="blank lines only"),
        pytest.param(b"<html><body>404</body></html>", ["not a FASTA", "'<html>"], id="HTML"),
        pytest.param(GOOD, ["not a FASTA", "##fileformat"], id="VCF"),
        pytest.param(BASES.encode(), ["not a FASTA"], id="bases without a name"),
        pytest.param(fasta(TWO).decode().encode("utf-16"), ["not a FASTA"], id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf" + fasta(TWO), ["not a FASTA"], id="BOM"),
        pytest.param(gzip.compress(fasta(TWO)), ["gzip", "bgzip >"], id="plain gzip"),
        pytest.param(b">chr1\nACGT\nAC\nACGT\n", ["line 4", "'chr1'", "length"], id="ragged"),
        pytest.param(b">chr1\nACGT\n\nACGT\n>chr2\nA\n", ["line 4", "blank"], id="blank line inside"),
        pytest.param(b">chr1\nACGT\n>chr2\nAC\n>chr1\nAA\n", ["line 5", "'chr1'", "second time"], id="repeated name"),
        pytest.param(b">chr1\nAC GT\nACGT\n", ["line 2", "blanks"], id="blanks among the bases"),
        pytest.param(b">\nACGT\n", ["line 1", "no name"], id="no name"),
        pytest.param(b">chr\xff\nACGT\n", ["line 1", "UTF-8"], id="name that is not UTF-8"),
        pytest.param(b">chr1\n", ["no line of bases"], id="header without bases"),
        pytest.param(b">chr1\nACGT\r\nACGT\nACGT\r\n", ["line 3", "line ends"], id="mixed line ends"),
        pytest.param(b">chr1\nAC\0GT\nACGTA\n", ["line 2"], id="NUL"),
        pytest.param(bgzf(fasta(TWO))[:-28], ["cut short"], id="bgzip, cut at the edge of a block"),
        pytest.param(bgzf(fasta(TWO))[:-300], ["cut short"], id="bgzip, cut inside a block"),
        pytest.param(bgzf(fasta(TWO))[:40] + b"\xff\xff" + bgzf(fasta(TWO))[42:], ["damaged"], id="bgzip, corrupt"),
        pytest.param(bgzf(b""), ["is empty"], id="bgzip of nothing"),
    ],
)
def test_what_is_no_usable_fasta_is_refused(varfm: Varfm, data: bytes, words: list[str]) -> None:
    reference = varfm.file("ref.fa", data)
    message = varfm.refused(3, varfm.file("in.vcf", ROWS), "-f", reference)
    assert "ref.fa" in message
    assert [word for word in words if word not in message] == [], message
    assert names_in(varfm.folder) == ["in.vcf", "ref.fa"]


def test_protein_is_refused_as_what_it_is(varfm: Varfm) -> None:
    reference = varfm.file("protein.fa", fasta({"chr1": "MKVLAAGIVPLLEQFWYDRHNST" * 20}))
    rows = vcf(*[record(1 + 23 * n, "A", "C") for n in range(6)])
    message = varfm.refused(3, varfm.file("in.vcf", rows), "-f", reference)
    assert "protein.fa" in message


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(fasta(TWO), id="as usual"),
        pytest.param(fasta(TWO, newline="\r\n"), id="CRLF"),
        pytest.param(fasta(TWO).rstrip(b"\n"), id="no line end at the end"),
        pytest.param(fasta(TWO) + b"\n\n", id="blank lines at the end"),
        pytest.param(fasta(TWO, width=10**6), id="one line per contig"),
        pytest.param(fasta(TWO, width=1), id="one base per line"),
        pytest.param(fasta(TWO).lower().replace(b">chr1", b">chr1 some words"), id="lower case, words in the header"),
        pytest.param(bgzf(fasta(TWO)), id="bgzip"),
        pytest.param(fasta({"other": "NNNN", **TWO}), id="another contig first"),
    ],
)
def test_every_sound_fasta_gives_the_same_statuses(varfm: Varfm, data: bytes) -> None:
    reference = varfm.file("ref.fa", data)
    assert statuses(varfm, reference) == ["OK", "OK", "OK"]
    assert names_in(varfm.folder) == ["in.vcf", "ref.fa"]


def test_missing_fasta_folder_and_pipe_are_refused(varfm: Varfm) -> None:
    rows = varfm.file("in.vcf", ROWS)
    assert "does not exist" in varfm.refused(3, rows, "-f", varfm.folder / "no.fa")
    assert "not a regular file" in varfm.refused(3, rows, "-f", varfm.folder)
    os.mkfifo(varfm.folder / "pipe.fa")
    assert "not a regular file" in varfm.refused(3, rows, "-f", varfm.folder / "pipe.fa")


# Indexes.


def with_index(varfm: Varfm, index: bytes, data: bytes | None = None) -> Path:
    reference = varfm.file("ref.fa", fasta(TWO) if data is None else data)
    varfm.file("ref.fa.fai", index)
    return reference


# chr1 has 1,000 bases in 17 lines from byte 6; chr2 has 210 bases and begins at 6 + 1,000 + 17 + 6 = 1029.
RIGHT = b"chr1\t1000\t6\t60\t61\nchr2\t210\t1029\t60\t61\n"


@pytest.mark.parametrize("age", [-10_000, 10_000])
def test_right_index_is_used_whatever_its_age(varfm: Varfm, age: int) -> None:
    reference = with_index(varfm, RIGHT)
    os.utime(f"{reference}.fai", (1.7e9 + age, 1.7e9 + age))
    os.utime(reference, (1.7e9, 1.7e9))
    assert statuses(varfm, reference) == ["OK", "OK", "OK"]
    assert not (varfm.folder.parent / "cache" / "fasta").exists()


@pytest.mark.parametrize(
    "index",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0\1\2rubbish", id="garbage"),
        pytest.param(b"<html></html>\n", id="HTML"),
        pytest.param(b"chr1\t1000\t6\t60\t61\n", id="a contig is missing"),
        pytest.param(
            b"chr1\t1000\t6\t60\t%d\nchr2\t210\t1029\t60\t61\n" % (1 << 50), id="lines that end in a petabyte"
        ),
        pytest.param(RIGHT.replace(b"chr2", b"chr3"), id="another name"),
        pytest.param(RIGHT.replace(b"\t210\t", b"\t209\t"), id="a base too short"),
        pytest.param(RIGHT.replace(b"\t60\t61", b"\t50\t51"), id="other line length"),
        pytest.param(RIGHT.replace(b"1029", b"1030"), id="shifted by one"),
        pytest.param(RIGHT.replace(b"1000\t6", b"-1000\t6"), id="negative"),
        pytest.param(RIGHT.replace(b"\t60\t61", b"\t0\t0"), id="lines of no length"),
        pytest.param(RIGHT.replace(b"1029", b"9" * 30), id="far away"),
        pytest.param(RIGHT + RIGHT, id="doubled"),
    ],
)
def test_stale_or_garbage_index_is_not_believed(varfm: Varfm, index: bytes) -> None:
    reference = with_index(varfm, index)
    os.utime(f"{reference}.fai", (4e9, 4e9))  # newer than the FASTA
    assert statuses(varfm, reference) == ["OK", "OK", "OK"]
    assert Path(f"{reference}.fai").read_bytes() == index


def test_fasta_that_was_cut_after_indexing_is_refused(varfm: Varfm) -> None:
    reference = with_index(varfm, RIGHT, fasta(TWO)[:700])
    message = varfm.refused(3, varfm.file("in.vcf", ROWS), "-f", reference)
    assert "ref.fa is cut short" in message and "download it again" in message


def test_fasta_that_changed_between_two_runs_is_read_anew(varfm: Varfm) -> None:
    reference = varfm.file("ref.fa", fasta(TWO))
    assert statuses(varfm, reference) == ["OK", "OK", "OK"]
    reference.write_bytes(fasta({"chr1": "C" * 1000, "chr2": TWO["chr2"]}, width=50))
    assert statuses(varfm, reference) == ["REF_MISMATCH", "OK", "OK"]


def test_index_that_is_a_dangling_link_is_passed_over(varfm: Varfm) -> None:
    reference = varfm.file("ref.fa", fasta(TWO))
    Path(f"{reference}.fai").symlink_to("nowhere")
    assert statuses(varfm, reference) == ["OK", "OK", "OK"]


@pytest.mark.parametrize("gzi", [b"", b"garbage", bytes(8), (10**9).to_bytes(8, "little")])
def test_bad_block_index_of_a_bgzipped_fasta_is_not_believed(varfm: Varfm, gzi: bytes) -> None:
    reference = with_index(varfm, RIGHT, bgzf(fasta(TWO)))
    varfm.file("ref.fa.gzi", gzi)
    assert statuses(varfm, reference) == ["OK", "OK", "OK"]


# A plain user, and a folder in which nothing can be written.


def test_fasta_without_index_in_a_read_only_folder_is_read_by_a_plain_user(
    varfm: Varfm, as_plain_user: PlainUser, open_folder: Path
) -> None:
    locked = open_folder / "locked"
    locked.mkdir()
    (locked / "ref.fa").write_bytes(fasta(TWO))
    (locked / "in.vcf").write_bytes(ROWS)
    locked.chmod(0o555)
    result = as_plain_user("score", locked / "in.vcf", "-m", "null", "-f", locked / "ref.fa")
    assert result.status == 0, result.err
    assert info_values(result.out) == [["OK"], ["OK"], ["OK"]]
    assert names_in(locked) == ["in.vcf", "ref.fa"]


def test_cache_that_cannot_be_written_is_a_disk_error_that_says_so(
    varfm: Varfm, as_plain_user: PlainUser, open_folder: Path
) -> None:
    shutil.rmtree(open_folder / "cache")
    (open_folder / "ref.fa").write_bytes(fasta(TWO))
    (open_folder / "in.vcf").write_bytes(ROWS)
    result = as_plain_user("score", open_folder / "in.vcf", "-m", "null", "-f", open_folder / "ref.fa")
    assert result.status == 6, result.err
    message = message_of(result)
    assert "ref.fa" in message and "VARFM_CACHE" in message and "samtools faidx" in message


def test_unreadable_fasta_is_refused(varfm: Varfm, as_plain_user: PlainUser, open_folder: Path) -> None:
    (open_folder / "in.vcf").write_bytes(ROWS)
    (open_folder / "ref.fa").write_bytes(fasta(TWO))
    (open_folder / "ref.fa").chmod(0o600)
    result = as_plain_user("score", open_folder / "in.vcf", "-m", "null", "-f", open_folder / "ref.fa")
    assert result.status == 3, result.err
    assert "cannot be read" in message_of(result) and "permissions" in message_of(result)


# Which reference is taken.


def head(reference: object) -> bytes:
    return f"##fileformat=VCFv4.2\n##reference={reference}\n".encode() + COLUMNS + b"\n"


def test_no_reference_at_all_says_what_to_do(varfm: Varfm) -> None:
    result = varfm.run("score", varfm.file("in.vcf", GOOD), "-m", "null", "-o", varfm.out / "o.vcf")
    assert result.status == 3
    message = message_of(result)
    assert "in.vcf: no reference given" in message and "--fasta" in message and "VARFM_FASTA" in message


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_reference_of_the_header_is_used_where_it_is_a_file(varfm: Varfm, prefix: str) -> None:
    rows = vcf(record(1, "A", "C"), head=head(f"{prefix}{varfm.fasta}"))
    result = varfm.run("score", varfm.file("in.vcf", rows), "-m", "null")
    assert (result.status, info_values(result.out)) == (0, [["OK"]])


@pytest.mark.parametrize("reference", ["/no/such.fa", "https://example.org/ref.fa", "GRCh38", "file:///no/such.fa"])
def test_reference_of_the_header_that_is_not_here_is_named(varfm: Varfm, reference: str) -> None:
    rows = vcf(record(1, "A", "C"), head=head(reference))
    result = varfm.run("score", varfm.file("in.vcf", rows), "-m", "null")
    assert result.status == 3
    assert f"##reference={reference} is not a file here" in message_of(result)


def test_command_line_goes_before_the_header(varfm: Varfm) -> None:
    rows = vcf(record(1, "A", "C"), head=head("/no/such.fa"))
    assert varfm.statuses(rows) == ["OK"]
