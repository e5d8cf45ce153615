"""Basenji2 (2020, "cross2020"): coverage of 5,313 human or 1,643 mouse tracks over 114,688 bases, in bins of 128.

Paper: Kelley, PLoS Computational Biology 16 (2020) e1008050. Code: github.com/calico/basenji, basenji/seqnn.py and
blocks.py with manuscripts/cross2020/params_human.json, tag 0.5, commit 7c6aa70 (Apache-2.0). Also reads the weights of
the port github.com/d-laub/basenji2-pytorch, package version 0.1.2.
What differs from upstream: dropout and augmentation are left out; the head is a convolution of width 1 in place of a
dense layer. N is 0.25 in every channel, as in upstream's variant code. The nonlinearity is x * sigmoid(1.702 x), with
which the published weights were trained, unless the file says that its network has the approximation by tanh of later
upstream code. The port's third form, by erf, is taken only where `Basenji2Config.gelu` asks for it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from varfm.encoding.onehot import onehot
from varfm.errors import ModelError
from varfm.models import OF_BINS, ModelOptions
from varfm.models.basenji import NORM_EPS, NORM_VARIABLES
from varfm.models.layers import sigmoid_gelu, softplus, tanh_gelu
from varfm.models.loading import loaded, refuse, sizes
from varfm.models.tracked import Bins, Layout, track_model
from varfm.protocols import Model, Row
from varfm.readers import Tensors
from varfm.weights import Checkpoint, LocalWeights
from varfm.windows import Haplotype

OPTIONS = OF_BINS

N_VALUE = 0.25
_PORT = "model.trunk."
GELUS = ("sigmoid", "tanh", "erf")
"""x * sigmoid(1.702 x), the approximation by tanh, and the exact form; the network's state holds the index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Basenji2Config:
    """Sizes of Basenji2; the defaults are the published human network, the mouse one has 1,643 tracks.

    Attributes:
        length: Bases that it reads; a multiple of the bin, `pool` to the power of the pooled blocks.
        n_tracks: Coverage tracks that it answers.
        stem_channels: Output channels of the first block.
        stem_width: Bases that its kernel covers.
        tower_channels: Output channels of the pooled blocks after it.
        tower_width: Positions that their kernels cover.
        pool: Positions that each of these blocks joins.
        residual_channels: Channels inside the residual pairs.
        residual_width: Positions that their first kernel covers.
        dilations: Distance of the positions that it covers, for each residual pair.
        crop_bins: Bins left out at either end.
        head_channels: Output channels of the last block.
        gelu: One of `GELUS`; `auto` for what the file says, and `sigmoid` where it says nothing.
    """

    length: int = 131_072
    n_tracks: int = 5_313
    stem_channels: int = 288
    stem_width: int = 15
    tower_channels: tuple[int, ...] = (339, 399, 470, 554, 652, 768)
    tower_width: int = 5
    pool: int = 2
    residual_channels: int = 384
    residual_width: int = 3
    dilations: tuple[int, ...] = (1, 2, 3, 4, 6, 9, 14, 21, 32, 48, 72)
    crop_bins: int = 64
    head_channels: int = 1_536
    gelu: str = "auto"

    def __post_init__(self) -> None:
        if min(self.pool, *self.dilations) < 1:
            raise ModelError("Basenji2 needs a pool and dilations of 1 or more.")
        if not self.stem_width % 2 or not self.tower_width % 2 or not self.residual_width % 2:
            raise ModelError("Basenji2: stem_width, tower_width and residual_width have to be odd.")
        if self.length % self.bin_width or self.n_bins < 1:
            raise ModelError(
                f"Basenji2: a length of {self.length} is no whole number of bins of {self.bin_width} bases, or "
                f"nothing is left of it without {self.crop_bins} bins at either end. Change length or crop_bins."
            )
        if self.gelu not in ("auto", *GELUS):
            raise ModelError(f"Basenji2: gelu is {self.gelu!r}, expected auto, {', '.join(GELUS)}.")

    @property
    def bin_width(self) -> int:
        """Bases of an output bin."""
        return self.pool ** (1 + len(self.tower_channels))

    @property
    def n_bins(self) -> int:
        """Output bins."""
        return self.length // self.bin_width - 2 * self.crop_bins

    @property
    def convolutions(self) -> tuple[tuple[int, int, int], ...]:
        """Width, input and output channels of all convolutions but that of the tracks, in the order of the network."""
        trunk = (self.stem_channels, *self.tower_channels)
        widths = (self.stem_width, *(self.tower_width for _ in self.tower_channels))
        residual = ((self.residual_width, trunk[-1], self.residual_channels), (1, self.residual_channels, trunk[-1]))
        return (
            *zip(widths, (4, *trunk), trunk, strict=False),
            *(size for _ in self.dilations for size in residual),
            (1, trunk[-1], self.head_channels),
        )


