"""Tables of scores as Parquet: the format for thousands of tracks. Needs pyarrow, which is loaded when it is used."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from varfm.errors import InputError, MissingExtra
from varfm.io.columns import ColumnWriter, text_only
from varfm.io.counted import CountedFile
from varfm.io.rows import label_texts, text_names
from varfm.protocols import Model

_GROUP_VALUES = 2**25  # scores of a row group, 128 MiB in memory
_GROUP_ROWS = (2**10, 2**17)  # every group costs 100 bytes of footer per column, so wide tables need long ones
_TEXT = ("contig", "pos", "id", "ref", "alt", "status", "gene")


class ParquetFile(ABC):
    """A Parquet file in the making."""

    def __init__(self, path: Path, schema: Any, *, force: bool, staging: str | None) -> None:
        parquet = pyarrow_parquet()
        self.path = path
        self._n_rows = 0
        self._target = CountedFile(path, force=force, staging=staging)
        try:
            with self._target.errors():
                self._out = parquet.ParquetWriter(
                    self._target.file,
                    schema,
                    compression="zstd",
                    use_dictionary=[name for name in _leading_text(schema) if name != "pos"],
                    write_statistics=["contig", "pos", "status"],
                )
        except BaseException:
            self._target.discard()
            raise

    def seal(self) -> None:
        """Close the file and read its row count again.

        Raises:
            DiskError: If the disk fails, or the file holds another number of rows than were written.
        """
        with self._target.errors():
            self._write_rest()
            self._out.close()
        self._target.seal(self._n_rows, lambda path: int(pyarrow_parquet().read_metadata(path).num_rows))

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

    @abstractmethod
    def _write_rest(self) -> None:
        """Write the rows that wait for their row group."""


class ParquetWriter(ColumnWriter, ParquetFile):
    """Writes text as large strings, POS as int64, scores as float32, null for missing.

    The field of a score carries `description`, `unit`, `formula` and what is known of its track as metadata; columns of
    names are text. Row groups are cut at a fixed number of rows: the file does not depend on how the records came in
    blocks. Bytes that are not UTF-8 become U+FFFD.

    Args:
        path: The final name.
        model: Names the columns.
        force: Replace a file that is there.
        staging: The folder of the temporary file; see `AtomicFile`.

    Raises:
        MissingExtra: If pyarrow is not installed.
        DiskError: If the file cannot be made.
    """

    def __init__(self, path: Path, model: Model, *, force: bool, staging: str | None = None) -> None:
        pyarrow_parquet()
        ColumnWriter.__init__(self, model)
        self._schema = self._make_schema()
        ParquetFile.__init__(self, path, self._schema, force=force, staging=staging)
        n_scores = len(model.scorer.columns)
        n_rows = self._rows_of_group(n_scores)
        self._n_waiting = 0
        self._scores = np.empty((n_rows, n_scores), np.float32, order="F")  # a column is one piece of memory
        self._positions = np.empty(n_rows, np.int64)
        self._text: dict[str, list[bytes]] = {name: [] for name in text_only(model)}

    def _add(self, scores: NDArray[np.float32], place: NDArray[np.int64], text: dict[str, list[bytes]]) -> None:
        start = 0
        while start < len(place):
            end = min(len(place), start + len(self._positions) - self._n_waiting)
            waiting = slice(self._n_waiting, self._n_waiting + end - start)
            self._scores[waiting] = scores[start:end]
            self._positions[waiting] = place[start:end]
            for name, values in text.items():
                self._text[name] += values[start:end]
            self._n_waiting, start = waiting.stop, end
            if self._n_waiting == len(self._positions):
                with self._target.errors():
                    self._write_group()
        self._n_rows += len(place)

    def _write_rest(self) -> None:
        if self._n_waiting:
            self._write_group()

    def _write_group(self) -> None:
        import pyarrow as pa

        n_rows = self._n_waiting
        arrays = {name: text_array(values) for name, values in self._text.items()}
        arrays["pos"] = number_array(self._positions[:n_rows])
        columns = [arrays[name] for name in text_names(self._model)] + self._score_columns(self._scores[:n_rows])
        self._out.write_table(pa.Table.from_arrays(columns, schema=self._schema), row_group_size=n_rows)
        self._n_waiting = 0
        for values in self._text.values():
            values.clear()

    def _rows_of_group(self, n_scores: int) -> int:
        return _group_rows(n_scores)

    def _make_schema(self) -> Any:
        import pyarrow as pa

        fields = text_fields(self._model)
        for column in self._model.scorer.columns:
            about = {"description": column.description, "unit": column.unit, "formula": column.formula}
            kind = pa.large_string() if column.labels else pa.float32()
            fields.append(pa.field(column.name, kind, metadata=about | dict(column.facts)))
        return pa.schema(fields, metadata=about_model(self._model))

    def _score_columns(self, scores: NDArray[np.float32]) -> list[Any]:
        """Turn scores, (n_rows, n_scores), into the columns behind the text."""
        return [
            text_array([(text or "").encode() for text in label_texts(column, values)])
            if column.labels
            else number_array(values)
            for column, values in zip(self._model.scorer.columns, scores.T, strict=True)
        ]


class ParquetJoiner(ParquetFile):
    """Writes the rows of several Parquet files of one schema into one.

    Args:
        path: The final name.
        like: One of the files.
        force: Replace a file that is there.

    Raises:
        MissingExtra: If pyarrow is not installed.
        InputError: If `like` is no Parquet file.
        DiskError: If the file cannot be made.
    """

    def __init__(self, path: Path, like: Path, *, force: bool) -> None:
        with _opened(like) as file:
            self._schema = file.schema_arrow
        super().__init__(path, self._schema, force=force, staging=None)
        self._group_rows = _group_rows(len(self._schema.names) - len(_leading_text(self._schema)))
        self._waiting: list[Any] = []
        self._n_waiting = 0

    def add(self, source: Path) -> None:
        """Add the rows of a file.

        Raises:
            InputError: If it is no Parquet file, or has other columns.
            DiskError: If the disk is full or fails.
        """
        with _opened(source) as file:
            if not file.schema_arrow.equals(self._schema, check_metadata=True):
                raise InputError(f"{source}: its columns are not those of the other shards.")
            for batch in file.iter_batches(batch_size=self._group_rows):
                self._waiting.append(batch)
                self._n_waiting += batch.num_rows
                self._n_rows += batch.num_rows
                if self._n_waiting >= self._group_rows:
                    with self._target.errors():
                        self._write_groups()

    def _write_groups(self) -> None:
        import pyarrow as pa

        rows = pa.Table.from_batches(self._waiting, self._schema)
        n_full = self._n_waiting // self._group_rows * self._group_rows
        self._out.write_table(rows.slice(0, n_full).combine_chunks(), row_group_size=self._group_rows)
        self._waiting = rows.slice(n_full).to_batches()
        self._n_waiting -= n_full

    def _write_rest(self) -> None:
        import pyarrow as pa

        if self._n_waiting:
            rows = pa.Table.from_batches(self._waiting, self._schema).combine_chunks()
            self._out.write_table(rows, row_group_size=self._n_waiting)


def text_fields(model: Model) -> list[Any]:
    """Give the fields of the columns before the scores."""
    import pyarrow as pa

    return [pa.field(name, pa.int64() if name == "pos" else pa.large_string()) for name in text_names(model)]


def about_model(model: Model) -> dict[str, str]:
    """Give what the schema says of the model."""
    return {"varfm_model": model.name, "varfm_weights_sha256": model.origin.weights_sha256}


def _leading_text(schema: Any) -> list[str]:
    """Name the columns of a schema that stand before the scores."""
    return [name for name in schema.names[: len(_TEXT)] if name in _TEXT]


def _group_rows(n_scores: int) -> int:
    return min(max(_GROUP_VALUES // max(n_scores, 1), _GROUP_ROWS[0]), _GROUP_ROWS[1])


# Arrays are made of buffers: `pyarrow.array` imports pandas, if it is there, which takes longer than many a run.


def text_array(values: list[bytes]) -> Any:
    """Give a column of text, null where it is empty; bytes that are not UTF-8 become U+FFFD."""
    import pyarrow as pa

    try:
        return _bytes_array(values).cast(pa.large_string())
    except pa.ArrowInvalid:
        return _bytes_array([value.decode("utf-8", "replace").encode() for value in values]).cast(pa.large_string())


def _bytes_array(values: list[bytes]) -> Any:
    import pyarrow as pa

    sizes = np.fromiter(map(len, values), np.int64, len(values))
    edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    buffers = [_validity(sizes > 0), pa.py_buffer(edges), pa.py_buffer(b"".join(values))]
    return pa.Array.from_buffers(pa.large_binary(), len(values), buffers)


def number_array(values: NDArray[np.float32] | NDArray[np.int64]) -> Any:
    """Give a column of numbers, (n,), null where one is NaN."""
    import pyarrow as pa

    buffers = [_validity(~np.isnan(values)), pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def _validity(is_there: NDArray[np.bool_]) -> Any:
    """Give the bits of what is no null; None if that is all."""
    import pyarrow as pa

    return None if is_there.all() else pa.py_buffer(np.packbits(is_there, bitorder="little"))


def pyarrow_parquet() -> Any:
    """Import pyarrow's part for Parquet.

    Raises:
        MissingExtra: If it is not installed.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra("pyarrow", "parquet", "Parquet output") from error
    return parquet


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    parquet = pyarrow_parquet()
    import pyarrow as pa

    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}. Score this shard again.") from error
