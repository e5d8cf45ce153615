"""The layers of Enformer: stages of convolution and pooling, and a transformer with relative positions.

Source: google-deepmind/deepmind-research, enformer/enformer.py and attention_module.py, commit f5de0ede.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional

from varfm.delta.pieces import by_channels
from varfm.models.layers import sigmoid, sigmoid_gelu

N_FAMILIES = 3
"""Kinds of position features; each is there plain and times the sign of the distance."""

_LOG2_SHORTEST_HALF_LIFE = 3.0


class Gelu(nn.Module):
    """The sigmoid approximation of the Gaussian error linear unit."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        return sigmoid_gelu(x)


class ConvBlock(nn.Module):
    """Batch norm, GELU, convolution."""

    def __init__(self, n_in: int, n_out: int, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(n_in, eps=1e-5)
        self.gelu = Gelu()
        self.conv = nn.Conv1d(n_in, n_out, width, padding=width // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_in, length) -> (n, n_out, length)."""
        return self.conv(self.gelu(self.norm(x)))


class AttentionPool(nn.Module):
    """Mean of two neighbouring positions, weighted in each channel by a softmax over the two.

    Softmax of two logits is the sigmoid of their difference, and the logits are linear: one product serves a pair.
    """

    positions_per_block = 2
    """What it reads of each answer; the mark that `varfm.delta` knows."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.logits = nn.Conv1d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, length) -> (n, channels, length / 2)."""
        left, right = x[:, :, ::2], x[:, :, 1::2]
        difference = left - right
        logits = self.logits(difference)
        return weighted(difference, logits, right)


@fx.wrap
def weighted(difference: Tensor, logits: Tensor, right: Tensor) -> Tensor:
    """Give right + difference * sigmoid(logits), all of one shape, in the place of the logits where they are large."""
    return by_channels(lambda _, d, x, r: r + d * sigmoid(x), difference, logits, right, into=logits)


class Stage(nn.Module):
    """A convolution, a residual pointwise block, and a pool that halves the length."""

    def __init__(self, first: nn.Module, channels: int) -> None:
        super().__init__()
        self.first = first
        self.pointwise = ConvBlock(channels, channels, 1)
        self.pool = AttentionPool(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, n_in, length) -> (n, channels, length / 2)."""
        x = self.first(x)
        x = x + self.pointwise(x)
        return self.pool(x)


def position_features(n_tokens: int, n_features: int) -> NDArray[np.float32]:
    """Describe every distance between two positions, evaluated in float64.

    A third of the features each decay exponentially, tell near from far, and peak at a distance (a gamma density over
    its maximum). Half of the columns are these features, the other half the same times the sign of the distance.

    Args:
        n_tokens: Positions of the transformer.
        n_features: Columns, a multiple of 6.

    Returns:
        (2 * n_tokens - 1, n_features) for the distances 1 - n_tokens to n_tokens - 1, key minus query.

    Source:
        attention_module.py, positional_features_all.
    """
    signed = np.arange(1 - n_tokens, n_tokens, dtype=np.float64)[:, None]
    distance, n_basis = np.abs(signed), n_features // (2 * N_FAMILIES)
    half_life = 2.0 ** np.linspace(_LOG2_SHORTEST_HALF_LIFE, math.log2(n_tokens), n_basis)
    features = np.concatenate(
        (
            np.exp2(-distance / half_life),
            2.0 ** np.arange(1, n_basis + 1) - 1 > distance,
            _gamma_features(distance, n_tokens, n_basis),
        ),
        axis=1,
    )
    return np.concatenate((features, np.sign(signed) * features), axis=1).astype(np.float32)


def _gamma_features(distance: NDArray[np.float64], n_tokens: int, n_basis: int) -> NDArray[np.float64]:
    mean, deviation = np.linspace(n_tokens / n_basis, n_tokens, n_basis), n_tokens / (2 * n_basis)
    concentration, rate = (mean / deviation) ** 2, mean / deviation**2
    log_norm = np.array([math.lgamma(value) for value in concentration]) - concentration * np.log(rate)
    # Distance 0 has density 0; the 1 in its place only keeps the logarithm finite.
    log_density = (concentration - 1) * np.log(np.maximum(distance, 1)) - rate * distance - log_norm
    density = np.where(distance > 0, np.exp(log_density), 0) + 1e-8
    return density / density.max(axis=0)


class Attention(nn.Module):
    """Multi-head attention with relative positions (as in Transformer-XL)."""

    def __init__(self, channels: int, n_heads: int, key_size: int) -> None:
        super().__init__()
        n_keys = n_heads * key_size
        self.n_heads, self.scale = n_heads, key_size**-0.5
        self.query = nn.Linear(channels, n_keys, bias=False)
        self.key = nn.Linear(channels, n_keys, bias=False)
        self.value = nn.Linear(channels, channels, bias=False)
        self.relative_key = nn.Linear(channels // n_heads, n_keys, bias=False)
        self.content_bias = nn.Parameter(torch.empty(1, n_heads, 1, key_size))
        self.position_bias = nn.Parameter(torch.empty(1, n_heads, 1, key_size))
        self.output = nn.Linear(channels, channels)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """(n, n_tokens, channels) and the table of `position_features` -> (n, n_tokens, channels)."""
        query = self._by_head(self.query(x)) * self.scale  # scaled before the biases are added
        relative_key = self._by_head(self.relative_key(positions)[None])
        by_content, by_position = query + self.content_bias, query + self.position_bias
        weighted = attended(
            by_content, by_position, self._by_head(self.key(x)), relative_key, self._by_head(self.value(x))
        )
        return self.output(weighted.transpose(1, 2).flatten(2))

    def _by_head(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, 2, (self.n_heads, -1)).transpose(1, 2)  # (n, n_heads, positions, size)


@fx.wrap
def attended(by_content: Tensor, by_position: Tensor, key: Tensor, relative_key: Tensor, value: Tensor) -> Tensor:
    """Give what queries find: values weighted by how well keys fit, in content and in distance.

    Args:
        by_content: Queries, (n, heads, T, key size).
        by_position: Queries of the distance, of the same shape.
        key: Of the same shape.
        relative_key: (1, heads, 2T - 1, key size), by distance, as in `position_features`.
        value: (n, heads, T, value size).

    Returns:
        (n, heads, T, value size).
    """
    # With an even number of columns their product takes half of the time; what the last one holds is not read.
    relative_key = functional.pad(relative_key, (0, 0, 0, 1))
    parts = (by_content, by_position, key, relative_key, value)
    if value.device.type != "cpu":
        return _attended(*parts)
    # The logits of all heads are so large that most of the time would go into getting memory for them.
    heads = range(value.shape[1])
    return torch.cat([_attended(*(part[:, head : head + 1] for part in parts)) for head in heads], 1)


def _attended(by_content: Tensor, by_position: Tensor, key: Tensor, relative_key: Tensor, value: Tensor) -> Tensor:
    logits = by_content @ key.transpose(2, 3) + _shifted(by_position @ relative_key.transpose(2, 3))
    return torch.softmax(logits, dim=3) @ value


def _shifted(by_distance: Tensor) -> Tensor:
    """(n, heads, T queries, 2T distances) -> (n, heads, T queries, T keys), a view.

    Query i finds key j at distance j - i, which is column T - 1 + j - i: read flat, place (T - 1) + i(2T - 1) + j.
    """
    n_tokens = by_distance.shape[2]
    flat = by_distance.flatten(2)[:, :, n_tokens - 1 : -1]
    return torch.unflatten(flat, 2, (n_tokens, -1))[:, :, :, :n_tokens]


class TransformerLayer(nn.Module):
    """Attention and a two-layer perceptron, each after a layer norm and beside the input."""

    def __init__(self, channels: int, n_heads: int, key_size: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels, eps=1e-5)
        self.attention = Attention(channels, n_heads, key_size)
        self.mlp_norm = nn.LayerNorm(channels, eps=1e-5)
        self.wide = nn.Linear(channels, 2 * channels)
        self.narrow = nn.Linear(2 * channels, channels)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """(n, n_tokens, channels) -> the same."""
        x = x + self.attention(self.attention_norm(x), positions)
        return x + self.narrow(functional.relu(self.wide(self.mlp_norm(x))))
