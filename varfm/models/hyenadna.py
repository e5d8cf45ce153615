"""HyenaDNA: the next base from up to a million before it, by long convolutions.

Paper: Nguyen et al., NeurIPS 2023, arXiv 2306.15794. Code: github.com/HazyResearch/hyena-dna, standalone_hyenadna.py,
commit d553021 (Apache-2.0). Weights: the folders `hyenadna-*-hf` of huggingface.co/LongSafari (BSD-3-Clause).
What differs from upstream: the Fourier transform is as long as is fast, not twice the sequence; on a GPU it takes some
of the channels at a time; on a CPU, rows of a batch run one by one, so that a row's answer does not depend on the
others. No dropout. The checkpoints with `weights.ckpt`, a pickle, are refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.encoding.characters import HYENADNA, Characters
from varfm.errors import ModelError
from varfm.models import ModelOptions
from varfm.models.beginnings import continued
from varfm.models.loading import State, loaded, refuse
from varfm.models.settings import Settings
from varfm.models.zero_shot import OPTIONS, Reading, language_model, published_sizes
from varfm.precision import KEPT, widened
from varfm.protocols import Model
from varfm.readers import Tensors

__all__ = ["OPTIONS", "HyenaDna", "HyenaDnaConfig", "build", "config_of", "convert", "network_of", "tokenizer_of"]

_TARGET, _FAST, _SLOW, _SHIFT = 0.01, 0.3, 1.5, 0.05
"""Of the window of a filter: a channel falls to 0.01 over 0.3 to 1.5 times the longest sequence; 0.05 stays."""

_SHORT = 3
_EPSILON = 1e-5
_TRANSFORMED = 1 << 26
"""Numbers that are transformed at once."""

_TABLE_ERROR = 1e-5
_IGNORED = (
    # Who wrote the file, and how.
    *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"),
    # Training, and how weights begin: the frequencies are in the file.
    *("embed_dropout", "hyena_dropout", "hyena_filter_dropout", "initializer_range", "activation_freq"),
    # Read by nothing in upstream's code, or only by heads for other tasks.
    *("use_bias", "problem_type", "id2label", "label2id", "use_cache", "return_dict", "output_hidden_states"),
    # Special tokens, none of which is added.
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HyenaDnaConfig:
    """Sizes of HyenaDNA; the defaults are `tiny-1k-seqlen`.

    Attributes:
        max_tokens: The longest sequence; filters depend on it, also for shorter ones.
        n_vocabulary: Rows of the table of tokens.
        width: Channels of the hidden states.
        n_layers: Blocks.
        n_inner: Channels of the dense part of a block.
        n_positions: Numbers that describe a position to the filters; odd.
        filter_width: Units of the networks that make the filters.
        n_filter_layers: Their hidden layers after the first.
    """

    max_tokens: int = 1_026
    n_vocabulary: int = 16
    width: int = 128
    n_layers: int = 2
    n_inner: int = 512
    n_positions: int = 5
    filter_width: int = 64
    n_filter_layers: int = 2

    def __post_init__(self) -> None:
        sizes = (self.max_tokens, self.n_vocabulary, self.width, self.n_layers, self.n_inner)
        if min(*sizes, self.filter_width, self.n_filter_layers) < 1:
            raise ModelError(f"{self}: every size of HyenaDNA must be at least 1.")
        if self.n_positions < 3 or self.n_positions % 2 == 0:
            raise ModelError(f"{self}: positions of HyenaDNA are described by an odd number of values, 3 or more.")

    @classmethod
    def from_json(cls, mapping: Mapping[str, object], path: Path) -> Self:
        """Read the `config.json` of a published folder whose name ends in `-hf`.

        Args:
            mapping: Its content.
            path: Where it is from, for messages.

        Raises:
            ModelError: If it describes another network.
        """
        if "layer" in mapping:
            raise ModelError(f"{path}: of the form with weights.ckpt. Give the folder whose name ends in -hf.")
        keys = Settings(mapping, path, "HyenaDNA", _IGNORED)
        keys.must_be("model_type", "hyenadna")
        keys.must_be("hyena_order", 2)
        keys.must_be("short_filter_order", _SHORT)
        keys.must_be("train_freq", True)
        keys.must_be("layer_norm_epsilon", _EPSILON)  # of the last norm; the others' is fixed
        keys.must_be("tie_word_embeddings", False, True)  # the file holds the head in any case
        width, multiple = keys.number("d_model"), keys.number("pad_vocab_size_multiple", 8)
        found = cls(
            max_tokens=keys.number("max_seq_len"),
            n_vocabulary=-(-keys.number("vocab_size", 12) // multiple) * multiple,
            width=width,
            n_layers=keys.layers("n_layer"),
            n_inner=keys.number("d_inner", 4 * width),
            n_positions=keys.number("emb_dim", 5),
            filter_width=keys.number("filter_order", 64),
            n_filter_layers=keys.layers("num_inner_mlps", 2),
        )
        keys.check_all_read()
        return found


class _Sine(nn.Module):
    """A sine whose frequencies are learned; one for all layers of a filter."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.freq = nn.Parameter(torch.full((1, width), 10.0))

    def forward(self, values: Tensor) -> Tensor:
        return torch.sin(self.freq * values)


