"""Enformer: 5,313 human or 1,643 mouse tracks in 896 bins of 128 bases, from 196,608 bases.

Paper: Avsec et al., Nature Methods 18 (2021) 1196-1203. Code: github.com/google-deepmind/deepmind-research, folder
enformer, commit f5de0ede (Apache-2.0).
Differs from upstream:
- Only the head that is asked for is built.
- The pool over a pair of positions is written with a sigmoid: softmax of two values is the sigmoid of their difference.
- The table of position features is rounded once from float64; upstream evaluates its gamma densities in float32, whose
  rounding moves single features by up to 2e-3.
- Dropout, which acts in training only, is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from varfm.encoding.onehot import onehot
from varfm.errors import ModelError
from varfm.models import OF_BINS, ModelOptions
from varfm.models.enformer_layers import N_FAMILIES, ConvBlock, Gelu, Stage, TransformerLayer, position_features
from varfm.models.layers import softplus
from varfm.models.loading import State, loaded, refuse, sizes
from varfm.models.tracked import Bins, Layout, track_model
from varfm.protocols import Model, Row
from varfm.readers import Tensors
from varfm.weights import Checkpoint, LocalWeights
from varfm.windows import Haplotype

OPTIONS = OF_BINS

HEADS = ("human", "mouse")
"""The heads of the published checkpoint, in its order."""

BATCH_ROWS = (1, 4)
"""Rows per pass on the CPU and on a GPU. One row takes 2.4 GB beside the weights on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnformerConfig:
    """The sizes of the network; the defaults are the published ones, with the human head.

    Attributes:
        head: Which head of the checkpoint is read, a name below `_heads`.
        n_tracks: Outputs of that head.
        length: Bases that are read.
        n_bins: Bins that are kept in the middle.
        stem: Channels of the first stage.
        tower: Channels of the further stages; the last are those of the transformer.
        stem_width: Bases that the first convolution sees.
        tower_width: Positions that the first convolution of each further stage sees.
        n_layers: Of the transformer.
        n_heads: Of its attention.
        key_size: Of each head; values and position features have (channels / heads).
    """

    head: str = "human"
    n_tracks: int = 5313
    length: int = 196_608
    n_bins: int = 896
    stem: int = 768
    tower: tuple[int, ...] = (768, 896, 1024, 1152, 1280, 1536)
    stem_width: int = 15
    tower_width: int = 5
    n_layers: int = 11
    n_heads: int = 8
    key_size: int = 64

    def __post_init__(self) -> None:
        """Refuse sizes that do not go together.

        Raises:
            ModelError: Naming the sizes.
        """
        wrong = next((rule for rule, holds in _rules(self) if not holds), None)
        if wrong:
            raise ModelError(f"The sizes of an Enformer do not go together: {wrong}. Correct the file of sizes.")

    @property
    def channels(self) -> int:
        """Of the transformer."""
        return self.tower[-1]

    @property
    def bin_width(self) -> int:
        """Bases per bin: every stage halves the length."""
        return 2 ** (1 + len(self.tower))

    @property
    def n_tokens(self) -> int:
        """Positions of the transformer."""
        return self.length // self.bin_width

    @property
    def n_features(self) -> int:
        """Position features, and values per attention head."""
        return self.channels // self.n_heads

    @property
    def crop(self) -> int:
        """Bins dropped at each end."""
        return (self.n_tokens - self.n_bins) // 2


def _rules(config: EnformerConfig) -> Iterator[tuple[str, bool]]:
    """Give each rule in words, with whether it holds; a rule is only reached if those before it hold."""
    sizes = (config.n_tracks, config.length, config.n_bins, config.stem, *config.tower, config.n_heads, config.key_size)
    yield "all of them must be above 0", min(sizes) > 0
    fits = config.length % config.bin_width == 0 and config.n_tokens > 1
    yield f"length {config.length} is not at least two times {config.bin_width} bases, or no multiple of them", fits
    fits = config.n_bins <= config.n_tokens and (config.n_tokens - config.n_bins) % 2 == 0
    yield f"{config.n_bins} bins are not the middle of {config.n_tokens}", fits
    widths_are_odd = config.stem_width % 2 == 1 and config.tower_width % 2 == 1
    yield f"widths {config.stem_width} and {config.tower_width} must be odd", widths_are_odd
    n_columns = config.n_heads * 2 * N_FAMILIES
    yield f"{config.channels} channels are no multiple of {n_columns}", config.channels % n_columns == 0


