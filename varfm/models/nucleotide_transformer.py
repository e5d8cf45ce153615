"""Nucleotide Transformer, first and second generation, and AgroNT: masked 6-mers from the thousand around them.

Paper: Dalla-Torre et al., Nature Methods 22 (2025) 287; AgroNT: Mendoza-Revilla et al., Communications Biology 7
(2024) 835. Code: github.com/instadeepai/nucleotide-transformer, commit 2dc37b8 (CC BY-NC-SA 4.0); the published weights
are for `EsmForMaskedLM` of transformers (first generation), or for a variant of it published with them (second).
What differs from upstream: no dropout, no padding, no cache of rotations. The contact head and the second generation's
table of positions, which the files hold, are not read; the frequencies of its rotations are computed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.encoding.kmers import KmersInFrame, check_vocabulary
from varfm.errors import ModelError
from varfm.models import ModelOptions
from varfm.models.layers import sigmoid
from varfm.models.loading import State, loaded, refuse
from varfm.models.settings import Settings
from varfm.models.zero_shot import OPTIONS, Reading, language_model, published_sizes
from varfm.protocols import Model
from varfm.readers import Tensors

__all__ = [
    "OPTIONS",
    "NucleotideTransformer",
    "NucleotideTransformerConfig",
    "build",
    "config_of",
    "convert",
    "network_of",
    "tokenizer_of",
    "unread",
]

_PAD = 1
_MASK = 2
_TRAINED_MASKS = 0.15 * 0.8
"""Share of masked tokens in training, for `token_dropout`. Source: transformers 5.23, EsmEmbeddings."""

_FREQUENCY_ERROR = 1e-2
"""Relative; half precision is allowed."""

_IGNORED = frozenset(
    (
        # Who wrote the file, how, and for which class; the keys below tell the generations apart.
        *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"),
        # Training, answers that are not asked for, and heads for other tasks.
        *("attention_probs_dropout_prob", "classifier_dropout", "finetuning_task", "gradient_checkpointing"),
        *("hidden_dropout_prob", "id2label", "initializer_range", "label2id", "num_labels", "output_attentions"),
        *("output_hidden_states", "problem_type", "return_dict", "use_cache"),
        # Activations, which are fixed; folding of proteins; and tokens, which are known.
        *("hidden_act", "esmfold_config", "vocab_list", "bos_token_id", "eos_token_id"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NucleotideTransformerConfig:
    """Sizes of a Nucleotide Transformer; the defaults are the smallest one of the second generation.

    Attributes:
        n_vocabulary: Tokens.
        width: Of the hidden states.
        n_layers: Of attention and dense part each.
        n_heads: Of attention; they divide the width.
        n_inner: Of the dense part of a layer.
        n_positions: Rows of the table of positions; tokens begin at the third.
        rotary: True if positions rotate queries and keys; False if the table is added to the tokens.
        gated: True if the dense part multiplies two halves, without constants; False for a GELU, with them.
        scales_masks: True if masked tokens are zero and the others scaled, as with `token_dropout`.
        norm_before: True if there is a norm before the first layer too.
        ties: True if the head names tokens by the table that reads them.
        eps: Of all norms.
    """

    n_vocabulary: int = 4_107
    width: int = 512
    n_layers: int = 12
    n_heads: int = 16
    n_inner: int = 2_048
    n_positions: int = 2_050
    rotary: bool = True
    gated: bool = True
    scales_masks: bool = False
    norm_before: bool = False
    ties: bool = False
    eps: float = 1e-12

    def __post_init__(self) -> None:
        sizes = (self.n_vocabulary, self.width, self.n_layers, self.n_heads, self.n_inner, self.max_tokens)
        if min(sizes) < 1 or self.width % self.n_heads:
            raise ModelError(f"{self}: sizes must be at least 1, and heads must divide the width.")
        if self.rotary and self.width // self.n_heads % 2:
            raise ModelError(f"{self}: heads that are rotated must have an even width.")

    @property
    def max_tokens(self) -> int:
        """Tokens that the network was made for, with the first one, which is no k-mer."""
        return self.n_positions - _PAD - 1

    @classmethod
    def from_json(cls, mapping: Mapping[str, object], path: Path) -> Self:
        """Read the `config.json` of a published folder.

        Args:
            mapping: Its content. Only files of the second generation have `add_bias_fnn`.
            path: Where it is from, for messages.

        Raises:
            ModelError: If it describes another network.
        """
        keys = Settings(mapping, path, "Nucleotide Transformer", _IGNORED)
        keys.must_be("model_type", "esm")
        keys.must_be("pad_token_id", _PAD)
        keys.must_be("mask_token_id", _MASK)
        keys.must_be("add_bias_fnn", False)
        keys.must_be("is_folding_model", False, None)
        keys.must_be("is_decoder", False)
        keys.must_be("add_cross_attention", False)
        keys.must_be("chunk_size_feed_forward", 0)
        keys.must_be("pruned_heads", {})
        keys.must_be("rope_theta", 10_000.0, 10_000)
        kind = keys.word("position_embedding_type", "absolute")
        if kind not in ("absolute", "rotary"):
            raise ModelError(f"{path}: position_embedding_type is {kind!r}; varfm knows absolute and rotary.")
        found = cls(
            n_vocabulary=keys.number("vocab_size"),
            width=keys.number("hidden_size", 768),
            n_layers=keys.layers("num_hidden_layers", 12),
            n_heads=keys.number("num_attention_heads", 12),
            n_inner=keys.number("intermediate_size", 3_072),
            n_positions=keys.number("max_position_embeddings", 1_026),
            rotary=kind == "rotary",
            gated="add_bias_fnn" in mapping,
            scales_masks=_flag(keys, "token_dropout"),
            norm_before=_flag(keys, "emb_layer_norm_before"),
            ties=keys.flag("tie_word_embeddings", True),
            eps=keys.epsilon("layer_norm_eps", 1e-12),
        )
        keys.check_all_read()
        return found


def _flag(keys: Settings, key: str) -> bool:
    """Read a truth value that may be null."""
    keys.must_be(key, False, True, None)
    return keys.word(key) is True


_FIRST = NucleotideTransformerConfig(
    n_vocabulary=4_105,
    width=1_280,
    n_layers=24,
    n_heads=20,
    n_inner=5_120,
    n_positions=1_002,
    rotary=False,
    gated=False,
)
_PUBLISHED = {
    "500m": _FIRST,
    "2.5b": replace(_FIRST, width=2_560, n_layers=32, n_inner=10_240),
    "agro-1b": replace(_FIRST, width=1_500, n_layers=40, n_positions=1_026),
    "v2-50m": NucleotideTransformerConfig(),
    "v2-100m": NucleotideTransformerConfig(n_layers=22),
    "v2-250m": NucleotideTransformerConfig(n_layers=24, width=768, n_inner=3_072),
    "v2-500m": NucleotideTransformerConfig(n_layers=29, width=1_024, n_inner=4_096),
    "v2-50m-3mer": NucleotideTransformerConfig(n_vocabulary=75),
}
"""The sizes by variant; those of a folder's `config.json` come first."""


