"""Basenji: sizes as published, answers worked out by hand, and which checkpoints are taken."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basenji_files import bundle_shapes
from numpy.typing import NDArray
from torch import nn
from writers import write_tf_bundle

from varfm.errors import ModelError, OptionError
from varfm.genome import encode
from varfm.models import ModelOptions, load
from varfm.models.basenji import Basenji, BasenjiConfig, convert
from varfm.models.loading import filled
from varfm.protocols import Model
from varfm.readers import Tensors
from varfm.windows import Haplotype, Window

Arrays = dict[str, NDArray[Any]]

FIRST = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
"""What A, C, G and T count in the first kernel."""

TINY: dict[str, Any] = {
    "length": 4, "n_tracks": 1, "channels": (1,), "widths": (2,), "dilations": (1,), "pools": (2,), "dense": (0,),
    "crop_bins": 0,
}  # fmt: skip
SMALL: dict[str, Any] = {
    "length": 1024, "n_tracks": 3, "channels": (5, 6, 7, 4, 4, 8), "widths": (22, 1, 6, 3, 3, 1),
    "dilations": (1, 1, 1, 2, 4, 1), "pools": (1, 2, 4, 1, 1, 1), "dense": (0, 0, 0, 1, 1, 0), "crop_bins": 16,
}  # fmt: skip


def variables(config: BasenjiConfig, spelling: str = "conv1d") -> Arrays:
    """Give a checkpoint in which norms change nothing and every weight but those of the first kernel is 1."""
    values = {"kernel": 1, "bias": 0, "gamma": 1, "beta": 0, "moving_mean": 0, "moving_variance": 1 - 1e-3}
    shapes = bundle_shapes(config, spelling)
    state = {key: np.full(shape, values[key.rpartition("/")[2]], np.float32) for key, shape in shapes.items()}
    first = "cnn0/conv1d/kernel"
    return state | {first: np.broadcast_to(FIRST[:, None], shapes[first]).copy()}


def network(state: Arrays, config: BasenjiConfig) -> Basenji:
    path = Path("model.tf.index")
    with torch.device("meta"):
        empty = Basenji(config)
    return filled(empty, convert(Tensors(path, state), config, path), path)


def read(net: nn.Module, bases: str) -> list[float]:
    return net(torch.tensor([list(encode(bases))], dtype=torch.uint8)).flatten().tolist()


def test_the_published_network_has_its_parameters_and_shapes() -> None:
    with torch.device("meta"):
        net = Basenji(BasenjiConfig())
    state = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    assert sum(value.numel() for value in net.parameters()) == 15_190_636
    assert sum(value.numel() for name, value in net.named_buffers() if "running" in name) == 9_932
    assert state["blocks.0.conv.weight"] == (312, 4, 22)
    assert state["blocks.2.conv.weight"] == (435, 368, 6)
    assert state["blocks.11.conv.weight"] == (108, 1257, 3)
    assert state["blocks.12.conv.weight"] == (1365, 1365, 1)
    assert state["final.weight"] == (4229, 1365, 1)
    assert len(state) == 13 * 6 + 2


def test_the_published_bins_lie_where_the_paper_has_them() -> None:
    with torch.device("meta"):
        net = Basenji(BasenjiConfig())
    assert (net.length, net.bin_width, net.first_base, net.n_bins) == (131_072, 128, 4_096, 960)


def test_even_kernels_reach_further_to_the_right_and_values_above_zero_count_one_more() -> None:
    config = BasenjiConfig(**TINY)
    state = variables(config)
    state["cnn0/conv1d/kernel"][1] *= 10
    # Places hold 1 + 20, 2 + 30, 3 + 40 and 4 + nothing.
    assert read(network(state, config), "ACGT") == pytest.approx([33, 44], rel=1e-6)


def test_values_below_zero_are_given_by_their_exponential() -> None:
    config = BasenjiConfig(**TINY)
    state = variables(config)
    state["final/conv1d/kernel"] *= -1
    state["final/conv1d/bias"] += 4
    # The best of 1 + 2 and 2 + 3 is 5; of 3 + 4 and 4 + nothing, 7.
    assert read(network(state, config), "ACGT") == pytest.approx([np.exp(-1), np.exp(-3)], rel=1e-5)
    state["final/conv1d/bias"] -= 1e6
    assert read(network(state, config), "ACGT") == pytest.approx([np.exp(-50)] * 2, rel=1e-5)


def test_values_are_rectified_after_the_norm() -> None:
    config = BasenjiConfig(**TINY)
    state = variables(config)
    state["cnn0/batch_normalization/beta"] -= 6
    assert read(network(state, config), "ACGT") == pytest.approx([1 if v == 0 else v for v in (np.exp(0), 2)], rel=1e-5)


def test_dense_blocks_hand_on_their_input_before_what_they_made() -> None:
    config = BasenjiConfig(**TINY | {
        "channels": (1, 2), "widths": (1, 1), "dilations": (1, 1), "pools": (1, 1), "dense": (0, 1)
    })  # fmt: skip
    state = variables(config)
    state["cnn1/conv1d/kernel"] = np.array([[[10, 100]]], np.float32)
    state["final/conv1d/kernel"] = np.array([[[1], [2], [3]]], np.float32)
    assert read(network(state, config), "ACGT") == pytest.approx([1 + v * 321 for v in (1, 2, 3, 4)], rel=1e-5)


def test_bins_at_both_ends_are_left_out() -> None:
    sizes = TINY | {"widths": (1,), "pools": (1,), "crop_bins": 1}
    config = BasenjiConfig(**sizes)
    assert read(network(variables(config), config), "ACGT") == pytest.approx([3, 4], rel=1e-5)


def test_n_counts_nothing_and_lower_case_counts_as_upper_case() -> None:
    config = BasenjiConfig(**TINY | {"widths": (1,), "pools": (1,)})
    found = read(network(variables(config), config), "NcgR")
    assert found == pytest.approx([1, 3, 4, 1], rel=1e-5)


@pytest.mark.parametrize("spelling", ["conv1d", "dense"])
def test_both_spellings_of_the_last_layer_are_read(spelling: str) -> None:
    config = BasenjiConfig(**SMALL)
    state = variables(config, spelling)
    kernel = np.arange(8 * 3, dtype=np.float32).reshape(state[f"final/{spelling}/kernel"].shape)
    state[f"final/{spelling}/kernel"] = kernel
    net = network(state, config)
    assert torch.equal(net.final.weight[:, :, 0], torch.from_numpy(kernel.reshape(8, 3).T.copy()))


def test_what_only_training_needs_is_left_out() -> None:
    config = BasenjiConfig(**TINY)
    state = variables(config)
    slots = {f"{key}/{slot}": values for key, values in state.items() for slot in ("Adam", "Adam_1", "Momentum")}
    renorm = {f"cnn0/batch_normalization/renorm_{name}": np.ones(1) for name in ("mean", "stddev_weight")}
    others = {"global_step": np.array(3), "beta1_power": np.array(0.1), "beta2_power": np.array(0.2)}
    assert read(network(state | slots | renorm | others, config), "ACGT") == read(network(state, config), "ACGT")


def changed(key: str, value: NDArray[Any] | None) -> Arrays:
    state = variables(BasenjiConfig(**SMALL))
    del state[key]
    return state if value is None else state | {key: value}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (changed("cnn3/conv1d/kernel", None), r"no tensor 'cnn3/conv1d/kernel' of shape \(3, 7, 4\)"),
        (changed("cnn4/batch_normalization/moving_mean", None), "cnn4/batch_normalization/moving_mean"),
        (changed("final/conv1d/bias", None), r"no tensor 'final/conv1d/bias' of shape \(3\)"),
        (changed("final/conv1d/kernel", np.ones((1, 8, 4))), r"has shape \(1, 8, 4\), expected \(1, 8, 3\)"),
        (changed("cnn0/conv1d/kernel", np.ones((22, 5, 4))), r"has shape \(22, 5, 4\), expected \(22, 4, 5\)"),
        (variables(BasenjiConfig(**SMALL)) | {"cnn6/conv1d/kernel": np.ones(1)}, r"belong to no part.*cnn6"),
        (variables(BasenjiConfig(**SMALL)) | {"final/dense/bias": np.ones(3)}, "belong to no part"),
        ({}, "cnn0/conv1d/kernel"),
    ],
    ids=["kernel", "mean", "bias", "tracks", "order", "surplus", "spelling", "empty"],
)
def test_another_checkpoint_is_refused_by_the_tensor_that_differs(state: Arrays, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        network(state, BasenjiConfig(**SMALL))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"length": 1025}, "no whole number of bins"),
        ({"crop_bins": 64}, "nothing is left"),
        ({"widths": (22, 1)}, "for every block alike"),
        ({"pools": (1, 2, 4, 1, 1, 0)}, "1 or more"),
    ],
    ids=["length", "crop", "blocks", "pools"],
)
def test_sizes_that_do_not_fit_together_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        BasenjiConfig(**SMALL | sizes)


@pytest.fixture
def small() -> Basenji:
    torch.manual_seed(1)
    return Basenji(BasenjiConfig(**SMALL)).eval().requires_grad_(False)


def test_the_network_can_be_traced(small: Basenji) -> None:
    batch = torch.randint(0, 5, (2, small.length), dtype=torch.uint8)
    assert torch.equal(torch.fx.symbolic_trace(small)(batch), small(batch))
    assert small(batch).shape == (2, 96, 3)
    assert small(batch).dtype == torch.float32


def test_bins_of_the_reverse_strand_are_turned_round(small: Basenji) -> None:
    output = torch.arange(6.0).reshape(3, 2)
    forward, reverse = (Haplotype(Window("c", 0, 1024), None, strand) for strand in ("+", "-"))  # type: ignore[arg-type]
    assert small.rows(b"\0\1", reverse) == [b"\0\1"]
    assert small.reduce(forward, b"", [output]).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert small.reduce(reverse, b"", [output]).tolist() == [[4, 5], [2, 3], [0, 1]]


def identical_in_batches(net: nn.Module, length: int, n_rows: int) -> Iterator[bool]:
    """Say for places in the batch and numbers of threads whether a row's output is the same to the bit."""
    draw = torch.Generator().manual_seed(1)
    probe = torch.randint(0, 5, (length,), generator=draw, dtype=torch.uint8)
    n_threads = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            expected = None
            for place in range(n_rows):
                batch = torch.randint(0, 5, (n_rows, length), generator=draw, dtype=torch.uint8)
                batch[place] = probe
                found = net(batch)[place]
                expected = found if expected is None else expected
                yield torch.equal(found, expected)
    finally:
        torch.set_num_threads(n_threads)