class _Positions(nn.Module):
    """What describes positions: `z` to the network that makes a filter, `t` to its window."""

    def __init__(self, config: HyenaDnaConfig) -> None:
        super().__init__()
        self.z = nn.Parameter(torch.zeros(1, config.max_tokens, config.n_positions))
        self.register_buffer("t", torch.zeros(1, config.max_tokens, 1))


class _Window(nn.Module):
    """How fast the channels of a filter fall."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("deltas", torch.zeros(1, 1, width))


class _Filter(nn.Module):
    """A filter as long as the sequence, the same for all sequences of a length."""

    def __init__(self, config: HyenaDnaConfig) -> None:
        super().__init__()
        width, sine = config.filter_width, _Sine(config.filter_width)
        layers: list[nn.Module] = [nn.Linear(config.n_positions, width), sine]
        for _ in range(config.n_filter_layers):
            layers += [nn.Linear(width, width), sine]
        self.bias = nn.Parameter(torch.zeros(config.width))
        self.pos_emb = _Positions(config)
        self.implicit_filter = nn.Sequential(*layers, nn.Linear(width, config.width, bias=False))
        self.modulation = _Window(config.width)
        for part in (self.pos_emb, self.implicit_filter, self.modulation):
            setattr(part, KEPT, True)  # neighbouring positions are one and the same number in half precision

    def forward(self, n_tokens: int) -> Tensor:
        """Give the filter, (width, n_tokens)."""
        times = cast(Tensor, self.pos_emb.t)[0, :n_tokens]
        falling = torch.exp(-times * cast(Tensor, self.modulation.deltas)[0].abs())
        return (self.implicit_filter(self.pos_emb.z[0, :n_tokens]) * (falling + _SHIFT)).T.contiguous()


class _Begun(NamedTuple):
    """What a mixer has read of earlier tokens, as later ones need it.

    Attributes:
        inner: (n, 3 * width, up to 2) of the last tokens, before the short filter.
        rest: (n, width, n_later) of the long filter's output at later tokens: what earlier ones add there.
    """

    inner: Tensor
    rest: Tensor


class _Mixer(nn.Module):
    """Two gates and a long convolution between them."""

    def __init__(self, config: HyenaDnaConfig) -> None:
        super().__init__()
        n_inner = 3 * config.width
        self.in_proj = nn.Linear(config.width, n_inner)
        self.short_filter = nn.Conv1d(n_inner, n_inner, _SHORT, padding=_SHORT - 1, groups=n_inner)
        self.filter_fn = _Filter(config)
        self.out_proj = nn.Linear(config.width, config.width)

    def forward(self, values: Tensor, kernel: Tensor, begun: _Begun | None) -> tuple[Tensor, _Begun]:
        """Mix tokens.

        Args:
            values: (n, n_tokens, width).
            kernel: (width, n_tokens and later ones), the long filter.
            begun: Of the tokens before these, if there are any; then there may be no later ones.

        Returns:
            (n, n_tokens, width), and what later tokens need.
        """
        n_tokens, n_before = values.shape[1], 0
        inner = self.in_proj(values).transpose(1, 2)
        if begun is not None:
            n_before = begun.inner.shape[2]
            inner = torch.cat([begun.inner, inner], 2)
        last, first, gated = self.short_filter(inner)[..., n_before : n_before + n_tokens].chunk(3, 1)
        gated = gated * first
        whole = _convolved(functional.pad(gated, (0, kernel.shape[1] - n_tokens)), kernel)
        found = whole[..., :n_tokens] if begun is None else whole + begun.rest
        found = torch.addcmul(found, gated, self.filter_fn.bias[:, None])
        left = _Begun(inner[..., 1 - _SHORT :], whole[..., n_tokens:])
        return self.out_proj((found * last).transpose(1, 2)), left


class _Dense(nn.Module):
    """The dense part of a block."""

    def __init__(self, config: HyenaDnaConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.n_inner)
        self.fc2 = nn.Linear(config.n_inner, config.width)

    def forward(self, values: Tensor) -> Tensor:
        return self.fc2(functional.gelu(self.fc1(values), approximate="tanh"))


class _Block(nn.Module):
    """A mixer and a dense part, each added to what it reads."""

    def __init__(self, config: HyenaDnaConfig) -> None:
        super().__init__()
        self.mixer = _Mixer(config)
        self.norm1 = nn.LayerNorm(config.width, _EPSILON)
        self.mlp = _Dense(config)
        self.norm2 = nn.LayerNorm(config.width, _EPSILON)

    def forward(self, values: Tensor, kernel: Tensor, begun: _Begun | None) -> tuple[Tensor, _Begun]:
        found, left = self.mixer(self.norm1(values), kernel, begun)
        values = values + found
        return values + self.mlp(self.norm2(values)), left


class _Backbone(nn.Module):
    """From tokens to hidden states."""

    def __init__(self, config: HyenaDnaConfig) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({"word_embeddings": nn.Embedding(config.n_vocabulary, config.width)})
        self.layers = nn.ModuleList(_Block(config) for _ in range(config.n_layers))
        self.ln_f = nn.LayerNorm(config.width, _EPSILON)

    def forward(self, ids: Tensor) -> Tensor:
        kernels = self._kernels(ids.shape[1])
        rows = torch.split(ids, 1) if ids.device.type == "cpu" else (ids,)
        return torch.cat([self._run(row, kernels, None)[0] for row in rows])

    def forward_from(self, ids: Tensor, start: int) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens - start, width), row by row."""
        kernels = self._kernels(ids.shape[1])
        n_later = ids.shape[1] - start
        later = [kernel[:, :n_later].contiguous() for kernel in kernels]
        return continued(
            ids, start, lambda row: self._run(row, kernels, None)[1], lambda row, begun: self._run(row, later, begun)[0]
        )

    def _kernels(self, n_tokens: int) -> list[Tensor]:
        """Give the filters of all blocks: the same for all rows, and the larger part of the work for a short one."""
        return [cast(_Block, block).mixer.filter_fn(n_tokens) for block in self.layers]

    def _run(self, ids: Tensor, kernels: list[Tensor], begun: list[_Begun] | None) -> tuple[Tensor, list[_Begun]]:
        values, left = self.embeddings["word_embeddings"](ids), []
        for number, (block, kernel) in enumerate(zip(self.layers, kernels, strict=True)):
            values, own = block(values, kernel, None if begun is None else begun[number])
            left.append(own)
        return self.ln_f(values), left


