"""Basset: DNase accessibility of 600 bases in 164 cell types.

Paper: Kelley, Snoek and Rinn, Genome Research 26 (2016) 990. Code: github.com/davek44/Basset, src/convnet.lua, commit
692b8b2 (MIT), the last one whose convolutions are not padded, as those of the published Torch7 weights are not. The
same weights for PyTorch: github.com/kipoi/models, Basset, commit 06bfe84 (MIT).
What differs from upstream: convolutions have one dimension; predictions are not rounded to half precision before they
are subtracted. N is all zeros, as upstream had it when the weights were trained (from March 2016 it is 0.25). Strands
are averaged by the scorer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from varfm.encoding.onehot import onehot
from varfm.errors import ModelError
from varfm.models import OF_TRACKS, ModelOptions
from varfm.models.layers import sigmoid
from varfm.models.loading import loaded, refuse, sizes
from varfm.models.tracked import Layout, track_model
from varfm.protocols import Model, Row
from varfm.readers import Tensors
from varfm.weights import Checkpoint, LocalWeights
from varfm.windows import Haplotype

OPTIONS = OF_TRACKS

NORM_EPS = 1e-5
_TORCH7 = "modules."


@dataclass(frozen=True, slots=True, kw_only=True)
class BassetConfig:
    """Sizes of Basset; the defaults are the published network.

    Attributes:
        length: Bases that it reads.
        n_tracks: Cell types that it answers.
        channels: Output channels of the convolutions.
        widths: Positions that their kernels cover.
        pools: Positions that the pooling after each of them joins; they must divide without a remainder.
        n_hidden: Units of the hidden dense layers.
    """

    length: int = 600
    n_tracks: int = 164
    channels: tuple[int, ...] = (300, 200, 200)
    widths: tuple[int, ...] = (19, 11, 7)
    pools: tuple[int, ...] = (3, 4, 4)
    n_hidden: tuple[int, ...] = (1_000, 1_000)

    def __post_init__(self) -> None:
        if not len(self.channels) == len(self.widths) == len(self.pools):
            raise ModelError(f"{self}: channels, widths and pools of Basset must be equally many.")
        if min(self.n_tracks, *self.channels, *self.widths, *self.pools, *self.n_hidden) < 1 or self.n_positions < 1:
            raise ModelError(f"{self}: every size of Basset must be at least 1, and some positions must be left.")

    @property
    def n_positions(self) -> int:
        """Positions that are left after the last pooling.

        Raises:
            ModelError: If a pooling leaves a remainder, which upstream's versions round up or down.
        """
        n = self.length
        for width, pool in zip(self.widths, self.pools, strict=True):
            n, remainder = divmod(n - width + 1, pool)
            if remainder:
                raise ModelError(f"{self}: pools of {pool} do not divide {n * pool + remainder} positions of Basset.")
        return n


class Basset(nn.Module):
    """Unpadded convolutions and dense layers, each followed by batch norm and a rectifier.

    Attributes:
        length: Bases that it reads.
        layers: The modules in upstream's order, under upstream's numbers, from 0; the sigmoid is not among them.
    """

    def __init__(self, config: BassetConfig) -> None:
        super().__init__()
        self.length = config.length
        layers: list[nn.Module] = []
        channels = pairwise((4, *config.channels))
        for (n_in, n_out), width, pool in zip(channels, config.widths, config.pools, strict=True):
            layers += [nn.Conv1d(n_in, n_out, width), nn.BatchNorm1d(n_out, NORM_EPS), nn.ReLU(), nn.MaxPool1d(pool)]
        layers.append(nn.Flatten())  # channel-major
        n_flat = config.channels[-1] * config.n_positions
        for n_in, n_out in pairwise((n_flat, *config.n_hidden)):
            layers += [nn.Linear(n_in, n_out), nn.BatchNorm1d(n_out, NORM_EPS), nn.ReLU(), nn.Dropout(0.3)]
        self.layers = nn.Sequential(*layers, nn.Linear(config.n_hidden[-1], config.n_tracks))

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Read the sequence as it is."""
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_tracks) probabilities."""
        return sigmoid(self.logits(batch))

    def logits(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_tracks) natural log odds."""
        kernel = cast(Tensor, self.layers[0].weight)
        return self.layers(onehot(batch, dtype=kernel.dtype))

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """One number per cell type has no orientation to turn back."""
        return outputs[0]


