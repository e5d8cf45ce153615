"""DNABERT-2: sizes, what its files may hold, and that a row's answer is its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.encoding.tokens import Request, unpack
from varfm.errors import ModelError
from varfm.genome import encode, reverse_complement
from varfm.models import ModelOptions
from varfm.models.bert_layers import WORDS
from varfm.models.dnabert2 import DnaBert2, DnaBert2Config, alibi_slopes, build, convert, network_of, tokenizer_of
from varfm.models.loading import filled
from varfm.readers import Tensors
from varfm.variants import Variant
from varfm.windows import Site

SMALL = DnaBert2Config(n_vocabulary=20, width=24, n_layers=2, n_heads=3, n_inner=40)
PATH = Path("folder")
PUBLISHED: dict[str, Any] = {
    "_name_or_path": "zhihan1996/DNABERT-2-117M",
    "alibi_starting_size": 512,
    "architectures": ["BertForMaskedLM"],
    "attention_probs_dropout_prob": 0.0,
    "auto_map": {"AutoConfig": "configuration_bert.BertConfig"},
    "classifier_dropout": None,
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
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.28.0",
    "type_vocab_size": 2,
    "use_cache": True,
    "vocab_size": 4096,
}


def state_of(config: DnaBert2Config, seed: int = 0) -> dict[str, Any]:
    """Draw a file's tensors, the tied table twice."""
    generator = np.random.RandomState(seed)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in network_of(config).state_dict().items()}
    state = {name: generator.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    state["cls.predictions.decoder.bias"] = state.pop("cls.predictions.bias")
    return state | {"cls.predictions.decoder.weight": state[WORDS]}


def network_from(state: dict[str, Any], config: DnaBert2Config = SMALL) -> DnaBert2:
    with torch.device("meta"):
        network = network_of(config)
    network = filled(network, convert(Tensors(PATH, state), config, PATH), PATH)
    network.build_tables()
    return network


@pytest.fixture(scope="module")
def network() -> DnaBert2:
    return network_from(state_of(SMALL))


def drawn_ids(n_rows: int, n_tokens: int) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(1).randint(0, 20, (n_rows, n_tokens)))


def test_published_network_has_the_published_sizes() -> None:
    assert DnaBert2Config.from_json(PUBLISHED, PATH) == DnaBert2Config()
    with torch.device("meta"):
        network = network_of(DnaBert2Config())
    assert sum(value.numel() for value in network.parameters()) == 117_074_176
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    layer = "bert.encoder.layer.11."
    assert shapes[layer + "attention.self.Wqkv.weight"] == (2304, 768)
    assert shapes[layer + "mlp.gated_layers.weight"] == (6144, 768)
    assert shapes[layer + "mlp.wo.weight"] == (768, 3072)
    assert layer + "mlp.layernorm.weight" in shapes
    assert layer + "mlp.gated_layers.bias" not in shapes
    assert len(shapes) == 4 + 12 * 11 + 5


def test_slopes_of_twelve_heads_are_those_of_eight_and_every_second_of_sixteen() -> None:
    expected = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]
    expected += [0.70710678, 0.35355339, 0.1767767, 0.08838835]
    assert alibi_slopes(12) == pytest.approx(expected, abs=1e-8)
    assert alibi_slopes(1) == [2**-8]


def test_nothing_is_left_on_the_meta_device(network: DnaBert2) -> None:
    values = [*network.named_parameters(), *network.named_buffers()]
    assert [name for name, value in values if value.is_meta] == []
    assert "bert.encoder.slopes" in dict(values)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_an_answer_depends_neither_on_its_place_nor_on_its_companions(network: DnaBert2, n_threads: int) -> None:
    ids, before = drawn_ids(5, 37), torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        hidden, order = network.hidden(ids), torch.tensor([3, 1, 4, 0, 2])
        assert torch.equal(network.hidden(ids[order]), hidden[order])
        others = torch.cat([ids[:1], ids.flip(1)[1:]])
        assert torch.equal(network.hidden(others)[0], hidden[0])
        logits = network.logits(hidden[:, [4, 9]])
        assert torch.equal(network.logits(hidden[:, [4, 9]][order]), logits[order])
    finally:
        torch.set_num_threads(before)


def test_logits_of_single_tokens_are_those_of_the_whole_row(network: DnaBert2) -> None:
    ids = drawn_ids(2, 30)
    some = network.logits(network.hidden(ids)[:, [3, 11]])
    assert torch.allclose(some, network(ids)[:, [3, 11]], atol=1e-6)
    assert some.shape == (2, 2, 20)


