"""ExPecto against numbers that the authors' scripts gave: windows, inputs of the linear models, predictions."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from record_expecto import (
    ALLELES,
    DATA,
    DISTANCES,
    N_FEATURES,
    SAMPLED,
    SHIFTS,
    STRANDS,
    drawn_effects,
    drawn_genome,
    window_digest,
    write_models,
)
from toys import by_allele_and_strand, gene, write_fasta

from varfm.genome import Genome, decode
from varfm.models import expecto
from varfm.models.columns import COLUMNS
from varfm.models.expecto import DECAY, Tissues, read_tissues
from varfm.scorers.matrix import TrackName
from varfm.scorers.shifted import Shifted, ShiftedScorer
from varfm.variants import Variant
from varfm.windows import Site

RECORDED = json.loads(DATA.read_text())
PREDICTIONS = np.array(RECORDED["predictions_float64"])
SCALE = np.abs(PREDICTIONS).max()

PLACEMENT = Shifted(2_000, 999, expecto.SHIFTS, expecto.MAX_DISTANCE)

UPSTREAM = Path(os.environ.get("VARFM_EXPECTO_FOLDER", ""))
needs_upstream = pytest.mark.skipif(
    "VARFM_EXPECTO_FOLDER" not in os.environ,
    reason="set VARFM_EXPECTO_FOLDER to a clone of github.com/FunctionLab/ExPecto, whose licence forbids copies here",
)


def scorer_of(tissues: Tissues) -> ShiftedScorer:
    names = tuple(TrackName(track.index, track.name) for track in tissues.tracks)
    return ShiftedScorer(PLACEMENT, DECAY, tissues.linear, names, COLUMNS["expecto"][0])


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> ShiftedScorer:
    return scorer_of(read_tissues(write_models(tmp_path_factory.mktemp("expecto")), {}, N_FEATURES))


def site_of(distance: int, strand: str) -> Site:
    """Make a site whose allele lies `distance` bases right of the TSS."""
    variant = Variant("c", 50_000, "A", "C")
    return Site(variant, variant, gene(50_000 - distance, strand))


def answers_of(effects: NDArray[np.float32], number: int) -> list[torch.Tensor]:
    """Turn upstream's differences of one variant into answers, those of the reference being 0."""
    half, answers = effects.shape[1] // 2, []
    for shift in range(len(SHIFTS)):
        strands = [torch.from_numpy(effects[shift, row]) for row in (number, half + number)]
        answers += [torch.zeros_like(strands[0])] * 2 + strands
    return by_allele_and_strand(answers, SHIFTS)


DRAWN = [*enumerate(zip(DISTANCES, STRANDS, strict=True))]


def test_shifts_come_in_upstreams_order() -> None:
    assert expecto.SHIFTS == SHIFTS


def test_recorded_predictions_differ_between_variants() -> None:
    assert (np.ptp(PREDICTIONS, axis=0) > 0.1 * SCALE).all()
    assert len(np.unique(PREDICTIONS)) == PREDICTIONS.size


def test_inputs_of_the_linear_models_equal_upstreams(scorer: ShiftedScorer) -> None:
    effects, wanted = drawn_effects(), np.array(RECORDED["inputs"])
    for number, place in DRAWN:
        found = scorer.inputs(site_of(*place), answers_of(effects, number)).numpy()[:, SAMPLED]
        np.testing.assert_allclose(found, wanted[number], rtol=1e-10, atol=1e-14)


def test_predictions_equal_upstreams(scorer: ShiftedScorer) -> None:
    effects = drawn_effects()
    found = [scorer.score(site_of(*place), answers_of(effects, number)).numpy()[:3] for number, place in DRAWN]
    np.testing.assert_allclose(found, PREDICTIONS, rtol=0, atol=1e-10 * SCALE)
    # xgboost adds 20,030 products to the base score of 2 one by one in float32.
    np.testing.assert_allclose(found, np.array(RECORDED["predictions_xgboost"]), rtol=0, atol=5e-5)


