"""Basenji against the authors' own code, tag 0.1 and branch tf1, on the checkpoints that TensorFlow 1 wrote."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from basenji_inputs import POSITIONS, windows
from basenji_reading import answers, network_filled, recorded, scores, scores_of_command
from drawing import drawn
from record_basenji import COMMITS, DATA, NAMES, SEED, SIZES
from torch import nn

from varfm.models.basenji import Basenji, BasenjiConfig, convert
from varfm.readers import read_tensors
from varfm.scorers.measures import SAD, SADR, SAR, Measure

CONFIG = BasenjiConfig(**SIZES)
TRAINED = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


def network(version: str) -> nn.Module:
    path = DATA / f"{NAMES[version]}.tf.index"
    return network_filled(Basenji, CONFIG, convert(read_tensors(path), CONFIG, path), path)


def fixture(version: str) -> Path:
    return DATA / f"{NAMES[version]}.npz"


@pytest.mark.parametrize("version", COMMITS)
def test_fixture_says_where_it_comes_from_and_holds_the_drawn_weights(version: str) -> None:
    about, _ = recorded(fixture(version))
    assert about["commit"] == COMMITS[version]
    tensors = read_tensors(DATA / f"{NAMES[version]}.tf.index")
    trained = {key: shape for key, shape in about["shapes"].items() if key.split("/")[-1] in TRAINED}
    for key, values in drawn(trained, SEED, "tf").items():
        assert np.array_equal(tensors[key], values), key


@pytest.mark.parametrize(("version", "spelling"), [("0.1", "conv1d"), ("tf1", "dense")])
def test_the_graph_names_its_variables_as_we_expect(version: str, spelling: str) -> None:
    about, _ = recorded(fixture(version))
    trained = {key for key in about["shapes"] if key.split("/")[-1] in TRAINED}
    block = ["conv1d/kernel", *(f"batch_normalization/{name}" for name in TRAINED[2:])]
    expected = {f"cnn{number}/{name}" for number in range(len(CONFIG.channels)) for name in block}
    assert trained == expected | {f"final/{spelling}/kernel", f"final/{spelling}/bias"}
    assert (
        version != "0.1"
        or {"beta1_power", "cnn0/conv1d/kernel/Adam", "final/conv1d/bias/Adam_1"} <= about["shapes"].keys()
    )


@pytest.mark.parametrize("version", COMMITS)
def test_answers_equal_the_authors_on_both_strands(version: str) -> None:
    _, arrays = recorded(fixture(version))
    expected = arrays["answers"]
    scale = np.abs(expected).max()
    assert expected.shape == (2, 6, CONFIG.n_bins, CONFIG.n_tracks)
    assert np.ptp(expected[0], axis=0).max() >= 0.1 * scale
    assert np.abs(answers(network(version), windows(CONFIG.length)) - expected).max() <= 1e-5 * scale


def test_both_versions_of_the_authors_code_give_the_same_numbers() -> None:
    old, new = (recorded(fixture(version))[1]["answers"] for version in ("0.1", "tf1"))
    assert np.abs(old - new).max() <= 1e-5 * np.abs(old).max()


@pytest.mark.parametrize("strands", ["+", "+-"])
@pytest.mark.parametrize(
    ("measure", "theirs"), [(SAD, "SAD"), (SADR, "SAR"), (SAR, "geoSAD")], ids=lambda v: str(getattr(v, "name", v))
)
def test_scores_equal_the_authors_variant_script(measure: Measure, theirs: str, strands: str) -> None:
    _, arrays = recorded(fixture("tf1"))
    expected = arrays[f"{theirs}_{'both' if len(strands) == 2 else 'forward'}"].astype(np.float64)
    found = scores(network("tf1"), measure, strands)
    assert found.shape == expected.shape == (len(POSITIONS), CONFIG.n_tracks)
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def test_scores_of_a_run_equal_the_authors_variant_script(tmp_path: Path) -> None:
    _, arrays = recorded(fixture("tf1"))
    for suffix in ("index", "data-00000-of-00001"):
        shutil.copy(DATA / f"{NAMES['tf1']}.tf.{suffix}", tmp_path / f"model.tf.{suffix}")
    tracks = [f"ENC{number}\tpath\tDNASE:cell {number}\n" for number in range(CONFIG.n_tracks)]
    (tmp_path / "sample_wigs.txt").write_text("".join(tracks))
    run = scores_of_command("basenji", CONFIG, tmp_path, ("SAD", "SADR", "SAR"))
    for found, theirs in zip(run, ("SAD", "SAR", "geoSAD"), strict=True):
        expected = arrays[f"{theirs}_both"]
        assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()
