"""Basenji (2018): coverage of 4,229 tracks over 131,072 bases, in bins of 128.

Paper: Kelley et al., Genome Research 28 (2018) 739. Code: github.com/calico/basenji, basenji/seqnn.py, tag 0.1, commit
344e02a (Apache-2.0). Weights: the checkpoint of manuscripts/genome_research2018 (TensorFlow 1).
What differs from upstream: dropout and the training graph are left out. N is all zeros, as upstream. Branch tf1 of the
same code rectifies before each convolution instead of after it, which gives the same numbers from the same weights.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from varfm.encoding.onehot import onehot
from varfm.errors import ModelError
from varfm.models import OF_BINS, ModelOptions
from varfm.models.loading import loaded, sizes
from varfm.models.tracked import Bins, Layout, track_model
from varfm.protocols import Model, Row
from varfm.readers import Tensors
from varfm.weights import Checkpoint, LocalWeights
from varfm.windows import Haplotype

OPTIONS = OF_BINS

NORM_EPS = 1e-3
LIMIT = 50.0
"""The exponential of the link is taken of values between -50 and 50."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BasenjiConfig:
    """Sizes of Basenji; the defaults are the published network.

    Attributes:
        length: Bases that it reads; a multiple of the bin, which is the product of `pools`.
        n_tracks: Coverage tracks that it answers.
        channels: Output channels of each block's convolution.
        widths: Positions that each kernel covers.
        dilations: Distance of the positions that each kernel covers.
        pools: Positions that each block joins.
        dense: 1 where a block hands on its input beside what it made of it, 0 where it hands on the latter alone.
        crop_bins: Bins left out at either end.
    """

    length: int = 131_072
    n_tracks: int = 4_229
    channels: tuple[int, ...] = (312, 368, 435, 514, 607, 717, 108, 108, 108, 108, 108, 108, 1365)
    widths: tuple[int, ...] = (22, 1, 6, 6, 6, 3, 3, 3, 3, 3, 3, 3, 1)
    dilations: tuple[int, ...] = (1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 32, 64, 1)
    pools: tuple[int, ...] = (1, 2, 4, 4, 4, 1, 1, 1, 1, 1, 1, 1, 1)
    dense: tuple[int, ...] = (0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0)
    crop_bins: int = 32

    def __post_init__(self) -> None:
        per_block = (self.channels, self.widths, self.dilations, self.pools, self.dense)
        if len({len(sizes) for sizes in per_block}) != 1:
            raise ModelError("Basenji needs channels, widths, dilations, pools and dense for every block alike.")
        if min(map(min, per_block[:4])) < 1:
            raise ModelError("Basenji needs channels, widths, dilations and pools of 1 or more.")
        if self.length % self.bin_width or self.n_bins < 1:
            raise ModelError(
                f"Basenji: a length of {self.length} is no whole number of bins of {self.bin_width} bases, or "
                f"nothing is left of it without {self.crop_bins} bins at either end. Change length or crop_bins."
            )

    @property
    def bin_width(self) -> int:
        """Bases of an output bin."""
        return prod(self.pools)

    @property
    def n_bins(self) -> int:
        """Output bins."""
        return self.length // self.bin_width - 2 * self.crop_bins


