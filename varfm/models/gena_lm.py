"""GENA-LM: masked byte-pair tokens, by BERT with norms before its layers, or by BigBird.

Paper: Fishman et al., Nucleic Acids Research 53 (2025) gkae1310. Code: github.com/AIRI-Institute/GENA_LM,
src/gena_lm/modeling_bert.py, commit 4a88463 (MIT). BigBird is the class of transformers (Apache-2.0), without pooler.
What differs from upstream: no dropout; on a CPU, rows of a batch run one by one, so that a row's answer does not depend
on the others; the table of the head is the table of tokens, of which there is one copy. BigBird chooses its attention
afresh for every batch, where the class stays with full attention after the first short input; its random blocks are
those of evaluation, all the first one. Networks with DeepSpeed's sparse attention, whose random blocks nobody can
repeat, are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.encoding.bpe import Bpe, read_bpe
from varfm.errors import MissingExtra, ModelError
from varfm.models import ModelOptions
from varfm.models.bert_layers import MaskedHead, attention, row_by_row, taken
from varfm.models.loading import State, loaded, refuse
from varfm.models.settings import Settings
from varfm.models.zero_shot import OPTIONS, Reading, language_model, published_sizes
from varfm.protocols import Model
from varfm.readers import Tensors

__all__ = [
    "OPTIONS",
    "GenaBigBird",
    "GenaLm",
    "GenaLmConfig",
    "build",
    "config_of",
    "convert",
    "network_of",
    "tokenizer_of",
]

KINDS = ("bert", "bigbird")
_BASES_PER_TOKEN = 5
"""At least, in human sequence: 1,000 bases have 160 tokens on average, and had 190 at most in 1,200 windows."""

_POSITION_IDS = "bert.embeddings.position_ids"
_IGNORED = (
    # Who wrote the file, and how.
    *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "tokenizer_class"),
    # Training, and ways to compute the same with less memory.
    *("attention_probs_dropout_prob", "hidden_dropout_prob", "classifier_dropout", "initializer_range"),
    *("gradient_checkpointing", "chunk_size_feed_forward", "use_cache"),
    # Special tokens, which the tokenizer knows.
    *("bos_token_id", "eos_token_id", "sep_token_id", "cls_token_id"),
    # Heads for other tasks.
    *("id2label", "label2id", "problem_type"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GenaLmConfig:
    """Sizes of GENA-LM; the defaults are `gena-lm-bert-base` and `gena-lm-bert-base-t2t`.

    Attributes:
        kind: `bert` or `bigbird`.
        n_vocabulary: Rows of the table of tokens.
        width: Channels of the hidden states.
        n_layers: Blocks.
        n_heads: Parts that attention is cut into.
        n_inner: Channels inside a block.
        n_types: Rows of the table of token types, of which the first is read.
        max_tokens: The longest sequence, in tokens, those at the ends included.
        epsilon: Of the norms.
        last_norm: True if a norm follows the last block of `bert`.
        block: Tokens of a block of `bigbird`, within and between which tokens read each other.
        n_random_blocks: Blocks that each block of `bigbird` reads besides its neighbours, the first and the last one.
        pad_id: Token that fills the last block of `bigbird`, which nothing reads.
    """

    kind: str = "bert"
    n_vocabulary: int = 32_000
    width: int = 768
    n_layers: int = 12
    n_heads: int = 12
    n_inner: int = 3072
    n_types: int = 2
    max_tokens: int = 512
    epsilon: float = 1e-12
    last_norm: bool = False
    block: int = 64
    n_random_blocks: int = 3
    pad_id: int = 3

    def __post_init__(self) -> None:
        sizes = (self.n_vocabulary, self.width, self.n_layers, self.n_heads, self.n_inner, self.n_types)
        if self.kind not in KINDS or min(*sizes, self.max_tokens, self.block, self.n_random_blocks) < 1:
            raise ModelError(f"{self}: the kind of GENA-LM is {' or '.join(KINDS)}, and every size at least 1.")
        if self.width % self.n_heads:
            raise ModelError(f"{self}: {self.n_heads} heads of GENA-LM cannot share {self.width} channels.")
        if not 0 <= self.pad_id < self.n_vocabulary or (self.kind == "bigbird" and self.max_tokens % self.block):
            raise ModelError(f"{self}: max_tokens must be whole blocks, and pad_id one of the tokens.")

    @property
    def max_full(self) -> int:
        """The most tokens for which `bigbird` lets every token read all others."""
        return (5 + 2 * self.n_random_blocks) * self.block

    @classmethod
    def from_json(cls, mapping: Mapping[str, object], path: Path) -> Self:
        """Read the `config.json` of a published folder.

        The `model_type` of its BERT is that of the usual one, which has norms after its layers: `pre_layer_norm` tells
        them apart.

        Args:
            mapping: Its content.
            path: Where it is from, for messages.

        Raises:
            ModelError: If it describes another network.
        """
        is_bigbird = mapping.get("model_type") == "big_bird"
        if not is_bigbird and mapping.get("pre_layer_norm") is not True:
            raise ModelError(f"{path}: pre_layer_norm is not true, so it is not that of GENA-LM. Give its folder.")
        if mapping.get("sparse_config_cls") or mapping.get("sparse_attention"):
            raise ModelError(
                f"{path}: attention is DeepSpeed's sparse one, whose random blocks are drawn anew each time, so that "
                "varfm cannot give the authors' answers. Take gena-lm-bigbird-base-t2t for long windows."
            )
        settings = Settings(mapping, path, "GENA-LM", _IGNORED)
        sizes = _sizes(settings) | (_bigbird_sizes(settings) if is_bigbird else _bert_sizes(settings))
        settings.check_all_read()
        return cls(**sizes)


def _sizes(settings: Settings) -> dict[str, Any]:
    settings.must_be("position_embedding_type", "absolute")
    settings.must_be("tie_word_embeddings", True)
    settings.must_be("is_decoder", False)
    settings.must_be("add_cross_attention", False)
    return {
        "n_vocabulary": settings.number("vocab_size"),
        "width": settings.number("hidden_size", 768),
        "n_layers": settings.layers("num_hidden_layers", 12),
        "n_heads": settings.number("num_attention_heads", 12),
        "n_inner": settings.number("intermediate_size", 3072),
        "n_types": settings.number("type_vocab_size", 2),
        "epsilon": settings.epsilon("layer_norm_eps", 1e-12),
    }


def _bert_sizes(settings: Settings) -> dict[str, Any]:
    settings.must_be("model_type", "bert")
    settings.must_be("hidden_act", "gelu")
    settings.word("pad_token_id")  # its row of the table does not learn; nothing is padded
    is_before = settings.flag("pre_layer_norm", False)
    last_norm = settings.flag("last_layer_norm", is_before)
    return {"max_tokens": settings.number("max_position_embeddings", 512), "last_norm": last_norm}


def _bigbird_sizes(settings: Settings) -> dict[str, Any]:
    settings.must_be("model_type", "big_bird")
    settings.must_be("hidden_act", "gelu_new")
    settings.must_be("attention_type", "block_sparse")
    settings.must_be("use_bias", True)
    settings.must_be("rescale_embeddings", False)
    return {
        "kind": "bigbird",
        "max_tokens": settings.number("max_position_embeddings", 4096),
        "block": settings.number("block_size", 64),
        "n_random_blocks": settings.number("num_random_blocks", 3),
        "pad_id": settings.number("pad_token_id"),
    }


_PUBLISHED = {
    "": GenaLmConfig(),
    "lastln": GenaLmConfig(last_norm=True),
    "large": GenaLmConfig(width=1024, n_layers=24, n_heads=16, n_inner=4096, epsilon=1e-5, last_norm=True),
    "bigbird": GenaLmConfig(kind="bigbird", max_tokens=4096),
}
"""The sizes by variant.

