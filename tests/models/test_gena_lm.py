"""GENA-LM: sizes, what its files may hold, that a row's answer is its own, and BigBird in any order of inputs."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.errors import MissingExtra, ModelError, OptionError
from varfm.genome import encode, reverse_complement
from varfm.models import ModelOptions
from varfm.models.bert_layers import WORDS
from varfm.models.gena_lm import GenaLm, GenaLmConfig, build, config_of, convert, network_of, tokenizer_of
from varfm.models.loading import filled
from varfm.readers import Tensors
from varfm.variants import Variant
from varfm.windows import Site

PATH = Path("folder")
SMALL = GenaLmConfig(n_vocabulary=20, width=24, n_layers=2, n_heads=3, n_inner=40, max_tokens=64)
NORMED = GenaLmConfig(n_vocabulary=20, width=24, n_layers=2, n_heads=3, n_inner=40, max_tokens=64, last_norm=True)
BIGBIRD = GenaLmConfig(
    kind="bigbird", n_vocabulary=20, width=24, n_layers=2, n_heads=3, n_inner=40, max_tokens=128, block=4
)
BERT_JSON: dict[str, Any] = {
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 3,
    "pre_layer_norm": True,
    "last_layer_norm": False,
    "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 32000,
}
LARGE = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
BIGBIRD_JSON: dict[str, Any] = {
    **{key: value for key, value in BERT_JSON.items() if not key.endswith("layer_norm")},
    "architectures": ["BigBirdForPreTraining"],
    "attention_type": "block_sparse",
    "block_size": 64,
    "num_random_blocks": 3,
    "hidden_act": "gelu_new",
    "max_position_embeddings": 4096,
    "model_type": "big_bird",
    "rescale_embeddings": False,
    "use_bias": True,
}


def of_variant(variant: str) -> GenaLmConfig:
    return config_of(cast(Checkpoint, type("Named", (), {"variant": variant})))


def without(mapping: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def state_of(config: GenaLmConfig) -> dict[str, Any]:
    """Draw a file's tensors, with the copies that upstream's files hold."""
    generator = np.random.RandomState(0)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in network_of(config).state_dict().items()}
    state = {name: generator.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    return state | {
        "cls.predictions.decoder.weight": state[WORDS].copy(),
        "cls.predictions.decoder.bias": state["cls.predictions.bias"].copy(),
        "bert.embeddings.position_ids": np.arange(config.max_tokens)[None],
    }


def network_from(state: dict[str, Any], config: GenaLmConfig) -> GenaLm:
    with torch.device("meta"):
        network = network_of(config)
    network = filled(network, convert(Tensors(PATH, state), config, PATH), PATH)
    if config.kind == "bigbird":
        cast(Any, network).build_tables()
    return network


@pytest.fixture(params=["small", "normed", "bigbird"])
def config(request: pytest.FixtureRequest) -> GenaLmConfig:
    if request.param == "bigbird":
        pytest.importorskip("transformers", reason="BigBird needs the package transformers")
    return {"small": SMALL, "normed": NORMED, "bigbird": BIGBIRD}[request.param]


def drawn_ids(n_rows: int, n_tokens: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(1).randint(0, 20, (n_rows, n_tokens)))


@pytest.mark.parametrize(
    ("variant", "mapping", "n_parameters"),
    [
        ("", BERT_JSON, 110_651_392 - 512),  # published with the numbers of its positions
        ("lastln", without(BERT_JSON, "last_layer_norm"), 110_652_416),
        ("lastln", BERT_JSON | {"last_layer_norm": True}, 110_652_416),
        ("large", without(BERT_JSON, "last_layer_norm") | LARGE | {"layer_norm_eps": 1e-5}, 336_691_456),
        ("bigbird", BIGBIRD_JSON, 113_403_392),
    ],
    ids=["base", "lastln", "lastln_said", "large", "bigbird"],
)
def test_published_networks_have_the_published_sizes(variant: str, mapping: dict[str, Any], n_parameters: int) -> None:
    config = GenaLmConfig.from_json(mapping, PATH)
    assert config == of_variant(variant)
    if variant == "bigbird":
        pytest.importorskip("transformers", reason="BigBird needs the package transformers")
    with torch.device("meta"):
        network = network_of(config)
    assert sum(value.numel() for value in network.parameters()) == n_parameters


def test_keys_are_those_of_the_published_file() -> None:
    with torch.device("meta"):
        names = set(network_of(GenaLmConfig(last_norm=True)).state_dict())
    layer = "bert.encoder.layer.11."
    parts = ("pre_attention_ln", "post_attention_ln", "attention.self.query", "attention.self.key")
    parts += ("attention.self.value", "attention.output.dense", "intermediate.dense", "output.dense")
    expected = {f"{layer}{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    assert {name for name in names if name.startswith(layer)} == expected
    assert {"bert.encoder.last_layer_ln.bias", "cls.predictions.bias"} <= names


def test_nothing_is_left_on_the_meta_device(config: GenaLmConfig) -> None:
    network = network_from(state_of(config), config)
    network.hidden(drawn_ids(1, 50))
    values = [*network.named_parameters(), *network.named_buffers()]
    assert [name for name, value in values if value.is_meta] == []


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_answer_depends_neither_on_its_place_nor_on_its_companions(config: GenaLmConfig, n_threads: int) -> None:
    network, before = network_from(state_of(config), config), torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        for n_tokens in (37, 64):
            ids, order = drawn_ids(3, n_tokens), torch.tensor([2, 0, 1])
            hidden = network.hidden(ids)
            assert torch.equal(network.hidden(ids[order]), hidden[order])
            others = torch.cat([ids[:1], ids.flip(1)[1:]])
            assert torch.equal(network.hidden(others)[0], hidden[0])
            logits = network.logits(hidden[:, [4, 9]])
            assert torch.equal(network.logits(hidden[:, [4, 9]][order]), logits[order])
    finally:
        torch.set_num_threads(before)


def test_logits_of_single_tokens_are_those_of_the_whole_row(config: GenaLmConfig) -> None:
    network, ids = network_from(state_of(config), config), drawn_ids(2, 50)
    some = network.logits(network.hidden(ids)[:, [3, 11]])
    assert torch.allclose(some, network(ids)[:, [3, 11]], atol=1e-5)


def test_the_last_norm_matters() -> None:
    state = state_of(NORMED)
    plain = network_from({key: value for key, value in state.items() if "last_layer_ln" not in key}, SMALL)
    ids = drawn_ids(1, 20)
    assert not torch.allclose(network_from(state, NORMED)(ids), plain(ids), atol=0.1)


def test_more_tokens_than_there_are_places_give_no_number(config: GenaLmConfig) -> None:
    network = network_from(state_of(config), config)
    assert network(drawn_ids(1, config.max_tokens)).isfinite().all()
    found = network.hidden(drawn_ids(2, config.max_tokens + 1))
    assert found.shape == (2, config.max_tokens + 1, 24)
    assert network.logits(found[:, [3]]).isnan().all()


def test_bigbird_answers_alike_in_any_order_of_inputs(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("transformers", reason="BigBird needs the package transformers")
    short, long, longer = drawn_ids(1, 20), drawn_ids(1, 61), drawn_ids(1, 127)
    before = torch.get_rng_state()
    with caplog.at_level(logging.DEBUG):
        expected = [network_from(state_of(BIGBIRD), BIGBIRD)(ids) for ids in (short, long, longer)]
        network = network_from(state_of(BIGBIRD), BIGBIRD)
        for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 1, 0)):
            for number in order:
                assert torch.equal(network((short, long, longer)[number]), expected[number])
    assert torch.equal(torch.get_rng_state(), before)
    assert caplog.messages == []


def test_bigbird_reads_blocks_when_full_attention_would_be_too_long() -> None:
    pytest.importorskip("transformers", reason="BigBird needs the package transformers")
    network = network_from(state_of(BIGBIRD), BIGBIRD)
    for n_tokens, everywhere in ((BIGBIRD.max_full, True), (BIGBIRD.max_full + 1, False)):
        ids = drawn_ids(1, n_tokens)
        changed = ids.clone()
        changed[0, 30] = (changed[0, 30] + 1) % 20
        # Tokens 8 to 11 and token 30 stand in blocks that do not touch, and in the middle: one layer joins them only if
        # attention is full.
        first = cast(Any, network.bert).encoder.layer[0]
        seen: list[torch.Tensor] = []
        handle = first.register_forward_hook(lambda module, inputs, output: seen.append(output[0].clone()))  # noqa: B023
        network.hidden(ids)
        network.hidden(changed)
        handle.remove()
        one, other = (value.reshape(-1, 24)[:n_tokens] for value in seen)
        assert bool((one[8:12] != other[8:12]).any()) == everywhere


def test_without_transformers_bigbird_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtra, match=r"varfm\[lm\]"):
        network_of(BIGBIRD)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (without(BERT_JSON, "pre_layer_norm"), "pre_layer_norm is not true"),
        (BERT_JSON | {"pre_layer_norm": False}, "pre_layer_norm is not true"),
        (BERT_JSON | {"sparse_config_cls": "deepspeed"}, "DeepSpeed"),
        (BERT_JSON | {"sparse_attention": {"block": 64}, "position_embedding_type": "rotary"}, "DeepSpeed"),
        (BERT_JSON | {"position_embedding_type": "rotary"}, "position_embedding_type is 'rotary'"),
        (BERT_JSON | {"rotary_dim": 32}, "rotary_dim"),
        (BERT_JSON | {"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'"),
        (BERT_JSON | {"model_type": "modernbert"}, "model_type is 'modernbert'"),
        (BERT_JSON | {"last_layer_norm": None}, "last_layer_norm is None"),
        (without(BERT_JSON, "vocab_size"), "vocab_size is None"),
        (BERT_JSON | {"num_attention_heads": 7}, "7 heads"),
        (BIGBIRD_JSON | {"hidden_act": "gelu"}, "hidden_act is 'gelu'"),
        (BIGBIRD_JSON | {"attention_type": "original_full"}, "attention_type is 'original_full'"),
        (BIGBIRD_JSON | {"rescale_embeddings": True}, "rescale_embeddings is True"),
        (BIGBIRD_JSON | {"use_bias": False}, "use_bias is False"),
        (BIGBIRD_JSON | {"max_position_embeddings": 4000}, "whole blocks"),
        (BIGBIRD_JSON | {"pre_layer_norm": True}, "pre_layer_norm"),
    ],
)
def test_configurations_of_other_networks_are_refused(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        GenaLmConfig.from_json(mapping, PATH)


def test_kinds_that_are_not_known_are_refused() -> None:
    with pytest.raises(ModelError, match="bert or bigbird"):
        GenaLmConfig(kind="roberta")


def test_what_only_training_read_is_left_out(config: GenaLmConfig) -> None:
    pooler = "bert.pooler.dense" if config.kind == "bert" else "bert.pooler"
    extra = {f"{pooler}.weight": np.ones((24, 24)), f"{pooler}.bias": np.ones(24)}
    extra |= {"cls.seq_relationship.weight": np.ones((2, 24)), "cls.seq_relationship.bias": np.ones(2)}
    network_from(state_of(config) | extra, config)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cls.predictions.decoder.weight", np.ones((20, 24), np.float32)),
        ("cls.predictions.decoder.bias", np.ones(20, np.float32)),
        ("bert.embeddings.position_ids", np.arange(64)[None, ::-1]),
        ("bert.encoder.last_layer_ln.weight", np.ones(24, np.float32)),
        ("bert.encoder.layer.0.attention.output.LayerNorm.weight", np.ones(24, np.float32)),
        ("bert.embeddings.position_embeddings.weight", np.ones((63, 24), np.float32)),
        ("bert.encoder.layer.1.pre_attention_ln.bias", None),
    ],
)
def test_files_of_other_networks_are_refused(name: str, value: object) -> None:
    state = {key: array for key, array in (state_of(SMALL) | {name: value}).items() if array is not None}
    with pytest.raises(ModelError, match="folder"):
        network_from(state, SMALL)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        tokenizer_of(SMALL, tmp_path)


def test_adapters_made_upstream_find_their_layers() -> None:
    with torch.device("meta"):
        names = dict(network_of(SMALL).named_modules())
    assert {"bert.encoder.layer.0.attention.self.query", "bert.encoder.layer.0.attention.self.value"} <= names.keys()


def checkpoint() -> Checkpoint:
    words = dict.fromkeys(("licence", "paper", "source", "assembly", "reads", "scores", "strands"), "")
    return Checkpoint(name="toy", module="gena_lm", commercial=True, window=100, index=50, likelihood="tokens", **words)


def published(folder: Path) -> LocalWeights:
    """Write a small folder as the authors publish it."""
    sizes = {
        "vocab_size": 20,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 40,
    }
    sizes["max_position_embeddings"] = 64
    (folder / "config.json").write_text(json.dumps(BERT_JSON | sizes))
    tokens = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *"ACGT", "AC", "ACG", "GT"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    ends = {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]}
    model = {"type": "BPE", "unk_token": "[UNK]", "vocab": vocabulary, "merges": ["A C", "AC G", "G T"]}
    (folder / "tokenizer.json").write_text(json.dumps({"model": model, "post_processor": ends}))
    path = folder / "pytorch_model.bin"
    torch.save({name: torch.tensor(value) for name, value in state_of(SMALL).items()}, path)
    return LocalWeights(path, "", False, {"config.json": folder / "config.json"})


def test_a_published_folder_becomes_a_model_that_compares_tokens(tmp_path: Path) -> None:
    model = build(checkpoint(), published(tmp_path), ModelOptions())
    assert model.network is not None
    variant = Variant("z", 200, "A", "T")
    haplotypes = model.scorer.haplotypes(Site(variant, variant))
    answers = []
    for haplotype in haplotypes:
        letters = "ACGGT" * 20
        if haplotype.variant is not None:
            letters = letters[:50] + "T" + letters[51:]
        sequence = encode(letters) if haplotype.strand == "+" else reverse_complement(encode(letters))
        rows = model.network.rows(sequence, haplotype)
        outputs = [model.network.forward(torch.tensor([list(row)], dtype=torch.uint8))[0] for row in rows]
        answers.append(cast(Any, model.network).reduce(haplotype, sequence, outputs))
    scores = dict(
        zip(
            (column.name for column in model.scorer.columns),
            model.scorer.score(Site(variant, variant), answers),
            strict=False,
        )
    )
    assert scores["PLL"].isfinite()
    assert scores["PLL"] != 0
    assert scores["PLL"] == pytest.approx(float(scores["FORWARD"] + scores["REVERSE"]) / 2)
    assert (answers[0][1], answers[1][1]) == (1, 3)


def test_windows_that_would_have_too_many_tokens_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="up to 310 bases"):
        build(checkpoint(), published(tmp_path), ModelOptions(window=311))
