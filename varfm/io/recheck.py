"""A finished output read back: counted, and indexed where it is sorted."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator

from varfm.errors import DiskError, InputError
from varfm.io.htslib import quiet_htslib
from varfm.io.streams import open_stream

_NEAR = 64


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
            return count_bcf(stream) if stream.is_bcf else _count_text(stream)
    except InputError as error:
        raise DiskError(f"{shown}: what was written does not come back from the disk: {error}") from error


class RecordCount:
    """Counts the records of a VCF whose text comes piece by piece; blank lines at the end are none."""

    def __init__(self) -> None:
        self._n_lines = 0
        self._n_header = 0
        self._in_header = True
        self._end = b"\n"  # the line ends that the text ends with, all of them

    @property
    def n_records(self) -> int:
        """Records so far; a last one without line end counts."""
        n_ends = self._end.count(b"\n")
        return self._n_lines + (not n_ends) - max(0, n_ends - 1) - self._n_header

    def add(self, data: bytes) -> None:
        """Count further bytes."""
        if not data:
            return
        self._n_lines += data.count(b"\n")
        if self._in_header:
            self._n_header += (self._end[-1:] == b"\n" and data.startswith(b"#")) + data.count(b"\n#")
            self._in_header = self._n_lines <= self._n_header
        end = _line_ends(data)
        self._end = self._end + end if len(end) == len(data) else end


def _line_ends(data: bytes) -> bytes:
    """Give the line ends that a text ends with, from the last one of a line that is not blank on."""
    near = data[-_NEAR:]
    if kept := len(near.rstrip(b"\r\n")):
        return near[kept:]
    return data[len(data.rstrip(b"\r\n")) :]


def _count_text(chunks: Iterable[bytes]) -> int:
    count = RecordCount()
    for chunk in chunks:
        count.add(chunk)
    return count.n_records


def count_bcf(chunks: Iterable[bytes]) -> int:
    """Count the records of uncompressed BCF.

    Raises:
        InputError: If it is cut or damaged.
    """
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