Source: AIRI-Institute/GENA_LM, data/configs, commit 4a88463.
"""


class _Embeddings(nn.Module):
    """Tokens and their places."""

    def __init__(self, config: GenaLmConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.n_vocabulary, config.width)
        self.position_embeddings = nn.Embedding(config.max_tokens, config.width)
        self.token_type_embeddings = nn.Embedding(config.n_types, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.epsilon)

    def forward(self, ids: Tensor) -> Tensor:
        typed = self.word_embeddings(ids) + self.token_type_embeddings.weight[0]
        return self.LayerNorm(typed + self.position_embeddings.weight[: ids.shape[1]])


class _SelfAttention(nn.Module):
    """Queries, keys and values."""

    def __init__(self, config: GenaLmConfig) -> None:
        super().__init__()
        self.n_heads = config.n_heads
        self.query = nn.Linear(config.width, config.width)
        self.key = nn.Linear(config.width, config.width)
        self.value = nn.Linear(config.width, config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        return attention(self.query(hidden), self.key(hidden), self.value(hidden), self.n_heads)


class _Dense(nn.Module):
    """A dense layer under upstream's name."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.dense = nn.Linear(n_in, n_out)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.dense(hidden)


class _Attention(nn.Module):
    """Attention under upstream's two names."""

    def __init__(self, config: GenaLmConfig) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _Dense(config.width, config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.output(self.self(hidden))


class _Layer(nn.Module):
    """A block: each half is added to what it reads, and reads it through a norm."""

    def __init__(self, config: GenaLmConfig) -> None:
        super().__init__()
        self.pre_attention_ln = nn.LayerNorm(config.width, config.epsilon)
        self.post_attention_ln = nn.LayerNorm(config.width, config.epsilon)
        self.attention = _Attention(config)
        self.intermediate = _Dense(config.width, config.n_inner)
        self.output = _Dense(config.n_inner, config.width)

    def forward(self, hidden: Tensor) -> Tensor:
        hidden = hidden + self.attention(self.pre_attention_ln(hidden))
        return hidden + self.output(functional.gelu(self.intermediate(self.post_attention_ln(hidden))))


class _Encoder(nn.Module):
    """The blocks."""

    def __init__(self, config: GenaLmConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.n_layers))
        self.last_layer_ln = nn.LayerNorm(config.width, config.epsilon) if config.last_norm else nn.Identity()

    def forward(self, hidden: Tensor) -> Tensor:
        for layer in self.layer:
            hidden = layer(hidden)
        return self.last_layer_ln(hidden)


