"""VCF files of every bad kind: each ends in a score, a status word, or an error with its place and what to do."""

from __future__ import annotations

import gzip
import os
import threading
from pathlib import Path

import pysam
import pytest
from conftest import PlainUser, Varfm, message_of
from pysam import bcftools
from vcf_bytes import COLUMNS, END, GOOD, HEAD, bgzf, bgzf_block, info_values, record, vcf, without_annotation

from varfm.session import BLOCK_RECORDS

STARTS = [["0"], ["1"], ["9"]]


def positions(annotated: bytes) -> list[list[str]]:
    return info_values(annotated, b"VARFM_NULL_POSITION")


# What is no VCF at all.


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(b"", ["is empty", "##fileformat"], id="empty"),
        pytest.param(b"\n\n", ["line 1"], id="blank lines"),
        pytest.param(b"##fileformat=VCFv4.2\n", ["line 2", "end of the file", "#CHROM"], id="header without columns"),
        pytest.param(record(1, "A", "C"), ["line 1", "header"], id="no header"),
        pytest.param(b"##fileformat=VCFv4.2\n" + record(1, "A", "C"), ["line 2", "#CHROM"], id="no #CHROM line"),
        pytest.param(b"<!DOCTYPE html>\n<html></html>\n", ["web page"], id="HTML"),
        pytest.param(b"\n <html lang='en'>\n", ["web page"], id="HTML after a blank line"),
        pytest.param(b"<?xml version='1.0'?><Error/>", ["web page"], id="XML of a store's error"),
        pytest.param(b">chr1\nACGT\n", ["FASTA", "-f"], id="FASTA"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, ["byte order mark", "tail -c +4"], id="BOM"),
        pytest.param(GOOD.decode().encode("utf-16"), ["UTF-16", "iconv"], id="UTF-16"),
        pytest.param(GOOD.decode().encode("utf-16-le"), ["UTF-16", "iconv"], id="UTF-16 without a mark"),
        pytest.param(GOOD.replace(b"\n", b"\r"), ["CR", "tr "], id="line ends of old Macs"),
        pytest.param(GOOD.replace(b"\t", b" "), ["line 3", "spaces", "tabs"], id="spaces for tabs in the columns line"),
        pytest.param(HEAD + b"chr1 1 . A C . . .\n", ["line 4", "spaces", "tabs"], id="spaces for tabs in a record"),
        pytest.param(
            HEAD + b"chr1\t1\t.\tA\tC\t.\t.\n",
            ["line 4", "7 columns", "8", "copy the file again"],
            id="too few columns",
        ),
        pytest.param(HEAD + b"chr1\t1\t.\tA\tC\t.\t.\t.\tGT\n", ["line 4", "9 columns", "8"], id="too many columns"),
        pytest.param(HEAD + record(1, "A", "C") + b"chr1\t2", ["line 5", "2 columns"], id="cut in the last line"),
        pytest.param(HEAD + b"\n" + record(1, "A", "C"), ["line 4", "blank line"], id="blank line among records"),
        pytest.param(GOOD + HEAD, ["line 7", "header line", "bcftools concat"], id="two files joined by cat"),
        pytest.param(HEAD + b"\t1\t.\tA\tC\t.\t.\t.\n", ["line 4", "CHROM is empty"], id="no CHROM"),
        pytest.param(HEAD + b"chr1\t1\t.\tA\tC\t.\t.\tX=\0\n", ["line 4", "NUL"], id="NUL in INFO"),
        pytest.param(HEAD.replace(b"INFO", b"INFOS"), ["line 3", "'#CHROM POS ID"], id="a column of another name"),
        pytest.param(HEAD.replace(b"INFO", b"INFO\tS1"), ["line 3", "FORMAT"], id="samples without FORMAT"),
        pytest.param(b"PK\x03\x04" + bytes(50), ["zip", "unpack"], id="zip archive"),
        pytest.param(b"BZh91AY" + bytes(50), ["bzip2"], id="bzip2"),
        pytest.param(b"\x28\xb5\x2f\xfd" + bytes(50), ["zstd"], id="zstd"),
        pytest.param(b"CRAM" + bytes(50), ["CRAM"], id="CRAM"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(50), ["line 1"], id="a picture"),
    ],
)
def test_what_is_no_vcf_is_refused_with_place_and_advice(varfm: Varfm, data: bytes, words: list[str]) -> None:
    message = varfm.refused(3, varfm.file("bad.vcf", data))
    assert "bad.vcf" in message
    assert [word for word in words if word not in message] == [], message


