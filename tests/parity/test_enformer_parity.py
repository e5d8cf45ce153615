"""Enformer against the authors' Sonnet code, whose answers `record_enformer.py` wrote down."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawing import drawn
from enformer_cases import FULL, N_VARIANTS, PORT, SEED, SHORT, Case
from numpy.typing import NDArray
from writers import write_tf_bundle

from varfm.genome import encode
from varfm.models.enformer import Enformer, EnformerConfig, convert
from varfm.models.enformer_layers import position_features
from varfm.models.loading import filled
from varfm.readers import read_tensors

DATA = Path(__file__).parent / "data"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
N_TRACKS = {"human": 5313, "mouse": 1643}
TOLERANCE = 1e-5

Fixture = dict[str, NDArray[Any]]


@cache
def recorded(name: str) -> Fixture:
    with np.load(DATA / name) as file:
        return {key: file[key] for key in file.files}


def config(case: Case, head: str) -> EnformerConfig:
    return EnformerConfig(
        head=head,
        n_tracks=N_TRACKS[head],
        length=case.length,
        n_bins=case.n_bins,
        stem=192,
        tower=(256, 256, 256, 256, 384, 384),
        n_layers=case.n_layers,
        n_heads=case.n_heads,
    )


def write_checkpoint(prefix: Path, fixture: Fixture) -> None:
    """Write drawn weights under the keys that TensorFlow saved, counters and hidden averages too."""
    shapes = dict(zip(fixture["keys"].tolist(), json.loads(str(fixture["shapes"])), strict=True))
    inner = {key: key.removeprefix("module/").removesuffix(SUFFIX) for key in shapes}
    counts = {key for key, name in inner.items() if name.endswith(("_counter", "save_counter"))}
    hidden = {key for key, name in inner.items() if name.endswith("_hidden")}
    weights = drawn({inner[key]: shapes[key] for key in shapes.keys() - counts - hidden}, SEED, "tf")
    arrays = {key: weights[inner[key]] for key in shapes.keys() - counts - hidden}
    arrays |= {key: np.full(shapes[key], 7, np.int64) for key in counts}
    arrays |= {key: np.full(shapes[key], 7, np.float32) for key in hidden}
    write_tf_bundle(prefix, arrays)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("enformer") / "enformer-1"
    write_checkpoint(prefix, recorded("enformer.npz"))
    return prefix


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the file of the PyTorch port, with the second names of its tensors and the counters of its norms."""
    shapes = json.loads(str(recorded("enformer_port.npz")["shapes"]))
    own = {key: shape for key, shape in shapes.items() if not key.startswith("_trunk.")}
    counts = {key for key in own if key.endswith("num_batches_tracked")}
    weights = drawn({key: shape for key, shape in own.items() if key not in counts}, SEED)
    state = {key: torch.from_numpy(values) for key, values in weights.items()}
    state |= {key: torch.tensor(7) for key in counts}
    state |= {key: torch.full(shapes[key], 7.0) for key in shapes.keys() - own.keys()}
    path = tmp_path_factory.mktemp("port") / "pytorch_model.bin"
    torch.save(state, path)
    return path


def network(path: Path, sizes: EnformerConfig) -> Enformer:
    with torch.device("meta"):
        empty = Enformer(sizes)
    return filled(empty, convert(read_tensors(path), sizes, path), path)


def answers(network: Enformer, case: Case) -> NDArray[Any]:
    batch = np.stack([np.frombuffer(encode(bases), np.uint8) for bases in case.sequences()])
    with torch.inference_mode():
        return torch.cat([network(torch.from_numpy(row[None])) for row in batch]).numpy()


def chosen(network: Enformer, case: Case) -> NDArray[Any]:
    return answers(network, case)[:, :, case.tracks(network.config.n_tracks)]


def with_gamma(network: Enformer, gamma: NDArray[np.float32]) -> Enformer:
    """Replace the gamma features by upstream's own rounding of them, given for the distances from 0 on."""
    n_basis = gamma.shape[1]
    both = torch.from_numpy(np.concatenate((gamma[:0:-1], gamma)))
    sign = torch.sign(torch.arange(len(both)) - len(gamma) + 1)[:, None]
    network.positions[:, 2 * n_basis : 3 * n_basis] = both
    network.positions[:, 5 * n_basis :] = sign * both
    return network


def error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def variant_scores(answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score the windows with one base changed as upstream's notebook does: mean over bins of alt - ref."""
    return (answers[-N_VARIANTS:] - answers[1]).mean(axis=1)


@pytest.mark.parametrize("name", ["human", "mouse"])
def test_recorded_answers_tell_the_windows_apart(name: str) -> None:
    found = recorded("enformer.npz")[name][:-N_VARIANTS]
    apart = [np.abs(a - b).max() for i, a in enumerate(found) for b in found[:i]]
    assert min(apart) >= 0.1 * np.abs(found).max()


@pytest.mark.parametrize("head", ["human", "mouse"])
def test_answers_and_variant_scores_equal_the_authors(checkpoint: Path, head: str) -> None:
    expected = recorded("enformer.npz")[head]
    found = chosen(network(checkpoint, config(SHORT, head)), SHORT)
    assert error(found, expected) <= TOLERANCE
    assert error(variant_scores(found), variant_scores(expected)) <= 1e-3


def test_answers_equal_the_authors_with_their_rounding_of_the_gamma_features(checkpoint: Path) -> None:
    fixture = recorded("enformer.npz")
    found = chosen(with_gamma(network(checkpoint, config(SHORT, "human")), fixture["gamma"]), SHORT)
    assert error(found, fixture["human"]) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("head", ["human", "mouse"])
def test_answers_of_the_full_window_equal_the_authors(tmp_path: Path, head: str) -> None:
    fixture = recorded("enformer_full.npz")
    prefix = tmp_path / "enformer-1"
    write_checkpoint(prefix, fixture)
    full = network(prefix, config(FULL, head))
    assert error(chosen(full, FULL), fixture[head]) <= TOLERANCE
    assert error(chosen(with_gamma(full, fixture["gamma"]), FULL), fixture[head]) <= TOLERANCE


def test_gamma_features_of_the_published_length_are_those_of_upstream_but_for_its_rounding() -> None:
    expected = recorded("enformer.npz")["published_gamma"]  # every 24th distance from 0 on
    found = position_features(1536, 192)[1535:, 64:96][::24]
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 3e-3
    assert np.abs(found - expected).mean() <= 5e-5


@pytest.mark.parametrize("head", ["human", "mouse"])
@pytest.mark.parametrize(("name", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
def test_the_file_of_the_port_gives_its_answers_with_its_position_features(
    port: Path, head: str, name: str, tolerance: float
) -> None:
    fixture = recorded("enformer_port.npz")
    expected, positions = fixture[f"{head}_{name}"], torch.from_numpy(fixture[f"positions_{name}"])
    sizes = EnformerConfig(
        head=head, n_tracks=expected.shape[2], length=PORT.length, n_bins=PORT.n_bins, stem=12, tower=(16, 24),
        n_layers=PORT.n_layers, n_heads=PORT.n_heads, key_size=4,
    )  # fmt: skip
    small = network(port, sizes).to(positions.dtype)
    apart = (small.positions - positions).abs().amax(0)
    assert apart[[0, 1, 2, 3, 6, 7, 8, 9]].max() <= 1e-6  # all but the gamma features, which the port scales otherwise
    small.positions.copy_(positions)
    assert error(answers(small, PORT), expected) <= tolerance
