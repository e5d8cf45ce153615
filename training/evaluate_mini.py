"""Measure the packaged model `mini` on what it has never seen, and print the figures of its card.

    python training/evaluate_mini.py --data DATA [--weights FILE] [--quantiles FILE]

DATA holds the files named in `mini_data.py` and `kg_chr20_1mb.vcf.gz`. Bound: peaks on chr8 and chr9. Background:
windows of chr20 that touch no peak of the factor, and shuffles of the held-out peaks. Logits are means of both strands.
"""

from __future__ import annotations

import argparse
import gzip
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from mini_data import (
    SHUFFLES_PER_PEAK,
    TEST_CONTIGS,
    TEST_SEQUENCE,
    WINDOW,
    Codes,
    Peaks,
    cut,
    encode,
    free_starts,
    read_peaks,
    read_sequence,
    sha256,
    shuffle_dinucleotides,
)
from mini_matrix import MATRIX, best_match, read_matrix
from mini_scores import Floats, auroc, reliability, strand_mean
from numpy.typing import NDArray
from safetensors.torch import load_file

from varfm.models.mini import FACTORS, MiniNet

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT / "varfm" / "models" / "data" / "mini.safetensors"
VARIANTS = "kg_chr20_1mb.vcf.gz"
INDEX = 49
TEST_SHUFFLES_PER_PEAK = 3  # about as many as windows of chr20
SEED = 20
PERCENT = (1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0)
PERCENT_OF_SIZE = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
N_MUTATED = 100


@dataclass(frozen=True, slots=True)
class Areas:
    """AUROC of one factor against each background and against both, and how many windows there were of each."""

    n_peaks: int
    n_windows: int
    n_shuffles: int
    windows: float
    shuffles: float
    both: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Reliability at a prior: mean error, and bins as (upper bound, weight, mean predicted, observed)."""

    prior: float
    error: float
    bins: list[tuple[float, float, float, float]]


@dataclass(frozen=True, slots=True)
class Effects:
    """Quantiles, by percent, of every score (alt logit - ref logit) and of its size, over a set of SNVs."""

    weights_sha256: str
    set: str
    n: int
    scores: dict[str, dict[str, float]]
    sizes: dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True)
class Losses:
    """Where the strongest single-base loss of held-out CTCF peaks lies, and how strong it is (quantiles by percent)."""

    inside_of_first: int
    n_first: int
    inside_of_all: int
    n_all: int
    strongest: dict[str, float]


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the card states, by factor."""

    auroc: dict[str, Areas]
    calibration: dict[str, Calibration]
    effects: Effects
    losses: Losses


def load(path: Path) -> MiniNet:
    """Read the weights; every key must be there."""
    net = MiniNet()
    net.load_state_dict(load_file(path), strict=True)
    return net.eval()


def measure_factor(net: MiniNet, peaks: Peaks, chr20: Codes, factor: int) -> tuple[Areas, Calibration]:
    """Tell bound from background for one factor."""
    own = peaks.of(factor)
    held_out = own.on(TEST_CONTIGS).codes
    starts = free_starts(chr20, own.codes, margin=0)
    shuffles = shuffle_dinucleotides(np.repeat(held_out, TEST_SHUFFLES_PER_PEAK, axis=0), np.random.default_rng(SEED))
    bound, windows, shuffled = (
        strand_mean(net, codes)[:, factor]
        for codes in (held_out[:, :WINDOW], cut(chr20, starts[starts % WINDOW == 0]), shuffles[:, :WINDOW])
    )
    areas = Areas(
        n_peaks=len(bound),
        n_windows=len(windows),
        n_shuffles=len(shuffled),
        windows=auroc(bound, windows),
        shuffles=auroc(bound, shuffled),
        both=auroc(bound, np.concatenate([windows, shuffled])),
    )
    prior = len(own.codes) / ((2 + SHUFFLES_PER_PEAK) * len(peaks.codes))  # as in an epoch of training
    return areas, Calibration(prior, *reliability(bound, [windows, shuffled], prior))


def snvs(path: Path, sequence: Codes) -> tuple[NDArray[np.int64], Codes]:
    """Give 0-based place and ALT code of every SNV allele of a VCF whose only contig starts where `sequence` does.

    Raises:
        ValueError: If a REF is not the base of the sequence.
    """
    found: list[tuple[int, str, str]] = []
    with gzip.open(path, "rt", encoding="ascii") as lines:
        for line in lines:
            if not line.startswith("#"):
                _, position, _, ref, alts, _ = line.split("\t", 5)
                found += [(int(position) - 1, ref, alt) for alt in alts.split(",") if len(ref + alt) == 2]
    places = np.array([place for place, _, _ in found])
    if not np.array_equal(sequence[places], encode("".join(ref for _, ref, _ in found))):
        raise ValueError(f"{path.name}: REF differs from {TEST_SEQUENCE}. Do both come from the same folder?")
    return places, encode("".join(alt for _, _, alt in found))


