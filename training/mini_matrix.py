"""Find the best match of a published matrix in a sequence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mini_data import Codes
from numpy.typing import NDArray

MATRIX = Path(__file__).resolve().parent / "matrices" / "ctcf_MA0139.1.jaspar"
PSEUDOCOUNT = 1.0  # per column, spread evenly over the bases


def read_matrix(path: Path) -> NDArray[np.float64]:
    """Read counts in JASPAR's format -> (4, width) log2 odds of A, C, G, T against a quarter each."""
    rows = [line[line.index("[") + 1 : line.index("]")].split() for line in path.read_text("ascii").splitlines()[1:5]]
    counts = np.array(rows, dtype=np.float64) + PSEUDOCOUNT / 4
    odds: NDArray[np.float64] = np.log2(counts / counts.sum(axis=0) / 0.25)
    return odds


def best_match(matrix: NDArray[np.float64], sequence: Codes) -> int:
    """Give the 0-based start, on the given strand, of the best match on either strand; the leftmost if several are."""
    width = matrix.shape[1]
    words = np.lib.stride_tricks.sliding_window_view(sequence, width)
    both = [m[words, np.arange(width)].sum(axis=1) for m in (matrix, matrix[::-1, ::-1])]
    return int(np.maximum(*both).argmax())
