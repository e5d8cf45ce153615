"""HyenaDNA: sizes, causality, loading, tokens. That its answers are upstream's is for `tests/parity`."""

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

from varfm.errors import ModelError
from varfm.genome import encode
from varfm.models import hyenadna
from varfm.models.hyenadna import (
    HyenaDna,
    HyenaDnaConfig,
    convert,
    network_of,
    position_tables,
    tokenizer_of,
    transform_length,
)
from varfm.models.loading import loaded
from varfm.readers import Tensors
from varfm.weights import LocalWeights

SMALL = HyenaDnaConfig(max_tokens=80, width=14, n_layers=2, n_inner=20, filter_width=8)
FILTER = "hyena.backbone.layers.1.mixer.filter_fn."
PUBLISHED_JSON: dict[str, Any] = {
    "activation_freq": 10,
    "architectures": ["HyenaDNAForCausalLM"],
    "d_inner": 512,
    "d_model": 128,
    "emb_dim": 5,
    "embed_dropout": 0.1,
    "filter_order": 64,
    "hyena_dropout": 0.0,
    "hyena_filter_dropout": 0.0,
    "hyena_order": 2,
    "layer_norm_epsilon": 1e-5,
    "max_seq_len": 1026,
    "model_type": "hyenadna",
    "n_layer": 2,
    "num_inner_mlps": 2,
    "pad_token_id": 4,
    "pad_vocab_size_multiple": 8,
    "short_filter_order": 3,
    "torch_dtype": "float32",
    "train_freq": True,
    "use_bias": True,
    "vocab_size": 12,
}
CONFIG_PATH = Path("folder/config.json")
WIDE = HyenaDnaConfig(width=256, n_inner=1_024)


