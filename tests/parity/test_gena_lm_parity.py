"""GENA-LM against the authors' own class, and BigBird of another version, with random weights (`record_gena_lm.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bpe_cases import READ, SEED, sequences
from drawing import drawn
from numpy.typing import NDArray
from record_gena_lm import CASES, COPIES, DATA, LONGEST, POSITIONS

from varfm.genome import encode
from varfm.models.gena_lm import GenaLm, GenaLmConfig, convert, network_of, tokenizer_of
from varfm.models.loading import loaded
from varfm.weights import LocalWeights

Array = NDArray[Any]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(DATA) as file:
        return dict(file)


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if name.startswith("bigbird"):
        pytest.importorskip("transformers", reason="BigBird needs the package transformers")
    return name


def folder_of(case: str, recorded: dict[str, Array], tmp_path: Path) -> Path:
    """Write what the authors published: tied tables in two copies, and the numbers of positions."""
    weights = {
        key: torch.from_numpy(value) for key, value in drawn(json.loads(str(recorded[f"{case}_shapes"])), SEED).items()
    }
    config = json.loads(str(recorded[f"{case}_config"]))
    weights |= {copy: weights[key].clone() for copy, key in COPIES.items()}
    torch.save(
        weights | {POSITIONS: torch.arange(config["max_position_embeddings"])[None]}, tmp_path / "pytorch_model.bin"
    )
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer.json").write_text(str(recorded["tokenizer"]))
    return tmp_path


def network_in(folder: Path) -> GenaLm:
    path = folder / "config.json"
    config = GenaLmConfig.from_json(json.loads(path.read_text()), path)
    weights = LocalWeights(folder, "", False)
    return loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))


def difference(found: Array, expected: Array) -> float:
    """Give the largest difference as a fraction of the largest expected value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def answers(network: GenaLm, folder: Path) -> tuple[Array, Array]:
    """Give the recorded tokens' hidden states and logits, from letters on."""
    tokenizer = tokenizer_of(GenaLmConfig(), folder)
    ids = [torch.tensor(tokenizer.encode(encode(line)).ids.tolist())[None] for line in sequences(LONGEST)]
    hidden = torch.cat([network.hidden(line)[:, list(READ)] for line in ids])
    return hidden.numpy(), network.logits(hidden).numpy()


def test_tokens_equal_those_of_the_package(recorded: dict[str, Array], tmp_path: Path) -> None:
    tokenizer = tokenizer_of(GenaLmConfig(), folder_of("base", recorded, tmp_path))
    found = [tokenizer.encode(encode(line)).ids for line in sequences(LONGEST)]
    assert [len(ids) for ids in found] == recorded["n_tokens"].tolist()
    assert np.concatenate(found).tolist() == recorded["ids"].tolist()


def test_recorded_logits_differ_between_the_inputs(recorded: dict[str, Array], case: str) -> None:
    logits = recorded[f"{case}_logits"]
    assert np.median(np.ptp(logits, axis=0)) > 0.1 * np.abs(logits).max()


def test_logits_equal_upstream(recorded: dict[str, Array], case: str, tmp_path: Path) -> None:
    folder = folder_of(case, recorded, tmp_path)
    hidden, logits = answers(network_in(folder), folder)
    assert hidden.dtype == logits.dtype == np.float32
    assert difference(hidden, recorded[f"{case}_hidden"]) <= 1e-5
    assert difference(logits, recorded[f"{case}_logits"]) <= 1e-5


def test_logits_in_double_precision_equal_upstream(recorded: dict[str, Array], case: str, tmp_path: Path) -> None:
    folder = folder_of(case, recorded, tmp_path)
    hidden, logits = answers(network_in(folder).double(), folder)
    assert difference(hidden, recorded[f"{case}_hidden"]) <= 1e-10
    assert difference(logits, recorded[f"{case}_logits"]) <= 1e-10
