"""Basenji2: sizes as published, which GELU a file wants, and which files are taken."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basenji_files import NORM_VARIABLES, keras_shapes, write_keras
from numpy.typing import NDArray

from varfm.errors import ModelError
from varfm.genome import encode
from varfm.models import ModelOptions, load
from varfm.models.basenji2 import Basenji2, Basenji2Config, Gelu, convert
from varfm.models.catalog import get
from varfm.models.loading import filled
from varfm.protocols import Model
from varfm.readers import Tensors, read_tensors
from varfm.windows import Haplotype, Window

Arrays = dict[str, NDArray[Any]]

SMALL = Basenji2Config(
    length=1024, n_tracks=3, stem_channels=4, stem_width=5, tower_channels=(5, 6), tower_width=3, residual_channels=4,
    dilations=(1, 2), crop_bins=4, head_channels=7,
)  # fmt: skip


def weights(config: Basenji2Config, seed: int = 1) -> Arrays:
    """Draw weights by `layer/variable`, in the network's order."""
    draw = np.random.default_rng(seed)
    shapes = keras_shapes(config)
    return {
        k: draw.uniform(0.5, 1.5, n) if k.endswith(NORM_VARIABLES) else draw.normal(size=n) for k, n in shapes.items()
    }


def tensors(config: Basenji2Config = SMALL, facts: dict[str, str] | None = None) -> Tensors:
    arrays = {f"{key.split('/')[0]}/{key}:0": values.astype(np.float32) for key, values in weights(config).items()}
    return Tensors(Path("model.h5"), arrays, facts)


def described(activation: str, **kwargs: Any) -> str:
    """Give what Keras writes of a network: a `GELU` layer of the authors, or a function of TensorFlow."""
    layer = {"class_name": activation, "config": {"name": "x", **kwargs}, "inbound_nodes": []}
    return json.dumps({"class_name": "Functional", "config": {"name": "model", "layers": [layer]}})


def network(config: Basenji2Config, found: Tensors) -> Basenji2:
    with torch.device("meta"):
        empty = Basenji2(config)
    net = filled(empty, convert(found, config, found.path), found.path)
    net.build_tables()
    return net


def forms(net: Basenji2) -> set[str]:
    return {module.form for module in net.modules() if isinstance(module, Gelu)}


@pytest.mark.parametrize(
    ("name", "n_tracks", "n_trained", "n_values"),
    [("basenji2", 5313, 30_088_228, 30_123_584), ("basenji2-mouse", 1643, 24_447_438, 24_482_794)],
)
def test_the_published_network_has_its_parameters_and_shapes(
    name: str, n_tracks: int, n_trained: int, n_values: int
) -> None:
    config = Basenji2Config(n_tracks=get(name).n_outputs)
    with torch.device("meta"):
        net = Basenji2(config)
    state = {key: tuple(value.shape) for key, value in net.state_dict().items()}
    n_running = sum(value.numel() for key, value in net.named_buffers() if "running" in key)
    assert sum(value.numel() for value in net.parameters()) == n_trained
    assert n_running == 35_356
    assert n_trained + n_running == n_values
    assert get(name).parameters == n_trained
    assert state["pooled.0.conv.weight"] == (288, 4, 15)
    assert state["pooled.6.conv.weight"] == (768, 652, 5)
    assert state["dilated.10.conv.weight"] == (384, 768, 3)
    assert state["returned.10.conv.weight"] == (768, 384, 1)
    assert state["head.conv.weight"] == (1536, 768, 1)
    assert state["tracks.weight"] == (n_tracks, 1536, 1)
    assert len(state) == 30 * 6 + 2 + 1
    assert [block.conv.dilation[0] for block in net.dilated] == [1, 2, 3, 4, 6, 9, 14, 21, 32, 48, 72]


def test_the_published_bins_lie_where_the_paper_has_them() -> None:
    with torch.device("meta"):
        net = Basenji2(Basenji2Config())
    assert (net.length, net.bin_width, net.first_base, net.n_bins) == (131_072, 128, 8_192, 896)