def test_header_only_gives_the_header_only(varfm: Varfm) -> None:
    result = varfm.score(varfm.file("in.vcf", HEAD))
    assert (result.status, without_annotation(result.out)) == (0, HEAD)
    assert result.err.startswith("0 alleles: 0 scored. ")


def test_header_whose_last_line_has_no_line_end_is_accepted(varfm: Varfm) -> None:
    result = varfm.score(varfm.file("in.vcf", HEAD.rstrip(b"\n")))
    assert (result.status, without_annotation(result.out)) == (0, HEAD.rstrip(b"\n"))


def test_header_without_fileformat_is_accepted(varfm: Varfm) -> None:
    assert varfm.statuses(vcf(record(1, "A", "C"), head=COLUMNS + b"\n")) == ["OK"]


def test_last_record_without_line_end_stays_without_it(varfm: Varfm) -> None:
    assert not varfm.annotated(GOOD.rstrip(b"\n")).endswith(b"\n")


@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b"\n" * 3, b"\n\r\n", b"\n\r"])
@pytest.mark.parametrize("rows", [GOOD, HEAD], ids=["records", "header only"])
def test_blank_lines_at_the_end_are_kept(varfm: Varfm, rows: bytes, blank: bytes) -> None:
    assert varfm.annotated(rows + blank).endswith(blank)
    for suffix in ("vcf", "vcf.gz", "bcf", "tsv"):
        declared = (rows + blank).replace(b"DP=3", b".")
        result = varfm.score(varfm.file("in.vcf", declared), "-o", varfm.out / f"o.{suffix}")
        assert result.status == 0, result.err
    with pysam.VariantFile(str(varfm.out / "o.bcf")) as file:
        assert len(list(file)) == rows.count(b"\nchr1")


def test_blank_lines_at_the_end_of_a_full_block_are_kept(varfm: Varfm) -> None:
    rows = vcf(*[record(1, "A", "C")] * BLOCK_RECORDS)
    assert varfm.annotated(rows + b"\n\n").endswith(b"\n\n")
    message = varfm.refused(3, varfm.file("in.vcf", rows + b"\n\n" + record(1, "A", "C")))
    assert f"line {BLOCK_RECORDS + 4:,}: a blank line among the records" in message


@pytest.mark.parametrize("name", ["in.vcf", "in.vcf.gz"])
def test_blank_lines_at_the_end_survive_shards_and_resume(varfm: Varfm, name: str) -> None:
    rows = vcf(*[record(n, "ACGT"[(n - 1) % 4], "N") for n in range(1, 200)]) + b"\n\n"
    path = varfm.file(name, bgzf(rows) if name.endswith("gz") else rows)
    whole, resumed, merged = (varfm.out / f"{name}.vcf" for name in ("whole", "resumed", "merged"))
    shards = [varfm.out / f"s{number}.vcf" for number in (1, 2, 3)]
    assert varfm.score(path, "-o", whole).status == 0
    assert varfm.score(path, "-o", resumed, "--resume").status == 0
    for number, shard in enumerate(shards, 1):
        assert varfm.score(path, "-o", shard, "--shard", f"{number}/3").status == 0
    assert varfm.run("merge", *shards, "-o", merged).status == 0
    assert without_annotation(whole.read_bytes()) == rows
    assert whole.read_bytes() == resumed.read_bytes() == merged.read_bytes()


def test_crlf_is_kept_and_scores_alike(varfm: Varfm) -> None:
    annotated = varfm.annotated(GOOD.replace(b"\n", b"\r\n"))
    assert annotated == varfm.annotated(GOOD, name="lf.vcf").replace(b"\n", b"\r\n")


