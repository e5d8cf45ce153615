"""Caduceus: sizes, both strands, loading, tokens. That its answers are upstream's is for `tests/parity`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from varfm.encoding.characters import HYENADNA, Characters
from varfm.errors import ModelError
from varfm.genome import encode, reverse_complement
from varfm.models.caduceus import Caduceus, CaduceusConfig, convert, network_of, tokenizer_of
from varfm.models.loading import loaded
from varfm.readers import Tensors
from varfm.weights import LocalWeights

PS = CaduceusConfig(width=14, n_layers=3, n_inner=28, n_states=3, rank=2)
PH = replace(PS, both_strands=False, swaps=False, complement=())
OPPOSITE = torch.tensor(PS.complement)
PUBLISHED_JSON: dict[str, Any] = {
    "architectures": ["CaduceusForMaskedLM"],
    "bidirectional": True,
    "bidirectional_strategy": "add",
    "bidirectional_weight_tie": True,
    "complement_map": {str(token): {7: 10, 8: 9, 9: 8, 10: 7}.get(token, token) for token in range(16)},
    "d_model": 256,
    "fused_add_norm": True,
    "initializer_cfg": {"initializer_range": 0.02},
    "model_type": "caduceus",
    "n_layer": 16,
    "norm_epsilon": 1e-5,
    "pad_vocab_size_multiple": 8,
    "rcps": True,
    "residual_in_fp32": False,
    "rms_norm": True,
    "ssm_cfg": {"bias": False, "conv_bias": True, "d_conv": 4, "d_state": 16, "dt_rank": "auto", "expand": 2},
    "torch_dtype": "float32",
    "transformers_version": "4.38.1",
    "vocab_size": 16,
}
CONFIG_PATH = Path("folder/config.json")


def network(config: CaduceusConfig, seed: int = 0) -> Caduceus:
    torch.manual_seed(seed)
    made = Caduceus(config).eval().requires_grad_(False)
    for name, parameter in made.named_parameters():
        if "norm" in name:
            parameter.uniform_(0.5, 1.5)
    return made


def ids(n: int, n_tokens: int) -> Tensor:
    return torch.randint(7, 12, (n, n_tokens), generator=torch.Generator().manual_seed(n_tokens))


def on_meta(config: CaduceusConfig) -> Caduceus:
    with torch.device("meta"):
        return network_of(config)


def tensors_of(made: Caduceus) -> dict[str, NDArray[Any]]:
    """Give what a published file of PS holds: one of all that are tied, and the tables."""
    kept = {
        name: value.numpy().copy()
        for name, value in made.state_dict().items()
        if "mamba_rev.in_proj" not in name and "mamba_rev.out_proj" not in name
    }
    tables = ("caduceus.backbone.embeddings.word_embeddings.complement_map", "lm_head.complement_map")
    return kept | {name: OPPOSITE.numpy().copy() for name in tables}


def test_the_published_networks_have_the_published_number_of_parameters() -> None:
    for config in (CaduceusConfig(), replace(CaduceusConfig(), both_strands=False, swaps=False, complement=())):
        assert sum(value.numel() for value in on_meta(config).parameters()) == 7_725_312


def test_the_largest_plant_network_fills_its_published_file() -> None:
    config = CaduceusConfig(n_vocabulary=8, width=1024, n_layers=32, n_inner=2048, rank=64, complement=tuple(range(8)))
    n_parameters = sum(value.numel() for value in on_meta(config).parameters())
    assert 0 < 901_671_450 - 4 * n_parameters < 300_000  # bytes of pytorch_model.bin; names are in it too


def test_tensors_have_the_published_names_and_shapes() -> None:
    shapes = {name: tuple(value.shape) for name, value in on_meta(CaduceusConfig()).state_dict().items()}
    layer = "caduceus.backbone.layers.15."
    assert shapes["caduceus.backbone.embeddings.word_embeddings.embedding.weight"] == (16, 256)
    assert shapes[f"{layer}norm.weight"] == (256,)
    expected = {
        "A_log": (512, 16), "D": (512,), "in_proj.weight": (1024, 256), "conv1d.weight": (512, 1, 4),
        "conv1d.bias": (512,), "x_proj.weight": (48, 512), "dt_proj.weight": (512, 16), "dt_proj.bias": (512,),
        "out_proj.weight": (256, 512),
    }  # fmt: skip
    for direction in ("fwd", "rev"):
        start = f"{layer}mixer.submodule.mamba_{direction}."
        found = {name.removeprefix(start): shape for name, shape in shapes.items() if name.startswith(start)}
        assert found == expected
    assert len(shapes) == 309 - 3  # but for the head, which is the table of tokens, and the tables of complements


def test_the_published_config_gives_the_published_sizes() -> None:
    assert CaduceusConfig.from_json(PUBLISHED_JSON, CONFIG_PATH) == CaduceusConfig()


def test_what_a_config_leaves_out_is_as_upstream_has_it() -> None:
    given = {"model_type": "caduceus", "d_model": 118, "n_layer": 4, "vocab_size": 12}
    found = CaduceusConfig.from_json(given, CONFIG_PATH)
    assert (found.n_vocabulary, found.n_inner, found.rank, found.n_states, found.kernel) == (16, 236, 8, 16, 4)
    assert not found.both_strands and not found.swaps


def test_complements_are_read_by_number_whatever_their_order() -> None:
    table = PUBLISHED_JSON["complement_map"]
    sorted_as_text = dict(sorted(table.items()))
    assert list(sorted_as_text) != list(table)
    found = CaduceusConfig.from_json(PUBLISHED_JSON | {"complement_map": sorted_as_text}, CONFIG_PATH)
    assert found.complement == CaduceusConfig().complement


def test_rows_without_a_complement_are_their_own() -> None:
    table = dict(list(PUBLISHED_JSON["complement_map"].items())[:12])
    found = CaduceusConfig.from_json(PUBLISHED_JSON | {"complement_map": table, "vocab_size": 12}, CONFIG_PATH)
    assert found.complement == CaduceusConfig().complement


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rms_norm": False}, "rms_norm is False"),
        ({"bidirectional": False}, "bidirectional is False"),
        ({"bidirectional_strategy": "ew_multiply"}, "'ew_multiply'"),
        ({"bidirectional_weight_tie": False}, "bidirectional_weight_tie"),
        ({"model_type": "mamba"}, "'mamba'"),
        ({"layer_cfg": {}}, "layer_cfg: not known"),
        ({"ssm_cfg": {"headdim": 32}}, "headdim: not known"),
        ({"ssm_cfg": {"conv_bias": False}}, "conv_bias"),
        ({"ssm_cfg": 3}, "ssm_cfg"),
        ({"d_model": "256"}, "d_model"),
        ({"norm_epsilon": 0.0}, "norm_epsilon"),
        ({"rcps": 1}, "rcps"),
        ({"complement_map": None}, "complement_map"),
        ({"complement_map": {"a": 1}}, "complement_map"),
        ({"complement_map": {"0": "1", "1": 0}}, "complement_map"),
        ({"complement_map": PUBLISHED_JSON["complement_map"] | {"7": 8}}, "complement of the complement"),
    ],
    ids=str,
)
def test_a_config_of_another_network_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        CaduceusConfig.from_json(PUBLISHED_JSON | changed, CONFIG_PATH)


@pytest.mark.parametrize("swaps", [True, False])
@pytest.mark.parametrize("n_layers", [2, 3])
def test_ps_says_the_same_of_both_strands_without_averaging(swaps: bool, n_layers: int) -> None:
    made = network(replace(PS, swaps=swaps, n_layers=n_layers)).double()
    given = ids(2, 31)
    found, other = made(given), made(OPPOSITE[given.flip(1)])
    assert (found - found.flip(1)).abs().max() > 0.1 * found.abs().max()
    torch.testing.assert_close(other.flip(1)[..., OPPOSITE], found, rtol=1e-12, atol=1e-14)


def test_hidden_states_of_ps_change_places_on_the_other_strand() -> None:
    made = network(PS).double()
    given = ids(2, 31)
    found, other = made.hidden(given), made.hidden(OPPOSITE[given.flip(1)])
    assert found.shape == (2, 31, 28)
    torch.testing.assert_close(other.flip(1, 2), found, rtol=1e-12, atol=1e-14)


def test_ph_says_something_else_of_the_other_strand() -> None:
    made, given = network(PH), ids(2, 31)
    found, other = made(given), made(OPPOSITE[given.flip(1)])
    assert (other.flip(1)[..., OPPOSITE] - found).abs().max() > 0.01 * found.abs().max()


@pytest.mark.parametrize(
    ("config", "n_tokens"),
    [
        pytest.param(replace(PH, n_layers=1), 23, id="ph"),
        pytest.param(replace(PS, n_layers=1), 23, id="ps"),
        pytest.param(CaduceusConfig(n_layers=2), 301, id="published widths", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_row_has_the_same_answer_in_any_place_and_company(
    config: CaduceusConfig, n_tokens: int, n_threads: int
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        made, row, others = network(config), ids(1, n_tokens), ids(6, n_tokens)
        answers = []
        for place in range(3):
            hidden = made.hidden(torch.cat([others[place : place + place], row, others[: 2 - place]]))
            answers.append((hidden[place], made.logits(hidden[:, [3, 20, 22]])[place]))
        for hidden, logits in answers[1:]:
            assert torch.equal(hidden, answers[0][0]) and torch.equal(logits, answers[0][1])
    finally:
        torch.set_num_threads(before)


def test_logits_of_some_positions_are_those_of_all() -> None:
    made = network(PS)
    hidden = made.hidden(ids(2, 20))
    torch.testing.assert_close(made.logits(hidden[:, [0, 7]]), made.logits(hidden)[:, [0, 7]])
    torch.testing.assert_close(made.logits(hidden[1, 7]), made.logits(hidden)[1, 7])


def loaded_from(tensors: dict[str, NDArray[Any]], config: CaduceusConfig, folder: Path) -> Caduceus:
    save_file(tensors, folder / "model.safetensors")
    weights = LocalWeights(folder, "", False)
    return loaded(lambda: network_of(config), weights, lambda found, path: convert(found, config, path))


def test_after_loading_nothing_is_on_meta_and_projections_are_shared(tmp_path: Path) -> None:
    first = network(PS)
    made = loaded_from(tensors_of(first), PS, tmp_path)
    for name, value in [*made.named_parameters(), *made.named_buffers()]:
        assert value.device.type == "cpu", name
    assert made.complement is not None and made.complement.tolist() == list(PS.complement)
    assert len(list(made.parameters())) == len(list(first.parameters()))
    torch.testing.assert_close(made(ids(2, 20)), first(ids(2, 20)))


def refused(tensors: dict[str, NDArray[Any]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        convert(Tensors(Path("model.safetensors"), tensors), PS, Path("model.safetensors"))


def test_a_tensor_that_is_nowhere_is_named() -> None:
    tensors = tensors_of(network(PS))
    name = "caduceus.backbone.layers.1.mixer.submodule.mamba_fwd.in_proj.weight"
    del tensors[name]
    refused(tensors, "layers.1.mixer.submodule.mamba_fwd.in_proj.weight")


def test_a_tensor_that_belongs_to_nothing_is_named() -> None:
    refused(tensors_of(network(PS)) | {"score.weight": np.zeros(3, np.float32)}, "score.weight")


@pytest.mark.parametrize(
    "name",
    ["caduceus.backbone.layers.2.mixer.submodule.mamba_rev.out_proj.weight", "lm_head.lm_head.weight"],
)
def test_tied_tensors_that_differ_are_refused(name: str) -> None:
    tensors = tensors_of(network(PS))
    partner = name.replace("mamba_rev", "mamba_fwd")
    if name.startswith("lm_head"):
        partner = "caduceus.backbone.embeddings.word_embeddings.embedding.weight"
    refused(tensors | {name: tensors[partner] + np.float32(1e-6)}, "to be equal")


def test_other_complements_in_the_file_are_refused() -> None:
    tensors = tensors_of(network(PS))
    tensors["lm_head.complement_map"] = np.arange(16)
    refused(tensors, "complement_map")


def test_bases_have_the_published_tokens() -> None:
    tokens = tokenizer_of(PS).encode(encode("ACGTNacgtn"))
    assert tokens.ids.tolist() == [7, 8, 9, 10, 11] * 2
    assert tokenizer_of(PH).encode(encode("GATTACA")).ids.tolist() == [9, 7, 10, 10, 7, 8, 7]
    other = tokenizer_of(PS).encode(reverse_complement(encode("GATTACA")))
    assert other.ids.tolist() == [10, 9, 10, 7, 7, 10, 8] == OPPOSITE[[9, 7, 10, 10, 7, 8, 7]].flip(0).tolist()
    assert (tokens.starts.tolist(), tokens.ends.tolist()) == (list(range(10)), list(range(1, 11)))
    assert tokenizer_of(PS).mask_id == 3 and tokenizer_of(PS).unknown_id == 6


def test_tokens_that_are_not_paired_as_bases_are_refused() -> None:
    plain = replace(PS, complement=tuple(range(16)))
    with pytest.raises(ModelError, match="not paired"):
        tokenizer_of(plain)
    with pytest.raises(ModelError, match="12 tokens"):
        tokenizer_of(replace(PS, n_vocabulary=8, complement=tuple(range(8))))
    assert isinstance(HYENADNA, Characters)