@pytest.mark.parametrize(
    ("facts", "form"),
    [
        ({}, "sigmoid"),
        ({"model_config": described("GELU")}, "sigmoid"),
        ({"model_config": described("TFOpLambda", function="nn.gelu")}, "tanh"),
        ({"model_config": described("TFOpLambda", function="math.add")}, "sigmoid"),
    ],
    ids=["nothing", "layer", "function", "other"],
)
def test_the_form_of_the_gelu_is_that_of_the_file(facts: dict[str, str], form: str) -> None:
    net = network(SMALL, tensors(facts=facts))
    assert forms(net) == {form}
    again = network(SMALL, tensors())
    again.load_state_dict(net.state_dict())  # as a converted copy is read
    again.build_tables()
    assert forms(again) == {form}


@pytest.mark.parametrize("form", ["sigmoid", "tanh", "erf"])
def test_a_form_that_is_asked_for_comes_before_that_of_the_file(form: str) -> None:
    config = Basenji2Config(**asdict(SMALL) | {"gelu": form})
    facts = {"model_config": described("TFOpLambda", function="nn.gelu")}
    assert forms(network(config, tensors(facts=facts))) == {form}


@pytest.mark.parametrize(("form", "at_one"), [("sigmoid", 0.8458), ("tanh", 0.8412), ("erf", 0.8413)])
def test_the_forms_differ_by_what_they_make_of_one(form: str, at_one: float) -> None:
    gelu = Gelu()
    gelu.form = form
    assert gelu(torch.tensor([0.0, 1.0])).tolist() == pytest.approx([0, at_one], abs=5e-5)


@pytest.mark.parametrize("text", ["{", "[]", "[1]", '{"config": 3}', '{"config": {"layers": [{}]}}'])
def test_a_description_that_cannot_be_read_is_told(text: str) -> None:
    with pytest.raises(ModelError, match=r"model\.h5: its attribute model_config cannot be read"):
        network(SMALL, tensors(facts={"model_config": text}))


def test_n_is_a_quarter_of_every_base() -> None:
    net = network(SMALL, tensors())
    found: list[torch.Tensor] = []
    net.pooled[0].gelu.register_forward_hook(lambda module, inputs, output: found.append(inputs[0]))
    net(torch.tensor([list(encode("Nac" + "T" * 1021))], dtype=torch.uint8))
    assert found[0][0, :, :4].T.tolist() == [[0.25] * 4, [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]]


def changed(key: str, value: NDArray[Any] | None) -> Tensors:
    arrays = dict(tensors())
    del arrays[key]
    return Tensors(Path("model.h5"), arrays if value is None else arrays | {key: value})


def renamed(old: str, new: str) -> Tensors:
    return Tensors(Path("model.h5"), {key.replace(old, new): value for key, value in tensors().items()})


