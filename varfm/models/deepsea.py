"""DeepSEA and Beluga: chromatin features of the 200 bases in the middle of 1,000 and of 2,000.

DeepSEA: Zhou and Troyanskaya, Nature Methods 12 (2015) 931. Package v0.94 (Torch7, CC-BY 3.0); in PyTorch by
github.com/kipoi/models, DeepSEA/model_architecture.py, commit 06bfe84 (MIT, the model CC-BY 3.0).
Beluga: Zhou et al., Nature Genetics 50 (2018) 1171. Code: github.com/FunctionLab/ExPecto, chromatin.py, commit 1b89458
(Princeton academic licence: not for commercial use, no redistribution).
What differs from upstream: bases are in the order A, C, G, T, for which the first kernels are reordered at loading;
convolutions have one dimension; and the hidden layer reads position after position, so that the columns of a change
stand together, where upstream's reads channel after channel. N is all zeros, as upstream. Strands are
averaged by the scorer, not by the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from varfm.encoding.onehot import onehot
from varfm.errors import ModelError
from varfm.models import OF_TRACKS, ModelOptions
from varfm.models.loading import loaded, refuse, sizes
from varfm.models.tracked import Layout, track_model
from varfm.protocols import Model, Row
from varfm.readers import Tensors
from varfm.scorers.evalue import evalue, read_background
from varfm.weights import Checkpoint, LocalWeights
from varfm.windows import Haplotype

OPTIONS = OF_TRACKS

FLOOR = 1e-6
"""What DeepSEA puts in place of values that are not above zero; not 0, as a rectifier does."""

REGISTERS = 64
"""A multiple of the numbers that any processor's vector loop takes at once."""

