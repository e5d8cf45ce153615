"""DNABERT: masked k-mers from all k-mers of up to 515 bases, which overlap.

Paper: Ji, Zhou, Liu and Davuluri, Bioinformatics 37 (2021) 2112. Code: github.com/jerryji1993/DNABERT, commit b6da04e
(Apache-2.0), src/transformers/modeling_bert.py, a fork of transformers 2.5.
What differs from upstream: no dropout, no padding; a sequence is one piece of one kind. As upstream does, and later
versions of transformers do not, the head adds the bias of a token twice: so it was when the weights were trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.encoding.kmers import OverlappingKmers, check_vocabulary
from varfm.errors import ModelError
from varfm.models import ModelOptions
from varfm.models.loading import State, loaded, refuse
from varfm.models.settings import Settings
from varfm.models.zero_shot import OPTIONS, Reading, language_model, published_sizes
from varfm.protocols import Model
from varfm.readers import Tensors

__all__ = ["OPTIONS", "Dnabert", "DnabertConfig", "build", "config_of", "convert", "network_of", "tokenizer_of"]

_WORDS = "bert.embeddings.word_embeddings.weight"
_BIAS = "cls.predictions.bias"

_IGNORED = frozenset(
    (
        # Who wrote the file, how, and for which class.
        *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"),
        # Training, answers that are not asked for, and heads for other tasks.
        *("attention_probs_dropout_prob", "classifier_dropout", "finetuning_task", "gradient_checkpointing"),
        *("hidden_dropout_prob", "id2label", "initializer_range", "label2id", "num_labels", "output_attentions"),
        *("output_hidden_states", "output_past", "problem_type", "return_dict", "torchscript", "use_bfloat16"),
        *("use_cache", "split", "num_rnn_layer", "rnn", "rnn_dropout", "rnn_hidden"),
        # Generation of text, and tokens, which are known.
        *("bos_token_id", "do_sample", "eos_token_id", "eos_token_ids", "length_penalty", "max_length", "num_beams"),
        *("num_return_sequences", "pad_token_id", "repetition_penalty", "temperature", "top_k", "top_p"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DnabertConfig:
    """Sizes of DNABERT; the defaults are the published network of 6-mers.

    Attributes:
        k: Bases of a token.
        width: Of the hidden states.
        n_layers: Of attention and dense part each.
        n_heads: Of attention; they divide the width.
        n_inner: Of the dense part of a layer.
        max_tokens: Positions, with the special tokens at both ends.
        n_kinds: Kinds of sequence that it tells apart; only the first is read.
        eps: Of all norms.
    """

    k: int = 6
    width: int = 768
    n_layers: int = 12
    n_heads: int = 12
    n_inner: int = 3_072
    max_tokens: int = 512
    n_kinds: int = 2
    eps: float = 1e-12

    def __post_init__(self) -> None:
        if min(self.k, self.width, self.n_layers, self.n_heads, self.n_inner, self.max_tokens, self.n_kinds) < 1:
            raise ModelError(f"{self}: every size of DNABERT must be at least 1.")
        if self.width % self.n_heads:
            raise ModelError(f"{self}: heads of DNABERT must divide the width.")

    @property
    def n_vocabulary(self) -> int:
        """Tokens."""
        return OverlappingKmers(self.k).n_vocabulary

    @property
    def max_length(self) -> int:
        """Bases that it can read."""
        return self.max_tokens - 2 + self.k - 1

    @classmethod
    def from_json(cls, mapping: Mapping[str, object], path: Path) -> Self:
        """Read the `config.json` of a published folder.

        Args:
            mapping: Its content.
            path: Where it is from, for messages.

        Raises:
            ModelError: If it describes another network.
        """
        keys = Settings(mapping, path, "DNABERT", _IGNORED)
        keys.must_be("model_type", "bert")
        keys.must_be("hidden_act", "gelu")
        keys.must_be("position_embedding_type", "absolute")
        keys.must_be("is_decoder", False)
        keys.must_be("add_cross_attention", False)
        keys.must_be("chunk_size_feed_forward", 0)
        keys.must_be("pruned_heads", {})
        keys.must_be("tie_word_embeddings", True)
        found = cls(
            k=_k_of(keys.number("vocab_size"), path),
            width=keys.number("hidden_size", 768),
            n_layers=keys.layers("num_hidden_layers", 12),
            n_heads=keys.number("num_attention_heads", 12),
            n_inner=keys.number("intermediate_size", 3_072),
            max_tokens=keys.number("max_position_embeddings", 512),
            n_kinds=keys.number("type_vocab_size", 2),
            eps=keys.epsilon("layer_norm_eps", 1e-12),
        )
        keys.check_all_read()
        return found


def _k_of(n_vocabulary: int, path: Path) -> int:
    for k in range(1, 9):
        if OverlappingKmers(k).n_vocabulary == n_vocabulary:
            return k
    raise ModelError(
        f"{path}: vocab_size is {n_vocabulary}, expected that of k-mers and 5 special tokens, as 69, 261, 1,029 or "
        "4,101. Give the folder of a DNABERT (DNABERT-2 is another model)."
    )


class _Embeddings(nn.Module):
    """From tokens to what the first layer reads."""

    def __init__(self, config: DnabertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.n_vocabulary, config.width)
        self.position_embeddings = nn.Embedding(config.max_tokens, config.width)
        self.token_type_embeddings = nn.Embedding(config.n_kinds, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.eps)

    def forward(self, ids: Tensor) -> Tensor:
        places = self.position_embeddings.weight[: ids.shape[1]]
        return self.LayerNorm(self.word_embeddings(ids) + places + self.token_type_embeddings.weight[0])


class _SelfAttention(nn.Module):
    """Attention of all tokens to all."""

    def __init__(self, config: DnabertConfig) -> None:
        super().__init__()
        width = config.width
        self.n_heads = config.n_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, values: Tensor) -> Tensor:
        """(n, n_tokens, width) -> the same."""
        queries, keys, read = (self._by_head(part(values)) for part in (self.query, self.key, self.value))
        weights = (queries @ keys.transpose(2, 3) / queries.shape[-1] ** 0.5).softmax(-1)
        return (weights @ read).transpose(1, 2).flatten(2)

    def _by_head(self, values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], self.n_heads, -1).transpose(1, 2)  # (n, heads, tokens, head width)


class _Added(nn.Module):
    """A dense layer, added to something, and a norm of the sum."""

    def __init__(self, n_in: int, config: DnabertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(n_in, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.eps)

    def forward(self, values: Tensor, other: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(values) + other)


class _Attention(nn.Module):
    """Attention, added to what it reads."""

    def __init__(self, config: DnabertConfig) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _Added(config.width, config)

    def forward(self, values: Tensor) -> Tensor:
        return self.output(self.self(values), values)


class _Dense(nn.Module):
    """A dense layer and a GELU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(n_in, n_out)

    def forward(self, values: Tensor) -> Tensor:
        return nn.functional.gelu(self.dense(values))


