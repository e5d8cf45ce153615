"""The `null` model: no network, no weights; refused outside tests by the catalogue."""

from __future__ import annotations

from varfm.models import ModelOptions
from varfm.models.columns import COLUMNS
from varfm.protocols import Model
from varfm.scorers.position import PositionScorer
from varfm.weights import Checkpoint, LocalWeights

OPTIONS: frozenset[str] = frozenset()


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Give the model; it has nothing to load."""
    return Model(checkpoint.name, None, PositionScorer(COLUMNS[checkpoint.name]))
