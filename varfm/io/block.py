"""A run of VCF records as one piece of bytes, with the places of their first eight columns as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from varfm.errors import InputError
from varfm.io.header import shown, text_of

CHROM, POS, ID, REF, ALT, QUAL, FILTER, INFO = range(8)
OWN_PREFIX = b"VARFM_"
MAX_POSITION = 10**18

_DOT = ord(".")
_MAX_DIGITS = 19  # of 10**18
_MAX_VECTOR_CONTIG = 64  # longer names are compared one by one


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive whole records.

    Attributes:
        name: As errors call the file.
        data: The records' bytes, as in the file.
        starts: (n + 1,) int64, where each record begins in `data`; the last number is the length of `data`.
        ends: (n, 8) int64, where each of the first eight columns ends (its tab, CR or LF, or the end of the data).
        first_line: 1-based line number, in the file, of record 0.
        first_record: 0-based number, in the file, of record 0.
        lines: (n,) int64 line numbers where records were left out; None: consecutive from `first_line`.
    """

    name: str
    data: bytes
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    first_line: int
    first_record: int
    lines: NDArray[np.int64] | None = None

    @property
    def n_records(self) -> int:
        """Number of records."""
        return len(self.ends)

    def line_number(self, record: int) -> int:
        """Give the 1-based line of a record in the file."""
        return self.first_line + record if self.lines is None else int(self.lines[record])

    def where(self, record: int) -> str:
        """Name a record's place for a message: file and line."""
        return f"{self.name}, line {self.line_number(record):,}"

    def field(self, record: int, column: int) -> bytes:
        """Give one of the first eight columns, as it came."""
        return self.data[self._field_start(record, column) : int(self.ends[record, column])]

    def line(self, record: int) -> bytes:
        """Give a record with its terminator, as it came."""
        return self.data[int(self.starts[record]) : int(self.starts[record + 1])]

    def column(self, column: int) -> list[bytes]:
        """Give one of the first eight columns of all records, as it came."""
        data = self.data
        return [data[s:e] for s, e in zip(self._starts_of(column).tolist(), self.ends[:, column].tolist(), strict=True)]

    def contig_runs(self) -> list[tuple[str, int, int]]:
        """Give the runs of records with equal CHROM: name, first record, record after the last."""
        if not self.n_records:
            return []
        first = [0, *(np.flatnonzero(self._contig_changes()) + 1).tolist()]
        return [
            (text_of(self.field(start, CHROM)), start, end)
            for start, end in zip(first, [*first[1:], self.n_records], strict=True)
        ]

    @property
    def positions(self) -> NDArray[np.int64]:
        """POS of every record, (n,), 1-based as written, up to 10^18.

        Raises:
            InputError: If one is not a plain non-negative integer.
        """
        starts, ends = self._starts_of(POS), self.ends[:, POS]
        widths = ends - starts
        codes = self._codes()
        widest = int(widths.max(initial=0))
        is_bad = (widths == 0) | (widths > _MAX_DIGITS)
        values = np.zeros(self.n_records, np.uint64)
        for place in range(min(widest, _MAX_DIGITS)):
            inside = widths > place
            digits = codes[np.where(inside, ends - 1 - place, 0)] - np.uint8(48)
            is_bad |= inside & (digits > 9)
            values += np.where(inside & (digits <= 9), digits, 0).astype(np.uint64) * np.uint64(10**place)
        is_bad |= values > MAX_POSITION
        if is_bad.any():
            record = int(np.argmax(is_bad))
            raise InputError(
                f"{self.where(record)}: POS is {shown(self.field(record, POS))}, "
                "expected a whole number from 0 to 10^18."
            )
        return values.astype(np.int64)

    def snvs(self) -> tuple[NDArray[np.bool_], NDArray[np.uint8], NDArray[np.uint8]]:
        """Find the records whose REF and ALT are one byte each.

        Returns:
            The mask (n,), and the raw bytes of REF and ALT (n,), whatever they are; 0 outside the mask.
        """
        ref, alt = self._starts_of(REF), self._starts_of(ALT)
        mask = (self.ends[:, REF] - ref == 1) & (self.ends[:, ALT] - alt == 1)
        codes = self._codes()
        zero = np.uint8(0)
        return (
            mask,
            np.where(mask, codes[np.where(mask, ref, 0)], zero),
            np.where(mask, codes[np.where(mask, alt, 0)], zero),
        )

    def select(self, mask: NDArray[np.bool_]) -> Block:
        """Keep the records where `mask` (n,) is True, in order, with their line numbers."""
        if mask.all():
            return self
        kept = np.flatnonzero(mask)
        starts, lengths = self.starts[:-1][kept], np.diff(self.starts)[kept]
        ends_of_lines = (starts + lengths).tolist()
        data = b"".join([self.data[s:e] for s, e in zip(starts.tolist(), ends_of_lines, strict=True)])
        new_starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        ends = self.ends[kept] + (new_starts[:-1] - starts)[:, None]
        lines = kept + self.first_line if self.lines is None else self.lines[kept]
        first_line = int(lines[0]) if len(lines) else self.first_line
        return Block(self.name, data, new_starts, ends, first_line, self.first_record, lines)

    def splice(self, annotations: Sequence[bytes]) -> bytes:
        """Append to the INFO of every record; every other byte is as it came.

        Args:
            annotations: One per record, `KEY=value` entries joined by `;`. It takes the place of an INFO that is `.`;
                an empty one leaves the record as it was.

        Returns:
            The records' bytes.

        Raises:
            ValueError: If there are not as many annotations as records.
        """
        if len(annotations) != self.n_records:
            raise ValueError(f"{len(annotations)} annotations for {self.n_records} records")
        info_starts, info_ends = self._starts_of(INFO), self.ends[:, INFO]
        is_one = info_ends - info_starts == 1
        is_dot = is_one & (self._codes()[np.where(is_one, info_starts, 0)] == _DOT)
        replaces = is_dot & np.fromiter(map(bool, annotations), np.bool_, self.n_records)
        has_entries = (info_ends > info_starts) & ~is_dot
        data = self.data
        pieces: list[bytes] = [b""] * (2 * self.n_records + 1)
        cuts = np.where(replaces, info_starts, info_ends).tolist()
        resumes = info_ends.tolist()
        pieces[0:-1:2] = [data[s:e] for s, e in zip([0, *resumes[:-1]], cuts, strict=True)] if cuts else []
        if has_entries.all():
            pieces[1::2] = [b";" + a if a else a for a in annotations]
        else:
            joins = zip(has_entries.tolist(), annotations, strict=True)
            pieces[1::2] = [b";" + a if joined and a else a for joined, a in joins]
        pieces[-1] = data[resumes[-1] :] if resumes else b""
        return b"".join(pieces)

    def has_keys(self, prefix: bytes = OWN_PREFIX) -> int | None:
        """Give the first record with an INFO entry whose key begins with `prefix`, or None."""
        return next(self._records_with(prefix), None)

    def strip_keys(self, prefix: bytes = OWN_PREFIX) -> Block:
        """Take out the INFO entries whose key begins with `prefix`; an INFO left empty becomes `.`."""
        pieces: list[bytes] = []
        cut = 0
        shifts = np.zeros(self.n_records, np.int64)
        for record in self._records_with(prefix):
            info_start, info_end = self._field_start(record, INFO), int(self.ends[record, INFO])
            entries = self.data[info_start:info_end].split(b";")
            info = b";".join([entry for entry in entries if not entry.startswith(prefix)]) or b"."
            pieces += [self.data[cut:info_start], info]
            cut = info_end
            shifts[record] = len(info) - (info_end - info_start)
        if not pieces:
            return self
        moved = np.cumsum(shifts)
        ends = self.ends + (moved - shifts)[:, None]
        ends[:, INFO] += shifts
        starts = self.starts + np.concatenate([np.zeros(1, np.int64), moved])
        data = b"".join([*pieces, self.data[cut:]])
        return Block(self.name, data, starts, ends, self.first_line, self.first_record, self.lines)

    def _records_with(self, prefix: bytes) -> Iterator[int]:
        place = self.data.find(prefix)
        while place >= 0:
            record = int(np.searchsorted(self.starts, place, side="right")) - 1
            if any(entry.startswith(prefix) for entry in self.field(record, INFO).split(b";")):
                yield record
            place = self.data.find(prefix, int(self.starts[record + 1]))

    def _codes(self) -> NDArray[np.uint8]:
        return np.frombuffer(self.data, np.uint8)

    def _field_start(self, record: int, column: int) -> int:
        return int(self.ends[record, column - 1]) + 1 if column else int(self.starts[record])

    def _starts_of(self, column: int) -> NDArray[np.int64]:
        return self.ends[:, column - 1] + 1 if column else self.starts[:-1]

    def _contig_changes(self) -> NDArray[np.bool_]:
        """Tell for every record but the last whether the next one has another CHROM."""
        starts = self.starts[:-1]
        widths = self.ends[:, CHROM] - starts
        longest = int(widths.max())
        if longest > _MAX_VECTOR_CONTIG:
            names = self.column(CHROM)
            return np.array([a != b for a, b in pairwise(names)], np.bool_)
        changes: NDArray[np.bool_] = widths[1:] != widths[:-1]
        codes = self._codes()
        for place in range(longest):
            here = codes[np.where(widths > place, starts + place, 0)]
            changes |= (here[1:] != here[:-1]) & (widths[1:] > place) & (widths[:-1] > place)
        return changes
