"""Weights in the safetensors format: a JSON header and plain bytes."""

from __future__ import annotations

from pathlib import Path

from varfm.errors import ModelError
from varfm.readers.tensors import Array, Tensors

_MAX_HEADER = 100_000_000  # the limit of the format itself
_TYPES = frozenset({"F16", "F32", "F64", "I8", "I16", "I32", "I64", "U8", "U16", "U32", "U64"})


def recognises(head: bytes) -> bool:
    """Say whether a file with this beginning is safetensors: a header length, then an opening brace."""
    return len(head) >= 9 and 2 <= int.from_bytes(head[:8], "little") <= _MAX_HEADER and head[8:9] == b"{"


def read(path: Path) -> Tensors:
    """Read every tensor under its name in the file.

    Raises:
        ModelError: If the file is damaged, or holds anything but integers and floats of 16, 32 and 64 bits.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return Tensors(path, {key: _array(file, key, path) for key in file.keys()})
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        said = " ".join(str(error).split())
        raise ModelError(f"{path}: damaged or cut safetensors file ({said[:200]}). Fetch it again.") from error


def _array(file: object, key: str, path: Path) -> Array:
    dtype = file.get_slice(key).get_dtype()  # type: ignore[attr-defined]
    if dtype not in _TYPES:
        raise ModelError(f"{path}: {key!r} holds {dtype}, expected one of {', '.join(sorted(_TYPES))}.")
    array: Array = file.get_tensor(key)  # type: ignore[attr-defined]
    return array
