from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pysam
import pytest
from tools import require_tool

from varfm.errors import InputError
from varfm.io import bcf
from varfm.io.same import first_difference
from varfm.io.vcf import VcfReader
from varfm.io.writer import VcfWriter

META = (
    b"##fileformat=VCFv4.2\n"
    b'##FILTER=<ID=PASS,Description="All filters passed">\n'
    b'##FILTER=<ID=q10,Description="x">\n'
    b'##INFO=<ID=AC,Number=A,Type=Integer,Description="a, b">\n'
    b'##INFO=<ID=AF,Number=A,Type=Float,Description="f">\n'
    b'##INFO=<ID=DB,Number=0,Type=Flag,Description="d">\n'
    b'##INFO=<ID=SVLEN,Number=A,Type=Integer,Description="l">\n'
    b'##INFO=<ID=END,Number=1,Type=Integer,Description="e">\n'
    b'##INFO=<ID=NOTE,Number=1,Type=String,Description="n">\n'
    b'##FORMAT=<ID=GT,Number=1,Type=String,Description="g">\n'
    b'##FORMAT=<ID=DP,Number=1,Type=Integer,Description="p">\n'
    b"##contig=<ID=1,length=1000>\n"
)
COLUMNS = b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\ts2\n"
HEADER = META + COLUMNS
RECORDS = (
    b"1\t5\trs1\tA\tC\t9.5\tPASS\tAC=1;AF=0.25;DB\tGT:DP\t0|1:7\t./.:.\n"
    b"1\t6\t.\tA\t<DEL>\t.\tq10\tSVLEN=-9;NOTE=\xe9\xff\tGT:DP\t0/1:1\t0/0:2\n"
    b"1\t8\t.\tA\t*,G\t.\t.\t.\tGT:DP\t1/2:1\t0/0:2\n"
)


def write(path: Path, text: bytes, contigs: dict[str, int | None] | None = None) -> None:
    with VcfWriter(str(path), force=False, contigs=contigs) as writer:
        writer.write(text)
        writer.seal(text.count(b"\n") - text.count(b"\n#") - 1)
        writer.publish()


def read(source: str) -> tuple[bytes, bytes]:
    with VcfReader(source) as reader:
        assert reader.is_bcf
        return b"".join(reader.header.lines), b"".join(block.data for block in reader.blocks(2))


def record(**columns: bytes) -> bytes:
    fields = dict(c=b"1", pos=b"5", id=b".", ref=b"A", alt=b"C", qual=b".", filter=b".", info=b".", format=b"GT")
    return b"\t".join([*(fields | columns).values(), b"0/1", b"0/0"]) + b"\n"


def refusal(folder: Path, line: bytes) -> str:
    with pytest.raises(InputError) as caught:
        write(folder / "out.bcf", HEADER + RECORDS + line)
    assert list(folder.iterdir()) == []
    return str(caught.value).removeprefix(f"{folder}/")


def test_bcf_that_we_wrote_reads_as_the_text_that_it_was(tmp_path: Path) -> None:
    write(tmp_path / "out.bcf", HEADER + RECORDS)
    assert read(str(tmp_path / "out.bcf")) == (HEADER, RECORDS)


def test_bcf_of_htslib_reads_compressed_uncompressed_and_from_stdin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bcftools = require_tool("bcftools")
    (tmp_path / "in.vcf").write_bytes(HEADER + RECORDS)
    for form in ("-Ou", "-Ob"):
        data = subprocess.run(
            [bcftools, "view", "--no-version", form, tmp_path / "in.vcf"], capture_output=True, check=True
        ).stdout
        (tmp_path / "in.bcf").write_bytes(data)
        assert read(str(tmp_path / "in.bcf")) == (HEADER, RECORDS)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert read("-") == (HEADER, RECORDS)


def test_pieces_of_a_long_bcf_join_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bcf, "_CHUNK_BYTES", 300)
    write(tmp_path / "out.bcf", HEADER + RECORDS * 20)
    assert read(str(tmp_path / "out.bcf"))[1] == RECORDS * 20


def test_an_independent_reader_sees_the_same_records(tmp_path: Path) -> None:
    write(tmp_path / "out.bcf", HEADER + RECORDS)
    with pysam.VariantFile(str(tmp_path / "out.bcf")) as records:
        seen = [(r.chrom, r.pos, r.alts, r.info.get("AC")) for r in records]
    assert seen == [("1", 5, ("C",), (1,)), ("1", 6, ("<DEL>",), None), ("1", 8, ("*", "G"), None)]


