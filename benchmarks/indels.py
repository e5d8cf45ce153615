"""How much of an indel's score is the allele, and how much is that the rest of the window moves against the bins.

    python benchmarks/indels.py

A narrow Basenji2 (131,072 bases, 896 bins) learns in some minutes, on random sequence, to answer with smooth peaks of
coverage at three short motifs. Then single-base changes and one-base deletions of the example sequence are scored with
`--indel-mode anchor` and `compensate`: at places inside matches of the motifs, and at places far from any. The same is
done with random weights.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from varfm.converted import VERSION
from varfm.genome import Genome, decode
from varfm.models.basenji2 import Basenji2, Basenji2Config
from varfm.readers.safetensors import write_safetensors
from varfm.windows import Haplotype, Window

FASTA = Path(__file__).parents[1] / "example_data" / "ntng1.fa.gz"
MOTIFS = ("ACATCTG", "CACGTGA", "CTGTCAT")  # a change of the middle base makes none of them a match again
CONFIG = Basenji2Config(
    n_tracks=len(MOTIFS),
    stem_channels=32,
    tower_channels=(32, 32, 32, 40, 40, 48),
    residual_channels=24,
    head_channels=48,
    dilations=(1, 2, 4, 8),  # no further than the short windows of training reach
)
SHORT = replace(CONFIG, length=8_192, crop_bins=8)
BATCH = 4
SPACING = 400  # bases between planted motifs, on average
PEAK = (12.0, 96.0)  # height and standard deviation in bases of the coverage that a motif causes
BASELINE = 0.5
FAR = 400  # bases without a motif around a place that is called far


@dataclass(frozen=True, slots=True)
class Places:
    """Where the example is changed: 0-based bases, ascending, and whether each lies in a match of a motif."""

    starts: list[int]
    in_motif: NDArray[np.bool_]


def main() -> int:
    """Train, score, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, default=12, help="how many places of either kind to change")
    parser.add_argument("--steps", type=int, default=1200, help="steps of training")
    parsed = parser.parse_args()
    torch.manual_seed(1)
    random = drawn(Basenji2(CONFIG))
    trained = learned(parsed.steps)
    print("weights\tmode\tSNV in motif\tdeletion in motif\tSNV far\tdeletion far\tAUROC of deletions")
    for name, network in (("random", random), ("trained", trained)):
        with tempfile.TemporaryDirectory() as folder:
            compare(name, network, Path(folder), parsed.places)
    return 0


def compare(name: str, network: Basenji2, folder: Path, n_places: int) -> None:
    """Score and print median sizes, and how well the size of the score tells deletions in motifs from others."""
    write_weights(network, folder)
    places = write_vcf(folder / "in.vcf", n_places)
    for mode in ("anchor", "compensate"):
        sizes = np.abs(score(folder, mode)).max(1).reshape(-1, 2)  # of the track of largest size, as a headline
        deletions, snvs = sizes.T
        inside, far = places.in_motif, ~places.in_motif
        medians = [np.median(of[where]) for where in (inside, far) for of in (snvs, deletions)]
        higher = (deletions[inside][:, None] > deletions[far]).mean()
        print(name, mode, *(f"{value:.3g}" for value in medians), f"{higher:.2f}", sep="\t", flush=True)


def drawn(network: Basenji2) -> Basenji2:
    """Give every weight a random value of the usual size."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv1d | torch.nn.Linear):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network


def learned(n_steps: int) -> Basenji2:
    """Train on short random sequences, and give the network of full length with these weights."""
    short = Basenji2(SHORT)
    for module in short.modules():
        if isinstance(module, torch.nn.Conv1d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
    for name, parameter in short.named_parameters():
        if name.startswith("returned") and name.endswith("norm.weight"):
            torch.nn.init.zeros_(parameter)  # each residual pair begins as nothing
    optimizer = torch.optim.AdamW(short.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, n_steps)
    draw = np.random.default_rng(2)
    short.train()
    for step in range(n_steps):
        codes, coverage = examples(draw)
        loss = torch.nn.functional.poisson_nll_loss(short(codes), coverage, log_input=False)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.4f}", file=sys.stderr, flush=True)
    short.eval()
    network = Basenji2(CONFIG)
    network.load_state_dict(short.state_dict())
    return network


def examples(draw: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw sequences with planted motifs, (BATCH, length) codes, and their coverage, (BATCH, bins, tracks)."""
    codes = draw.integers(0, 4, (BATCH, SHORT.length)).astype(np.uint8)
    for row in codes:
        for start in range(0, SHORT.length - SPACING, SPACING):
            motif = encoded(MOTIFS[draw.integers(len(MOTIFS))])
            at = start + int(draw.integers(SPACING - len(motif)))
            row[at : at + len(motif)] = motif if draw.random() < 0.5 else 3 - motif[::-1]
    centres = SHORT.bin_width * (SHORT.crop_bins + np.arange(SHORT.n_bins) + 0.5)
    coverage = np.full((BATCH, SHORT.n_bins, len(MOTIFS)), BASELINE, np.float32)
    for number, row in enumerate(codes):
        for track, motif in enumerate(MOTIFS):
            distance = centres[:, None] - matches(decode(row.tobytes()), motif)
            coverage[number, :, track] += PEAK[0] * np.exp(-0.5 * (distance / PEAK[1]) ** 2).sum(1)
    return torch.from_numpy(codes), torch.from_numpy(coverage)


