"""The models: `load(name)` is the only lookup."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from varfm.digits import is_whole
from varfm.errors import OptionError
from varfm.models.columns import COLUMNS, HEADLINES, MEASURES
from varfm.protocols import Column, Model

if TYPE_CHECKING:
    from varfm.scorers.placement import IndelMode, Strands


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What a user may choose about a model.

    Attributes:
        indel_mode: `anchor` or `compensate`; None: the model's default.
        strands: `both` or `forward`; None: the model's default.
        tracks: Names or indices of tracks that INFO and tables are to hold; empty: the model's default.
        scores: Names of the scores to report; empty: the model's default.
        bins: Output bins that count, e.g. `446-448`, from 0; None: all.
        shifts: Bases by which the allele is moved right in the window, one reading each; None: (0,).
        on_genes: Place the windows of models that can do both on genes, not on alleles.
        window: Bases that a language model reads; None: the model's default.
        max_distance: Bases between allele and TSS; None: the model's default.
        compat: Name of an upstream's way of placing indels; None: the right way.
        adapter: Folder of a LoRA adapter for a language model; None: the model as it was published.
        embeddings: Give the embeddings of a language model themselves, in place of scores.
        weights: Local file or folder to take instead of the catalogue's.
        model_config: JSON file with the sizes of a network that is not the published one.
        require_published: Refuse weights that are not the published file.
        offline: Open no socket.
        download: Fetch missing weights whatever their size.
    """

    indel_mode: IndelMode | None = None
    strands: Strands | None = None
    tracks: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    bins: str | None = None
    shifts: tuple[int, ...] | None = None
    on_genes: bool = False
    window: int | None = None
    max_distance: int | None = None
    compat: str | None = None
    adapter: Path | None = None
    embeddings: bool = False
    weights: Path | None = None
    model_config: Path | None = None
    require_published: bool = False
    offline: bool = False
    download: bool = False


ON_ALLELES = frozenset({"indel_mode", "strands", "tracks"})
"""Options of models whose windows lie on alleles."""
OF_TRACKS = ON_ALLELES | {"scores", "model_config"}
"""Options of models with many tracks."""
OF_BINS = OF_TRACKS | {"bins", "shifts"}
"""Options of models with many tracks in bins."""
CHOICES = OF_BINS | {"max_distance", "compat", "window", "adapter"}
"""Fields of `ModelOptions` that not every model has. The module of a model names those it takes in `OPTIONS`."""


def load(name: str, options: ModelOptions | None = None) -> Model:
    """Find, check and load a model.

    Args:
        name: Catalogue name.
        options: What the user chose; None: all defaults.

    Raises:
        ModelError: If the name is unknown, or the weights are missing, damaged or do not fit.
        OptionError: If the model does not know an option, or its value.
    """
    from varfm import weights
    from varfm.models import catalog
    from varfm.scorers.embedding import EmbeddingScorer

    options = options or ModelOptions()
    checkpoint = catalog.get(name)
    module = importlib.import_module(f"varfm.models.{checkpoint.module}")
    foreign = CHOICES - module.OPTIONS | (set() if checkpoint.adaptable else {"adapter"})
    without_options(checkpoint.name, **{choice: getattr(options, choice) for choice in sorted(foreign)})
    if options.embeddings and not checkpoint.likelihood:
        raise OptionError(f"{checkpoint.name} is no language model and has no embeddings. See varfm models list.")
    local = weights.locate(
        checkpoint,
        override=options.weights,
        offline=options.offline,
        allow_download=options.download,
        require_published=options.require_published,
    )
    model: Model = module.build(checkpoint, local, options)
    if options.embeddings and not isinstance(model.scorer, EmbeddingScorer):
        raise OptionError(f"{checkpoint.name} has no hidden states that varfm gives as embeddings.")
    return model


def describe(name: str) -> tuple[Column, ...]:
    """Give the scores of a model in words, without loading it.

    Raises:
        ModelError: If the name is unknown.
    """
    from varfm.models import catalog

    checkpoint = catalog.get(name)
    name = checkpoint.name
    if checkpoint.likelihood:
        from varfm.scorers.likelihood import scorer_of

        return scorer_of(
            checkpoint.likelihood, checkpoint.window, checkpoint.index, embeds=True, infills="both"
        ).columns
    if name in MEASURES:
        return tuple(Column(m.name, m.description, m.unit, m.formula, m.signed) for m in MEASURES[name])
    return COLUMNS[name]


def without_options(name: str, **given: object) -> None:
    """Refuse options that a model does not have.

    Raises:
        OptionError: If one of them was given.
    """
    for option, value in given.items():
        if value is not None and value != ():
            raise OptionError(
                f"--{option.replace('_', '-')} does not apply to {name}; leave it out, or run {name} without it."
            )


def tracks_of(name: str) -> tuple[Column, ...]:
    """Give the outputs of a model's network in order, without loading it.

    Raises:
        ModelError: If the name is unknown.
    """
    return tuple(column for column in describe(name) if column.name not in HEADLINES)


def choose_tracks(name: str, known: Sequence[str], asked: Sequence[str]) -> tuple[int, ...]:
    """Turn what a user wrote under `--tracks` into output indices, in the order of the outputs.

    Args:
        name: The model, for messages.
        known: Track names in order of the outputs.
        asked: 0-based indices, exact names, or regular expressions searched in names, ignoring case.

    Raises:
        OptionError: If one of them matches no track.
    """
    import re

    chosen: set[int] = set()
    for text in asked:
        if is_whole(text) and int(text) < len(known):
            chosen.add(int(text))
            continue
        if text in known:
            chosen.add(known.index(text))
            continue
        if not text.strip():
            raise OptionError("--tracks is empty: give an index, a name or a regular expression.")
        try:
            matches = {index for index, track in enumerate(known) if re.search(text, track, re.IGNORECASE)}
        except re.error as error:
            raise OptionError(f"--tracks {text}: not an index, a name or a regular expression ({error}).") from None
        if not matches:
            raise OptionError(f"--tracks {text}: {name} has no such track. See: varfm tracks {name}")
        chosen |= matches
    return tuple(sorted(chosen))