class _Layer(nn.Module):
    """Attention and a dense part."""

    def __init__(self, config: DnabertConfig) -> None:
        super().__init__()
        self.attention = _Attention(config)
        self.intermediate = _Dense(config.width, config.n_inner)
        self.output = _Added(config.n_inner, config)

    def forward(self, values: Tensor) -> Tensor:
        values = self.attention(values)
        return self.output(self.intermediate(values), values)


class _Encoder(nn.Module):
    """The layers."""

    def __init__(self, config: DnabertConfig) -> None:
        super().__init__()
        self.layer = nn.Sequential(*(_Layer(config) for _ in range(config.n_layers)))

    def forward(self, values: Tensor) -> Tensor:
        return self.layer(values)


class _Trunk(nn.Module):
    """From tokens to hidden states."""

    def __init__(self, config: DnabertConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)

    def forward(self, ids: Tensor) -> Tensor:
        return self.encoder(self.embeddings(ids))


class _Transform(nn.Module):
    """What the head does before it names tokens."""

    def __init__(self, config: DnabertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.eps)

    def forward(self, values: Tensor) -> Tensor:
        return self.LayerNorm(nn.functional.gelu(self.dense(values)))


class _Predictions(nn.Module):
    """Names tokens by the table that reads them."""

    def __init__(self, config: DnabertConfig) -> None:
        super().__init__()
        self.transform = _Transform(config)
        self.bias = nn.Parameter(torch.zeros(config.n_vocabulary))

    def forward(self, hidden: Tensor, words: Tensor) -> Tensor:
        # Upstream's decoder has the bias as its own, and its head adds it once more.
        return nn.functional.linear(self.transform(hidden), words, self.bias) + self.bias


