"""DeepSEA against its published code: the network in PyTorch, and the authors' whole package run by Torch7."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import deepsea_cases as cases
import numpy as np
import pytest
import torch
from deepsea_cases import DEEPSEA as CASE
from deepsea_files import write_sizes
from numpy.typing import NDArray
from toys import vcf_text
from writers import write_torch7

import varfm
from varfm.genome import encode, reverse_complement
from varfm.models import ModelOptions
from varfm.models.deepsea import DeepSea, DeepSeaConfig, convert
from varfm.models.loading import filled
from varfm.readers import read_tensors
from varfm.session import SessionOptions

Array = NDArray[Any]
RECORDED = Path(__file__).parent / "data" / "deepsea.npz"
SMALL = DeepSeaConfig(channels=CASE.small.channels, n_hidden=CASE.small.n_hidden, n_tracks=CASE.small.n_tracks)
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(RECORDED, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def write(path: Path, layout: str, weights: cases.Weights) -> Path:
    """Write weights as one of the published files has them."""
    if layout == "torch7":
        write_torch7(path, cases.torch7_network(weights))
    else:
        torch.save({layout + key: torch.from_numpy(values) for key, values in weights.items()}, path)
    return path


def network(path: Path, config: DeepSeaConfig) -> DeepSea:
    with torch.device("meta"):
        empty = DeepSea(config)
    return filled(empty, convert(read_tensors(path), config, path), path)


def codes(rows: list[int] | None = None) -> torch.Tensor:
    """Encode the sequences, then their other strands, as a genome does: (2 n, 1000)."""
    texts = cases.sequences(CASE.length)
    forward = [encode(texts[row]) for row in rows or range(len(texts))]
    both = [*forward, *map(reverse_complement, forward)]
    return torch.from_numpy(np.frombuffer(b"".join(both), np.uint8).reshape(len(both), -1).copy())


def check(found: torch.Tensor, expected: Array, tolerance: float) -> None:
    """Hold outputs against recorded ones, and these against being all alike."""
    scale = np.abs(expected).max()
    assert (expected.max(0) - expected.min(0)).max() >= 0.1 * scale
    assert np.abs(found.numpy() - expected).max() <= tolerance * scale


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layout", ["1.", "2.", "", "torch7"])
def test_log_odds_are_those_of_the_published_code(
    layout: str, dtype: str, recorded: dict[str, Array], tmp_path: Path
) -> None:
    net = network(write(tmp_path / "weights", layout, cases.weights(CASE, CASE.small)), SMALL)
    found = net.to(getattr(torch, dtype)).logits(codes())
    check(found, recorded[f"small_{dtype}"], TOLERANCE[dtype])


def test_strand_means_of_probabilities_are_those_of_kipoi(recorded: dict[str, Array], tmp_path: Path) -> None:
    net = network(write(tmp_path / "weights.pth", "2.", cases.weights(CASE, CASE.small)), SMALL)
    forward, reverse = net(codes()).chunk(2)
    check((forward + reverse) / 2, recorded["small_means"], 1e-5)


@pytest.mark.slow
def test_log_odds_of_the_published_widths_are_those_of_the_published_code(
    recorded: dict[str, Array], tmp_path: Path
) -> None:
    net = network(write(tmp_path / "deepsea.cpu", "torch7", cases.weights(CASE, CASE.full)), DeepSeaConfig())
    batch, tracks = codes(cases.SHOWN_ROWS), cases.shown_tracks(CASE)
    check(net.logits(batch)[:, tracks], recorded["full_float32"], 1e-5)
    forward, reverse = net(batch)[:, tracks].chunk(2)
    check((forward + reverse) / 2, recorded["full_means"], 1e-5)
    check(net.double().logits(batch)[:, tracks], recorded["full_float64"], 1e-10)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out a folder as the authors' package has it, with a small network and a drawn background."""
    folder = tmp_path_factory.mktemp("DeepSEA-v0.94b")
    write(folder / "deepsea.cpu", "torch7", cases.weights(CASE, CASE.small))
    write_sizes(folder, SMALL)
    ecdfs = folder / "resources" / "ecdfs"
    ecdfs.mkdir(parents=True)
    for track, (effects, levels) in enumerate(cases.backgrounds(SMALL.n_tracks)):
        np.save(ecdfs / f"ecdf_difflogdiff.rescaled.pkl_{2 * track + 1:02d}.npy", np.r_[0.0, levels])
        np.save(ecdfs / f"ecdf_difflogdiff.rescaled.pkl_{2 * track + 2:02d}.npy", np.r_[-np.inf, effects])
    return folder


@pytest.fixture(scope="module")
def scores(package: Path) -> dict[str, Array]:
    """Score the SNVs with varfm: (SNVs, tracks) by the name of the score."""
    (package / "genome.fa").write_text(f">{cases.CONTIG}\n{cases.genome()}\n")
    (package / "in.vcf").write_text(vcf_text([(cases.CONTIG, pos, ref, alt) for pos, ref, alt in cases.snvs()]))
    names = ("DIFF", "LOGODDS", "EVALUE")
    options = SessionOptions(
        "", None, model_options=ModelOptions(weights=package, scores=names, offline=True), device="cpu", threads=1
    )
    with varfm.score(str(package / "in.vcf"), str(package / "genome.fa"), model="deepsea", options=options) as results:
        rows = [result.scores for result in results]
    return {name: np.array([[row[f"{name}_T{n}"] for n in range(20)] for row in rows]) for name in names}


@pytest.mark.parametrize(("score", "table"), [("DIFF", "diff"), ("LOGODDS", "logfoldchange"), ("EVALUE", "evalue")])
def test_scores_of_snvs_are_those_of_the_authors_package(
    score: str, table: str, scores: dict[str, Array], recorded: dict[str, Array]
) -> None:
    expected = recorded[f"snv_{table}"]
    assert expected.shape == (8, 20)
    assert expected.std() > 0.1 * np.abs(expected).max()
    assert np.abs(scores[score] - expected).max() <= 1e-3 * np.abs(expected).max()
