"""DNABERT: sizes, published files, and rows that do not see each other."""

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
from varfm.models.dnabert import Dnabert, DnabertConfig, convert, network_of, tokenizer_of
from varfm.models.loading import filled
from varfm.readers import Tensors

PATH = Path("config.json")
SMALL = DnabertConfig(k=3, width=24, n_layers=2, n_heads=2, n_inner=20, max_tokens=40)
PUBLISHED: Mapping[str, Any] = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "bos_token_id": 0,
    "do_sample": False,
    "eos_token_ids": 0,
    "finetuning_task": None,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "is_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "layer_norm_eps": 1e-12,
    "length_penalty": 1.0,
    "max_length": 20,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_beams": 1,
    "num_hidden_layers": 12,
    "num_labels": 2,
    "num_return_sequences": 1,
    "num_rnn_layer": 1,
    "output_attentions": False,
    "output_hidden_states": False,
    "output_past": True,
    "pad_token_id": 0,
    "pruned_heads": {},
    "repetition_penalty": 1.0,
    "rnn": "lstm",
    "rnn_dropout": 0.0,
    "rnn_hidden": 768,
    "split": 10,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "torchscript": False,
    "type_vocab_size": 2,
    "use_bfloat16": False,
    "vocab_size": 69,
}


def on_meta(config: DnabertConfig) -> Dnabert:
    with torch.device("meta"):
        return network_of(config)


def tensors_of(**changed: np.ndarray[Any, Any] | None) -> Tensors:
    """Give random tensors as a published file holds them; None leaves one out."""
    generator = np.random.default_rng(0)
    shapes = {key: tuple(value.shape) for key, value in on_meta(SMALL).state_dict().items()}
    shapes |= {"bert.pooler.dense.weight": (24, 24), "bert.pooler.dense.bias": (24,)}
    arrays = {key: generator.normal(0, 0.3, shape).astype(np.float32) for key, shape in shapes.items()}
    arrays["cls.predictions.decoder.weight"] = arrays["bert.embeddings.word_embeddings.weight"]
    given = {key.replace("__", "."): value for key, value in changed.items()}
    return Tensors(PATH, {key: value for key, value in (arrays | given).items() if value is not None})


@pytest.mark.parametrize(("k", "n_parameters"), [(3, 86_095_941), (4, 86_243_589), (5, 86_834_181), (6, 89_196_549)])
def test_the_published_networks_have_the_published_number_of_parameters(k: int, n_parameters: int) -> None:
    assert sum(value.numel() for value in on_meta(DnabertConfig(k=k)).parameters()) == n_parameters


def test_keys_are_those_of_the_published_files() -> None:
    shapes = {key: tuple(value.shape) for key, value in on_meta(DnabertConfig()).state_dict().items()}
    layer = "bert.encoder.layer.11"
    assert shapes["bert.embeddings.word_embeddings.weight"] == (4101, 768)
    assert shapes["bert.embeddings.position_embeddings.weight"] == (512, 768)
    assert shapes["bert.embeddings.token_type_embeddings.weight"] == (2, 768)
    assert shapes[f"{layer}.attention.self.value.weight"] == shapes[f"{layer}.attention.output.dense.weight"]
    assert shapes[f"{layer}.intermediate.dense.weight"] == (3072, 768)
    assert shapes[f"{layer}.output.LayerNorm.bias"] == shapes["cls.predictions.transform.LayerNorm.bias"] == (768,)
    assert shapes["cls.predictions.bias"] == (4101,)
    assert "cls.predictions.decoder.weight" not in shapes


def test_the_config_of_a_published_folder_is_read() -> None:
    assert DnabertConfig.from_json(PUBLISHED, PATH) == DnabertConfig(k=3)
    short = {key: value for key, value in PUBLISHED.items() if key not in ("layer_norm_eps", "model_type")}
    assert DnabertConfig.from_json({**short, "vocab_size": 4101}, PATH) == DnabertConfig()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "esm"),
        ("vocab_size", 4096),
        ("vocab_size", 30522),
        ("hidden_act", "gelu_new"),
        ("position_embedding_type", "relative_key"),
        ("is_decoder", True),
        ("pruned_heads", {"0": [1]}),
        ("num_attention_heads", 7),
        ("alibi_starting_size", 512),
    ],
)
def test_a_config_of_another_network_is_refused(key: str, value: object) -> None:
    with pytest.raises(ModelError):
        DnabertConfig.from_json({**PUBLISHED, key: value}, PATH)