def encoded(motif: str) -> NDArray[np.uint8]:
    """Turn bases into codes."""
    return np.array(["ACGT".index(base) for base in motif], np.uint8)


def matches(bases: str, motif: str) -> NDArray[np.float64]:
    """Give the centres of a motif's matches on either strand."""
    other = motif[::-1].translate(str.maketrans("ACGT", "TGCA"))
    found = [match.start() + len(motif) / 2 for match in re.finditer(f"(?=({motif}|{other}))", bases)]
    return np.array(found, np.float64)


def write_weights(network: Basenji2, folder: Path) -> None:
    """Write weights, the sizes, and a table of tracks."""
    arrays = {key: value.numpy() for key, value in network.state_dict().items()}
    sizes = json.dumps(asdict(CONFIG))
    about = {"format": "varfm", "model": "basenji2", "config": sizes, "conversion": str(VERSION)}
    write_safetensors(folder / "narrow.safetensors", arrays, about)
    (folder / "config.json").write_text(sizes)
    head = "index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription\n"
    rows = (f"{n}\t0\tID{n}\t.\t32\t2\tmean\tDNASE:{motif}\n" for n, motif in enumerate(MOTIFS))
    (folder / "targets_human.txt").write_text(head + "".join(rows))


def write_vcf(path: Path, n_places: int) -> Places:
    """Write a deletion and an SNV per place, none in a repeat of its base."""
    with Genome(FASTA, path.parent / "index") as genome:
        contig, length = next(iter(genome.contigs.items()))
        bases = decode(genome.sequence(Haplotype(Window(contig, 0, length), None)))
    places = choose(bases, n_places)
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for at in places.starts:
        alt = next(base for base in "ACGT" if base not in bases[at - 1 : at + 2])
        lines.append(f"{contig}\t{at}\t.\t{bases[at - 1 : at + 1]}\t{bases[at - 1]}\t.\t.\t.")
        lines.append(f"{contig}\t{at + 1}\t.\t{bases[at]}\t{alt}\t.\t.\t.")
    path.write_text("\n".join(lines) + "\n")
    return places


def choose(bases: str, n_places: int) -> Places:
    """Choose bases in the middle of matches, and bases far from any, unlike both of their neighbours."""
    centres = np.sort(np.concatenate([matches(bases, motif) for motif in MOTIFS]))
    middle = range(len(bases) // 2 - 100_000, len(bases) // 2 + 100_000)
    draw = np.random.default_rng(5)
    inside = draw.permutation([int(at) for at in centres if int(at) in middle])
    far = draw.permutation([at for at in middle[::97] if np.abs(centres - at).min() > FAR])

    def kept(starts: NDArray[np.int64]) -> list[int]:
        return [int(at) for at in starts if len({bases[at - 1], bases[at], bases[at + 1], "N"}) == 4][:n_places]

    chosen = kept(inside)
    starts = sorted([*chosen, *kept(far)])
    return Places(starts, np.isin(starts, chosen))


def score(folder: Path, mode: str) -> NDArray[np.float64]:
    """Run the command, and give SAR as (records, tracks)."""
    output = folder / f"{mode}.tsv"
    command = [sys.executable, "-m", "varfm", "score", str(folder / "in.vcf"), "-f", str(FASTA), "-m", "basenji2"]
    command += ["--weights", str(folder), "--scores", "SAR", "--indel-mode", mode]
    subprocess.run([*command, "-o", str(output), "--quiet"], check=True, capture_output=True)
    table = pd.read_csv(output, sep="\t")
    return table.filter(like="SAR_T").to_numpy(np.float64)


if __name__ == "__main__":
    raise SystemExit(main())
