"""Peaks, background sequence and dinucleotide shuffles for the packaged model `mini`."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.uint8]
"""Base codes: 0-3 are A, C, G, T and 4 is N; the last axis is the sequence."""

FACTORS = ("CTCF", "PU1")
WINDOW = 99
PEAK = 100
PEAK_FILES = ("ctcf_100bp.fa.gz", "pu1_100bp.fa.gz")
TRAINING_SEQUENCE = ("grch37_chr17_1mb.fa", "hg38_chr22_32000000_32300000.fa")
TEST_SEQUENCE = "kg_chr20_1mb.fa"
TEST_CONTIGS = ("chr8", "chr9")
VALIDATION_CONTIGS = ("chr10",)
UNUSED_CONTIGS = ("chr20",)  # the evaluation sequence lies there

SHUFFLES_PER_PEAK = 2  # in an epoch of training, drawn anew, beside one window of real sequence per peak

_CODE_OF_BYTE = np.full(256, 4, dtype=np.uint8)
for _bases in (b"ACGT", b"acgt"):
    _CODE_OF_BYTE[np.frombuffer(_bases, dtype=np.uint8)] = np.arange(4)
_COMPLEMENT = np.array([3, 2, 1, 0, 4], dtype=np.uint8)


@dataclass(frozen=True, slots=True)
class Peaks:
    """Peak centres of both factors.

    Attributes:
        codes: (n, 100).
        factors: (n,) index into `FACTORS`.
        contigs: (n,) names as in the headers, GRCh37.
        starts: (n,) 0-based.
        labels: (n, 2) float32; 1 bound, 0 not bound, NaN unknown (overlaps a peak of that factor).
    """

    codes: Codes
    factors: NDArray[np.int64]
    contigs: NDArray[np.str_]
    starts: NDArray[np.int64]
    labels: NDArray[np.float32]

    def select(self, mask: NDArray[np.bool_]) -> Peaks:
        """Keep the peaks where `mask` is True, in order."""
        return Peaks(self.codes[mask], self.factors[mask], self.contigs[mask], self.starts[mask], self.labels[mask])

    def on(self, contigs: tuple[str, ...]) -> Peaks:
        """Keep the peaks of some contigs."""
        return self.select(np.isin(self.contigs, contigs))

    def of(self, factor: int) -> Peaks:
        """Keep the peaks of one factor."""
        return self.select(self.factors == factor)


def encode(text: str) -> Codes:
    """Give (length,) base codes; letters other than ACGT, in either case, become N."""
    return _CODE_OF_BYTE[np.frombuffer(text.encode("ascii"), dtype=np.uint8)]


def reverse_complement(codes: Codes) -> Codes:
    """Give the other strand of sequences along the last axis."""
    return _COMPLEMENT[codes[..., ::-1]]


def sha256(path: Path) -> str:
    """Give the digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_fasta(path: Path) -> Iterator[tuple[str, str]]:
    """Give (header, sequence) pairs of a plain or gzip-compressed FASTA file."""
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("ascii")
    for entry in text.split(">")[1:]:
        header, _, sequence = entry.partition("\n")
        yield header.strip(), sequence.replace("\n", "").replace("\r", "")


def read_sequence(path: Path) -> Codes:
    """Give the base codes of the first sequence of a FASTA file."""
    return encode(next(read_fasta(path))[1])


def read_peaks(folder: Path) -> Peaks:
    """Read the peak centres of both factors, CTCF first, in file order."""
    codes: list[Codes] = []
    places: list[tuple[int, str, int]] = []
    for factor, name in enumerate(PEAK_FILES):
        for header, sequence in read_fasta(folder / name):
            contig, _, span = header.partition(":")
            codes.append(encode(sequence))
            places.append((factor, contig, int(span.partition("-")[0])))
    factors = np.array([place[0] for place in places])
    contigs = np.array([place[1] for place in places])
    starts = np.array([place[2] for place in places])
    return Peaks(np.stack(codes), factors, contigs, starts, _labels(factors, contigs, starts))


