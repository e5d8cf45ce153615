"""Caduceus against the authors' own classes with the same random weights (`record_caduceus.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from record_caduceus import (
    CASES,
    DATA,
    LENGTH,
    LONG,
    MASKED,
    READ,
    READ_LONG,
    READ_WIDE,
    WIDE,
    sequences,
    weights_of,
)
from safetensors.numpy import save_file
from torch import Tensor

from varfm.encoding.characters import HYENADNA
from varfm.genome import encode
from varfm.models.caduceus import Caduceus, CaduceusConfig, convert, network_of
from varfm.models.loading import loaded
from varfm.readers import read_tensors
from varfm.weights import LocalWeights

Array = NDArray[Any]
READ_OF = dict.fromkeys(CASES, READ) | {"long": READ_LONG, "published": READ_WIDE}
LENGTHS = {"long": LONG, "published": WIDE}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(DATA) as file:
        return dict(file)


def published_tensors(case: str, recorded: dict[str, Array]) -> dict[str, Array]:
    """Give what the authors' class keeps of the drawn weights and the tables."""
    shapes = json.loads(str(recorded[f"{case}_shapes"]))
    tensors: dict[str, Array] = dict(weights_of(shapes))
    table = json.loads(str(recorded[f"{case}_config"]))["complement_map"]
    n_rows = next(shape[0] for key, shape in shapes.items() if "word_embeddings" in key and key.endswith("weight"))
    opposite = np.array([table.get(str(token), token) for token in range(n_rows)], np.int64)
    return tensors | {key: opposite for key in shapes if key.endswith("complement_map")}


def folder_with(case: str, recorded: dict[str, Array], tensors: dict[str, Array], tmp_path: Path) -> Path:
    folder = tmp_path / case
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(str(recorded[f"{case}_config"]))
    return folder


def network_in(folder: Path) -> Caduceus:
    path = folder / "config.json"
    config = CaduceusConfig.from_json(json.loads(path.read_text()), path)
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


@pytest.mark.parametrize("length", [LENGTH, LONG, WIDE])
def test_tokens_equal_those_of_the_authors_tokenizer(length: int, recorded: dict[str, Array]) -> None:
    expected = recorded[{LENGTH: "ids", LONG: "long_ids", WIDE: "published_ids"}[length]]
    masked = [position for position in MASKED if position < length]
    for line, ids in zip(sequences(length), expected, strict=False):
        found = HYENADNA.encode(encode(line)).ids
        found[masked] = HYENADNA.mask_id
        assert found.tolist() == ids.tolist()


@pytest.mark.parametrize("case", sorted(READ_OF))
def test_logits_and_hidden_states_equal_upstream(case: str, recorded: dict[str, Array], tmp_path: Path) -> None:
    folder = folder_with(case, recorded, published_tensors(case, recorded), tmp_path)
    network, ids = network_in(folder), ids_of(case, recorded)
    with torch.inference_mode():
        hidden = network.hidden(ids)
        assert hidden.dtype == torch.float32
        assert difference(hidden[:2, READ_LONG], recorded[f"{case}_hidden"]) <= 1e-5
        assert difference(network.logits(hidden)[:, READ_OF[case]], recorded[f"{case}_logits"]) <= 1e-5


@pytest.mark.parametrize("case", sorted(READ_OF))
def test_logits_in_double_precision_equal_upstream(case: str, recorded: dict[str, Array], tmp_path: Path) -> None:
    folder = folder_with(case, recorded, published_tensors(case, recorded), tmp_path)
    with torch.inference_mode():
        found = network_in(folder).double()(ids_of(case, recorded))
    assert difference(found[:, READ_OF[case]], recorded[f"{case}_logits"]) <= 1e-10


def test_the_fused_norm_of_the_published_config_is_another_network(recorded: dict[str, Array]) -> None:
    fused, plain = recorded["ps_logits"], recorded["ps_unfused_logits"]
    assert np.abs(fused - plain).max() > 0.1 * np.abs(fused).max()


@pytest.mark.parametrize("case", ["ph", "ps"])
@pytest.mark.parametrize("kept", ["others", "both"])
def test_whichever_name_of_tied_tensors_is_kept_the_logits_are_the_same(
    case: str, kept: str, recorded: dict[str, Array], tmp_path: Path
) -> None:
    tensors = published_tensors(case, recorded)
    head = "lm_head.weight" if case == "ph" else "lm_head.lm_head.weight"
    others = {}
    for key, value in tensors.items():
        if "_proj.weight" in key and "mamba_fwd" in key and (".in_" in key or ".out_" in key):
            others[key] = (key.replace("mamba_fwd", "mamba_rev"), value)
        elif "word_embeddings" in key and key.endswith("weight"):
            others[key] = (head, value)
    assert len(others) == 7
    if kept == "others":
        tensors = {key: value for key, value in tensors.items() if key not in others}
    tensors |= {key: value.copy() for key, value in others.values()}
    with torch.inference_mode():
        found = network_in(folder_with(case, recorded, tensors, tmp_path))(ids_of(case, recorded)[:2])
    assert difference(found[:, READ], recorded[f"{case}_logits"][:2]) <= 1e-5


def test_a_file_without_the_head_and_its_prefix_gives_the_same_logits(
    recorded: dict[str, Array], tmp_path: Path
) -> None:
    tensors = published_tensors("ps_plant", recorded)
    bare = {key.removeprefix("caduceus."): value for key, value in tensors.items() if not key.startswith("lm_head")}
    assert len(bare) < len(tensors)
    with torch.inference_mode():
        found = network_in(folder_with("ps_plant", recorded, bare, tmp_path))(ids_of("ps_plant", recorded)[:2])
    assert difference(found[:, READ], recorded["ps_plant_logits"][:2]) <= 1e-5


def test_a_pytorch_file_is_read_like_safetensors(recorded: dict[str, Array], tmp_path: Path) -> None:
    tensors = published_tensors("ps", recorded)
    torch.save({key: torch.from_numpy(value) for key, value in tensors.items()}, tmp_path / "pytorch_model.bin")
    path = tmp_path / "config.json"
    config = CaduceusConfig.from_json(json.loads(str(recorded["ps_config"])), path)
    state = convert(read_tensors(tmp_path), config, tmp_path)
    key = "caduceus.backbone.embeddings.word_embeddings.embedding.weight"
    np.testing.assert_array_equal(state[key], tensors[key])
