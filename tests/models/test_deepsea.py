"""DeepSEA and Beluga: sizes as published, answers worked out by hand, and every upstream format."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deepsea_files import SMALL_BELUGA, SMALL_DEEPSEA, write_folder
from numpy.typing import NDArray
from writers import Module, sequential, write_torch7

from varfm.errors import ModelError, OptionError
from varfm.genome import encode
from varfm.models import ModelOptions, load
from varfm.models.deepsea import Beluga, BelugaConfig, Chromatin, Config, DeepSea, DeepSeaConfig, convert, network_of
from varfm.models.loading import filled
from varfm.protocols import Model
from varfm.readers import Tensors, read_tensors
from varfm.windows import Haplotype, Window

Arrays = dict[str, NDArray[Any]]

# One channel, kernels and pooling of one position: 6 positions reach the dense layers.
TINY: dict[str, Any] = {"length": 6, "n_tracks": 1, "channels": (1, 1, 1), "n_hidden": 1, "width": 1, "pool": 1}
DEEPSEA_PLACES, BELUGA_PLACES = ("0", "4", "8"), ("0", "2", "6", "8", "12", "14")
FIRST = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
"""What A, G, C and T count in the first kernel, in upstream's order."""


def tiny_state(places: tuple[str, ...], dense: tuple[str, str], prefix: str = "", bias: float = 0.0) -> Arrays:
    """Give a state in which every weight is 1, but those of the first kernel; only the first bias is not zero."""
    state: Arrays = {}
    for number, place in enumerate(places):
        kernel = FIRST.reshape(1, 4, 1, 1) if number == 0 else np.ones((1, 1, 1, 1), np.float32)
        state[f"{prefix}{place}.weight"] = kernel
        state[f"{prefix}{place}.bias"] = np.full(1, bias if number == 0 else 0, np.float32)
    for place, n_in in zip(dense, (6, 1), strict=True):
        state[f"{place}.weight"] = np.ones((1, n_in), np.float32)
        state[f"{place}.bias"] = np.zeros(1, np.float32)
    return state


def deepsea_state(prefix: str = "", bias: float = 0.0) -> Arrays:
    return tiny_state(DEEPSEA_PLACES, (f"{prefix}12.1", f"{prefix}14.1"), prefix, bias)


def beluga_state(bias: float = 0.0) -> Arrays:
    return tiny_state(BELUGA_PLACES, ("model.1.2.1", "model.1.4.1"), "model.0.", bias)


def write(path: Path, state: Arrays) -> Path:
    torch.save({key: torch.from_numpy(np.ascontiguousarray(values)) for key, values in state.items()}, path)
    return path


def read(path: Path, config: Config) -> Chromatin:
    with torch.device("meta"):
        empty = network_of(config)
    return filled(empty, convert(read_tensors(path), config, path), path)


def rows(*sequences: str) -> torch.Tensor:
    return torch.tensor([list(encode(bases)) for bases in sequences], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("config", "n_parameters", "expected"),
    [
        (
            DeepSeaConfig(),
            52_843_119,
            {
                "convs.0.weight": (320, 4, 8), "convs.0.bias": (320,),
                "convs.1.weight": (480, 320, 8), "convs.1.bias": (480,),
                "convs.2.weight": (960, 480, 8), "convs.2.bias": (960,),
                "hidden.weight": (925, 50_880), "hidden.bias": (925,),
                "tracks.weight": (919, 925), "tracks.bias": (919,),
            },
        ),
        (
            BelugaConfig(),
            149_536_251,
            {
                "convs.0.weight": (320, 4, 8), "convs.0.bias": (320,),
                "convs.1.weight": (320, 320, 8), "convs.1.bias": (320,),
                "convs.2.weight": (480, 320, 8), "convs.2.bias": (480,),
                "convs.3.weight": (480, 480, 8), "convs.3.bias": (480,),
                "convs.4.weight": (640, 480, 8), "convs.4.bias": (640,),
                "convs.5.weight": (640, 640, 8), "convs.5.bias": (640,),
                "hidden.weight": (2_003, 67_840), "hidden.bias": (2_003,),
                "tracks.weight": (2_002, 2_003), "tracks.bias": (2_002,),
            },
        ),
    ],
    ids=["deepsea", "beluga"],
)  # fmt: skip
def test_the_published_network_has_its_parameters_and_shapes(
    config: Config, n_parameters: int, expected: dict[str, tuple[int, ...]]
) -> None:
    with torch.device("meta"):
        network = network_of(config)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == expected
    assert sum(value.numel() for value in network.parameters()) == n_parameters
    assert network.length == config.length


