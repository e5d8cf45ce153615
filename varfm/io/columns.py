"""Rows of tables column by column: of a block as it is scored, and packed as bytes until the table is written."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from varfm.io.rows import positions, table_rows, text_columns, text_names
from varfm.protocols import Model, Scored

if TYPE_CHECKING:
    from varfm.alleles import Alleles
    from varfm.io.block import Block

Columns = tuple[NDArray[np.float32], NDArray[np.int64], dict[str, list[bytes]]]
"""Scores (n_rows, n_columns), positions (n_rows,), and the text by the names of its columns."""


class ColumnWriter(ABC):
    """What takes the rows of a model's table column by column.

    Args:
        model: Names the columns.
    """

    def __init__(self, model: Model) -> None:
        self._model = model

    def write(self, block: Block, alleles: Alleles, scored: Scored) -> None:
        """Add the rows of a block."""
        self._add(*columns_of(self._model, block, alleles, scored))

    def add(self, packed: bytes) -> None:
        """Add rows as `pack_columns` gave them, of one or several blocks."""
        for columns in _unpacked(packed, self._model):
            self._add(*columns)

    @abstractmethod
    def _add(self, scores: NDArray[np.float32], place: NDArray[np.int64], text: dict[str, list[bytes]]) -> None:
        """Take the columns of some rows, each as long as the others."""


def text_only(model: Model) -> list[str]:
    """Name the columns of text, in order: all that stand before the scores but `pos`."""
    return [name for name in text_names(model) if name != "pos"]


def pack_columns(model: Model, block: Block, alleles: Alleles, scored: Scored) -> bytes:
    """Give the rows of a block as bytes: their number, scores, positions, and the text column by column."""
    scores, place, text = columns_of(model, block, alleles, scored)
    parts = [np.int64(len(place)).tobytes(), np.ascontiguousarray(scores).tobytes(), place.tobytes()]
    for values in text.values():
        parts += [np.array([len(value) for value in values], np.int64).tobytes(), b"".join(values)]
    return b"".join(parts)


def columns_of(model: Model, block: Block, alleles: Alleles, scored: Scored) -> Columns:
    """Give the rows of a block: scores, positions, and the text column by column."""
    rows = table_rows(alleles, scored, model)
    return rows.scores, positions(block, alleles, rows), text_columns(block, alleles, scored, rows)


def _unpacked(packed: bytes, model: Model) -> Iterator[Columns]:
    """Give back what `pack_columns` packed, block by block."""
    names, n_scores = text_only(model), len(model.scorer.columns)
    start = 0
    while start < len(packed):
        n_rows = int(np.frombuffer(packed, np.int64, 1, start)[0])
        start += 8
        scores = np.frombuffer(packed, np.float32, n_rows * n_scores, start).reshape(n_rows, n_scores)
        start += scores.nbytes
        place = np.frombuffer(packed, np.int64, n_rows, start)
        start += place.nbytes
        text = {}
        for name in names:
            ends = start + place.nbytes + np.cumsum(np.frombuffer(packed, np.int64, n_rows, start))
            edges = [start + place.nbytes, *ends.tolist()]
            text[name] = [packed[a:b] for a, b in pairwise(edges)]
            start = edges[-1]
        yield scores, place, text