class _SelfAttention(nn.Module):
    """Attention of all tokens to all."""

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.n_heads = config.n_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, values: Tensor, rotations: tuple[Tensor, Tensor] | None) -> Tensor:
        """(n, n_tokens, width) -> the same; rotations are (n_tokens, head width) cosines and sines."""
        queries, keys, read = (self._by_head(part(values)) for part in (self.query, self.key, self.value))
        queries = queries * queries.shape[-1] ** -0.5
        if rotations is not None:
            queries, keys = _rotated(queries, *rotations), _rotated(keys, *rotations)
        found = (queries @ keys.transpose(2, 3)).softmax(-1) @ read
        return found.transpose(1, 2).flatten(2)

    def _by_head(self, values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], self.n_heads, -1).transpose(1, 2)  # (n, heads, tokens, head width)


def _rotated(values: Tensor, cosines: Tensor, sines: Tensor) -> Tensor:
    """Turn number i of a head together with number i + half."""
    first, second = values.chunk(2, -1)
    return values * cosines + torch.cat((-second, first), -1) * sines


class _Dense(nn.Module):
    """A dense layer under upstream's name."""

    def __init__(self, n_in: int, n_out: int, bias: bool = True) -> None:
        super().__init__()
        self.dense = nn.Linear(n_in, n_out, bias)

    def forward(self, values: Tensor) -> Tensor:
        return self.dense(values)


class _Attention(nn.Module):
    """Norm, attention, and a dense layer."""

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        self.self = _SelfAttention(config)
        self.output = _Dense(config.width, config.width)
        self.LayerNorm = nn.LayerNorm(config.width, config.eps)

    def forward(self, values: Tensor, rotations: tuple[Tensor, Tensor] | None) -> Tensor:
        return self.output(self.self(self.LayerNorm(values), rotations))