def test_a_row_is_answered_alike_wherever_it_stands_in_a_batch(small: Basenji) -> None:
    assert all(identical_in_batches(small, small.length, 5))


@pytest.mark.slow
def test_a_row_is_answered_alike_wherever_it_stands_at_the_published_widths() -> None:
    torch.manual_seed(1)
    net = Basenji(BasenjiConfig(length=2048, crop_bins=1)).eval().requires_grad_(False)
    assert all(identical_in_batches(net, 2048, 2))


@pytest.mark.slow
def test_the_last_layer_answers_a_row_alike_wherever_it_stands_among_the_published_bins() -> None:
    torch.manual_seed(1)
    assert all(identical_in_batches(LastLayer(1365, 4229), 960, 3))


class LastLayer(nn.Module):
    """A convolution of width 1 over random channels."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.values, self.conv = nn.Embedding(5, n_in), nn.Conv1d(n_in, n_out, 1)
        self.requires_grad_(False)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.conv(self.values(batch.long()).transpose(1, 2).contiguous())


def folder_with(config: BasenjiConfig, folder: Path, state: Arrays | None = None) -> Path:
    write_tf_bundle(folder / "model.tf", variables(config) if state is None else state)
    assays = ("DNASE", "CAGE", "DNASE")
    lines = [f"ENC{number}\tpath\t{assays[number % 3]}:cell\n" for number in range(config.n_tracks)]
    (folder / "sample_wigs.txt").write_text("".join(lines))
    (folder / "config.json").write_text(json.dumps({name: getattr(config, name) for name in SMALL}))
    return folder


def loaded(folder: Path, **options: Any) -> Model:
    """Load a small network as a user does."""
    return load("basenji", ModelOptions(weights=folder_with(BasenjiConfig(**SMALL), folder), offline=True, **options))


def test_the_model_scores_sad_and_sar_on_both_strands_and_compensates_indels(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    assert isinstance(model.network, Basenji)
    assert {value.device.type for value in model.network.state_dict().values()} == {"cpu"}
    names = [column.name for column in model.scorer.columns]
    assert names == ["SAD_T0", "SAD_T1", "SAD_T2", "SAR_T0", "SAR_T1", "SAR_T2"]
    assert [f.key for f in model.scorer.fields] == ["SAR_DNASE", "SAR_DNASE_TRACK", "SAR_CAGE", "SAR_CAGE_TRACK"]
    options = dict(model.origin.options)
    assert (options["strands"], options["strands_averaged"], options["indels"]) == ("both", "answers", "compensate")
    assert (options["window"], options["index"]) == ("1024", "511")
    assert model.batch_rows == (1, 8)


def test_bins_are_counted_from_the_first_that_is_kept(tmp_path: Path) -> None:
    assert dict(loaded(tmp_path, bins="95,0-1").origin.options)["bins"] == "0,1,95"
    with pytest.raises(OptionError, match="95"):
        loaded(tmp_path, bins="0-96")