def variant_scores(net: MiniNet, path: Path, chr20: Codes) -> Floats:
    """Give (n, 2) scores of the SNVs of the VCF, windows past an end of the sequence filled with N."""
    places, alts = snvs(path, chr20)
    ref = cut(np.pad(chr20, INDEX, constant_values=4), places)
    alt = ref.copy()
    alt[:, INDEX] = alts
    return strand_mean(net, alt) - strand_mean(net, ref)


def measure_effects(net: MiniNet, weights: Path, folder: Path, chr20: Codes) -> Effects:
    """Score the SNVs of the VCF."""
    scores = variant_scores(net, folder / VARIANTS, chr20)
    columns = dict(zip(FACTORS, scores.T, strict=True))
    return Effects(
        weights_sha256=sha256(weights),
        set="SNVs of 1000 Genomes phase 3 in GRCh37 20:1,000,001-2,000,000",
        n=len(scores),
        scores={name: _quantiles(values, PERCENT) for name, values in columns.items()},
        sizes={name: _quantiles(np.abs(values), PERCENT_OF_SIZE) for name, values in columns.items()},
    )


def strongest_loss(net: MiniNet, window: Codes) -> tuple[int, float]:
    """Give the place and size of the most negative change of the CTCF logit over all single-base substitutions."""
    places, bases = np.divmod(np.arange(4 * WINDOW), 4)
    mutants = np.repeat(window[None], 4 * WINDOW, axis=0)
    mutants[np.arange(4 * WINDOW), places] = bases
    change = strand_mean(net, mutants)[:, 0] - strand_mean(net, window[None])[0, 0]
    return int(places[change.argmin()]), float(change.min())


def measure_losses(net: MiniNet, peaks: Peaks) -> Losses:
    """Mutate held-out CTCF peaks, in file order and without choosing among them, and compare with the matrix."""
    matrix = read_matrix(MATRIX)
    windows = peaks.of(0).on(TEST_CONTIGS).codes[:, :WINDOW]
    inside, sizes = [], []
    for window in windows:
        place, change = strongest_loss(net, window)
        start = best_match(matrix, window)
        inside.append(start <= place < start + matrix.shape[1])
        sizes.append(change)
    first = inside[:N_MUTATED]
    return Losses(sum(first), len(first), sum(inside), len(inside), _quantiles(np.array(sizes), PERCENT))


def _quantiles(values: Floats, percent: tuple[float, ...]) -> dict[str, float]:
    return {f"{p:g}": float(f"{np.percentile(values, p):.6g}") for p in percent}


def measure(weights: Path, folder: Path) -> Figures:
    """Give every figure of the card."""
    net, peaks, chr20 = load(weights), read_peaks(folder), read_sequence(folder / TEST_SEQUENCE)
    measured = {name: measure_factor(net, peaks, chr20, factor) for factor, name in enumerate(FACTORS)}
    return Figures(
        auroc={name: areas for name, (areas, _) in measured.items()},
        calibration={name: calibration for name, (_, calibration) in measured.items()},
        effects=measure_effects(net, weights, folder, chr20),
        losses=measure_losses(net, peaks),
    )


def report(figures: Figures) -> str:
    """Give the figures as text."""
    effects, found = figures.effects, figures.losses
    lines = [f"weights sha256 {effects.weights_sha256}", "", "AUROC  peaks  chr20  shuffles  chr20   shuffles  both"]
    for name, a in figures.auroc.items():
        counts = f"{a.n_peaks:6} {a.n_windows:6} {a.n_shuffles:9}"
        lines.append(f"{name:5} {counts}  {a.windows:.4f}  {a.shuffles:.4f}    {a.both:.4f}")
    for name, c in figures.calibration.items():
        lines += ["", f"{name} calibration at prior {c.prior:.3f}: mean error {c.error:.4f}"]
        lines += ["below  weight  predicted  observed"]
        lines += [f"{top:5.1f} {weight:7.4f} {said:10.4f} {seen:9.4f}" for top, weight, said, seen in c.bins]
    lines += ["", f"score (alt logit - ref logit) over {effects.n:,} {effects.set}, by percent"]
    lines += [f"{name} signed {values}" for name, values in effects.scores.items()]
    lines += [f"{name} size {values}" for name, values in effects.sizes.items()]
    lines += ["", f"strongest single-base loss of held-out CTCF peaks inside the best match of {MATRIX.name}:"]
    lines += [f"{found.inside_of_first} of the first {found.n_first}, {found.inside_of_all} of all {found.n_all}"]
    lines += [f"its size, by percent: {found.strongest}"]
    return "\n".join(lines)


def main() -> None:
    """Read the options, measure, print."""
    parser = argparse.ArgumentParser(description="Measure the packaged model mini.")
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with the files named in mini_data.py and the VCF"
    )
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="safetensors file; default: the packaged one")
    parser.add_argument("--quantiles", type=Path, help="also write the quantiles of the scores to this file, as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    figures = measure(options.weights, options.data)
    print(report(figures))
    if options.quantiles:
        options.quantiles.write_text(json.dumps(asdict(figures.effects), indent=1) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
