"""Cutting a stream of text into lines and lines into columns, over whole blocks at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from varfm.digits import counted
from varfm.errors import InputError
from varfm.io.block import CHROM, INFO, Block
from varfm.io.header import VcfHeader, shown

MAX_LINE_BYTES = 256 << 20
MAX_BLOCK_BYTES = 4 << 20  # measured on 2,504 samples: larger ones fall out of the cache and take twice as long

_LF, _CR, _TAB = 10, 13, 9
_LONG_LINE = 600  # bytes; beyond, most tabs stand between samples, and finding the first eight one by one is faster


def cut_lines(
    name: str, chunks: Iterable[bytes], n_lines: int, first_line: int
) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
    """Give whole lines, `n_lines` at a time, or fewer where they reach 4 MiB; `chunks` do not decide where cuts fall.

    Args:
        name: As errors call the file.
        chunks: The bytes, in pieces of any size.
        n_lines: At least 1.
        first_line: 1-based number of the first line, for errors.

    Returns:
        Pairs of the lines' bytes and the places (n + 1,) where each begins, the end last. The very last line may lack
        its LF.

    Raises:
        InputError: If a line is longer than 256 MiB.
    """
    parts: list[bytes] = []
    ends: list[NDArray[np.int64]] = []
    size = n_ends = n_given = line_start = 0
    for chunk in chunks:
        found = np.flatnonzero(np.frombuffer(chunk, np.uint8) == _LF) + (size + 1)
        parts.append(chunk)
        ends.append(found)
        size += len(chunk)
        n_ends += len(found)
        line_start = int(found[-1]) if len(found) else line_start
        if size - line_start > MAX_LINE_BYTES:
            line = first_line + n_given + n_ends
            raise InputError(f"{name}, line {line:,}: longer than {MAX_LINE_BYTES >> 20} MiB. Is this a VCF?")
        if n_ends >= n_lines or (n_ends and line_start >= MAX_BLOCK_BYTES):
            data, rest = b"".join(parts), np.concatenate(ends)
            used = 0
            for piece in _full_blocks(data, rest, n_lines):
                used += len(piece[0])
                n_given += len(piece[1]) - 1
                yield piece
            rest = rest[rest > used] - used
            parts, ends, size, n_ends = [data[used:]], [rest], size - used, len(rest)
            line_start -= used
    if size:
        data, rest = b"".join(parts), np.concatenate(ends)
        if not data.endswith(b"\n"):
            rest = np.append(rest, size)
        yield data, np.concatenate([np.zeros(1, np.int64), rest])


def _full_blocks(data: bytes, ends: NDArray[np.int64], n_lines: int) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
    start = first = 0
    while first < len(ends):
        # A block is full with n_lines lines, or with the line that reaches the limit in bytes.
        last = min(first + n_lines - 1, int(np.searchsorted(ends, start + MAX_BLOCK_BYTES)))
        if last >= len(ends):
            return
        end = int(ends[last])
        yield data[start:end], np.concatenate([[start], ends[first : last + 1]]) - start
        start, first = end, last + 1


def blank_end(data: bytes, starts: NDArray[np.int64]) -> tuple[int, bytes]:
    """Give the number of lines before the blank lines at the end of some lines, and these blank lines.

    Args:
        data: Whole lines; the last one may lack its LF.
        starts: (n + 1,) where each begins, the end last.
    """
    if not data.endswith((b"\n\n", b"\n\r\n", b"\n\r")) and data not in (b"\n", b"\r\n", b"\r"):
        return len(starts) - 1, b""
    n_lines = int(np.searchsorted(starts, len(data.rstrip(b"\r\n"))))
    return n_lines, data[starts[n_lines] :]


def block_of(
    name: str, header: VcfHeader, data: bytes, starts: NDArray[np.int64], first_line: int, first_record: int
) -> Block:
    """Find the columns of whole lines.

    Args:
        name: As errors call the file.
        header: Says how many columns there must be.
        data: The lines.
        starts: (n + 1,) where each line begins, the length of `data` last.
        first_line: 1-based line number of the first one.
        first_record: 0-based record number of the first one.

    Raises:
        InputError: If a line is blank, a header line, has NUL bytes, an empty CHROM or not the header's columns.
    """
    codes = np.frombuffer(data, np.uint8)
    line_ends = starts[1:] - (codes[starts[1:] - 1] == _LF)
    line_ends = line_ends - ((line_ends > starts[:-1]) & (codes[line_ends - 1] == _CR))
    find = _ends_of_long if len(data) > _LONG_LINE * len(line_ends) else _ends_of_short
    ends = find(data, codes, starts, line_ends, header.n_columns)
    if ends is None or b"\0" in data or (codes[starts[:-1]] == ord("#")).any() or (ends[:, CHROM] == starts[:-1]).any():
        raise _first_fault(name, header, data, starts, first_line)
    return Block(name, data, starts, ends, first_line, first_record)


def _ends_of_short(
    data: bytes, codes: NDArray[np.uint8], starts: NDArray[np.int64], line_ends: NDArray[np.int64], n_columns: int
) -> NDArray[np.int64] | None:
    """Find the first eight columns of every line, (n, 8); None if a line has another number of columns."""
    n_tabs = n_columns - 1
    found = np.flatnonzero(codes == _TAB)
    if len(found) != n_tabs * len(line_ends):
        return None
    tabs = found.reshape(len(line_ends), n_tabs)
    if (tabs[:, 0] < starts[:-1]).any() or (tabs[:, -1] >= starts[1:]).any():
        return None
    ends = np.empty((len(line_ends), 8), np.int64)
    n_taken = min(n_tabs, 8)
    ends[:, :n_taken] = tabs[:, :n_taken]
    if n_taken == INFO:
        ends[:, INFO] = line_ends
    return ends


def _ends_of_long(
    data: bytes, codes: NDArray[np.uint8], starts: NDArray[np.int64], line_ends: NDArray[np.int64], n_columns: int
) -> NDArray[np.int64] | None:
    """Do the same line by line, without an array of all tabs."""
    is_tab = codes == _TAB
    ends = np.empty((len(line_ends), 8), np.int64)
    find = data.find
    for record, (start, end) in enumerate(zip(starts.tolist(), line_ends.tolist(), strict=False)):
        if np.count_nonzero(is_tab[start:end]) != n_columns - 1:
            return None
        place, row = start - 1, []
        for _ in range(7):
            place = find(b"\t", place + 1)
            row.append(place)
        row.append(find(b"\t", place + 1) if n_columns > 8 else end)
        ends[record] = row
    return ends


def _first_fault(name: str, header: VcfHeader, data: bytes, starts: NDArray[np.int64], first_line: int) -> InputError:
    """Say what is wrong with the first bad line."""
    for record in range(len(starts) - 1):
        line = data[int(starts[record]) : int(starts[record + 1])].removesuffix(b"\n").removesuffix(b"\r")
        fault = _fault(header, line)
        if fault:
            return InputError(f"{name}, line {first_line + record:,}: {fault}")
    return InputError(f"{name}, line {first_line:,}: malformed records. Check the file with `bcftools view`.")


def _fault(header: VcfHeader, line: bytes) -> str | None:
    n_columns = line.count(b"\t") + 1
    if not line.strip():
        return "a blank line among the records. Delete it."
    if line.startswith(b"#"):
        return f"the header line {shown(line)} after the header's end. Join VCF files with `bcftools concat`."
    if b"\0" in line:
        return "NUL bytes. The file is damaged or no text: copy or convert it again."
    if n_columns < 8 and len(re.split(rb"[\t ]+", line)) >= 8:
        return f"spaces where tabs belong: {shown(line)}. Separate columns by single tabs."
    if n_columns < 8:
        return (
            f"{counted(n_columns, 'column')} where at least 8 are needed: {shown(line)}. The line may be cut short: "
            "copy the file again, or mend the line."
        )
    if n_columns != header.n_columns:
        return (
            f"{counted(n_columns, 'column')} where the #CHROM line has {header.n_columns:,}: {shown(line)}. "
            "Mend the line, or the #CHROM line."
        )
    if line.startswith(b"\t"):
        return f"CHROM is empty: {shown(line)}. Mend the line."
    return None