class _Trunk(nn.Module):
    """From tokens to hidden states."""

    def __init__(self, config: GenaLmConfig) -> None:
        super().__init__()
        self.embeddings = _Embeddings(config)
        self.encoder = _Encoder(config)

    def forward(self, ids: Tensor) -> Tensor:
        return self.encoder(self.embeddings(ids))


class GenaLm(nn.Module):
    """Attention over byte-pair tokens, and a head that names hidden ones. Modules have upstream's names.

    Attributes:
        max_tokens: The longest sequence, in tokens.
    """

    def __init__(self, config: GenaLmConfig) -> None:
        super().__init__()
        self.max_tokens = config.max_tokens
        self.bert = _trunk(config)
        self.cls = MaskedHead(config.n_vocabulary, config.width, config.epsilon, is_tanh=config.kind == "bigbird")

    def forward(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, n_vocabulary) logits."""
        return self.logits(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, width): what the head reads; NaN for more tokens than `max_tokens`.

        How many tokens a window has is known only when it is cut: one that has too many, full of N for example, must
        not end the run.
        """
        if ids.shape[1] > self.max_tokens:
            words = self.bert.embeddings.word_embeddings.weight
            return words.new_full((*ids.shape, words.shape[1]), float("nan"))
        return row_by_row(self._hidden, ids)

    def _hidden(self, ids: Tensor) -> Tensor:
        return self.bert(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """(n, ..., width) -> (n, ..., n_vocabulary)."""
        words = self.bert.embeddings.word_embeddings.weight
        return row_by_row(lambda rows: self.cls(rows, words), hidden)


class GenaBigBird(GenaLm):
    """The same with the attention of BigBird, which is full for short sequences and between blocks for long ones."""

    def __init__(self, config: GenaLmConfig) -> None:
        super().__init__(config)
        self.max_full = config.max_full
        self.block = config.block
        self.pad_id = config.pad_id

    def build_tables(self) -> None:
        """Fill the tables of the class that no file holds."""
        embeddings = self.bert.embeddings
        places = torch.arange(self.max_tokens, device=embeddings.word_embeddings.weight.device)[None]
        embeddings.position_ids, embeddings.token_type_ids = places, torch.zeros_like(places)

    def _hidden(self, ids: Tensor) -> Tensor:
        n_tokens = ids.shape[1]
        is_full = n_tokens <= self.max_full
        with torch.device("meta"):  # the class makes layers, only to put the old ones in their place
            self.bert.set_attention_type("original_full" if is_full else "block_sparse")
        n_padded = 0 if is_full else -n_tokens % self.block  # the class would pad as well, and say so
        padded = functional.pad(ids, (0, n_padded), value=self.pad_id)
        mask = (torch.arange(n_tokens + n_padded, device=ids.device) < n_tokens).float().expand(padded.shape)
        return self.bert(input_ids=padded, attention_mask=mask).last_hidden_state[:, :n_tokens]


def _trunk(config: GenaLmConfig) -> Any:
    if config.kind == "bert":
        return _Trunk(config)
    try:
        from transformers import BigBirdConfig, BigBirdModel
    except ImportError as error:
        raise MissingExtra("transformers", "lm", "GENA-LM with BigBird's attention") from error
    described = BigBirdConfig(
        vocab_size=config.n_vocabulary,
        hidden_size=config.width,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        intermediate_size=config.n_inner,
        hidden_act="gelu_new",
        max_position_embeddings=config.max_tokens,
        type_vocab_size=config.n_types,
        layer_norm_eps=config.epsilon,
        pad_token_id=config.pad_id,
        attention_type="block_sparse",
        block_size=config.block,
        num_random_blocks=config.n_random_blocks,
        bos_token_id=None,  # neither these nor the next are read, but the class checks them
        eos_token_id=None,
        sep_token_id=None,
        attn_implementation="eager",
    )
    return BigBirdModel(described, add_pooling_layer=False)


def config_of(checkpoint: Checkpoint) -> GenaLmConfig:
    """Give the published sizes."""
    return _PUBLISHED[checkpoint.variant]


def network_of(config: GenaLmConfig) -> GenaLm:
    """Make the network of these sizes.

    Raises:
        MissingExtra: If it wants the package transformers, which is not there.
    """
    return GenaLm(config) if config.kind == "bert" else GenaBigBird(config)


def tokenizer_of(config: GenaLmConfig, path: Path) -> Bpe:
    """Give the tokens of a published folder.

    Two vocabularies of the same size are published: nothing but the checkpoint's own folder says which is right.

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


def convert(tensors: Tensors, config: GenaLmConfig, path: Path) -> State:
    """Take every tensor of upstream's file under its own name.

    Left out are the numbers of positions, and the pooler and the head for pairs of sentences, which only training read.

    Raises:
        ModelError: If the file holds another network.
    """
    with torch.device("meta"):
        network = network_of(config)
    state = taken(tensors, network)
    width, pooler = config.width, "bert.pooler.dense" if config.kind == "bert" else "bert.pooler"
    unread = {f"{pooler}.weight": (width, width), f"{pooler}.bias": (width,)}
    unread |= {"cls.seq_relationship.weight": (2, width), "cls.seq_relationship.bias": (2,)}
    for name in unread.keys() & tensors.keys():
        tensors.take(name, unread[name])
    if _POSITION_IDS in tensors:
        places = tensors.take(_POSITION_IDS, (1, config.max_tokens), np.int64)
        if not np.array_equal(places[0], np.arange(config.max_tokens)):
            raise refuse(path, f"positions in {_POSITION_IDS} that count from 0", ["others"])
    tensors.check_all_taken()
    return state


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load a published folder.

    Raises:
        ModelError: If it is not that of GENA-LM.
        MissingExtra: If it wants the package transformers, which is not there.
        OptionError: If an option's value is not known.
    """
    config = published_sizes(GenaLmConfig, weights)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    tokenizer = tokenizer_of(config, weights.files.get("tokenizer.json", weights.path.parent))
    n_ends = len(tokenizer.before) + len(tokenizer.after)
    reading = Reading(longest=_BASES_PER_TOKEN * (config.max_tokens - n_ends), batch_rows=(8, 64))
    return language_model(checkpoint, weights, options, network, tokenizer, reading)