# Compression.


def test_plain_gzip_scores_like_text(varfm: Varfm) -> None:
    assert positions(varfm.annotated(gzip.compress(GOOD), name="in.vcf.gz", plain=GOOD)) == STARTS


def test_several_gzip_members_are_one_file(varfm: Varfm) -> None:
    cut = len(GOOD) - 5
    data = gzip.compress(GOOD[:cut]) + gzip.compress(b"", mtime=0) + gzip.compress(GOOD[cut:])
    assert positions(varfm.annotated(data, name="in.vcf.gz", plain=GOOD)) == STARTS


def test_bgzf_is_known_by_its_bytes_and_not_its_name(varfm: Varfm) -> None:
    assert positions(varfm.annotated(bgzf(GOOD), name="in.txt", plain=GOOD)) == STARTS


def test_text_named_gz_is_read_as_text(varfm: Varfm) -> None:
    assert positions(varfm.annotated(GOOD, name="in.vcf.gz")) == STARTS


def test_empty_bgzf_blocks_in_the_middle_are_passed_over(varfm: Varfm) -> None:
    data = bgzf_block(GOOD[:60]) + END + bgzf(GOOD[60:])
    assert positions(varfm.annotated(data, name="in.vcf.gz", plain=GOOD)) == STARTS


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


MANY = vcf(*[record(p, "ACGT"[(p - 1) % 4], "ACGT"[p % 4]) for p in range(1, 900)])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        pytest.param(bgzf(MANY, 4000)[:-28], ["truncated", "end-of-file marker"], id="cut at the edge of a block"),
        pytest.param(bgzf(MANY, 4000)[:-40], ["truncated"], id="cut inside the last block"),
        pytest.param(bgzf(MANY, 4000)[:9], ["truncated"], id="cut inside the first header"),
        pytest.param(bgzf(MANY, 4000)[:-5], ["truncated"], id="cut inside the end marker"),
        pytest.param(_flipped(bgzf(MANY, 4000), 2000), ["damaged", "copy or download"], id="deflate data"),
        pytest.param(_flipped(bgzf(GOOD, 10**4), -33), ["corrupt", "byte 0"], id="checksum"),
        pytest.param(bgzf(GOOD) + b"rubbish and more of it", ["bytes after the end"], id="text after the end"),
        pytest.param(bgzf(GOOD) + b"x", ["bytes after the end"], id="a byte after the end"),
        pytest.param(bgzf(GOOD) + bytes(512), ["bytes after the end"], id="zeros after the end"),
        pytest.param(gzip.compress(MANY)[:-9], ["truncated", "gzip member"], id="gzip, cut"),
        pytest.param(gzip.compress(MANY)[:5], ["truncated"], id="gzip, cut in its header"),
        pytest.param(_flipped(gzip.compress(MANY), 300), ["corrupt"], id="gzip, deflate data"),
        pytest.param(gzip.compress(GOOD) + b"tail", ["bytes after the end"], id="gzip, bytes after the end"),
        pytest.param(gzip.compress(gzip.compress(GOOD)), ["compressed twice"], id="gzip twice"),
        pytest.param(bgzf(b""), ["is empty"], id="compressed nothing"),
    ],
)
def test_damaged_compression_is_refused_and_nothing_is_left(varfm: Varfm, data: bytes, words: list[str]) -> None:
    message = varfm.refused(3, varfm.file("bad.vcf.gz", data))
    assert "bad.vcf.gz" in message
    assert [word for word in words if word not in message] == [], message


def test_damage_behind_the_part_that_is_judged_at_the_start_is_found(varfm: Varfm) -> None:
    rows = [record(1 + 4 * (n % 200), "A", "C") for n in range(60_000)]
    data = bgzf(vcf(*rows), 60_000)
    for table in (data[:-28], _flipped(data, len(data) - 200)):
        message = varfm.refused(3, varfm.file("late.vcf.gz", table))
        assert "late.vcf.gz" in message


# POS.