class Enformer(nn.Module):
    """Seven stages of convolution and pooling, a transformer, and the head of one species."""

    positions: Tensor

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__()
        self.config = config
        first = nn.Conv1d(4, config.stem, config.stem_width, padding=config.stem_width // 2)
        self.stem = Stage(first, config.stem)
        channels = (config.stem, *config.tower)
        self.tower = nn.ModuleList(
            Stage(ConvBlock(n_in, n_out, config.tower_width), n_out)
            for n_in, n_out in zip(channels, config.tower, strict=False)
        )
        self.transformer = nn.ModuleList(
            TransformerLayer(config.channels, config.n_heads, config.key_size) for _ in range(config.n_layers)
        )
        self.final = ConvBlock(config.channels, 2 * config.channels, 1)
        self.gelu = Gelu()
        self.head = nn.Linear(2 * config.channels, config.n_tracks)
        # No checkpoint holds the table. It comes from numpy, so it is real even where the rest is built on meta.
        positions = torch.from_numpy(position_features(config.n_tokens, config.n_features))
        self.register_buffer("positions", positions, persistent=False)

    @property
    def length(self) -> int:
        """Bases that are read."""
        return self.config.length

    @property
    def n_bins(self) -> int:
        """Bins of an answer."""
        return self.config.n_bins

    @property
    def bin_width(self) -> int:
        """Bases per bin."""
        return self.config.bin_width

    @property
    def first_base(self) -> int:
        """0-based first base, in the window, of the first bin."""
        return self.config.crop * self.config.bin_width

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Read the sequence as it is."""
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_bins, n_tracks) coverage per bin, above 0."""
        x = self.stem(onehot(batch, dtype=self.head.weight.dtype))  # (n, stem, length / 2)
        for stage in self.tower:
            x = stage(x)
        x = x.transpose(1, 2)  # (n, n_tokens, channels)
        for layer in self.transformer:
            x = layer(x, self.positions)
        x = x[:, self.config.crop : self.config.crop + self.config.n_bins].transpose(1, 2)
        x = self.gelu(self.final(x))  # (n, 2 * channels, n_bins)
        return softplus(self.head(x.transpose(1, 2)))

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """Put the bins in forward order; the tracks have no strand partners."""
        return outputs[0].flip(0) if haplotype.strand == "-" else outputs[0]


class _Place(NamedTuple):
    """Where the arrays of one of our modules lie in the files of upstream."""

    ours: str
    bundle: str
    port: str


def _places(config: EnformerConfig) -> Iterator[_Place]:
    yield _Place("stem.first", "_trunk/_layers/0/_layers/0", "stem.0")
    yield from _stage_places("stem", "_trunk/_layers/0", "stem")
    for number in range(len(config.tower)):
        ours, bundle, port = f"tower.{number}", f"_trunk/_layers/1/_layers/{number}", f"conv_tower.{number}"
        yield _Place(f"{ours}.first.norm", f"{bundle}/_layers/0/_layers/0", f"{port}.0.0")
        yield _Place(f"{ours}.first.conv", f"{bundle}/_layers/0/_layers/2", f"{port}.0.2")
        yield from _stage_places(ours, bundle, port)
    for number in range(config.n_layers):
        yield from _layer_places(f"transformer.{number}", f"_trunk/_layers/2/_layers/{number}/_layers")
    yield _Place("final.norm", "_trunk/_layers/4/_layers/0/_layers/0", "final_pointwise.1.0")
    yield _Place("final.conv", "_trunk/_layers/4/_layers/0/_layers/2", "final_pointwise.1.2")
    yield _Place("head", f"_heads/{config.head}/_layers/0", f"_heads.{config.head}.0")


def _stage_places(ours: str, bundle: str, port: str) -> Iterator[_Place]:
    yield _Place(f"{ours}.pointwise.norm", f"{bundle}/_layers/1/_module/_layers/0", f"{port}.1.fn.0")
    yield _Place(f"{ours}.pointwise.conv", f"{bundle}/_layers/1/_module/_layers/2", f"{port}.1.fn.2")
    yield _Place(f"{ours}.pool.logits", f"{bundle}/_layers/2/_logit_linear", f"{port}.2.to_attn_logits")


def _layer_places(ours: str, bundle: str) -> Iterator[_Place]:
    attention = f"{bundle}/0/_module/_layers/1"
    yield _Place(f"{ours}.attention_norm", f"{bundle}/0/_module/_layers/0", f"{ours}.0.fn.0")
    yield _Place(f"{ours}.attention", attention, f"{ours}.0.fn.1")
    for name, layer, port in (
        ("query", "_q_layer", "to_q"),
        ("key", "_k_layer", "to_k"),
        ("value", "_v_layer", "to_v"),
        ("relative_key", "_r_k_layer", "to_rel_k"),
        ("output", "_embedding_layer", "to_out"),
    ):
        yield _Place(f"{ours}.attention.{name}", f"{attention}/{layer}", f"{ours}.0.fn.1.{port}")
    yield _Place(f"{ours}.mlp_norm", f"{bundle}/1/_module/_layers/0", f"{ours}.1.fn.0")
    yield _Place(f"{ours}.wide", f"{bundle}/1/_module/_layers/1", f"{ours}.1.fn.1")
    yield _Place(f"{ours}.narrow", f"{bundle}/1/_module/_layers/4", f"{ours}.1.fn.4")


_ATTENTION_BIASES = {
    "content_bias": ("_r_w_bias", "rel_content_bias"),
    "position_bias": ("_r_r_bias", "rel_pos_bias"),
}
_NORM_NAMES = {
    "weight": "scale",
    "bias": "offset",
    "running_mean": "moving_mean/average",
    "running_var": "moving_variance/average",
}
_PORT_NAMES = {"weight", "bias", "running_mean", "running_var"} | {port for _, port in _ATTENTION_BIASES.values()}
_BUNDLE_KEY = re.compile(r"(?:.*/)?((?:_trunk|_heads)/.+?)(?:/\.ATTRIBUTES/VARIABLE_VALUE)?")
_BUNDLE_EXTRAS = re.compile(r"_CHECKPOINTABLE_OBJECT_GRAPH|save_counter(?:/.*)?")
_AVERAGE_EXTRAS = ("/_counter", "/_hidden")


def convert(tensors: Tensors, config: EnformerConfig, path: Path) -> State:
    """Rename and transpose the variables of the Sonnet checkpoint or of the port to PyTorch; one head is read.

    The published checkpoint holds both heads. That of the other species is left aside, as are the counters of the
    moving averages, the port's second names for its tensors and the buffers that are no part of the network.

    Raises:
        ModelError: If a tensor is missing, misshapen or not known.
    """
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Enformer(config).state_dict().items()}
    is_bundle = any("_trunk/" in key for key in tensors)
    keys = _bundle_keys(tensors, config, path) if is_bundle else _port_keys(tensors, config)
    places = {place.ours: place for place in _places(config)}
    state: dict[str, NDArray[np.generic]] = {}
    for name, shape in shapes.items():
        module, _, leaf = name.rpartition(".")
        if leaf == "num_batches_tracked":
            state[name] = np.zeros((), np.int64)  # only the port counts them, and nothing reads it
            continue
        read = _from_bundle if is_bundle else _from_port
        state[name] = read(tensors, keys, places[module], leaf, shape)
    if keys:
        raise refuse(path, f"no tensors but those of an Enformer of {config.n_layers} layers", sorted(keys.values()))
    return state


