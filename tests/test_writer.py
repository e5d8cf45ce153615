from __future__ import annotations

import errno
import gzip
import io
import os
import subprocess
from pathlib import Path

import pysam
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools import require_tool

from varfm.errors import DiskError, OptionError
from varfm.io.atomic import check_target
from varfm.io.deflate import BgzfWriter
from varfm.io.inflate import BGZF_EOF
from varfm.io.writer import AtomicFile, VcfWriter

HEADER = b"##fileformat=VCFv4.2\n##contig=<ID=1>\n##contig=<ID=2>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


def record(contig: int, position: int) -> bytes:
    return b"%d\t%d\t.\tA\tC\t.\t.\t.\n" % (contig, position)


def write(path: Path, *records: bytes, force: bool = False, n_records: int | None = None) -> None:
    with VcfWriter(str(path), force=force) as writer:
        writer.write(HEADER)
        for line in records:
            writer.write(line)
        writer.seal(len(records) if n_records is None else n_records)
        writer.publish()


def compressed(text: bytes, cuts: list[int], threads: int = 2) -> bytes:
    out = io.BytesIO()
    with BgzfWriter(out, threads) as writer:
        for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
            writer.write(text[start:end])
    return out.getvalue()


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz"])
def test_text_comes_back_as_it_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    write(path, record(1, 5), record(2, 3))
    data = path.read_bytes() if suffix == ".vcf" else gzip.decompress(path.read_bytes())
    assert data == HEADER + record(1, 5) + record(2, 3)


def test_a_last_record_without_line_end_stays_without(tmp_path: Path) -> None:
    write(tmp_path / "out.vcf", record(1, 5), record(1, 6)[:-1])
    assert (tmp_path / "out.vcf").read_bytes() == HEADER + record(1, 5) + record(1, 6)[:-1]


def test_an_output_without_records_is_a_header(tmp_path: Path) -> None:
    write(tmp_path / "out.vcf.gz")
    assert gzip.decompress((tmp_path / "out.vcf.gz").read_bytes()) == HEADER


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 700_000), max_size=6), st.integers(1, 3))
def test_block_cuts_depend_neither_on_write_sizes_nor_on_threads(cuts: list[int], threads: int) -> None:
    text = b"".join(b"%d\t" % (k * k) for k in range(70_000))[:700_000]
    assert compressed(text, sorted(cuts), threads) == compressed(text, [])


def test_blocks_hold_65280_bytes_and_an_end_marker_follows() -> None:
    data = compressed(bytes(range(256)) * 1000, [])
    sizes, place = [], 0
    while place < len(data):
        end = place + int.from_bytes(data[place + 16 : place + 18], "little") + 1
        sizes.append(int.from_bytes(data[end - 4 : end], "little"))
        place = end
    assert sizes == [65_280, 65_280, 65_280, 60_160, 0]
    assert data.endswith(BGZF_EOF)


def test_bytes_that_do_not_compress_fit_into_blocks() -> None:
    noise = os.urandom(200_000)
    assert gzip.decompress(compressed(noise, [7])) == noise


def test_bgzip_and_pysam_read_our_bgzf(tmp_path: Path) -> None:
    text = b"".join(record(1, k) for k in range(20_000))
    path = tmp_path / "a.gz"
    path.write_bytes(compressed(text, [100]))
    with pysam.BGZFile(str(path)) as file:
        assert file.read() == text
    assert subprocess.run([require_tool("bgzip"), "-dc", path], capture_output=True, check=True).stdout == text


def test_a_sorted_output_has_an_index_that_bcftools_uses(tmp_path: Path) -> None:
    path = tmp_path / "out.vcf.gz"
    write(path, record(1, 5), record(1, 5), record(2, 3))
    assert (tmp_path / "out.vcf.gz.tbi").is_file()
    run = subprocess.run([require_tool("bcftools"), "index", "-s", path], capture_output=True, check=True)
    assert run.stdout == b"1\t.\t2\n2\t.\t1\n"


def test_positions_beyond_2_to_the_29_get_a_csi_index(tmp_path: Path) -> None:
    write(tmp_path / "out.vcf.gz", record(1, 5), record(1, 2**29 + 10))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.vcf.gz", "out.vcf.gz.csi"]


@pytest.mark.parametrize(
    "records",
    [[record(1, 6), record(1, 5)], [record(1, 5), record(2, 5), record(1, 9)]],
    ids=["positions", "contigs in two runs"],
)
def test_an_unsorted_output_has_no_index_and_is_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], records: list[bytes]
) -> None:
    write(tmp_path / "out.vcf.gz", *records)
    assert [p.name for p in tmp_path.iterdir()] == ["out.vcf.gz"]
    assert capfd.readouterr() == ("", "")