def test_a_bcf_has_a_csi_index(tmp_path: Path) -> None:
    write(tmp_path / "out.bcf", HEADER + RECORDS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.bcf", "out.bcf.csi"]
    run = subprocess.run(
        [require_tool("bcftools"), "index", "-s", tmp_path / "out.bcf"], capture_output=True, check=True
    )
    assert run.stdout == b"1\t1000\t3\n"


def test_an_unsorted_bcf_has_no_index_and_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "out.bcf", HEADER + RECORDS + RECORDS)
    assert [p.name for p in tmp_path.iterdir()] == ["out.bcf"]
    assert capfd.readouterr() == ("", "")


def test_a_bcf_without_records_is_a_header(tmp_path: Path) -> None:
    write(tmp_path / "out.bcf", HEADER)
    assert read(str(tmp_path / "out.bcf")) == (HEADER, b"")


def test_contig_lines_are_added_where_the_header_lacks_them(tmp_path: Path) -> None:
    text = HEADER + RECORDS + record(c=b"2") + record(c=b"3")
    write(tmp_path / "out.bcf", text, {"1": 77, "2": 500, "3": None})
    header, records = read(str(tmp_path / "out.bcf"))
    assert header == META + b"##contig=<ID=2,length=500>\n##contig=<ID=3>\n" + COLUMNS
    assert records == RECORDS + record(c=b"2") + record(c=b"3")


def test_crlf_becomes_lf(tmp_path: Path) -> None:
    write(tmp_path / "out.bcf", (HEADER + RECORDS).replace(b"\n", b"\r\n"))
    assert read(str(tmp_path / "out.bcf")) == (HEADER, RECORDS)


def test_numbers_may_be_spelled_otherwise(tmp_path: Path) -> None:
    write(tmp_path / "out.bcf", HEADER + record(qual=b"30.00", info=b"AF=0.1234567;AC=01"))
    assert read(str(tmp_path / "out.bcf"))[1] == record(qual=b"30", info=b"AF=0.123457;AC=1")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (record(info=b"AC=1;NEW=2"), "record 4 (1:5): INFO 'NEW' is not declared"),
        (record(format=b"XX"), "record 4 (1:5): FORMAT 'XX' is not declared"),
        (record(filter=b"PASS;bad"), "record 4 (1:5): FILTER 'bad' is not declared"),
        (record(c=b"chr9"), "record 4 (chr9:5): contig 'chr9' is not declared"),
        (record(pos=b"2147483648"), "record 4 (1:2147483648): POS is beyond 2^31"),
        (record(info=b"AC=3000000000"), "record 4 (1:5): in BCF INFO AC would change from 'AC=3000000000'"),
        (record(info=b"AC=1.5"), "record 4 (1:5): in BCF INFO AC would change from 'AC=1.5'"),
        (record(info=b"AF=1e-300"), "record 4 (1:5): in BCF INFO AF would change from 'AF=1e-300'"),
        (record(qual=b"1e-60"), "record 4 (1:5): in BCF QUAL would change from '1e-60'"),
    ],
)
def test_what_bcf_would_lose_is_an_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], line: bytes, message: str
) -> None:
    assert refusal(tmp_path, line).startswith(f"out.bcf, {message}")
    assert capfd.readouterr() == ("", "")


def test_a_cut_bcf_is_truncated(tmp_path: Path) -> None:
    write(tmp_path / "out.bcf", HEADER + RECORDS)
    data = (tmp_path / "out.bcf").read_bytes()
    for place in range(20, len(data), 61):
        (tmp_path / "cut.bcf").write_bytes(data[:place])
        with pytest.raises(InputError, match="truncated"):
            read(str(tmp_path / "cut.bcf"))


def test_an_uncompressed_bcf_cut_inside_a_record_names_the_record(tmp_path: Path) -> None:
    write(tmp_path / "out.bcf", HEADER + RECORDS)
    with pysam.BGZFile(str(tmp_path / "out.bcf")) as file:
        (tmp_path / "cut.bcf").write_bytes(file.read()[:-5])
    with pytest.raises(InputError, match=r"cut\.bcf: BCF record 3 cannot be read: the data end inside"):
        read(str(tmp_path / "cut.bcf"))


def test_damaged_records_are_an_input_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "out.bcf", HEADER + RECORDS)
    with pysam.BGZFile(str(tmp_path / "out.bcf")) as file:
        plain = bytearray(file.read())
    start = 9 + int.from_bytes(plain[5:9], "little")
    plain[start + 8 : start + 12] = b"\x63\0\0\0"  # contig number 99
    (tmp_path / "bad.bcf").write_bytes(plain)
    with pytest.raises(InputError, match=r"bad\.bcf, records 1 to 3: htslib cannot read this BCF"):
        read(str(tmp_path / "bad.bcf"))
    assert capfd.readouterr() == ("", "")


def test_samples_may_leave_out_fields_at_their_end() -> None:
    before = record(format=b"GT:DP").replace(b"0/1", b"0/1:3")[:-1]
    assert first_difference(before, before + b":.") is None
    assert first_difference(before, before + b":4") == ("FORMAT DP", b".", b"4")
