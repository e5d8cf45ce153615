"""DNAGPT: the next six bases from those before them, by a transformer that reads from left to right.

Paper: Zhang et al., bioRxiv 2023, doi:10.1101/2023.07.11.548628. Code: github.com/TencentAILabHealthcare/DNAGPT, commit
9b6c093 (PolyForm Noncommercial 1.0.0). Weights: `.pth` files that people fetch by hand; they do not say their sizes.
What differs from upstream: float32, where its command line takes float16; files must hold every tensor that is used;
numbers as inputs and outputs are left out; on a CPU, rows run one by one, so that an answer does not depend on others.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.encoding.chunks import Chunks
from varfm.errors import ModelError
from varfm.models import ModelOptions
from varfm.models.beginnings import continued
from varfm.models.bert_layers import row_by_row
from varfm.models.loading import State, loaded, sizes
from varfm.models.zero_shot import OPTIONS as _OPTIONS
from varfm.models.zero_shot import Reading, language_model
from varfm.protocols import Model
from varfm.readers import Tensors

__all__ = ["OPTIONS", "DnaGpt", "DnaGptConfig", "build", "config_of", "convert", "network_of", "tokenizer_of"]

OPTIONS = _OPTIONS | {"model_config"}
"""Options that the family takes."""

_EPSILON = 1e-5
_NUMERIC = ("number_embedding.", "num_regression.")
"""Parts for numbers as inputs and outputs, which sequences do not pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DnaGptConfig:
    """Sizes of DNAGPT; the defaults are `dna_gpt0.1b_h`.

    Attributes:
        max_tokens: The longest sequence, the token of the species included.
        width: Channels of the hidden states.
        n_layers: Blocks.
        n_heads: Heads of attention; not to be seen in a file.
        k: Bases of a token.
        shortest: Bases of the shortest token.
    """

    max_tokens: int = 4_096
    width: int = 768
    n_layers: int = 12
    n_heads: int = 12
    k: int = 6
    shortest: int = 6

    def __post_init__(self) -> None:
        if min(self.max_tokens, self.width, self.n_layers, self.n_heads) < 1:
            raise ModelError(f"{self}: every size of DNAGPT must be at least 1.")
        if self.width % self.n_heads:
            raise ModelError(f"{self}: heads of DNAGPT must divide the width.")
        Chunks(self.k, self.shortest)


class _Read(NamedTuple):
    """What later tokens read of earlier ones, in one block: (n, n_heads, n_tokens, head width) each."""

    keys: Tensor
    values: Tensor


