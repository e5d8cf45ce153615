"""What building any network needs: foreign layers by name, strict filling, and what the header says of the weights."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from varfm.errors import ModelError
from varfm.protocols import Origin
from varfm.weights import Checkpoint, LocalWeights

Net = TypeVar("Net", bound=nn.Module)


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


def refuse(path: Path, expected: str, found: Sequence[str]) -> ModelError:
    """Make the error for a file that holds another network."""
    shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
    return ModelError(
        f"{path}: not the weights of this model: expected {expected}, found {shown or 'nothing'}. "
        "Give the file that the authors published, or leave out --weights."
    )


def origin(checkpoint: Checkpoint, weights: LocalWeights, details: tuple[tuple[str, str], ...]) -> Origin:
    """Collect what the header says of a model."""
    return Origin(weights.sha256, weights.published, checkpoint.licence, details)
