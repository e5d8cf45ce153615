from __future__ import annotations

import gzip
import io
import os
import random
import zlib
from pathlib import Path

import pytest

from varfm.errors import InputError
from varfm.io.deflate import BgzfWriter
from varfm.io.inflate import BGZF_EOF
from varfm.io.streams import open_stream

TEXT = b"".join(b"1\t%d\trs\xe9\tA\tC\n" % (k * k) for k in range(30_000))


def bgzf(text: bytes) -> bytes:
    out = io.BytesIO()
    with BgzfWriter(out) as writer:
        writer.write(text)
    return out.getvalue()


def read(path: Path) -> bytes:
    with open_stream(str(path)) as stream:
        return b"".join(stream)


def written(folder: Path, data: bytes) -> Path:
    path = folder / "in"
    path.write_bytes(data)
    return path


def block_edges(data: bytes) -> list[int]:
    edges, place = [0], 0
    while place < len(data):
        place += int.from_bytes(data[place + 16 : place + 18], "little") + 1
        edges.append(place)
    return edges


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        gzip.compress(TEXT),
        gzip.compress(TEXT[:70_000]) + gzip.compress(b"", mtime=0) + gzip.compress(TEXT[70_000:]),
        bgzf(TEXT),
        bgzf(TEXT[:70_000]) + bgzf(TEXT[70_000:]),
    ],
    ids=["plain", "gzip", "gzip of three members", "BGZF", "two BGZF files in one"],
)
def test_any_compression_gives_the_same_bytes(tmp_path: Path, data: bytes) -> None:
    assert read(written(tmp_path, data)) == TEXT


def test_an_empty_file_gives_no_bytes(tmp_path: Path) -> None:
    assert read(written(tmp_path, b"")) == b""


def test_bgzf_cut_at_every_block_edge_is_truncated(tmp_path: Path) -> None:
    data = bgzf(TEXT)
    edges = block_edges(data)
    assert len(edges) > 7 and edges[-1] == len(data)
    for edge in edges[1:-1]:
        with pytest.raises(InputError, match="truncated"):
            read(written(tmp_path, data[:edge]))


def test_bgzf_cut_anywhere_is_truncated(tmp_path: Path) -> None:
    data = bgzf(TEXT)
    for place in random.Random(1).sample(range(3, len(data)), 50):
        with pytest.raises(InputError, match="truncated"):
            read(written(tmp_path, data[:place]))


def test_gzip_cut_anywhere_is_truncated(tmp_path: Path) -> None:
    data = gzip.compress(TEXT)
    for place in [*random.Random(2).sample(range(3, len(data)), 20), len(data) - 1]:
        with pytest.raises(InputError, match="truncated"):
            read(written(tmp_path, data[:place]))


def test_a_damaged_bgzf_block_is_named_by_its_place(tmp_path: Path) -> None:
    data = bytearray(bgzf(TEXT))
    second = block_edges(bytes(data))[1]
    data[second + 500] ^= 0xFF
    with pytest.raises(InputError, match=rf"in: the compressed block at byte {second:,} is corrupt"):
        read(written(tmp_path, bytes(data)))


@pytest.mark.parametrize("compress", [bgzf, gzip.compress], ids=["BGZF", "gzip"])
def test_a_wrong_checksum_is_an_error(tmp_path: Path, compress: object) -> None:
    data = bytearray(compress(b"1\t2\n" * 9))  # type: ignore[operator]
    end = len(data) - (28 if data.endswith(BGZF_EOF) else 0)
    data[end - 8] ^= 1
    with pytest.raises(InputError, match="block at byte 0 is corrupt"):
        read(written(tmp_path, bytes(data)))


@pytest.mark.parametrize("compress", [bgzf, gzip.compress], ids=["BGZF", "gzip"])
@pytest.mark.parametrize("rest", [b"x", b"\0" * 40, b"garbage that is long enough"])
def test_bytes_after_the_end_are_an_error(tmp_path: Path, compress: object, rest: bytes) -> None:
    data = compress(TEXT)  # type: ignore[operator]
    with pytest.raises(InputError, match=rf"bytes after the end of the compressed data, from byte {len(data):,} on"):
        read(written(tmp_path, data + rest))


def test_plain_gzip_after_bgzf_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bytes after the end"):
        read(written(tmp_path, bgzf(TEXT) + gzip.compress(TEXT)))


def test_a_block_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = deflater.compress(b"A" * 5_000_000) + deflater.flush()
    block = bytes.fromhex("1f8b08040000000000ff060042430200") + (len(body) + 25).to_bytes(2, "little") + body + bytes(8)
    with pytest.raises(InputError, match="corrupt"):
        read(written(tmp_path, block + BGZF_EOF))


def test_a_gzip_bomb_comes_in_small_pieces(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(bytes(20_000_000)))
    with open_stream(str(path)) as stream:
        sizes = [len(chunk) for chunk in stream]
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= 1 << 20


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ("##fileformat".encode("utf-16"), "UTF-16"),
        (b"\xfe\xff\0#\0#", "UTF-16"),
        (b"\xef\xbb\xbf##fileformat", "byte order mark"),
        (gzip.compress(gzip.compress(b"##fileformat", mtime=0), mtime=0), "compressed twice"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\x00...", "xz"),
        (b"\x28\xb5\x2f\xfd....", "zstd"),
        (b"PK\x03\x04....", "zip archive"),
        (bgzf(b"BAM\x01...."), "BAM"),
        (b"CRAM....", "CRAM"),
    ],
)
def test_foreign_formats_are_named(tmp_path: Path, data: bytes, word: str) -> None:
    with pytest.raises(InputError, match=word):
        read(written(tmp_path, data))


def test_a_missing_file_a_folder_and_an_odd_name_are_input_errors(tmp_path: Path) -> None:
    for source, message in ((tmp_path / "no", "no such file"), (tmp_path, "is a folder")):
        with pytest.raises(InputError, match=message):
            open_stream(str(source))
    with pytest.raises(InputError, match="cannot be opened"):
        open_stream("a\0b")


def test_an_unreadable_file_is_an_input_error(tmp_path: Path) -> None:
    path = written(tmp_path, b"x")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(InputError, match="no permission"):
        open_stream(str(path))


def test_bcf_is_recognised_plain_and_compressed(tmp_path: Path) -> None:
    for data in (b"BCF\2\2\0\0\0\0", bgzf(b"BCF\2\2\0\0\0\0")):
        with open_stream(str(written(tmp_path, data))) as stream:
            assert stream.is_bcf
            assert b"".join(stream) == b"BCF\2\2\0\0\0\0"


def test_stdin_is_read_and_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO(bgzf(TEXT))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(raw))
    with open_stream("-") as stream:
        assert stream.name == "<stdin>"
        assert b"".join(stream) == TEXT
    assert not raw.closed