class Gelu(nn.Module):
    """One of the three forms of the Gaussian error linear unit that implementations of Basenji2 have.

    Attributes:
        form: One of `GELUS`.
    """

    form = GELUS[0]

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        if self.form == "sigmoid":
            return sigmoid_gelu(x)
        return tanh_gelu(x) if self.form == "tanh" else functional.gelu(x)


class Block(nn.Module):
    """GELU, convolution, batch norm and, where `pool` is more than 1, pooling."""

    def __init__(self, size: tuple[int, int, int], dilation: int = 1, pool: int = 1) -> None:
        super().__init__()
        width, n_in, n_out = size
        self.pool = pool
        self.gelu = Gelu()
        self.conv = nn.Conv1d(n_in, n_out, width, dilation=dilation, padding=dilation * (width // 2), bias=False)
        self.norm = nn.BatchNorm1d(n_out, eps=NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_in, positions) -> (n, n_out, positions / pool)."""
        x = self.norm(self.conv(self.gelu(x)))
        return functional.max_pool1d(x, self.pool) if self.pool > 1 else x


class Basenji2(nn.Module):
    """Pooled convolutions, residual pairs of dilated convolutions over the bins, and one value per track and bin.

    Attributes:
        length: Bases that it reads.
        bin_width: Bases of an output bin.
        first_base: 0-based index in the window of the first base of the first bin.
        n_bins: Output bins.
    """

    def __init__(self, config: Basenji2Config) -> None:
        super().__init__()
        self.length, self.bin_width, self.n_bins = config.length, config.bin_width, config.n_bins
        self.crop_bins = config.crop_bins
        self.first_base = config.crop_bins * config.bin_width
        *sizes, head = config.convolutions
        n_pooled = 1 + len(config.tower_channels)
        self.pooled = nn.ModuleList(Block(size, pool=config.pool) for size in sizes[:n_pooled])
        self.dilated = nn.ModuleList(
            Block(size, d) for size, d in zip(sizes[n_pooled::2], config.dilations, strict=True)
        )
        self.returned = nn.ModuleList(Block(size) for size in sizes[n_pooled + 1 :: 2])
        self.head = Block(head)
        self.gelu = Gelu()
        self.tracks = nn.Conv1d(config.head_channels, config.n_tracks, 1)
        self.follows_state = config.gelu == "auto"
        self.gelu_form: Tensor
        self.register_buffer("gelu_form", torch.zeros((), dtype=torch.int64))
        if not self.follows_state:
            self.take_form(config.gelu)

    def build_tables(self) -> None:
        """Take the form of the GELU from the loaded state, unless another was asked for."""
        if self.follows_state:
            self.take_form(GELUS[int(self.gelu_form)])

    def take_form(self, form: str) -> None:
        """Let every GELU have one form of `GELUS`."""
        for module in self.modules():
            if isinstance(module, Gelu):
                module.form = form

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Read the sequence as it is."""
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_bins, n_tracks) predicted coverage, above zero."""
        return softplus(self.linked(batch))

    def linked(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_bins, n_tracks) values before the softplus."""
        x = onehot(batch, N_VALUE, self.tracks.weight.dtype)
        for block in self.pooled:
            x = block(x)
        for dilated, returned in zip(self.dilated, self.returned, strict=True):
            x = x + returned(dilated(x))
        x = self.head(x[:, :, self.crop_bins : self.crop_bins + self.n_bins])
        return self.tracks(self.gelu(x)).transpose(1, 2)

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """Turn the bins of the reverse strand round; no track belongs to one strand."""
        return outputs[0].flip(0) if haplotype.strand == "-" else outputs[0]


def config_of(checkpoint: Checkpoint) -> Basenji2Config:
    """Give the sizes of the published network: the species differ in their tracks alone."""
    return Basenji2Config(n_tracks=checkpoint.n_outputs)


network_of = Basenji2


def convert(tensors: Tensors, config: Basenji2Config, path: Path) -> dict[str, NDArray[np.generic]]:
    """Rename and transpose the tensors of the Keras file, or of the PyTorch port.

    Raises:
        ModelError: If the file holds another network.
    """
    if any(key.startswith(_PORT) for key in tensors):
        state = _from_port(tensors, config)
    else:
        state = _from_keras(tensors, config, path)
        state["gelu_form"] = np.array(GELUS.index(_recorded_gelu(tensors, path)))
    tensors.check_all_taken()
    return state


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load the published Keras file, or a copy in another form.

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


def _names(config: Basenji2Config) -> list[str]:
    """Name the blocks in the order of `Basenji2Config.convolutions`."""
    pooled = [f"pooled.{number}" for number in range(1 + len(config.tower_channels))]
    pairs = [f"{part}.{number}" for number in range(len(config.dilations)) for part in ("dilated", "returned")]
    return [*pooled, *pairs, "head"]


def _from_keras(tensors: Tensors, config: Basenji2Config, path: Path) -> dict[str, NDArray[np.generic]]:
    layers = _keras_layers(tensors)
    kernels = [layer["kernel"] for layer in layers if "kernel" in layer and tensors[layer["kernel"]].ndim == 3]
    norms = [layer for layer in layers if "gamma" in layer]
    dense = [layer for layer in layers if "kernel" in layer and tensors[layer["kernel"]].ndim == 2]
    n_blocks = len(config.convolutions)
    if (len(kernels), len(norms), len(dense), len(tensors)) != (n_blocks, n_blocks, 1, 5 * n_blocks + 2):
        expected = f"{n_blocks} convolutions and batch norms and one dense layer, as in Basenji2"
        raise refuse(path, expected, sorted(tensors))
    state: dict[str, NDArray[np.generic]] = {}
    for name, size, kernel, norm in zip(_names(config), config.convolutions, kernels, norms, strict=True):
        state[f"{name}.conv.weight"] = tensors.take(kernel, size).transpose(2, 1, 0)
        for ours, theirs in NORM_VARIABLES:
            state[f"{name}.norm.{ours}"] = tensors.take(norm.get(theirs, theirs), (size[2],))
        state[f"{name}.norm.num_batches_tracked"] = np.zeros((), np.int64)  # Keras counts none
    matrix = tensors.take(dense[0]["kernel"], (config.head_channels, config.n_tracks))
    state["tracks.weight"] = matrix.T[:, :, None]
    state["tracks.bias"] = tensors.take(dense[0].get("bias", "bias"), (config.n_tracks,))
    return state


def _keras_layers(tensors: Tensors) -> list[dict[str, str]]:
    """Give the keys of each layer by variable, in the network's order: that of the file, else that of their numbers."""
    layers: dict[str, dict[str, str]] = {}
    for key in tensors:
        layers.setdefault(key.split("/")[0], {})[key.split("/")[-1].removesuffix(":0")] = key
    listed = str(tensors.facts.get("layer_names", "")).split("\n")
    if layers.keys() <= set(listed):
        return [layers[name] for name in listed if name in layers]
    return [layers[name] for name in sorted(layers, key=_number)]


def _number(layer: str) -> int:
    found = re.fullmatch(r".*_(\d+)", layer)
    return int(found[1]) if found else 0


def _recorded_gelu(tensors: Tensors, path: Path) -> str:
    """Read from the description of the network in the file which form of the GELU it has."""
    text = str(tensors.facts.get("model_config", "null"))
    try:
        described = json.loads(text)
        layers = [] if described is None else described["config"]["layers"]
        functions = {layer["config"].get("function") for layer in layers if layer["class_name"] == "TFOpLambda"}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{path}: its attribute model_config cannot be read ({type(error).__name__}: {error}), so the form of the "
            "GELU is not known. Fetch the file again."
        ) from error
    return "tanh" if "nn.gelu" in functions else "sigmoid"


