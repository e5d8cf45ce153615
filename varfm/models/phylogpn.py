"""PhyloGPN: how often each base was put at a position in the evolution of mammals, from the 481 bases around it.

Paper: Albors et al., RECOMB 2025, doi:10.1007/978-3-031-90252-9_7. Code: github.com/songlab-cal/gpn,
src/gpn/phylo/model.py, commit 8e3c22d (MIT). Weights: huggingface.co/songlab/PhyloGPN.
What differs from upstream: weights are made alike for both strands once, when they are loaded, not in every pass; only
the positions that are read are computed. Beyond the ends of a window stands the pad token, as in upstream's examples:
the default window is so long that alleles of up to 16 bases meet none. On a CPU rows run one by one, so that a row's
answer does not depend on the others. Norms may tell the strands apart, so that both are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.encoding.characters import Characters
from varfm.errors import ModelError
from varfm.models import ModelOptions
from varfm.models.bert_layers import row_by_row
from varfm.models.loading import State, loaded
from varfm.models.settings import MAX_LAYERS, Settings
from varfm.models.zero_shot import OPTIONS, Reading, language_model, published_sizes
from varfm.protocols import Model
from varfm.readers import Tensors

__all__ = ["OPTIONS", "PhyloGpn", "PhyloGpnConfig", "build", "config_of", "convert", "network_of", "tokenizer_of"]

CHARACTERS = Characters(base_ids=(0, 1, 2, 3, 4), mask_id=None, unknown_id=4, n_vocabulary=6)
"""A, C, G, T, N, and the pad token."""

_PAD = 5
_OPPOSITE_TOKENS = (3, 2, 1, 0, 4, 5)
_OPPOSITE_BASES = (3, 2, 1, 0)
_PREFIX = "_model."
_MAX_SIZE = 100_000
_MAX_DILATION = 10_000
_IGNORED = (
    *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"),
    *("id2label", "label2id", "problem_type", "return_dict", "output_hidden_states", "use_cache"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhyloGpnConfig:
    """Sizes of PhyloGPN; the defaults are the published network.

    Attributes:
        width: Channels of the hidden states; even.
        n_inner: Channels inside a block; even.
        kernel: Positions that a kernel covers; odd. Dilations are its powers.
        n_dilations: Dilations of a stack, from 1 on.
        n_stacks: Stacks, one after another.
    """

    width: int = 960
    n_inner: int = 480
    kernel: int = 5
    n_dilations: int = 2
    n_stacks: int = 20

    def __post_init__(self) -> None:
        sizes = (self.width, self.n_inner, self.kernel, self.n_dilations, self.n_stacks)
        if not 1 <= min(sizes) <= max(sizes) <= _MAX_SIZE or self.kernel ** (self.n_dilations - 1) > _MAX_DILATION:
            raise ModelError(f"{self}: sizes of PhyloGPN must be at least 1, and dilations {_MAX_DILATION:,} at most.")
        if self.n_dilations * self.n_stacks > MAX_LAYERS:
            raise ModelError(f"{self}: blocks of PhyloGPN must be {MAX_LAYERS:,} at most.")
        if self.width % 2 or self.n_inner % 2 or self.kernel % 2 == 0:
            raise ModelError(f"{self}: channels of PhyloGPN must be even, for two strands, and its kernel odd.")

    @property
    def dilations(self) -> tuple[int, ...]:
        """Distance of a kernel's positions, block by block."""
        return tuple(self.kernel**power for power in range(self.n_dilations)) * self.n_stacks

    @property
    def flank(self) -> int:
        """Bases that a position reads on either side."""
        return (self.kernel - 1) // 2 * sum(self.dilations)

    @classmethod
    def from_json(cls, mapping: Mapping[str, object], path: Path) -> Self:
        """Read the `config.json` of a published folder.

        Args:
            mapping: Its content.
            path: Where it is from, for messages.

        Raises:
            ModelError: If it describes another network.
        """
        keys = Settings(mapping, path, "PhyloGPN", _IGNORED)
        keys.must_be("model_type", "phylogpn")
        found = cls(
            width=keys.number("outer_dim", 960),
            n_inner=keys.number("inner_dim", 480),
            kernel=keys.number("kernel_size", 5),
            n_dilations=keys.layers("stack_size", 2),
            n_stacks=keys.layers("num_stacks", 20),
        )
        keys.check_all_read()
        return found


class _Norm(nn.LayerNorm):
    """A norm over the channels of each position, channels first."""

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(values.transpose(1, 2)).transpose(1, 2)


