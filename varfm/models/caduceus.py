"""Caduceus: masked bases from up to 131,072 around them, by Mamba in both directions; PH, PS and PlantCaduceus.

Paper: Schiff et al., ICML 2024, arXiv 2403.03234; PlantCaduceus: Zhai et al., PNAS 122 (2025) e2421738122. Code:
github.com/kuleshov-group/caduceus, caduceus/modeling_caduceus.py and modeling_rcps.py, commit 0060a6d (Apache-2.0).
What differs from upstream: PS is written as one network that reads both strands; no Triton is needed for the layers
that upstream runs by it, and their result is the same; on a CPU, rows of a batch run one by one, so that a row's answer
does not depend on the others. Networks that read in one direction, multiply directions or do not tie their projections
are refused: none was published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.digits import is_whole
from varfm.encoding.characters import HYENADNA, Characters, read_characters
from varfm.errors import ModelError
from varfm.models import ModelOptions
from varfm.models.loading import State, loaded, refuse
from varfm.models.mamba import BiMamba, MambaSizes
from varfm.models.settings import Settings
from varfm.models.zero_shot import OPTIONS, Reading, language_model, published_sizes
from varfm.protocols import Model
from varfm.readers import Tensors

__all__ = ["OPTIONS", "Caduceus", "CaduceusConfig", "build", "config_of", "convert", "network_of", "tokenizer_of"]

_COMPLEMENT = (0, 1, 2, 3, 4, 5, 6, 10, 9, 8, 7, 11, 12, 13, 14, 15)

_IGNORED = (
    # Who wrote the file, and how; names of labels.
    *("_name_or_path", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version"),
    *("id2label", "label2id", "problem_type", "return_dict", "output_hidden_states", "use_cache"),
    # How weights begin, and special tokens, none of which is added.
    *("initializer_cfg", "bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings"),
    # All sums are in 32 bits here.
    "residual_in_fp32",
)
_IGNORED_INSIDE = ("dt_init", "dt_init_floor", "dt_max", "dt_min", "dt_scale", "use_fast_path")
"""Of `ssm_cfg`: how weights begin, and which kernel upstream runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaduceusConfig:
    """Sizes of Caduceus; the defaults are the published PS network for 131,072 bases.

    Attributes:
        n_vocabulary: Rows of the table of tokens.
        width: Channels of a strand's hidden states.
        n_layers: Mixers.
        n_inner: Channels inside a mixer.
        n_states: States of each of them.
        rank: Numbers that a position's step sizes are made of.
        kernel: Positions that the convolution of a mixer covers.
        epsilon: Of the norms.
        both_strands: True for PS, which reads both strands as one.
        swaps: PS only: True if the strands change places before each layer, as upstream's fused norm has it.
        complement: PS only: the token that stands opposite of each.
    """

    n_vocabulary: int = 16
    width: int = 256
    n_layers: int = 16
    n_inner: int = 512
    n_states: int = 16
    rank: int = 16
    kernel: int = 4
    epsilon: float = 1e-5
    both_strands: bool = True
    swaps: bool = True
    complement: tuple[int, ...] = _COMPLEMENT

    def __post_init__(self) -> None:
        sizes = (self.n_vocabulary, self.width, self.n_layers, self.n_inner, self.n_states, self.rank, self.kernel)
        if min(sizes) < 1:
            raise ModelError(f"{self}: every size of Caduceus must be at least 1.")
        opposite = self.complement
        if self.both_strands and (
            sorted(opposite) != list(range(self.n_vocabulary))
            or any(opposite[other] != token for token, other in enumerate(opposite))
        ):
            raise ModelError(f"{self}: the complement of the complement of every token must be that token.")

    @classmethod
    def from_json(cls, mapping: Mapping[str, object], path: Path) -> Self:
        """Read the `config.json` of a published folder.

        Args:
            mapping: Its content.
            path: Where it is from, for messages.

        Raises:
            ModelError: If it describes another network.
        """
        keys = Settings(mapping, path, "Caduceus", _IGNORED)
        keys.must_be("model_type", "caduceus")
        keys.must_be("rms_norm", True)
        keys.must_be("bidirectional", True)
        keys.must_be("bidirectional_strategy", "add", None)
        keys.must_be("bidirectional_weight_tie", True)
        width = keys.number("d_model")
        inside = Settings(keys.table("ssm_cfg"), path, "Caduceus", _IGNORED_INSIDE)
        inside.must_be("conv_bias", True)
        inside.must_be("bias", False)
        n_vocabulary, multiple = keys.number("vocab_size"), keys.number("pad_vocab_size_multiple", 8)
        n_vocabulary = -(-n_vocabulary // multiple) * multiple
        both_strands, table = keys.flag("rcps", False), keys.table("complement_map")
        is_automatic = inside.word("dt_rank", "auto") == "auto"
        found = cls(
            n_vocabulary=n_vocabulary,
            width=width,
            n_layers=keys.layers("n_layer"),
            n_inner=width * inside.number("expand", 2),
            n_states=inside.number("d_state", 16),
            rank=-(-width // 16) if is_automatic else inside.number("dt_rank"),
            kernel=inside.number("d_conv", 4),
            epsilon=keys.epsilon("norm_epsilon", 1e-5),
            both_strands=both_strands,
            swaps=both_strands and keys.flag("fused_add_norm", True),
            complement=_complement(table, n_vocabulary, path) if both_strands else (),
        )
        keys.must_be("fused_add_norm", True, False)
        inside.check_all_read()
        keys.check_all_read()
        return found


def _complement(table: Mapping[str, object], n_vocabulary: int, path: Path) -> tuple[int, ...]:
    """Give the complements by token; rows that the table lacks are their own, as upstream fills it up."""
    found = {int(token): other for token, other in table.items() if is_whole(token)}
    opposite = [other for other in found.values() if type(other) is int]
    if not found or len(opposite) != len(table) or sorted(found) != list(range(len(table))):
        raise ModelError(
            f"{path}: complement_map must name a token for each token from 0 on. "
            "Give the file that the authors published."
        )
    return (*(cast(int, found[token]) for token in range(len(found))), *range(len(found), n_vocabulary))


class _Shared(nn.Module):
    """One module for both strands, under upstream's name."""

    def __init__(self, submodule: nn.Module) -> None:
        super().__init__()
        self.submodule = submodule

    def forward(self, values: Tensor) -> Tensor:
        return self.submodule(values)


class _Embedding(nn.Module):
    """The table of tokens of PS, under upstream's name."""

    def __init__(self, config: CaduceusConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(config.n_vocabulary, config.width)

    def forward(self, ids: Tensor) -> Tensor:
        return self.embedding(ids)


class _Layer(nn.Module):
    """A norm and a mixer."""

    def __init__(self, config: CaduceusConfig) -> None:
        super().__init__()
        mixer = BiMamba(
            MambaSizes(
                width=config.width,
                n_inner=config.n_inner,
                n_states=config.n_states,
                rank=config.rank,
                kernel=config.kernel,
            )
        )
        self.norm = nn.RMSNorm(config.width, config.epsilon)
        self.mixer: nn.Module = _Shared(mixer) if config.both_strands else mixer

    def forward(self, values: Tensor) -> Tensor:
        return self.mixer(self.norm(values))


class _Backbone(nn.Module):
    """From tokens to hidden states; of PS, each strand's in its own direction, the given strands first."""

    def __init__(self, config: CaduceusConfig) -> None:
        super().__init__()
        table = _Embedding(config) if config.both_strands else nn.Embedding(config.n_vocabulary, config.width)
        self.embeddings = nn.ModuleDict({"word_embeddings": table})
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.n_layers))
        self.norm_f = nn.RMSNorm(config.width, config.epsilon)
        self.swaps = config.swaps

    def forward(self, ids: Tensor) -> Tensor:
        values, residual = self.embeddings["word_embeddings"](ids), None
        for layer in self.layers:
            residual = values if residual is None else values + residual
            if self.swaps:
                # Upstream's second half is the other strand, turned around: positions and channels.
                residual = torch.cat([strand.flip(1, 2) for strand in reversed(residual.chunk(2))])
            values = layer(residual)
        return self.norm_f(values if residual is None else values + residual)


class Caduceus(nn.Module):
    """Mamba in both directions over bases; PS also over both strands.

    Modules have upstream's names. `build_tables` ties what a file may hold twice, and makes the table of complements.
    """

    complement: Tensor | None

    def __init__(self, config: CaduceusConfig) -> None:
        super().__init__()
        self.config = config
        self.caduceus = nn.ModuleDict({"backbone": _Backbone(config)})
        opposite = torch.tensor(config.complement) if config.both_strands else None
        self.register_buffer("complement", opposite, persistent=False)

    def build_tables(self) -> None:
        """Share what both directions use, and fill the table that no file holds."""
        for module in self.modules():
            if isinstance(module, BiMamba):
                module.share()
        if self.config.both_strands:
            self.complement = torch.tensor(self.config.complement, device=self._table().device)

    def forward(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, n_vocabulary) logits."""
        return self.logits(self.hidden(ids))

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) ids -> (n, n_tokens, width); of PS 2 * width, the other strand's last, channels reversed."""
        if ids.device.type == "cpu":
            return torch.cat([self._hidden(row) for row in torch.split(ids, 1)])
        return self._hidden(ids)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., width) -> (..., n_vocabulary); of PS, the sum of what both strands say."""
        if hidden.device.type == "cpu" and hidden.ndim > 2:
            # A copy of each row, since a dense layer rounds by the place of its input in memory.
            return torch.stack([self._logits(row.clone()) for row in hidden])
        return self._logits(hidden)

    def _hidden(self, ids: Tensor) -> Tensor:
        if self.complement is None:
            return self.caduceus["backbone"](ids)
        both = torch.cat([ids, self.complement[ids.flip(1)]])
        given, other = self.caduceus["backbone"](both).chunk(2)
        return torch.cat([given, other.flip(1, 2)], -1)

    def _logits(self, hidden: Tensor) -> Tensor:
        table = self._table()
        if self.complement is None:
            return functional.linear(hidden, table)
        given, other = hidden.chunk(2, -1)
        return functional.linear(given, table) + functional.linear(other.flip(-1), table[self.complement])

    def _table(self) -> Tensor:
        """Give the table of tokens, which is also the head."""
        table = cast(_Backbone, self.caduceus["backbone"]).embeddings["word_embeddings"]
        return cast(Tensor, table.embedding.weight if isinstance(table, _Embedding) else table.weight)


_PUBLISHED = {
    "ph": CaduceusConfig(both_strands=False, swaps=False, complement=()),
    "ps": CaduceusConfig(),
    "ph-1k": CaduceusConfig(both_strands=False, swaps=False, complement=(), n_layers=4),
}
"""The sizes by variant."""


def config_of(checkpoint: Checkpoint) -> CaduceusConfig:
    """Give the published sizes."""
    return _PUBLISHED[checkpoint.variant]


def network_of(config: CaduceusConfig) -> Caduceus:
    """Make the network of these sizes."""
    return Caduceus(config)


def tokenizer_of(config: CaduceusConfig, path: Path | None = None) -> Characters:
    """Give the tokens of a published folder.

    Args:
        path: Its `tokenizer.json`, or the folder, which lacks it but for PlantCaduceus; None: upstream's table.

    Raises:
        ModelError: If the network has not a row for every token, or pairs bases in another way.
    """
    found = (read_characters(path) if path else None) or HYENADNA
    a, c, g, t, n = found.base_ids
    if found.n_vocabulary > config.n_vocabulary:
        raise ModelError(
            f"{path or config}: {found.n_vocabulary} tokens, but the network knows {config.n_vocabulary}. "
            "Give the tokenizer that belongs to the weights."
        )
    if config.both_strands and [config.complement[token] for token in (a, c, g, t, n)] != [t, g, c, a, n]:
        raise ModelError(
            f"{path or config}: the tokens {a}, {c}, {g}, {t}, {n} of A, C, G, T, N are not paired as bases are. "
            "Give the tokenizer that belongs to the weights."
        )
    return found


def convert(tensors: Tensors, config: CaduceusConfig, path: Path) -> State:
    """Take the tensors of a published file; what it holds twice must be equal, and once is enough.

    A file of the network without its head, whose names lack the first word, is taken too: the head is the table of
    tokens.

    Raises:
        ModelError: If the file holds another network.
    """
    with torch.device("meta"):
        network = network_of(config)
    state: State = {}
    for name, value in network.state_dict().items():
        state[name] = _taken(tensors, _names(name, config), tuple(value.shape))
    wanted = np.array(config.complement, np.int64)
    for key in [key for key in tensors if key.endswith("complement_map") and config.both_strands]:
        if not np.array_equal(tensors.take(key, wanted.shape, np.int64), wanted):
            raise refuse(path, "in complement_map the pairs of config.json", [key])
    tensors.check_all_taken()
    return state


def _names(name: str, config: CaduceusConfig) -> list[str]:
    """Give the names under which a published file may hold a parameter."""
    names = [name]
    if "word_embeddings" in name:
        names.append("lm_head.lm_head.weight" if config.both_strands else "lm_head.weight")
    if ".in_proj." in name or ".out_proj." in name:
        names = [name.replace(".mamba_rev.", ".mamba_fwd."), name.replace(".mamba_fwd.", ".mamba_rev.")]
    if config.both_strands and not config.swaps:  # upstream wraps norms that are not fused
        names = [one.replace("norm.weight", "norm.submodule.weight") for one in names]
        names = [one.replace("norm_f.weight", "norm_f.submodule.weight") for one in names]
    return names + [one.removeprefix("caduceus.") for one in names if one.startswith("caduceus.")]


def _taken(tensors: Tensors, names: list[str], shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Take all tensors under these names, of which at least one must be there."""
    there = [name for name in names if name in tensors] or names[:1]
    first, *others = (tensors.take(name, shape) for name in there)
    for name, other in zip(there[1:], others, strict=True):
        if not np.array_equal(first, other):
            raise refuse(tensors.path, f"{name} to be equal to {there[0]}", ["other numbers"])
    return first


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load a published folder.

    Raises:
        ModelError: If it is not that of a Caduceus.
        OptionError: If an option's value is not known.
    """
    config = published_sizes(CaduceusConfig, weights)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    tokenizer = tokenizer_of(config, weights.files.get("tokenizer.json"))
    return language_model(
        checkpoint, weights, options, network, tokenizer, Reading(equivariant=config.both_strands, batch_rows=(8, 64))
    )
