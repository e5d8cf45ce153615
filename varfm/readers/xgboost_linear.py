"""Linear models of xgboost before 1.0 (`gblinear`, `.save`), as ExPecto has one for each tissue."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from varfm.errors import ModelError
from varfm.readers.tensors import Tensors

_HEAD = struct.Struct("<4s fIi 124x Q10s Q8s Ii 128x Q")
_ZEROS = (slice(16, 140), slice(182, 310))
_NAMES = (b"reg:linear", b"gblinear")


def recognises(head: bytes) -> bool:
    """Say whether a file with this beginning is a model of xgboost in its old binary format."""
    return head.startswith(b"binf")


def read(path: Path) -> Tensors:
    """Read `weight` (n,), `bias` () and `base_score` (); the model answers `weight . x + bias + base_score`.

    Raises:
        ModelError: If any field differs from those of a linear regression with one output, or the size is wrong.
    """
    content = path.read_bytes()
    if len(content) < _HEAD.size:
        raise _refuse(path, f"{len(content)} bytes", f"at least {_HEAD.size}")
    magic, base_score, n, *rest = _HEAD.unpack_from(content)
    expected = [0, len(_NAMES[0]), _NAMES[0], len(_NAMES[1]), _NAMES[1], n, 1, n + 1]
    if magic != b"binf" or rest != expected or not n:
        raise _refuse(path, f"{n} features, then {rest}", f"{expected}")
    if any(content[zeros].strip(b"\0") for zeros in _ZEROS):
        raise _refuse(path, "values in reserved fields", "zeros")
    if len(content) != _HEAD.size + 4 * (n + 1):
        raise _refuse(path, f"{len(content)} bytes", f"{_HEAD.size + 4 * (n + 1)} for {n} features")
    values = np.frombuffer(content, "<f4", n + 1, _HEAD.size).astype(np.float32)
    arrays = {"weight": values[:-1], "bias": values[-1].copy(), "base_score": np.array(base_score, np.float32)}
    return Tensors(path, {key: np.asarray(array) for key, array in arrays.items()})


def _refuse(path: Path, found: str, expected: str) -> ModelError:
    return ModelError(
        f"{path}: not a linear regression of xgboost 0.x: it has {found}, expected {expected}. Fetch the file again."
    )
