"""Bytes of a file by their place: plain, or through BGZF blocks and their `.gzi`, each block checked when read."""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_right
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

_HEADER = struct.Struct("<4sIBBH2sHH")  # magic and flags, time, level, system, extra length, "BC", 2, block size - 1
_N_RECENT = 4
_MAGIC = b"\x1f\x8b\x08\x04"


class StaleIndex(Exception):
    """An index does not describe its file. Never reaches a user: another index is made."""


class Text(Protocol):
    """The decompressed bytes of a file."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Give the bytes from `offset`, fewer at the end of the file."""


def _block_size(head: bytes) -> int | None:
    if len(head) < _HEADER.size:
        return None
    magic, _, _, _, extra, name, n_name, size = _HEADER.unpack(head)
    # htslib, bgzip and samtools write exactly this header and read no other one.
    return size + 1 if (magic, extra, name, n_name) == (_MAGIC, 6, b"BC", 2) else None


class _File:
    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self._n_bytes = path.stat().st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _at(self, offset: int, n_bytes: int) -> bytes:
        self._file.seek(max(0, offset))
        return self._file.read(n_bytes)


class PlainText(_File):
    """The bytes of a file that is not compressed."""

    @property
    def size(self) -> int:
        """Number of bytes."""
        return self._n_bytes

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Give the bytes from `offset`, fewer at the end of the file."""
        return self._at(offset, n_bytes)


class BgzfText(_File):
    """The decompressed bytes of a BGZF file, found through its `.gzi`.

    Raises:
        StaleIndex: On opening and reading, if the `.gzi` is not this file's.
    """

    def __init__(self, path: Path, gzi: Path) -> None:
        self._packed, self._unpacked = _read_gzi(gzi)
        self._recent: dict[int, tuple[bytes, int]] = {}
        super().__init__(path)
        if self._packed[-1] >= self._n_bytes:
            self._file.close()
            raise StaleIndex("it speaks of more blocks than there are")

    @property
    def size(self) -> int:
        """Number of decompressed bytes; reads the last blocks."""
        place, size, n_blocks = self._packed[-1], self._unpacked[-1], 0
        while place < self._n_bytes:
            data, place = self._block(place)
            size += len(data)
            n_blocks += bool(data)
            if n_blocks > 1:  # htslib finds nothing beyond the last block that is listed
                raise StaleIndex("its .gzi lacks blocks")
        return size

    def read(self, offset: int, n_bytes: int) -> bytes:
        """Give the decompressed bytes from `offset`, fewer at the end of the file."""
        number = bisect_right(self._unpacked, offset) - 1
        place, skip = self._packed[number], offset - self._unpacked[number]
        parts, n_found = [], -skip
        while n_found < n_bytes and place < self._n_bytes:
            data, place = self._block(place)
            number += 1
            if number < len(self._packed) and (self._packed[number], self._unpacked[number]) != (
                place,
                self._unpacked[number - 1] + len(data),
            ):
                raise StaleIndex("its blocks are not the file's")
            parts.append(data)
            n_found += len(data)
        return b"".join(parts)[skip : skip + n_bytes]

    def _block(self, place: int) -> tuple[bytes, int]:
        """Give a block's bytes and the place of the next one; the last few are kept, since reads come in file order."""
        if place not in self._recent:
            if len(self._recent) >= _N_RECENT:
                del self._recent[min(self._recent)]
            self._recent[place] = self._unpack(place)
        return self._recent[place]

    def _unpack(self, place: int) -> tuple[bytes, int]:
        head = self._at(place, _HEADER.size)
        n_packed = _block_size(head)
        if n_packed is None:
            raise StaleIndex("its blocks are not the file's")
        packed = self._at(place + _HEADER.size, n_packed - _HEADER.size)
        try:
            data = zlib.decompress(packed[:-8], wbits=-15)
        except zlib.error:
            raise StaleIndex("a block is damaged") from None
        if packed[-8:] != struct.pack("<II", zlib.crc32(data), len(data)):
            raise StaleIndex("a block is damaged")
        return data, place + n_packed


def _read_gzi(path: Path) -> tuple[list[int], list[int]]:
    """Read the places of blocks, in the file and in the text; both begin with 0."""
    data = path.read_bytes()
    n_blocks = int.from_bytes(data[:8], "little")
    if len(data) != 8 + 16 * n_blocks:
        raise StaleIndex("its .gzi is no block index")
    numbers = struct.unpack(f"<{2 * n_blocks}Q", data[8:])
    packed, unpacked = [0, *numbers[::2]], [0, *numbers[1::2]]
    if any(b <= a for a, b in pairwise(packed)) or sorted(unpacked) != unpacked:
        raise StaleIndex("its .gzi is out of order")
    return packed, unpacked