AGCT = [0, 2, 1, 3]
"""Places of A, C, G, T among upstream's channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeepSeaConfig:
    """Sizes of DeepSEA; the defaults are the published network.

    Attributes:
        length: Bases that it reads.
        n_tracks: Chromatin features that it answers.
        channels: Output channels of the three convolutions.
        n_hidden: Units of the hidden dense layer.
        width: Positions that a kernel covers.
        pool: Positions that a pooling step joins.
    """

    length: int = 1_000
    n_tracks: int = 919
    channels: tuple[int, ...] = (320, 480, 960)
    n_hidden: int = 925
    width: int = 8
    pool: int = 4

    def __post_init__(self) -> None:
        _check(self)

    @property
    def convolutions(self) -> tuple[int, ...]:
        """Output channels of each convolution."""
        return self.channels

    @property
    def n_positions(self) -> int:
        """Positions that are left after the last convolution."""
        return _positions(self, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BelugaConfig:
    """Sizes of Beluga; the defaults are the published network.

    Attributes:
        length: Bases that it reads.
        n_tracks: Chromatin features that it answers.
        channels: Output channels of the three stages, two convolutions each.
        n_hidden: Units of the hidden dense layer.
        width: Positions that a kernel covers.
        pool: Positions that a pooling step joins.
    """

    length: int = 2_000
    n_tracks: int = 2_002
    channels: tuple[int, ...] = (320, 480, 640)
    n_hidden: int = 2_003
    width: int = 8
    pool: int = 4

    def __post_init__(self) -> None:
        _check(self)

    @property
    def convolutions(self) -> tuple[int, ...]:
        """Output channels of each convolution."""
        return tuple(n for n in self.channels for _ in range(2))

    @property
    def n_positions(self) -> int:
        """Positions that are left after the last convolution."""
        return _positions(self, 2)


Config = DeepSeaConfig | BelugaConfig


def _check(config: Config) -> None:
    least = min(config.n_tracks, config.n_hidden, config.width, config.pool, *config.channels)
    if len(config.channels) != 3 or least < 1 or config.n_positions < 1:
        raise ModelError(
            f"{config}: three numbers of channels are wanted, no size below 1, and kernels and pooling that leave at "
            f"least one position of {config.length} bases. Change the sizes."
        )


def _positions(config: Config, convolutions_per_stage: int) -> int:
    n = config.length - convolutions_per_stage * (config.width - 1)
    for _ in range(2):
        n = n // config.pool - convolutions_per_stage * (config.width - 1)
    return n


class Chromatin(nn.Module):
    """What both networks are: unpadded convolutions, two of them followed by pooling, and two dense layers.

    Attributes:
        length: Bases that it reads.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        channels = config.convolutions
        self.length, self.n_tracks, self.pool = config.length, config.n_tracks, config.pool
        self.pooled = (len(channels) // 3, 2 * len(channels) // 3)
        self.convs = nn.ModuleList(nn.Conv1d(n_in, n_out, config.width) for n_in, n_out in pairwise((4, *channels)))
        self.hidden = nn.Linear(channels[-1] * config.n_positions, config.n_hidden)
        self.tracks = nn.Linear(config.n_hidden, config.n_tracks)

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Read the sequence as it is."""
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_tracks) probabilities, or one more axis, as `logits` has."""
        # Rows of whole vector registers: what is left at the end of a tensor is computed by other code that may differ
        # in the last bit, and a row's answer would depend on its place in the batch.
        padded = functional.pad(self.logits(batch), (0, -self.n_tracks % REGISTERS))
        return padded.sigmoid()[..., : self.n_tracks]

    def logits(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_tracks) natural log odds."""
        x = self.encoded(batch)
        for number in range(len(self.convs)):
            x = self.layer(number, functional.max_pool1d(x, self.pool) if number in self.pooled else x)
        return self.dense(x.transpose(1, 2).flatten(1))  # position-major

    def encoded(self, batch: Tensor) -> Tensor:
        """Give one channel per base."""
        return onehot(batch, dtype=self.hidden.weight.dtype)

    def layer(self, number: int, x: Tensor) -> Tensor:
        """Apply a convolution and the nonlinearity."""
        return self.rectified(self.convs[number](x))

    def dense(self, x: Tensor) -> Tensor:
        """Apply the dense layers, (..., positions x channels) -> (..., n_tracks)."""
        return self.tracks(self.rectified(self.hidden(x)))

    def rectified(self, x: Tensor) -> Tensor:
        """Apply the nonlinearity."""
        return functional.relu(x)

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """One number per feature has no orientation to turn back."""
        return outputs[0]


class DeepSea(Chromatin):
    """Three convolutions; values that are not above zero become 1e-6."""

    def rectified(self, x: Tensor) -> Tensor:
        """Keep what is above zero."""
        return functional.threshold(x, 0.0, FLOOR)


class Beluga(Chromatin):
    """Six convolutions in pairs, and rectifiers."""


def config_of(checkpoint: Checkpoint) -> Config:
    """Give the published sizes."""
    return BelugaConfig() if checkpoint.variant == "beluga" else DeepSeaConfig()


def network_of(config: Config) -> Chromatin:
    """Make the network of these sizes."""
    return Beluga(config) if isinstance(config, BelugaConfig) else DeepSea(config)


def convert(tensors: Tensors, config: Config, path: Path) -> dict[str, NDArray[np.generic]]:
    """Rename and reshape the tensors of a published file.

    For DeepSEA that is the authors' Torch7 network, the state of the layers alone, or one of Kipoi's two states, which
    differ in the number before the layer's; for Beluga the authors' state.

    Raises:
        ModelError: If the file holds another network.
    """
    layers = next((names for names in _layouts(config) if f"{names[0]}.weight" in tensors), None)
    if layers is None:
        raise refuse(
            path, f"{type(config).__name__.removesuffix('Config')}, {_layouts(config)[0][0]}.weight", [*tensors]
        )
    with torch.device("meta"):
        wanted = network_of(config).state_dict()
    state: dict[str, NDArray[np.generic]] = {}
    for ours, theirs in zip([name.removesuffix(".weight") for name in wanted][::2], layers, strict=True):
        state[f"{ours}.weight"] = _weight(tensors, f"{theirs}.weight", tuple(wanted[f"{ours}.weight"].shape))
        state[f"{ours}.bias"] = tensors.take(f"{theirs}.bias", tuple(wanted[f"{ours}.bias"].shape))
    tensors.check_all_taken()
    _check_floor(tensors, path)
    by_channel = state["hidden.weight"].reshape(config.n_hidden, -1, config.n_positions)
    by_position = by_channel.transpose(0, 2, 1).reshape(config.n_hidden, -1)
    return state | {"convs.0.weight": state["convs.0.weight"][:, AGCT], "hidden.weight": by_position}


def _layouts(config: Config) -> list[list[str]]:
    """Give upstream's names of the convolutions and dense layers, in order, for every published format."""
    if isinstance(config, BelugaConfig):
        return [[*(f"model.0.{place}" for place in (0, 2, 6, 8, 12, 14)), "model.1.2.1", "model.1.4.1"]]
    torch7 = [f"modules.{place}" for place in (1, 5, 9, 13, 15)]
    return [torch7, *([prefix + place for place in ("0", "4", "8", "12.1", "14.1")] for prefix in ("2.", "1.", ""))]


def _weight(tensors: Tensors, key: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Take a dense matrix, or a kernel with or without its second axis of 1."""
    if len(shape) == 2:
        return tensors.take(key, shape)
    n_out, n_in, width = shape
    spellings = ((n_out, n_in, 1, width), (n_out, n_in, width, 1), (n_out, n_in * width), shape)
    found = tensors[key].shape if key in tensors else ()
    return tensors.take(key, found if found in spellings else spellings[0]).reshape(shape)


def _check_floor(tensors: Tensors, path: Path) -> None:
    floors = [value for key, value in tensors.facts.items() if key.endswith(".val")]
    if any(value != FLOOR for value in floors):
        raise refuse(path, f"thresholds that put {FLOOR} below zero", [str(value) for value in floors])


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load DeepSEA or Beluga.

    Raises:
        ModelError: If the file holds another network, or the table of tracks does not fit.
        OptionError: If an option's value is not known, or e-values are asked for and their background is not there.
    """
    config = sizes(config_of(checkpoint), weights, options)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    asks_evalue = isinstance(config, DeepSeaConfig) and "EVALUE" in {score.upper() for score in options.scores}
    layout = Layout(
        length=config.length,
        index=config.length // 2 - 1,
        n_tracks=config.n_tracks,
        default=("DIFF", "LOGODDS"),
        strands_scored=True,
        batch_rows=(8, 256) if isinstance(config, BelugaConfig) else (16, 512),
        measures=(evalue(read_background(weights.path, config.n_tracks)),) if asks_evalue else (),
    )
    return track_model(checkpoint, weights, options, network, layout)