class _Layer(nn.Module):
    """Attention and a dense part, each added to what it reads."""

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        self.gated = config.gated
        self.attention = _Attention(config)
        self.intermediate = _Dense(config.width, config.n_inner * (2 if config.gated else 1), not config.gated)
        self.output = _Dense(config.n_inner, config.width, not config.gated)
        self.LayerNorm = nn.LayerNorm(config.width, config.eps)

    def forward(self, values: Tensor, rotations: tuple[Tensor, Tensor] | None) -> Tensor:
        values = values + self.attention(values, rotations)
        return values + self.output(self._activated(self.intermediate(self.LayerNorm(values))))

    def _activated(self, values: Tensor) -> Tensor:
        if not self.gated:
            return nn.functional.gelu(values)
        gate, others = values.chunk(2, -1)
        return gate * sigmoid(gate) * others


class _Encoder(nn.Module):
    """The layers, the last norm, and the rotations."""

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config.n_layers))
        self.emb_layer_norm_after = nn.LayerNorm(config.width, config.eps)
        shape = (config.max_tokens if config.rotary else 0, config.width // config.n_heads)
        self.rotary = config.rotary
        self.register_buffer("cosines", torch.zeros(shape), persistent=False)
        self.register_buffer("sines", torch.zeros(shape), persistent=False)

    cosines: Tensor
    sines: Tensor

    def forward(self, values: Tensor) -> Tensor:
        n_tokens = values.shape[1]
        rotations = (self.cosines[:n_tokens], self.sines[:n_tokens]) if self.rotary else None
        for layer in self.layer:
            values = layer(values, rotations)
        return self.emb_layer_norm_after(values)

    def build_rotations(self) -> None:
        """Compute the angles in the precision of the parameters; upstream's is the same."""
        like = self.emb_layer_norm_after.weight
        n_tokens, width = self.cosines.shape
        places = torch.arange(n_tokens, dtype=like.dtype)
        angles = torch.outer(places, _frequencies(width, like.dtype)).repeat(1, 2)
        self.cosines, self.sines = angles.cos().to(like.device), angles.sin().to(like.device)


def _frequencies(width: int, dtype: torch.dtype) -> Tensor:
    """Give the (width / 2,) angles, in radians, that one token further turns by."""
    return 1.0 / 10_000 ** (torch.arange(0, width, 2, device="cpu").to(dtype) / width)


class _Embeddings(nn.Module):
    """From tokens to what the first layer reads."""

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        self.scales_masks = config.scales_masks
        self.word_embeddings = nn.Embedding(config.n_vocabulary, config.width)
        self.position_embeddings = None if config.rotary else nn.Embedding(config.n_positions, config.width)
        self.layer_norm = nn.LayerNorm(config.width, config.eps) if config.norm_before else nn.Identity()

    def forward(self, ids: Tensor) -> Tensor:
        values = self.word_embeddings(ids)
        if self.scales_masks:
            is_mask = ids == _MASK
            share = is_mask.sum(-1, keepdim=True).float() / ids.shape[1]
            values = values.masked_fill(is_mask[..., None], 0) * (1 - _TRAINED_MASKS) / (1 - share)[..., None]
        if self.position_embeddings is not None:
            first = _PAD + 1
            values = values + self.position_embeddings.weight[first : first + ids.shape[1]]
        return self.layer_norm(values)


class _Head(nn.Module):
    """Names the token at a position."""

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.width, config.width)
        self.layer_norm = nn.LayerNorm(config.width, config.eps)
        self.decoder = nn.Linear(config.width, config.n_vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(config.n_vocabulary))

    def forward(self, hidden: Tensor) -> Tensor:
        return self.decoder(self.layer_norm(nn.functional.gelu(self.dense(hidden)))) + self.bias


