"""Keras files of the published layouts, small and filled with drawn numbers, so that no test needs the network."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np


def _write(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    draw = np.random.RandomState(7)
    with h5py.File(path, "w") as file:
        for key, shape in sorted(shapes.items()):
            layer, name = key.split("/")
            values = draw.uniform(0.5, 1.5, shape) if name == "moving_variance" else draw.normal(0, 0.3, shape)
            file[f"model_weights/{layer}/{layer}/{name}:0"] = values.astype(np.float32)
    return path


def mpra_dragonn(path: Path) -> Path:
    """Write an MPRA-DragoNN of two filters."""
    shapes: dict[str, tuple[int, ...]] = {"dense_1/kernel": (133 * 2, 12), "dense_1/bias": (12,)}
    for number, n_inputs in enumerate((4, 2, 2), 1):
        shapes[f"conv1d_{number}/kernel"] = (5, n_inputs, 2)
        shapes[f"conv1d_{number}/bias"] = (2,)
        for name in ("gamma", "beta", "moving_mean", "moving_variance"):
            shapes[f"batch_normalization_{number}/{name}"] = (2,)
    return _write(path, shapes)


def xpresso(path: Path) -> Path:
    """Write an Xpresso with six half-life features."""
    shapes = {
        "conv1d_1/kernel": (6, 4, 128),
        "conv1d_1/bias": (128,),
        "conv1d_2/kernel": (9, 128, 32),
        "conv1d_2/bias": (32,),
        "dense_1/kernel": (35 * 32 + 6, 64),
        "dense_1/bias": (64,),
        "dense_2/kernel": (64, 2),
        "dense_2/bias": (2,),
        "dense_3/kernel": (2, 1),
        "dense_3/bias": (1,),
    }
    return _write(path, shapes)
