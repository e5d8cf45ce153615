"""Hold MPRA-DragoNN, run through the command, against measured effects of 24,873 SNVs (Kircher et al. 2019, GSE126550).

    python benchmarks/satmut.py --data ../shared/data

Prints Pearson r of score and measured log2 effect per experiment, SNVs with at least 10 barcodes, beside a baseline:
the change of GC content alone. Positions outside an element are N.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

EXPECTED = {
    "F9": 0.627, "LDLR": 0.417, "LDLR.2": 0.422, "TERT-GBM": 0.419, "TERT-GSc": 0.394, "TERT-GAa": 0.380,
    "TERT-HEK": 0.369, "SORT1.2": 0.289, "SORT1": 0.287, "IRF4": 0.268, "HBB": 0.252, "RET": 0.251, "PKLR-24h": 0.223,
    "UC88": 0.215, "MSMB": 0.201, "PKLR-48h": 0.188, "TCF7L2": 0.175, "ZFAND3": 0.116, "FOXE1": -0.019,
}  # fmt: skip
"""Found once with an independent implementation of the same rule."""
MIN_BARCODES = 10
TOLERANCE = 0.003


def main() -> int:
    """Score, compare, print; status 1 if an experiment differs from `EXPECTED` by more than `TOLERANCE`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with satmut_elements.* and mpra_dragonn_conv.hdf5"
    )
    data = parser.parse_args().data
    table = measured(data / "satmut_elements.vcf.gz").join(scores(data))
    table = table[table["barcodes"] >= MIN_BARCODES]
    rows = [
        (name, len(group), pearson(group, "score"), pearson(group, "gc")) for name, group in table.groupby("experiment")
    ]
    rows.sort(key=lambda row: -row[2])
    print(f"{'experiment':<12}{'n':>6}{'r':>9}{'expected':>10}{'r of GC':>9}")
    for name, n, r, gc in rows:
        print(f"{name:<12}{n:>6}{r:>9.3f}{EXPECTED[name]:>10.3f}{gc:>9.3f}")
    means = np.mean([row[2:] for row in rows], axis=0)
    worst = max(abs(r - EXPECTED[name]) for name, _, r, _ in rows)
    print(f"{'mean':<12}{len(table):>6}{means[0]:>9.3f}{np.mean(list(EXPECTED.values())):>10.3f}{means[1]:>9.3f}")
    print(f"{len(rows)} experiments; largest difference from expected {worst:.4f}")
    return int(len(rows) != len(EXPECTED) or worst > TOLERANCE)


def measured(path: Path) -> pd.DataFrame:
    """Read experiment, effect, barcodes and change of GC content of every record, in order."""
    columns = ["contig", "pos", "id", "ref", "alt", "qual", "filter", "info"]
    records = pd.read_csv(path, sep="\t", comment="#", names=columns, compression="gzip")
    info = records["info"].str.extract(r"EXP=(?P<experiment>[^;]+);COEF=(?P<effect>[^;]+);.*BC=(?P<barcodes>\d+)")
    gc = records["alt"].isin(["G", "C"]).astype(int) - records["ref"].isin(["G", "C"]).astype(int)
    return info.astype({"effect": float, "barcodes": int}).assign(gc=gc)


def scores(data: Path) -> pd.DataFrame:
    """Run `varfm score` and read the headline of every record, in order."""
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "scores.tsv"
        command = ["score", data / "satmut_elements.vcf.gz", "-f", data / "satmut_elements.fa", "-m", "mpra-dragonn"]
        weights = ["--weights", data / "mpra_dragonn_conv.hdf5", "-o", table]
        subprocess.run([sys.executable, "-m", "varfm", *map(str, command + weights)], check=True)
        frame = pd.read_csv(table, sep="\t", na_values=".")
    return frame[["status", "HEPG2"]].rename(columns={"HEPG2": "score"})


def pearson(table: pd.DataFrame, column: str) -> float:
    """Correlate a column with the measured effect, where both are known."""
    known = table[[column, "effect"]].dropna()
    return float(np.corrcoef(known[column], known["effect"])[0, 1])


if __name__ == "__main__":
    sys.exit(main())
