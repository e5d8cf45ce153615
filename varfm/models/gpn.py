"""GPN: masked bases from the 512 around them, by dilated convolutions.

Paper: Benegas, Batra and Song, PNAS 120 (2023) e2311219120. Code: github.com/songlab-cal/gpn, gpn/legacy.py (the
network of the paper, `ConvNet`), gpn/model.py and gpn/modules.py (`GPN`), commit 99293f8 (MIT).
What differs from upstream: no dropout; only base identities are read, neither their probabilities nor columns of an
alignment. Networks that want an alignment (GPN-MSA, GPN-Star) and `GPN` with a RoFormer encoder are refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.encoding.characters import Characters, read_characters
from varfm.errors import ModelError
from varfm.models import ModelOptions
from varfm.models.loading import State, loaded
from varfm.models.settings import Settings
from varfm.models.zero_shot import OPTIONS, Reading, language_model, published_sizes
from varfm.protocols import Model
from varfm.readers import Tensors

CHARACTERS = Characters(base_ids=(3, 4, 5, 6, 2), mask_id=1, unknown_id=2, n_vocabulary=7)
"""`[PAD]` 0, `[MASK]` 1, `[UNK]` 2, then the bases; N is unknown.

Source: gpn/ss/train_tokenizer_ss.py.
"""

__all__ = ["OPTIONS", "Gpn", "GpnConfig", "build", "config_of", "convert", "network_of", "tokenizer_of"]

ENCODERS = ("legacy", "convnet", "bytenet")
_MAX_SIZE = 100_000
_PAPER_DILATIONS = (1, 2, 4, 8, 16, 32) * 4 + (1,)

_IGNORED = frozenset(
    (
        # Who wrote the file, and how.
        *("_name_or_path", "model_type", "dtype", "torch_dtype", "transformers_version"),
        # Training and heads for other tasks.
        *("attention_probs_dropout_prob", "hidden_dropout_prob", "initializer_range", "classification_head"),
        *("id2label", "label2id", "pos_weight", "problem_type", "regression_softplus"),
        # Without auxiliary features, nothing reads the number of their values.
        "aux_features_vocab_size",
        # Attention, which these encoders do not have. Their activation and the epsilon of their norms are fixed.
        *("embedding_size", "hidden_act", "is_decoder", "layer_norm_eps", "max_position_embeddings"),
        *("add_cross_attention", "cross_attention_hidden_size", "num_attention_heads", "rotary_value"),
        *("type_vocab_size", "use_cache"),
        # The legacy network has no table that could be tied; where there may be one, it is looked at.
        "tie_word_embeddings",
        # Special tokens, of which none is added.
        *("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpnConfig:
    """Sizes of GPN; the defaults are the network of the paper.

    Attributes:
        encoder: `legacy` (the paper's), `convnet` or `bytenet`.
        n_vocabulary: Tokens.
        width: Channels of the hidden states.
        n_inner: Channels inside a layer: of the dense part of `convnet`, of the convolution of `bytenet`.
        kernels: Positions that the kernel of the first layer covers, and those of the others.
        dilations: Distance of a kernel's positions, for each layer.
        depthwise: True if all kernels but the first see one channel each.
        bias: True if layers add learned constants.
        learned_embedding: False if a token is one-hot in the first channels.
        head_transform: False if the head is a single dense layer.
    """

    encoder: str = "legacy"
    n_vocabulary: int = 7
    width: int = 512
    n_inner: int = 512
    kernels: tuple[int, int] = (9, 9)
    dilations: tuple[int, ...] = _PAPER_DILATIONS
    depthwise: bool = False
    bias: bool = True
    learned_embedding: bool = False
    head_transform: bool = True

    def __post_init__(self) -> None:
        if self.encoder not in ENCODERS:
            raise ModelError(f"{self}: the encoder of GPN must be one of {', '.join(ENCODERS)}.")
        sizes = (self.n_vocabulary, self.width, self.n_inner, *self.kernels, *self.dilations, len(self.dilations))
        if len(self.kernels) != 2 or not 1 <= min(sizes) <= max(sizes) <= _MAX_SIZE:
            raise ModelError(f"{self}: every size of GPN must be from 1 to {_MAX_SIZE:,}, for at least one layer.")
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ModelError(f"{self}: a kernel of GPN must cover an odd number of positions, to have a middle.")
        if not self.learned_embedding and self.n_vocabulary > self.width:
            raise ModelError(f"{self}: {self.width} channels of GPN cannot hold {self.n_vocabulary} one-hot tokens.")

    @classmethod
    def from_json(cls, mapping: Mapping[str, object], path: Path) -> Self:
        """Read the `config.json` of a published folder.

        Args:
            mapping: Its content.
            path: Where it is from, for messages.

        Raises:
            ModelError: If it describes another network, or one that cannot run on a sequence alone.
        """
        kind = mapping.get("model_type")
        if kind == "GPNRoFormer":
            raise ModelError(f"{path}: describes GPN-MSA, which also reads an alignment; varfm runs GPN alone.")
        if kind not in ("ConvNet", "GPN"):
            raise ModelError(f"{path}: model_type is {kind!r}, expected ConvNet or GPN. Give the folder of a GPN.")
        keys = Settings(mapping, path, "GPN", _IGNORED)
        # Heads for other tasks give no bases.
        keys.must_be("architectures", [f"{kind}ForMaskedLM"])
        keys.must_be("n_aux_features", 0)
        values = _legacy(keys) if kind == "ConvNet" else _newer(keys)
        keys.check_all_read()
        return cls(**values)


def _legacy(keys: Settings) -> dict[str, Any]:
    """Read the sizes of a `ConvNet`."""
    return {
        "encoder": "legacy",
        "n_vocabulary": keys.number("vocab_size", 7),
        "width": keys.number("hidden_size", 512),
        "n_inner": keys.number("hidden_size", 512),
        "kernels": (keys.number("kernel_size", 9),) * 2,
        "dilations": _dilations(keys, keys.layers("n_layers", 25), maximum=32, cycle=6),
    }


def _newer(keys: Settings) -> dict[str, Any]:
    """Read the sizes of a `GPN`."""
    keys.must_be("encoder", "convnet", "bytenet")
    keys.must_be("embedding", "one_hot", "embedding")
    keys.must_be("tie_word_embeddings", False)
    encoder, width = keys.word("encoder", "convnet"), keys.number("hidden_size", 512)
    n_dense, is_slim = keys.number("intermediate_size", 2048), keys.flag("slim", False)
    return {
        "encoder": encoder,
        "n_vocabulary": keys.number("vocab_size", 7),
        "width": width,
        "n_inner": n_dense if encoder == "convnet" else width // 2 if is_slim else width,
        "kernels": (keys.number("first_kernel_size", 9), keys.number("rest_kernel_size", 5)),
        "dilations": _dilations(keys, keys.layers("num_hidden_layers", 25), maximum=9999, cycle=8),
        "depthwise": keys.flag("depthwise", False),
        "bias": keys.flag("bias", False),
        "learned_embedding": keys.word("embedding") == "embedding",
        "head_transform": keys.flag("mlm_head_transform", True),
    }


def _dilations(keys: Settings, n_layers: int, maximum: int, cycle: int) -> tuple[int, ...]:
    """Grow by powers of the base, every so many layers, up to the maximum, and begin again after each cycle."""
    maximum, cycle = keys.number("dilation_max", maximum), keys.number("dilation_cycle", cycle)
    base, every = keys.number("dilation_base", 2), keys.number("dilation_double_every", 1)
    highest = maximum.bit_length()  # from 2 on, no base needs a higher power to pass the maximum
    return tuple(min(maximum, base ** min(highest, layer % cycle // every)) for layer in range(n_layers))


_PUBLISHED = {
    "": GpnConfig(),
    "animal-promoter": GpnConfig(
        encoder="bytenet",
        width=1024,
        n_inner=512,
        kernels=(9, 5),
        dilations=(1, 2, 4, 8, 16, 32, 64, 128) * 8,
        bias=False,
        learned_embedding=True,
        head_transform=False,
    ),
}
"""The sizes by variant. Of the second: analysis/gpn_animal_promoter; they give the size of the published file."""


class _Transposed(nn.Module):
    """Swaps positions and channels."""

    def forward(self, values: Tensor) -> Tensor:
        return values.transpose(1, 2)


class _Layer(nn.Module):
    """A convolution and a dense part, each added to what it reads."""

    def __init__(self, conv: nn.Sequential, ffn: nn.Sequential) -> None:
        super().__init__()
        self.conv = conv
        self.ffn = ffn

    def forward(self, values: Tensor) -> Tensor:
        values = values + self.conv(values)
        return values + self.ffn(values)


class _ByteNetLayer(nn.Module):
    """A convolution in few channels, added to what it reads."""

    def __init__(self, layer: nn.Sequential) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, values: Tensor) -> Tensor:
        return values + self.layer(values)


def _legacy_layer(config: GpnConfig, number: int) -> nn.Module:
    width = config.width
    conv = (_Transposed(), _convolution(config, number, width), _Transposed(), nn.GELU(), nn.LayerNorm(width))
    return _Layer(nn.Sequential(*conv), nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)))


def _convnet_layer(config: GpnConfig, number: int) -> nn.Module:
    width, n_inner, bias = config.width, config.n_inner, config.bias
    conv = nn.Sequential(
        nn.LayerNorm(width, bias=bias),
        *(_Transposed(), _convolution(config, number, width), _Transposed()),
        nn.GELU(),
        nn.Linear(width, width, bias),
    )
    dense = (nn.Linear(width, n_inner, bias), nn.GELU(), nn.Linear(n_inner, width, bias))
    return _Layer(conv, nn.Sequential(nn.LayerNorm(width, bias=bias), *dense))


def _bytenet_layer(config: GpnConfig, number: int) -> nn.Module:
    width, n_inner, bias = config.width, config.n_inner, config.bias
    layer = nn.Sequential(
        *(nn.LayerNorm(width, bias=bias), nn.GELU(), nn.Linear(width, n_inner, bias)),
        *(nn.LayerNorm(n_inner, bias=bias), nn.GELU()),
        *(_Transposed(), _convolution(config, number, n_inner), _Transposed()),
        *(nn.LayerNorm(n_inner, bias=bias), nn.GELU(), nn.Linear(n_inner, width, bias)),
    )
    return _ByteNetLayer(layer)


def _convolution(config: GpnConfig, number: int, width: int) -> nn.Conv1d:
    """Make a convolution that keeps the length; beyond the ends are zeros."""
    groups = width if config.depthwise and number else 1
    kernel, dilation = config.kernels[min(number, 1)], config.dilations[number]
    padding = kernel // 2 * dilation
    return nn.Conv1d(width, width, kernel, padding=padding, dilation=dilation, groups=groups, bias=config.bias)


_LAYERS = {"legacy": _legacy_layer, "convnet": _convnet_layer, "bytenet": _bytenet_layer}


class _OneHot(nn.Module):
    """A token is one in the channel of its id."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, ids: Tensor) -> Tensor:
        return ids[..., None] == torch.arange(self.width, device=ids.device)


class _Trunk(nn.Module):
    """From tokens to hidden states."""

    def __init__(self, config: GpnConfig) -> None:
        super().__init__()
        width, is_legacy = config.width, config.encoder == "legacy"
        self.embeddings: nn.Module = _OneHot(width)
        if config.learned_embedding:
            # Drawing random numbers on the meta device, as Embedding does, imports half of torch.
            n = config.n_vocabulary
            table = nn.Embedding(n, width, _weight=torch.zeros(n, width))
            self.embeddings = nn.Sequential(OrderedDict(word_embeddings=table))
        layers = nn.Sequential(*(_LAYERS[config.encoder](config, number) for number in range(len(config.dilations))))
        self.encoder = layers if is_legacy else nn.Sequential(OrderedDict(layer=layers))
        self.ln_f = nn.Identity() if is_legacy else nn.LayerNorm(width, bias=config.bias)


class _Head(nn.Module):
    """The newer head: a dense layer, after another one or alone."""

    def __init__(self, config: GpnConfig) -> None:
        super().__init__()
        width, bias = config.width, config.bias
        transform = nn.Sequential(nn.Linear(width, width, bias), nn.GELU(), nn.LayerNorm(width, bias=bias))
        self.transform = transform if config.head_transform else nn.Identity()
        self.decoder = nn.Linear(width, config.n_vocabulary, bias)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.decoder(self.transform(hidden))


class Gpn(nn.Module):
    """Dilated convolutions over bases, and a head that names the base at a position.

    Modules and parameters have upstream's names.
    """

    def __init__(self, config: GpnConfig) -> None:
        super().__init__()
        width = config.width
        self.model = _Trunk(config)
        if config.encoder == "legacy":
            dense = nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width), nn.Linear(width, config.n_vocabulary)
            self.cls: nn.Module = nn.Sequential(OrderedDict(decoder=nn.Sequential(*dense)))
        else:
            self.cls = _Head(config)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, n_vocabulary) logits."""
        return self.logits(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, width): what the head reads."""
        dtype = next(self.parameters()).dtype
        return self.model.ln_f(self.model.encoder(self.model.embeddings(ids).to(dtype)))

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., n_vocabulary)."""
        return self.cls(hidden)


def config_of(checkpoint: Checkpoint) -> GpnConfig:
    """Give the published sizes."""
    return _PUBLISHED[checkpoint.variant]


def network_of(config: GpnConfig) -> Gpn:
    """Make the network of these sizes."""
    return Gpn(config)


def tokenizer_of(config: GpnConfig, path: Path | None = None) -> Characters:
    """Give the tokens of a published folder.

    Args:
        path: Its `tokenizer.json`, or the folder, which may lack it; None: upstream's one for single sequences.

    Raises:
        ModelError: If the network has not a row for every token.
    """
    found = (read_characters(path) if path else None) or CHARACTERS
    if found.n_vocabulary > config.n_vocabulary:
        raise ModelError(
            f"{path or config}: {found.n_vocabulary} tokens, but the network knows {config.n_vocabulary}. "
            "Give the tokenizer that belongs to the weights."
        )
    return found


def convert(tensors: Tensors, config: GpnConfig, path: Path) -> State:
    """Take every tensor of upstream's file under its own name; nothing may be left over.

    Raises:
        ModelError: If the file holds another network.
    """
    with torch.device("meta"):
        network = network_of(config)
    state: State = {name: tensors.take(name, tuple(value.shape)) for name, value in network.state_dict().items()}
    tensors.check_all_taken()
    return state


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load a published folder.

    Raises:
        ModelError: If it is not that of a GPN.
        OptionError: If an option's value is not known.
    """
    config = published_sizes(GpnConfig, weights)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    tokenizer = tokenizer_of(config, weights.files.get("tokenizer.json"))
    reading = Reading(batch_rows=(8, 64))
    return language_model(checkpoint, weights, options, network, tokenizer, reading)
