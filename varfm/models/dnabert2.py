"""DNABERT-2: masked byte-pair tokens of any number, with ALiBi and gated dense layers.

Paper: Zhou et al., ICLR 2024, arXiv 2306.15006. Code: github.com/MAGICS-LAB/DNABERT_2, commit d87d29f, whose network is
that of github.com/mosaicml/examples, examples/benchmarks/bert/src/bert_layers.py, commit daddaef (both Apache-2.0).
What differs from upstream: no dropout, no padding, and therefore no unpadding; attention is computed in float32 on
every device, where upstream's Triton kernel takes float16; on a CPU, rows of a batch run one by one, so that a row's
answer does not depend on the others. The table of the head is the table of tokens, of which there is one copy.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.encoding.bpe import Bpe, read_bpe
from varfm.errors import ModelError
from varfm.models import ModelOptions
from varfm.models.bert_layers import MaskedHead, attention, row_by_row, taken
from varfm.models.loading import State, loaded
from varfm.models.settings import Settings
from varfm.models.zero_shot import OPTIONS, Reading, language_model, published_sizes
from varfm.protocols import Model
from varfm.readers import Tensors

__all__ = ["OPTIONS", "DnaBert2", "DnaBert2Config", "build", "config_of", "convert", "network_of", "tokenizer_of"]

_HEAD_EPSILON = 1e-12  # upstream's head does not read the configuration
_POOLER = ("bert.pooler.dense.weight", "bert.pooler.dense.bias")
_IGNORED = (
    # Who wrote the file, and how.
    *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"),
    # Training.
    *("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "initializer_range"),
    *("gradient_checkpointing", "use_cache"),
    # Sizes of buffers: ALiBi has no positions to run out of. The type of positions says absolute, and is not read.
    *("alibi_starting_size", "max_position_embeddings", "position_embedding_type"),
    # Whose row of the table does not learn, and special tokens, which the tokenizer knows.
    *("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id"),
    # Heads for other tasks.
    *("id2label", "label2id", "problem_type"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnaBert2Config:
    """Sizes of DNABERT-2; the defaults are the published network.

    Attributes:
        n_vocabulary: Rows of the table of tokens.
        width: Channels of the hidden states.
        n_layers: Blocks.
        n_heads: Parts that attention is cut into.
        n_inner: Channels of each half of the gated layers.
        n_types: Rows of the table of token types, of which the first is read.
        epsilon: Of the norms; that of the head is 1e-12 always.
    """

    n_vocabulary: int = 4096
    width: int = 768
    n_layers: int = 12
    n_heads: int = 12
    n_inner: int = 3072
    n_types: int = 2
    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        if min(self.n_vocabulary, self.width, self.n_layers, self.n_heads, self.n_inner, self.n_types) < 1:
            raise ModelError(f"{self}: every size of DNABERT-2 must be at least 1.")
        if self.width % self.n_heads:
            raise ModelError(f"{self}: {self.n_heads} heads of DNABERT-2 cannot share {self.width} channels.")

    @classmethod
    def from_json(cls, mapping: Mapping[str, object], path: Path) -> Self:
        """Read the `config.json` of a published folder.

        Its `model_type` is that of BERT, which is another network: what tells it apart is the size of ALiBi.

        Args:
            mapping: Its content.
            path: Where it is from, for messages.

        Raises:
            ModelError: If it describes another network.
        """
        if "alibi_starting_size" not in mapping:
            raise ModelError(f"{path}: has no alibi_starting_size, so it is not that of DNABERT-2. Give its folder.")
        settings = Settings(mapping, path, "DNABERT-2", _IGNORED)
        settings.must_be("model_type", "bert")
        settings.must_be("hidden_act", "gelu")
        settings.must_be("tie_word_embeddings", True)
        for key in ("is_decoder", "add_cross_attention", "pre_layer_norm"):
            settings.must_be(key, False)
        config = cls(
            n_vocabulary=settings.number("vocab_size", 30522),
            width=settings.number("hidden_size", 768),
            n_layers=settings.layers("num_hidden_layers", 12),
            n_heads=settings.number("num_attention_heads", 12),
            n_inner=settings.number("intermediate_size", 3072),
            n_types=settings.number("type_vocab_size", 2),
            epsilon=settings.epsilon("layer_norm_eps", 1e-12),
        )
        settings.check_all_read()
        return config


class _Embeddings(nn.Module):
    """Tokens, without their places."""

    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.n_vocabulary, config.width)
        self.token_type_embeddings = nn.Embedding(config.n_types, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, ids: Tensor) -> Tensor:
        return self.LayerNorm(self.word_embeddings(ids) + self.token_type_embeddings.weight[0])


class _SelfAttention(nn.Module):
    """One dense layer makes queries, keys and values."""

    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.Wqkv = nn.Linear(config.width, 3 * config.width)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        queries, keys, values = self.Wqkv(hidden).chunk(3, -1)
        return attention(queries, keys, values, self.n_heads, bias)


class _SelfOutput(nn.Module):
    """What attention found is added to what it read."""

    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, found: Tensor, hidden: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(found) + hidden)


class _Attention(nn.Module):
    """Attention under upstream's two names."""

    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _SelfOutput(config)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        return self.output(self.self(hidden, bias), hidden)


