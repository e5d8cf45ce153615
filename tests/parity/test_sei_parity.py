"""Sei against the authors' network, Selene's windows and the authors' class scores (`data/sei.json`)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import record_sei as recorded
import torch
from numpy.typing import NDArray
from record_sei import LENGTH, N_CLUSTERS, N_TRACKS, SCORED

from varfm.genome import Genome, decode, encode, reverse_complement
from varfm.models.loading import loaded
from varfm.models.sei import Sei, SeiConfig, convert
from varfm.models.sei_classes import CLASSES
from varfm.normalise import normalise
from varfm.scorers.classes import ClassScorer, Projection
from varfm.scorers.placement import Centred
from varfm.scorers.selene import SeleneWindows, copied
from varfm.variants import Variant
from varfm.weights import LocalWeights
from varfm.windows import Site

FIXTURE: dict[str, Any] = json.loads(recorded.DATA.read_text())
CONFIG = SeiConfig(n_tracks=N_TRACKS)
LABELS = tuple(item.label for item in CLASSES)

Array = NDArray[Any]


def upstream_file(folder: Path) -> Path:
    """Write the weights as upstream published them: behind the names of two wrappers."""
    path = folder / "sei.pth"
    torch.save({f"module.model.{name}": torch.from_numpy(value) for name, value in recorded.weights().items()}, path)
    return path


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Sei:
    path = upstream_file(tmp_path_factory.mktemp("sei"))
    torch.set_num_threads(1)
    found = loaded(lambda: Sei(CONFIG), LocalWeights(path, "", False), lambda t, p: convert(t, CONFIG, p))
    path.unlink()
    return found


def rows(letters: list[str]) -> list[bytes]:
    """Give the base codes of windows, then those of their other strands."""
    forward = [encode(text) for text in letters]
    return [*forward, *map(reverse_complement, forward)]


def batch(codes: list[bytes]) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(b"".join(codes), np.uint8).reshape(len(codes), -1).copy())


def test_recorded_outputs_differ_between_windows_and_strands() -> None:
    outputs = np.array(FIXTURE["network"]["float64_logits"])
    scale = np.abs(outputs).max()
    assert np.abs(outputs[0] - outputs[1]).max() > 0.1 * scale
    assert np.abs(outputs[0] - outputs[2]).max() > 0.01 * scale
    probabilities = np.array(FIXTURE["network"]["float64_mean"])
    assert probabilities.min() < 0.2 and probabilities.max() > 0.8


def test_logits_equal_the_authors_network(network: Sei) -> None:
    """Two windows, one with N and lower case, and the other strand of that one."""
    chosen = [0, 1, 2]
    expected = np.array(FIXTURE["network"]["float32_logits"])[chosen]
    with torch.inference_mode():
        found = network.logits(batch([rows(recorded.windows())[index] for index in chosen])).numpy()
    assert np.abs(found - expected).max() <= 5e-5 * np.abs(expected).max()
    both = 1 / (1 + np.exp(-found[[0, 2]].astype(np.float64)))
    assert both.mean(0) == pytest.approx(FIXTURE["network"]["float32_mean"][0], abs=2e-6)


@pytest.mark.slow
def test_logits_and_strand_means_equal_the_authors_network_in_float64(network: Sei) -> None:
    expected = np.array(FIXTURE["network"]["float64_logits"])
    double = network.double()
    try:
        with torch.inference_mode():
            inputs = batch(rows(recorded.windows()))
            found, probabilities = double.logits(inputs).numpy(), double(inputs).numpy()
    finally:
        network.float()
    assert np.abs(found - expected).max() <= 1e-10 * np.abs(expected).max()
    means = (probabilities[:2] + probabilities[2:]) / 2
    assert np.abs(means - np.array(FIXTURE["network"]["float64_mean"])).max() <= 1e-10


def scorer_of(placement: Centred) -> ClassScorer:
    vectors, histones = recorded.projection()
    return ClassScorer(
        placement,
        Projection(torch.from_numpy(vectors), torch.from_numpy(histones), LABELS),
        ("CLASS", "RAW", "MAX_ABS"),
    )


def test_class_scores_equal_the_authors_on_random_profiles() -> None:
    scorer = scorer_of(Centred(LENGTH, 2047, "forward"))
    site = Site(Variant("c", 5, "A", "C"), Variant("c", 5, "A", "C"))
    expected = FIXTURE["classes"]
    for number, (ref, alt) in enumerate(zip(*recorded.profiles(), strict=True)):
        values = scorer.score(site, [torch.from_numpy(ref), torch.from_numpy(alt)]).numpy()
        classes, raw, largest = values[:40], values[40 : 40 + 2 * N_CLUSTERS], values[40 + 2 * N_CLUSTERS]
        assert classes == pytest.approx(expected["class"][number], rel=0, abs=1e-12)
        assert raw.tolist() == pytest.approx(
            [*expected["raw"][0][number], *expected["raw"][1][number]], rel=0, abs=1e-12
        )
        assert largest == pytest.approx(expected["max_abs"][number], rel=0, abs=1e-12)
        assert values[-2] == pytest.approx(max(expected["class"][number], key=abs), rel=0, abs=1e-12)
        assert values[-1] == np.argmax(expected["raw"][0][number][:40])


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    folder = tmp_path_factory.mktemp("genome")
    (folder / "c.fa").write_text(f">c\n{recorded.contig()}\n")
    return Genome(folder / "c.fa", folder / "cache")


def site_of(genome: Genome, record: tuple[int, str, str]) -> Site:
    pos, ref, alt = record
    return Site(*normalise(Variant("c", pos - 1, ref, alt), genome.codes("c")))


def read(genome: Genome, placement: Centred, site: Site) -> list[bytes]:
    return [copied(genome.sequence(haplotype), haplotype) for haplotype in placement.haplotypes(site)]


def digest(codes: bytes) -> str:
    return hashlib.sha256(decode(codes).encode()).hexdigest()[:32]


@pytest.mark.parametrize("number", range(len(recorded.records())))
def test_compat_selene_reads_what_selene_reads(number: int, genome: Genome) -> None:
    site = site_of(genome, recorded.records()[number])
    ref, ref_turned, alt, alt_turned = read(genome, SeleneWindows(LENGTH, 2047), site)
    expected = FIXTURE["selene"][number]
    assert decode(alt)[2028:2068] == expected["middle"]
    assert (digest(ref), digest(alt)) == (expected["ref"], expected["alt"])
    assert (ref_turned, alt_turned) == (reverse_complement(ref), reverse_complement(alt))


def test_right_placement_differs_from_selene_in_deletions_but_not_in_snvs(genome: Genome) -> None:
    for number, (_, ref, alt) in enumerate(recorded.records()):
        site, expected = site_of(genome, recorded.records()[number]), FIXTURE["selene"][number]
        found = digest(read(genome, Centred(LENGTH, 2047), site)[2])
        if len(ref) == len(alt) == 1:
            assert found == expected["alt"]
        if len(ref) > len(alt):
            assert found != expected["alt"]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-3)], ids=str)
def test_scores_of_alleles_equal_selene_and_the_authors_projection(
    network: Sei, genome: Genome, dtype: torch.dtype, tolerance: float
) -> None:
    """Of the largest score; upstream ran in float64."""
    placement = SeleneWindows(LENGTH, 2047)
    scorer, expected = scorer_of(placement), np.array(FIXTURE["scores"]["class"])
    found = []
    try:
        for number in SCORED:
            site = site_of(genome, recorded.records()[number])
            with torch.inference_mode():
                answers = network.to(dtype)(batch(read(genome, placement, site)))
            found.append(scorer.score(site, list(answers)).numpy()[:40])
    finally:
        network.float()
    assert np.abs(np.array(found) - expected).max() <= tolerance * np.abs(expected).max()
