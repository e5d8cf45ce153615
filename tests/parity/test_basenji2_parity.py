"""Basenji2 against the authors' own code, before and after their GELU changed, and against the PyTorch port."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basenji_inputs import POSITIONS, windows
from basenji_reading import answers, network_filled, recorded, scores, scores_of_command
from drawing import drawn
from numpy.typing import NDArray
from record_basenji2 import COMMITS, DATA, GAIN, NAMES, SEED, SIZES
from torch import nn

from varfm.models.basenji2 import Basenji2, Basenji2Config, convert
from varfm.readers import Tensors, read_tensors
from varfm.scorers.measures import D1, D2, SAD, SADR, SAR, Measure

CONFIG = Basenji2Config(**SIZES)
FORMS = {"0.5": "sigmoid", "master": "tanh"}


def keras_file(version: str, folder: Path) -> Path:
    """Unpack the file that Keras saved of the authors' network."""
    path = folder / "model.h5"
    path.write_bytes(gzip.decompress((DATA / f"{NAMES[version]}.h5.gz").read_bytes()))
    return path


def network(version: str, folder: Path) -> Any:
    path = keras_file(version, folder)
    return network_filled(Basenji2, CONFIG, convert(read_tensors(path), CONFIG, path), path)


def fixture(version: str) -> Path:
    return DATA / f"{NAMES[version]}.npz"


@pytest.mark.parametrize("version", COMMITS)
def test_fixture_says_where_it_comes_from_and_holds_the_drawn_weights(version: str, tmp_path: Path) -> None:
    about, _ = recorded(fixture(version))
    assert about["commit"] == COMMITS[version]
    tensors = read_tensors(keras_file(version, tmp_path))
    weights = drawn(about["shapes"], SEED, "tf", GAIN)
    assert {key.split("/", 1)[1] for key in tensors} == weights.keys()
    assert all(np.array_equal(tensors[key], weights[key.split("/", 1)[1]]) for key in tensors)


@pytest.mark.parametrize("version", COMMITS)
def test_answers_equal_the_authors_on_both_strands(version: str, tmp_path: Path) -> None:
    _, arrays = recorded(fixture(version))
    expected = arrays["answers"]
    scale = np.abs(expected).max()
    assert expected.shape == (2, 6, CONFIG.n_bins, CONFIG.n_tracks)
    assert np.ptp(expected[0], axis=0).max() >= 0.1 * scale
    ours = network(version, tmp_path)
    assert ours.gelu.form == FORMS[version]
    assert np.abs(answers(ours, windows(CONFIG.length)) - expected).max() <= 1e-5 * scale


def test_the_forms_of_the_gelu_can_be_told_apart() -> None:
    sigmoid, tanh = (recorded(fixture(version))[1]["answers"] for version in FORMS)
    assert np.abs(sigmoid - tanh).max() >= 0.01 * np.abs(sigmoid).max()


