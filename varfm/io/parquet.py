"""Tables of scores as Parquet: the format for thousands of tracks. Needs pyarrow, which is loaded when it is used."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from varfm.errors import MissingExtra
from varfm.io.counted import CountedFile
from varfm.io.rows import label_texts, positions, table_rows, text_columns, text_names
from varfm.protocols import Model, Scored

if TYPE_CHECKING:
    from varfm.alleles import Alleles
    from varfm.io.block import Block

_GROUP_VALUES = 2**25  # scores of a row group, 128 MiB in memory
_GROUP_ROWS = (2**10, 2**17)  # every group costs 100 bytes of footer per column, so wide tables need long ones


class ParquetWriter:
    """Writes text as large strings, POS as int64, scores as float32, null for missing.

    The field of a score carries `description`, `unit`, `formula` and what is known of its track as metadata; columns of
    names are text. Row groups are cut at a fixed number of rows: the file does not depend on how the records came in
    blocks. Bytes that are not UTF-8 become U+FFFD.

    Args:
        path: The final name.
        model: Names the columns.
        force: Replace a file that is there.

    Raises:
        MissingExtra: If pyarrow is not installed.
        DiskError: If the file cannot be made.
    """

    def __init__(self, path: Path, model: Model, *, force: bool) -> None:
        parquet = _pyarrow_parquet()
        n_scores = len(model.scorer.columns)
        n_rows = min(max(_GROUP_VALUES // max(n_scores, 1), _GROUP_ROWS[0]), _GROUP_ROWS[1])
        self.path = path
        self._model = model
        self._n_rows = 0
        self._n_waiting = 0
        self._scores = np.empty((n_rows, n_scores), np.float32, order="F")  # a column is one piece of memory
        self._positions = np.empty(n_rows, np.int64)
        self._text: dict[str, list[bytes]] = {name: [] for name in text_names(model) if name != "pos"}
        self._schema = _schema(model)
        self._target = CountedFile(path, force=force)
        try:
            with self._target.errors():
                self._out = parquet.ParquetWriter(
                    self._target.file,
                    self._schema,
                    compression="zstd",
                    use_dictionary=list(self._text),
                    write_statistics=["contig", "pos", "status"],
                )
        except BaseException:
            self._target.discard()
            raise

    def write(self, block: Block, alleles: Alleles, scored: Scored) -> None:
        """Add the rows of a block."""
        rows = table_rows(alleles, scored, self._model)
        place = positions(block, alleles, rows)
        text = text_columns(block, alleles, scored, rows)
        start = 0
        while start < len(place):
            end = min(len(place), start + len(self._positions) - self._n_waiting)
            waiting = slice(self._n_waiting, self._n_waiting + end - start)
            self._scores[waiting] = rows.scores[start:end]
            self._positions[waiting] = place[start:end]
            for name, values in text.items():
                self._text[name] += values[start:end]
            self._n_waiting, start = waiting.stop, end
            if self._n_waiting == len(self._positions):
                with self._target.errors():
                    self._write_group()
        self._n_rows += len(place)

    def seal(self) -> None:
        """Close the file and read its row count again.

        Raises:
            DiskError: If the disk fails, or the file holds another number of rows than were written.
        """
        with self._target.errors():
            if self._n_waiting:
                self._write_group()
            self._out.close()
        self._target.seal(self._n_rows, lambda path: int(_pyarrow_parquet().read_metadata(path).num_rows))

    @property
    def temporary(self) -> Path:
        """Where the table lies until it is published."""
        return self._target.temporary

    def publish(self) -> None:
        """Give a sealed table its name."""
        self._target.publish()

    def discard(self) -> None:
        """Remove what was written; nothing happens after `publish`."""
        with contextlib.suppress(OSError, ValueError):  # pyarrow would close it later, when the file is gone
            self._out.close()
        self._target.discard()

    def _write_group(self) -> None:
        import pyarrow as pa

        n_rows = self._n_waiting
        arrays = {name: _text_array(values) for name, values in self._text.items()}
        arrays["pos"] = pa.array(self._positions[:n_rows])
        columns = [arrays[name] for name in text_names(self._model)]
        for column, values in zip(self._model.scorer.columns, self._scores[:n_rows].T, strict=True):
            if column.labels:
                columns.append(pa.array(label_texts(column, values), pa.large_string()))
            else:
                columns.append(pa.array(values, from_pandas=True))
        self._out.write_table(pa.Table.from_arrays(columns, schema=self._schema), row_group_size=n_rows)
        self._n_waiting = 0
        for values in self._text.values():
            values.clear()


def _schema(model: Model) -> Any:
    import pyarrow as pa

    fields = [pa.field(name, pa.int64() if name == "pos" else pa.large_string()) for name in text_names(model)]
    for column in model.scorer.columns:
        about = {"description": column.description, "unit": column.unit, "formula": column.formula}
        kind = pa.large_string() if column.labels else pa.float32()
        fields.append(pa.field(column.name, kind, metadata=about | dict(column.facts)))
    return pa.schema(fields, metadata={"varfm_model": model.name, "varfm_weights_sha256": model.origin.weights_sha256})


def _text_array(values: list[bytes]) -> Any:
    import pyarrow as pa

    raw = pa.array([value or None for value in values], pa.large_binary())
    try:
        return raw.cast(pa.large_string())
    except pa.ArrowInvalid:
        return pa.array([value.decode("utf-8", "replace") or None for value in values], pa.large_string())


def _pyarrow_parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet", "Parquet output") from error
    return parquet