def test_a_stale_index_goes_when_its_output_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.vcf.gz"
    write(path, record(1, 2**29 + 10))
    assert (tmp_path / "out.vcf.gz.csi").is_file()
    write(path, record(1, 6), record(1, 5), force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out.vcf.gz"]


def test_a_wrong_count_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    for suffix in (".vcf", ".vcf.gz"):
        with pytest.raises(DiskError, match="of 2 records written, 1 came back"):
            write(tmp_path / f"out{suffix}", record(1, 5), n_records=2)
    assert list(tmp_path.iterdir()) == []


def test_an_exception_leaves_no_file(tmp_path: Path) -> None:
    for suffix in (".vcf", ".vcf.gz", ".bcf"):
        with pytest.raises(KeyboardInterrupt), VcfWriter(str(tmp_path / f"out{suffix}"), force=False) as writer:
            writer.write(HEADER)
            raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "out.vcf"
    path.write_text("mine")
    with pytest.raises(OptionError, match=r"out\.vcf exists\. Use --force"):
        VcfWriter(str(path), force=False)
    assert path.read_text() == "mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out.vcf"]
    write(path, record(1, 5), force=True)
    assert path.read_bytes() == HEADER + record(1, 5)


def test_an_exception_keeps_the_file_that_would_be_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.vcf"
    path.write_text("mine")
    with pytest.raises(DiskError):
        write(path, record(1, 5), force=True, n_records=3)
    assert path.read_text() == "mine"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="exists"), AtomicFile(tmp_path / "t.tsv", force=False) as target:
        target.file.write(b"ours")
        (tmp_path / "t.tsv").write_text("theirs")
        target.seal()
        target.publish()
    assert (tmp_path / "t.tsv").read_text() == "theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["t.tsv"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no/out.vcf", "does not exist. Create it"),
        ("out.txt", "names no format"),
        ("out", "names no format"),
        ("folder.vcf", "is a folder"),
        ("pipe.vcf", "no regular file"),
    ],
)
def test_an_impossible_output_is_an_option_error_before_any_work(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.vcf").mkdir()
    os.mkfifo(tmp_path / "pipe.vcf")
    with pytest.raises(OptionError, match=message):
        VcfWriter(str(tmp_path / name), force=True)


def test_a_folder_that_cannot_be_written_is_a_disk_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DiskError, match="cannot write in the folder"):
        VcfWriter(str(tmp_path / "out.vcf"), force=False)


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz"])
def test_a_full_disk_is_a_disk_error(tmp_path: Path, suffix: str) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    with VcfWriter(str(tmp_path / f"out{suffix}"), force=False) as writer:
        with open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), writer._atomic.file.fileno())  # type: ignore[union-attr]
        writer.write(HEADER)
        with pytest.raises(DiskError, match="No space left on device"):
            writer.seal(0)
            writer.publish()
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "out.vcf").symlink_to(tmp_path / "there" / "real.vcf")
    write(tmp_path / "out.vcf", record(1, 5))
    assert (tmp_path / "out.vcf").is_symlink()
    assert (tmp_path / "there" / "real.vcf").read_bytes() == HEADER + record(1, 5)


class Stdout:
    def __init__(self, buffer: io.RawIOBase | io.BytesIO) -> None:
        self.buffer = buffer

    def isatty(self) -> bool:
        return False


def test_stdout_gets_text(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.BytesIO()
    monkeypatch.setattr("sys.stdout", Stdout(out))
    with VcfWriter("-", force=False) as writer:
        writer.write(HEADER[:30])
        writer.write(HEADER[30:] + record(1, 5)[:4])
        writer.write(record(1, 5)[4:] + record(1, 6)[:-1])
        writer.seal(2)
        writer.publish()
    assert out.getvalue() == HEADER + record(1, 5) + record(1, 6)[:-1]


def test_a_reader_that_went_away_is_a_broken_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with open(write_end, "wb", buffering=0) as pipe:
        monkeypatch.setattr("sys.stdout", Stdout(pipe))
        with pytest.raises(BrokenPipeError), VcfWriter("-", force=False) as writer:
            writer.write(HEADER)


def test_checking_a_target_makes_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed while it checks must not leave a file behind."""
    monkeypatch.setattr("builtins.open", lambda *args: pytest.fail("a file was opened"))
    check_target(tmp_path / "out.vcf", force=False)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(DiskError, match="cannot write in the folder"):
        check_target(tmp_path / "out.vcf", force=False)
