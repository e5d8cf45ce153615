"""Nucleotide Transformers against the authors' code with the same weights (`record_nucleotide_transformer.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from greedy_kmers import greedy_ids
from numpy.typing import NDArray
from record_nucleotide_transformer import CASES, DATA, MASKED, READ, kept, weights_of
from safetensors.numpy import save_file
from torch import Tensor

from varfm.models.loading import filled
from varfm.models.nucleotide_transformer import (
    NucleotideTransformer,
    NucleotideTransformerConfig,
    convert,
    network_of,
    tokenizer_of,
)
from varfm.readers import read_tensors

Array = NDArray[Any]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(DATA) as file:
        return dict(file)


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config_in(folder: Path) -> NucleotideTransformerConfig:
    path = folder / "config.json"
    return NucleotideTransformerConfig.from_json(json.loads(path.read_text()), path)


def network_in(folder: Path) -> NucleotideTransformer:
    config = config_in(folder)
    with torch.device("meta"):
        empty = network_of(config)
    network = filled(empty, convert(read_tensors(folder), config, folder), folder)
    network.build_tables()
    return network


@pytest.fixture
def folder(case: str, tmp_path: Path) -> Path:
    """Write a published folder: safetensors for one generation, PyTorch's own format for the other."""
    weights, config = weights_of(CASES[case]), CASES[case]
    if "add_bias_fnn" in config:
        width = config["hidden_size"] // config["num_attention_heads"]
        frequencies = (1 / 10_000 ** (np.arange(0, width, 2) / width)).astype(np.float32)
        for number in range(config["num_hidden_layers"]):
            key = f"esm.encoder.layer.{number}.attention.self.rotary_embeddings.inv_freq"
            weights[key] = frequencies
        save_file(weights, tmp_path / "model.safetensors")
    else:
        torch.save({key: torch.from_numpy(value) for key, value in weights.items()}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def ids_in(recorded: dict[str, Array], case: str) -> list[list[int]]:
    found: list[list[int]] = json.loads(str(recorded[f"{case}_ids"]))
    return found


def answers(network: NucleotideTransformer, ids: list[list[int]]) -> tuple[Tensor, Tensor]:
    hidden = torch.stack([network.hidden(torch.tensor([line]))[0, list(READ)] for line in ids])
    return hidden, network.logits(hidden)


def difference(found: Tensor, expected: Array) -> float:
    """Give the largest difference as a fraction of the largest expected value."""
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


def test_tokens_equal_upstream(recorded: dict[str, Array], case: str, folder: Path) -> None:
    tokenizer = tokenizer_of(config_in(folder))
    for letters, expected in zip(recorded["sequences"], ids_in(recorded, case), strict=True):
        ids = greedy_ids(tokenizer, str(letters))
        for place in MASKED:
            ids[place] = tokenizer.mask_id
        assert ids == expected


def test_recorded_logits_differ_between_the_inputs(recorded: dict[str, Array], case: str) -> None:
    logits = recorded[f"{case}_logits"]
    assert np.median(np.ptp(logits, axis=0)) > 0.1 * np.abs(logits).max()
    # A masked token is seen by what stands around it alone.
    assert np.ptp(logits[:5, 2], axis=0).max() > 0.1 * np.abs(logits).max()


def test_logits_equal_upstream(recorded: dict[str, Array], case: str, folder: Path) -> None:
    hidden, logits = answers(network_in(folder), ids_in(recorded, case))
    assert logits.dtype == torch.float32
    assert difference(hidden, recorded[f"{case}_hidden"]) <= 1e-5
    assert difference(logits[..., kept(logits.shape[-1])], recorded[f"{case}_logits"]) <= 1e-5


def test_logits_in_double_precision_equal_upstream(recorded: dict[str, Array], case: str, folder: Path) -> None:
    network = network_in(folder).double()
    network.build_tables()
    hidden, logits = answers(network, ids_in(recorded, case))
    assert difference(hidden, recorded[f"{case}_hidden"]) <= 1e-10
    assert difference(logits[..., kept(logits.shape[-1])], recorded[f"{case}_logits"]) <= 1e-10
