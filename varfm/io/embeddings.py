"""Files of embeddings: one row per allele, in input order, with its status; Parquet or NumPy's npz."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from varfm.io.columns import ColumnWriter
from varfm.io.counted import CountedFile
from varfm.io.parquet import ParquetWriter, about_model, text_fields
from varfm.protocols import Model

SUFFIXES = (".parquet", ".npz")

_TEXT = ("contig", "id", "ref", "alt", "status")
_NAMES = ("contig", "pos", "id", "ref", "alt", "status")
_EMBEDDINGS = ("ref_embedding", "alt_embedding")
_GROUP_VALUES = 2**23  # numbers of a row group, 32 MiB in memory
_PIECE_ROWS = 2**12


class EmbeddingParquetWriter(ParquetWriter):
    """Writes the text columns of a table, and two lists of float32 of fixed length; null where an allele was not read.

    Arguments and errors are those of `ParquetWriter`.
    """

    def _rows_of_group(self, n_scores: int) -> int:
        return max(2**8, _GROUP_VALUES // n_scores)

    def _make_schema(self) -> Any:
        import pyarrow as pa

        width = self._model.scorer.n_values // 2
        fields = [*text_fields(self._model), *(pa.field(name, pa.list_(pa.float32(), width)) for name in _EMBEDDINGS)]
        options = {f"varfm_{key}": text for key, text in self._model.origin.options}
        return pa.schema(fields, metadata=about_model(self._model) | options)

    def _score_columns(self, scores: NDArray[np.float32]) -> list[Any]:
        return [_lists(part) for part in np.split(scores, 2, axis=1)]


def _lists(values: NDArray[np.float32]) -> Any:
    import pyarrow as pa

    numbers = pa.array(np.ascontiguousarray(values).ravel())
    return pa.FixedSizeListArray.from_arrays(numbers, values.shape[1], mask=pa.array(np.isnan(values).all(axis=1)))


class NpzWriter(ColumnWriter):
    """Writes one array per column: text and `pos` (n,), and embeddings (n, width), NaN where an allele was not read.

    The arrays grow in temporary files beside the target, since the format wants their lengths first. Text takes four
    bytes for every character of the longest value in its column.

    Args:
        path: The final name.
        model: Its scorer gives embeddings.
        force: Replace a file that is there.
        staging: The folder of the temporary file; see `AtomicFile`.

    Raises:
        DiskError: If the file cannot be made.
    """

    def __init__(self, path: Path, model: Model, *, force: bool, staging: str | None = None) -> None:
        super().__init__(model)
        self.path = path
        self._width = model.scorer.n_values // 2
        self._n_rows = 0
        self._longest = dict.fromkeys(_TEXT, 1)
        self._target = CountedFile(path, force=force, staging=staging)
        self._stack = contextlib.ExitStack()
        try:
            with self._target.errors():
                folder = os.path.dirname(self._target.temporary)
                names = (*_NAMES, *_EMBEDDINGS)
                opened = (self._stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in names)
                self._parts: dict[str, BinaryIO] = dict(zip(names, opened, strict=True))
        except BaseException:
            self.discard()
            raise

    def _add(self, scores: NDArray[np.float32], place: NDArray[np.int64], text: dict[str, list[bytes]]) -> None:
        with self._target.errors():
            for name, column in text.items():
                decoded = [value.decode("utf-8", "replace") for value in column]
                self._longest[name] = max(self._longest[name], *map(len, decoded), 1)
                self._parts[name].write("".join(f"{value}\n" for value in decoded).encode())
            self._parts["pos"].write(place.astype("<i8").tobytes())
            for name, part in zip(_EMBEDDINGS, np.split(scores, 2, axis=1), strict=True):
                self._parts[name].write(np.ascontiguousarray(part, "<f4").tobytes())
        self._n_rows += len(place)

    def seal(self) -> None:
        """Put the arrays into one file and read its row count again.

        Raises:
            DiskError: If the disk fails, or the file holds another number of rows than were written.
        """
        with self._target.errors(), zipfile.ZipFile(self._target.file, "w", zipfile.ZIP_DEFLATED, True, 1) as archive:
            for name, part in self._parts.items():
                part.seek(0)
                # Without a time, so that equal input gives equal bytes.
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    self._write_member(name, part, member)
        self._stack.close()
        self._target.seal(self._n_rows, _n_rows)

    @property
    def temporary(self) -> Path:
        """Where the file lies until it is published."""
        return self._target.temporary

    def publish(self) -> None:
        """Give a sealed file its name."""
        self._target.publish()

    def discard(self) -> None:
        """Remove what was written; nothing happens after `publish`."""
        self._stack.close()
        self._target.discard()

    def _write_member(self, name: str, part: BinaryIO, member: Any) -> None:
        width = (self._width,) if name in _EMBEDDINGS else ()
        kinds = {"pos": "<i8", **{text: f"<U{n}" for text, n in self._longest.items()}}
        kind = kinds.get(name, "<f4")
        header = {"descr": kind, "fortran_order": False, "shape": (self._n_rows, *width)}
        np.lib.format.write_array_header_1_0(member, header)
        if name not in self._longest:
            shutil.copyfileobj(part, member, 1 << 20)
            return
        for piece in _pieces(part):
            member.write(np.array(piece, kind).tobytes())


def _pieces(lines: BinaryIO) -> Iterator[list[str]]:
    piece: list[str] = []
    for line in lines:
        piece.append(line[:-1].decode())
        if len(piece) == _PIECE_ROWS:
            yield piece
            piece = []
    if piece:
        yield piece


def _n_rows(path: str) -> int:
    with zipfile.ZipFile(path) as archive, archive.open("pos.npy") as member:
        np.lib.format.read_magic(member)
        (n_rows,), _, _ = np.lib.format.read_array_header_1_0(member)
    return int(n_rows)
