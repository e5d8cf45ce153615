"""Basset against the authors' own code, run by Torch7 on the same random weights (`record_basset.py`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basset_files import PUBLISHED, convnet, kipoi_shapes
from drawing import drawn
from numpy.typing import NDArray
from record_basset import DATA, GAIN, SEED, TRAINED
from torch import Tensor
from writers import write_torch7

import varfm
from varfm.genome import encode
from varfm.models import ModelOptions
from varfm.models.basset import Basset, BassetConfig, convert
from varfm.models.loading import filled
from varfm.readers import read_tensors
from varfm.session import SessionOptions

Array = NDArray[Any]

TINY = BassetConfig(length=13, n_tracks=2, channels=(2, 3), widths=(4, 2), pools=(2, 2), n_hidden=(3, 2))


@pytest.fixture(scope="module")
def recorded() -> dict[str, Array]:
    with np.load(DATA) as file:
        return dict(file)


@pytest.fixture(scope="module")
def torch7_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("basset") / "pretrained_model.th"
    write_torch7(path, convnet(drawn(kipoi_shapes(PUBLISHED), SEED, gain=GAIN), PUBLISHED))
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def kipoi_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("basset") / "pretrained_model_reloaded_th.pth"
    weights = drawn(kipoi_shapes(PUBLISHED), SEED, gain=GAIN)
    torch.save({key: torch.from_numpy(value) for key, value in weights.items()}, path)
    yield path
    path.unlink()


def network(path: Path, config: BassetConfig) -> Basset:
    with torch.device("meta"):
        empty = Basset(config)
    return filled(empty, convert(read_tensors(path), config, path), path)


def in_double_precision(path: Path, config: BassetConfig) -> Basset:
    made = network(path, config).double()
    state = convert(read_tensors(path), config, path)
    made.load_state_dict({key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in state.items()})
    return made


def codes(sequences: Sequence[str]) -> Tensor:
    return torch.tensor([list(encode(letters)) for letters in sequences], dtype=torch.uint8)


def turned(batch: Tensor) -> Tensor:
    complement = torch.tensor([3, 2, 1, 0, 4], dtype=torch.uint8)
    return complement[batch.long()].flip(1)


def difference(found: Tensor, expected: Array) -> float:
    """Give the largest difference as a fraction of the largest expected value."""
    return float(np.abs(found.detach().numpy() - expected).max() / np.abs(expected).max())


def test_recorded_logits_differ_between_the_inputs(recorded: dict[str, Array]) -> None:
    random = recorded["logits"][:6]
    assert np.ptp(random, axis=0).min() > 0
    assert np.ptp(random, axis=0).max() > 0.1 * np.abs(random).max()
    assert np.median(np.ptp(recorded["logits"], axis=0)) > 0.1 * np.abs(recorded["logits"]).max()


def test_logits_from_a_torch7_file_equal_upstream(recorded: dict[str, Array], torch7_file: Path) -> None:
    found = network(torch7_file, BassetConfig()).logits(codes(recorded["sequences"]))
    assert found.dtype == torch.float32
    assert difference(found, recorded["logits"]) <= 1e-5


def test_logits_from_a_kipoi_file_equal_upstream(recorded: dict[str, Array], kipoi_file: Path) -> None:
    found = network(kipoi_file, BassetConfig()).logits(codes(recorded["sequences"]))
    assert difference(found, recorded["logits"]) <= 1e-5


def test_logits_in_double_precision_equal_upstream(recorded: dict[str, Array], torch7_file: Path) -> None:
    found = in_double_precision(torch7_file, BassetConfig()).logits(codes(recorded["sequences"]))
    assert difference(found, recorded["logits"]) <= 1e-10


def test_probabilities_equal_the_authors_prediction_script(recorded: dict[str, Array], torch7_file: Path) -> None:
    found = network(torch7_file, BassetConfig())(codes(recorded["sequences"]))
    assert difference(found, recorded["forward"]) <= 1e-5


def test_the_mean_of_both_strands_equals_the_authors_prediction_script(
    recorded: dict[str, Array], torch7_file: Path
) -> None:
    basset, batch = network(torch7_file, BassetConfig()), codes(recorded["sequences"])
    assert difference(basset(batch) - basset(turned(batch)), recorded["forward"]) > 0.1
    assert difference((basset(batch) + basset(turned(batch))) / 2, recorded["both"]) <= 1e-5


def test_a_file_that_torch7_wrote_gives_the_logits_of_torch7(recorded: dict[str, Array]) -> None:
    tensors = read_tensors(TRAINED)
    assert tensors["model.modules.2.running_std"].min() > 1.1
    batch = codes(recorded["trained_sequences"])
    assert difference(network(TRAINED, TINY).logits(batch), recorded["trained_logits"]) <= 1e-5


def test_scores_of_snvs_equal_the_authors_variant_script(
    recorded: dict[str, Array], torch7_file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / torch7_file.name).symlink_to(torch7_file)
    (folder / "targets.txt").write_text("".join(f"cell{number}\tpeaks{number}.bed\n" for number in range(164)))
    vcf, fasta = tmp_path / "snvs.vcf", tmp_path / "genome.fa"
    vcf.write_text("##fileformat=VCFv4.3\n" + str(recorded["vcf"]))
    fasta.write_text(f">chr1\n{recorded['contig']}\n")
    options = SessionOptions("", None, model_options=ModelOptions(weights=folder), device="cpu", threads=1)
    with varfm.score(str(vcf), str(fasta), model="basset", options=options) as results:
        found = np.array([[result.scores[f"DIFF_T{track}"] for track in range(164)] for result in results])
    ref, alt = recorded["sad_predictions"].astype(np.float64).reshape(-1, 2, 164).transpose(1, 0, 2)
    assert np.abs(found - (alt - ref)).max() <= 1e-5 * np.abs(ref).max()
    assert np.abs(found - (alt - ref)).max() <= 1e-3 * np.abs(alt - ref).max()
    rounding = 2.0**-11  # upstream subtracts half precision, both below 1
    assert np.abs(found - recorded["sad"]).max() <= 1.01 * rounding
