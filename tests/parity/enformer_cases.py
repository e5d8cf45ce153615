"""The networks and sequences of the Enformer fixtures, shared by the recorder and the tests; needs numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SEED = 20260301
N_VARIANTS = 2


@dataclass(frozen=True)
class Case:
    """Sizes that the authors' class takes, and what it reads."""

    channels: int
    n_layers: int
    n_heads: int
    length: int
    n_bins: int
    n_tracks: int
    bin_width: int = 128

    @property
    def n_tokens(self) -> int:
        """Positions of the transformer."""
        return self.length // self.bin_width

    def tracks(self, n_outputs: int) -> np.ndarray:
        """Give the outputs that are recorded, spread over all."""
        return np.linspace(0, n_outputs - 1, self.n_tracks).astype(int)

    def sequences(self) -> list[str]:
        """Give windows: with N, random, the same from the other strand, in lower case, of one base, of repeats.

        The last ones are the random window with one base changed at or near its centre, N_VARIANTS of them. Of the full
        window there is only the first.
        """
        generator = np.random.RandomState(SEED)
        first, second = ("".join(generator.choice(list("ACGT"), self.length)) for _ in range(2))
        third = self.length // 3
        with_n = second[:third] + "N" * (third // 2) + second[third + third // 2 :]
        if self == FULL:
            return [with_n]
        turned = first[::-1].translate(str.maketrans("ACGT", "TGCA"))
        of_one = second[:third] + "A" * third + second[2 * third :]
        repeats = "CAG" * third + second[3 * third :]
        places = [self.length // 2 - 1 + 200 * number for number in range(N_VARIANTS)]
        variants = [first[:i] + {"A": "G", "C": "T", "G": "A", "T": "C"}[first[i]] + first[i + 1 :] for i in places]
        return [with_n, first, turned, second.lower(), of_one, repeats, *variants]


SHORT = Case(channels=384, n_layers=2, n_heads=2, length=4096, n_bins=16, n_tracks=24)
"""As many position features as the published network (192), in a short window."""

FULL = Case(channels=384, n_layers=2, n_heads=8, length=196_608, n_bins=896, n_tracks=16)
"""The published window and crop."""

PORT = Case(channels=24, n_layers=2, n_heads=2, length=512, n_bins=40, n_tracks=3, bin_width=8)
"""The port to PyTorch takes any size."""
