"""The tensors of one weight file, taken one by one so that nothing missing, misshapen or left over goes unseen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from varfm.errors import ModelError

Array = NDArray[Any]
Fact = float | str | bool

_PIECE = 1 << 16
"""Elements looked at together: what is derived from them stays in the processor's cache."""


def is_number(dtype: np.dtype[Any]) -> bool:
    """Say whether tensors of that type are read: integers, and floats of 16, 32 and 64 bits."""
    return dtype.kind in "iu" or (dtype.kind == "f" and dtype.itemsize in (2, 4, 8))


class Tensors(Mapping[str, Array]):
    """The arrays of a weight file by name, in its own types and shapes; memory-mapped where the format allows.

    A model takes each by `take` and calls `check_all_taken` at the end. All may be written to; the file never changes.

    Attributes:
        path: The file, the prefix or the folder they were read from.
        facts: What else the file says: numbers, texts and classes of a Torch7 file by path; `layer_names` and
            `model_config` of a Keras file; nothing for other formats.
    """

    def __init__(self, path: Path, arrays: Mapping[str, Array], facts: Mapping[str, Fact] | None = None) -> None:
        self.path = path
        self.facts: Mapping[str, Fact] = dict(facts or {})
        self._arrays = dict(arrays)
        self._taken: set[str] = set()

    def __getitem__(self, key: str) -> Array:
        return self._arrays[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def take(self, key: str, shape: Sequence[int | None], dtype: DTypeLike = np.float32) -> Array:
        """Give a tensor as a contiguous array of `dtype` that may be written to: the one of this mapping where it fits.

        Args:
            shape: What it must be; None for a size that the file decides.

        Raises:
            ModelError: If it is missing or has another shape.
        """
        found = self._arrays.get(key)
        wanted = _shown(shape)
        if found is None:
            raise ModelError(f"{self.path}: no tensor {key!r} of shape {wanted}. Are these the weights of this model?")
        if not _fits(found.shape, shape):
            raise ModelError(
                f"{self.path}: tensor {key!r} has shape {_shown(found.shape)}, expected {wanted}. "
                "Are these the weights of this model?"
            )
        self._taken.add(key)
        return np.require(found, np.dtype(dtype), ["C_CONTIGUOUS", "ALIGNED", "WRITEABLE"])

    def check_finite(self) -> None:
        """Make sure that no tensor holds a value that no training writes.

        Raises:
            ModelError: Naming the first tensor with NaN or infinity.
        """
        for key, array in self._arrays.items():
            if not _is_finite(array):
                raise ModelError(f"{self.path}: tensor {key!r} holds NaN or infinity. Fetch the file again.")

    def check_all_taken(self) -> None:
        """Make sure that the model used every tensor of the file.

        Raises:
            ModelError: If one is left over.
        """
        left = sorted(self._arrays.keys() - self._taken)
        if left:
            names = ", ".join(repr(key) for key in left[:3]) + (", ..." if len(left) > 3 else "")
            raise ModelError(
                f"{self.path}: some tensors belong to no part of the model ({names}). "
                "Are these the weights of this model?"
            )


def _is_finite(array: Array) -> bool:
    if array.dtype.kind != "f":
        return True
    pieces = np.nditer(array, ["external_loop", "buffered", "zerosize_ok"], ["readonly"], buffersize=_PIECE)
    return all(bool(np.isfinite(piece).all()) for piece in pieces)


def _fits(found: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(found) == len(wanted) and all(w is None or w == f for f, w in zip(found, wanted, strict=True))


def _shown(shape: Sequence[int | None]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
