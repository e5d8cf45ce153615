"""Train the packaged model `mini` and write its weights.

    python training/train_mini.py --data DATA -o mini.safetensors

DATA holds the files named in `mini_data.py`. Equal data, seed and torch version give
equal weights on one kind of processor.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mini_data import (
    PEAK,
    PEAK_FILES,
    SHUFFLES_PER_PEAK,
    TEST_CONTIGS,
    TRAINING_SEQUENCE,
    UNUSED_CONTIGS,
    VALIDATION_CONTIGS,
    WINDOW,
    Codes,
    Peaks,
    cut,
    free_starts,
    read_peaks,
    read_sequence,
    reverse_complement,
    sha256,
    shuffle_dinucleotides,
)
from mini_scores import auroc, strand_mean
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch.nn.functional import binary_cross_entropy_with_logits

from varfm.models.mini import FACTORS, MiniNet

BATCH = 256
PEAK_RATE = 3e-3
WEIGHT_DECAY = 1e-2
AVERAGE = 0.999  # of the running mean of the weights, per step
N_FLANK_CHANCE = 0.02  # windows whose end is turned into N, so that contig ends are nothing unseen


@dataclass(frozen=True, slots=True)
class Examples:
    """Windows of 99 bases, (n, 99), and their labels, (n, 2) with NaN for unknown."""

    codes: Codes
    labels: NDArray[np.float32]


def background(folder: Path, peaks: Peaks) -> tuple[list[tuple[Codes, NDArray[np.int64]]], Codes]:
    """Give (sequence, window starts) pairs to train on, and windows to validate on: the last tenth of each sequence."""
    training, validation = [], []
    for name in TRAINING_SEQUENCE:
        sequence = read_sequence(folder / name)
        starts = free_starts(sequence, peaks.codes)
        edge = len(starts) * 9 // 10
        training.append((sequence, starts[:edge]))
        validation.append(cut(sequence, starts[edge + WINDOW :: 25]))
    return training, np.concatenate(validation)


def draw_epoch(peaks: Peaks, sequences: list[tuple[Codes, NDArray[np.int64]]], rng: np.random.Generator) -> Examples:
    """Draw peaks, shuffles of peaks and windows of real sequence, cropped and on either strand at random."""
    n = len(peaks.codes)
    shuffles = shuffle_dinucleotides(np.repeat(peaks.codes, SHUFFLES_PER_PEAK, axis=0), rng)
    whole = np.concatenate([peaks.codes, shuffles])
    cropped = np.where(rng.random((len(whole), 1)) < 0.5, whole[:, PEAK - WINDOW :], whole[:, :WINDOW])
    sizes = np.array([len(starts) for _, starts in sequences])
    shares = rng.multinomial(n, sizes / sizes.sum())
    windows = [cut(sequence, rng.choice(starts, k)) for (sequence, starts), k in zip(sequences, shares, strict=True)]
    codes = np.concatenate([cropped, *windows])
    labels = np.zeros((len(codes), len(FACTORS)), dtype=np.float32)
    labels[:n] = peaks.labels
    flip = rng.random((len(codes), 1)) < 0.5
    codes = np.where(flip, reverse_complement(codes), codes)
    return Examples(_blank_flanks(codes, rng), labels)


def _blank_flanks(codes: Codes, rng: np.random.Generator) -> Codes:
    width = np.where(rng.random(len(codes)) < N_FLANK_CHANCE, rng.integers(1, WINDOW // 2, len(codes)), 0)
    return np.where(np.arange(WINDOW) < width[:, None], np.uint8(4), codes)


def train_epoch(
    net: MiniNet,
    average: MiniNet,
    examples: Examples,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.OneCycleLR,
    rng: np.random.Generator,
) -> float:
    """Go once through the examples in random order; give the mean loss."""
    codes, labels = torch.from_numpy(examples.codes), torch.from_numpy(examples.labels)
    order = torch.from_numpy(rng.permutation(len(codes)))
    total = 0.0
    net.train()
    batches = order[: len(order) // BATCH * BATCH].view(-1, BATCH)
    for batch in batches:
        known = ~labels[batch].isnan()
        loss = binary_cross_entropy_with_logits(net(codes[batch])[known], labels[batch][known])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        _follow(average, net)
        total += loss.item()
    return total / len(batches)


@torch.no_grad()
def _follow(average: MiniNet, net: MiniNet) -> None:
    for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
        slow.lerp_(fast, 1 - AVERAGE)


def validate(net: MiniNet, peaks: Peaks, windows: Codes, shuffles: Codes) -> list[float]:
    """Give each factor's AUROC: its peaks against shuffles of them and windows of real sequence."""
    areas = []
    for factor in range(len(FACTORS)):
        own = peaks.factors == factor
        bound = strand_mean(net, peaks.codes[own, :WINDOW])[:, factor]
        free = strand_mean(net, np.concatenate([windows, shuffles[own, :WINDOW]]))[:, factor]
        areas.append(auroc(bound, free))
    return areas


def train(folder: Path, epochs: int, seed: int) -> MiniNet:
    """Give the running-mean network of the epoch that does best on the validation chromosome."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    peaks = read_peaks(folder)
    sequences, windows = background(folder, peaks)
    held_out = peaks.on(VALIDATION_CONTIGS)
    shuffles = shuffle_dinucleotides(held_out.codes, rng)
    seen = peaks.select(~np.isin(peaks.contigs, TEST_CONTIGS + VALIDATION_CONTIGS + UNUSED_CONTIGS))
    net = MiniNet()
    average, best, best_area = copy.deepcopy(net), copy.deepcopy(net), 0.0
    steps = (2 + SHUFFLES_PER_PEAK) * len(seen.codes) // BATCH * epochs
    optimizer = torch.optim.AdamW(net.parameters(), lr=PEAK_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps)
    log(f"{sum(p.numel() for p in net.parameters())} parameters, {len(seen.codes)} peaks, {epochs} epochs, seed {seed}")
    for epoch in range(1, epochs + 1):
        loss = train_epoch(net, average, draw_epoch(seen, sequences, rng), optimizer, schedule, rng)
        areas = validate(average.eval(), held_out, windows, shuffles)
        log(
            f"epoch {epoch} loss {loss:.4f} validation AUROC "
            + " ".join(f"{n} {a:.4f}" for n, a in zip(FACTORS, areas, strict=True))
        )
        if sum(areas) > best_area:
            best, best_area = copy.deepcopy(average), sum(areas)
    return best


def write(net: MiniNet, path: Path, folder: Path, epochs: int, seed: int) -> None:
    """Write the weights as safetensors, with the digests of the data, the script, epochs and seed as metadata."""
    used = PEAK_FILES + TRAINING_SEQUENCE
    metadata = {f"sha256 {name}": sha256(folder / name) for name in used}
    metadata |= {
        "script": "training/train_mini.py",
        "epochs": str(epochs),
        "seed": str(seed),
        "torch": torch.__version__,
    }
    save_file({key: value.contiguous() for key, value in net.state_dict().items()}, path, metadata)
    log(f"{path} {path.stat().st_size} bytes sha256 {sha256(path)}")


def log(line: str) -> None:
    """Print a line with the seconds since the start."""
    print(f"{time.process_time():6.0f} s  {line}", file=sys.stderr, flush=True)


def main() -> None:
    """Read the options, train, write."""
    parser = argparse.ArgumentParser(description="Train the packaged model mini.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the files named in mini_data.py")
    parser.add_argument("-o", "--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    net = train(options.data, options.epochs, options.seed)
    write(net, options.output, options.data, options.epochs, options.seed)


if __name__ == "__main__":
    main()
