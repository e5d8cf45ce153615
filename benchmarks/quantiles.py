"""Measure how large the scores of a model are over a stated set of variants, for `varfm models info`.

    python benchmarks/quantiles.py MODEL --data ../shared/data --weights FILE > MODEL_quantiles.json

Point models: the SNVs of 1000 Genomes phase 3 in GRCh37 20:1,000,001-2,000,000. Xpresso: every change of every tenth
base of the windows around four promoters of hg38 chr22, whose predictions the Kipoi project publishes.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

import varfm
from varfm.models import ModelOptions
from varfm.session import SessionOptions

PERCENTS = (1, 5, 25, 50, 75, 95, 99)
PROMOTERS = ((36_261, "+"), (251_846, "-"), (199_977, "-"), (155_802, "-"))
"""Windows of 10,500 bases: start in the 300 kb piece, and strand of the gene."""
STEP = 10


def main() -> None:
    """Print the quantiles of a model's scores as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path)
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    options = SessionOptions("", None, model_options=ModelOptions(weights=chosen.weights))
    if chosen.model.startswith("xpresso"):
        stated, frame = _promoter_scores(chosen.model, chosen.data, options)
    else:
        stated, frame = _population_scores(chosen.model, chosen.data, options)
    json.dump(_summary(stated, frame), sys.stdout, indent=1)
    print()


def _population_scores(model: str, data: Path, options: SessionOptions) -> tuple[str, pd.DataFrame]:
    frame = varfm.score(
        str(data / "kg_chr20_1mb.vcf.gz"), str(data / "kg_chr20_1mb.fa"), model=model, options=options
    ).frame()
    is_snv = (frame["ref"].str.len() == 1) & (frame["alt"].str.len() == 1)
    return "SNVs of 1000 Genomes phase 3 in GRCh37 20:1,000,001-2,000,000", frame[is_snv]


def _promoter_scores(model: str, data: Path, options: SessionOptions) -> tuple[str, pd.DataFrame]:
    fasta = data / "hg38_chr22_32000000_32300000.fa"
    bases = fasta.read_text().split("\n")[1].upper()
    with tempfile.TemporaryDirectory() as folder:
        vcf, bed = Path(folder) / "snvs.vcf", Path(folder) / "promoters.bed"
        vcf.write_text(
            "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "".join(_records(bases))
        )
        tss = [(start + (7000 if strand == "+" else 3499), strand) for start, strand in PROMOTERS]
        bed.write_text("".join(f"chr22\t{at}\t{at + 1}\tpromoter{n}\t0\t{s}\n" for n, (at, s) in enumerate(tss)))
        frame = varfm.score(str(vcf), str(fasta), model=model, genes=str(bed), options=options).frame()
    return "every change of every tenth base in the windows of four promoters of hg38 chr22", frame


def _records(bases: str) -> list[str]:
    places = sorted({at for start, _ in PROMOTERS for at in range(start, start + 10_500, STEP)})
    return [f"chr22\t{at + 1}\t.\t{bases[at]}\t{alt}\t.\t.\t.\n" for at in places for alt in "ACGT" if alt != bases[at]]


def _summary(stated: str, frame: pd.DataFrame) -> dict[str, object]:
    scores = frame.select_dtypes("float32").dropna()
    values = {
        name: dict(
            zip(map(str, PERCENTS), (round(float(v), 6) for v in np.percentile(scores[name], PERCENTS)), strict=True)
        )
        for name in scores
    }
    return {"set": stated, "n": len(scores), "scores": values}


if __name__ == "__main__":
    main()