@pytest.mark.parametrize("pos", ["", ".", "-5", "+5", "1e3", "1,000", "1.0", "0x10", " 5", "٣", "1" + "0" * 19, "x"])
def test_pos_that_is_no_number_is_refused_with_file_line_and_value(varfm: Varfm, pos: str) -> None:
    message = varfm.refused(3, varfm.file("in.vcf", vcf(record(1, "A", "C"), record(pos, "A", "C"))))
    assert "in.vcf, line 5: POS is " in message
    assert "expected a whole number" in message


@pytest.mark.parametrize("pos", ["0", "1001", "2147483648", "4294967297", "9223372036854", "1" + "0" * 18])
def test_pos_outside_the_contig_is_a_status_and_keeps_its_digits(varfm: Varfm, pos: str) -> None:
    assert varfm.statuses(vcf(record(pos, "A", "C"), record(pos, "AC", "A"))) == ["OUT_OF_CONTIG", "OUT_OF_CONTIG"]


def test_pos_with_leading_zeros_is_read_and_kept(varfm: Varfm) -> None:
    assert positions(varfm.annotated(vcf(record("0002", "C", "G")))) == [["1"]]


def test_ref_that_runs_past_the_end_is_a_status(varfm: Varfm) -> None:
    assert varfm.statuses(vcf(record(1000, "T", "A"), record(1000, "TA", "T"), record(999, "GTA", "G"))) == [
        "OK",
        "OUT_OF_CONTIG",
        "OUT_OF_CONTIG",
    ]


# Alleles.


@pytest.mark.parametrize(
    ("ref", "alt", "status"),
    [
        ("A", ".", "NO_ALT"),
        ("A", "*", "STAR"),
        ("A", "<DEL>", "SYMBOLIC"),
        ("A", "<*>", "SYMBOLIC"),
        ("A", "<NON_REF>", "SYMBOLIC"),
        ("A", "<INS:ME:ALU>", "SYMBOLIC"),
        ("A", "<", "SYMBOLIC"),
        ("A", "A[chr2:5[", "BREAKEND"),
        ("A", "A]chr2:5]", "BREAKEND"),
        ("A", "[chr2:5[A", "BREAKEND"),
        ("A", "]chr2:5]A", "BREAKEND"),
        ("A", "A[<ctg1>:7[", "BREAKEND"),
        ("A", "A.", "BREAKEND"),
        ("A", ".A", "BREAKEND"),
        ("A", "..", "BREAKEND"),
        ("A", "R", "NON_ACGT"),
        ("A", "N", "NON_ACGT"),
        ("R", "A", "NON_ACGT"),
        ("N", "A", "NON_ACGT"),
        ("U", "C", "NON_ACGT"),
        ("A", "-", "NON_ACGT"),
        ("A", "0", "NON_ACGT"),
        ("A", "A C", "NON_ACGT"),
        ("A", "", "NON_ACGT"),
        ("", "A", "NON_ACGT"),
        (".", "A", "NON_ACGT"),
        ("*", "A", "NON_ACGT"),
        ("A", "A/C", "NON_ACGT"),
        ("A", "é", "NON_ACGT"),
        ("a", "c", "OK"),
        ("A", "c", "OK"),
        ("a", "*", "STAR"),
        ("A", "A", "OK"),
        ("A", "a", "OK"),
        ("C", "G", "REF_MISMATCH"),
        ("CC", "C", "REF_MISMATCH"),
        ("A,C", "G", "NON_ACGT"),
    ],
)
def test_every_kind_of_allele_gets_its_status(varfm: Varfm, ref: str, alt: str, status: str) -> None:
    assert varfm.statuses(vcf(record(1, ref, alt))) == [status]


def test_empty_pieces_of_alt_are_alleles_of_their_own(varfm: Varfm) -> None:
    assert varfm.statuses(vcf(record(1, "A", "C,,G"), record(1, "A", ",C"), record(1, "A", "C,"))) == [
        "OK,NON_ACGT,OK",
        "NON_ACGT,OK",
        "OK,NON_ACGT",
    ]