def _labels(factors: NDArray[np.int64], contigs: NDArray[np.str_], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    labels = np.zeros((len(factors), len(FACTORS)), dtype=np.float32)
    for contig in np.unique(contigs):
        here = np.flatnonzero(contigs == contig)
        for factor in range(len(FACTORS)):
            bound = np.sort(starts[here[factors[here] == factor]])
            labels[here, factor] = np.where(_distance(starts[here], bound) < PEAK, np.nan, 0.0)
    labels[np.arange(len(factors)), factors] = 1.0
    return labels


def _distance(places: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the distance from each place to the nearest of the sorted `others`; infinite if there is none."""
    fences = np.concatenate([[-np.inf], others, [np.inf]])
    right = np.searchsorted(others, places)
    distance: NDArray[np.float64] = np.minimum(places - fences[right], fences[right + 1] - places)
    return distance


def peak_starts(sequence: Codes, peaks: Codes) -> list[int]:
    """Find peak centres in a stretch of genome by their bases, whatever the assembly of either: 0-based starts."""
    genome = sequence.tobytes()
    wanted = {peak.tobytes() for peak in peaks}
    return [start for start in range(len(genome) - PEAK + 1) if genome[start : start + PEAK] in wanted]


def free_starts(sequence: Codes, peaks: Codes, margin: int = 100) -> NDArray[np.int64]:
    """Give the starts of windows of 99 bases without N that stay `margin` bases away from every peak centre."""
    taken = sequence > 3
    for start in peak_starts(sequence, peaks):
        taken[max(0, start - margin) : start + PEAK + margin] = True
    sums = np.concatenate([[0], np.cumsum(taken)])
    return np.flatnonzero(sums[WINDOW:] == sums[:-WINDOW])


def cut(sequence: Codes, starts: NDArray[np.int64]) -> Codes:
    """Cut windows of 99 bases at `starts` -> (n, 99)."""
    windows: Codes = sequence[starts[:, None] + np.arange(WINDOW)]
    return windows


def shuffle_dinucleotides(codes: Codes, rng: np.random.Generator) -> Codes:
    """Shuffle each row, keeping its first base, its last base and the exact count of every dinucleotide.

    A uniform draw among all such sequences: the bases that follow each base are put in random order, drawn again until
    the last ones lead to the final base from everywhere, which is when the walk through all of them cannot get stuck.

    Args:
        codes: (n, length), A, C, G and T only.
        rng: Source of chance.

    Source:
        Altschul and Erickson, Mol Biol Evol 2 (1985) 526-538.
    """
    exits = np.empty((len(codes), codes.shape[1] - 1), dtype=np.int64)
    first_exit, last_exit = np.empty((2, len(codes), 4), dtype=np.int64)
    todo = np.arange(len(codes))
    while len(todo):
        exits[todo], first_exit[todo], last_exit[todo] = _order_exits(codes[todo], rng)
        todo = todo[~_reaches_end(codes[todo], exits[todo], first_exit[todo], last_exit[todo])]
    return _walk(codes, exits, first_exit.copy())


def _order_exits(
    codes: Codes, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Group the bases that follow A, C, G, T, groups in random order; also each group's first and past-last index."""
    sources = codes[:, :-1].astype(np.int64)
    order = np.argsort(sources + rng.random(sources.shape), axis=1)
    exits = np.take_along_axis(codes[:, 1:].astype(np.int64), order, axis=1)
    counts = np.stack([(sources == base).sum(axis=1) for base in range(4)], axis=1)
    ends = np.cumsum(counts, axis=1)
    return exits, ends - counts, ends


def _reaches_end(
    codes: Codes, exits: NDArray[np.int64], first_exit: NDArray[np.int64], last_exit: NDArray[np.int64]
) -> NDArray[np.bool_]:
    final = codes[:, -1:].astype(np.int64)
    target = np.take_along_axis(exits, np.maximum(last_exit - 1, 0), axis=1)
    here = np.arange(4)
    target = np.where((first_exit == last_exit) | (here == final), final, target)  # unused bases cannot strand the walk
    for _ in range(2):  # four bases: any path to the final one has at most three steps
        target = np.take_along_axis(target, target, axis=1)
    reached: NDArray[np.bool_] = (target == final).all(axis=1)
    return reached


def _walk(codes: Codes, exits: NDArray[np.int64], next_exit: NDArray[np.int64]) -> Codes:
    shuffled = codes.copy()
    every = np.arange(len(codes))
    base = codes[:, 0].astype(np.int64)
    for place in range(1, codes.shape[1]):
        taken = next_exit[every, base]
        next_exit[every, base] += 1
        base = exits[every, taken]
        shuffled[:, place] = base
    return shuffled
