"""Tables of scores in files and frames: TSV here, Parquet in `io/parquet.py`, and pandas for the Python interface."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from varfm.errors import DiskError, InputError, OptionError
from varfm.io.block import Block
from varfm.io.columns import pack_columns
from varfm.io.counted import CountedFile, StdoutFile, TableFile
from varfm.io.deflate import BgzfWriter
from varfm.io.embeddings import SUFFIXES as EMBEDDING_SUFFIXES
from varfm.io.embeddings import EmbeddingParquetWriter, NpzWriter
from varfm.io.info import FLOAT_FORMAT, STATUS_WORDS, clean_text
from varfm.io.parquet import ParquetWriter
from varfm.io.rows import Rows, allele_heads, label_texts, positions, table_rows, text_columns, text_names
from varfm.io.streams import open_stream
from varfm.protocols import Column, Model, Scored
from varfm.scorers.embedding import EmbeddingScorer

if TYPE_CHECKING:
    import pandas as pd

    from varfm.alleles import Alleles

__all__ = [
    "SUFFIXES",
    "Rows",
    "TableWriter",
    "TsvFile",
    "TsvWriter",
    "frame",
    "open_table",
    "pack_rows",
    "table_path",
    "table_rows",
]

SUFFIXES = (".tsv", ".tsv.gz", ".parquet")
"""Of the files that are tables."""

STDOUT = "-"

_VALUES_AT_ONCE = 2**20  # as Python numbers and text: about 60 MB
_UNSAFE_NAME = re.compile(r"[\x00-\x1f\x7f]")


class TableWriter(Protocol):
    """Writes the table of one model. Nothing has the final name before `publish`."""

    @property
    def path(self) -> Path:
        """The final name."""

    def write(self, block: Block, alleles: Alleles, scored: Scored) -> None:
        """Add the rows of a block.

        Raises:
            DiskError: If the disk is full or fails.
        """

    def add(self, packed: bytes) -> None:
        """Add rows as `pack_rows` gave them.

        Raises:
            DiskError: If the disk is full or fails.
        """

    def seal(self) -> None:
        """Close the file and count its rows again.

        Raises:
            DiskError: If the disk fails, or the file holds another number of rows than were written.
        """

    @property
    def temporary(self) -> Path | None:
        """Where the table lies until it is published; None for stdout."""

    def publish(self) -> None:
        """Give a sealed table its name."""

    def discard(self) -> None:
        """Remove what was written; nothing happens after `publish`."""


def table_path(path: Path, model: str, n_models: int) -> Path:
    """Name the table of a model: `path` itself, or with several models `OUT.<model>.tsv` for `OUT.tsv`.

    Raises:
        OptionError: If the suffix is not that of a table.
    """
    suffix = _suffix(path)
    return path if n_models == 1 else path.with_name(f"{path.name.removesuffix(suffix)}.{model}{suffix}")


def open_table(path: Path, model: Model, *, force: bool, staging: str | None = None) -> TableWriter:
    """Begin the table of a model; the suffix says in which format.

    Args:
        path: As `table_path` gave it; `-` for TSV on stdout.
        model: Names the columns.
        force: Replace a file that is there.
        staging: The folder of the temporary file; see `AtomicFile`.

    Raises:
        OptionError: If the suffix is not that of a table, or the file exists and `force` is False.
        MissingExtra: If it is `.parquet` and pyarrow is not installed.
        DiskError: If the file cannot be made.
    """
    if isinstance(model.scorer, EmbeddingScorer):
        kind = NpzWriter if _suffix(path) == ".npz" else EmbeddingParquetWriter
        return kind(path, model, force=force, staging=staging)
    if _suffix(path) == ".parquet":
        return ParquetWriter(path, model, force=force, staging=staging)
    return TsvWriter(path, model, force=force, staging=staging)


def pack_rows(path: Path, model: Model, block: Block, alleles: Alleles, scored: Scored) -> bytes:
    """Give the rows of a block as bytes, of which `TableWriter.add` makes what `write` would have made.

    Args:
        path: The table; its suffix says in which format.
        model: Names the columns.
        block: Records.
        alleles: Their alleles.
        scored: What the model says of them.
    """
    if _suffix(path) in (".parquet", ".npz"):
        return pack_columns(model, block, alleles, scored)
    return b"".join(_lines(model, block, alleles, scored))


def frame(model: Model, blocks: Iterable[tuple[Block, Alleles, Scored]]) -> pd.DataFrame:
    """Give the table of a model as a pandas frame.

    Args:
        model: Names the columns.
        blocks: Records, their alleles, and what the model says of them.

    Returns:
        The columns of the TSV; `pos` is 1-based, scores are float32 with NaN for missing; a missing gene or
        name is None.
    """
    import pandas as pd

    columns: dict[str, list[object]] = {name: [] for name in text_names(model)}
    scores = [np.empty((0, len(model.scorer.columns)), np.float32)]
    for block, alleles, scored in blocks:
        rows = table_rows(alleles, scored, model)
        columns["pos"] += positions(block, alleles, rows).tolist()
        for name, values in text_columns(block, alleles, scored, rows).items():
            columns[name] += [value.decode("utf-8", "replace") or None for value in values]
        scores.append(rows.scores)
    text = pd.DataFrame(
        {name: np.array(values, np.int64 if name == "pos" else object) for name, values in columns.items()}
    )
    numbers = pd.DataFrame(np.concatenate(scores), columns=[column.name for column in model.scorer.columns])
    for column in model.scorer.columns:
        if column.labels:
            numbers[column.name] = np.array(label_texts(column, numbers[column.name].to_numpy()), object)
    return pd.concat([text, numbers], axis=1)


class TsvFile:
    """A TSV in the making, BGZF-compressed where the name ends in `.gz`.

    Args:
        path: The final name; `-` for stdout.
        head: The line of column names.
        force: Replace a file that is there.
        staging: The folder of the temporary file; see `AtomicFile`.

    Raises:
        OptionError: If the file exists and `force` is False.
        DiskError: If the file cannot be made.
    """

    def __init__(self, path: Path, head: bytes, *, force: bool, staging: str | None = None) -> None:
        self.path = path
        self._n_rows = -1  # the head is no row
        self._bgzf: BgzfWriter | None = None
        if str(path) == STDOUT:
            self._target: TableFile = StdoutFile()
        else:
            target = self._target = CountedFile(path, force=force, staging=staging)
            self._bgzf = BgzfWriter(target.file) if path.name.endswith(".gz") else None
        try:
            self.add(head)
        except BaseException:
            self.discard()
            raise

    def add(self, packed: bytes) -> None:
        """Add rows as text, each with its line end.

        Raises:
            DiskError: If the disk is full or fails.
        """
        with self._target.errors():
            (self._bgzf or self._target.file).write(packed)
        self._n_rows += packed.count(b"\n")

    def seal(self) -> None:
        """Close the file and count its lines again.

        Raises:
            DiskError: If the disk fails, or the file holds another number of rows than were written.
        """
        with self._target.errors():
            if self._bgzf is not None:
                self._bgzf.close()
        self._target.seal(self._n_rows, _count_rows)

    @property
    def temporary(self) -> Path | None:
        """Where the table lies until it is published; None for stdout."""
        return self._target.temporary

    def publish(self) -> None:
        """Give a sealed table its name."""
        self._target.publish()

    def discard(self) -> None:
        """Remove what was written; nothing happens after `publish`."""
        if self._bgzf is not None:
            self._bgzf.abort()
        self._target.discard()


class TsvWriter(TsvFile):
    """Writes the table of a model as TSV; see `open_table`.

    Bytes of the VCF are written as they came, also where they are not UTF-8.
    """

    def __init__(self, path: Path, model: Model, *, force: bool, staging: str | None = None) -> None:
        self._model = model
        names = [*text_names(model), *(_UNSAFE_NAME.sub("_", column.name) for column in model.scorer.columns)]
        super().__init__(path, "\t".join(names).encode() + b"\n", force=force, staging=staging)

    def write(self, block: Block, alleles: Alleles, scored: Scored) -> None:
        """Add the rows of a block."""
        for lines in _lines(self._model, block, alleles, scored):
            self.add(lines)


def _lines(model: Model, block: Block, alleles: Alleles, scored: Scored) -> Iterator[bytes]:
    rows = table_rows(alleles, scored, model)
    words = [STATUS_WORDS[status] for status in scored.status.tolist()]
    heads = [head + b"\t" + word for head, word in zip(allele_heads(block, alleles), words, strict=True)]
    if len(heads) != len(rows.allele):
        heads = [heads[allele] for allele in rows.allele.tolist()]
    if rows.genes is not None:
        heads = [head + b"\t" + gene.encode() for head, gene in zip(heads, rows.genes, strict=True)]
    for start, lines in _score_lines(rows.scores, model.scorer.columns):
        piece = heads[start : start + len(lines)]
        yield b"".join([head + line for head, line in zip(piece, lines, strict=True)])


def _score_lines(scores: NDArray[np.float32], columns: Sequence[Column]) -> Iterator[tuple[int, list[bytes]]]:
    # The text of the scores, row by row, with the number of the first row of each piece.
    n_rows, n_columns = scores.shape
    if any(column.labels for column in columns):
        yield 0, _mixed_lines(scores, columns)
        return
    line = b"".join([b"\t" + FLOAT_FORMAT] * n_columns) + b"\n"
    step = max(1, _VALUES_AT_ONCE // max(n_columns, 1))
    for start, end in pairwise([*range(0, n_rows, step), n_rows]):
        values = tuple(scores[start:end].astype(np.float64).ravel().tolist())
        text = (line * (end - start) % values).replace(b"nan", b".")
        yield start, text.splitlines(keepends=True)


def _mixed_lines(scores: NDArray[np.float32], columns: Sequence[Column]) -> list[bytes]:
    # Tables with columns of names have few columns, so cells may be written one by one.
    cells = []
    for column, values in zip(columns, scores.T, strict=True):
        if column.labels:
            cells.append([clean_text(text or "").encode() for text in label_texts(column, values)])
        else:
            cells.append([FLOAT_FORMAT % value if value == value else b"." for value in values.tolist()])
    return [b"\t" + b"\t".join(row) + b"\n" for row in zip(*cells, strict=True)]


def _suffix(path: Path) -> str:
    if str(path) == STDOUT:
        return ".tsv"
    for suffix in {*SUFFIXES, *EMBEDDING_SUFFIXES}:
        if path.name.endswith(suffix):
            return suffix
    raise OptionError(f"{path}: the suffix names no table. Use {', '.join(SUFFIXES)}.")


def _count_rows(path: str) -> int:
    try:
        with open_stream(path) as stream:
            return sum(chunk.count(b"\n") for chunk in stream) - 1
    except InputError as error:
        raise DiskError(f"{path}: what was written does not come back from the disk: {error}") from error
