"""Lines of small text files, whatever their ends and compression."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from varfm.errors import InputError
from varfm.io.lines import read_lines


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a\n", [b"a"]),
        (b"a\nb", [b"a", b"b"]),
        (b"a\n\nb\n", [b"a", b"", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\r\nb\r", [b"a", b"b"]),
    ],
)
def test_lines_come_without_their_ends(tmp_path: Path, content: bytes, lines: list[bytes]) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    assert list(read_lines(path)) == lines
    path.write_bytes(gzip.compress(content))
    assert list(read_lines(path)) == lines


def test_lines_are_whole_where_the_pieces_of_the_file_meet(tmp_path: Path) -> None:
    lines = [b"x" * (n % 50) + b"\t%d" % n for n in range(150_000)]
    path = tmp_path / "a.txt"
    path.write_bytes(b"\r\n".join(lines))  # more than four megabytes
    assert list(read_lines(path)) == lines


def test_a_cut_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"a\nb\n")[:-6])
    with pytest.raises(InputError, match=r"a\.txt\.gz"):
        list(read_lines(path))
