from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varfm.errors import InputError
from varfm.io import scan
from varfm.io.block import INFO, REF
from varfm.io.vcf import Block, VcfReader, with_lines, without_varfm

META = b"##fileformat=VCFv4.2\n"
COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
HEADER = META + COLUMNS
ONE = b"1\t5\trs1\tA\tC\t9.50\tPASS\tAC=1;DB\n"
TWO = b"1\t10000000000\t.\tg\t<DEL>\t.\t.\t.\n"
THREE = b"chr\xff\t7\t.\tAC\tA,*\t.\tq10\tNOTE=\xe9t\xe9\n"


def vcf(folder: Path, data: bytes) -> str:
    path = folder / "in.vcf"
    path.write_bytes(data)
    return str(path)


def blocks(folder: Path, data: bytes, n_records: int = 4096) -> list[Block]:
    with VcfReader(vcf(folder, data)) as reader:
        return list(reader.blocks(n_records))


def block(folder: Path, records: bytes, header: bytes = HEADER) -> Block:
    (only,) = blocks(folder, header + records)
    return only


def error(folder: Path, data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        for piece in blocks(folder, data):
            _ = piece.positions
    return str(caught.value).removeprefix(str(folder) + "/")


def test_columns_are_given_as_they_came(tmp_path: Path) -> None:
    records = block(tmp_path, ONE + TWO + THREE)
    assert records.n_records == 3
    assert [records.field(0, k) for k in range(8)] == [b"1", b"5", b"rs1", b"A", b"C", b"9.50", b"PASS", b"AC=1;DB"]
    assert records.column(REF) == [b"A", b"g", b"AC"]
    assert records.field(2, INFO) == b"NOTE=\xe9t\xe9"
    assert [records.line(k) for k in range(3)] == [ONE, TWO, THREE]


def test_positions_beyond_32_bits_survive(tmp_path: Path) -> None:
    big = TWO.replace(b"10000000000", b"1000000000000000000")
    assert block(tmp_path, ONE + TWO + THREE + big).positions.tolist() == [5, 10_000_000_000, 7, 10**18]


@pytest.mark.parametrize("value", [b"", b"-1", b"+5", b"1e5", b"5.0", b"x", b" 5", b"1000000000000000001", b"9" * 40])
def test_a_position_that_is_no_number_is_named_with_its_line(tmp_path: Path, value: bytes) -> None:
    message = error(tmp_path, HEADER + ONE + b"1\t%s\t.\tA\tC\t.\t.\t.\n" % value)
    assert message == f"in.vcf, line 4: POS is '{value.decode()}', expected a whole number from 0 to 10^18."


def test_snvs_are_records_with_one_byte_on_both_sides(tmp_path: Path) -> None:
    mask, ref, alt = block(tmp_path, ONE + TWO + THREE + ONE.replace(b"A\tC", b"n\t*")).snvs()
    assert mask.tolist() == [True, False, False, True]
    assert bytes(ref) == b"A\0\0n"
    assert bytes(alt) == b"C\0\0*"


def test_contig_runs_have_names_and_ends(tmp_path: Path) -> None:
    names = [b"1", b"1", b"2", b"12", b"12", b"1", b"x" * 100, b"x" * 99 + b"y"]
    records = block(tmp_path, b"".join(name + ONE[1:] for name in names))
    expected = [("1", 0, 2), ("2", 2, 3), ("12", 3, 5), ("1", 5, 6), ("x" * 100, 6, 7), ("x" * 99 + "y", 7, 8)]
    assert records.contig_runs() == expected
    short = block(tmp_path, b"".join(name + ONE[1:] for name in names[:6]))
    assert short.contig_runs() == expected[:4]


def test_splice_appends_to_info_and_replaces_a_dot(tmp_path: Path) -> None:
    records = block(tmp_path, ONE + TWO + THREE)
    assert records.splice([b"X=1", b"X=2", b""]) == (
        b"1\t5\trs1\tA\tC\t9.50\tPASS\tAC=1;DB;X=1\n1\t10000000000\t.\tg\t<DEL>\t.\t.\tX=2\n" + THREE
    )
    assert records.splice([b"", b"", b""]) == ONE + TWO + THREE
    with pytest.raises(ValueError):
        records.splice([b"X=1"])


def test_splice_keeps_crlf_and_a_missing_last_line_end(tmp_path: Path) -> None:
    header = HEADER.replace(b"\n", b"\r\n")
    records = block(tmp_path, ONE.replace(b"\n", b"\r\n") + TWO[:-1], header)
    assert records.splice([b"X=1", b"X=2"]) == ONE[:-1] + b";X=1\r\n" + TWO[:-2] + b"X=2"


def test_splice_leaves_samples_alone(tmp_path: Path) -> None:
    header = HEADER.replace(b"INFO\n", b"INFO\tFORMAT\ts1\ts2\n")
    tail = b"\tGT:X\t0|1:\xff\t.\n"
    records = block(tmp_path, ONE[:-1] + tail + TWO[:-1] + tail, header)
    assert records.splice([b"X=1", b"X=2"]) == ONE[:-1] + b";X=1" + tail + TWO[:-2] + b"X=2" + tail


def test_many_samples_are_found_the_same_way(tmp_path: Path) -> None:
    n_samples = 2504
    header = HEADER.replace(b"INFO\n", b"INFO\tFORMAT" + b"\ts" * n_samples + b"\n")
    tail = b"\tGT" + b"\t0|1" * n_samples + b"\r\n"
    records = block(tmp_path, ONE[:-1] + tail + TWO[:-1] + tail, header)
    assert records.positions.tolist() == [5, 10**10]
    assert records.splice([b"X=1", b"X=2"]) == ONE[:-1] + b";X=1" + tail + TWO[:-2] + b"X=2" + tail
    short = tail.replace(b"\t0|1\r", b"\r")
    message = error(tmp_path, header + ONE[:-1] + tail + TWO[:-1] + short)
    assert message.startswith("in.vcf, line 4: 2,512 columns where the #CHROM line has 2,513")


def test_long_records_without_samples_are_found_the_same_way(tmp_path: Path) -> None:
    long = b"1\t5\t.\tA\t" + b"C" * 1_000_000 + b"\t.\t.\tAC=1\n"
    assert block(tmp_path, long + TWO).splice([b"X=1", b"X=2"]) == long[:-1] + b";X=1\n" + TWO[:-2] + b"X=2\n"


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([b".", b"AC=1", b"A;B=2,3", b"E=\xff", b"T=1;", b"K"]), min_size=1, max_size=9),
    st.data(),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
)
def test_taking_out_what_was_spliced_gives_the_input(
    tmp_path_factory: pytest.TempPathFactory, infos: list[bytes], data: st.DataObject, newline: bytes, ends: bool
) -> None:
    folder = tmp_path_factory.mktemp("splice")
    text = newline.join([b"1\t5\t.\tA\tC\t.\t.\t" + info for info in infos]) + (newline if ends else b"")
    records = block(folder, text)
    choices = st.sampled_from([b"", b"VARFM_A=1", b"VARFM_A=1;VARFM_STATUS=OK"])
    annotations = [data.draw(choices) for _ in infos]
    marked = block(folder, records.splice(annotations))
    assert marked.has_keys(b"VARFM_") == next((k for k, a in enumerate(annotations) if a), None)
    assert marked.strip_keys(b"VARFM_").data == text


