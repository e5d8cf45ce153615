"""Nucleotide Transformers: sizes, published files, tables, and rows that do not see each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from varfm.errors import ModelError
from varfm.models import nucleotide_transformer
from varfm.models.loading import filled
from varfm.models.nucleotide_transformer import (
    NucleotideTransformer,
    NucleotideTransformerConfig,
    convert,
    network_of,
    tokenizer_of,
    unread,
)
from varfm.readers import Tensors

PATH = Path("config.json")
SMALL = NucleotideTransformerConfig(
    n_vocabulary=75, width=24, n_layers=2, n_heads=2, n_inner=20, n_positions=66, eps=1e-5
)
FIRST = replace(SMALL, n_vocabulary=73, rotary=False, gated=False)
FILES = {"second": SMALL, "first": FIRST, "tied": replace(FIRST, ties=True)}
PUBLISHED: Mapping[str, Any] = {
    "add_bias_fnn": False,
    "architectures": ["EsmForMaskedLM"],
    "attention_probs_dropout_prob": 0.0,
    "auto_map": {"AutoConfig": "esm_config.EsmConfig", "AutoModelForMaskedLM": "modeling_esm.EsmForMaskedLM"},
    "emb_layer_norm_before": False,
    "esmfold_config": None,
    "hidden_dropout_prob": 0.0,
    "hidden_size": 512,
    "initializer_range": 0.02,
    "intermediate_size": 2048,
    "is_folding_model": False,
    "layer_norm_eps": 1e-12,
    "mask_token_id": 2,
    "max_position_embeddings": 2050,
    "num_attention_heads": 16,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "position_embedding_type": "rotary",
    "tie_word_embeddings": False,
    "token_dropout": False,
    "torch_dtype": "float32",
    "transformers_version": "4.32.0.dev0",
    "use_cache": False,
    "vocab_list": None,
    "vocab_size": 4107,
}


def on_meta(config: NucleotideTransformerConfig) -> NucleotideTransformer:
    with torch.device("meta"):
        return network_of(config)


def tensors_of(config: NucleotideTransformerConfig, **changed: np.ndarray[Any, Any] | None) -> Tensors:
    """Give random tensors as a published file holds them; None leaves one out."""
    generator = np.random.default_rng(0)
    shapes = {key: tuple(value.shape) for key, value in on_meta(config).state_dict().items()} | unread(config)
    arrays = {key: generator.normal(0, 0.3, shape).astype(np.float32) for key, shape in shapes.items()}
    for key in [key for key in arrays if key.endswith("inv_freq")]:
        width = config.width // config.n_heads
        arrays[key] = (1 / 10_000 ** (np.arange(0, width, 2) / width)).astype(np.float16)
    if config.ties:
        arrays["lm_head.decoder.weight"] = arrays["esm.embeddings.word_embeddings.weight"]
    given = {key.replace("__", "."): value for key, value in changed.items()}
    return Tensors(PATH, {key: value for key, value in (arrays | given).items() if value is not None})


def loaded(config: NucleotideTransformerConfig) -> NucleotideTransformer:
    network = filled(on_meta(config), convert(tensors_of(config), config, PATH), PATH)
    network.build_tables()
    return network


@pytest.mark.parametrize(
    ("variant", "n_parameters"),
    [
        ("v2-50m", 55_905_164),
        ("v2-100m", 97_889_484),
        ("v2-250m", 235_121_356),
        ("v2-500m", 498_346_364),
    ],
)
def test_published_files_have_the_published_number_of_parameters(variant: str, n_parameters: int) -> None:
    config = nucleotide_transformer._PUBLISHED[variant]
    kept = {key: shape for key, shape in unread(config).items() if not key.endswith("position_ids")}
    n_read = sum(value.numel() for value in on_meta(config).parameters())
    assert n_read + sum(int(np.prod(shape)) for shape in kept.values()) == n_parameters


@pytest.mark.parametrize(("variant", "millions"), [("500m", 485.7), ("2.5b", 2_547.8), ("agro-1b", 991.3)])
def test_the_first_generation_has_about_the_published_number_of_parameters(variant: str, millions: float) -> None:
    network = on_meta(nucleotide_transformer._PUBLISHED[variant])
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_keys_are_those_of_the_published_files() -> None:
    shapes = {key: tuple(value.shape) for key, value in on_meta(NucleotideTransformerConfig()).state_dict().items()}
    layer = "esm.encoder.layer.11"
    assert shapes[f"{layer}.attention.self.query.weight"] == (512, 512)
    assert shapes[f"{layer}.attention.output.dense.bias"] == shapes[f"{layer}.attention.LayerNorm.weight"] == (512,)
    assert shapes[f"{layer}.intermediate.dense.weight"] == (4096, 512)
    assert shapes[f"{layer}.output.dense.weight"] == (512, 2048)
    assert shapes["lm_head.decoder.weight"] == shapes["esm.embeddings.word_embeddings.weight"] == (4107, 512)
    assert f"{layer}.output.dense.bias" not in shapes
    assert not [key for key in shapes if "cosines" in key or "sines" in key]


def test_the_config_of_a_published_folder_is_read() -> None:
    assert NucleotideTransformerConfig.from_json(PUBLISHED, PATH) == NucleotideTransformerConfig()


def test_the_first_generation_is_told_by_the_whole_config() -> None:
    mapping = {key: value for key, value in PUBLISHED.items() if key not in ("add_bias_fnn", "auto_map")}
    mapping |= {"model_type": "esm", "position_embedding_type": "absolute", "vocab_size": 4105}
    found = NucleotideTransformerConfig.from_json(mapping | {"token_dropout": True}, PATH)
    assert (found.rotary, found.gated, found.scales_masks, found.n_vocabulary) == (False, False, True, 4105)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "bert"),
        ("add_bias_fnn", True),
        ("pad_token_id", 0),
        ("is_folding_model", True),
        ("position_embedding_type", "relative_key"),
        ("rope_theta", 500.0),
        ("num_attention_heads", 7),
        ("hidden_size", "512"),
        ("layer_norm_eps", 1),
        ("sliding_window", 4),
    ],
)
def test_a_config_of_another_network_is_refused(key: str, value: object) -> None:
    with pytest.raises(ModelError):
        NucleotideTransformerConfig.from_json({**PUBLISHED, key: value}, PATH)


def test_tokenizers_follow_the_size_of_the_vocabulary(tmp_path: Path) -> None:
    found = [tokenizer_of(replace(SMALL, n_vocabulary=size)) for size in (4105, 4107, 75)]
    assert [(one.k, one.n_special) for one in found] == [(6, 4), (6, 6), (3, 6)]
    with pytest.raises(ModelError, match="4100 tokens are not all k-mers"):
        tokenizer_of(replace(SMALL, n_vocabulary=4100))
    (tmp_path / "vocab.txt").write_text("<unk>\n<pad>\n")
    with pytest.raises(ModelError, match="token 2 is 'nothing', expected '<mask>'"):
        tokenizer_of(SMALL, tmp_path)


@pytest.mark.parametrize("kind", FILES)
def test_nothing_stays_on_meta_after_loading(kind: str) -> None:
    network = loaded(FILES[kind])
    tensors = [*network.parameters(), *network.buffers()]
    assert not [value for value in tensors if value.is_meta]
    assert network(torch.randint(0, 70, (2, 9))).isfinite().all()


def test_rotations_are_those_of_the_places() -> None:
    encoder = loaded(SMALL).get_submodule("esm.encoder")
    cosines = encoder.get_buffer("cosines")
    assert cosines.shape == (64, 12)
    assert cosines[0].tolist() == [1.0] * 12
    assert cosines[5, [0, 6]].tolist() == pytest.approx([np.cos(5.0)] * 2)
    assert encoder.get_buffer("sines")[5, 1].item() == pytest.approx(np.sin(5 / 10_000 ** (2 / 12)))


def test_a_tied_head_may_be_left_out_of_the_file_and_must_else_be_equal() -> None:
    config = FILES["tied"]
    state = convert(tensors_of(config, lm_head__decoder__weight=None), config, PATH)
    assert np.array_equal(state["lm_head.decoder.weight"], state["esm.embeddings.word_embeddings.weight"])
    with pytest.raises(ModelError, match="as tie_word_embeddings says"):
        convert(tensors_of(config, lm_head__decoder__weight=np.zeros((73, 24), np.float32)), config, PATH)


def test_other_frequencies_are_refused() -> None:
    key = "esm.encoder.layer.1.attention.self.rotary_embeddings.inv_freq"
    wrong = tensors_of(SMALL, **{key.replace(".", "__"): np.ones(6, np.float32)})
    with pytest.raises(ModelError, match="inv_freq from 1 down to"):
        convert(wrong, SMALL, PATH)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_with_more_or_other_tensors_is_refused(kind: str) -> None:
    config = FILES[kind]
    with pytest.raises(ModelError, match="belong to no part"):
        convert(tensors_of(config, more=np.zeros(2, np.float32)), config, PATH)
    with pytest.raises(ModelError, match="has shape"):
        convert(tensors_of(config, lm_head__bias=np.zeros(2, np.float32)), config, PATH)
    with pytest.raises(ModelError, match="no tensor"):
        convert(tensors_of(config, lm_head__dense__bias=None), config, PATH)


def test_a_file_without_the_parts_that_are_not_read_is_accepted() -> None:
    left_out = dict.fromkeys((key.replace(".", "__") for key in unread(SMALL)), None)
    assert convert(tensors_of(SMALL, **left_out), SMALL, PATH)


def test_position_ids_of_old_files_are_ignored() -> None:
    ids = np.arange(66)[None]
    assert convert(tensors_of(FIRST, esm__embeddings__position_ids=ids), FIRST, PATH)


def test_heads_must_divide_the_width_and_be_even_where_they_are_rotated() -> None:
    with pytest.raises(ModelError, match="heads must divide"):
        replace(SMALL, n_heads=5)
    with pytest.raises(ModelError, match="even width"):
        replace(SMALL, width=6)
    assert replace(FIRST, width=6)


def answers(network: NucleotideTransformer, ids: Tensor) -> tuple[Tensor, Tensor]:
    hidden = network.hidden(ids)
    return hidden, network.logits(hidden[:, 3:5])


def check_rows(config: NucleotideTransformerConfig, n_tokens: int) -> None:
    """Every row has the same bits whatever its place and its companions."""
    torch.manual_seed(1)
    network = network_of(config).requires_grad_(False).eval()
    network.build_tables()
    ids = torch.randint(6, config.n_vocabulary, (3, n_tokens))
    others = torch.randint(6, config.n_vocabulary, (3, n_tokens))
    before = torch.get_num_threads()
    try:
        for n_threads in (1, 2):
            torch.set_num_threads(n_threads)
            expected = answers(network, ids)
            for place in range(3):
                batch = others.clone()
                batch[place] = ids[0]
                for found, value in zip(answers(network, batch), expected, strict=True):
                    assert torch.equal(found[place], value[0])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("kind", FILES)
def test_a_row_has_the_same_bits_wherever_it_stands(kind: str) -> None:
    check_rows(replace(FILES[kind], scales_masks=True), 31)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["v2-50m", "v2-500m", "500m", "agro-1b"])
def test_a_row_has_the_same_bits_wherever_it_stands_at_the_published_widths(variant: str) -> None:
    check_rows(replace(nucleotide_transformer._PUBLISHED[variant], n_layers=1), 201)
