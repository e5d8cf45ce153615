"""PhyloGPN against the authors' own class with the same random weights (`record_phylogpn.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from record_phylogpn import CASES, DATA, READ, sequences, weights_of
from safetensors.numpy import save_file
from torch import Tensor

from varfm.genome import encode
from varfm.models.loading import filled
from varfm.models.phylogpn import PhyloGpn, PhyloGpnConfig, convert, network_of, tokenizer_of
from varfm.readers import read_tensors

Array = NDArray[Any]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(DATA) as file:
        return dict(file)


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def network(case: str, recorded: dict[str, Array], tmp_path: Path) -> PhyloGpn:
    """Read what the authors' `save_pretrained` writes."""
    save_file(weights_of(json.loads(str(recorded[f"{case}_shapes"]))), tmp_path / "model.safetensors")
    config = PhyloGpnConfig.from_json(json.loads(str(recorded[f"{case}_config"])), tmp_path)
    with torch.device("meta"):
        empty = network_of(config)
    return filled(empty, convert(read_tensors(tmp_path), config, tmp_path), tmp_path)


def batch() -> Tensor:
    tokenizer = tokenizer_of(PhyloGpnConfig())
    return torch.tensor(np.array([tokenizer.encode(encode(line)).ids for line in sequences()])).long()


def difference(found: Tensor, expected: Array) -> float:
    """Give the largest difference as a fraction of the largest expected value."""
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


def test_recorded_rates_differ_between_the_inputs(recorded: dict[str, Array], case: str) -> None:
    rates = recorded[f"{case}_rates"]
    assert np.median(np.ptp(rates, axis=0)) > 0.1 * np.abs(rates).max()


@pytest.mark.parametrize(("precision", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str)
def test_rates_equal_upstream(
    recorded: dict[str, Array], case: str, network: PhyloGpn, precision: torch.dtype, bound: float
) -> None:
    hidden = network.to(precision).hidden(batch())
    assert hidden.dtype == precision
    assert difference(hidden[:, READ][:, ::4], recorded[f"{case}_hidden"]) <= bound
    assert difference(network.logits(hidden)[:, READ], recorded[f"{case}_rates"]) <= bound
