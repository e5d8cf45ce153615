"""Xpresso: median mRNA level from the sequence around a promoter.

Paper: Agarwal and Shendure, Cell Reports 31 (2020) 107663. Code and weights: github.com/vagarwal87/Xpresso (MIT).
Differs from upstream: variant scores, which upstream does not define, are alt minus ref of the prediction with the
half-life features held at zero, their mean, as upstream's own genome-wide predictions hold them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from varfm.encoding.onehot import onehot
from varfm.models import ModelOptions
from varfm.models.columns import COLUMNS
from varfm.models.loading import filled, keras_layers, origin, refuse
from varfm.protocols import Model, Row
from varfm.readers import read_tensors
from varfm.scorers.expression import TssScorer
from varfm.scorers.placement import OnGenes
from varfm.weights import Checkpoint, LocalWeights
from varfm.windows import Haplotype

OPTIONS: frozenset[str] = frozenset()

LENGTH = 10_500
TSS_INDEX = 7_000


class Xpresso(nn.Module):
    """Two convolutions and three dense layers over 10,500 bases read on the gene's strand; N is all zeros.

    Args:
        n_features: Half-life features of the dense layers' input; they are held at zero.
    """

    length = LENGTH

    def __init__(self, n_features: int = 6) -> None:
        super().__init__()
        self.n_features = n_features
        self.conv1 = nn.Conv1d(4, 128, 6)
        self.conv2 = nn.Conv1d(128, 32, 9, padding=4)
        self.dense1 = nn.Linear(35 * 32 + n_features, 64)
        self.dense2 = nn.Linear(64, 2)
        self.dense3 = nn.Linear(2, 1)

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Read the sequence as it is."""
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        """(n, 10,500) base codes -> (n, 1) z-scored log10 mRNA level."""
        x = functional.pad(
            onehot(batch, dtype=self.conv1.weight.dtype), (2, 3)
        )  # `same` for an even width puts the odd base on the right
        x = functional.max_pool1d(functional.relu(self.conv1(x)), 30)
        x = functional.max_pool1d(functional.relu(self.conv2(x)), 10)
        x = x.transpose(1, 2).flatten(1)  # position-major, as Keras flattens
        x = functional.pad(x, (0, self.n_features))
        x = functional.relu(self.dense1(x))
        return self.dense3(functional.relu(self.dense2(x)))

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """The strand is the gene's own, so nothing is turned back."""
        return outputs[0]


def convert(tensors: Mapping[str, NDArray[np.generic]], path: Path) -> dict[str, NDArray[np.generic]]:
    """Rename and transpose the datasets of the Keras file.

    Raises:
        ModelError: If the file holds other layers.
    """
    convolutions, dense = keras_layers(tensors, "conv1d"), keras_layers(tensors, "dense")
    if (len(convolutions), len(dense), len(tensors)) != (2, 3, 10):
        raise refuse(path, "the 2 convolutions and 3 dense layers of Xpresso", sorted(tensors))
    state = {}
    for number, layer in enumerate(convolutions, 1):
        state[f"conv{number}.weight"], state[f"conv{number}.bias"] = layer["kernel"].transpose(2, 1, 0), layer["bias"]
    for number, layer in enumerate(dense, 1):
        state[f"dense{number}.weight"], state[f"dense{number}.bias"] = layer["kernel"].T, layer["bias"]
    return state


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load the published Keras file; the number of half-life features, 6 or 8, is read from it.

    Raises:
        ModelError: If the file is not an Xpresso.
    """
    state = convert(read_tensors(weights.path), weights.path)
    n_features = state["dense1.weight"].shape[-1] - 35 * 32
    if n_features not in (6, 8):
        raise refuse(weights.path, "6 or 8 half-life features", [f"{n_features}"])
    with torch.device("meta"):
        network = Xpresso(n_features)
    scorer = TssScorer(OnGenes(LENGTH, TSS_INDEX), COLUMNS[checkpoint.name][0], "DELTA_Z")
    details = (("window", f"{LENGTH}, TSS at {TSS_INDEX}"), ("indels", "TSS-fixed"), ("strands", "of the gene"))
    network = filled(network, state, weights.path)
    return Model(checkpoint.name, network, scorer, origin(checkpoint, weights, details), (8, 256), incremental=True)
