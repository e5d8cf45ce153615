"""The head that `varfm finetune` trains with an adapter: one small file beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from varfm.digits import is_whole
from varfm.errors import ModelError
from varfm.readers.safetensors import read, read_metadata, recognises, write_safetensors
from varfm.scorers.embedding import Head

FILE = "varfm_head.safetensors"
_FORMAT = "varfm head 1"
_KEYS = {"format", "model", "weights_sha256", "adapter_sha256", "labels", "window"}
_AGAIN = "Run varfm finetune again, or remove the file to use the adapter alone."


@dataclass(frozen=True, slots=True)
class TrainedHead:
    """A head, and what it was trained with.

    Attributes:
        head: The function.
        model: Name in the catalogue.
        weights_sha256: Of the base.
        adapter_sha256: Of the adapter's tensors.
        window: Bases of a window in training.
        sha256: Of the file; empty before it is written.
    """

    head: Head
    model: str
    weights_sha256: str
    adapter_sha256: str
    window: int
    sha256: str = ""


def write_head(folder: Path, trained: TrainedHead) -> None:
    """Write the head into an adapter's folder.

    Raises:
        DiskError: If it cannot be written.
    """
    head = trained.head
    arrays = {"of_ref": head.of_ref, "of_change": head.of_change, "bias": np.array([head.bias])}
    about = {
        "format": _FORMAT,
        "model": trained.model,
        "weights_sha256": trained.weights_sha256,
        "adapter_sha256": trained.adapter_sha256,
        "labels": "binary" if head.is_probability else "real",
        "window": str(trained.window),
    }
    write_safetensors(folder / FILE, arrays, about)


def read_head(folder: Path) -> TrainedHead | None:
    """Read the head of an adapter's folder; None where there is none.

    Raises:
        ModelError: If it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    content = path.read_bytes()
    about: Mapping[str, str] = read_metadata(path) if recognises(content[:9]) else {}
    if about.keys() != _KEYS or about["format"] != _FORMAT or not is_whole(about["window"]):
        raise ModelError(f"{path}: not a head that this version of varfm wrote. {_AGAIN}")
    tensors = read(path)
    tensors.check_finite()
    (bias,) = tensors.take("bias", (1,), np.float64)
    of_ref = tensors.take("of_ref", (None,), np.float64)
    of_change = tensors.take("of_change", (len(of_ref),), np.float64)
    tensors.check_all_taken()
    head = Head(of_ref, of_change, float(bias), about["labels"] == "binary")
    sha256 = hashlib.sha256(content).hexdigest()
    return TrainedHead(
        head, about["model"], about["weights_sha256"], about["adapter_sha256"], int(about["window"]), sha256
    )


def check_belongs(trained: TrainedHead, folder: Path, model: str, weights_sha256: str, adapter_sha256: str) -> None:
    """See to it that a head was trained with this adapter on these weights.

    Raises:
        ModelError: If not.
    """
    path = folder / FILE
    if trained.model != model or trained.weights_sha256 != weights_sha256:
        raise ModelError(
            f"{path}: trained on {trained.model} with weights of sha256 {trained.weights_sha256[:16]}..., "
            f"not on {model} with {weights_sha256[:16]}.... Run it with the weights that it was trained on."
        )
    if trained.adapter_sha256 != adapter_sha256:
        raise ModelError(f"{path}: trained with another adapter than the one beside it. {_AGAIN}")