KERNEL = "conv1d_2/conv1d_2/kernel:0"
NORM = "batch_normalization/batch_normalization/"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (changed(KERNEL, None), "expected 8 convolutions and batch norms and one dense layer"),
        (changed("dense/dense/bias:0", None), "expected 8 convolutions"),
        (changed(KERNEL, np.ones((3, 5, 7))), r"has shape \(3, 5, 7\), expected \(3, 5, 6\)"),
        (changed("dense/dense/kernel:0", np.ones((7, 4))), r"has shape \(7, 4\), expected \(7, 3\)"),
        (Tensors(Path("model.h5"), dict(tensors()) | {"x/x/y:0": np.ones(1)}), "expected 8 convolutions"),
        (renamed(f"{NORM}beta", f"{NORM}other"), "no tensor 'beta'"),
        (Tensors(Path("model.h5"), {}), "found nothing"),
        (Tensors(Path("model.h5"), {"model.trunk.0.block.1.weight": np.ones((4, 4, 5))}), r"model\.trunk\.0\.block\.2"),
    ],
    ids=["kernel", "bias", "width", "tracks", "surplus", "norm", "empty", "port"],
)  # fmt: skip
def test_another_file_is_refused_by_what_differs(found: Tensors, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        network(SMALL, found)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"length": 1025}, "no whole number of bins"),
        ({"crop_bins": 64}, "nothing is left"),
        ({"stem_width": 4}, "have to be odd"),
        ({"pool": 0}, "1 or more"),
        ({"gelu": "relu"}, "expected auto, sigmoid, tanh, erf"),
    ],
    ids=["length", "crop", "width", "pool", "gelu"],
)
def test_sizes_that_do_not_fit_together_are_refused(sizes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Basenji2Config(**asdict(SMALL) | sizes)


def test_the_network_can_be_traced() -> None:
    net = network(SMALL, tensors())
    batch = torch.randint(0, 5, (2, 1024), dtype=torch.uint8)
    assert torch.equal(torch.fx.symbolic_trace(net)(batch), net(batch))
    assert net(batch).shape == (2, 120, 3)
    assert net(batch).dtype == torch.float32


def test_bins_of_the_reverse_strand_are_turned_round() -> None:
    net = network(SMALL, tensors())
    output = torch.arange(6.0).reshape(3, 2)
    forward, reverse = (Haplotype(Window("c", 0, 9), None, strand) for strand in ("+", "-"))  # type: ignore[arg-type]
    assert net.rows(b"\0\1", reverse) == [b"\0\1"]
    assert net.reduce(forward, b"", [output]).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert net.reduce(reverse, b"", [output]).tolist() == [[4, 5], [2, 3], [0, 1]]


@pytest.mark.parametrize(
    ("config", "n_rows"),
    [
        pytest.param(SMALL, 5, id="small"),
        pytest.param(Basenji2Config(length=2048, crop_bins=1), 2, id="wide", marks=pytest.mark.slow),
    ],
)
def test_a_row_is_answered_alike_wherever_it_stands_in_a_batch(config: Basenji2Config, n_rows: int) -> None:
    torch.manual_seed(1)
    net = Basenji2(config).eval().requires_grad_(False)
    draw = torch.Generator().manual_seed(1)
    probe = torch.randint(0, 5, (config.length,), generator=draw, dtype=torch.uint8)
    n_threads = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found = []
            for place in range(n_rows):
                batch = torch.randint(0, 5, (n_rows, config.length), generator=draw, dtype=torch.uint8)
                batch[place] = probe
                found.append(net(batch)[place])
            assert all(torch.equal(answer, found[0]) for answer in found)
    finally:
        torch.set_num_threads(n_threads)


def loaded(folder: Path, name: str, **options: Any) -> Model:
    """Load a small network as a user does."""
    species = "mouse" if name.endswith("mouse") else "human"
    facts = {"model_config": described("TFOpLambda", function="nn.gelu")}
    write_keras(folder / f"model_{species}.h5", weights(SMALL), facts)
    first = 5313 if species == "mouse" else 0
    rows = [f"{first + number}\tENC{number}\t{assay}:cell\n" for number, assay in enumerate(("DNASE", "CAGE", "CAGE"))]
    (folder / f"targets_{species}.txt").write_text("index\tidentifier\tdescription\n" + "".join(rows))
    (folder / "config.json").write_text(json.dumps(asdict(SMALL)))
    return load(name, ModelOptions(weights=folder, offline=True, **options))


@pytest.mark.parametrize("name", ["basenji2", "basenji2-mouse"])
def test_the_model_scores_sad_and_sar_on_both_strands_and_compensates_indels(name: str, tmp_path: Path) -> None:
    model = loaded(tmp_path, name)
    assert isinstance(model.network, Basenji2)
    assert {value.device.type for value in model.network.state_dict().values()} == {"cpu"}
    assert forms(model.network) == {"tanh"}
    assert [column.name for column in model.scorer.columns] == [
        "SAD_T0",
        "SAD_T1",
        "SAD_T2",
        "SAR_T0",
        "SAR_T1",
        "SAR_T2",
    ]
    assert [f.key for f in model.scorer.fields] == ["SAR_DNASE", "SAR_DNASE_TRACK", "SAR_CAGE", "SAR_CAGE_TRACK"]
    options = dict(model.origin.options)
    assert (options["strands"], options["strands_averaged"], options["indels"]) == ("both", "answers", "compensate")
    assert (options["window"], options["index"]) == ("1024", "511")
    assert model.batch_rows == (1, 8)


def test_layers_are_read_in_the_order_that_the_file_lists(tmp_path: Path) -> None:
    write_keras(tmp_path / "model.h5", weights(SMALL), {})
    found = read_tensors(tmp_path / "model.h5")
    expected = convert(tensors(), SMALL, Path("model.h5"))
    assert str(found.facts["layer_names"]).split("\n")[:3] == ["sequence", "conv1d", "batch_normalization"]
    assert all(np.array_equal(values, expected[key]) for key, values in convert(found, SMALL, found.path).items())