class HyenaDna(nn.Module):
    """Reads bases from left to right: what is at a position depends on it and those before it.

    Modules and parameters have upstream's names.
    """

    def __init__(self, config: HyenaDnaConfig) -> None:
        super().__init__()
        self.config = config
        self.hyena = nn.ModuleDict({"backbone": _Backbone(config)})
        self.lm_head = nn.Linear(config.width, config.n_vocabulary, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, n_vocabulary) logits of the token after each."""
        return self.logits(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, width).

        Raises:
            ModelError: If the sequence is longer than the network reads.
        """
        self._check(ids)
        return self.hyena["backbone"](ids)

    def hidden_from(self, ids: Tensor, start: int) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens - start, width); on a CPU, beginnings that rows share are run once.

        Raises:
            ModelError: If the sequence is longer than the network reads.
        """
        if start == 0 or ids.device.type != "cpu":
            return self.hidden(ids)[:, start:]
        self._check(ids)
        return cast(_Backbone, self.hyena["backbone"]).forward_from(ids, start)

    def _check(self, ids: Tensor) -> None:
        if ids.shape[1] > self.config.max_tokens:
            raise ModelError(f"{ids.shape[1]:,} tokens, but this HyenaDNA reads {self.config.max_tokens:,} at most.")

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., n_vocabulary)."""
        if hidden.device.type == "cpu" and hidden.ndim > 2:
            # A copy of each row, since a dense layer rounds by the place of its input in memory.
            return torch.stack([self.lm_head(row.clone()) for row in hidden])
        return self.lm_head(hidden)