def test_a_form_that_was_asked_for_comes_before_that_of_the_file(tmp_path: Path) -> None:
    path = keras_file("0.5", tmp_path)
    config = Basenji2Config(**SIZES, gelu="tanh")
    ours = network_filled(Basenji2, config, convert(read_tensors(path), config, path), path)
    expected = recorded(fixture("master"))[1]["answers"]
    assert np.abs(answers(ours, windows(CONFIG.length)) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("strands", ["+", "+-"])
@pytest.mark.parametrize(
    ("version", "measure", "theirs"),
    [
        ("0.5", SAD, "SAD"), ("0.5", SADR, "SADR"), ("0.5", SAR, "SAR"),
        ("master", D1, "D1"), ("master", D2, "D2"),
    ],
    ids=lambda value: value.name if isinstance(value, Measure) else value,
)  # fmt: skip
def test_scores_equal_the_authors_variant_script(
    version: str, measure: Measure, theirs: str, strands: str, tmp_path: Path
) -> None:
    _, arrays = recorded(fixture(version))
    expected = arrays[f"{theirs}_{'both' if len(strands) == 2 else 'forward'}"].astype(np.float64)
    found = scores(network(version, tmp_path), measure, strands)
    assert found.shape == expected.shape == (len(POSITIONS), CONFIG.n_tracks)
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def test_scores_of_a_run_equal_the_authors_variant_script(tmp_path: Path) -> None:
    _, arrays = recorded(fixture("0.5"))
    keras_file("0.5", tmp_path).rename(tmp_path / "model_human.h5")
    header = "index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription\n"
    rows = [f"{number}\t0\tENC{number}\tf\t32\t2\tmean\tCAGE:cell {number}\n" for number in range(CONFIG.n_tracks)]
    (tmp_path / "targets_human.txt").write_text(header + "".join(rows))
    names = ("SAD", "SADR", "SAR")
    for name, found in zip(names, scores_of_command("basenji2", CONFIG, tmp_path, names), strict=True):
        expected = arrays[f"{name}_both"]
        assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def port_network(folder: Path, form: str) -> nn.Module:
    about, _ = recorded(DATA / "basenji2_port.npz")
    weights = port_weights(about["shapes"])
    path = folder / "basenji2.pth"
    torch.save({key: torch.from_numpy(value) for key, value in weights.items()}, path)
    config = Basenji2Config(**SIZES, gelu=form)
    return network_filled(Basenji2, config, convert(read_tensors(path), config, path), path)


def port_weights(shapes: dict[str, list[int]]) -> dict[str, NDArray[Any]]:
    counts = {key: np.zeros((), np.int64) for key in shapes if key.endswith("num_batches_tracked")}
    return drawn({key: shape for key, shape in shapes.items() if key not in counts}, SEED, gain=GAIN) | counts


def test_weights_of_the_port_give_its_answers_with_its_form_of_the_gelu(tmp_path: Path) -> None:
    _, arrays = recorded(DATA / "basenji2_port.npz")
    ours = port_network(tmp_path, "erf")
    for expected, tolerance in ((arrays["single"], 1e-5), (arrays["double"], 1e-10)):
        read = answers(ours, windows(CONFIG.length))[0]
        assert read.dtype == expected.dtype
        assert np.abs(read - expected).max() <= tolerance * np.abs(expected).max()
        ours = ours.double()


def test_weights_of_the_port_keep_the_form_that_they_were_trained_with(tmp_path: Path) -> None:
    ours = port_network(tmp_path, "auto")
    assert {module.form for module in ours.modules() if hasattr(module, "form")} == {"sigmoid"}


def test_layers_are_found_whatever_number_their_names_start_with(tmp_path: Path) -> None:
    path = keras_file("0.5", tmp_path)
    tensors = read_tensors(path)
    expected = convert(tensors, CONFIG, path)
    moved = {shifted(key): value for key, value in tensors.items()}
    for facts in ({}, {"layer_names": "\n".join(shifted(name) for name in tensors.facts["layer_names"].split("\n"))}):
        found = convert(Tensors(path, moved, facts), CONFIG, path)
        assert all(np.array_equal(found[key], expected[key]) for key in expected)


def shifted(key: str) -> str:
    """Let numbers start at 40, as in a process that built other networks before."""
    layer, _, rest = key.partition("/")
    kind, _, number = layer.rpartition("_")
    name = f"{kind}_{int(number) + 40}" if number.isdecimal() else f"{layer}_40"
    return f"{name}/{rest}" if rest else name


def test_the_order_of_the_file_comes_before_that_of_the_numbers(tmp_path: Path) -> None:
    path = keras_file("0.5", tmp_path)
    tensors = read_tensors(path)
    listed = str(tensors.facts["layer_names"]).split("\n")
    swapped = {"conv1d_8": "conv1d_10", "conv1d_10": "conv1d_8"}
    renamed = {
        key.replace(layer, swapped.get(layer, layer)): v for key, v in tensors.items() for layer in [key.split("/")[0]]
    }
    facts = {"layer_names": "\n".join(swapped.get(name, name) for name in listed)}
    expected, found = (convert(t, CONFIG, path) for t in (read_tensors(path), Tensors(path, renamed, facts)))
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    wrong = convert(Tensors(path, renamed), CONFIG, path)
    assert not np.array_equal(wrong["returned.0.conv.weight"], expected["returned.0.conv.weight"])
