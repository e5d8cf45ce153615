"""Basset's sizes, what its files may hold, and that no row of a batch changes another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basset_files import PUBLISHED, Layers, convnet, kipoi_shapes
from numpy.typing import NDArray
from torch import Tensor
from writers import write_torch7

from varfm.errors import ModelError
from varfm.models.basset import Basset, BassetConfig, convert, network_of
from varfm.models.loading import filled
from varfm.readers import read_tensors

Array = NDArray[Any]

SMALL = BassetConfig(length=28, n_tracks=4, channels=(5, 6), widths=(5, 3), pools=(2, 2), n_hidden=(7, 8))
LAYERS = Layers(((4, 5, 5, 2), (5, 6, 3, 2)), ((30, 7), (7, 8), (8, 4)))


@pytest.fixture
def weights() -> dict[str, Array]:
    generator = np.random.default_rng(1)
    return {key: generator.uniform(0.2, 1.2, shape).astype(np.float32) for key, shape in kipoi_shapes(LAYERS).items()}


@pytest.fixture
def torch7_path(tmp_path: Path) -> Path:
    return tmp_path / "pretrained_model.th"


def from_torch7(path: Path, table: dict[str, Any]) -> dict[str, Array]:
    write_torch7(path, table)
    return convert(read_tensors(path), SMALL, path)


def from_kipoi(path: Path, state: dict[str, Array]) -> dict[str, Array]:
    torch.save({key: torch.from_numpy(value) for key, value in state.items()}, path)
    return convert(read_tensors(path), SMALL, path)


def random_network(config: BassetConfig) -> Basset:
    torch.manual_seed(1)
    return network_of(config).requires_grad_(False).eval()


def random_codes(n: int, length: int) -> Tensor:
    return torch.randint(0, 5, (n, length), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def test_the_published_network_has_its_published_parameters() -> None:
    with torch.device("meta"):
        network = network_of(BassetConfig())
    assert sum(value.numel() for value in network.parameters()) == 4_135_064
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    assert shapes["layers.0.weight"] == (300, 4, 19)
    assert shapes["layers.4.weight"] == (200, 300, 11)
    assert shapes["layers.8.weight"] == (200, 200, 7)
    assert shapes["layers.13.weight"] == (1000, 2000)
    assert shapes["layers.17.weight"] == (1000, 1000)
    assert shapes["layers.21.weight"] == (164, 1000)
    assert {key.split(".")[1] for key in shapes if "running_var" in key} == {"1", "5", "9", "14", "18"}
    assert len(shapes) == len(kipoi_shapes(PUBLISHED)) + 5  # and five counts of batches


def test_nothing_is_left_on_meta_after_loading(weights: dict[str, Array], torch7_path: Path) -> None:
    state = from_torch7(torch7_path, convnet(weights, LAYERS))
    with torch.device("meta"):
        network = network_of(SMALL)
    network = filled(network, state, torch7_path)
    tensors = [*network.parameters(), *network.buffers()]
    assert tensors
    assert not any(value.is_meta for value in tensors)
    assert network(random_codes(2, 28)).shape == (2, 4)


def test_both_formats_and_both_kinds_of_batch_norm_give_the_same_state(
    weights: dict[str, Array], torch7_path: Path, tmp_path: Path
) -> None:
    legacy = from_torch7(torch7_path, convnet(weights, LAYERS))
    newer = from_torch7(torch7_path, convnet(weights, LAYERS, legacy=False))
    kipoi = from_kipoi(tmp_path / "basset.pth", weights)
    assert legacy.keys() == newer.keys() == kipoi.keys()
    for key, values in kipoi.items():
        np.testing.assert_array_equal(newer[key], values)
        np.testing.assert_allclose(legacy[key], values, rtol=1e-12)
    np.testing.assert_array_equal(kipoi["layers.0.weight"], weights["0.weight"][..., 0])


def test_variance_is_worked_out_in_double_precision(weights: dict[str, Array], torch7_path: Path) -> None:
    table = convnet(weights, LAYERS)
    table["model"].fields["modules"][1].fields["running_std"] = np.array([0.5, 1, 2, 100, 300.0])
    variance = from_torch7(torch7_path, table)["layers.1.running_var"]
    assert variance.dtype == np.float64
    assert variance.tolist() == pytest.approx([3.99999, 0.99999, 0.24999, 0.00009, 1 / 90_000 - 1e-5], rel=1e-12)


def test_a_network_without_the_table_around_it_is_read(weights: dict[str, Array], torch7_path: Path) -> None:
    table = convnet(weights, LAYERS)
    inside, alone = from_torch7(torch7_path, table), from_torch7(torch7_path, table["model"])
    assert all((alone[key] == inside[key]).all() for key in inside)


def test_counts_of_batches_may_be_there(weights: dict[str, Array], tmp_path: Path) -> None:
    counts = {f"{number}.num_batches_tracked": np.array(7) for number in (1, 5, 10, 14)}
    state = from_kipoi(tmp_path / "basset.pth", weights | counts)
    assert {int(state[f"layers.{number}.num_batches_tracked"]) for number in (1, 5, 10, 14)} == {7}
    assert int(from_kipoi(tmp_path / "old.pth", weights)["layers.1.num_batches_tracked"]) == 0


def without_bias(state: dict[str, Array]) -> dict[str, Array]:
    return {key: value for key, value in state.items() if key != "13.1.bias"}


def with_more(state: dict[str, Array]) -> dict[str, Array]:
    return state | {"21.1.weight": np.zeros((2, 2), np.float32)}


def with_another_width(state: dict[str, Array]) -> dict[str, Array]:
    return state | {"0.weight": np.zeros((5, 4, 6, 1), np.float32)}


def with_flat_kernels(state: dict[str, Array]) -> dict[str, Array]:
    return state | {"0.weight": state["0.weight"].transpose(0, 1, 3, 2)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_bias, r"no tensor '13\.bias'"),
        (with_more, r"'21\.1\.weight'"),
        (with_another_width, r"\(5, 4, 6, 1\), expected \(5, 4, 5, 1\)"),
        (with_flat_kernels, r"\(5, 4, 1, 5\), expected \(5, 4, 5, 1\)"),
    ],
    ids=["missing", "left over", "shape", "axes"],
)
def test_another_state_dict_is_refused(
    change: Callable[[dict[str, Array]], dict[str, Array]],
    message: str,
    weights: dict[str, Array],
    tmp_path: Path,
) -> None:
    with pytest.raises(ModelError, match=message):
        from_kipoi(tmp_path / "basset.pth", change(weights))


def test_padded_convolutions_of_later_training_scripts_are_refused(
    weights: dict[str, Array], torch7_path: Path
) -> None:
    table = convnet(weights, LAYERS)
    table["model"].fields["modules"][4].fields["padW"] = 1
    with pytest.raises(ModelError, match="not padded"):
        from_torch7(torch7_path, table)


def test_an_inverse_standard_deviation_of_zero_is_refused(weights: dict[str, Array], torch7_path: Path) -> None:
    table = convnet(weights, LAYERS)
    table["model"].fields["modules"][1].fields["running_std"] = np.array([0.5, 1, 0, 100, 300.0])
    with pytest.raises(ModelError, match=r"modules\.2\.running_std"):
        from_torch7(torch7_path, table)


@pytest.mark.parametrize(
    "sizes",
    [{"pools": (2, 4)}, {"widths": (5,)}, {"channels": (5, 0)}, {"length": 8}],
    ids=["remainder", "unequal", "zero", "too short"],
)
def test_sizes_that_make_no_network_are_refused(sizes: dict[str, Any]) -> None:
    fitting = {"length": 28, "channels": (5, 6), "widths": (5, 3), "pools": (2, 2)}
    with pytest.raises(ModelError, match="Basset"):
        BassetConfig(**(fitting | sizes))


def test_n_is_zero_in_every_channel() -> None:
    network = random_network(SMALL)
    batch = torch.full((1, 28), 4, dtype=torch.uint8)
    assert torch.equal(network.logits(batch), network.layers(torch.zeros(1, 4, 28)))
    assert not torch.equal(network.logits(batch), network.layers(torch.full((1, 4, 28), 0.25)))


def test_probabilities_are_the_sigmoid_of_the_logits() -> None:
    network, batch = random_network(SMALL), random_codes(3, 28)
    expected = 1 / (1 + np.exp(-network.logits(batch).double().numpy()))
    assert network(batch).numpy() == pytest.approx(expected, abs=1e-6)


def test_the_traced_network_answers_the_same() -> None:
    network, batch = random_network(SMALL), random_codes(3, 28)
    assert torch.equal(torch.fx.symbolic_trace(network)(batch), network(batch))


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_a_row_is_the_same_to_the_bit_wherever_it_stands(threads: int) -> None:
    network, batch = random_network(BassetConfig()), random_codes(32, 600)
    answers = network(batch)
    assert len(torch.unique(answers, dim=0)) == 32
    for shift in (1, 17):
        assert torch.equal(network(batch.roll(shift, 0)).roll(-shift, 0), answers)
    others = random_codes(64, 600)[32:]
    others[5] = batch[20]
    assert torch.equal(network(others)[5], answers[20])