def test_strip_keys_keeps_the_columns_in_place(tmp_path: Path) -> None:
    marked = block(tmp_path, ONE[:-1] + b";VARFM_X=1\n" + TWO[:-2] + b"VARFM_X=1;VARFM_Y=2\n" + THREE)
    clean = marked.strip_keys(b"VARFM_")
    assert clean.data == ONE + TWO + THREE
    assert clean.column(INFO) == [b"AC=1;DB", b".", b"NOTE=\xe9t\xe9"]
    assert clean.positions.tolist() == [5, 10**10, 7]
    assert [clean.line(k) for k in range(3)] == [ONE, TWO, THREE]


def test_only_info_keys_that_begin_with_the_prefix_are_ours(tmp_path: Path) -> None:
    text = b"1\t5\tVARFM_id\tA\tC\t.\t.\tX=VARFM_1;MY_VARFM_Y=2\n" + ONE
    records = block(tmp_path, text)
    assert records.has_keys(b"VARFM_") is None
    assert records.strip_keys(b"VARFM_").data == text
    assert block(tmp_path, text + ONE[:-1] + b";VARFM_FLAG\n").has_keys(b"VARFM_") == 2


def test_select_keeps_line_numbers(tmp_path: Path) -> None:
    records = block(tmp_path, ONE + TWO + THREE + b"1\tx\t.\tA\tC\t.\t.\t.")
    kept = records.select(np.array([False, True, True, False]))
    assert kept.data == TWO + THREE
    assert kept.positions.tolist() == [10**10, 7]
    assert [kept.line_number(k) for k in range(2)] == [4, 5]
    assert kept.select(np.array([False, True])).line_number(0) == 5
    with pytest.raises(InputError, match="line 6: POS is 'x'"):
        _ = records.select(np.array([True, False, False, True])).positions
    assert records.select(np.zeros(4, np.bool_)).splice([]) == b""