def test_all_kinds_in_one_record_keep_their_order(varfm: Varfm) -> None:
    out = varfm.annotated(vcf(record(5, "A", "*,<DEL>,C,A[chr2:1[,N,.,CC,C")))
    assert info_values(out) == [["STAR", "SYMBOLIC", "OK", "BREAKEND", "NON_ACGT", "NO_ALT", "OK", "OK"]]
    assert positions(out) == [[".", ".", "4", ".", ".", ".", "4", "4"]]


def test_what_is_wrong_with_alt_is_said_before_what_is_wrong_with_the_place(varfm: Varfm) -> None:
    elsewhere = vcf(record(1, "A", "*,C", contig="chrNO"), record(0, "A", "<DEL>,C"), record(1, "G", "<DEL>,C"))
    assert varfm.statuses(elsewhere) == ["STAR,NO_CONTIG", "SYMBOLIC,OUT_OF_CONTIG", "SYMBOLIC,REF_MISMATCH"]


def test_alt_of_a_million_bases_is_scored_by_a_model_that_takes_any_length(varfm: Varfm) -> None:
    rows = vcf(record(1, "A", "A" + "G" * 10**6), record(2, "C", "G"))
    assert varfm.statuses(rows) == ["OK", "OK"]


def test_a_thousand_alts_in_one_record_get_a_thousand_words(varfm: Varfm) -> None:
    [words] = info_values(varfm.annotated(vcf(record(1, "A", ",".join(["C", "<X>"] * 500)))))
    assert words == ["OK", "SYMBOLIC"] * 500


def test_ambiguity_codes_of_the_reference_match_the_bases_they_stand_for(varfm: Varfm) -> None:
    # chr2 is AAAAANNNNNRYSWKMacgt: N matches nothing, R is A or G, lower case counts as upper case.
    rows = [
        record(pos, ref, alt, contig="chr2")
        for pos, ref, alt in [
            (5, "A", "C"),
            (6, "A", "C"),
            (11, "G", "C"),
            (11, "C", "G"),
            (12, "T", "A"),
            (20, "T", "A"),
        ]
    ]
    assert varfm.statuses(vcf(*rows)) == ["OK", "REF_MISMATCH", "OK", "REF_MISMATCH", "OK", "OK"]


# Records.


def test_duplicate_and_unsorted_records_keep_their_order(varfm: Varfm) -> None:
    rows = vcf(record(9, "A", "C"), record(1, "A", "C"), record(9, "A", "C"), record(2, "C", "G,G"))
    assert positions(varfm.annotated(rows)) == [["8"], ["0"], ["8"], ["1", "1"]]


def test_unsorted_records_in_a_bgzf_output_have_no_index(varfm: Varfm) -> None:
    out = varfm.out / "o.vcf.gz"
    assert varfm.score(varfm.file("in.vcf", vcf(record(9, "A", "C"), record(1, "A", "C"))), "-o", out).status == 0
    assert sorted(os.listdir(varfm.out)) == ["o.vcf.gz", "o.vcf.gz.varfm.json"]


def test_unknown_contig_is_a_status(varfm: Varfm) -> None:
    assert varfm.statuses(vcf(record(1, "A", "C", contig="chrUn_7"), record(1, "A", "C"))) == ["NO_CONTIG", "OK"]


def test_undeclared_contigs_keys_and_filters_are_kept_as_they_are(varfm: Varfm) -> None:
    row = b"chr1\t1\trs1;rs2\tA\tC\t1e-3\tweird;PASS\tFLAG;X=1,2;;Y=a%3Bb;X=3\n"
    assert varfm.statuses(vcf(row, head=b"##fileformat=VCFv4.1\n" + COLUMNS + b"\n")) == ["OK"]


def test_info_that_is_empty_gets_our_keys_alone(varfm: Varfm) -> None:
    result = varfm.score(varfm.file("in.vcf", vcf(b"chr1\t1\t.\tA\tC\t.\t.\t\n")))
    assert result.out.endswith(b"\t.\t.\tVARFM_STATUS=OK;VARFM_NULL_POSITION=0\n")


