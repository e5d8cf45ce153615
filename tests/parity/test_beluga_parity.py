"""Beluga against ExPecto's own class and its script of chromatin effects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepsea_cases as cases
import numpy as np
import pytest
import torch
from deepsea_cases import BELUGA as CASE
from deepsea_files import write_folder
from numpy.typing import NDArray
from toys import vcf_text

import varfm
from varfm.genome import encode, reverse_complement
from varfm.models import ModelOptions
from varfm.models.deepsea import Beluga, BelugaConfig, convert
from varfm.models.loading import filled
from varfm.readers import read_tensors
from varfm.session import SessionOptions

Array = NDArray[Any]
RECORDED = Path(__file__).parent / "data" / "beluga.npz"
SMALL = BelugaConfig(channels=CASE.small.channels, n_hidden=CASE.small.n_hidden, n_tracks=CASE.small.n_tracks)
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
SHIFTS = (0, -200, -400, -600, -800, 200, 400, 600, 800)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(RECORDED, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def network(path: Path, weights: cases.Weights, config: BelugaConfig) -> Beluga:
    torch.save({key: torch.from_numpy(values) for key, values in weights.items()}, path)
    with torch.device("meta"):
        empty = Beluga(config)
    return filled(empty, convert(read_tensors(path), config, path), path)


def codes(sequences: list[bytes]) -> torch.Tensor:
    """Put sequences, then their other strands, into one batch: (2 n, 2000)."""
    both = [*sequences, *map(reverse_complement, sequences)]
    return torch.from_numpy(np.frombuffer(b"".join(both), np.uint8).reshape(len(both), -1).copy())


def check(found: torch.Tensor, expected: Array, tolerance: float) -> None:
    """Hold outputs against recorded ones, and these against being all alike."""
    scale = np.abs(expected).max()
    assert (expected.max(0) - expected.min(0)).max() >= 0.1 * scale
    assert np.abs(found.numpy() - expected).max() <= tolerance * scale


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_odds_are_those_of_the_authors_class(dtype: str, recorded: dict[str, Array], tmp_path: Path) -> None:
    net = network(tmp_path / "deepsea.beluga.pth", cases.weights(CASE, CASE.small), SMALL)
    batch = codes([encode(text) for text in cases.sequences(CASE.length)])
    found = net.to(getattr(torch, dtype)).logits(batch)
    check(found, recorded[f"small_{dtype}"], TOLERANCE[dtype])


@pytest.mark.slow
def test_log_odds_of_the_published_widths_are_those_of_the_authors_class(
    recorded: dict[str, Array], tmp_path: Path
) -> None:
    net = network(tmp_path / "deepsea.beluga.pth", cases.weights(CASE, CASE.full), BelugaConfig())
    texts, tracks = cases.sequences(CASE.length), cases.shown_tracks(CASE)
    batch = codes([encode(texts[row]) for row in cases.SHOWN_ROWS])
    check(net.logits(batch)[:, tracks], recorded["full_float32"], 1e-5)
    check(net.double().logits(batch)[:, tracks], recorded["full_float64"], 1e-10)


def test_shifted_windows_have_the_effects_of_the_authors_script(recorded: dict[str, Array], tmp_path: Path) -> None:
    net = network(tmp_path / "deepsea.beluga.pth", cases.weights(CASE, CASE.small), SMALL)
    bases = cases.genome()
    for shift, expected in zip(SHIFTS, recorded["snv_diff"], strict=True):
        starts = [pos - 1 - (999 - shift) for pos, _, _ in cases.snvs()]
        refs = [bases[start : start + CASE.length] for start in starts]
        alts = [
            text[: 999 - shift] + alt + text[1000 - shift :]
            for text, (_, _, alt) in zip(refs, cases.snvs(), strict=True)
        ]
        difference = net(codes(list(map(encode, alts)))) - net(codes(list(map(encode, refs))))
        assert expected.shape == (16, 20)
        assert np.abs(expected).max() > 0.01
        assert np.abs(difference.numpy() - expected).max() <= 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize(("strands", "rows"), [("forward", slice(0, 8)), ("both", slice(0, 16))])
def test_scores_of_snvs_are_the_authors_differences(
    strands: Any, rows: slice, recorded: dict[str, Array], tmp_path: Path
) -> None:
    write_folder(tmp_path, SMALL, cases.weights(CASE, CASE.small))
    (tmp_path / "genome.fa").write_text(f">{cases.CONTIG}\n{cases.genome()}\n")
    vcf = tmp_path / "in.vcf"
    vcf.write_text(vcf_text([(cases.CONTIG, pos, ref, alt) for pos, ref, alt in cases.snvs()]))
    chosen = ModelOptions(weights=tmp_path, scores=("DIFF",), strands=strands, offline=True)
    options = SessionOptions("", None, model_options=chosen, device="cpu", threads=1)
    with varfm.score(str(vcf), str(tmp_path / "genome.fa"), model="beluga", options=options) as results:
        found = np.array([[result.scores[f"DIFF_T{n}"] for n in range(20)] for result in results], np.float64)
    expected = recorded["snv_diff"][0][rows].reshape(-1, 8, 20).mean(0)
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
