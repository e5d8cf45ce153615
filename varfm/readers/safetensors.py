"""Weights in the safetensors format: a JSON header and plain bytes, which are memory-mapped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from varfm.errors import ModelError, printable
from varfm.io.atomic import AtomicFile, disk_errors
from varfm.readers.tensors import Array, Tensors

_MAX_HEADER = 100_000_000  # the limit of the format itself
_NAMES = {
    "f2": "F16",
    "f4": "F32",
    "f8": "F64",
    "i1": "I8",
    "i2": "I16",
    "i4": "I32",
    "i8": "I64",
    "u1": "U8",
    "u2": "U16",
    "u4": "U32",
    "u8": "U64",
}
_TYPES = (*_NAMES.values(), "BF16", "BOOL")
_PIECE = 1 << 20


def recognises(head: bytes) -> bool:
    """Say whether a file with this beginning is safetensors: a header length, then an opening brace."""
    return len(head) >= 9 and 2 <= int.from_bytes(head[:8], "little") <= _MAX_HEADER and head[8:9] == b"{"


def read(path: Path) -> Tensors:
    """Read every tensor under its name in the file, memory-mapped; BF16 becomes float32, BOOL becomes uint8.

    Raises:
        ModelError: If the file is damaged, or holds NaN, infinity, or anything but integers and floats of 16, 32 and 64
            bits.
    """
    with _opened(path) as file:
        keys = list(file.keys())
    for key in keys:
        # Each through a mapping of its own, so that the memory of what was only looked at is given back.
        with _opened(path) as file:
            Tensors(path, {key: _array(file, key, path)}).check_finite()
    with _opened(path) as file:  # through torch, since safetensors copies what it gives as NumPy arrays
        return Tensors(path, {key: _array(file, key, path) for key in keys})


def read_metadata(path: Path) -> dict[str, str]:
    """Give the texts that stand beside the tensors, e.g. which model they belong to; empty where there are none.

    Raises:
        ModelError: If the file is damaged.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


def write_safetensors(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write a file that is there whole or not at all; equal arrays give equal bytes. No array is copied as a whole.

    Args:
        path: Replaced if it is there; its folder must exist.
        arrays: Integers, and floats of 16, 32 and 64 bits, of any order in memory.
        metadata: Texts to stand beside the tensors.

    Raises:
        ModelError: If an array is of another type.
        DiskError: If the file cannot be written.
    """
    keys = sorted(arrays, key=lambda key: (-arrays[key].dtype.itemsize, key))  # so that every tensor is aligned
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for key in keys:
        array = arrays[key]
        name = _NAMES.get(array.dtype.str[1:])
        if name is None:
            raise ModelError(f"{path}: {key!r} holds {array.dtype}, which safetensors files of varfm do not keep.")
        header[key] = {"dtype": name, "shape": array.shape, "data_offsets": (end, end + array.nbytes)}
        end += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with AtomicFile(path, force=True) as output:
        with disk_errors(output.name):
            output.file.write(len(text).to_bytes(8, "little") + text)
            for key in keys:
                _write(output.file, arrays[key])
        output.seal()
        output.publish()


def _write(file: BinaryIO, array: Array) -> None:
    little = array.dtype.newbyteorder("<")
    flags: Any = ["external_loop", "buffered", "zerosize_ok"]
    pieces: Any = np.nditer(array, flags, ["readonly"], [little], order="C", casting="equiv", buffersize=_PIECE)
    with pieces:
        for piece in pieces:
            file.write(piece.tobytes())


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        said = printable(" ".join(str(error).split()))
        raise ModelError(f"{path}: damaged or cut safetensors file ({said[:200]}). Fetch it again.") from error


def _array(file: Any, key: str, path: Path) -> Array:
    """Give a tensor as an array over the mapped file."""
    dtype = file.get_slice(key).get_dtype()
    if dtype not in _TYPES:
        raise ModelError(f"{path}: {key!r} holds {dtype}, expected one of {', '.join(_TYPES)}.")
    tensor = file.get_tensor(key)
    if dtype == "BF16":
        tensor = tensor.float()
    elif dtype == "BOOL":
        tensor = tensor.byte()
    array: Array = tensor.numpy()
    return array
