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
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(_HEAD.size)
        if len(head) < _HEAD.size:
            raise _refuse(path, f"{size} bytes", f"at least {_HEAD.size}")
        n = _n_features(head, path)
        if size != _HEAD.size + 4 * (n + 1):
            raise _refuse(path, f"{size} bytes", f"{_HEAD.size + 4 * (n + 1)} for {n} features")
        values = np.frombuffer(file.read(), "<f4", n + 1).astype(np.float32)
    base_score = _HEAD.unpack(head)[1]
    bias, base = np.array(values[-1]), np.array(base_score, np.float32)
    return Tensors(path, {"weight": values[:-1], "bias": bias, "base_score": base})


def _n_features(head: bytes, path: Path) -> int:
    magic, _, n, *rest = _HEAD.unpack(head)
    expected = [0, len(_NAMES[0]), _NAMES[0], len(_NAMES[1]), _NAMES[1], n, 1, n + 1]
    if magic != b"binf" or rest != expected or not n:
        raise _refuse(path, f"{n} features, then {rest}", f"{expected}")
    if any(head[zeros].strip(b"\0") for zeros in _ZEROS):
        raise _refuse(path, "values in reserved fields", "zeros")
    n_features: int = n
    return n_features


def _refuse(path: Path, found: str, expected: str) -> ModelError:
    return ModelError(
        f"{path}: not a linear regression of xgboost 0.x: it has {found}, expected {expected}. Fetch the file again."
    )
