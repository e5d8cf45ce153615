"""The packaged model: CTCF and PU.1 binding within 99 bases, trained by this project.

Paper: none; `data/mini_card.md` says what it was trained on, how well it does and what it must not be used for.
Source: `training/train_mini.py` of this repository; licence Apache-2.0.
N is zeros in all four channels, base order A, C, G, T. Nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from varfm.encoding.onehot import onehot
from varfm.models import ON_ALLELES, ModelOptions, choose_tracks
from varfm.models.columns import COLUMNS
from varfm.models.loading import filled, origin
from varfm.protocols import Model, Row
from varfm.readers import read_tensors
from varfm.scorers.placement import Centred
from varfm.scorers.tracks import TrackScore, TrackScorer
from varfm.weights import Checkpoint, LocalWeights
from varfm.windows import Haplotype

OPTIONS = ON_ALLELES

FACTORS = ("CTCF", "PU1")
"""What the two outputs are, in order."""

LENGTH = 99
INDEX = 49
N_MOTIFS, N_PAIRS = 96, 64


class MiniNet(nn.Module):
    """Convolutional network that says how likely CTCF and PU.1 bind in a window of 99 bases."""

    length = LENGTH

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv1d(4, N_MOTIFS, 19),  # (n, 96, 81); as wide as the core motif of CTCF
            nn.ReLU(),
            nn.MaxPool1d(3),  # (n, 96, 27)
            nn.Conv1d(N_MOTIFS, N_PAIRS, 7),  # (n, 64, 21); sees 37 bases: a motif and its neighbour
            nn.ReLU(),
            nn.MaxPool1d(3),  # (n, 64, 7)
        )
        self.head = nn.Sequential(
            nn.Flatten(),  # position is kept: binding sites lie near the middle of peaks
            nn.Dropout(0.2),
            nn.Linear(N_PAIRS * 7, 64),
            nn.ReLU(),
            nn.Linear(64, len(FACTORS)),
        )

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Give the window itself, one network input.

        Raises:
            ValueError: If the sequence does not have 99 bases.
        """
        if len(sequence) != LENGTH:
            raise ValueError(f"mini reads {LENGTH} bases, {haplotype} has {len(sequence)}")
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        """Give (n, 2) logits in the order of `FACTORS` for (n, 99) uint8 base codes 0-4."""
        kernel = cast(Tensor, self.trunk[0].weight)
        return self.head(self.trunk(onehot(batch, dtype=kernel.dtype)))

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """Give the (2,) logits of the only row; they have no orientation to turn back."""
        return outputs[0]


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load the packaged file, or another one of the same shapes.

    Raises:
        ModelError: If the file is not a `MiniNet`.
        OptionError: If `--tracks` names an output that is not there.
    """
    with torch.device("meta"):
        network = MiniNet()
    chosen = choose_tracks(checkpoint.name, FACTORS, options.tracks) or tuple(range(len(FACTORS)))
    scores = tuple(TrackScore(COLUMNS[checkpoint.name][index], (index,), FACTORS[index]) for index in chosen)
    strands, indel_mode = options.strands or "both", options.indel_mode or "anchor"
    scorer = TrackScorer(Centred(LENGTH, INDEX, strands, indel_mode), scores)
    details = (("window", str(LENGTH)), ("index", str(INDEX)), ("indels", indel_mode), ("strands", strands))
    network = filled(network, read_tensors(weights.path), weights.path)
    return Model(checkpoint.name, network, scorer, origin(checkpoint, weights, details), batch_rows=(256, 4096))
