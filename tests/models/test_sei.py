"""Tests of varfm.models.sei: sizes, the spline basis, the published file, the tables beside it, the user's choices."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, fx

from varfm.errors import ModelError, OptionError
from varfm.models import ModelOptions, catalog, load
from varfm.models.sei import Sei, SeiConfig, build, convert, dense, spline_basis
from varfm.models.sei_classes import CLASSES
from varfm.protocols import Model
from varfm.readers import read_tensors
from varfm.scorers.classes import ClassScorer
from varfm.weights import LocalWeights

sys.path.append(str(Path(__file__).parent.parent))
from sei_files import SMALL, upstream_shapes, weights, write_sei

pytestmark = pytest.mark.filterwarnings("ignore:.*not the published file")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sei(tmp_path / "sei")


def loaded(folder: Path, **chosen: object) -> Model:
    return load("sei", ModelOptions(weights=folder, offline=True, **chosen))  # type: ignore[arg-type]


def scorer_of(model: Model) -> ClassScorer:
    assert isinstance(model.scorer, ClassScorer)
    return model.scorer


def converted(path: Path, state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    torch.save(state, path)
    return {name: value.shape for name, value in convert(read_tensors(path), SMALL, path).items()}


def batch(n: int, length: int = SMALL.length, seed: int = 1) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).randint(0, 5, (n, length)).astype(np.uint8))


# Sizes.


def test_published_network_has_889_979_983_parameters_in_38_tensors() -> None:
    with torch.device("meta"):
        network = Sei(SeiConfig())
    assert sum(value.numel() for value in network.parameters()) == 889_979_983
    assert len(network.state_dict()) == 38


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("linear.0.0.weight", (480, 4, 9)),
        ("rectified.1.2.weight", (640, 640, 9)),
        ("linear.2.0.weight", (960, 640, 9)),
        ("dilated.4.weight", (960, 960, 5)),
        ("hidden.weight", (21907, 15360)),
        ("tracks.weight", (21907, 21907)),
        ("tracks.bias", (21907,)),
    ],
)
def test_published_network_has_the_shapes_of_the_paper(name: str, shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        assert Sei(SeiConfig()).state_dict()[name].shape == shape


@pytest.mark.parametrize("wrong", [{"n_splines": 3}, {"n_splines": 0}, {"length": 0}, {"width": 4}, {"pool": 0}])
def test_sizes_that_do_not_go_together_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="sizes of a Sei do not go together"):
        Sei(replace(SMALL, **wrong))


def test_licence_that_forbids_commercial_use_is_stamped_in_the_header(folder: Path) -> None:
    assert loaded(folder).origin.licence.endswith("academic and research use (not for commercial use)")


def test_catalogue_and_published_sizes_agree() -> None:
    checkpoint = catalog.get("sei")
    assert (checkpoint.window, checkpoint.n_outputs, checkpoint.parameters) == (4096, 21907, 889_979_983)
    assert checkpoint.index == checkpoint.window // 2 - 1


# The basis of splines.


def test_spline_basis_has_the_numbers_of_the_authors() -> None:
    basis = spline_basis(256, 16)
    assert basis.shape == (256, 16) and basis.dtype == np.float32
    assert basis.sum(1) == pytest.approx(1.0, abs=1e-6)
    assert basis[0].tolist() == [1.0] + [0.0] * 15
    assert basis[255].tolist() == [0.0] * 15 + [1.0]
    assert basis[128, 6:11] == pytest.approx([0.01780674, 0.46308115, 0.49492732, 0.02418481, 0], abs=1e-8)
    assert basis.sum(0)[:4] == pytest.approx([5.41659, 9.79495, 14.71154, 19.61538], abs=1e-5)


def test_spline_basis_is_the_same_from_both_ends() -> None:
    assert spline_basis(40, 7) == pytest.approx(spline_basis(40, 7)[::-1, ::-1], abs=1e-7)


def test_four_splines_are_the_bernstein_polynomials() -> None:
    t = np.linspace(0, 1, 11)
    expected = np.stack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], 1)
    assert spline_basis(11, 4) == pytest.approx(expected, abs=1e-7)


# The published file.


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "module.model.", "module.model.module."])
def test_weights_are_found_behind_any_wrapper(tmp_path: Path, prefix: str) -> None:
    with torch.device("meta"):
        wanted = {name: value.shape for name, value in Sei(SMALL).state_dict().items()}
    state = {prefix + name: value for name, value in weights().items()}
    assert converted(tmp_path / "sei.pth", state) == wanted


def test_weights_under_state_dict_are_found_beside_an_optimiser(tmp_path: Path) -> None:
    path = tmp_path / "sei.pth"
    torch.save({"state_dict": weights(), "step": 5, "optimizer": {"state": {0: torch.ones(2)}}}, path)
    assert len(convert(read_tensors(path), SMALL, path)) == len(weights())


def test_order_of_the_keys_does_not_matter(tmp_path: Path) -> None:
    paths = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save(weights(), paths[0])
    torch.save(dict(reversed(weights().items())), paths[1])
    first, second = (convert(read_tensors(path), SMALL, path) for path in paths)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_missing_tensor_is_refused(tmp_path: Path) -> None:
    state = weights()
    del state["dconv2.1.bias"]
    with pytest.raises(ModelError, match=r"sei\.pth: no tensor 'dconv2\.1\.bias'"):
        converted(tmp_path / "sei.pth", state)


def test_tensor_too_many_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"belong to no part of the model \('dconv3\.1\.bias'\)"):
        converted(tmp_path / "sei.pth", weights() | {"dconv3.1.bias": torch.zeros(10)})


def test_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'classifier\.2\.bias' has shape \(11\), expected \(12\)"):
        converted(tmp_path / "sei.pth", weights() | {"classifier.2.bias": torch.zeros(11)})


def test_two_networks_in_a_file_are_refused(tmp_path: Path) -> None:
    twice = {f"{prefix}.{name}": value for prefix in "ab" for name, value in weights().items()}
    with pytest.raises(ModelError, match=r"expected lconv1\.0\.weight of Sei, once"):
        converted(tmp_path / "sei.pth", twice)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not the weights of this model"):
        converted(tmp_path / "sei.pth", {"conv1.weight": torch.zeros(3, 4, 5)})


def test_nothing_is_left_on_meta_and_gradients_are_off(folder: Path) -> None:
    network = loaded(folder).network
    assert isinstance(network, Sei)
    values = [*network.parameters(), *network.buffers()]
    assert {value.device.type for value in values} == {"cpu"}
    assert not any(value.requires_grad for value in values)
    assert network.basis.numpy().tolist() == spline_basis(16, 6).tolist()
    assert not network.training


# The network.


@pytest.fixture
def network(folder: Path) -> Sei:
    found = loaded(folder).network
    assert isinstance(found, Sei)
    return found


def test_every_weight_of_the_file_matters(folder: Path, network: Sei) -> None:
    inputs = batch(2)
    with torch.inference_mode():
        before = network.logits(inputs)
    for name in upstream_shapes(SMALL):
        changed = weights()
        changed[name] = changed[name] + 0.1
        torch.save(changed, folder / "sei.pth")
        other = loaded(folder).network
        assert isinstance(other, Sei)
        with torch.inference_mode():
            assert (other.logits(inputs) - before).abs().max() > 1e-6, name


def test_network_can_be_traced(network: Sei) -> None:
    inputs = batch(3)
    traced = fx.symbolic_trace(network)
    with torch.inference_mode():
        assert torch.equal(traced(inputs), network(inputs))


def test_answers_are_probabilities_of_the_logits(network: Sei) -> None:
    with torch.inference_mode():
        logits, answers = network.logits(batch(2)), network(batch(2))
    assert answers.shape == (2, 12) and answers.dtype == torch.float32
    assert torch.allclose(answers, torch.sigmoid(logits), rtol=0, atol=2e-7)
    assert (logits[0] - logits[1]).abs().max() > 0.01


def test_n_is_a_quarter_of_every_base(network: Sei) -> None:
    """The first layer is linear, so its answer to N is the mean of its answers to the four bases."""
    inputs = batch(1) % 4
    variants = torch.stack([torch.where(torch.arange(256) == 100, base, inputs[0]) for base in range(5)])
    seen: list[Tensor] = []
    network.linear[0][0].register_forward_hook(lambda module, x, y: seen.append(y))
    with torch.inference_mode():
        network(variants.to(torch.uint8))
    bases, n = seen[0][:4], seen[0][4]
    assert torch.allclose(bases.mean(0), n, atol=1e-6)
    assert (bases[0] - n).abs().max() > 0.01


@pytest.mark.parametrize("n", [3, 4, 5])
@pytest.mark.parametrize("threads", [1, 2])
def test_answer_is_the_same_wherever_a_row_stands_in_the_batch(network: Sei, threads: int, n: int) -> None:
    check_rows(network, batch(n), threads)


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 4])
@pytest.mark.parametrize("threads", [1, 2])
def test_answer_is_the_same_wherever_a_row_stands_in_a_batch_of_real_width(threads: int, n: int) -> None:
    torch.manual_seed(0)
    config = SeiConfig(n_tracks=24)
    check_rows(Sei(config).eval(), batch(n, config.length), threads)


@pytest.mark.slow
@pytest.mark.parametrize("n_in", [15360, 21907])
def test_dense_layers_of_real_width_answer_rows_alike_wherever_they_stand(n_in: int) -> None:
    torch.manual_seed(0)
    layer = torch.nn.Linear(n_in, 21907)
    for n, threads in ((2, 1), (3, 1), (4, 2), (5, 2)):
        check_rows(lambda x: dense(x, layer.weight, layer.bias), torch.randn(n, n_in), threads)


def check_rows(answer: Callable[[Tensor], Tensor], inputs: Tensor, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    last = len(inputs) - 1
    try:
        with torch.inference_mode():
            whole = answer(inputs)
            for order in ([*range(last, -1, -1)], [1] * (last + 1), [last, *range(last)]):
                assert torch.equal(answer(inputs[order]), whole[order]), order
    finally:
        torch.set_num_threads(before)


# The tables of the projection.


def test_projection_may_be_float64(folder: Path) -> None:
    np.save(folder / "projvec_targets.npy", np.load(folder / "projvec_targets.npy").astype(np.float64))
    assert scorer_of(loaded(folder)).projection.vectors.dtype == torch.float64


def overwrite(path: Path, values: object) -> None:
    if isinstance(values, bytes):
        path.write_bytes(values)
    else:
        np.save(path, np.asarray(values), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("projvec_targets.npy", np.ones((61, 11)), r"float64 of shape \(61, 11\), expected 61 x 12 floats"),
        ("projvec_targets.npy", np.ones((60, 12)), "expected 61 x 12 floats"),
        ("projvec_targets.npy", np.ones((61, 12), int), "expected 61 x 12 floats"),
        ("projvec_targets.npy", np.zeros((61, 12)), "all zeros, or not finite"),
        ("projvec_targets.npy", np.full((61, 12), np.nan), "all zeros, or not finite"),
        ("projvec_targets.npy", np.array([{"a": 1}]), "cannot be read as a NumPy array"),
        ("projvec_targets.npy", b"<html>not here</html>", "cannot be read as a NumPy array"),
        ("projvec_targets.npy", b"", "cannot be read as a NumPy array"),
        ("projvec_targets.npy", b"PK\x05\x06" + bytes(18), "cannot be read as a NumPy array"),
        ("histone_inds.npy", [1, 2, 12], "different numbers from 0 to 11"),
        ("histone_inds.npy", [-1, 2], "different numbers from 0 to 11"),
        ("histone_inds.npy", [2, 2], "different numbers from 0 to 11"),
        ("histone_inds.npy", np.array([], int), "different numbers from 0 to 11"),
        ("histone_inds.npy", [1.0, 2.0], "expected any integers"),
        ("seqclass.names", b"PC1 Polycomb\n", "does not name the 40 sequence classes"),
        ("seqclass.names", b"\xff\xfe", "cannot be read as text"),
        ("target.names", b"Cell | CTCF | ENCODE\n", "has 1 track, expected 12"),
    ],
)  # fmt: skip
def test_table_that_does_not_fit_is_refused(folder: Path, name: str, values: object, said: str) -> None:
    overwrite(folder / name, values)
    with pytest.raises(ModelError, match=said) as caught:
        loaded(folder)
    assert str(folder / name) in str(caught.value) and "\n" not in str(caught.value)


def test_cut_array_is_refused(folder: Path) -> None:
    path = folder / "projvec_targets.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match="cannot be read as a NumPy array"):
        loaded(folder)


# What the user chooses.


def test_default_columns_are_the_classes_and_the_headline(folder: Path) -> None:
    names = [column.name for column in loaded(folder).scorer.columns]
    assert names == [*(item.label for item in CLASSES), "top_class", "top_score", "ref_class"]


def test_scores_are_chosen_by_name_in_any_case_and_stand_in_fixed_order(folder: Path) -> None:
    names = [column.name for column in loaded(folder, scores=("max_abs", "raw")).scorer.columns]
    assert names[0] == "RAW_REF_PC1" and names[40] == "RAW_REF_40" and names[61] == "RAW_ALT_PC1"
    assert names[122:] == ["MAX_ABS", "top_class", "top_score", "ref_class"]


def test_differences_of_all_tracks_or_of_those_that_were_asked_for(folder: Path) -> None:
    every = loaded(folder, scores=("DIFF",))
    assert [column.name for column in every.scorer.columns[:12]] == [f"DIFF_T{index}" for index in range(12)]
    some = loaded(folder, tracks=("H3K4me3",))
    assert [column.name for column in some.scorer.columns[40:45]] == [f"DIFF_T{index}" for index in (1, 2, 5, 7, 11)]
    assert "DIFF_T5" in [field.key for field in some.scorer.fields]
    assert "DIFF_T5" not in [field.key for field in every.scorer.fields]


def test_unknown_score_is_an_error_that_names_the_known_ones(folder: Path) -> None:
    with pytest.raises(OptionError, match="--scores SAD: sei has CLASS, RAW, DIFF, MAX_ABS"):
        loaded(folder, scores=("SAD",))


@pytest.mark.parametrize(
    "chosen",
    [
        {"bins": "1"}, {"shifts": (1, 0)}, {"max_distance": 5}, {"compat": "kipoi"},
        {"compat": "selene", "indel_mode": "anchor"},
    ],
    ids=lambda chosen: "-".join(chosen),
)  # fmt: skip
def test_option_that_does_not_apply_is_refused(folder: Path, chosen: dict[str, object]) -> None:
    with pytest.raises(OptionError):
        loaded(folder, **chosen)


def test_header_says_how_indels_are_placed_and_names_every_class(folder: Path) -> None:
    plain, selene = loaded(folder).origin, loaded(folder, compat="selene").origin
    assert dict(plain.options)["indels"] == "anchor" and "compat" not in dict(plain.options)
    assert dict(selene.options)["indels"] == "selene" and dict(selene.options)["compat"] == "selene"
    assert dict(plain.options)["index"] == "127"
    assert len(plain.notes) == 40
    assert plain.notes[5] == ("class", '<ID=E1,Name="Stem cell",Group=E>')


def test_missing_table_is_a_clear_error(folder: Path) -> None:
    (folder / "histone_inds.npy").unlink()
    with pytest.raises(ModelError, match=r"histone_inds\.npy"):
        loaded(folder)


def test_sizes_that_do_not_fit_the_file_are_refused(folder: Path) -> None:
    files = {file.name: folder / file.name for file in catalog.get("sei").auxiliaries}
    np.save(folder / "projvec_targets.npy", np.ones((61, 21907)))
    names = "".join(f"Cell {index} | CTCF | ENCODE\n" for index in range(21907))
    (folder / "target.names").write_text(names)
    here = LocalWeights(folder / "sei.pth", "", False, files)
    with pytest.raises(ModelError, match=r"'module\.model\.\S+' has shape"):
        build(catalog.get("sei"), here, ModelOptions())


def test_window_may_be_shorter_than_published(folder: Path) -> None:
    scorer = scorer_of(loaded(folder))
    assert scorer.max_allele == 128
    assert replace(SMALL, length=512).n_positions == 32