class Dnabert(nn.Module):
    """Attention over k-mers, and a head that names the k-mer at a position.

    Modules and parameters have upstream's names.
    """

    def __init__(self, config: DnabertConfig) -> None:
        super().__init__()
        self.bert = _Trunk(config)
        self.cls = nn.ModuleDict({"predictions": _Predictions(config)})

    def forward(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, n_vocabulary) logits."""
        return self.logits(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, width): what the head reads. At most `max_tokens` of the config."""
        return self.bert(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., n_vocabulary)."""
        if hidden.device.type == "cpu" and hidden.dim() > 2:
            # BLAS divides few positions among threads wherever it likes, and the last bits of a row with them.
            return torch.stack([self.logits(row) for row in hidden.contiguous()])
        return self.cls["predictions"](hidden, self.bert.embeddings.word_embeddings.weight)


def config_of(checkpoint: Checkpoint) -> DnabertConfig:
    """Give the published sizes; the variant is k."""
    return DnabertConfig(k=int(checkpoint.variant))


def network_of(config: DnabertConfig) -> Dnabert:
    """Make the network of these sizes."""
    return Dnabert(config)


def tokenizer_of(config: DnabertConfig, path: Path | None = None) -> OverlappingKmers:
    """Give the tokens.

    Args:
        path: A `vocab.txt`, or the folder that may hold it, to be compared with.

    Raises:
        ModelError: If the file says something else.
    """
    found = OverlappingKmers(config.k)
    if path is not None:
        check_vocabulary(found.vocabulary(), path)
    return found


def convert(tensors: Tensors, config: DnabertConfig, path: Path) -> State:
    """Take every tensor of a published file under its own name.

    Nothing may be left over but copies of the table of tokens and of the bias, which must be equal, the numbers of
    positions, and the parts for sentences.

    Raises:
        ModelError: If the file holds another network.
    """
    with torch.device("meta"):
        network = network_of(config)
    state: State = {name: tensors.take(name, tuple(value.shape)) for name, value in network.state_dict().items()}
    for copy, name in (("cls.predictions.decoder.weight", _WORDS), ("cls.predictions.decoder.bias", _BIAS)):
        if copy in tensors and not np.array_equal(tensors.take(copy, state[name].shape), state[name]):
            raise refuse(path, f"{copy} equal to {name}", ["other values"])
    for name, shape in _unread(config).items():
        if name in tensors:
            tensors.take(name, shape, tensors[name].dtype)
    tensors.check_all_taken()
    return state


def _unread(config: DnabertConfig) -> dict[str, tuple[int, ...]]:
    return {
        "bert.embeddings.position_ids": (1, config.max_tokens),
        "bert.pooler.dense.weight": (config.width, config.width),
        "bert.pooler.dense.bias": (config.width,),
        "cls.seq_relationship.weight": (2, config.width),
        "cls.seq_relationship.bias": (2,),
    }


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load a published folder.

    Raises:
        ModelError: If it is not that of a DNABERT.
        OptionError: If an option's value is not known.
    """
    config = published_sizes(DnabertConfig, weights)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    tokenizer = tokenizer_of(config, weights.path.parent)
    reading = Reading(longest=config.max_length, block=config.k, batch_rows=(4, 64))
    return language_model(checkpoint, weights, options, network, tokenizer, reading)