@pytest.mark.parametrize("n_records", [1, 2, 3, 4096])
def test_blocks_hold_the_records_asked_for(tmp_path: Path, n_records: int) -> None:
    given = blocks(tmp_path, HEADER + ONE * 7, n_records)
    assert [b.n_records for b in given] == [min(n_records, 7 - k) for k in range(0, 7, n_records)]
    assert b"".join(b.data for b in given) == ONE * 7
    assert [b.first_line for b in given] == [3 + k for k in range(0, 7, n_records)]
    assert [b.first_record for b in given] == list(range(0, 7, n_records))


def test_block_cuts_do_not_depend_on_the_chunks_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MAX_BLOCK_BYTES", 200)
    text = b"".join(b"x" * ((k * 37) % 90) + b"\n" for k in range(300)) + b"end"
    whole = list(scan.cut_lines("in", [text], 5, 1))
    for step in (1, 7, 1000):
        pieces = list(scan.cut_lines("in", [text[k : k + step] for k in range(0, len(text), step)], 5, 1))
        assert [(d, s.tolist()) for d, s in pieces] == [(d, s.tolist()) for d, s in whole]
    assert b"".join(data for data, _ in whole) == text
    assert max(len(starts) for _, starts in whole) == 6


def test_an_endless_line_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MAX_LINE_BYTES", 1 << 20)
    with pytest.raises(InputError, match="in, line 9: longer than 1 MiB"):
        list(scan.cut_lines("in", [b"a\nb\n", *([b"x" * 300_000] * 4)], 4096, 7))


def test_the_header_is_read_and_kept(tmp_path: Path) -> None:
    lines = [
        b"##fileformat=VCFv4.2\n",
        b"##reference=file:///a,b.fa\n",
        b'##contig=<ID=1,assembly="b,37",length=249250621>\n',
        b"##contig=<length=16569,ID=MT>\n",
        b"##contig=<ID=chrUn>\n",
        b"##contig=<ID=1,length=5>\n",
        b'##contig=<ID="quoted,name",length=x>\n',
        b"##contig=<broken\n",
        b"##contig=\n",
        b'##INFO=<ID=AC,Number=A,Type=Integer,Description="a, \\"b\\" ID=no">\n',
        b"##note \xff\n",
        b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\tx\ty\n",
    ]
    with VcfReader(vcf(tmp_path, b"".join(lines))) as reader:
        header = reader.header
        assert list(reader.blocks()) == []
    assert header.lines == tuple(lines)
    assert list(header.contigs.items()) == [("1", 249250621), ("MT", 16569), ("chrUn", None), ("quoted,name", None)]
    assert header.reference == "file:///a,b.fa"
    assert (header.samples, header.n_columns, header.newline) == (2, 11, b"\n")
    assert header.info_keys == {"AC"}


