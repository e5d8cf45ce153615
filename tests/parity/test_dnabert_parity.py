"""DNABERT against the authors' own classes with the same random weights (`record_dnabert.py`)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from record_dnabert import CASES, DATA, MASKED, READ, kept, weights_of
from torch import Tensor

from varfm.encoding.kmers import OverlappingKmers
from varfm.genome import encode
from varfm.models.dnabert import Dnabert, DnabertConfig, convert, network_of, tokenizer_of
from varfm.models.loading import filled
from varfm.readers import read_tensors

Array = NDArray[Any]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(DATA) as file:
        return dict(file)


@pytest.fixture(params=sorted(CASES))
def k(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def folder(k: str, recorded: dict[str, Array], tmp_path: Path) -> Path:
    """Write what the authors' `save_pretrained` writes, with the pooler that their file has."""
    weights = {key: torch.from_numpy(value) for key, value in weights_of(shapes_in(recorded, k)).items()}
    torch.save(weights, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(str(recorded[f"{k}_config"]))
    return tmp_path


def shapes_in(recorded: dict[str, Array], k: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = json.loads(str(recorded[f"{k}_shapes"]))
    return found


def config_in(folder: Path) -> DnabertConfig:
    path = folder / "config.json"
    return DnabertConfig.from_json(json.loads(path.read_text()), path)


def network_in(folder: Path) -> Dnabert:
    config = config_in(folder)
    with torch.device("meta"):
        empty = network_of(config)
    return filled(empty, convert(read_tensors(folder), config, folder), folder)


def answers(network: Dnabert, recorded: dict[str, Array], k: str) -> tuple[Tensor, Tensor]:
    ids = torch.from_numpy(recorded[f"{k}_ids"].astype(np.int64))
    ids[:, list(MASKED)] = 4
    hidden = network.hidden(ids)[:, list(READ)]
    return hidden, network.logits(hidden)


def difference(found: Tensor, expected: Array) -> float:
    """Give the largest difference as a fraction of the largest expected value."""
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


def test_tokens_equal_upstream(recorded: dict[str, Array], k: str, folder: Path) -> None:
    tokenizer = tokenizer_of(config_in(folder))
    found = [tokenizer.encode(encode(str(letters))).ids for letters in recorded["sequences"]]
    assert np.array_equal(found, recorded[f"{k}_ids"])


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_ids_are_those_of_the_authors_vocabulary(recorded: dict[str, Array], k: int) -> None:
    content = "".join(f"{token}\n" for token in OverlappingKmers(k).vocabulary())
    expected = json.loads(str(recorded["vocabularies"]))[str(k)]
    assert expected in {hashlib.sha256(text.encode()).hexdigest() for text in (content, content.rstrip("\n"))}


def test_recorded_logits_differ_between_the_inputs(recorded: dict[str, Array], k: str) -> None:
    logits = recorded[f"{k}_logits"]
    assert np.median(np.ptp(logits, axis=0)) > 0.1 * np.abs(logits).max()
    # A masked token is seen by what stands around it alone.
    assert np.ptp(logits[:5, 4], axis=0).max() > 0.1 * np.abs(logits).max()


def test_logits_equal_upstream(recorded: dict[str, Array], k: str, folder: Path) -> None:
    hidden, logits = answers(network_in(folder), recorded, k)
    assert logits.dtype == torch.float32
    assert difference(hidden, recorded[f"{k}_hidden"]) <= 1e-5
    assert difference(logits[..., kept(logits.shape[-1])], recorded[f"{k}_logits"]) <= 1e-5


def test_logits_in_double_precision_equal_upstream(recorded: dict[str, Array], k: str, folder: Path) -> None:
    hidden, logits = answers(network_in(folder).double(), recorded, k)
    assert difference(hidden, recorded[f"{k}_hidden"]) <= 1e-10
    assert difference(logits[..., kept(logits.shape[-1])], recorded[f"{k}_logits"]) <= 1e-10
