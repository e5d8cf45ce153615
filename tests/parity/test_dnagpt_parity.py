"""DNAGPT against the authors' own class and tokenizer with the same random weights (`record_dnagpt.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from record_dnagpt import CASES, DATA, LENGTH, READ_HIDDEN, READ_OF, sequences, weights_of
from torch import Tensor

from varfm.encoding.chunks import Chunks
from varfm.genome import encode
from varfm.models.dnagpt import DnaGpt, DnaGptConfig, convert, network_of, tokenizer_of
from varfm.models.loading import loaded
from varfm.weights import LocalWeights

Array = NDArray[Any]
every_case = pytest.mark.parametrize("case", sorted(CASES))


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(DATA) as file:
        return dict(file)


def network_from(case: str, recorded: dict[str, Array], folder: Path) -> DnaGpt:
    """Write the drawn weights as the authors' files hold them, and read them."""
    shapes = json.loads(str(recorded[f"{case}_shapes"]))
    state = {name: torch.from_numpy(value) for name, value in weights_of(shapes).items()}
    # Upstream reads a state dict at the top of a file or under `model`.
    torch.save({"model": state} if case == "all_kmers" else state, folder / "weights.pth")
    weights, config = LocalWeights(folder / "weights.pth", "", False), DnaGptConfig(**CASES[case])
    return loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))


def ids_of(case: str) -> Tensor:
    tokenizer = tokenizer_of(DnaGptConfig(**CASES[case]))
    return torch.from_numpy(np.stack([tokenizer.encode(encode(line)).ids for line in sequences()])).long()


def difference(found: Tensor, expected: Array) -> float:
    """Give the largest difference as a fraction of the largest expected value."""
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


@every_case
def test_recorded_logits_differ_between_the_inputs(case: str, recorded: dict[str, Array]) -> None:
    logits = recorded[f"{case}_logits"][:4, 1:]
    assert np.median(np.ptp(logits, axis=0)) > 0.1 * np.abs(logits).max()


@every_case
def test_tokens_equal_upstream(case: str, recorded: dict[str, Array]) -> None:
    assert ids_of(case).tolist() == recorded[f"{case}_ids"].tolist()


@pytest.mark.parametrize(("name", "shortest"), [("h", 6), ("m", 1)])
def test_published_vocabularies_cut_every_length_as_upstream(
    name: str, shortest: int, recorded: dict[str, Array]
) -> None:
    texts = [line[:length] for line in sequences() for length in (*range(1, 14), 60, LENGTH)]
    found = [Chunks(6, shortest).encode(encode(text)).ids.tolist() for text in texts]
    assert found == json.loads(str(recorded["examples"]))[name]


@every_case
def test_logits_and_hidden_states_equal_upstream(case: str, recorded: dict[str, Array], tmp_path: Path) -> None:
    network = network_from(case, recorded, tmp_path)
    with torch.inference_mode():
        hidden = network.hidden(ids_of(case))
        assert hidden.dtype == torch.float32
        assert difference(hidden[READ_HIDDEN], recorded[f"{case}_hidden"]) <= 1e-5
        assert difference(network.logits(hidden)[READ_OF[case]], recorded[f"{case}_logits"]) <= 1e-5


@every_case
def test_logits_in_double_precision_equal_upstream(case: str, recorded: dict[str, Array], tmp_path: Path) -> None:
    network = network_from(case, recorded, tmp_path).double()
    with torch.inference_mode():
        assert difference(network(ids_of(case))[READ_OF[case]], recorded[f"{case}_logits"]) <= 1e-10