def _bundle_keys(tensors: Tensors, config: EnformerConfig, path: Path) -> dict[str, str]:
    """Give the key of every variable that matters by its path from `_trunk` or `_heads`; what lies before may vary."""
    keys: dict[str, str] = {}
    others = tuple(f"_heads/{head}/" for head in HEADS if head != config.head)
    for key in tensors:
        match = _BUNDLE_KEY.fullmatch(key)
        name = match[1] if match else key
        if name.endswith(_AVERAGE_EXTRAS) or name.startswith(others) or _BUNDLE_EXTRAS.fullmatch(name):
            continue
        if name in keys:
            raise refuse(path, f"one variable {name}", [keys[name], key])
        keys[name] = key
    return keys


def _port_keys(tensors: Tensors, config: EnformerConfig) -> dict[str, str]:
    others = ("_trunk.", *(f"_heads.{head}." for head in HEADS if head != config.head))
    return {key: key for key in tensors if not key.startswith(others) and key.rpartition(".")[2] in _PORT_NAMES}


def _from_bundle(
    tensors: Tensors, keys: dict[str, str], place: _Place, leaf: str, shape: tuple[int, ...]
) -> NDArray[np.generic]:
    """Take one variable; linear layers and convolutions have their outputs in the last axis."""
    if leaf in _ATTENTION_BIASES:
        name, stored = _ATTENTION_BIASES[leaf][0], shape
    elif place.ours.endswith("norm"):
        name = _NORM_NAMES[leaf]
        stored = (1, 1, *shape) if name.endswith("average") else shape
    else:
        name = "w" if leaf == "weight" else "b"
        stored = shape[1::-1] if place.ours.endswith("pool.logits") else shape[::-1]
    values = _take(tensors, keys, f"{place.bundle}/{name}", stored)
    values = (values if leaf in _ATTENTION_BIASES else values.T).reshape(shape)
    # A small array that stays a view would hold the mapped file, 1 GB, in memory for as long as the network lives.
    return values.copy() if values.flags.c_contiguous else values


def _from_port(
    tensors: Tensors, keys: dict[str, str], place: _Place, leaf: str, shape: tuple[int, ...]
) -> NDArray[np.generic]:
    name = _ATTENTION_BIASES[leaf][1] if leaf in _ATTENTION_BIASES else leaf
    stored = (*shape, 1) if place.ours.endswith("pool.logits") else shape  # the port pools in two dimensions
    return _take(tensors, keys, f"{place.port}.{name}", stored).reshape(shape)


def _take(tensors: Tensors, keys: dict[str, str], name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    return tensors.take(keys.pop(name, name), shape)


def config_of(checkpoint: Checkpoint) -> EnformerConfig:
    """Give the published sizes; the checkpoint's variant is the head."""
    return EnformerConfig(head=checkpoint.variant, n_tracks=checkpoint.n_outputs)


def network_of(config: EnformerConfig) -> Enformer:
    """Make the network of these sizes, with values of no meaning."""
    return Enformer(config)


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load the published network with one head.

    Raises:
        ModelError: If the file holds another network, or the sizes or the track table do not fit it.
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
        batch_rows=BATCH_ROWS,
    )
    return track_model(checkpoint, weights, options, network, layout)