def test_deepsea_puts_a_millionth_in_place_of_what_is_not_above_zero(tmp_path: Path) -> None:
    network = read(write(tmp_path / "a.pth", deepsea_state("1.", bias=-9.0)), DeepSeaConfig(**TINY))
    assert network.logits(rows("ACGTNA")).item() == pytest.approx(6e-6, rel=1e-5)


def test_beluga_puts_zero_in_place_of_what_is_not_above_zero(tmp_path: Path) -> None:
    network = read(write(tmp_path / "a.pth", beluga_state(bias=-9.0)), BelugaConfig(**TINY))
    assert network.logits(rows("ACGTNA")).item() == 0


@pytest.mark.parametrize(("bases", "counted"), [("AAAAAA", 6), ("GGGGGG", 12), ("CCCCCC", 18), ("TTTTTT", 24)])
@pytest.mark.parametrize("family", ["deepsea", "beluga"])
def test_kernels_in_the_order_agct_read_each_base_as_upstream_does(
    family: str, bases: str, counted: int, tmp_path: Path
) -> None:
    state, config = (
        (deepsea_state("2."), DeepSeaConfig(**TINY)) if family == "deepsea" else (beluga_state(), BelugaConfig(**TINY))
    )
    network = read(write(tmp_path / "a.pth", state), config)
    assert network.logits(rows(bases)).item() == counted
    assert network(rows(bases)).item() == pytest.approx(1 / (1 + np.exp(-counted)))


def test_n_counts_nothing(tmp_path: Path) -> None:
    network = read(write(tmp_path / "a.pth", beluga_state()), BelugaConfig(**TINY))
    assert network.logits(rows("NNNNNN", "NNANNN")).flatten().tolist() == [0, 1]


@pytest.fixture(params=[DeepSea, Beluga])
def small(request: pytest.FixtureRequest) -> Chromatin:
    torch.manual_seed(1)
    if request.param is DeepSea:
        return DeepSea(DeepSeaConfig(length=300, n_tracks=3, channels=(5, 6, 7), n_hidden=4)).eval()
    return Beluga(BelugaConfig(length=500, n_tracks=3, channels=(5, 6, 7), n_hidden=4)).eval()


def test_the_network_can_be_traced(small: Chromatin) -> None:
    batch = torch.randint(0, 5, (2, small.length), dtype=torch.uint8)
    traced = torch.fx.symbolic_trace(small)
    assert torch.equal(traced(batch), small(batch))
    assert small(batch).shape == (2, 3)


def test_a_row_is_the_sequence_and_the_answer_is_the_output_on_either_strand(small: Chromatin) -> None:
    output = torch.tensor([0.1, 0.2, 0.3])
    for strand in ("+", "-"):
        haplotype = Haplotype(Window("c", 0, 4), None, strand)  # type: ignore[arg-type]
        assert small.rows(b"\0\1\2\3", haplotype) == [b"\0\1\2\3"]
        assert torch.equal(small.reduce(haplotype, b"", [output]), output)


