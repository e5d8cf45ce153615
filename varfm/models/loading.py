"""What building any network needs: foreign layers by name, strict filling, and what the header says of the weights."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from varfm.converted import converted_config
from varfm.errors import ModelError
from varfm.models import ModelOptions
from varfm.models.settings import MAX_LAYERS
from varfm.protocols import Origin
from varfm.readers import Tensors, read_tensors
from varfm.readers.safetensors import read_metadata, recognises
from varfm.weights import Checkpoint, LocalWeights

Net = TypeVar("Net", bound=nn.Module)
Config = TypeVar("Config")
_OF_THE_HUB = {"model_type", "architectures", "transformers_version"}
_MAX_SIZE = 10_000_000
"""No network is larger in any way; what is far beyond it, PyTorch cannot even count."""
_LAYERS = frozenset({"n_layers", "n_filter_layers"})
_MAX_CONFIG_BYTES = 10_000_000

State = dict[str, NDArray[np.generic]]
"""Values by parameter name."""


def keras_layers(tensors: Mapping[str, NDArray[np.generic]], kind: str) -> list[dict[str, NDArray[np.generic]]]:
    """Give the layers of one kind in the order of their number suffix.

    Args:
        tensors: Dataset paths such as `conv1d_1/conv1d_1/kernel:0`.
        kind: Layer name without suffix, e.g. `conv1d`.

    Returns:
        For each layer, its arrays by name (`kernel`, `bias`, `gamma`, ...).
    """
    layers: dict[int, dict[str, NDArray[np.generic]]] = {}
    pattern = re.compile(rf"(?:.*/)?{re.escape(kind)}(?:_(\d+))?/([a-z_]+):0")
    for path, values in tensors.items():
        if match := pattern.fullmatch(path):
            layers.setdefault(int(match[1] or 0), {})[match[2]] = values
    return [layers[number] for number in sorted(layers)]


def filled(network: Net, state: Mapping[str, NDArray[np.generic]], path: Path) -> Net:
    """Fill a network that was built on the meta device; every key and shape must match.

    Args:
        network: On meta, parameters and buffers of any names.
        state: Values by parameter name.
        path: Where they come from, for messages.

    Returns:
        The same network in float32 on the CPU, in evaluation mode, without gradients.

    Raises:
        ModelError: If a name is missing or unknown, or a shape differs.
    """
    wanted = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if wanted != found:
        wrong = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
        raise refuse(
            path, f"{wrong[0]} {wanted.get(wrong[0], 'not to be there')}", [str(found.get(wrong[0], "nothing"))]
        )
    tensors = {
        name: torch.from_numpy(np.ascontiguousarray(value, np.int64 if value.dtype.kind == "i" else np.float32))
        for name, value in state.items()
    }
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.requires_grad_(False).eval()


def sizes(published: Config, weights: LocalWeights, options: ModelOptions) -> Config:
    """Give the sizes of the network: those of the user's JSON file where there is one, else the published ones.

    Args:
        published: A frozen dataclass; the JSON object may give any of its fields.
        weights: May bring a `config.json` of its own folder; a converted file has its sizes in itself.
        options: `model_config` comes first.

    Raises:
        ModelError: If the file is not such a JSON object.
    """
    path = options.model_config or weights.config
    text = converted_config(weights.path) if path is None else None
    if path is None and text is None:
        return published
    path = path or weights.path
    try:
        found = json.loads(_read(path) if text is None else text)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}). Give the sizes of the network.") from error
    known = {field.name: getattr(published, field.name) for field in fields(published)}  # type: ignore[arg-type]
    if path == weights.config and isinstance(found, dict) and _OF_THE_HUB & found.keys():
        return published  # a copy of a model hub's folder; its tensors have to fit all the same
    if not isinstance(found, dict) or found.keys() - known.keys():
        wrong = ", ".join(sorted(found.keys() - known.keys())) if isinstance(found, dict) else "no object"
        raise ModelError(f"{path}: expected a JSON object with any of {', '.join(known)}; found {wrong}.")
    given = {key: tuple(value) if isinstance(value, list) else value for key, value in found.items()}
    for key, value in given.items():
        most = MAX_LAYERS if key in _LAYERS else _MAX_SIZE
        if not _is_like(value, known[key], most):
            raise ModelError(f"{path}: {key} is {json.dumps(found[key])}, expected something like {known[key]!r}.")
    return type(published)(**(known | given))


def _read(path: Path) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MAX_CONFIG_BYTES)


def _is_like(value: object, example: object, most: int) -> bool:
    if isinstance(example, tuple):
        return isinstance(value, tuple) and bool(value) and all(_is_like(item, example[0], most) for item in value)
    return type(value) is type(example) and (not isinstance(value, int) or 0 <= value <= most)


def described(config: object) -> dict[str, Any]:
    """Give the sizes of a network as the JSON object that `sizes` reads."""
    return asdict(config)  # type: ignore[call-overload]


def loaded(
    make: Callable[[], Net],
    weights: LocalWeights,
    convert: Callable[[Tensors, Path], State],
    *,
    path: Path | None = None,
) -> Net:
    """Build a network on the meta device and fill it; a converted file is taken as it is.

    A network that needs tables which no file holds has a method `build_tables()`, which is called at the end.

    Args:
        make: Builds the network.
        weights: Where its tensors are.
        convert: Turns the upstream's tensors into the network's own state.
        path: Another file than that of `weights`.

    Raises:
        ModelError: If the file cannot be read, or holds another network.
    """
    path = path or weights.path
    with torch.device("meta"):
        network = make()
    tensors = read_tensors(path)
    state: Mapping[str, NDArray[np.generic]] = tensors if is_converted(path) else convert(tensors, path)
    network = filled(network, state, path)
    build_tables = getattr(network, "build_tables", None)
    if build_tables is not None:
        build_tables()
    return network


def is_converted(path: Path) -> bool:
    """Say whether `varfm models convert` wrote the file, so that its keys are the network's own."""
    if path.is_dir():
        return False
    with open(path, "rb") as file:
        is_safetensors = recognises(file.read(9))
    return is_safetensors and read_metadata(path).get("format") == "varfm"


def refuse(path: Path, expected: str, found: Sequence[str]) -> ModelError:
    """Make the error for a file that holds another network."""
    shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
    return ModelError(
        f"{path}: not the weights of this model: expected {expected}, found {shown or 'nothing'}. "
        "Give the file that the authors published, or leave out --weights."
    )


def origin(checkpoint: Checkpoint, weights: LocalWeights, details: tuple[tuple[str, str], ...]) -> Origin:
    """Collect what the header says of a model; a licence that forbids commercial use is stamped so."""
    stamp = "" if checkpoint.commercial else " (not for commercial use)"
    return Origin(weights.sha256, weights.published, checkpoint.licence + stamp, details)
