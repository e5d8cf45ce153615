"""How the tests of Basenji and Basenji2 read the shared windows and score the shared changes, cut by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basenji_inputs import contig, snvs
from numpy.typing import NDArray
from torch import Tensor, nn

from varfm.genome import encode
from varfm.models.loading import filled
from varfm.scorers.measures import Measure
from varfm.windows import Haplotype, Window

COMPLEMENT = bytes.maketrans(bytes(range(5)), bytes((3, 2, 1, 0, 4)))


def recorded(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[np.floating[Any]]]]:
    """Give what a fixture says of itself, and its arrays."""
    with np.load(path) as file:
        return json.loads(str(file["about"])), {name: file[name] for name in file.files if name != "about"}


def network_filled(network_of: type[nn.Module], config: object, state: Any, path: Path) -> nn.Module:
    """Build a network as `varfm.models.loading.loaded` does."""
    with torch.device("meta"):
        network = network_of(config)
    network = filled(network, state, path)
    if hasattr(network, "build_tables"):
        network.build_tables()
    return network


def answer(network: nn.Module, bases: str, strand: str = "+") -> Tensor:
    """Read one window on one strand: (n_bins, n_tracks), in forward orientation."""
    codes = encode(bases)
    haplotype = Haplotype(Window("chr1", 0, len(bases)), None, strand)
    sequence = codes.translate(COMPLEMENT)[::-1] if strand == "-" else codes
    rows = network.rows(sequence, haplotype)
    batch = torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8).reshape(len(rows), -1)
    return network.reduce(haplotype, list(network(batch)))


def answers(network: nn.Module, windows: Sequence[str]) -> NDArray[np.floating[Any]]:
    """Read windows on both strands: (2, n, n_bins, n_tracks)."""
    return np.stack([[answer(network, window, strand).numpy() for window in windows] for strand in "+-"])


def scores(network: nn.Module, measure: Measure, strands: str) -> NDArray[np.float64]:
    """Score the shared changes, answers averaged over strands: (n, n_tracks)."""
    assert measure.compare is not None
    length = int(network.length)
    bases, found = contig(), []
    for pos, ref, alt in snvs():
        window = ("N" * length + bases + "N" * length)[length + pos - length // 2 :][:length]
        index = length // 2 - 1
        assert window[index].upper() == ref
        pair = (window, window[:index] + alt + window[index + 1 :])
        means = [torch.stack([answer(network, w, strand).double() for strand in strands]).mean(0) for w in pair]
        found.append(measure.compare(*means).numpy())
    return np.stack(found)
