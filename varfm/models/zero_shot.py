"""From a language model's published folder to a model: its sizes, its tokens, and which windows it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from torch import nn

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.encoding.tokens import Tokenizer
from varfm.errors import ModelError, OptionError
from varfm.models import ModelOptions
from varfm.models.language import LanguageNetwork
from varfm.models.loading import origin
from varfm.protocols import Model
from varfm.scorers.likelihood import scorer_of

OPTIONS = frozenset({"scores", "strands", "window"})
"""Options that language models take."""

DISTANCES = ("L2", "COSINE")
CONFIG = "config.json"
_MAX_CONFIG = 10_000_000

Sizes = TypeVar("Sizes", covariant=True)


class Published(Protocol[Sizes]):
    """A class of sizes that reads a published `config.json`."""

    def from_json(self, mapping: Mapping[str, object], path: Path) -> Sizes:
        """Read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a family's windows are read.

    Attributes:
        longest: Bases that a window may have; None for any number.
        step: Windows have a multiple of this many bases.
        block: Tokens that hold the same base.
        equivariant: True if the network itself reads both strands alike.
        batch_rows: Rows per forward pass on the CPU and on a GPU.
    """

    longest: int | None = None
    step: int = 1
    block: int = 1
    equivariant: bool = False
    batch_rows: tuple[int, int] = (8, 64)


def published_sizes(kind: Published[Sizes], weights: LocalWeights) -> Sizes:
    """Read the sizes of a network from the `config.json` of its folder.

    Raises:
        ModelError: If it is not there, or describes another network.
    """
    path = weights.files.get(CONFIG) or weights.config
    if path is None:
        raise ModelError(f"{weights.path}: no {CONFIG} beside it. Give the whole published folder with --weights.")
    try:
        with open(path, "rb") as file:
            found = json.loads(file.read(_MAX_CONFIG))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({str(error)[:200]}). Fetch it again.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: expected a JSON object. Fetch it again.")
    return kind.from_json(found, path)


def language_model(
    checkpoint: Checkpoint,
    weights: LocalWeights,
    options: ModelOptions,
    network: nn.Module,
    tokenizer: Tokenizer,
    reading: Reading,
) -> Model:
    """Put a loaded network, its tokenizer and the user's choices together.

    Raises:
        OptionError: If an option's value is not known.
    """
    length = _window(checkpoint, options, reading)
    strands = "forward" if reading.equivariant else options.strands or "both"
    index = checkpoint.index * length // checkpoint.window
    scorer = scorer_of(checkpoint.likelihood, length, index, strands, _embeds(checkpoint, options))
    details = (
        ("window", str(length)),
        ("index", str(scorer.index)),
        ("method", scorer.method),
        ("strands", "both in one pass" if reading.equivariant else strands),
        ("scores", ",".join(column.name for column in scorer.columns)),
    )
    wrapped = LanguageNetwork(network, tokenizer, length, reading.block).eval()
    return Model(checkpoint.name, wrapped, scorer, origin(checkpoint, weights, details), reading.batch_rows)


def _window(checkpoint: Checkpoint, options: ModelOptions, reading: Reading) -> int:
    length = checkpoint.window if options.window is None else options.window
    too_long = reading.longest is not None and length > reading.longest
    if length < 2 or too_long or length % reading.step:
        upper = f" up to {reading.longest:,}" if reading.longest else ""
        multiple = f", a multiple of {reading.step}" if reading.step > 1 else ""
        raise OptionError(f"--window {length}: {checkpoint.name} reads windows{upper} bases{multiple}.")
    return length


def _embeds(checkpoint: Checkpoint, options: ModelOptions) -> bool:
    asked = {text.upper() for text in options.scores}
    every = scorer_of(checkpoint.likelihood, checkpoint.window, checkpoint.index, embeds=True)
    unknown = asked - {column.name for column in every.columns}
    if unknown:
        raise OptionError(
            f"--scores {', '.join(sorted(unknown))}: {checkpoint.name} has its likelihood score and, beside it, "
            f"{' and '.join(DISTANCES)}. See: varfm models info {checkpoint.name}"
        )
    return bool(asked & set(DISTANCES))
