"""Any input as a stream of uncompressed bytes: a path or stdin; plain, gzip or BGZF; text or BCF."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Literal

from varfm.errors import InputError
from varfm.io.inflate import READ_BYTES, inflate_bgzf, inflate_gzip, is_bgzf

STDIN = "-"

_FOREIGN = {
    b"\x1f\x8b": "is compressed twice; take one layer of gzip off",
    b"BZh": "is compressed by bzip2; pipe it through `bzip2 -dc`",
    b"\xfd7zXZ\x00": "is compressed by xz; pipe it through `xz -dc`",
    b"\x28\xb5\x2f\xfd": "is compressed by zstd; pipe it through `zstd -dc`",
    b"PK\x03\x04": "is a zip archive; unpack it first",
    b"BAM\x01": "holds alignments (BAM), not text",
    b"CRAM": "holds alignments (CRAM), not text",
    b"BCF\x02\x01": "is BCF 2.1; convert it with `bcftools view -Ob`",
    b"BCF\x04": "is BCF 1; convert it with an old bcftools",
    b"\xff\xfe": "is text in UTF-16; convert it with `iconv -f UTF-16 -t UTF-8`",
    b"\xfe\xff": "is text in UTF-16; convert it with `iconv -f UTF-16 -t UTF-8`",
    b"\xef\xbb\xbf": "begins with a byte order mark; take off its first three bytes (`tail -c +4`)",
}
_BCF = b"BCF\x02\x02"


class ByteStream:
    """The uncompressed bytes of one input, read once from its start; a context manager.

    Attributes:
        name: As errors call the input: the path, or `<stdin>`.
        is_bcf: True if the bytes are BCF 2.2 and not text.
        packing: How they are stored.
    """

    def __init__(self, name: str, file: BinaryIO, owns_file: bool) -> None:
        self.name = name
        self._file = file
        self._owns_file = owns_file
        self.n_read = 0
        self.packing: Literal["plain", "gzip", "bgzf"] = "plain"
        self._chunks = self._decompressed()
        try:
            self._first = self._first_chunk()
            self.is_bcf = self._first.startswith(_BCF)
            self._check_start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> ByteStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[bytes]:
        """Give the bytes in pieces of about a megabyte, none of them empty; nothing for an empty input.

        Raises:
            InputError: If reading fails, or the compressed data are cut, damaged or followed by other bytes.
        """
        if self._first:
            yield self._first
            self._first = b""
        yield from self._chunks

    def close(self) -> None:
        """Close the file; stdin stays open."""
        if self._owns_file:
            self._file.close()

    def _read(self, size: int) -> bytes:
        pieces = []
        try:
            while size > 0 and (piece := self._file.read(size)):  # a raw pipe gives what it has
                pieces.append(piece)
                size -= len(piece)
        except OSError as error:
            raise InputError(f"{self.name}: reading failed: {error.strerror or error}. Copy the file again.") from error
        data = b"".join(pieces)
        self.n_read += len(data)
        return data

    def _decompressed(self) -> Iterator[bytes]:
        start = self._read(READ_BYTES)
        if start.startswith(b"\x1f\x8b"):
            self.packing = "bgzf" if is_bgzf(start) else "gzip"
            yield from (inflate_bgzf if self.packing == "bgzf" else inflate_gzip)(self.name, self._read, start)
            return
        while start:
            yield start
            start = self._read(READ_BYTES)

    def _first_chunk(self) -> bytes:
        first = b""
        for chunk in self._chunks:
            first += chunk
            if len(first) >= 8:  # enough for every magic number
                break
        return first

    def _check_start(self) -> None:
        for magic, what in _FOREIGN.items():
            if self._first.startswith(magic):
                raise InputError(f"{self.name} {what}.")


def open_stream(source: str) -> ByteStream:
    """Open an input as a stream of uncompressed bytes.

    Args:
        source: A path, also of a named pipe, or `-` for stdin.

    Raises:
        InputError: If it is missing, unreadable or a folder, damaged at its start, or in a format nobody here reads.
    """
    if source == STDIN:
        return ByteStream("<stdin>", _stdin(), owns_file=False)
    try:
        if stat.S_ISDIR(os.stat(source).st_mode):
            raise InputError(f"{source} is a folder. Name a file in it.")
        file = open(source, "rb", buffering=0)  # a buffer has a lock: closing would wait for a read that hangs
    except FileNotFoundError:
        raise InputError(f"{source}: there is no such file. Check the path.") from None
    except PermissionError:
        raise InputError(f"{source}: no permission to read it. Give a file that you may read.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{source}: cannot be opened: {getattr(error, 'strerror', None) or error}.") from error
    return ByteStream(source, file, owns_file=True)


def _stdin() -> BinaryIO:
    if sys.stdin is None or sys.stdin.closed:
        raise InputError("<stdin> is closed. Give the path of a file, or pipe the data in.")
    raw: BinaryIO = getattr(sys.stdin.buffer, "raw", sys.stdin.buffer)  # without a lock, as above
    return raw