def test_info_key_that_only_resembles_ours_is_no_key_of_ours(varfm: Varfm) -> None:
    varfm.annotated(vcf(record(1, "A", "C", "XVARFM_A=1;NOTE=VARFM_B"), record(2, "C", "G", "varfm_status=OK")))


@pytest.mark.parametrize("junk", [b"\xff\xfe", b"\xe9", b"\x80\x81", b"\xed\xa0\x80"])
def test_bytes_that_are_not_utf8_are_kept_in_every_column(varfm: Varfm, junk: bytes) -> None:
    head = HEAD.replace(b"##contig", b"##note=" + junk + b"\n##contig")
    row = b"chr1\t1\t%s\tA\tC\t.\t%s\tNOTE=%s\n" % (junk, junk, junk)
    other = b"chr%s\t1\t.\tA\tC\t.\t.\t.\n" % junk
    assert varfm.statuses(vcf(row, other, head=head)) == ["OK", "NO_CONTIG"]


@pytest.mark.parametrize(
    "contig",
    [
        "/etc/passwd",
        "../../etc/passwd",
        "chr1:1-10",
        "chr1:5",
        "chr1,chr2",
        "chr1|sh",
        "-f",
        "<chr1>",
        "=1+1",
        "chr 1",
        "1e5",
        "CHR1",
        "chrchr1",
        "chr01",
        "01",
        "c" * 70_000,
        "\x1b[2J\x1b[31mchr1",
        "chr1\x07",
        "\u202echr1",
        "染色体1",
        "chr1#",
    ],
)
def test_contig_that_looks_like_something_else_is_only_a_name(varfm: Varfm, contig: str) -> None:
    rows = vcf(*[record(1, "A", "C", contig=contig)] * 2, record(1, "A", "C"))
    assert varfm.statuses(rows) == ["NO_CONTIG", "NO_CONTIG", "OK"]


def test_contig_with_an_escape_sequence_does_not_reach_the_terminal(varfm: Varfm) -> None:
    evil = "\x1b]0;owned\x07\x1b[2J"
    rows = vcf(*[record(1, "A", "C", contig=evil)] * 5)
    assert "none of the contigs" in varfm.refused(3, varfm.file("in.vcf", rows))
    varfm.refused(3, varfm.file("in.vcf", vcf(record(evil, "A", "C"))))
    varfm.refused(3, varfm.file("in.vcf", HEAD + evil.encode() + b"\n"))
    varfm.refused(3, varfm.file("in.vcf", evil.encode() + b"\n"))


def test_length_conflict_of_a_contig_with_an_escape_sequence_is_shown_escaped(varfm: Varfm) -> None:
    evil = "chr1\x1b[31m"
    fasta = varfm.file("evil.fa", f">{evil}\nACGTACGT\n".encode())
    head = f"##fileformat=VCFv4.2\n##contig=<ID={evil},length=9>\n".encode() + COLUMNS + b"\n"
    result = varfm.score(varfm.file("in.vcf", vcf(record(1, "A", "C", contig=evil), head=head)), "-f", fasta)
    assert result.status == 0
    assert "length conflict: chr1\\x1b[31m has 9 bases in the VCF, 8 in the FASTA" in result.err


def test_sample_columns_and_their_bytes_are_kept(varfm: Varfm) -> None:
    head = HEAD.replace(b"INFO\n", b"INFO\tFORMAT\tS 1\tS\xff\n")
    row = record(1, "A", "C").rstrip(b"\n") + b"\tGT:AD\t0/1:1,2\t./.\n"
    assert varfm.statuses(vcf(row, head=head)) == ["OK"]


@pytest.mark.parametrize("n_samples", [0, 1, 3])
def test_sample_columns_unlike_the_header_are_refused_with_both_numbers(varfm: Varfm, n_samples: int) -> None:
    head = HEAD.replace(b"INFO\n", b"INFO\tFORMAT\tS1\tS2\n")
    row = record(1, "A", "C").rstrip(b"\n") + b"\tGT" + b"\t0/1" * n_samples + b"\n"
    message = varfm.refused(3, varfm.file("in.vcf", vcf(row, head=head)))
    assert f"line 4: {9 + n_samples} columns where the #CHROM line has 11" in message


