"""What the recordings and the parity tests of DeepSEA and Beluga share: sequences, a genome with SNVs, weights.

The authors' classes have fixed widths. A network of small widths is recorded all the same: its weights stand at drawn
places of the full ones, which are zero elsewhere, so that the other channels and units change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from drawing import drawn
from numpy.typing import NDArray
from writers import Module, sequential

Array = NDArray[Any]
Weights = dict[str, NDArray[np.float32]]

CONTIG = "chr1"


class Sizes(NamedTuple):
    """Widths of a network."""

    channels: tuple[int, int, int]
    n_hidden: int
    n_tracks: int


class Case(NamedTuple):
    """One network: its published and its small widths.

    Attributes:
        n_positions: Positions that are flattened.
        convolutions: Upstream's names of the convolutions, in order, stage by stage.
        dense: Upstream's names of the dense layers.
        gain: Factor of the drawn weights of the answers, so that probabilities differ, and few are near 1.
    """

    length: int
    n_positions: int
    convolutions: tuple[str, ...]
    dense: tuple[str, str]
    full: Sizes
    small: Sizes
    seed: int
    gain: float


DEEPSEA = Case(
    1_000, 53, ("0", "4", "8"), ("12.1", "14.1"),
    Sizes((320, 480, 960), 925, 919), Sizes((24, 32, 40), 36, 20), 2015, 1.5,
)  # fmt: skip
BELUGA = Case(
    2_000, 106, tuple(f"model.0.{n}" for n in (0, 2, 6, 8, 12, 14)), ("model.1.2.1", "model.1.4.1"),
    Sizes((320, 480, 640), 2003, 2002), Sizes((16, 24, 32), 36, 20), 2018, 4.0,
)  # fmt: skip

SHOWN_ROWS = [0, 2, 3, 7]
"""Sequences that the full widths are recorded on."""


def shapes(case: Case, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Give upstream's keys and shapes."""
    per_stage = len(case.convolutions) // 3
    channels = [4, *(n for n in sizes.channels for _ in range(per_stage))]
    found: dict[str, tuple[int, ...]] = {}
    for name, n_in, n_out in zip(case.convolutions, channels, channels[1:], strict=False):
        found |= {f"{name}.weight": (n_out, n_in, 1, 8), f"{name}.bias": (n_out,)}
    dense = (channels[-1] * case.n_positions, sizes.n_hidden, sizes.n_tracks)
    for name, n_in, n_out in zip(case.dense, dense, dense[1:], strict=False):
        found |= {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}
    return found


def weights(case: Case, sizes: Sizes) -> Weights:
    """Draw the weights."""
    found = drawn(shapes(case, sizes), case.seed)
    answers = f"{case.dense[1]}.weight"
    return found | {answers: found[answers] * np.float32(case.gain)}


def chosen(n: int, n_full: int, seed: int = 0) -> NDArray[np.int64]:
    """Choose the places of `n` of `n_full` channels, units or tracks."""
    return np.sort(np.random.RandomState(seed + n_full).choice(n_full, n, replace=False)).astype(np.int64)


def shown_tracks(case: Case) -> NDArray[np.int64]:
    """Choose the tracks that are recorded of the full widths."""
    return chosen(40, case.full.n_tracks)


def embedded(case: Case, small: Mapping[str, Array]) -> Weights:
    """Give full weights that are zero but for the small ones at their places."""
    full: Weights = {key: np.zeros(shape, np.float32) for key, shape in shapes(case, case.full).items()}
    per_stage = len(case.convolutions) // 3
    places = np.arange(4)
    for number, name in enumerate(case.convolutions):
        stage = number // per_stage
        after = chosen(case.small.channels[stage], case.full.channels[stage], number)
        full[f"{name}.weight"][np.ix_(after, places)] = small[f"{name}.weight"]
        full[f"{name}.bias"][after] = small[f"{name}.bias"]
        places = after
    places = (places[:, None] * case.n_positions + np.arange(case.n_positions)).ravel()
    for name, n, n_full in zip(case.dense, case.small[1:], case.full[1:], strict=True):
        after = chosen(n, n_full)
        full[f"{name}.weight"][np.ix_(after, places)] = small[f"{name}.weight"]
        full[f"{name}.bias"][after] = small[f"{name}.bias"]
        places = after
    return full


