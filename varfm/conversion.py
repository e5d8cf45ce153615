"""Published weights as safetensors in varfm's own names: quick to load, mapped into memory, no foreign format."""

from __future__ import annotations

import importlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from varfm import __version__
from varfm.checkpoints import (
    Checkpoint,
    FileStatus,
    LocalWeights,
    cache_folder,
    joint_digest,
    status_of,
)
from varfm.converted import (
    FORMAT,
    VERSION,
    Sidecar,
    converted_path,
    model_of,
    sidecar_path,
    status_of_conversion,
    write_sidecar,
)
from varfm.download import sha256_of
from varfm.errors import ModelError
from varfm.models import ModelOptions
from varfm.models.loading import State, described, refuse, sizes
from varfm.overrides import local_copy, source_statuses
from varfm.readers import read_tensors
from varfm.readers.safetensors import write_safetensors


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was made.

    Attributes:
        path: The safetensors file.
        n_tensors: Tensors in it.
        sha256: Of it.
        source_sha256: Of what it was made from; of index and shards together where there are some.
        published: True if that was the published file.
    """

    path: Path
    n_tensors: int
    sha256: str
    source_sha256: str
    published: bool


def convert_file(checkpoint: Checkpoint, source: Path, target: Path, *, model_config: Path | None = None) -> Conversion:
    """Convert a local copy of a model's weights.

    Tensors are read, renamed and written one at a time where the upstream's format allows, so that memory does not
    hold the network twice.

    Args:
        source: The file with the tensors in a format of the upstream, or a folder that holds it.
        target: Written; there whole or not at all; replaced if it is there.
        model_config: JSON file with the sizes of a network that is not the published one.

    Raises:
        ModelError: If the model is read as published, or the source cannot be read or holds another network.
        DiskError: If the target cannot be written.
    """
    copy = local_copy(checkpoint, source)
    statuses = source_statuses(checkpoint, copy)
    weights = LocalWeights(copy.main, joint_digest(statuses), published=False, config=copy.config)
    n_tensors = _write(checkpoint, weights, target, ModelOptions(model_config=model_config))
    published = all(status.state == "ok" for status in statuses)
    return Conversion(target, n_tensors, sha256_of(target), weights.sha256, published)


def convert_cached(checkpoint: Checkpoint) -> Conversion | None:
    """Convert the published weights in the cache, for `locate` to find, unless that was done.

    Returns:
        What was made; None if it was there and right, or the model is read as published.

    Raises:
        ModelError: If the weights are not there, are not the published ones, or cannot be read.
        DiskError: If the cache cannot be written.
    """
    if not checkpoint.converts or _is_done(checkpoint):
        return None
    folder = cache_folder(checkpoint)
    statuses = [status_of(folder / file.name, [file]) for file in checkpoint.sources]
    for status in statuses:
        if status.state in ("missing", "wrong"):
            raise ModelError(f"{status.path}: {_is_not_right(status)}. Run: varfm models download {checkpoint.name}")
    weights = LocalWeights(statuses[0].path, joint_digest(statuses), published=True)
    target = converted_path(checkpoint)
    with suppress(OSError):  # where this fails, so does the writing, which says why
        sidecar_path(checkpoint).unlink()  # never an old sidecar beside a new file
    n_tensors = _write(checkpoint, weights, target, ModelOptions())
    digest = sha256_of(target)
    sources = {file.name: status.sha256 or "" for file, status in zip(checkpoint.sources, statuses, strict=True)}
    write_sidecar(checkpoint, Sidecar(digest, sources, VERSION))
    return Conversion(target, n_tensors, digest, weights.sha256, published=True)


def _is_done(checkpoint: Checkpoint) -> bool:
    status = status_of_conversion(checkpoint)
    return status is not None and status.state == "ok"


def _is_not_right(status: FileStatus) -> str:
    return "is not there" if status.state == "missing" else "is not the published file"


def _write(checkpoint: Checkpoint, weights: LocalWeights, target: Path, options: ModelOptions) -> int:
    """Convert, check names and shapes against the network, and write; gives the number of tensors."""
    if model_of(weights.path) is not None:
        raise ModelError(f"{weights.path}: is converted already. Give a file of the upstream.")
    module = _module_of(checkpoint)
    config = sizes(module.config_of(checkpoint), weights, options)
    state = module.convert(read_tensors(weights.path), config, weights.path)
    with torch.device("meta"):
        network = module.network_of(config)
    _check_fits(network, state, weights.path)
    metadata = {
        "format": FORMAT,
        "conversion": str(VERSION),
        "model": checkpoint.name,
        "source": weights.path.name,
        "source_sha256": weights.sha256,
        "config": json.dumps(described(config), sort_keys=True),
        "varfm": __version__,
    }
    write_safetensors(target, {name: _plain(value) for name, value in state.items()}, metadata)
    return len(state)


def _module_of(checkpoint: Checkpoint) -> ModuleType:
    module = importlib.import_module(f"varfm.models.{checkpoint.module}")
    if not checkpoint.converts or not all(hasattr(module, name) for name in ("config_of", "network_of", "convert")):
        raise ModelError(f"{checkpoint.name} is read as its authors published it; there is nothing to convert.")
    return module


def _check_fits(network: nn.Module, state: State, path: Path) -> None:
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise refuse(path, f"{name} {wanted.get(name, 'not to be there')}", [str(found.get(name, "nothing"))])


def _plain(value: NDArray[np.generic]) -> NDArray[np.generic]:
    """Give a tensor in the type that networks hold: float32, or int64 for counts."""
    dtype = np.int64 if value.dtype.kind in "iu" else np.float32
    return value if value.dtype == dtype else value.astype(dtype)
