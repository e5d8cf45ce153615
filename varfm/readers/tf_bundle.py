"""TensorFlow checkpoints (tensor bundles): an `.index` beside `.data-SSSSS-of-NNNNN`, read without TensorFlow.

The index is a table as LevelDB writes it: blocks of sorted keys, each followed by a checksum. Data are memory-mapped.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from varfm.errors import ModelError
from varfm.readers.crc32c import crc32c, masked
from varfm.readers.protobuf import Damaged, Fields, fields, varint
from varfm.readers.tensors import Array, Tensors

_MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
_DATA_SUFFIX = re.compile(r"\.data-\d{5}-of-\d{5}$")
_FOOTER_BYTES = 48
_TRAILER_BYTES = 5  # type of compression, checksum
_MAX_INDEX_BYTES = 64 << 20
_MAX_SHARDS = 1000
_MAX_DIMENSIONS = 16
_BFLOAT16 = 14
_DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<f4"),
    2: np.dtype("<f8"),
    3: np.dtype("<i4"),
    4: np.dtype("u1"),
    5: np.dtype("<i2"),
    6: np.dtype("i1"),
    9: np.dtype("<i8"),
    _BFLOAT16: np.dtype("<u2"),
    17: np.dtype("<u2"),
    19: np.dtype("<f2"),
    22: np.dtype("<u4"),
    23: np.dtype("<u8"),
}
_NO_NUMBERS = frozenset({7, 10, 20, 21})  # text (the object graph too), booleans, resources, variants


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int | None


class _Unsupported(Exception):
    """A checkpoint that may be sound, but is of a kind that is not read."""


def recognises_end(tail: bytes) -> bool:
    """Say whether a file with this end is the index of a checkpoint."""
    return tail.endswith(_MAGIC)


def index_of(path: Path) -> Path | None:
    """Give the index that a path stands for: that of a prefix such as `model.ckpt`, or of a data file; else None."""
    index = path.with_name(_DATA_SUFFIX.sub("", path.name) + ".index")
    return index if index.is_file() and (not path.exists() or _DATA_SUFFIX.search(path.name)) else None


def read(path: Path) -> Tensors:
    """Read every tensor of numbers under its key in the index; the checkpoint's text and object graph are left out.

    Args:
        path: The `.index`; the data lie beside it under the names that TensorFlow gives them.

    Raises:
        ModelError: If a file is missing or damaged, a checksum is wrong, or a tensor is cut into slices.
    """
    try:
        entries, n_shards = _entries(path)
    except _Unsupported as error:
        raise ModelError(f"{path}: {error}, which is not supported. Give the authors' file.") from error
    except (Damaged, struct.error, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: damaged or cut index of a TensorFlow checkpoint ({error}). Fetch it again."
        ) from error
    shards = {number: _shard(path, number, n_shards) for number in sorted({entry.shard for entry in entries})}
    arrays = {entry.key: _array(entry, *shards[entry.shard]) for entry in entries}
    if not arrays:
        raise ModelError(f"{path}: a TensorFlow checkpoint without tensors of numbers. Is it the authors' file?")
    return Tensors(path, arrays)


def _entries(path: Path) -> tuple[list[_Entry], int]:
    if path.stat().st_size > _MAX_INDEX_BYTES:
        raise Damaged("it is longer than any index")
    content = path.read_bytes()
    if len(content) < _FOOTER_BYTES or not content.endswith(_MAGIC):
        raise Damaged("its last bytes are not those of an index")
    footer = content[-_FOOTER_BYTES:]
    _, at = _handle(footer, 0)
    (start, size), _ = _handle(footer, at)
    found: dict[str, bytes] = {}
    end = 0
    for _, value in _block(content, start, size):
        (start, size), _ = _handle(value, 0)
        if start < end:
            raise Damaged(f"blocks overlap at byte {start}")
        end = start + size
        for key, entry in _block(content, start, size):
            if key.startswith(b"\0"):
                raise _Unsupported("a tensor is cut into slices")
            if found.setdefault(key.decode(), entry) is not entry:
                raise Damaged(f"the key {key.decode()[:80]!r} stands in it twice")
    n_shards = _n_shards(fields(found.pop("", b"")))
    entries = [_entry(key, fields(value), n_shards) for key, value in found.items()]
    return [entry for entry in entries if entry.dtype not in _NO_NUMBERS], n_shards


def _handle(content: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = varint(content, at)
    size, at = varint(content, at)
    return (offset, size), at


def _block(content: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Give keys and values of one block of the table."""
    end = start + size
    if end + _TRAILER_BYTES > len(content) or size < 4:
        raise Damaged("a block lies beyond its end")
    compression, crc = struct.unpack_from("<BI", content, end)
    if masked(crc32c(content[start : end + 1])) != crc:
        raise Damaged(f"the checksum of the block at byte {start} is wrong")
    if compression:
        raise _Unsupported(f"its index is compressed (type {compression})")
    (n_restarts,) = struct.unpack_from("<I", content, end - 4)
    entries = content[start : end - 4 * (n_restarts + 1)] if 4 * (n_restarts + 1) <= size else b""
    at, key = 0, b""
    while at < len(entries):
        n_shared, at = varint(entries, at)
        n_own, at = varint(entries, at)
        n_value, at = varint(entries, at)
        if n_shared > len(key) or at + n_own + n_value > len(entries):
            raise Damaged(f"an entry is longer than its block at byte {start}")
        key = key[:n_shared] + entries[at : at + n_own]
        at += n_own + n_value
        yield key, entries[at - n_value : at]