def config_of(checkpoint: Checkpoint) -> BassetConfig:
    """Give the published sizes."""
    return BassetConfig()


def network_of(config: BassetConfig) -> Basset:
    """Make the network of these sizes."""
    return Basset(config)


def convert(tensors: Tensors, config: BassetConfig, path: Path) -> dict[str, NDArray[np.generic]]:
    """Rename and reshape the tensors of the authors' Torch7 file, or of Kipoi's state dict.

    What the Torch7 file keeps beside the network (statistics of the targets, optimiser) is left out.

    Raises:
        ModelError: If the file holds another network.
    """
    with torch.device("meta"):
        network = network_of(config)
    parts = _network_part(tensors)
    if _padded(tensors):
        raise refuse(path, "Basset, with convolutions that are not padded", ["padded ones"])
    state = {
        name: _taken(parts, int(number), field, tuple(value.shape))
        for name, value in network.state_dict().items()
        for _, number, field in [name.split(".")]
    }
    parts.check_all_taken()
    return state


def _network_part(tensors: Tensors) -> Tensors:
    """Give the tensors of a Torch7 file's `model` alone; all of another file."""
    prefix = "model."
    inside = {key.removeprefix(prefix): tensors[key] for key in tensors if key.startswith(prefix + _TORCH7)}
    return Tensors(tensors.path, inside) if inside else tensors


def _padded(tensors: Tensors) -> bool:
    return any(value != 0 for key, value in tensors.facts.items() if key.endswith((".padW", ".padH")))


def _taken(tensors: Tensors, number: int, field: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Take what one of our parameters is made of, by the number of its module, from 0."""
    torch7 = f"{_TORCH7}{number + 1}.{field}"
    key = next((name for name in (torch7, f"{number}.1.{field}") if name in tensors), f"{number}.{field}")
    inverse_std = f"{_TORCH7}{number + 1}.running_std"
    if field == "running_var" and inverse_std in tensors:
        return _variance(tensors.take(inverse_std, shape, np.float64), tensors.path, inverse_std)
    if field == "num_batches_tracked":  # neither Torch7 nor old versions of PyTorch count them
        return tensors.take(key, shape, np.int64) if key in tensors else np.zeros(shape, np.int64)
    if len(shape) == 3:
        return _kernel(tensors, key, shape)
    return tensors.take(key, shape)


def _variance(inverse_std: NDArray[np.float64], path: Path, key: str) -> NDArray[np.float64]:
    """Undo 1 / sqrt(variance + eps), which Torch7's batch norm kept until 2016."""
    if not (inverse_std > 0).all():
        raise refuse(path, f"inverse standard deviations above 0 in {key}", [str(inverse_std.min())])
    variance: NDArray[np.float64] = inverse_std**-2 - NORM_EPS
    return variance


def _kernel(tensors: Tensors, key: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Take a kernel, which has a second spatial axis of 1: the first of the two in Torch7, the second in Kipoi."""
    n_out, n_in, width = shape
    kernel = (n_out, n_in, 1, width) if key.startswith(_TORCH7) else (n_out, n_in, width, 1)
    return tensors.take(key, kernel).reshape(shape)


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load Basset.

    Raises:
        ModelError: If the file holds another network, or the table of tracks does not fit.
        OptionError: If an option's value is not known.
    """
    config = sizes(config_of(checkpoint), weights, options)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    layout = Layout(
        length=config.length,
        index=config.length // 2 - 1,
        n_tracks=config.n_tracks,
        default=("DIFF",),
        batch_rows=(32, 1024),
    )
    return track_model(checkpoint, weights, options, network, layout)