def _from_port(tensors: Tensors, config: Basenji2Config) -> dict[str, NDArray[np.generic]]:
    state: dict[str, NDArray[np.generic]] = {}
    for name, theirs, size in zip(_names(config), _port_names(config), config.convolutions, strict=True):
        width, n_in, n_out = size
        state[f"{name}.conv.weight"] = tensors.take(f"{theirs}.1.weight", (n_out, n_in, width))
        for variable, _ in NORM_VARIABLES:
            state[f"{name}.norm.{variable}"] = tensors.take(f"{theirs}.2.{variable}", (n_out,))
        counted = "num_batches_tracked"
        state[f"{name}.norm.{counted}"] = tensors.take(f"{theirs}.2.{counted}", (), np.int64)
    weight = tensors.take("model.head.final.block.1.weight", (config.n_tracks, config.head_channels))
    state["tracks.weight"] = weight[:, :, None]
    state["tracks.bias"] = tensors.take("model.head.final.block.1.bias", (config.n_tracks,))
    state["gelu_form"] = np.zeros((), np.int64)  # the weights are upstream's, whatever form the port's code has
    return state


def _port_names(config: Basenji2Config) -> list[str]:
    """Name the port's blocks in the order of `Basenji2Config.convolutions`."""
    tower = [f"{_PORT}1.tower.{number}.block" for number in range(len(config.tower_channels))]
    pairs = [
        f"{_PORT}2.block.{number}.module.{part}.block" for number in range(len(config.dilations)) for part in (0, 1)
    ]
    return [f"{_PORT}0.block", *tower, *pairs, f"{_PORT}4.block"]