def test_windows_of_snvs_are_upstreams(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path, {"c": drawn_genome()})
    with Genome(fasta, tmp_path / "cache") as genome:
        for (start, ref, alt), wanted in zip(ALLELES, RECORDED["windows"], strict=True):
            variant = Variant("c", start, ref, alt)
            pairs = PLACEMENT.pairs(Site(variant, variant))
            found = [window_digest(decode(genome.sequence(haplotype))) for pair in pairs for haplotype in pair]
            assert found == wanted


EXAMPLE_SHA256 = {
    0: "a782152999e304ec8fe96a24f61a5c22c361291c7df46d1a2fe231e1c76fe47c",
    200: "4df14f3a1b8e05dd565df2c1b41365483883c7f1b6d9bc35a02a231c4508ade5",
    400: "bbb377456b8fd7f7266d640f25c793395c45f532ec2fa2116c55e0d8c9839ccc",
    600: "9b930b3314f37cc008e2197c29cfc219835841edd147a4509c6e270fc6f37cc0",
    800: "e2502492de91e810e2a67e26354ab37ec09f4c34cb66a84bc4899b482b577ed0",
    -200: "26ae90fd525380b6c1362c00af2d92ca1d25e81d17de91793853c94cd75a78c0",
    -400: "a86f0d020c7d532d6b32bdafe192bfca6e663280b28f72e017c1f240bed5f206",
    -600: "7059ecaf140541cfa78864e541be6c2cd62caa21d4a8c0b1cbf8908020a5bb88",
    -800: "5b3d9c501029a79010461b3c62711c3633c862f6aa59f8b89c0641643d87e0d1",
}
"""Of `example/example.vcf.shift_{shift}.diff.h5`."""

EXAMPLE_PREDICTIONS = {
    0: (.0068367, .0001647, -.0030421, .003391, -.0086532, -.0093231, -.0103434, .0035991, .0512056, -.0114419),
    67: (-.0023944, -.0028873, -.0007758, -.0001814, .0095836, -.0066649, -.0052912, .0058575, .113137, -.0088608),
    217: (.0005151, -.0045989, -.0016213, .003887, .008854, -.0053536, -.0061588, .004935, .0715047, -.0065572),
}  # fmt: skip
"""Tissue index to the ten variants, from the authors' files and confirmed with xgboost 1.7.6."""


def example_effects() -> NDArray[np.float32]:
    """Read upstream's differences of the ten variants, (shifts, 20, features), after checking the files."""
    effects = []
    for shift in SHIFTS:
        path = UPSTREAM / "example" / f"example.vcf.shift_{shift}.diff.h5"
        assert hashlib.sha256(path.read_bytes()).hexdigest() == EXAMPLE_SHA256[shift], path
        with h5py.File(path) as file:
            effects.append(file["pred"][...])
    return np.stack(effects)


def example_places() -> list[tuple[int, str]]:
    """Read where the ten variants lie: bases right of the TSS, and the gene's strand."""
    lines = (UPSTREAM / "example" / "example.vcf.bed.sorted.bed.closestgene").read_text().splitlines()
    return [(-int(fields[-1]), fields[-3]) for fields in (line.split("\t") for line in lines)]


@needs_upstream
def test_the_authors_example_gives_the_published_models_predictions() -> None:
    listed = UPSTREAM / "resources" / "modellist"
    expected = "963ac4fb1dee5fbb4669dacfe601f75ee8d0daa95b8c08698edc030f0a09a825"
    assert hashlib.sha256(listed.read_bytes()).hexdigest() == expected
    tissues = read_tissues(listed, {}, N_FEATURES)
    names = [track.name for track in tissues.tracks]
    assert (len(names), names[0], names[67]) == (218, "Adipose Subcutaneous", "Daoy")
    scorer, effects, places = scorer_of(tissues), example_effects(), example_places()
    found = np.array(
        [
            scorer.score(site_of(*place), answers_of(effects, number)).numpy()[:218]
            for number, place in enumerate(places)
        ]
    )
    for tissue, wanted in EXAMPLE_PREDICTIONS.items():
        np.testing.assert_allclose(found[:, tissue], wanted, rtol=0, atol=5e-5)
    assert found.sum() == pytest.approx(9.947155, abs=1e-6)
    assert np.unravel_index(np.abs(found).argmax(), found.shape) == (8, 67)
