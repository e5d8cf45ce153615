"""Folders as Hugging Face keeps them: one file of weights, or shards and the index that names them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from varfm.errors import ModelError
from varfm.readers import tf_bundle
from varfm.readers.tensors import Array, Tensors

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")
_MAX_INDEX_BYTES = 64 << 20
_MAX_SHARDS = 1000


def checkpoint_of(path: Path) -> Path:
    """Give the file that a path stands for: the one of a folder that is read, the index of a prefix, else the path.

    Raises:
        ModelError: If a folder holds no weights, or two TensorFlow checkpoints.
    """
    if not path.is_dir():
        return tf_bundle.index_of(path) or path
    for name in _SINGLE + _INDEXES:
        if (path / name).is_file():
            return path / name
    found = sorted(path.glob("*.index")) or sorted(path.glob("variables/variables.index"))
    if len(found) != 1:
        what = "two or more TensorFlow checkpoints" if found else f"neither {' nor '.join(_SINGLE)}"
        raise ModelError(f"{path}: the folder holds {what}. Give a weight file, or a folder with one model.")
    return found[0]


def names_shards(path: Path) -> bool:
    """Say whether a file is the index of shards."""
    return path.name in _INDEXES


def read_shards(index: Path, read: Callable[[Path], Tensors]) -> Tensors:
    """Read the tensors of every shard that an index names; each must lie in the shard that the index says.

    Args:
        index: `model.safetensors.index.json` or `pytorch_model.bin.index.json`; shards lie beside it.
        read: Reads one shard.

    Raises:
        ModelError: If the index is damaged, names a file elsewhere, or does not agree with the shards.
    """
    places = _weight_map(index)
    arrays: dict[str, Array] = {}
    for name in sorted(set(places.values())):
        shard = read(index.with_name(name))
        if shard.keys() != {key for key, place in places.items() if place == name}:
            raise ModelError(f"{index}: {name} does not hold the tensors that the index says. Fetch the folder again.")
        arrays.update(shard)
    return Tensors(index.parent, arrays)


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        content = index.read_bytes()
        found = json.loads(content) if len(content) <= _MAX_INDEX_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{index}: damaged or cut index of shards ({str(error)[:200]}). Fetch it again.") from error
    places = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(places, dict) or not places:
        raise ModelError(f"{index}: not an index of shards: it has no weight_map. Fetch it again.")
    names = list(places.values())
    if not all(isinstance(name, str) and _is_plain(name) for name in names) or len(set(names)) > _MAX_SHARDS:
        raise ModelError(f"{index}: names a file outside its own folder, or too many. Fetch it again.")
    return places


def _is_plain(name: str) -> bool:
    """Say whether a name is that of a file in the same folder."""
    return name.isprintable() and not set(name) & set("/\\:") and not name.startswith(".") and bool(name)