def sequences(length: int) -> list[str]:
    """Give drawn sequences, in lower case, with N, soft-masked, half N; runs of one base; a repeat."""
    generator = np.random.RandomState(length)
    first, second, third, fourth, fifth = ("".join(generator.choice(list("ACGT"), length)) for _ in range(5))
    third = third[:100] + "N" * 60 + third[160:-40] + "n" * 40
    fourth = fourth[:300] + fourth[300:700].lower() + fourth[700:]
    fifth = "N" * (length // 2) + fifth[length // 2 :]
    return [first, second.lower(), third, fourth, fifth, "A" * length, "C" * length, ("ACGTTGCA" * length)[:length]]


def genome() -> str:
    """Draw a contig of 8,000 bases, some of them in lower case and some N."""
    bases = "".join(np.random.RandomState(8_000).choice(list("ACGT"), 8_000))
    bases = bases[:3_000] + bases[3_000:3_600].lower() + bases[3_600:4_200] + "N" * 60 + bases[4_260:]
    return bases


def snvs() -> list[tuple[int, str, str]]:
    """Give POS, REF and ALT of SNVs on the contig."""
    bases = genome()
    positions = (1_950, 2_401, 2_950, 3_700, 4_151, 4_400, 5_000, 6_002)
    return [(pos, bases[pos - 1], "CGTA"["ACGT".index(bases[pos - 1])]) for pos in positions]


def backgrounds(n_tracks: int, n_steps: int = 200) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Draw one step function per track: ascending effect sizes, and the level from each of them on."""
    generator = np.random.RandomState(1_000)
    levels = np.arange(1, n_steps + 1) / n_steps
    return [(np.sort(generator.lognormal(-5, 2, n_steps)), levels**0.5) for _ in range(n_tracks)]


def torch7_network(small: Mapping[str, Array]) -> Module:
    """Give DeepSEA as the Torch7 objects that its authors saved, kernels as matrices."""
    layers: list[Module] = []
    for number, key in enumerate(("0", "4", "8")):
        kernel = small[f"{key}.weight"]
        sizes = {"nInputPlane": kernel.shape[1], "nOutputPlane": len(kernel), "kW": 1, "kH": 8, "dW": 1, "dH": 1}
        fields = {"weight": kernel.reshape(len(kernel), -1), "bias": small[f"{key}.bias"]}
        layers += [Module("nn.SpatialConvolutionMM", sizes | fields), threshold()]
        pooling = {"kW": 1, "kH": 4, "dW": 1, "dH": 4, "padW": 0, "padH": 0}
        layers += [Module("nn.SpatialMaxPooling", pooling)] if number < 2 else []
        layers += [Module("nn.Dropout", {"p": 0.2 if number < 2 else 0.5, "train": False})]
    hidden, answers = (
        Module("nn.Linear", {"weight": small[f"{key}.weight"], "bias": small[f"{key}.bias"]})
        for key in ("12.1", "14.1")
    )
    reshape = Module("nn.Reshape", {"nelement": small["12.1.weight"].shape[1]})
    return sequential(*layers, reshape, hidden, threshold(), answers, Module("nn.Sigmoid"))


def threshold(value: float = 1e-6) -> Module:
    """Give Torch7's layer that puts a value in place of what is not above zero."""
    return Module("nn.Threshold", {"threshold": 0, "val": value, "inplace": False})


def turned(bases: Sequence[str]) -> list[str]:
    """Give the reverse complements."""
    return [text[::-1].translate(str.maketrans("ACGTacgt", "TGCAtgca")) for text in bases]
