"""How much of an indel's score is the allele, and how much is that the rest of the window moves against the bins.

    python benchmarks/indels.py

Scores single-base changes and single-base deletions at the same places of the example sequence with a narrow Basenji2
of random weights (131,072 bases, 896 bins), with `--indel-mode anchor` and `compensate`, and again with the window
moved by half a bin, which leaves the alleles as they are.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from varfm.converted import VERSION
from varfm.genome import Genome, decode
from varfm.models.basenji2 import Basenji2, Basenji2Config
from varfm.readers.safetensors import write_safetensors
from varfm.windows import Haplotype, Window

FASTA = Path(__file__).parents[1] / "example_data" / "ntng1.fa.gz"
N_TRACKS = 16
CONFIG = Basenji2Config(
    n_tracks=N_TRACKS, stem_channels=24, tower_channels=(24, 32, 32, 40, 40, 48), residual_channels=24, head_channels=48
)
HALF_A_BIN = 64


def main() -> int:
    """Score, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=8, help="how many places to change")
    n_places = parser.parse_args().places
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_weights(folder)
        is_deletion = write_vcf(folder / "in.vcf", n_places)
        scores = {
            (mode, shift): score(folder, mode, shift) for mode in ("anchor", "compensate") for shift in (0, HALF_A_BIN)
        }
    snvs = np.abs(scores["anchor", 0][~is_deletion])
    print(f"{n_places} places, {N_TRACKS} tracks; SAR of a single-base change: median size {np.median(snvs):.3g}")
    print("one-base deletions\tmedian size\tratio to SNVs\tr, window moved by half a bin")
    for mode in ("anchor", "compensate"):
        here, moved = (scores[mode, shift][is_deletion] for shift in (0, HALF_A_BIN))
        size = np.median(np.abs(here))
        r = np.corrcoef(here.ravel(), moved.ravel())[0, 1]
        print(f"{mode}\t{size:.3g}\t{size / np.median(snvs):.2f}\t{r:.2f}")
    return 0


def write_weights(folder: Path) -> None:
    """Write random weights, the sizes, and a table of tracks."""
    torch.manual_seed(1)
    with torch.no_grad():
        network = Basenji2(CONFIG)
        for module in network.modules():
            if isinstance(module, torch.nn.Conv1d | torch.nn.Linear):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    arrays = {key: value.numpy() for key, value in network.state_dict().items()}
    sizes = json.dumps(asdict(CONFIG))
    about = {"format": "varfm", "model": "basenji2", "config": sizes, "conversion": str(VERSION)}
    write_safetensors(folder / "random.safetensors", arrays, about)
    (folder / "config.json").write_text(sizes)
    head = "index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription\n"
    rows = (f"{n}\t0\tID{n}\t.\t32\t2\tmean\tDNASE:random {n}\n" for n in range(N_TRACKS))
    (folder / "targets_human.txt").write_text(head + "".join(rows))


def write_vcf(path: Path, n_places: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Write an SNV and a deletion per place, none in a repeat of its base; say which records are deletions."""
    with Genome(FASTA, path.parent / "index") as genome:
        contig, length = next(iter(genome.contigs.items()))
        bases = decode(genome.sequence(Haplotype(Window(contig, 0, length), None)))
    draw = np.random.default_rng(5)
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    places: list[int] = []
    while len(places) < n_places:
        at = int(draw.integers(length // 2 - 60_000, length // 2 + 60_000))
        if len({bases[at - 1], bases[at], bases[at + 1], "N"}) == 4:
            places.append(at)
    for at in sorted(places):
        alt = next(base for base in "ACGT" if base not in bases[at - 1 : at + 2])
        lines.append(f"{contig}\t{at}\t.\t{bases[at - 1 : at + 1]}\t{bases[at - 1]}\t.\t.\t.")
        lines.append(f"{contig}\t{at + 1}\t.\t{bases[at]}\t{alt}\t.\t.\t.")
    path.write_text("\n".join(lines) + "\n")
    return np.arange(2 * n_places) % 2 == 0


def score(folder: Path, mode: str, shift: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Run the command, and give SAR as (records, tracks)."""
    output = folder / f"{mode}{shift}.tsv"
    command = [sys.executable, "-m", "varfm", "score", str(folder / "in.vcf"), "-f", str(FASTA), "-m", "basenji2"]
    command += ["--weights", str(folder), "--scores", "SAR", "--indel-mode", mode, "--shifts", str(shift)]
    subprocess.run([*command, "-o", str(output), "--quiet"], check=True, capture_output=True)
    table = pd.read_csv(output, sep="\t")
    return table.filter(like="SAR_T").to_numpy(np.float64)


if __name__ == "__main__":
    raise SystemExit(main())