def identical_in_batches(network: Chromatin, n_rows: int) -> Iterator[bool]:
    """Say for places in the batch and numbers of threads whether a row's output is the same to the bit."""
    draw = torch.Generator().manual_seed(1)
    shape = (n_rows, network.length)
    probe, expected = torch.randint(0, 5, shape[1:], generator=draw, dtype=torch.uint8), None
    n_threads = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            expected = None
            for place in (0, 1, n_rows // 2, n_rows - 1):
                batch = torch.randint(0, 5, shape, generator=draw, dtype=torch.uint8)
                batch[place] = probe
                found = network(batch)[place]
                expected = found if expected is None else expected
                yield torch.equal(found, expected)
    finally:
        torch.set_num_threads(n_threads)


@pytest.mark.parametrize("config", [SMALL_DEEPSEA, SMALL_BELUGA], ids=["deepsea", "beluga"])
@pytest.mark.parametrize("n_rows", [8, 16])
def test_equal_rows_get_equal_probabilities_where_tracks_fill_no_register(config: Config, n_rows: int) -> None:
    torch.manual_seed(1)
    network = network_of(config).eval().requires_grad_(False)
    for _ in range(20):
        row = torch.randint(0, 5, (1, config.length), dtype=torch.uint8)
        found = network(row.expand(n_rows, -1))
        assert torch.equal(found, found[:1].expand(n_rows, -1))


def test_deepsea_answers_a_row_alike_wherever_it_stands_in_a_batch() -> None:
    torch.manual_seed(1)
    assert all(identical_in_batches(DeepSea(DeepSeaConfig()).eval().requires_grad_(False), 16))


@pytest.mark.slow
def test_beluga_answers_a_row_alike_wherever_it_stands_in_a_batch() -> None:
    torch.manual_seed(1)
    assert all(identical_in_batches(Beluga(BelugaConfig()).eval().requires_grad_(False), 8))


def torch7(state: Arrays, kernel: tuple[int, ...] = (1, 4), value: float = 1e-6) -> Module:
    """Give the Torch7 objects of a tiny DeepSEA."""
    layers: list[Module] = []
    for number, place in enumerate(DEEPSEA_PLACES):
        weight = state[f"{place}.weight"].reshape(kernel if number == 0 else (1, 1, *kernel[2:]))
        conv = Module("nn.SpatialConvolutionMM", {"weight": weight, "bias": state[f"{place}.bias"], "kW": 1, "kH": 1})
        layers += [conv, Module("nn.Threshold", {"threshold": 0, "val": value})]
        layers += [Module("nn.SpatialMaxPooling")] if number < 2 else []
        layers += [Module("nn.Dropout")]
    linear = [Module("nn.Linear", {k: state[f"{n}.1.{k}"] for k in ("weight", "bias")}) for n in (12, 14)]
    layers += [Module("nn.Reshape"), linear[0], Module("nn.Threshold", {"threshold": 0, "val": value}), linear[1]]
    return sequential(*layers, Module("nn.Sigmoid"))


@pytest.mark.parametrize("layout", ["1.", "2.", "", "matrix", "kernel", "double"])
def test_every_published_format_gives_the_same_network(layout: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    if layout in ("matrix", "kernel", "double"):
        state = deepsea_state()
        if layout == "double":
            state = {key: values.astype(np.float64) for key, values in state.items()}
        write_torch7(path, torch7(state, (1, 4, 1, 1) if layout == "kernel" else (1, 4)))
    else:
        write(path, deepsea_state(layout))
    network = read(path, DeepSeaConfig(**TINY))
    assert network.logits(rows("ACGTAA")).item() == 12
    assert {value.device.type for value in network.state_dict().values()} == {"cpu"}
    assert {value.dtype for value in network.state_dict().values()} == {torch.float32}


def test_a_torch7_network_with_plain_rectifiers_is_not_taken_for_deepsea(tmp_path: Path) -> None:
    write_torch7(tmp_path / "a.cpu", torch7(deepsea_state(), value=0.0))
    with pytest.raises(ModelError, match="thresholds that put 1e-06"):
        read(tmp_path / "a.cpu", DeepSeaConfig(**TINY))


def without(state: Arrays, key: str) -> Arrays:
    return {name: values for name, values in state.items() if name != key}


@pytest.mark.parametrize(
    ("state", "config", "message"),
    [
        (beluga_state(), DeepSeaConfig(**TINY), "expected DeepSea"),
        (deepsea_state("2."), BelugaConfig(**TINY), r"expected Beluga, model\.0\.0\.weight"),
        (without(deepsea_state("2."), "2.4.bias"), DeepSeaConfig(**TINY), r"no tensor '2\.4\.bias' of shape \(1\)"),
        (without(beluga_state(), "model.1.4.1.weight"), BelugaConfig(**TINY), r"'model\.1\.4\.1\.weight'"),
        (deepsea_state("2.") | {"3.weight": np.ones(1)}, DeepSeaConfig(**TINY), r"belong to no part.*'3\.weight'"),
        (beluga_state(), BelugaConfig(), r"'model\.0\.0\.weight' has shape \(1, 4, 1, 1\), expected \(320, 4, 1, 8\)"),
        (deepsea_state(), DeepSeaConfig(**TINY | {"n_tracks": 2}), r"'14\.1\.weight' has shape \(1, 1\), expected \(2"),
        ({}, BelugaConfig(**TINY), "found nothing"),
    ],
    ids=["beluga", "deepsea", "bias", "answers", "surplus", "widths", "tracks", "empty"],
)  # fmt: skip
def test_a_file_with_another_network_is_refused_by_the_tensor_that_differs(
    state: Arrays, config: Config, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=message):
        convert(Tensors(tmp_path / "a.pth", state), config, tmp_path / "a.pth")


@pytest.mark.parametrize("change", [{"length": 2}, {"channels": (1, 1)}, {"pool": 0}, {"width": 9}], ids=str)
@pytest.mark.parametrize("kind", [DeepSeaConfig, BelugaConfig])
def test_sizes_that_leave_nothing_to_read_are_refused(kind: type[Config], change: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="leave at least one position"):
        kind(**TINY | {"width": 2} | change)


def loaded(folder: Path, name: str, **options: Any) -> Model:
    """Load a tiny network as a user does, from a folder with its sizes and a table of its one track."""
    if name == "deepsea":
        write_folder(folder, DeepSeaConfig(**TINY), deepsea_state("2."))
    else:
        write_folder(folder, BelugaConfig(**TINY), beluga_state())
    return load(name, ModelOptions(weights=folder, offline=True, **options))


@pytest.mark.parametrize(("name", "rows"), [("deepsea", 16), ("beluga", 8)])
def test_the_default_scores_are_difference_and_log_odds_of_each_strand(name: str, rows: int, tmp_path: Path) -> None:
    model = loaded(tmp_path, name)
    assert [column.name for column in model.scorer.columns] == ["DIFF_T0", "LOGODDS_T0"]
    assert [field.key for field in model.scorer.fields] == ["DIFF_MAX", "DIFF_MAX_TRACK"]
    assert model.batch_rows[0] == rows
    options = dict(model.origin.options)
    assert (options["strands"], options["strands_averaged"], options["indels"]) == ("both", "scores", "anchor")
    assert (options["window"], options["index"]) == ("6", "2")


def test_all_scores_of_deepsea_can_be_asked_for_but_evalues_need_their_background(tmp_path: Path) -> None:
    model = loaded(tmp_path, "deepsea", scores=("LOG2FC", "logit", "DIFF", "LOGODDS"))
    assert [column.name for column in model.scorer.columns] == ["DIFF_T0", "LOGODDS_T0", "LOGIT_T0", "LOG2FC_T0"]
    with pytest.raises(ModelError, match=r"resources.ecdfs"):
        loaded(tmp_path, "deepsea", scores=("evalue",))


def test_beluga_has_no_evalues(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="EVALUE: beluga has DIFF, LOGODDS, LOGIT, LOG2FC"):
        loaded(tmp_path, "beluga", scores=("EVALUE",))
