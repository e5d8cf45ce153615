"""GPN against the authors' own classes with the same random weights (`record_gpn.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawing import drawn
from numpy.typing import NDArray
from record_gpn import CASES, DATA, MASKED, PAPER_LENGTH, PAPER_POSITIONS, READ, READ_HIDDEN, SEED, sequences, snvs
from safetensors.numpy import save_file
from torch import Tensor

from varfm.encoding.characters import read_characters
from varfm.genome import N, encode, reverse_complement
from varfm.models.gpn import CHARACTERS, Gpn, GpnConfig, convert, network_of, tokenizer_of
from varfm.models.loading import filled
from varfm.readers import read_tensors

Array = NDArray[Any]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(DATA) as file:
        return dict(file)


@pytest.fixture(params=sorted(CASES))
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def folder_of(case: str, recorded: dict[str, Array], tmp_path: Path) -> Path:
    """Write what the authors' `save_pretrained` writes."""
    folder = tmp_path / case
    folder.mkdir()
    save_file(drawn(json.loads(str(recorded[f"{case}_shapes"])), SEED), folder / "model.safetensors")
    (folder / "config.json").write_text(str(recorded[f"{case}_config"]))
    (folder / "tokenizer.json").write_text(str(recorded["tokenizer"]))
    return folder


def network_in(folder: Path) -> Gpn:
    path = folder / "config.json"
    config = GpnConfig.from_json(json.loads(path.read_text()), path)
    with torch.device("meta"):
        empty = network_of(config)
    return filled(empty, convert(read_tensors(folder), config, folder), folder)


def ids_of(sequence: bytes, masked: tuple[int, ...]) -> Array:
    ids = CHARACTERS.encode(sequence).ids.copy()
    ids[list(masked)] = CHARACTERS.mask_id
    return ids


def batch_of(letters: Array) -> Tensor:
    return torch.tensor(np.array([ids_of(encode(line), MASKED) for line in letters]), dtype=torch.int64)


def difference(found: Tensor, expected: Array) -> float:
    """Give the largest difference as a fraction of the largest expected value."""
    return float(np.abs(found.numpy() - expected).max() / np.abs(expected).max())


def test_tokens_equal_upstream(recorded: dict[str, Array]) -> None:
    found = [ids_of(encode(line), ()) for line in recorded["sequences"]]
    assert np.array_equal(found, recorded["unmasked_ids"])
    assert np.array_equal(batch_of(recorded["sequences"]), recorded["ids"])


def test_the_tokenizer_file_of_upstream_gives_the_same_tokens(recorded: dict[str, Array], tmp_path: Path) -> None:
    folder = folder_of("legacy", recorded, tmp_path)
    assert read_characters(folder) == CHARACTERS == tokenizer_of(GpnConfig(), folder)


def test_recorded_logits_differ_between_the_inputs(recorded: dict[str, Array], case: str) -> None:
    logits = recorded[f"{case}_logits"]
    scale = np.abs(logits).max()
    assert np.median(np.ptp(logits, axis=0)) > 0.1 * scale
    # A masked base is seen by what stands around it alone.
    assert np.ptp(logits[:5, 15], axis=0).max() > 0.1 * scale


def test_logits_equal_upstream(recorded: dict[str, Array], case: str, tmp_path: Path) -> None:
    network = network_in(folder_of(case, recorded, tmp_path))
    hidden = network.hidden(batch_of(recorded["sequences"]))
    assert hidden.dtype == torch.float32
    assert difference(hidden[:, READ_HIDDEN], recorded[f"{case}_hidden"]) <= 1e-5
    assert difference(network.logits(hidden[:, READ]), recorded[f"{case}_logits"]) <= 1e-5


def test_logits_in_double_precision_equal_upstream(recorded: dict[str, Array], case: str, tmp_path: Path) -> None:
    network = network_in(folder_of(case, recorded, tmp_path)).double()
    hidden = network.hidden(batch_of(recorded["sequences"]))
    assert difference(hidden[:, READ_HIDDEN], recorded[f"{case}_hidden"]) <= 1e-10
    assert difference(network.logits(hidden[:, READ]), recorded[f"{case}_logits"]) <= 1e-10


@pytest.mark.parametrize("window", [64, 101])
@pytest.mark.parametrize("case", ["legacy", "bytenet_promoter"])
def test_scores_of_snvs_equal_the_authors_variant_script(
    recorded: dict[str, Array], case: str, window: int, tmp_path: Path
) -> None:
    network = network_in(folder_of(case, recorded, tmp_path))
    contig = str(recorded["contig"])
    found = [score(network, contig, snv, window) for snv in snvs(contig)]
    expected = recorded[f"{case}_llr_{window}"]
    assert np.abs(found - expected).max() <= 1e-3 * np.abs(expected).max()


def score(network: Gpn, contig: str, snv: tuple[int, str, str], window: int) -> float:
    """Compare the bases of an SNV where it is hidden, on both strands of a window that it stands in the middle of."""
    pos, ref, alt = snv
    flank = bytes([N]) * window
    start = pos - 1 - window // 2 + window
    sequence = (flank + encode(contig) + flank)[start : start + window]
    index = window // 2
    forward = llr(network, sequence, index, encode(ref + alt))
    mirrored = reverse_complement(encode(alt + ref))
    return (forward + llr(network, reverse_complement(sequence), window - 1 - index, mirrored)) / 2


def llr(network: Gpn, sequence: bytes, index: int, bases: bytes) -> float:
    ids = torch.from_numpy(ids_of(sequence, (index,)).astype(np.int64))
    logits = network(ids[None])[0, index]
    ref, alt = CHARACTERS.encode(bases).ids.tolist()
    return float(logits[alt] - logits[ref])


@pytest.mark.slow
def test_logits_of_the_network_of_the_paper_equal_upstream(recorded: dict[str, Array], tmp_path: Path) -> None:
    config = GpnConfig()
    with torch.device("meta"):
        network = network_of(config)
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    save_file(drawn(shapes, SEED), tmp_path / "model.safetensors")
    network = filled(network, convert(read_tensors(tmp_path), config, tmp_path), tmp_path)
    batch = torch.tensor(np.array([ids_of(encode(line), (256,)) for line in sequences(PAPER_LENGTH)[:2]])).long()
    found = network.logits(network.hidden(batch)[:, list(PAPER_POSITIONS)])
    assert difference(found, recorded["paper_logits"]) <= 1e-5
    (tmp_path / "model.safetensors").unlink()
