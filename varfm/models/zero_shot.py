"""From a language model's published folder to a model: its sizes, its tokens, and which windows it reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from torch import nn

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.encoding.tokens import Tokenizer
from varfm.errors import ModelError, OptionError
from varfm.models import ModelOptions
from varfm.models.adapted_head import TrainedHead, check_belongs, read_head
from varfm.models.language import LanguageNetwork
from varfm.models.loading import origin
from varfm.models.lora import apply_adapter, read_adapter
from varfm.protocols import Model
from varfm.scorers.embedding import DISTANCES, FINETUNED, EmbeddingScorer
from varfm.scorers.likelihood import LikelihoodScorer, scorer_of
from varfm.scorers.placement import Strands

OPTIONS = frozenset({"scores", "strands", "window", "adapter"})
"""Options that language models take."""

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
    facts, trained = _adapted(checkpoint, weights, options, network)
    length = _window(checkpoint, options, reading, trained)
    strands = "forward" if reading.equivariant else options.strands or "both"
    index = checkpoint.index * length // checkpoint.window
    wrapped = LanguageNetwork(network, tokenizer, length, reading.block).eval()
    scorer: EmbeddingScorer | LikelihoodScorer
    if options.embeddings:
        scorer = EmbeddingScorer(length, index, strands, wrapped.embedding_width())
        names = "embeddings of ref and alt"
    else:
        scorer = _likelihood(checkpoint, options, length, strands, trained)
        names = ",".join(column.name for column in scorer.columns)
    details = (
        ("window", str(length)),
        ("index", str(index)),
        ("method", scorer.method),
        ("strands", "both in one pass" if reading.equivariant else strands),
        ("scores", names),
        *facts,
    )
    return Model(checkpoint.name, wrapped, scorer, origin(checkpoint, weights, details), reading.batch_rows)


def _adapted(
    checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions, network: nn.Module
) -> tuple[tuple[tuple[str, str], ...], TrainedHead | None]:
    """Apply the adapter that the user gives; what it says for the header, and its head where it has one."""
    folder = options.adapter
    if folder is None:
        return (), None
    adapter = read_adapter(folder)
    trained = read_head(folder)
    if trained is not None:
        check_belongs(trained, folder, checkpoint.name, weights.sha256, adapter.sha256)
    apply_adapter(adapter, network, checkpoint)
    of_head = (("adapter_head", f"sha256:{trained.sha256}"),) if trained else ()
    return (*adapter.facts, *of_head), trained


def _likelihood(
    checkpoint: Checkpoint, options: ModelOptions, length: int, strands: Strands, trained: TrainedHead | None
) -> LikelihoodScorer:
    index = checkpoint.index * length // checkpoint.window
    head = trained.head if trained else None
    asked = _asked(checkpoint, options, {FINETUNED} if head else set())
    infills = options.strands or "both" if "INFILL" in asked else None
    embeds = bool(asked & set(DISTANCES))
    return replace(scorer_of(checkpoint.likelihood, length, index, strands, embeds, infills), head=head)


def _window(checkpoint: Checkpoint, options: ModelOptions, reading: Reading, trained: TrainedHead | None) -> int:
    length = options.window
    if length is None:  # a head goes by the window that it was trained with
        length = trained.window if trained else checkpoint.window
    too_long = reading.longest is not None and length > reading.longest
    if length < 2 or too_long or length % reading.step:
        upper = f" up to {reading.longest:,}" if reading.longest else ""
        multiple = f", a multiple of {reading.step}" if reading.step > 1 else ""
        raise OptionError(f"--window {length}: {checkpoint.name} reads windows{upper} bases{multiple}.")
    return length


def _asked(checkpoint: Checkpoint, options: ModelOptions, others: set[str]) -> set[str]:
    """Give the names under `--scores`, upper case."""
    asked = {text.upper() for text in options.scores}
    every = scorer_of(checkpoint.likelihood, checkpoint.window, checkpoint.index, embeds=True, infills="both")
    unknown = asked - others - {column.name for column in every.columns}
    if unknown:
        beside = DISTANCES if every.infills is None else ("INFILL", *DISTANCES)
        raise OptionError(
            f"--scores {', '.join(sorted(unknown))}: {checkpoint.name} has its likelihood score and, beside it, "
            f"{', '.join(beside[:-1])} and {beside[-1]}. See: varfm models info {checkpoint.name}"
        )
    return {"INFILL" if name.startswith("INFILL") else name for name in asked}