def test_it_reads_all_positions_full_of_kmers() -> None:
    config = DnabertConfig()
    assert config.max_length == 515
    assert len(tokenizer_of(config).encode(bytes(config.max_length)).ids) == config.max_tokens


def test_the_vocabulary_of_a_folder_is_compared(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(tokenizer_of(SMALL).vocabulary()) + "\n")
    assert tokenizer_of(SMALL, tmp_path).k == 3
    with pytest.raises(ModelError, match="token 5 is 'AAA', expected 'AAAA'"):
        tokenizer_of(replace(SMALL, k=4), tmp_path)


def test_nothing_stays_on_meta_after_loading() -> None:
    network = filled(on_meta(SMALL), convert(tensors_of(), SMALL, PATH), PATH)
    assert not [value for value in (*network.parameters(), *network.buffers()) if value.is_meta]
    assert network(torch.randint(0, 69, (2, 9))).isfinite().all()


def test_the_bias_of_a_token_counts_twice_as_upstream() -> None:
    with_bias, without = (
        filled(on_meta(SMALL), convert(tensors_of(cls__predictions__bias=bias), SMALL, PATH), PATH)
        for bias in (np.linspace(-1, 1, 69, dtype=np.float32), np.zeros(69, np.float32))
    )
    hidden = torch.randn(4, 24)
    difference = with_bias.logits(hidden) - without.logits(hidden)
    assert torch.allclose(difference, torch.linspace(-2, 2, 69), atol=1e-5)


def test_copies_in_the_file_must_be_equal() -> None:
    bias = np.asarray(tensors_of()["cls.predictions.bias"])
    assert convert(tensors_of(cls__predictions__decoder__bias=bias), SMALL, PATH)
    with pytest.raises(ModelError, match=r"decoder\.bias equal to cls\.predictions\.bias"):
        convert(tensors_of(cls__predictions__decoder__bias=bias + 1), SMALL, PATH)
    with pytest.raises(ModelError, match=r"decoder\.weight equal to"):
        convert(tensors_of(cls__predictions__decoder__weight=np.zeros((69, 24), np.float32)), SMALL, PATH)


def test_parts_for_sentences_may_stand_in_the_file_or_not() -> None:
    more = {"cls__seq_relationship__weight": np.zeros((2, 24), np.float32), "cls__seq_relationship__bias": np.zeros(2)}
    assert convert(tensors_of(**more, bert__embeddings__position_ids=np.arange(40)[None]), SMALL, PATH)
    fewer = dict.fromkeys(("bert__pooler__dense__weight", "bert__pooler__dense__bias"), None)
    assert convert(tensors_of(**fewer, cls__predictions__decoder__weight=None), SMALL, PATH)


def test_a_file_with_more_or_other_tensors_or_without_a_head_is_refused() -> None:
    with pytest.raises(ModelError, match="belong to no part"):
        convert(tensors_of(more=np.zeros(2, np.float32)), SMALL, PATH)
    with pytest.raises(ModelError, match="has shape"):
        convert(tensors_of(bert__pooler__dense__bias=np.zeros(2, np.float32)), SMALL, PATH)
    with pytest.raises(ModelError, match=r"no tensor 'cls\.predictions\.bias'"):
        convert(tensors_of(cls__predictions__bias=None), SMALL, PATH)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ModelError, match="must divide"):
        replace(SMALL, n_heads=5)
    with pytest.raises(ModelError, match="at least 1"):
        replace(SMALL, n_layers=0)


def answers(network: Dnabert, ids: Tensor) -> tuple[Tensor, Tensor]:
    hidden = network.hidden(ids)
    return hidden, network.logits(hidden[:, 3:9])


def check_rows(config: DnabertConfig, n_tokens: int) -> None:
    """Every row has the same bits whatever its place and its companions."""
    torch.manual_seed(1)
    network = network_of(config).requires_grad_(False).eval()
    ids = torch.randint(5, config.n_vocabulary, (3, n_tokens))
    others = torch.randint(5, config.n_vocabulary, (3, n_tokens))
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


def test_a_row_has_the_same_bits_wherever_it_stands() -> None:
    check_rows(SMALL, 31)


@pytest.mark.slow
@pytest.mark.parametrize("k", [3, 6])
def test_a_row_has_the_same_bits_wherever_it_stands_at_the_published_widths(k: int) -> None:
    check_rows(DnabertConfig(k=k, n_layers=1), 514 - k)