class _Block(nn.Module):
    """A convolution in fewer channels, added to what it reads, less what it needs at the ends."""

    def __init__(self, config: PhyloGpnConfig, dilation: int) -> None:
        super().__init__()
        self.layer_norm1 = _Norm(config.width)
        self.conv1 = nn.Conv1d(config.width, config.n_inner, 1)
        self.layer_norm2 = _Norm(config.n_inner)
        self.conv2 = nn.Conv1d(config.n_inner, config.n_inner, config.kernel, dilation=dilation)
        self.layer_norm3 = _Norm(config.n_inner)
        self.conv3 = nn.Conv1d(config.n_inner, config.width, 1)
        self.n_cut = (config.kernel - 1) // 2 * dilation

    def forward(self, values: Tensor) -> Tensor:
        inner = self.conv1(functional.gelu(self.layer_norm1(values)))
        inner = self.conv2(functional.gelu(self.layer_norm2(inner)))
        inner = self.conv3(functional.gelu(self.layer_norm3(inner)))
        return inner + values[..., self.n_cut : values.shape[2] - self.n_cut]


class PhyloGpn(nn.Module):
    """Dilated convolutions over bases, alike for both strands, and the log rates of the bases at a position.

    Modules have upstream's names, without what makes their weights alike for both strands.
    """

    def __init__(self, config: PhyloGpnConfig) -> None:
        super().__init__()
        self.flank = config.flank
        n = len(_OPPOSITE_TOKENS)
        # Drawing random numbers on the meta device, as Embedding does, imports half of torch.
        self.embedding = nn.Embedding(n, config.width, _weight=torch.zeros(n, config.width))
        self.blocks = nn.Sequential(*(_Block(config, dilation) for dilation in config.dilations))
        self.output_layer_norm = nn.LayerNorm(config.width)
        self.output_conv = nn.Conv1d(config.width, len(_OPPOSITE_BASES), 1)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, 4) log rates of A, C, G and T."""
        return self.logits(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, width)."""
        return row_by_row(self._hidden, functional.pad(ids, (self.flank, self.flank), value=_PAD))

    def hidden_at(self, ids: Tensor, positions: Tensor) -> Tensor:
        """(n, n_tokens) ids and (n, n_positions) consecutive positions -> (n, n_positions, width)."""
        padded = functional.pad(ids, (self.flank, self.flank), value=_PAD)
        n_read = positions.shape[1] + 2 * self.flank
        return row_by_row(self._hidden, padded.gather(1, positions[:, :1] + torch.arange(n_read, device=ids.device)))

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., 4)."""
        return functional.linear(functional.gelu(hidden), self.output_conv.weight[..., 0], self.output_conv.bias)

    def _hidden(self, ids: Tensor) -> Tensor:
        return self.output_layer_norm(self.blocks(self.embedding(ids).transpose(1, 2)).transpose(1, 2))


def config_of(checkpoint: Checkpoint) -> PhyloGpnConfig:
    """Give the published sizes."""
    return PhyloGpnConfig()


def network_of(config: PhyloGpnConfig) -> PhyloGpn:
    """Make the network of these sizes."""
    return PhyloGpn(config)


def tokenizer_of(config: PhyloGpnConfig, path: Path | None = None) -> Characters:
    """Give the tokens, which no file names."""
    return CHARACTERS


def convert(tensors: Tensors, config: PhyloGpnConfig, path: Path) -> State:
    """Take the tensors of a published file, and make convolutions and embedding alike for both strands.

    Raises:
        ModelError: If the file holds another network.
    """
    with torch.device("meta"):
        network = network_of(config)
    state: State = {}
    for name, value in network.state_dict().items():
        key, shape = _PREFIX + name, tuple(value.shape)
        if "norm" in name:
            state[name] = tensors.take(key, shape)
            continue
        module, part = key.rsplit(".", 1)
        state[name] = _alike(tensors.take(f"{module}.parametrizations.{part}.original", shape), name)
    tensors.check_all_taken()
    return state


def _alike(values: NDArray[Any], name: str) -> NDArray[Any]:
    """Give the mean of weights and of those of the other strand: channels, tokens and positions turned around."""
    if name == "embedding.weight":
        other = values[list(_OPPOSITE_TOKENS), ::-1]
    elif values.ndim == 1:
        other = values[::-1]
    else:
        other = values[::-1, ::-1, ::-1]
    found: NDArray[Any] = (values + other) / np.asarray(2, values.dtype)
    return found


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load a published folder.

    Raises:
        ModelError: If it is not that of a PhyloGPN.
        OptionError: If an option's value is not known.
    """
    config = published_sizes(PhyloGpnConfig, weights)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    reading = Reading(batch_rows=(8, 64))
    return language_model(checkpoint, weights, options, network, tokenizer_of(config), reading)