def test_far_tokens_count_less_than_near_ones(network: DnaBert2) -> None:
    ids = torch.full((1, 400), 7)
    near, far = ids.clone(), ids.clone()
    near[0, 199], far[0, 0] = 9, 9
    before = network.hidden(ids)[0, 200]
    assert (network.hidden(near)[0, 200] - before).norm() > 2 * (network.hidden(far)[0, 200] - before).norm() > 0


def test_rows_travel_as_bytes(network: DnaBert2) -> None:
    ids = drawn_ids(2, 12)
    rows = [Request(line.numpy().astype(np.int32), [5]).pack() for line in ids]
    found, positions, _ = unpack(torch.tensor([list(row) for row in rows], dtype=torch.uint8))
    assert torch.equal(network.hidden(found), network.hidden(ids))
    assert positions.tolist() == [[5], [5]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alibi_starting_size": None}, "no alibi_starting_size"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"model_type": "modernbert"}, "model_type is 'modernbert'"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"num_attention_heads": 7}, "7 heads"),
        ({"hidden_size": "768"}, "hidden_size is '768'"),
        ({"layer_norm_eps": 0.0}, "layer_norm_eps is 0.0"),
        ({"rotary_dim": 32}, "rotary_dim"),
    ],
)
def test_configurations_of_other_networks_are_refused(changes: dict[str, object], message: str) -> None:
    mapping = {key: value for key, value in (PUBLISHED | changes).items() if value is not None or key not in changes}
    with pytest.raises(ModelError, match=message):
        DnaBert2Config.from_json(mapping, PATH)


def test_sizes_below_one_are_refused() -> None:
    with pytest.raises(ModelError, match="at least 1"):
        DnaBert2Config(n_layers=0)


def test_the_table_of_the_head_may_be_left_out_and_its_bias_may_have_either_name() -> None:
    state = state_of(SMALL)
    expected = network_from(state)(drawn_ids(1, 9))
    del state["cls.predictions.decoder.weight"]
    state["cls.predictions.bias"] = state.pop("cls.predictions.decoder.bias")
    assert torch.equal(network_from(state)(drawn_ids(1, 9)), expected)


def test_a_pooler_is_left_out() -> None:
    pooler = {"bert.pooler.dense.weight": np.ones((24, 24), np.float32), "bert.pooler.dense.bias": np.ones(24)}
    network_from(state_of(SMALL) | pooler)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cls.predictions.decoder.weight", np.ones((20, 24), np.float32)),
        ("bert.embeddings.position_embeddings.weight", np.ones((512, 24), np.float32)),
        ("bert.encoder.layer.0.attention.self.Wqkv.weight", np.ones((24, 72), np.float32)),
        ("bert.pooler.dense.weight", np.ones((2, 24), np.float32)),
        ("cls.predictions.transform.dense.bias", None),
        ("cls.predictions.decoder.bias", None),
    ],
)
def test_files_of_other_networks_are_refused(name: str, value: object) -> None:
    state = {key: array for key, array in (state_of(SMALL) | {name: value}).items() if array is not None}
    with pytest.raises(ModelError, match="folder"):
        network_from(state)


def test_a_tokenizer_with_more_tokens_than_the_network_is_refused(tmp_path: Path) -> None:
    vocabulary = {token: number for number, token in enumerate(["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", *"ACGT"])}
    ends = {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]}
    model = {"type": "BPE", "unk_token": "[UNK]", "vocab": vocabulary, "merges": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": model, "post_processor": ends}))
    assert tokenizer_of(SMALL, tmp_path).n_vocabulary == 9
    with pytest.raises(ModelError, match="9 tokens, but the network knows 8"):
        tokenizer_of(DnaBert2Config(n_vocabulary=8), tmp_path)


def test_adapters_made_upstream_find_their_layers(network: DnaBert2) -> None:
    last = {name.rsplit(".", 1)[-1] for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)}
    assert last == {"Wqkv", "dense", "gated_layers", "wo"}


def checkpoint() -> Checkpoint:
    words = dict.fromkeys(("licence", "paper", "source", "assembly", "reads", "scores", "strands"), "")
    return Checkpoint(
        name="toy", module="dnabert2", commercial=True, window=100, index=50, likelihood="tokens", **words
    )


def published(folder: Path) -> LocalWeights:
    """Write a small folder as the authors publish it."""
    sizes = {
        "vocab_size": 20,
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 40,
    }
    (folder / "config.json").write_text(json.dumps(PUBLISHED | sizes))
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