class NucleotideTransformer(nn.Module):
    """Attention over k-mers, and a head that names the k-mer at a position.

    Modules and parameters have upstream's names.
    """

    def __init__(self, config: NucleotideTransformerConfig) -> None:
        super().__init__()
        self.esm = nn.Sequential(OrderedDict(embeddings=_Embeddings(config), encoder=_Encoder(config)))
        self.lm_head = _Head(config)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, n_vocabulary) logits."""
        return self.logits(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, width), after the last norm. At most `max_tokens` of the config."""
        return self.esm(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., n_vocabulary)."""
        if hidden.device.type == "cpu" and hidden.dim() > 2:
            # BLAS divides few positions among threads wherever it likes, and the last bits of a row with them.
            return torch.stack([self.logits(row) for row in hidden.contiguous()])
        return self.lm_head(hidden)

    def build_tables(self) -> None:
        """Compute the rotations, which no file holds."""
        encoder = self.esm.get_submodule("encoder")
        assert isinstance(encoder, _Encoder)
        encoder.build_rotations()


def config_of(checkpoint: Checkpoint) -> NucleotideTransformerConfig:
    """Give the published sizes."""
    return _PUBLISHED[checkpoint.variant]


def network_of(config: NucleotideTransformerConfig) -> NucleotideTransformer:
    """Make the network of these sizes."""
    return NucleotideTransformer(config)


def tokenizer_of(config: NucleotideTransformerConfig, path: Path | None = None) -> KmersInFrame:
    """Give the tokens, whose k and generation the size of the vocabulary tells.

    Args:
        path: A `vocab.txt`, or the folder that may hold it, to be compared with.

    Raises:
        ModelError: If no k-mers give that size, or the file says something else.
    """
    kinds = [KmersInFrame(k, n_special) for k in range(1, 9) for n_special in (4, 6)]
    found = next((kind for kind in kinds if kind.n_vocabulary == config.n_vocabulary), None)
    if found is None:
        raise ModelError(
            f"{path or config}: {config.n_vocabulary} tokens are not all k-mers, A, C, G, T, N and 4 or 6 others. "
            "Give the folder of a Nucleotide Transformer."
        )
    if path is not None:
        check_vocabulary(found.vocabulary(), path)
    return found


def unread(config: NucleotideTransformerConfig) -> dict[str, tuple[int, ...]]:
    """Give the shapes of what published files hold, and the network does not read."""
    shapes: dict[str, tuple[int, ...]] = {
        "esm.contact_head.regression.weight": (1, config.n_layers * config.n_heads),
        "esm.contact_head.regression.bias": (1,),
        "esm.embeddings.position_ids": (1, config.n_positions),
    }
    if config.rotary:
        shapes["esm.embeddings.position_embeddings.weight"] = (config.n_positions, config.width)
        for number in range(config.n_layers):
            shapes[_frequency_key(number)] = (config.width // config.n_heads // 2,)
    return shapes


def _frequency_key(layer: int) -> str:
    return f"esm.encoder.layer.{layer}.attention.self.rotary_embeddings.inv_freq"


def convert(tensors: Tensors, config: NucleotideTransformerConfig, path: Path) -> State:
    """Take every tensor of a published file under its own name.

    Nothing may be left over but the table of positions where there are rotations, their frequencies, which must be
    those that varfm computes, the numbers of positions, and the contact head.

    Raises:
        ModelError: If the file holds another network.
    """
    with torch.device("meta"):
        network = network_of(config)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    decoder, words = "lm_head.decoder.weight", "esm.embeddings.word_embeddings.weight"
    if config.ties and decoder not in tensors:
        shapes.pop(decoder)
    state: State = {name: tensors.take(name, shape) for name, shape in shapes.items()}
    if config.ties and not np.array_equal(state.setdefault(decoder, state[words]), state[words]):
        raise refuse(path, f"{decoder} equal to {words}, as tie_word_embeddings says", ["other values"])
    for name, shape in unread(config).items():
        if name in tensors:
            tensors.take(name, shape, tensors[name].dtype)
    _check_frequencies(tensors, config, path)
    tensors.check_all_taken()
    return state


def _check_frequencies(tensors: Tensors, config: NucleotideTransformerConfig, path: Path) -> None:
    expected = _frequencies(config.width // config.n_heads, torch.float32).numpy()
    for number in range(config.n_layers if config.rotary else 0):
        key = _frequency_key(number)
        if key in tensors and not np.allclose(tensors[key], expected, rtol=_FREQUENCY_ERROR, atol=1e-6):
            raise refuse(path, f"{key} from 1 down to {expected[-1]:.3g}", [str(tensors[key][:2])])


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load a published folder.

    Raises:
        ModelError: If it is not that of a Nucleotide Transformer.
        OptionError: If an option's value is not known.
    """
    config = published_sizes(NucleotideTransformerConfig, weights)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    tokenizer = tokenizer_of(config, weights.path.parent)
    reading = Reading(longest=(config.max_tokens - 1) * tokenizer.k, step=tokenizer.k, batch_rows=(4, 16))
    return language_model(checkpoint, weights, options, network, tokenizer, reading)