class Block(nn.Module):
    """Convolution, batch norm, rectifier and pooling; even kernels reach one position further to the right."""

    def __init__(self, n_in: int, n_out: int, width: int, dilation: int, pool: int) -> None:
        super().__init__()
        self.pool = pool
        margin = dilation * (width - 1)
        self.right_only = margin % 2
        self.conv = nn.Conv1d(n_in, n_out, width, dilation=dilation, padding=margin // 2, bias=False)
        self.norm = nn.BatchNorm1d(n_out, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_in, positions) -> (n, n_out, positions / pool)."""
        if self.right_only:  # beside what the convolution itself adds on both sides
            x = functional.pad(x, (0, 1))
        x = functional.relu(self.norm(self.conv(x)))
        return functional.max_pool1d(x, self.pool) if self.pool > 1 else x


class Basenji(nn.Module):
    """Convolutions with pooling, densely connected dilated convolutions over the bins, and one value per track and bin.

    Attributes:
        length: Bases that it reads.
        bin_width: Bases of an output bin.
        first_base: 0-based index in the window of the first base of the first bin.
        n_bins: Output bins.
    """

    def __init__(self, config: BasenjiConfig) -> None:
        super().__init__()
        self.length, self.bin_width, self.n_bins = config.length, config.bin_width, config.n_bins
        self.crop_bins = config.crop_bins
        self.first_base = config.crop_bins * config.bin_width
        self.dense = config.dense
        blocks, n_in = [], 4
        for number, n_out in enumerate(config.channels):
            blocks.append(Block(n_in, n_out, config.widths[number], config.dilations[number], config.pools[number]))
            n_in = n_in + n_out if config.dense[number] else n_out
        self.blocks = nn.ModuleList(blocks)
        self.final = nn.Conv1d(n_in, config.n_tracks, 1)

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Read the sequence as it is."""
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_bins, n_tracks) predicted coverage, above zero."""
        x = self.linked(batch)
        return torch.where(x > 0, x + 1, x.clamp(-LIMIT, LIMIT).exp())

    def linked(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_bins, n_tracks) values before the link."""
        x = onehot(batch, dtype=self.final.weight.dtype)
        for block, is_dense in zip(self.blocks, self.dense, strict=True):
            made = block(x)
            x = torch.cat([x, made], 1) if is_dense else made
        x = x[:, :, self.crop_bins : self.crop_bins + self.n_bins]
        return self.final(x).transpose(1, 2)

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """Turn the bins of the reverse strand round; no track belongs to one strand."""
        return outputs[0].flip(0) if haplotype.strand == "-" else outputs[0]


def config_of(checkpoint: Checkpoint) -> BasenjiConfig:
    """Give the sizes of the published network."""
    return BasenjiConfig(n_tracks=checkpoint.n_outputs)


network_of = Basenji


def convert(tensors: Tensors, config: BasenjiConfig, path: Path) -> dict[str, NDArray[np.generic]]:
    """Rename and transpose the variables of a TensorFlow checkpoint.

    The last layer may be spelt as a convolution (tag 0.1) or as a dense layer (branch tf1). What only training needs is
    left out: the optimiser's slots, the step, the running values of batch renormalisation.

    Raises:
        ModelError: If the checkpoint holds another network.
    """
    kept = Tensors(path, {key: values for key, values in tensors.items() if not _TRAINING_ONLY.fullmatch(key)})
    state: dict[str, NDArray[np.generic]] = {}
    n_in = 4
    for number, n_out in enumerate(config.channels):
        theirs, ours = f"cnn{number}", f"blocks.{number}"
        kernel = kept.take(f"{theirs}/conv1d/kernel", (config.widths[number], n_in, n_out))
        state[f"{ours}.conv.weight"] = kernel.transpose(2, 1, 0)
        for name, variable in NORM_VARIABLES:
            state[f"{ours}.norm.{name}"] = kept.take(f"{theirs}/batch_normalization/{variable}", (n_out,))
        state[f"{ours}.norm.num_batches_tracked"] = np.zeros((), np.int64)  # TensorFlow counts none
        n_in = n_in + n_out if config.dense[number] else n_out
    if "final/dense/kernel" in kept:
        kernel = kept.take("final/dense/kernel", (n_in, config.n_tracks))[None]
        state["final.bias"] = kept.take("final/dense/bias", (config.n_tracks,))
    else:
        kernel = kept.take("final/conv1d/kernel", (1, n_in, config.n_tracks))
        state["final.bias"] = kept.take("final/conv1d/bias", (config.n_tracks,))
    state["final.weight"] = kernel.transpose(2, 1, 0)
    kept.check_all_taken()
    return state


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load the published checkpoint, or a copy in another form.

    Raises:
        ModelError: If the file holds another network.
        OptionError: If an option's value is not known.
    """
    config = sizes(config_of(checkpoint), weights, options)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    layout = Layout(
        length=config.length,
        index=config.length // 2 - 1,
        n_tracks=config.n_tracks,
        default=("SAR", "SAD"),
        bins=Bins(network.first_base, network.bin_width, network.n_bins),
        indel_mode="compensate",
        batch_rows=(1, 8),
    )
    return track_model(checkpoint, weights, options, network, layout)


NORM_VARIABLES = (
    ("weight", "gamma"),
    ("bias", "beta"),
    ("running_mean", "moving_mean"),
    ("running_var", "moving_variance"),
)
"""Our name and TensorFlow's of the values of a batch norm."""

_TRAINING_ONLY = re.compile(
    r"global_step|(?:.*/)?beta[12]_power(?:_\d+)?|.*/(?:Adam|Adam_\d+|Momentum|RMSProp|RMSProp_\d+)|.*/renorm_[a-z_]+"
)
