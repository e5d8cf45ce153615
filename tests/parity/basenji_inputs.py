"""Windows and single-base changes that Basenji and Basenji2 are compared on; made alike wherever they are needed."""

from __future__ import annotations

import numpy as np

CONTIG_LENGTH = 40_000
POSITIONS = (3, 9_001, 16_128, 19_999, 20_480, 24_321, 39_990)
"""1-based; the first and the last windows leave the contig."""


def windows(length: int) -> list[str]:
    """Give windows: plain, soft-masked, with N inside and at both ends, of one base, and of long repeats."""
    plain, masked, gaps, mixed = (_bases(length, seed) for seed in (1, 2, 3, 4))
    third, half = length // 3, length // 2
    masked = masked[:third] + masked[third:half].lower() + masked[half:]
    gaps = "N" * 37 + gaps[37:third] + "N" * 150 + gaps[third + 150 : half] + "nN" + gaps[half + 2 : -5] + "N" * 5
    repeats = ("CG" * third)[:half] + mixed[half : 2 * third] + ("T" * length)[2 * third :]
    return [plain, masked, gaps, "A" * length, repeats, mixed]


def contig() -> str:
    """Give a contig of random bases, in part soft-masked."""
    bases = _bases(CONTIG_LENGTH, 5)
    return bases[:18_000] + bases[18_000:18_500].lower() + bases[18_500:]


def snvs() -> list[tuple[int, str, str]]:
    """Give 1-based position, REF and ALT of the changes of `POSITIONS` on the contig."""
    bases = contig().upper()
    return [(pos, bases[pos - 1], "ACGT"[("ACGT".index(bases[pos - 1]) + 1 + pos % 3) % 4]) for pos in POSITIONS]


def _bases(length: int, seed: int) -> str:
    return "".join("ACGT"[code] for code in np.random.RandomState(seed).randint(4, size=length))
