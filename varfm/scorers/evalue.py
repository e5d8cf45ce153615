"""DeepSEA's e-value: the share of the SNPs of 1000 Genomes with a larger effect on the same chromatin feature.

The authors' package keeps the background beside `deepsea.cpu`, in `resources/ecdfs`: for feature i, from 0, the files
`ecdf_difflogdiff.rescaled.pkl_NN.npy` with NN = 2i + 1 (levels) and 2i + 2 (effect sizes), at least two digits. Only
these arrays are read, never the pickle that names them.

Source: DeepSEA v0.94 (deepsea.princeton.edu), 3_h5ToOutput.py and resources/ecdfs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varfm.errors import ModelError
from varfm.scorers.measures import DIFF, LOGODDS, Measure

if TYPE_CHECKING:
    from torch import Tensor

FOLDER = Path("resources", "ecdfs")
STEM = "ecdf_difflogdiff.rescaled.pkl"
SMALLEST = 1e-6
"""Stands for an effect larger than all of the background."""

EVALUE = Measure(
    "EVALUE",
    "Share of the SNPs of 1000 Genomes with a larger effect, DeepSEA's e-value.",
    "proportion",
    "1 - ECDF(|DIFF x LOGODDS|), the track's background in resources/ecdfs beside the weights; 0 is written 1e-6",
    None,
    signed=False,
    needs=(DIFF, LOGODDS),
    neutral=1.0,
)
"""As it is described; only `evalue` gives one that can be computed."""


class Background(NamedTuple):
    """One empirical distribution function per track: steps at `sizes`, from each on with the value in `levels`.

    Attributes:
        sizes: (n_tracks, n_steps), ascending; the first is -inf.
        levels: (n_tracks, n_steps), ascending from 0 to 1; or (1, n_steps) where all tracks have the same.
    """

    sizes: NDArray[np.float64]
    levels: NDArray[np.float64]

    def evalues(self, effects: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn |difference x log odds change|, (n_tracks,), into e-values."""
        steps = [row.searchsorted(effect, "right") - 1 for row, effect in zip(self.sizes, effects, strict=True)]
        levels = np.broadcast_to(self.levels, self.sizes.shape)
        found = 1 - levels[np.arange(len(steps)), steps]
        return np.where(np.isnan(effects), np.nan, np.where(found == 0, SMALLEST, found))


def read_background(weights: Path, n_tracks: int) -> Background:
    """Read the background that lies beside a weight file.

    Args:
        weights: `deepsea.cpu` in the authors' unpacked package.
        n_tracks: Features of the network.

    Raises:
        ModelError: If there is none, or if a file of it is missing or damaged.
    """
    folder = weights.parent / FOLDER
    if not _file(folder, 1).is_file():
        raise ModelError(
            f"--scores EVALUE: {_file(folder, 1)} is not there. E-values need {FOLDER} of the authors' package "
            "(deepsea.v0.94b.tar.gz) beside deepsea.cpu. Give --weights DeepSEA-v0.94b/deepsea.cpu, or leave it out."
        )
    sizes, levels = [], []
    for track in range(n_tracks):
        levels.append(_table(_file(folder, 2 * track + 1), 0))
        sizes.append(_table(_file(folder, 2 * track + 2), -np.inf))
        if len(sizes[-1]) != len(levels[-1]):
            raise _damaged(_file(folder, 2 * track + 2), f"{len(sizes[-1])} values, its levels are {len(levels[-1])}")
    if all(np.array_equal(row, levels[0]) for row in levels):  # as in the package, where it saves half of 232 MB
        levels = levels[:1]
    n_steps = max(map(len, sizes))
    return Background(_stacked(sizes, n_steps, np.inf), _stacked(levels, n_steps, 1.0))


def evalue(background: Background) -> Measure:
    """Make the score that is computed from a background."""
    import torch

    def combine(values: Sequence[Tensor]) -> Tensor:
        difference, log_odds = values
        effects: NDArray[np.float64] = (difference * log_odds).abs().cpu().numpy()
        return torch.from_numpy(background.evalues(effects)).to(difference.device)

    return replace(EVALUE, combine=combine)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{STEM}_{number:02d}.npy"


def _table(path: Path, first: float) -> NDArray[np.float64]:
    try:
        table: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, f"not readable ({str(error).partition(chr(10))[0]})") from None
    if table.ndim != 1 or table.dtype.kind != "f" or not len(table):
        raise _damaged(path, f"an array of type {table.dtype} and shape {table.shape}")
    if table[0] != first or not (table[1:] >= table[:-1]).all():
        raise _damaged(path, f"values that do not rise from {first}")
    return table.astype(np.float64)


def _damaged(path: Path, found: str) -> ModelError:
    return ModelError(f"{path}: not a table of DeepSEA's background: {found}. Unpack the authors' package again.")


def _stacked(rows: Sequence[NDArray[np.float64]], n_steps: int, filler: float) -> NDArray[np.float64]:
    stacked = np.full((len(rows), n_steps), filler, np.float64)
    for row, values in zip(stacked, rows, strict=True):
        row[: len(values)] = values
    return stacked