def test_our_header_lines_go_before_the_columns_and_out_again(tmp_path: Path) -> None:
    text = HEADER.replace(b"\n", b"\r\n")
    with VcfReader(vcf(tmp_path, text)) as reader:
        ours = with_lines(reader.header, [b"##varfm_version=1", b"##INFO=<ID=VARFM_X,Number=A>"])
    assert ours == META[:-1] + b"\r\n##varfm_version=1\r\n##INFO=<ID=VARFM_X,Number=A>\r\n" + COLUMNS[:-1] + b"\r\n"
    with VcfReader(vcf(tmp_path, ours)) as reader:
        assert reader.header.info_keys == {"VARFM_X"}
        clean = without_varfm(reader.header)
    assert b"".join(clean.lines) == text
    assert clean.info_keys == frozenset()


def test_a_header_without_line_end_has_no_records(tmp_path: Path) -> None:
    assert blocks(tmp_path, HEADER[:-1]) == []


def test_plain_gzip_reads_like_text(tmp_path: Path) -> None:
    assert [b.data for b in blocks(tmp_path, gzip.compress(HEADER + ONE))] == [ONE]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "in.vcf is empty."),
        (gzip.compress(b"", mtime=0), "in.vcf is empty."),
        (ONE, "in.vcf, line 1: '1\\t5\\trs1"),
        (META, "in.vcf, line 2: the end of the file where the #CHROM line is missing."),
        (META + ONE, "in.vcf, line 2: '1\\t5\\trs1"),
        (META + b"\n" + COLUMNS, "in.vcf, line 2: ''"),
        (META.replace(b"\n", b"\r") + COLUMNS[:-1], "in.vcf: lines end with CR alone."),
        (META + COLUMNS.replace(b"\t", b" ") + ONE, "in.vcf, line 2: the #CHROM line has spaces"),
        (META + COLUMNS.replace(b"\tINFO", b""), "in.vcf, line 2: the columns are"),
        (META + COLUMNS.replace(b"\n", b"\ts1\n"), "in.vcf, line 2: column 9 is 's1', expected 'FORMAT'"),
        (b"\n<!DOCTYPE html><html>", "in.vcf is a web page"),
        (b">chr1\nACGT\n", "in.vcf is a FASTA file"),
        ("##fileformat".encode("utf-16-le"), "in.vcf, line 1: NUL bytes"),
        (HEADER.replace(b"4.2", b"4.\0"), "in.vcf, line 1: NUL bytes"),
        (HEADER + ONE + ONE.replace(b"rs1", b"r\0"), "in.vcf, line 4: NUL bytes"),
        (META + b"##a=\0\n" + COLUMNS, "in.vcf, line 2: NUL bytes"),
        (HEADER + ONE + b"\n" + TWO, "in.vcf, line 4: a blank line"),
        (HEADER + ONE + b"\r\n" + TWO, "in.vcf, line 4: a blank line"),
        (HEADER + ONE + b"\n\n" + TWO, "in.vcf, line 4: a blank line"),
        (HEADER + b"\n" + ONE + b"\n", "in.vcf, line 3: a blank line"),
        (HEADER + ONE + b"1\t5\t.\tA\tC\n" + TWO, "in.vcf, line 4: 5 columns where at least 8 are needed: '1\\t5"),
        (HEADER + ONE + TWO.replace(b"\t", b" "), "in.vcf, line 4: spaces where tabs belong: '1 10000000000"),
        (HEADER + ONE[:-1] + b"\tGT\n", "in.vcf, line 3: 9 columns where the #CHROM line has 8"),
        (HEADER + ONE + b"1\t5\t.\tA\n" + TWO[:-1] + b"\t1\t2\t3\t4\n", "in.vcf, line 4: 4 columns"),
        (HEADER + ONE + HEADER, "in.vcf, line 4: the header line '##fileformat=VCFv4.2' after the header's end"),
        (HEADER + ONE[1:], "in.vcf, line 3: CHROM is empty"),
    ],
)
def test_what_is_no_vcf_is_named_with_file_line_and_value(tmp_path: Path, data: bytes, message: str) -> None:
    assert error(tmp_path, data).startswith(message)


def test_records_before_a_bad_line_of_a_later_block_are_given(tmp_path: Path) -> None:
    with VcfReader(vcf(tmp_path, HEADER + ONE * 4 + b"bad\n")) as reader:
        records = reader.blocks(2)
        assert next(records).n_records == 2
        assert next(records).n_records == 2
        with pytest.raises(InputError, match="line 7: 1 column where"):
            next(records)