# Keys of an earlier run.


def test_header_that_declares_our_keys_is_refused(varfm: Varfm) -> None:
    once = varfm.annotated(GOOD)
    message = varfm.refused(3, varfm.file("once.vcf", once))
    assert "VARFM_" in message and "--overwrite" in message


def test_record_that_has_our_keys_is_refused_with_its_line(varfm: Varfm) -> None:
    rows = vcf(record(1, "A", "C"), record(2, "C", "G", "DP=1;VARFM_X=1"))
    message = varfm.refused(3, varfm.file("in.vcf", rows))
    assert "in.vcf, line 5" in message and "VARFM_" in message and "--overwrite" in message


def test_overwriting_an_annotated_file_gives_the_bytes_of_annotating_the_original(varfm: Varfm) -> None:
    once = varfm.annotated(vcf(record(1, "A", "C"), record(2, "C", "G", "DP=3"), record(3, "G", ".", "A;B=2;A")))
    again = varfm.score(varfm.file("once.vcf", once), "--overwrite")
    assert (again.status, again.out) == (0, once)


def test_overwriting_takes_out_keys_that_stand_between_others(varfm: Varfm) -> None:
    rows = vcf(record(1, "A", "C", "VARFM_OLD=1;DP=3;VARFM_FLAG;AF=1"))
    clean = varfm.annotated(vcf(record(1, "A", "C", "DP=3;AF=1")))
    assert varfm.score(varfm.file("old.vcf", rows), "--overwrite").out == clean


# Where the input comes from.


def test_missing_file_folder_and_device_are_refused(varfm: Varfm) -> None:
    assert "there is no such file" in varfm.refused(3, varfm.folder / "nothing.vcf")
    assert "is a folder" in varfm.refused(3, varfm.folder)
    assert "is empty" in varfm.refused(3, os.devnull)
    assert "there is no such file" in varfm.refused(3, "https://example.org/in.vcf.gz")


def test_name_with_nul_or_of_great_length_is_refused(varfm: Varfm) -> None:
    assert "cannot be opened" in varfm.refused(3, varfm.folder / ("x" * 300))
    assert "cannot be opened" in varfm.refused(3, "a\0b.vcf")


def test_unreadable_file_is_refused(varfm: Varfm, as_plain_user: PlainUser, open_folder: Path) -> None:
    source = open_folder / "secret.vcf"
    source.write_bytes(GOOD)
    source.chmod(0o600)
    result = as_plain_user("score", source, "-m", "null", "-f", varfm.fasta)
    assert result.status == 3, result.err
    assert f"{source}: no permission to read it" in message_of(result)


def test_stdin_gives_the_bytes_of_the_file(varfm: Varfm) -> None:
    result = varfm.score("-", stdin=bgzf(GOOD))
    assert (result.status, result.out) == (0, varfm.annotated(GOOD))


@pytest.mark.parametrize("data", [b"", bgzf(MANY, 4000)[:-28], vcf(record("x", "A", "C"))])
def test_bad_stdin_is_refused_by_its_name(varfm: Varfm, data: bytes) -> None:
    assert "<stdin>" in varfm.refused(3, "-", stdin=data)


def _as_bcf(varfm: Varfm, flag: str) -> bytes:
    target = varfm.folder / "in.bcf"
    bcftools.view(flag, "-o", str(target), str(varfm.file("for-bcf.vcf", GOOD)), catch_stdout=False)
    return target.read_bytes()


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "test_vcf_input.GOOD",
        GOOD.replace(b"##contig", b'##INFO=<ID=DP,Number=1,Type=Integer,Description="d">\n##contig'),
    )


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize("flag", ["-Ob", "-Ou"])
def test_bcf_scores_like_text_from_a_file_and_from_stdin(varfm: Varfm, flag: str) -> None:
    data = _as_bcf(varfm, flag)
    from_file = varfm.score(varfm.folder / "in.bcf")
    from_pipe = varfm.score("-", stdin=data)
    assert from_file.status == from_pipe.status == 0, from_pipe.err
    assert from_file.out == from_pipe.out
    assert positions(from_file.out) == STARTS