def tensors_of(config: HyenaDnaConfig, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Give what a published file holds: frequencies once, and the tables."""
    torch.manual_seed(seed)
    state = {name: value.numpy().copy() for name, value in HyenaDna(config).state_dict().items()}
    kept = {name: value for name, value in state.items() if not name.endswith(("3.freq", "5.freq"))}
    tables = position_tables(config)
    return {name: tables.get(name.rsplit(".", 1)[-1], value) for name, value in kept.items()}


def loaded_from(tensors: dict[str, NDArray[Any]], config: HyenaDnaConfig, folder: Path) -> HyenaDna:
    save_file(tensors, folder / "model.safetensors")
    weights = LocalWeights(folder, "", False)
    return loaded(lambda: network_of(config), weights, lambda found, path: convert(found, config, path))


@pytest.fixture
def network(tmp_path: Path) -> HyenaDna:
    return loaded_from(tensors_of(SMALL), SMALL, tmp_path)


def ids(n: int, n_tokens: int) -> Tensor:
    return torch.randint(7, 12, (n, n_tokens), generator=torch.Generator().manual_seed(n_tokens))


@pytest.mark.parametrize(
    ("config", "n_floats"),
    [
        (HyenaDnaConfig(), 450_712),
        (WIDE, 1_658_008),
        (HyenaDnaConfig(max_tokens=16_386), 635_032),
        (replace(WIDE, max_tokens=32_770, n_layers=4), 4_069_168),
        (replace(WIDE, max_tokens=160_002, n_layers=8), 14_236_768),
        (replace(WIDE, max_tokens=450_002, n_layers=8), 28_156_768),
        (replace(WIDE, max_tokens=1_000_002, n_layers=8), 54_556_768),
    ],
    ids=["tiny-1k", "tiny-1k-d256", "tiny-16k-d128", "small-32k", "medium-160k", "medium-450k", "large-1m"],
)
def test_published_files_hold_as_many_numbers_as_the_network(config: HyenaDnaConfig, n_floats: int) -> None:
    with torch.device("meta"):
        made = network_of(config)
    assert sum(value.numel() for value in [*made.parameters(), *made.buffers()]) == n_floats
    assert config in hyenadna._PUBLISHED.values()


def test_tensors_have_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in HyenaDna(HyenaDnaConfig()).state_dict().items()}
    mixer = "hyena.backbone.layers.1.mixer."
    expected = {
        "hyena.backbone.embeddings.word_embeddings.weight": (16, 128),
        f"{mixer}in_proj.weight": (384, 128),
        f"{mixer}short_filter.weight": (384, 1, 3),
        f"{mixer}filter_fn.bias": (128,),
        f"{mixer}filter_fn.pos_emb.z": (1, 1026, 5),
        f"{mixer}filter_fn.pos_emb.t": (1, 1026, 1),
        f"{mixer}filter_fn.implicit_filter.0.weight": (64, 5),
        f"{mixer}filter_fn.implicit_filter.1.freq": (1, 64),
        f"{mixer}filter_fn.implicit_filter.6.weight": (128, 64),
        f"{mixer}filter_fn.modulation.deltas": (1, 1, 128),
        "hyena.backbone.layers.1.mlp.fc1.weight": (512, 128),
        "hyena.backbone.ln_f.bias": (128,),
        "lm_head.weight": (16, 128),
    }
    assert {name: shapes[name] for name in expected} == expected
    assert f"{mixer}filter_fn.implicit_filter.6.bias" not in shapes and "lm_head.bias" not in shapes


def test_the_published_config_gives_the_published_sizes() -> None:
    assert HyenaDnaConfig.from_json(PUBLISHED_JSON, CONFIG_PATH) == HyenaDnaConfig()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"layer": {"l_max": 1026}}, "ends in -hf"),
        ({"hyena_order": 3}, "hyena_order is 3"),
        ({"short_filter_order": 5}, "short_filter_order is 5"),
        ({"train_freq": False}, "train_freq is False"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon"),
        ({"model_type": "hyena"}, "'hyena'"),
        ({"attn_layer_idx": [1]}, "attn_layer_idx: not known"),
        ({"max_seq_len": None}, "max_seq_len is None"),
        ({"d_model": 0}, "d_model is 0"),
        ({"emb_dim": 4}, "odd number"),
    ],
    ids=str,
)
def test_a_config_of_another_network_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        HyenaDnaConfig.from_json(PUBLISHED_JSON | changed, CONFIG_PATH)


def test_later_tokens_do_not_change_earlier_states(network: HyenaDna) -> None:
    given = ids(1, 60)
    other = given.clone()
    other[:, 40:] = 7 + (given[:, 40:] - 6) % 4
    found, changed = network.hidden(given), network.hidden(other)
    torch.testing.assert_close(found[:, :40], changed[:, :40], rtol=1e-5, atol=1e-5)
    assert ((found - changed)[:, 40:].abs().amax(-1) > 1e-3).all()


def test_a_shorter_sequence_has_the_states_of_the_longer_one(network: HyenaDna) -> None:
    given = ids(1, 60)
    torch.testing.assert_close(network.hidden(given)[:, :33], network.hidden(given[:, :33]), rtol=1e-5, atol=1e-5)


def test_the_longest_sequence_decides_the_filters(tmp_path: Path) -> None:
    longer = replace(SMALL, max_tokens=800)
    tensors = tensors_of(SMALL)
    tables = {f"{start}{name}" for start in (FILTER, FILTER.replace("1", "0")) for name in ("pos_emb.z", "pos_emb.t")}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    first = loaded_from(tensors, SMALL, tmp_path / "a")
    second = loaded_from({key: value for key, value in tensors.items() if key not in tables}, longer, tmp_path / "b")
    found, other = first(ids(1, 60)), second(ids(1, 60))
    assert (found - other).abs().max() > 0.01 * found.abs().max()


def test_a_sequence_that_is_too_long_is_refused(network: HyenaDna) -> None:
    assert network.hidden(ids(1, 80)).shape == (1, 80, 14)
    with pytest.raises(ModelError, match="81 tokens"):
        network.hidden(ids(1, 81))


@pytest.mark.parametrize("at_once", [1, 100, 1 << 26])
@pytest.mark.parametrize("n_tokens", [1, 7, 20])
def test_convolution_is_the_sum_of_its_definition(n_tokens: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hyenadna, "_TRANSFORMED", at_once)
    generator = torch.Generator().manual_seed(n_tokens)
    values = torch.randn(2, 3, n_tokens, generator=generator, dtype=torch.float64)
    kernel = torch.randn(3, n_tokens, generator=generator, dtype=torch.float64)
    found = hyenadna._convolved(values, kernel)
    for place in range(n_tokens):
        expected = (values[..., : place + 1] * kernel[:, : place + 1].flip(-1)).sum(-1)
        torch.testing.assert_close(found[..., place], expected)


@pytest.mark.parametrize(("n", "length"), [(1, 1), (6, 6), (7, 8), (9, 10), (11, 12), (13, 16), (1999, 2048)])
def test_transforms_have_fast_lengths(n: int, length: int) -> None:
    assert transform_length(n) == length


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_row_has_the_same_answer_in_any_place_and_company(network: HyenaDna, n_threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        row, others = ids(1, 53), ids(6, 53)
        answers = []
        for place in range(4):
            hidden = network.hidden(torch.cat([others[place : place + place], row, others[: 3 - place]]))
            answers.append((hidden[place], network.logits(hidden[:, 20:52])[place]))
        for hidden, logits in answers[1:]:
            assert torch.equal(hidden, answers[0][0]) and torch.equal(logits, answers[0][1])
    finally:
        torch.set_num_threads(before)


def test_after_loading_nothing_is_on_meta_and_frequencies_are_shared(network: HyenaDna) -> None:
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        assert value.device.type == "cpu" and value.dtype == torch.float32, name
    state = network.state_dict()
    pointers = {state[f"{FILTER}implicit_filter.{number}.freq"].data_ptr() for number in (1, 3, 5)}
    assert len(pointers) == 1


def test_tables_that_a_file_lacks_are_computed(network: HyenaDna, tmp_path: Path) -> None:
    tensors = {key: value for key, value in tensors_of(SMALL).items() if not key.endswith((".z", ".t", ".deltas"))}
    folder = tmp_path / "other"
    folder.mkdir()
    torch.testing.assert_close(loaded_from(tensors, SMALL, folder)(ids(2, 30)), network(ids(2, 30)))


def test_learned_positions_are_taken_as_they_are(network: HyenaDna, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    tensors = tensors_of(SMALL)
    tensors[f"{FILTER}pos_emb.z"] = tensors[f"{FILTER}pos_emb.z"] + np.float32(0.1)
    found = loaded_from(tensors, SMALL, folder)(ids(2, 30))
    assert not torch.allclose(found, network(ids(2, 30)))


def refused(tensors: dict[str, NDArray[Any]], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        convert(Tensors(Path("model.safetensors"), tensors), SMALL, Path("model.safetensors"))


@pytest.mark.parametrize("name", ["pos_emb.t", "modulation.deltas"])
def test_tables_of_other_sizes_are_refused(name: str) -> None:
    tensors = tensors_of(SMALL)
    tensors[FILTER + name] = tensors[FILTER + name] * np.float32(1.01)
    refused(tensors, name)


def test_frequencies_that_differ_are_refused_and_equal_ones_are_not() -> None:
    tensors = tensors_of(SMALL)
    first = tensors[f"{FILTER}implicit_filter.1.freq"]
    again = {f"{FILTER}implicit_filter.{number}.freq": first.copy() for number in (3, 5)}
    convert(Tensors(Path("file"), tensors | again), SMALL, Path("file"))
    refused(tensors | again | {f"{FILTER}implicit_filter.5.freq": first + 1}, "frequencies")


def test_a_tensor_that_belongs_to_nothing_is_named() -> None:
    refused(tensors_of(SMALL) | {"score.weight": np.zeros(3, np.float32)}, "score.weight")


def test_a_tensor_that_is_missing_is_named() -> None:
    tensors = tensors_of(SMALL)
    del tensors["lm_head.weight"]
    refused(tensors, "lm_head.weight")


def test_bases_have_the_published_tokens() -> None:
    tokens = tokenizer_of(SMALL).encode(encode("ACGTNacgtn"))
    assert tokens.ids.tolist() == [7, 8, 9, 10, 11] * 2
    assert tokenizer_of(SMALL).encode(encode("GATTACA")).ids.tolist() == [9, 7, 10, 10, 7, 8, 7]
    with pytest.raises(ModelError, match="12 tokens"):
        tokenizer_of(replace(SMALL, n_vocabulary=8))
