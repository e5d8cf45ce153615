"""HyenaDNA against the authors' own classes with the same random weights (`record_hyenadna.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from record_hyenadna import CASES, DATA, READ, READ_HIDDEN, READ_WIDE, WIDE, sequences, tables_of, weights_of
from safetensors.numpy import save_file
from torch import Tensor

from varfm.encoding.characters import HYENADNA
from varfm.genome import encode
from varfm.models.hyenadna import HyenaDna, HyenaDnaConfig, convert, network_of, position_tables
from varfm.models.loading import loaded
from varfm.weights import LocalWeights

Array = NDArray[Any]
READ_OF = dict.fromkeys(CASES, READ) | {"published": READ_WIDE}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(DATA) as file:
        return dict(file)


def config_of(case: str, recorded: dict[str, Array]) -> HyenaDnaConfig:
    return HyenaDnaConfig.from_json(json.loads(str(recorded[f"{case}_config"])), Path("config.json"))


def published_tensors(case: str, recorded: dict[str, Array]) -> dict[str, Array]:
    """Give the drawn weights, and the tables that are not learned, under the published names.

    Of tensors that several layers share, the published files keep one.
    """
    shapes = json.loads(str(recorded[f"{case}_shapes"]))
    shapes = {key: shape for key, shape in shapes.items() if not key.endswith(("3.freq", "5.freq"))}
    return {**tables_of(shapes), **weights_of(shapes)}


def folder_with(case: str, recorded: dict[str, Array], tensors: dict[str, Array], tmp_path: Path) -> Path:
    folder = tmp_path / case
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(str(recorded[f"{case}_config"]))
    return folder


def network_in(folder: Path) -> HyenaDna:
    path = folder / "config.json"
    config = HyenaDnaConfig.from_json(json.loads(path.read_text()), path)
    weights = LocalWeights(folder, "", False)
    return loaded(lambda: network_of(config), weights, lambda tensors, at: convert(tensors, config, at))


def ids_of(case: str, recorded: dict[str, Array]) -> Tensor:
    return torch.from_numpy(recorded[f"{case}_ids"].astype(np.int64))


def difference(found: Tensor, expected: Array) -> float:
    """Give the largest difference as a fraction of the largest expected value."""
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("case", sorted(READ_OF))
def test_recorded_logits_differ_between_the_inputs(case: str, recorded: dict[str, Array]) -> None:
    logits = recorded[f"{case}_logits"][:4]
    assert np.median(np.ptp(logits, axis=0)) > 0.1 * np.abs(logits).max()


def test_tokens_equal_those_of_the_authors_tokenizer(recorded: dict[str, Array]) -> None:
    for name, lines in (("ids", sequences()), ("published_ids", sequences(WIDE)[:5])):
        found = [HYENADNA.encode(encode(line)).ids.tolist() for line in lines]
        assert found == recorded[name].tolist()


@pytest.mark.parametrize("case", sorted(READ_OF))
def test_computed_tables_equal_upstream(case: str, recorded: dict[str, Array]) -> None:
    tables = position_tables(config_of(case, recorded))
    assert np.abs(tables["z"][0, ::37] - recorded[f"{case}_z"]).max() <= 2e-6
    assert np.abs(tables["t"][0, ::37] - recorded[f"{case}_t"]).max() <= 2e-7
    assert np.abs(tables["deltas"][0, 0] - recorded[f"{case}_deltas"]).max() <= 2e-6


@pytest.mark.parametrize("case", sorted(READ_OF))
def test_logits_and_hidden_states_equal_upstream(case: str, recorded: dict[str, Array], tmp_path: Path) -> None:
    network = network_in(folder_with(case, recorded, published_tensors(case, recorded), tmp_path))
    with torch.inference_mode():
        hidden = network.hidden(ids_of(case, recorded))
        assert hidden.dtype == torch.float32
        assert difference(hidden[:2, READ_HIDDEN], recorded[f"{case}_hidden"]) <= 1e-5
        assert difference(network.logits(hidden)[:, READ_OF[case]], recorded[f"{case}_logits"]) <= 1e-5


@pytest.mark.parametrize("case", sorted(READ_OF))
def test_logits_in_double_precision_equal_upstream(case: str, recorded: dict[str, Array], tmp_path: Path) -> None:
    network = network_in(folder_with(case, recorded, published_tensors(case, recorded), tmp_path)).double()
    with torch.inference_mode():
        found = network(ids_of(case, recorded))
    assert difference(found[:, READ_OF[case]], recorded[f"{case}_logits"]) <= 1e-10


def test_tables_that_are_not_learned_are_computed_if_a_file_lacks_them(
    recorded: dict[str, Array], tmp_path: Path
) -> None:
    tensors = published_tensors("small", recorded)
    learned = {key: value for key, value in tensors.items() if not key.endswith((".t", ".deltas"))}
    assert len(tensors) - len(learned) == 6
    with torch.inference_mode():
        found = network_in(folder_with("small", recorded, learned, tmp_path))(ids_of("small", recorded))
    assert difference(found[:, READ], recorded["small_logits"]) <= 1e-5