def _convolved(values: Tensor, kernel: Tensor) -> Tensor:
    """Convolve each channel with its filter: (n, width, n_tokens) and (width, n_tokens) -> (n, width, n_tokens)."""
    n_rows, _, n_tokens = values.shape
    length = transform_length(2 * n_tokens - 1)
    n_channels = max(1, _TRANSFORMED // (n_rows * length))
    found = []
    # Half precision is not enough for a transform, or not to be had.
    with torch.autocast(values.device.type, enabled=False):
        for part, own in zip(torch.split(values, n_channels, 1), torch.split(kernel, n_channels), strict=True):
            spectrum = torch.fft.rfft(widened(part), length) * torch.fft.rfft(widened(own), length)
            found.append(torch.fft.irfft(spectrum, length)[..., :n_tokens].to(values.dtype))
    return torch.cat(found, 1)


def transform_length(n: int) -> int:
    """Give the smallest length from `n` on that is a power of 2, times 3 or 5 at most: the fast ones."""
    return min(factor << max(0, (-(-n // factor) - 1).bit_length()) for factor in (1, 3, 5))


_PUBLISHED = {
    "tiny-1k": HyenaDnaConfig(),
    "tiny-1k-d256": HyenaDnaConfig(width=256, n_inner=1_024),
    "tiny-16k-d128": HyenaDnaConfig(max_tokens=16_386),
    "small-32k": HyenaDnaConfig(max_tokens=32_770, width=256, n_layers=4, n_inner=1_024),
    "medium-160k": HyenaDnaConfig(max_tokens=160_002, width=256, n_layers=8, n_inner=1_024),
    "medium-450k": HyenaDnaConfig(max_tokens=450_002, width=256, n_layers=8, n_inner=1_024),
    "large-1m": HyenaDnaConfig(max_tokens=1_000_002, width=256, n_layers=8, n_inner=1_024),
}
"""The sizes by variant."""


def config_of(checkpoint: Checkpoint) -> HyenaDnaConfig:
    """Give the published sizes."""
    return _PUBLISHED[checkpoint.variant]


def network_of(config: HyenaDnaConfig) -> HyenaDna:
    """Make the network of these sizes."""
    return HyenaDna(config)


def tokenizer_of(config: HyenaDnaConfig, path: Path | None = None) -> Characters:
    """Give the tokens, which are the same for all published folders.

    Raises:
        ModelError: If the network has not a row for every token.
    """
    if HYENADNA.n_vocabulary > config.n_vocabulary:
        raise ModelError(f"{config}: HyenaDNA has {HYENADNA.n_vocabulary} tokens. Give the sizes of a published one.")
    return HYENADNA


def convert(tensors: Tensors, config: HyenaDnaConfig, path: Path) -> State:
    """Take the tensors of a published file.

    Frequencies that layers share may be there once or several times alike. Tables that are not learned are computed
    where they are missing, and compared where they are not; `z` may have been trained and is taken as it is.

    Raises:
        ModelError: If the file holds another network.
    """
    with torch.device("meta"):
        network = network_of(config)
    tables = position_tables(config)
    state: State = {}
    for name, value in network.state_dict().items():
        shape, kind = tuple(value.shape), name.rsplit(".", 1)[-1]
        if kind == "freq":
            state[name] = _frequencies(tensors, name, shape)
        elif kind in tables and name not in tensors:
            state[name] = tables[kind]
        else:
            state[name] = tensors.take(name, shape)
        if kind in ("t", "deltas") and not np.allclose(state[name], tables[kind], rtol=0, atol=_TABLE_ERROR):
            raise refuse(path, f"in {name} what the sizes say", ["other numbers"])
    tensors.check_all_taken()
    return state


def position_tables(config: HyenaDnaConfig) -> dict[str, NDArray[np.float32]]:
    """Compute `z` (1, max_tokens, n_positions), `t` (1, max_tokens, 1) and `deltas` (1, 1, width)."""
    n_bands = (config.n_positions - 1) // 2
    times = np.linspace(0, 1, config.max_tokens)[:, None]
    angles = 2 * np.pi / config.max_tokens * np.arange(config.max_tokens)[:, None]
    angles = angles * np.linspace(1e-4, n_bands - 1, n_bands)
    tables = {
        "z": np.concatenate([times, np.cos(angles), -np.sin(angles)], 1)[None],
        "t": times[None],
        "deltas": np.linspace(math.log(_TARGET) / _SLOW, math.log(_TARGET) / _FAST, config.width)[None, None],
    }
    return {name: values.astype(np.float32) for name, values in tables.items()}


def _frequencies(tensors: Tensors, name: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Take the frequencies that all layers of a filter share, under any of their names."""
    start = name.rsplit(".", 2)[0]
    there = [key for key in tensors if key.startswith(f"{start}.") and key.endswith(".freq")] or [f"{start}.1.freq"]
    first, *others = (tensors.take(key, shape) for key in there)
    if not all(np.array_equal(first, other) for other in others):
        raise refuse(tensors.path, f"one vector of frequencies in {start}", there)
    return first


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load a published folder.

    Raises:
        ModelError: If it is not that of a HyenaDNA.
        OptionError: If an option's value is not known.
    """
    config = published_sizes(HyenaDnaConfig, weights)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    tokenizer = tokenizer_of(config, weights.files.get("tokenizer.json"))
    return language_model(
        checkpoint, weights, options, network, tokenizer, Reading(longest=config.max_tokens, batch_rows=(16, 64))
    )