def _n_shards(header: Fields) -> int:
    n_shards = header.number(1)
    if not 0 < n_shards <= _MAX_SHARDS:
        raise Damaged(f"it counts {n_shards} data files")
    if header.number(2):
        raise _Unsupported("its data are big-endian")
    return n_shards


def _entry(key: str, entry: Fields, n_shards: int) -> _Entry:
    if entry.parts(7):
        raise _Unsupported(f"tensor {key[:200]!r} is cut into slices")
    dtype = entry.number(1)
    shape = tuple(fields(dimension).number(1) for part in entry.parts(2) for dimension in fields(part).parts(2))
    found = _Entry(key, dtype, shape, entry.number(3), entry.number(4), entry.number(5), entry.fixed(6))
    if dtype in _NO_NUMBERS:
        return found
    if dtype not in _DTYPES:
        raise _Unsupported(f"tensor {key[:200]!r} is of TensorFlow's type number {dtype}")
    if len(shape) > _MAX_DIMENSIONS or math.prod(shape) * _DTYPES[dtype].itemsize != found.size:
        raise Damaged(f"tensor {key[:200]!r} of shape {shape} takes {found.size} bytes")
    if found.shard >= n_shards:
        raise Damaged(f"tensor {key[:200]!r} lies in data file {found.shard} of {n_shards}")
    return found


def _shard(index: Path, number: int, n_shards: int) -> tuple[Path, Array]:
    """Map one data file; its bytes may be written to in memory, the file stays as it is."""
    path = index.with_name(f"{index.name.removesuffix('.index')}.data-{number:05d}-of-{n_shards:05d}")
    try:
        if not path.stat().st_size:
            return path, np.zeros(0, np.uint8)
        return path, np.memmap(path, np.uint8, "c").view(np.ndarray)
    except OSError as error:
        raise ModelError(
            f"{path}: cannot be read ({error.strerror}). {index.name} needs it: put it into the same folder."
        ) from error


def _array(entry: _Entry, path: Path, shard: Array) -> Array:
    end = entry.offset + entry.size
    if end > len(shard):
        raise ModelError(
            f"{path}: cut: it has {len(shard)} bytes, tensor {entry.key!r} ends at byte {end}. Fetch it again."
        )
    content = shard[entry.offset : end]
    if entry.crc is not None and masked(crc32c(content)) != entry.crc:
        raise ModelError(f"{path}: damaged: the checksum of tensor {entry.key!r} is wrong. Fetch it again.")
    dtype = _DTYPES[entry.dtype]
    if content.ctypes.data % dtype.alignment:
        content = content.copy()
    array: Array = content.view(dtype).reshape(entry.shape)
    if entry.dtype == _BFLOAT16:
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array
