"""The `null` model: no network, no weights; refused outside tests by the catalogue."""

from __future__ import annotations

from varfm.models import ModelOptions, without_options
from varfm.models.columns import COLUMNS
from varfm.protocols import Model
from varfm.scorers.position import PositionScorer
from varfm.weights import Checkpoint, LocalWeights


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Give the model; it has nothing to load.

    Raises:
        OptionError: If an option is given that a model without sequence does not have.
    """
    without_options(checkpoint.name, indel_mode=options.indel_mode, strands=options.strands, tracks=options.tracks)
    return Model(checkpoint.name, None, PositionScorer(COLUMNS[checkpoint.name]))
