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

import varfm
from varfm.genome import encode
from varfm.models import ModelOptions
from varfm.models.loading import described, filled
from varfm.scorers.measures import Measure
from varfm.session import SessionOptions
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
    return network.reduce(haplotype, b"", list(network(batch)))


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


def scores_of_command(model: str, config: object, folder: Path, names: Sequence[str]) -> list[NDArray[np.float64]]:
    """Score the shared changes as a user does, from a folder with weights and a table of tracks: (n, n_tracks) each."""
    fasta, vcf = folder / "c.fa", folder / "s.vcf"
    fasta.write_text(f">chr1\n{contig()}\n")
    rows = [f"chr1\t{pos}\t.\t{ref}\t{alt}\t.\t.\t.\n" for pos, ref, alt in snvs()]
    vcf.write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n" + "".join(rows))
    (folder / "config.json").write_text(json.dumps(described(config)))
    options = SessionOptions(
        "", None, model_options=ModelOptions(weights=folder, offline=True, scores=tuple(names)), device="cpu", threads=1
    )
    with varfm.score(str(vcf), str(fasta), model=model, options=options) as results:
        found = list(results)
    assert {result.status for result in found} == {"OK", "PADDED"}
    by_name = {
        name: np.array([[v for key, v in result.scores.items() if key.startswith(f"{name}_T")] for result in found])
        for name in names
    }
    return [by_name[name] for name in names]
