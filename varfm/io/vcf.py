"""VCF in: the header, and the records in blocks of bytes; text as it stands in the file, BCF as htslib prints it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import chain
from types import TracebackType

from varfm.errors import InputError
from varfm.io.block import Block
from varfm.io.header import (
    VcfHeader,
    check_start,
    missing_columns_line,
    parse_header,
    with_lines,
    without_varfm,
)
from varfm.io.scan import MAX_LINE_BYTES, block_of, cut_lines
from varfm.io.streams import open_stream

__all__ = ["Block", "VcfHeader", "VcfReader", "with_lines", "without_varfm"]


class VcfReader:
    """The records of one VCF or BCF, read once from the start; a context manager.

    Attributes:
        name: As errors call the file; `<stdin>` for `-`.
        header: What stands before the records.
        is_bcf: True if the input is BCF; lines are then those that `bcftools view` would print.
    """

    def __init__(self, source: str) -> None:
        """Open a file and read its header.

        Args:
            source: A path, or `-` for stdin: VCF as text, gzip or BGZF, or BCF.

        Raises:
            InputError: If the file cannot be read, is no VCF, or its header is malformed.
        """
        self._source = source
        self._stream = open_stream(source)
        self.name = self._stream.name
        self.is_bcf = self._stream.is_bcf
        try:
            self._chunks = self._text()
            lines, self._body = self._read_header()
            self.header = parse_header(self.name, lines)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> VcfReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        chunks = getattr(self, "_chunks", None)
        if chunks is not None:
            with contextlib.suppress(ValueError):  # raised where another thread hangs inside, in a silent pipe
                chunks.close()
        self._stream.close()

    @property
    def fraction(self) -> float | None:
        """Share of the file's bytes, as stored, that were read so far; None where its size is not known."""
        size = os.path.getsize(self._source) if os.path.isfile(self._source) else 0
        return min(1.0, self._stream.n_read / size) if size else None

    def blocks(self, n_records: int = 4096) -> Iterator[Block]:
        """Give the records, `n_records` at a time (fewer where they reach 4 MiB), the rest last. Can be called once.

        Raises:
            InputError: If a record is malformed or the input is cut or damaged; blocks before it were given.
        """
        first_line = len(self.header.lines) + 1
        chunks = chain([self._body] if self._body else [], self._chunks)
        n_given = 0
        for data, starts in cut_lines(self.name, chunks, n_records, first_line):
            yield block_of(self.name, self.header, data, starts, first_line + n_given, n_given)
            n_given += len(starts) - 1

    def _text(self) -> Iterator[bytes]:
        if self.is_bcf:
            from varfm.io.bcf import text_of_bcf

            return text_of_bcf(self._stream)
        return iter(self._stream)

    def _read_header(self) -> tuple[list[bytes], bytes]:
        """Give the header's lines, and the bytes after them that were read already."""
        lines: list[bytes] = []
        buffer = bytearray()
        start = searched = 0
        for chunk in self._chunks:
            if not buffer:
                check_start(self.name, chunk[:1000])
            buffer += chunk
            while end := buffer.find(b"\n", searched) + 1:
                if self._is_last(lines, bytes(buffer[start:end])):
                    return lines, bytes(buffer[end:])
                start = searched = end
            searched = len(buffer)
            if searched > MAX_LINE_BYTES:
                raise InputError(f"{self.name}: no #CHROM line in the first {MAX_LINE_BYTES >> 20} MiB. Is this a VCF?")
        if not buffer:
            check_start(self.name, b"")
        if self._is_last(lines, bytes(buffer[start:])):
            return lines, b""
        raise missing_columns_line(self.name, len(lines), lines[-1])

    def _is_last(self, lines: list[bytes], line: bytes) -> bool:
        """Add a line to the header, and tell whether the header ends with it."""
        if b"\0" in line:
            raise InputError(f"{self.name}, line {len(lines) + 1:,}: NUL bytes. The file is damaged or no text.")
        if not line.startswith((b"##", b"#CHROM")):
            raise missing_columns_line(self.name, len(lines) + 1, line)
        lines.append(line)
        return line.startswith(b"#CHROM")
