"""VCF in: the header, and the records in blocks of bytes; text as it stands in the file, BCF as htslib prints it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from varfm.errors import InputError
from varfm.io.block import Block
from varfm.io.cut import Shard, bgzf_text, lines_between, plain_text
from varfm.io.header import (
    VcfHeader,
    check_start,
    missing_columns_line,
    parse_header,
    with_lines,
    without_varfm,
)
from varfm.io.recheck import count_bcf
from varfm.io.scan import MAX_LINE_BYTES, blank_end, block_of, cut_lines
from varfm.io.streams import open_stream

__all__ = ["Block", "VcfHeader", "VcfReader", "with_lines", "without_varfm"]


class VcfReader:
    """The records of one VCF or BCF, read once from the start; a context manager.

    Attributes:
        name: As errors call the file; `<stdin>` for `-`.
        header: What stands before the records.
        is_bcf: True if the input is BCF; lines are then those that `bcftools view` would print.
        tail: Blank lines after the last record; known once all blocks were given.
    """

    def __init__(self, source: str, shard: Shard | None = None) -> None:
        """Open a file and read its header.

        Args:
            source: A path, or `-` for stdin: VCF as text, gzip or BGZF, or BCF.
            shard: Give only the records of this shard of a regular file.

        Raises:
            InputError: If the file cannot be read, is no VCF, or its header is malformed.
        """
        self.tail = b""
        self._source = source
        self._shard = shard
        self._share = 0.0
        self._n_skipped = 0
        self._stream = open_stream(source)
        self.name = self._stream.name
        self.is_bcf = self._stream.is_bcf
        try:
            self._chunks = self._text()
            lines, self._body = self._read_header()
            self.header = parse_header(self.name, lines)
            if shard is not None:
                self._body, self._chunks = b"", self._text_of_shard(shard)
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
        """Share of the file's bytes, as stored, or of the shard, that was read so far; None where it is not known."""
        if self._shard is not None:
            return self._share
        size = os.path.getsize(self._source) if os.path.isfile(self._source) else 0
        return min(1.0, self._stream.n_read / size) if size else None

    def blocks(self, n_records: int = 4096) -> Iterator[Block]:
        """Give the records, `n_records` at a time (fewer where they reach 4 MiB), the rest last. Can be called once.

        Raises:
            InputError: If a record is malformed or the input is cut or damaged; blocks before it were given.
        """
        name, first_line = self.name, len(self.header.lines) + 1
        if self._shard is not None:  # whose place in the file is not known
            name, first_line = f"{self.name}, shard {self._shard}", 1
        n_given = self._n_skipped
        text = lines_between(self.text(), n_given) if n_given else self.text()
        for data, starts in self._without_tail(cut_lines(name, text, n_records, first_line + n_given)):
            yield block_of(name, self.header, data, starts, first_line + n_given, n_given)
            n_given += len(starts) - 1

    def skip(self, n_records: int) -> None:
        """Leave out the first records; they are not looked at, but count in numbers of lines and records."""
        self._n_skipped = n_records

    def text(self) -> Iterator[bytes]:
        """Give the records' bytes in pieces of any size, not looked at. Takes the place of `blocks`.

        Raises:
            InputError: If the input is cut or damaged.
        """
        return chain([self._body] if self._body else [], self._chunks)

    def _text_of_shard(self, shard: Shard) -> Iterator[bytes]:
        if self.is_bcf or self._stream.packing == "gzip":
            yield from self._counted_text(shard)
            return
        cut = bgzf_text if self._stream.packing == "bgzf" else plain_text
        yield from cut(self._source, sum(map(len, self.header.lines)), shard, self._note)

    def _counted_text(self, shard: Shard) -> Iterator[bytes]:
        """Cut by number of records, where no record's place in the file can be known without reading all before it."""
        records = range(*shard.span(self._count()))
        if self.is_bcf:
            from varfm.io.bcf import text_of_bcf

            with open_stream(self._source) as stream:
                yield from islice(text_of_bcf(stream, records), 1, None)  # the first piece is the header
        else:
            with VcfReader(self._source) as whole:
                yield from lines_between(whole.text(), records.start, records.stop)

    def _count(self) -> int:
        if self.is_bcf:
            with open_stream(self._source) as stream:
                return count_bcf(stream)
        with VcfReader(self._source) as whole:
            n_records, last = 0, b"\n"
            for chunk in whole.text():
                n_records, last = n_records + chunk.count(b"\n"), chunk[-1:]
        return n_records + (last != b"\n")

    def _note(self, share: float) -> None:
        self._share = share

    def _without_tail(
        self, pieces: Iterable[tuple[bytes, NDArray[np.int64]]]
    ) -> Iterator[tuple[bytes, NDArray[np.int64]]]:
        """Keep blank lines at the end of a piece back: they are a fault only if something follows."""
        for data, starts in pieces:
            if self.tail:
                before = np.flatnonzero(np.frombuffer(self.tail, np.uint8) == ord("\n")) + 1
                starts = np.concatenate([[0], before, starts[1:] + len(self.tail)])
                data = self.tail + data
            n_lines, self.tail = blank_end(data, starts)
            if n_lines:
                yield data[: starts[n_lines]], starts[: n_lines + 1]

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