class _Attention(nn.Module):
    """Attention of each token to itself and those before it."""

    def __init__(self, config: DnaGptConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.c_attn = nn.Linear(config.width, 3 * config.width, bias=False)
        self.c_proj = nn.Linear(config.width, config.width, bias=False)

    def forward(self, values: Tensor, before: _Read | None) -> tuple[Tensor, _Read]:
        """(n, n_tokens, width) -> the same, and what tokens after these are to read."""
        by_head = self.c_attn(values).unflatten(2, (3, self.n_heads, -1))
        queries, keys, read = by_head.permute(2, 0, 3, 1, 4)  # (n, n_heads, n_tokens, head width) each
        if before is None:
            found = functional.scaled_dot_product_attention(queries, keys, read, is_causal=True)
        else:
            keys, read = torch.cat([before.keys, keys], 2), torch.cat([before.values, read], 2)
            n_tokens, n_read = queries.shape[2], keys.shape[2]
            allowed = torch.ones(n_tokens, n_read, dtype=torch.bool, device=keys.device).tril(n_read - n_tokens)
            found = functional.scaled_dot_product_attention(queries, keys, read, allowed)
        return self.c_proj(found.transpose(1, 2).flatten(2)), _Read(keys, read)


class _Dense(nn.Module):
    """The dense part of a block."""

    def __init__(self, config: DnaGptConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.width, 4 * config.width, bias=False)
        self.c_proj = nn.Linear(4 * config.width, config.width, bias=False)

    def forward(self, values: Tensor) -> Tensor:
        return self.c_proj(functional.gelu(self.c_fc(values), approximate="tanh"))


class _Block(nn.Module):
    """Attention and a dense part, each added to what it reads."""

    def __init__(self, config: DnaGptConfig) -> None:
        super().__init__()
        self.attn = _Attention(config)
        self.mlp = _Dense(config)
        self.ln_1 = _norm(config)
        self.ln_2 = _norm(config)

    def forward(self, values: Tensor, before: _Read | None) -> tuple[Tensor, _Read]:
        found, read = self.attn(self.ln_1(values), before)
        values = values + found
        return values + self.mlp(self.ln_2(values)), read


def _norm(config: DnaGptConfig) -> nn.LayerNorm:
    return nn.LayerNorm(config.width, _EPSILON, bias=False)


class DnaGpt(nn.Module):
    """Reads tokens from left to right: what is at a position depends on it and those before it.

    Modules and parameters have upstream's names.
    """

    def __init__(self, config: DnaGptConfig) -> None:
        super().__init__()
        self.config = config
        width, n_vocabulary = config.width, tokenizer_of(config).n_vocabulary
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(n_vocabulary, width),
                "wpe": nn.Embedding(config.max_tokens, width),
                "h": nn.ModuleList(_Block(config) for _ in range(config.n_layers)),
                "ln_f": _norm(config),
            }
        )
        # Upstream's name: it predicts the next token, and nothing is masked.
        self.mlm_head = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.SiLU(), _norm(config), nn.Linear(width, n_vocabulary, bias=False)
        )

    def forward(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, n_vocabulary) logits of the token after each."""
        return self.logits(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, width).

        Raises:
            ModelError: If the sequence is longer than the network reads.
        """
        self._check(ids)
        return row_by_row(lambda row: self._run(row, 0, None)[0], ids)

    def hidden_from(self, ids: Tensor, start: int) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens - start, width); on a CPU, beginnings that rows share are run once.

        Raises:
            ModelError: If the sequence is longer than the network reads.
        """
        if start == 0 or ids.device.type != "cpu":
            return self.hidden(ids)[:, start:]
        self._check(ids)
        return continued(
            ids, start, lambda row: self._run(row, 0, None)[1], lambda row, read: self._run(row, start, read)[0]
        )

    def _check(self, ids: Tensor) -> None:
        if ids.shape[1] > self.config.max_tokens:
            raise ModelError(f"{ids.shape[1]:,} tokens, but this DNAGPT reads {self.config.max_tokens:,} at most.")

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., n_vocabulary)."""
        return row_by_row(self.mlm_head, hidden)

    def _run(self, ids: Tensor, start: int, before: list[_Read] | None) -> tuple[Tensor, list[_Read]]:
        """Run tokens from a place on -> (n, n_tokens, width), and what later ones read of them and those before."""
        places = cast(nn.Embedding, self.transformer["wpe"]).weight[start : start + ids.shape[1]]
        values, read = self.transformer["wte"](ids) + places, []
        for number, block in enumerate(cast(nn.ModuleList, self.transformer["h"])):
            values, own = block(values, None if before is None else before[number])
            read.append(own)
        return self.transformer["ln_f"](values), read


_PUBLISHED = {
    "0.1b_h": DnaGptConfig(),
    "0.1b_m": DnaGptConfig(max_tokens=512, shortest=1),
    "3b_m": DnaGptConfig(max_tokens=512, width=2_048, n_layers=60, n_heads=64, shortest=1),
}
"""The sizes by variant."""


def config_of(checkpoint: Checkpoint) -> DnaGptConfig:
    """Give the published sizes."""
    return _PUBLISHED[checkpoint.variant]


def network_of(config: DnaGptConfig) -> DnaGpt:
    """Make the network of these sizes."""
    return DnaGpt(config)


def tokenizer_of(config: DnaGptConfig, path: Path | None = None) -> Chunks:
    """Give the tokens, which no file names."""
    return Chunks(config.k, config.shortest)


def convert(tensors: Tensors, config: DnaGptConfig, path: Path) -> State:
    """Take the tensors of a published file, but for the parts for numbers.

    Raises:
        ModelError: If the file holds another network.
    """
    with torch.device("meta"):
        network = network_of(config)
    state: State = {name: tensors.take(name, tuple(value.shape)) for name, value in network.state_dict().items()}
    for name in tensors:
        if name.startswith(_NUMERIC):
            tensors.take(name, tensors[name].shape)
    tensors.check_all_taken()
    return state


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load a published file, by the sizes of its name or by those that the user gives.

    Raises:
        ModelError: If it is not that of this DNAGPT.
        OptionError: If an option's value is not known.
    """
    config = sizes(config_of(checkpoint), weights, options)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    reading = Reading(
        longest=config.k * (config.max_tokens - 1),
        # The allele lies at half of the window, and that must be the edge of a token.
        step=2 * config.k,
        batch_rows=(8, 32),
    )
    return language_model(checkpoint, weights, options, network, tokenizer_of(config), reading)
