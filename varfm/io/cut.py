"""One shard of a VCF: which of its records, and their text. Cut by bytes or by count, never by an index.

A file's records are cut at places that follow from its size alone, and a record belongs to the shard in which its first
byte lies: so every record is in exactly one shard, and no process needs to know what the others read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from varfm.errors import InputError, OptionError
from varfm.io.inflate import BGZF_MAX, READ_BYTES, bgzf_blocks, find_block
from varfm.io.scan import MAX_LINE_BYTES

_LF = 10
_SCAN_BYTES = 1 << 16


class Shard(NamedTuple):
    """One of `total` parts of the records; `number` counts from 1."""

    number: int
    total: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`.

        Raises:
            OptionError: If it is something else, or I is not from 1 to N.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        shard = cls(int(match[1]), int(match[2])) if match else cls(0, 0)
        if not 1 <= shard.number <= shard.total:
            raise OptionError(f"--shard {text}: give I/N with I from 1 to N, e.g. 3/40.")
        return shard

    def span(self, size: int) -> tuple[int, int]:
        """Give where this part of `size` equal things begins and ends."""
        return size * (self.number - 1) // self.total, size * self.number // self.total

    def __str__(self) -> str:
        """Write `I/N`."""
        return f"{self.number}/{self.total}"


Note = Callable[[float], None]
"""Told which share of a shard was read."""


def plain_text(source: str, header_bytes: int, shard: Shard, note: Note) -> Iterator[bytes]:
    """Give the records of a shard of a file that is not compressed: its bytes after the header, in equal parts.

    Args:
        source: The path of a regular file.
        header_bytes: Length of the header.
        shard: Which part.
        note: Told of every step.

    Raises:
        InputError: If reading fails, or a line is longer than 256 MiB.
    """
    with _Reader(source) as reader:
        span = shard.span(reader.size - header_bytes)
        start, end = (_line_start(reader, header_bytes, header_bytes + offset) for offset in span)
        reader.seek(place := start)
        while place < end:
            data = reader.read(min(READ_BYTES, end - place))
            if not data:
                raise InputError(f"{source}: the file became shorter while it was read. Run again.")
            place += len(data)
            note((place - start) / (end - start))
            yield data


def _line_start(reader: _Reader, first: int, place: int) -> int:
    """Find the first line that begins at `place` or behind it; `first` is where the first record begins."""
    if place <= first or place >= reader.size:
        return max(first, min(place, reader.size))
    reader.seek(place - 1)  # if a line ends there, the next one begins at `place`
    behind = place - 1
    while data := reader.read(_SCAN_BYTES):
        found = data.find(b"\n")
        if found >= 0:
            return behind + found + 1
        behind += len(data)
        _check_length(reader.name, behind - place)
    return reader.size


class _Place(NamedTuple):
    """A byte of the text of a BGZF file: where its block begins, and its number in the block's text."""

    block: int
    offset: int


def bgzf_text(source: str, header_bytes: int, shard: Shard, note: Note) -> Iterator[bytes]:
    """Give the records of a shard of a BGZF file: those that begin in the blocks that begin in its part of the bytes.

    Args:
        source: The path of a regular file.
        header_bytes: Length of the header, uncompressed.
        shard: Which part.
        note: Told of every step.

    Raises:
        InputError: If reading fails, a block is damaged, or a line is longer than 256 MiB.
    """
    with _Reader(source) as reader:
        first = _place_of(reader, header_bytes)
        span = shard.span(reader.size - first.block)
        start, end = (_record_start(reader, first, first.block + offset) for offset in span)
        if start >= end:
            return
        for block, text in _blocks(reader, start.block):
            if block > end.block:
                return
            piece = text[start.offset if block == start.block else 0 : end.offset if block == end.block else None]
            note((block - start.block) / (end.block - start.block + 1))
            if piece:
                yield bytes(piece)


def _blocks(reader: _Reader, place: int) -> Iterator[tuple[int, bytearray]]:
    reader.seek(place)
    for blocks in bgzf_blocks(reader.name, reader.read, b"", place):
        yield from blocks


def _place_of(reader: _Reader, n_bytes: int) -> _Place:
    """Find the byte behind the first `n_bytes` of the text."""
    for block, text in _blocks(reader, 0):
        if n_bytes <= len(text):
            return _Place(block, n_bytes)
        n_bytes -= len(text)
    return _Place(reader.size, 0)


def _record_start(reader: _Reader, first: _Place, place: int) -> _Place:
    """Find the first record that begins in a block that begins at `place` of the file or behind it.

    Args:
        reader: The file.
        first: Where the first record begins.
        place: Any place in the file.
    """
    if place <= first.block or place >= reader.size:
        return max(first, _Place(min(place, reader.size), 0))
    lead = 2 * BGZF_MAX
    while True:
        # Whether a record begins with a block is told by the text's byte before it, in a block with text.
        known = _block_start(reader, place - lead) if place - lead > first.block else first.block
        before, behind = b"", 0
        for block, text in _blocks(reader, known):
            if block < place:
                before = bytes(text[-1:]) or before
            elif not before:
                break
            elif before == b"\n":
                return _Place(block, 0)
            elif (found := text.find(b"\n")) >= 0:
                return _Place(block, found + 1)
            else:
                behind += len(text)
                _check_length(reader.name, behind)
        else:
            return _Place(reader.size, 0)
        lead *= 2


def _block_start(reader: _Reader, place: int) -> int:
    """Find the first whole block that begins at `place` of the file or behind it; the file's end, if there is none."""
    reader.seek(place)
    found = find_block(reader.read(2 * BGZF_MAX))
    return reader.size if found is None else place + found


def lines_between(chunks: Iterable[bytes], first: int, last: int | None = None) -> Iterator[bytes]:
    """Give the lines from number `first` to before number `last` (None: to the end), counted from 0, in pieces."""
    n_before = 0
    for chunk in chunks:
        if last is not None and n_before >= last:
            return
        n_lines = chunk.count(b"\n")
        if n_before + n_lines >= first:
            yield from filter(None, [_cut(chunk, first - n_before, None if last is None else last - n_before)])
        n_before += n_lines


def _cut(chunk: bytes, first: int, last: int | None) -> bytes:
    """Cut away what stands before line `first` and from line `last` on."""
    ends = np.flatnonzero(np.frombuffer(chunk, np.uint8) == _LF) + 1
    start = int(ends[first - 1]) if first > 0 else 0
    stop = int(ends[last - 1]) if last is not None and 0 < last <= len(ends) else len(chunk)
    return chunk[start:stop]


def _check_length(name: str, n_bytes: int) -> None:
    if n_bytes > MAX_LINE_BYTES:
        raise InputError(f"{name}: a line is longer than {MAX_LINE_BYTES >> 20} MiB. Is this a VCF?")


class _Reader:
    """A regular file, read from any place."""

    def __init__(self, source: str) -> None:
        self.name = source
        try:
            self._file: BinaryIO = open(source, "rb")
            self.size = os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise InputError(f"{source}: cannot be opened: {error.strerror or error}.") from error

    def __enter__(self) -> _Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def seek(self, place: int) -> None:
        self._file.seek(place)

    def read(self, n_bytes: int) -> bytes:
        try:
            return self._file.read(n_bytes)
        except OSError as error:
            raise InputError(f"{self.name}: reading failed: {error.strerror or error}. Copy the file again.") from error
