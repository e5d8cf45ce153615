"""Weights of Basenji and Basenji2 under upstream's names, and a writer of Keras files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from varfm.models.basenji import BasenjiConfig
from varfm.models.basenji2 import Basenji2Config

Arrays = dict[str, NDArray[Any]]
Shapes = dict[str, tuple[int, ...]]

NORM_VARIABLES = ("gamma", "beta", "moving_mean", "moving_variance")


def bundle_shapes(config: BasenjiConfig, spelling: str = "conv1d") -> Shapes:
    """Give keys and shapes of a checkpoint of Basenji; the last layer is called `conv1d` or `dense`."""
    shapes: Shapes = {}
    n_in = 4
    for number, n_out in enumerate(config.channels):
        shapes[f"cnn{number}/conv1d/kernel"] = (config.widths[number], n_in, n_out)
        shapes |= {f"cnn{number}/batch_normalization/{name}": (n_out,) for name in NORM_VARIABLES}
        n_in = n_in + n_out if config.dense[number] else n_out
    last = (n_in, config.n_tracks)
    shapes[f"final/{spelling}/kernel"] = last if spelling == "dense" else (1, *last)
    shapes[f"final/{spelling}/bias"] = (config.n_tracks,)
    return shapes


def keras_shapes(config: Basenji2Config) -> Shapes:
    """Give `layer/variable` and shapes of Basenji2's Keras file, in the network's order."""
    shapes: Shapes = {}
    for number, (width, n_in, n_out) in enumerate(config.convolutions):
        suffix = f"_{number}" if number else ""
        shapes[f"conv1d{suffix}/kernel"] = (width, n_in, n_out)
        shapes |= {f"batch_normalization{suffix}/{name}": (n_out,) for name in NORM_VARIABLES}
    shapes["dense/kernel"], shapes["dense/bias"] = (config.head_channels, config.n_tracks), (config.n_tracks,)
    return shapes


def write_keras(path: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> None:
    """Write weights, by `layer/variable` in the network's order, as Keras does."""
    with h5py.File(path, "w") as file:
        file.attrs.update(facts)
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = ["sequence", *dict.fromkeys(key.split("/")[0] for key in arrays)]
        root.create_group("sequence")
        for key, values in arrays.items():
            layer, variable = key.split("/")
            root[f"{layer}/{layer}/{variable}:0"] = values.astype(np.float32)