@pytest.mark.usefixtures("declared")
@pytest.mark.parametrize("flag", ["-Ob", "-Ou"])
@pytest.mark.parametrize("left", [5, 30, -30, -3])
def test_bcf_that_is_cut_is_refused(varfm: Varfm, flag: str, left: int) -> None:
    message = varfm.refused(3, varfm.file("cut.bcf", _as_bcf(varfm, flag)[:left]))
    assert "cut.bcf" in message


@pytest.mark.usefixtures("declared")
def test_bcf_with_a_broken_record_is_refused(varfm: Varfm) -> None:
    data = _as_bcf(varfm, "-Ou")
    assert "broken.bcf" in varfm.refused(3, varfm.file("broken.bcf", data[:-20] + b"\xff" * 20))


# The reference as a whole.


def test_wrong_assembly_stops_before_any_output(varfm: Varfm) -> None:
    wrong = vcf(*[record(1 + 4 * n, "G", "C") for n in range(5)])
    message = varfm.refused(3, varfm.file("in.vcf", wrong))
    assert "5 of the first 5 alleles" in message and "chr1:1 REF=G" in message and "--max-ref-mismatch" in message
    assert varfm.statuses(wrong, "--max-ref-mismatch", "100") == ["REF_MISMATCH"] * 5


def test_four_mismatches_are_too_few_to_judge(varfm: Varfm) -> None:
    assert varfm.statuses(vcf(*[record(1 + 4 * n, "G", "C") for n in range(4)])) == ["REF_MISMATCH"] * 4


def test_more_than_a_tenth_of_fifty_mismatches_stops(varfm: Varfm) -> None:
    right = [record(1 + 4 * n, "A", "C") for n in range(45)]
    wrong = [record(1 + 4 * n, "G", "C") for n in range(45, 51)]
    assert varfm.statuses(vcf(*right, *wrong[:5])) == ["OK"] * 45 + ["REF_MISMATCH"] * 5
    assert "6 of the first 51" in varfm.refused(3, varfm.file("in.vcf", vcf(*right, *wrong)))
    assert "6 of the first 51" in varfm.refused(3, "-", stdin=vcf(*right, *wrong))


def test_no_known_contig_at_all_stops(varfm: Varfm) -> None:
    rows = vcf(*[record(1, "A", "C", contig="NC_000001.11")] * 5)
    message = varfm.refused(3, varfm.file("in.vcf", rows))
    assert "none of the contigs" in message and "chr1" in message and "--contig-map" in message


def test_on_ref_mismatch_error_names_the_line(varfm: Varfm) -> None:
    rows = varfm.file("in.vcf", vcf(record(1, "A", "C"), record(2, "G", "C")))
    message = varfm.refused(3, rows, "--on-ref-mismatch", "error")
    assert "in.vcf, line 5: chr1:2 has REF=G" in message


def test_independent_reader_reads_what_was_written(varfm: Varfm) -> None:
    path = varfm.file("out.vcf", varfm.annotated(GOOD.replace(b"DP=3", b".")))
    with pysam.VariantFile(str(path)) as reader:
        assert [tuple(row.info["VARFM_NULL_POSITION"]) for row in reader] == [(0.0,), (1.0,), (9.0,)]


def test_record_of_one_word_is_counted_as_one_column(varfm: Varfm) -> None:
    assert "line 4: 1 column where at least 8" in varfm.refused(3, varfm.file("in.vcf", HEAD + b"junk\n"))


def test_named_pipe_is_read_once_and_scores_like_the_file(varfm: Varfm) -> None:
    pipe = varfm.folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(GOOD,))
    writer.start()
    result = varfm.score(pipe)
    writer.join()
    assert (result.status, result.out) == (0, varfm.annotated(GOOD))
