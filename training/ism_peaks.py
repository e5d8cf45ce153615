"""Run `varfm ism` with `mini` on held-out CTCF peaks, and compare the strongest positions with a CTCF matrix.

    python training/ism_peaks.py --data DATA [--peaks N]

DATA holds `ctcf_100bp.fa.gz` and `pu1_100bp.fa.gz`. Peaks: the first 100 (or N) on chr8 and chr9, in file order, each
a contig of 100 bases. Windows: one, which holds the first 99 bases (`--one-window`); and one for each position, padded
with N where it leaves the contig. Strongest: the five positions with the largest
mean score of the three substitutions, up or down, which is the height of a letter in the picture; and, for comparison,
those with the most negative score. Inside: in the span of the best match of the matrix on either strand, in the whole
peak.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from mini_data import FACTORS, PEAK, TEST_CONTIGS, Peaks, read_peaks
from mini_matrix import MATRIX, best_match, read_matrix
from numpy.typing import NDArray

from varfm.cli.main import run

N_PEAKS = 100
N_STRONGEST = 5
SCORE = FACTORS[0]
RULES = ("height of the letter", "most negative score")
WINDOWS = {"one window": (PEAK - 1, ("--one-window",)), "a window for each position": (PEAK, ())}
"""Positions that are mutated, and options."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What became of the substitutions, and by windows and rule, how many of the strongest positions lie inside."""

    status: dict[str, Counter[str]]
    inside: dict[tuple[str, str], Counter[int]]


def write_fasta(path: Path, peaks: Peaks) -> None:
    """Write every peak as a contig, `peak1` and so on."""
    entries = [f">peak{n}\n{''.join('ACGTN'[code] for code in codes)}\n" for n, codes in enumerate(peaks.codes, 1)]
    path.write_text("".join(entries), encoding="ascii")


def mutated(fasta: Path, number: int, n_positions: int, options: Sequence[str]) -> pd.DataFrame:
    """Run the command on a peak, and give its table.

    Raises:
        SystemExit: If the command fails.
    """
    table = fasta.with_name(f"peak{number}.tsv")
    command = ["ism", f"peak{number}:1-{n_positions}", "-f", str(fasta), "-m", "mini", "--threads", "1", "--quiet"]
    status = run([*command, *options, "-o", str(table), "--force"])
    if status:
        raise SystemExit(status)
    return pd.read_csv(table, sep="\t", na_values=".")


def strongest(table: pd.DataFrame) -> dict[str, NDArray[np.int64]]:
    """Give the strongest 0-based positions of a table by each of `RULES`, the strongest first, then from the left."""
    by_position = table.groupby("pos")[SCORE]
    sizes = dict(zip(RULES, (by_position.mean().abs(), -by_position.min()), strict=True))
    return {
        rule: values.sort_values(ascending=False, kind="stable").index[:N_STRONGEST].to_numpy() - 1
        for rule, values in sizes.items()
    }


def measure(folder: Path, n_peaks: int = N_PEAKS) -> Figures:
    """Mutate the first held-out CTCF peaks, and count which of the strongest positions lie in the best match."""
    peaks = read_peaks(folder).of(0).on(TEST_CONTIGS)
    peaks = peaks.select(np.arange(len(peaks.codes)) < n_peaks)
    matrix = read_matrix(MATRIX)
    figures = Figures(
        {way: Counter() for way in WINDOWS}, {(way, rule): Counter() for way in WINDOWS for rule in RULES}
    )
    with tempfile.TemporaryDirectory() as name:
        fasta = Path(name) / "peaks.fa"
        write_fasta(fasta, peaks)
        for number, codes in enumerate(peaks.codes, 1):
            start = best_match(matrix, codes)
            for way, (n_positions, options) in WINDOWS.items():
                table = mutated(fasta, number, n_positions, options)
                figures.status[way].update(table["status"])
                for rule, places in strongest(table).items():
                    n_inside = int(((places >= start) & (places < start + matrix.shape[1])).sum())
                    figures.inside[way, rule][n_inside] += 1
    return figures


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the peaks")
    parser.add_argument("--peaks", type=int, default=N_PEAKS, help="how many of the peaks; default: 100")
    options = parser.parse_args()
    figures = measure(options.data, options.peaks)
    for way, counter in figures.status.items():
        print(f"{sum(counter.values()):,} substitutions of {options.peaks} held-out CTCF peaks, {way}: {dict(counter)}")
    print(f"how many of the {N_STRONGEST} strongest positions lie inside the best match of {MATRIX.stem}, in peaks:")
    for (way, rule), counter in figures.inside.items():
        counts = [counter[n] for n in range(N_STRONGEST, -1, -1)]
        print(f"{way}, by {rule}: all in {counts[0]}, four or more in {sum(counts[:2])}; 5, 4, 3, 2, 1, 0: {counts}")


if __name__ == "__main__":
    main()
