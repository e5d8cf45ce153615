"""A finished output read back: counted, and indexed where it is sorted."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator

from varfm.errors import DiskError, InputError
from varfm.io.htslib import quiet_htslib
from varfm.io.streams import open_stream


def count_records(path: str, shown: str) -> int:
    """Read a VCF or BCF back, all its checksums included, and count its records.

    Args:
        path: The file.
        shown: As errors call it.

    Raises:
        DiskError: If it is not the whole file that was written.
    """
    try:
        with open_stream(path) as stream:
            return _count_bcf(stream) if stream.is_bcf else _count_text(stream)
    except InputError as error:
        raise DiskError(f"{shown}: what was written does not come back from the disk: {error}") from error


def _count_text(chunks: Iterable[bytes]) -> int:
    n_lines = n_header = 0
    last = b"\n"
    in_header = True
    for chunk in chunks:
        n_lines += chunk.count(b"\n")
        if in_header:
            n_header += (last == b"\n" and chunk[:1] == b"#") + chunk.count(b"\n#")
            in_header = n_lines <= n_header
        last = chunk[-1:]
    return n_lines + (last != b"\n") - n_header


def _count_bcf(chunks: Iterable[bytes]) -> int:
    reader = ChunkReader(iter(chunks))
    (header_size,) = struct.unpack("<I", reader.take(9)[5:])
    reader.skip(header_size)
    count = 0
    while not reader.at_end():
        shared, individual = struct.unpack("<II", reader.take(8))
        reader.skip(shared + individual)
        count += 1
    return count


class ChunkReader:
    """Takes exact numbers of bytes from a stream of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._data = b""
        self._place = 0

    def at_end(self) -> bool:
        """Tell whether nothing is left."""
        while self._place >= len(self._data):
            chunk = next(self._chunks, None)
            if chunk is None:
                return True
            self._place -= len(self._data)
            self._data = chunk
        return False

    def take(self, size: int) -> bytes:
        """Give the next bytes.

        Raises:
            InputError: If fewer are left.
        """
        pieces = []
        while size > 0:
            if self.at_end():
                raise InputError("the data end inside a BCF record.")
            piece = self._data[self._place : self._place + size]
            pieces.append(piece)
            self._place += len(piece)
            size -= len(piece)
        return b"".join(pieces)

    def skip(self, size: int) -> None:
        """Pass over the next bytes.

        Raises:
            InputError: If fewer are left.
        """
        while size > 0:
            if self.at_end():
                raise InputError("the data end inside a BCF record.")
            step = min(size, len(self._data) - self._place)
            self._place += step
            size -= step


def make_index(path: str) -> str | None:
    """Index a BGZF VCF (`.tbi`, or `.csi` where a position needs it) or a BCF (`.csi`), if it is sorted.

    Args:
        path: Ends with `.vcf.gz` or `.bcf`.

    Returns:
        The path of the index, or None if the records are not sorted or a position is beyond what an index holds.
    """
    for suffix in (".csi",) if path.endswith(".bcf") else (".tbi", ".csi"):
        if _indexed(path, suffix):
            return path + suffix
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + suffix)
    return None


def _indexed(path: str, suffix: str) -> bool:
    import pysam
    from pysam import bcftools
    from pysam.utils import SamtoolsError

    try:
        with quiet_htslib():
            if path.endswith(".bcf"):
                bcftools.index("--force", "--csi", path)
            else:
                pysam.tabix_index(path, preset="vcf", force=True, csi=suffix == ".csi", keep_original=True)
    except (OSError, ValueError, SamtoolsError):
        return False
    return os.path.isfile(path + suffix)