class _Gated(nn.Module):
    """One half of the channels, rectified, scales the other."""

    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.gated_layers = nn.Linear(config.width, 2 * config.n_inner, bias=False)
        self.wo = nn.Linear(config.n_inner, config.width)
        self.layernorm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, hidden: Tensor) -> Tensor:
        gate, value = self.gated_layers(hidden).chunk(2, -1)
        return self.layernorm(self.wo(functional.gelu(gate) * value) + hidden)


class _Layer(nn.Module):
    """A block."""

    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.mlp = _Gated(config)

    def forward(self, hidden: Tensor, bias: Tensor) -> Tensor:
        return self.mlp(self.attention(hidden, bias))


class _Encoder(nn.Module):
    """The blocks, and how much less a token counts with its distance."""

    slopes: Tensor

    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.n_layers))
        self.register_buffer("slopes", torch.empty(config.n_heads), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        places = torch.arange(hidden.shape[1], device=hidden.device)
        distances = (places[:, None] - places).abs()
        # In float32 whatever the precision of the network is, as upstream's table.
        bias = -(self.slopes.float()[:, None, None] * distances).to(hidden.dtype)
        for layer in self.layer:
            hidden = layer(hidden, bias)
        return hidden


class _Trunk(nn.Module):
    """From tokens to hidden states."""

    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)

    def forward(self, ids: Tensor) -> Tensor:
        return self.encoder(self.embeddings(ids))


class DnaBert2(nn.Module):
    """Attention over byte-pair tokens, and a head that names hidden ones.

    Modules have upstream's names. The number of tokens has no bound.
    """

    def __init__(self, config: DnaBert2Config) -> None:
        super().__init__()
        self.bert = _Trunk(config)
        self.cls = MaskedHead(config.n_vocabulary, config.width, _HEAD_EPSILON)

    def build_tables(self) -> None:
        """Fill the table that no file holds."""
        device = self.bert.embeddings.word_embeddings.weight.device
        self.bert.encoder.slopes = torch.tensor(alibi_slopes(self.bert.encoder.n_heads), device=device)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, n_vocabulary) logits."""
        return self.logits(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, width): what the head reads."""
        return row_by_row(self.bert, ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, ..., width) -> (n, ..., n_vocabulary)."""
        words = self.bert.embeddings.word_embeddings.weight
        return row_by_row(lambda rows: self.cls(rows, words), hidden)


def alibi_slopes(n_heads: int) -> list[float]:
    """Give by how much attention of each head falls per token.

    Where the number of heads is no power of two, the remaining ones have every second slope of twice as many heads.

    Source:
        mosaicml/examples, bert_layers.py, rebuild_alibi_tensor, commit daddaef.
    """
    n_first = 2 ** math.floor(math.log2(n_heads))
    ratio = 2 ** -(2 ** -(math.log2(n_first) - 3))
    slopes = [ratio ** (number + 1) for number in range(n_first)]
    if n_first == n_heads:
        return slopes
    return slopes + alibi_slopes(2 * n_first)[::2][: n_heads - n_first]


def config_of(checkpoint: Checkpoint) -> DnaBert2Config:
    """Give the published sizes."""
    return DnaBert2Config()


def network_of(config: DnaBert2Config) -> DnaBert2:
    """Make the network of these sizes."""
    return DnaBert2(config)


def tokenizer_of(config: DnaBert2Config, path: Path) -> Bpe:
    """Give the tokens of a published folder.

    Args:
        path: Its `tokenizer.json`, or the folder.

    Raises:
        ModelError: If there is none, or if the network has not a row for every token.
    """
    found = read_bpe(path)
    if found.n_vocabulary > config.n_vocabulary:
        raise ModelError(
            f"{path}: {found.n_vocabulary} tokens, but the network knows {config.n_vocabulary}. "
            "Give the tokenizer that belongs to the weights."
        )
    return found


def convert(tensors: Tensors, config: DnaBert2Config, path: Path) -> State:
    """Take every tensor of upstream's file under its own name; only a pooler, which fine-tuning adds, may be left over.

    Raises:
        ModelError: If the file holds another network.
    """
    with torch.device("meta"):
        network = network_of(config)
    state = taken(tensors, network)
    for name, shape in zip(_POOLER, ((config.width, config.width), (config.width,)), strict=True):
        if name in tensors:
            tensors.take(name, shape)
    tensors.check_all_taken()
    return state


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load a published folder.

    Raises:
        ModelError: If it is not that of DNABERT-2.
        OptionError: If an option's value is not known.
    """
    config = published_sizes(DnaBert2Config, weights)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    tokenizer = tokenizer_of(config, weights.files.get("tokenizer.json", weights.path.parent))
    return language_model(checkpoint, weights, options, network, tokenizer, Reading(batch_rows=(8, 64)))
