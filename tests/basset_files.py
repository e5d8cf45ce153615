"""Basset's weights in the two formats in which they are published, and their keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from writers import Module, sequential

Array = NDArray[Any]

NORM_EPS = 1e-5


@dataclass(frozen=True)
class Layers:
    """Convolutions as (channels in, out, width, pool), and dense layers as (units in, out)."""

    convs: tuple[tuple[int, int, int, int], ...]
    dense: tuple[tuple[int, int], ...]

    def numbered_convs(self) -> dict[int, tuple[int, int, int, int]]:
        """Give the convolutions by their place among all modules, from 0."""
        return {4 * number: conv for number, conv in enumerate(self.convs)}

    def numbered_dense(self) -> dict[int, tuple[int, int]]:
        """Give the dense layers by their place among all modules, from 0."""
        return {4 * (len(self.convs) + number) + 1: layer for number, layer in enumerate(self.dense)}


PUBLISHED = Layers(
    ((4, 300, 19, 3), (300, 200, 11, 4), (200, 200, 7, 4)), ((2000, 1000), (1000, 1000), (1000, 164))
)  # fmt: skip


def kipoi_shapes(layers: Layers) -> dict[str, tuple[int, ...]]:
    """Give keys and shapes of the Kipoi state dict: modules counted from 0, kernels (out, in, width, 1)."""
    found: dict[str, tuple[int, ...]] = {}
    for number, (n_in, n_out, width, _) in layers.numbered_convs().items():
        found |= {f"{number}.weight": (n_out, n_in, width, 1), f"{number}.bias": (n_out,)} | _norm(number + 1, n_out)
    for number, (n_in, n_out) in layers.numbered_dense().items():
        found |= {f"{number}.1.weight": (n_out, n_in), f"{number}.1.bias": (n_out,)} | _norm(number + 1, n_out)
    n_tracks_norm = f"{4 * (len(layers.convs) + len(layers.dense)) - 2}."  # no norm stands behind the last dense layer
    return {key: shape for key, shape in found.items() if not key.startswith(n_tracks_norm)}


def _norm(number: int, n: int) -> dict[str, tuple[int, ...]]:
    return {f"{number}.{name}": (n,) for name in ("weight", "bias", "running_mean", "running_var")}


def convnet(weights: Mapping[str, Array], layers: Layers, *, legacy: bool = True) -> dict[str, Any]:
    """Give the table that the authors' training script saves with Torch7.

    Args:
        weights: By the keys of `kipoi_shapes`.
        layers: Sizes.
        legacy: Whether norms keep inverse standard deviations, as the published file does, or variances.
    """
    modules: list[Module] = []
    for number, (n_in, n_out, width, pool) in layers.numbered_convs().items():
        kernel = _parameters(weights, str(number))
        kernel["weight"] = kernel["weight"].reshape(n_out, n_in, 1, width)
        modules.append(Module("nn.SpatialConvolution", kernel | {"kW": width, "kH": 1, "padW": 0, "padH": 0}))
        modules += [_batch_norm(weights, number + 1, "Spatial", legacy), Module("nn.ReLU")]
        modules.append(Module("nn.SpatialMaxPooling", {"kW": pool, "dW": pool, "kH": 1, "ceil_mode": True}))
    modules.append(Module("nn.Reshape", {"nelement": layers.dense[0][0]}))
    *hidden, last = layers.numbered_dense()
    for number in hidden:
        modules.append(Module("nn.Linear", _parameters(weights, f"{number}.1")))
        modules += [_batch_norm(weights, number + 1, "", legacy), Module("nn.ReLU"), Module("nn.Dropout", {"p": 0.3})]
    modules += [Module("nn.Linear", _parameters(weights, f"{last}.1")), Module("nn.Sigmoid")]
    flat = np.zeros(3)
    training = {"parameters": flat, "gradParameters": flat, "optim_state": {"m": flat}, "pred_means": np.zeros(2)}
    return {"model": sequential(*modules), "criterion": Module("nn.BCECriterion"), "num_targets": 164} | training


def _parameters(weights: Mapping[str, Array], prefix: str) -> dict[str, Any]:
    fields = {name: weights[f"{prefix}.{name}"].astype(np.float64) for name in ("weight", "bias")}
    return fields | {"gradBias": np.zeros_like(fields["bias"]), "output": np.zeros(0)}


def _batch_norm(weights: Mapping[str, Array], number: int, kind: str, legacy: bool) -> Module:
    fields = _parameters(weights, str(number)) | {"eps": NORM_EPS}
    fields["running_mean"] = weights[f"{number}.running_mean"].astype(np.float64)
    variance = weights[f"{number}.running_var"].astype(np.float64)
    fields |= {"running_std": (variance + NORM_EPS) ** -0.5} if legacy else {"running_var": variance}
    return Module(f"nn.{kind}BatchNormalization", fields)
