"""Run `varfm ism` with `mini` on held-out CTCF peaks, and compare the strongest positions with a CTCF matrix.

    python training/ism_peaks.py --data DATA

DATA holds `ctcf_100bp.fa.gz` and `pu1_100bp.fa.gz`. Peaks: the first 100 on chr8 and chr9, in file order, each a contig
of 100 bases, so windows are padded with N where they leave it. Strongest: the five positions with the largest mean
score of the three substitutions, up or down, which is the height of a letter in the picture. Inside: in the span of the
best match of the matrix on either strand, searched in the whole peak.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from mini_data import FACTORS, PEAK, TEST_CONTIGS, Codes, Peaks, read_peaks
from mini_matrix import MATRIX, best_match, read_matrix
from numpy.typing import NDArray

from varfm.cli.main import run

N_PEAKS = 100
N_STRONGEST = 5
SCORE = FACTORS[0]


def write_fasta(path: Path, peaks: Peaks) -> None:
    """Write every peak as a contig, `peak1` and so on."""
    entries = [f">peak{number}\n{''.join('ACGTN'[code] for code in codes)}\n" for number, codes in _numbered(peaks)]
    path.write_text("".join(entries), encoding="ascii")


def _numbered(peaks: Peaks) -> list[tuple[int, Codes]]:
    return list(enumerate(peaks.codes, 1))


def mutated(fasta: Path, number: int) -> pd.DataFrame:
    """Run the command on a peak, and give its table.

    Raises:
        SystemExit: If the command fails.
    """
    table = fasta.with_name(f"peak{number}.tsv")
    command = ["ism", f"peak{number}:1-{PEAK}", "-f", str(fasta), "-m", "mini", "--threads", "1", "--quiet"]
    status = run([*command, "-o", str(table)])
    if status:
        raise SystemExit(status)
    return pd.read_csv(table, sep="\t", na_values=".")


def strongest(table: pd.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the strongest 0-based positions by the mean of the three scores, and by the most negative one."""
    by_position = table.groupby("pos")[SCORE]
    means, losses = by_position.mean().abs(), -by_position.min()
    first, second = (sizes.sort_values(ascending=False, kind="stable").index[:N_STRONGEST] for sizes in (means, losses))
    return first.to_numpy() - 1, second.to_numpy() - 1


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the peaks")
    peaks = read_peaks(parser.parse_args().data).of(0).on(TEST_CONTIGS)
    matrix = read_matrix(MATRIX)
    width = matrix.shape[1]
    inside: tuple[Counter[int], Counter[int]] = (Counter(), Counter())
    status: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder) / "peaks.fa"
        write_fasta(fasta, peaks)
        for number, codes in _numbered(peaks)[:N_PEAKS]:
            table = mutated(fasta, number)
            status.update(table["status"])
            start = best_match(matrix, codes)
            for counter, places in zip(inside, strongest(table), strict=True):
                counter[int(((places >= start) & (places < start + width)).sum())] += 1
    print(f"{N_PEAKS} held-out CTCF peaks, {sum(status.values()):,} substitutions: {dict(status)}")
    for name, counter in zip(("mean of three scores", "strongest loss"), inside, strict=True):
        counts = [counter[n] for n in range(N_STRONGEST, -1, -1)]
        print(f"by {name}: five of five inside {MATRIX.stem} in {counts[0]}, four or more in {sum(counts[:2])}")
        print(f"  peaks with 5, 4, 3, 2, 1, 0 of the five inside: {counts}")


if __name__ == "__main__":
    main()
