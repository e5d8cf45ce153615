"""MPRA-DragoNN ConvModel: reporter activity of 145 bases in K562 and HepG2.

Paper: Movva et al., PLoS ONE 14 (2019) e0218073. Code and weights: github.com/kundajelab/MPRA-DragoNN (MIT).
Does not differ from upstream; N is all zeros.
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
from varfm.models import ON_ALLELES, ModelOptions, choose_tracks
from varfm.models.columns import COLUMNS, MPRA_TRACKS
from varfm.models.loading import filled, keras_layers, origin, refuse
from varfm.protocols import Model, Row
from varfm.readers import read_tensors
from varfm.scorers.placement import Centred
from varfm.scorers.tracks import TrackScore, TrackScorer
from varfm.weights import Checkpoint, LocalWeights
from varfm.windows import Haplotype

OPTIONS = ON_ALLELES

LENGTH = 145
INDEX = 72
HEPG2_POOLED = (8, 11)


class MpraDragonn(nn.Module):
    """Three unpadded convolutions, each followed by ReLU and then batch norm, and one dense layer."""

    length = LENGTH

    def __init__(self, n_filters: int = 120, width: int = 5, n_outputs: int = len(MPRA_TRACKS)) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv1d(n, n_filters, width) for n in (4, n_filters, n_filters))
        self.norms = nn.ModuleList(nn.BatchNorm1d(n_filters, eps=1e-3) for _ in range(3))
        self.dense = nn.Linear((LENGTH - 3 * (width - 1)) * n_filters, n_outputs)

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Read the sequence as it is."""
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        """(n, 145) base codes -> (n, 12) z-scored log2 RNA/DNA."""
        x = onehot(batch, dtype=self.dense.weight.dtype)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = norm(functional.relu(conv(x)))
        return self.dense(x.transpose(1, 2).flatten(1))  # position-major, as Keras flattens

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """Activity has no orientation to turn back."""
        return outputs[0]


def convert(tensors: Mapping[str, NDArray[np.generic]], path: Path) -> dict[str, NDArray[np.generic]]:
    """Rename and transpose the datasets of the Keras file.

    Raises:
        ModelError: If the file holds other layers.
    """
    convolutions, norms = keras_layers(tensors, "conv1d"), keras_layers(tensors, "batch_normalization")
    dense = keras_layers(tensors, "dense")
    if (len(convolutions), len(norms), len(dense), len(tensors)) != (3, 3, 1, 20):
        raise refuse(path, "the 3 convolutions, 3 batch norms and 1 dense layer of MPRA-DragoNN", sorted(tensors))
    state: dict[str, NDArray[np.generic]] = {"dense.weight": dense[0]["kernel"].T, "dense.bias": dense[0]["bias"]}
    for number, (conv, norm) in enumerate(zip(convolutions, norms, strict=True)):
        state[f"convs.{number}.weight"] = conv["kernel"].transpose(2, 1, 0)
        state[f"convs.{number}.bias"] = conv["bias"]
        for ours, theirs in (
            ("weight", "gamma"),
            ("bias", "beta"),
            ("running_mean", "moving_mean"),
            ("running_var", "moving_variance"),
        ):
            state[f"norms.{number}.{ours}"] = norm[theirs]
        state[f"norms.{number}.num_batches_tracked"] = np.zeros((), np.int64)  # Keras counts none
    return state


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load the published Keras file.

    Raises:
        ModelError: If the file is not an MPRA-DragoNN.
        OptionError: If `--tracks` names an output that is not there.
    """
    state = convert(read_tensors(weights.path), weights.path)
    n_filters, _, width = state["convs.0.weight"].shape
    with torch.device("meta"):
        network = MpraDragonn(n_filters, width)
    strands, indel_mode = options.strands or "both", options.indel_mode or "anchor"
    scorer = TrackScorer(Centred(LENGTH, INDEX, strands, indel_mode), _scores(checkpoint.name, options))
    details = (("window", str(LENGTH)), ("index", str(INDEX)), ("indels", indel_mode), ("strands", strands))
    network = filled(network, state, weights.path)
    return Model(checkpoint.name, network, scorer, origin(checkpoint, weights, details), (64, 1024), incremental=True)


def _scores(name: str, options: ModelOptions) -> tuple[TrackScore, ...]:
    chosen = choose_tracks(name, MPRA_TRACKS, options.tracks)
    headline, *outputs = COLUMNS[name]
    kept = [index for index in range(len(outputs)) if index in chosen or not chosen]
    return (
        TrackScore(headline, HEPG2_POOLED, "HEPG2"),
        *(TrackScore(outputs[index], (index,), f"T{index}" if index in chosen else None) for index in kept),
    )
