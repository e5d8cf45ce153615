"""Tables of labelled variants: contig, pos, ref, alt and label, as `varfm finetune` learns from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from varfm.digits import counted, is_whole
from varfm.errors import InputError, OptionError, printable
from varfm.io.lines import read_lines
from varfm.io.streams import STDIN

COLUMNS = ("contig", "pos", "ref", "alt", "label")

_BASES = frozenset("ACGTNacgtn")
_HEAD = b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


@dataclass(frozen=True, slots=True)
class Labels:
    """The rows of a table, in order.

    Attributes:
        name: As errors call the file.
        variants: contig, 1-based position, ref and alt of each row, as written.
        values: (n,) labels.
    """

    name: str
    variants: tuple[tuple[str, int, str, str], ...]
    values: NDArray[np.float64]

    @property
    def is_binary(self) -> bool:
        """True if every label is 0 or 1."""
        return bool(np.isin(self.values, (0, 1)).all())

    @property
    def contigs(self) -> tuple[str, ...]:
        """The contigs in order of their first row."""
        return tuple(dict.fromkeys(variant[0] for variant in self.variants))

    def write_vcf(self, path: Path) -> None:
        """Write the variants as a VCF, one record per row."""
        with open(path, "wb") as file:
            file.write(_HEAD)
            for contig, pos, ref, alt in self.variants:
                file.write(f"{contig}\t{pos}\t.\t{ref}\t{alt}\t.\t.\t.\n".encode())


def read_labels(path: str) -> Labels:
    """Read a TSV with a header line that names at least the columns of `COLUMNS`; others are not looked at.

    Args:
        path: Plain, gzipped or bgzipped; `-` is stdin.

    Raises:
        InputError: If it cannot be read, lacks a column or any row, or a row is malformed.
    """
    lines = (line.decode("utf-8", "replace") for line in read_lines(path))
    name = "<stdin>" if path == STDIN else path
    places = _places(next(lines, ""), name)
    rows = [_row(line, places, f"{name}, line {number:,}") for number, line in enumerate(lines, 2) if line]
    if not rows:
        raise InputError(f"{name}: no row. Give a table with at least two labelled variants.")
    return Labels(name, tuple(variant for variant, _ in rows), np.array([value for _, value in rows]))


def _places(header: str, name: str) -> tuple[int, ...]:
    names = header.removeprefix("#").split("\t")
    missing = [column for column in COLUMNS if names.count(column) != 1]
    if missing:
        raise InputError(
            f"{name}, line 1: expected one column {missing[0]}, found {printable(header[:100]) or 'an empty line'}. "
            f"Give a TSV whose first line names {', '.join(COLUMNS)}."
        )
    return tuple(names.index(column) for column in COLUMNS)


def _row(line: str, places: Sequence[int], where: str) -> tuple[tuple[str, int, str, str], float]:
    cells = line.split("\t")
    if len(cells) <= max(places):
        raise InputError(
            f"{where}: {counted(len(cells), 'column')}, expected at least {max(places) + 1}, between tabs."
        )
    contig, pos, ref, alt, label = (cells[place] for place in places)
    if not contig or any(sign.isspace() for sign in contig):
        raise InputError(f"{where}: {contig!r} is no name of a contig.")
    if not is_whole(pos):
        raise InputError(f"{where}: pos is {printable(pos[:30])!r}, expected a whole number, 1 for the first base.")
    for column, bases in (("ref", ref), ("alt", alt)):
        if not bases or not _BASES.issuperset(bases):
            raise InputError(f"{where}: {column} is {printable(bases[:30])!r}, expected bases; one alt per row.")
    return (contig, int(pos), ref, alt), _number(label, where)


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: label is {printable(text[:30])!r}, expected a number.")
    return value


@dataclass(frozen=True, slots=True)
class Split:
    """Which rows train, which say when to stop, and which are looked at once, at the end: (n,) masks."""

    training: NDArray[np.bool_]
    validation: NDArray[np.bool_]
    held_out: NDArray[np.bool_]


def split_rows(
    labels: Labels, usable: NDArray[np.bool_], held_out: Sequence[str], validation: Sequence[str], seed: int
) -> Split:
    """Divide the rows that can be read.

    Args:
        usable: (n,) rows to divide; the others are in no part.
        held_out: Contigs, as the table names them.
        validation: Contigs; none: a tenth of the other positions, drawn, all rows of a position together.
        seed: Of the draw.

    Raises:
        OptionError: If a contig is not in the table or in both lists.
        InputError: If a part has too few rows, or of 0/1 labels only one kind.
    """
    for option, names in (("--held-out", held_out), ("--validation", validation)):
        unknown = [name for name in names if name not in labels.contigs]
        if unknown:
            raise OptionError(f"{option} {unknown[0]}: no row of {labels.name} is on it.")
    both = set(held_out) & set(validation)
    if both:
        raise OptionError(f"--validation {sorted(both)[0]}: is held out as well. Name each contig once.")
    contigs = np.array([variant[0] for variant in labels.variants])
    is_held_out = usable & np.isin(contigs, list(held_out))
    rest = usable & ~is_held_out
    is_validation = rest & (np.isin(contigs, list(validation)) if validation else _drawn(labels, rest, seed))
    split = Split(rest & ~is_validation, is_validation, is_held_out)
    _check_part(labels, split.training, "training")
    _check_part(labels, split.validation, "validation")
    return split


def _drawn(labels: Labels, rows: NDArray[np.bool_], seed: int) -> NDArray[np.bool_]:
    """Draw a tenth of the positions, at least one."""
    places = [variant[:2] for variant in labels.variants]
    known = sorted({place for place, inside in zip(places, rows.tolist(), strict=True) if inside})
    order = np.random.default_rng(seed).permutation(len(known))[: max(1, len(known) // 10)]
    chosen = {known[number] for number in order.tolist()}
    return np.array([place in chosen for place in places], np.bool_)


def _check_part(labels: Labels, rows: NDArray[np.bool_], what: str) -> None:
    found = np.unique(labels.values[rows])
    if len(found) < 2:
        seen = f"no label but {found[0]:g}" if len(found) else "no row that can be read"
        raise InputError(f"{labels.name}: the part for {what} has {seen}. Give more rows, or other contigs for it.")
