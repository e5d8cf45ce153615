"""LoRA adapters: those that peft writes fit our networks and the authors' classes; others are refused by name."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import shutil
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_languages import SMALL, small_folder, small_language
from test_bpe import toy
from torch import Tensor, nn
from toys import vcf_text, write_fasta

from varfm.cli.main import run as varfm
from varfm.errors import ModelError, OptionError
from varfm.models import ModelOptions, catalog, load
from varfm.models.dnabert import Dnabert, DnabertConfig
from varfm.models.lora import PREFIX, apply_adapter, hub_name, read_adapter
from varfm.protocols import Model
from varfm.readers.safetensors import read, write_safetensors
from varfm.session import SessionOptions, load_models

peft = pytest.importorskip("peft", reason="the adapters of these tests are made by peft (extra finetune)")

ENDS = {
    "gpn-brassicales": ["ffn.0", "encoder.0.conv.1"],
    "dnabert-2-117m": ["Wqkv", "gated_layers", "wo"],
    "dnabert-3": ["query", "value", "dense"],
    "nt-v2-50m-multi-species": ["query", "key", "value", "dense"],
    "dnagpt-0.1b-h": ["c_attn", "c_proj", "c_fc"],
    "gena-lm-bert-base-t2t": ["query", "value"],
    "hyenadna-tiny-1k-seqlen": ["in_proj", "out_proj", "fc1", "fc2"],
    "caduceus-ph_seqlen-131k_d_model-256_n_layer-16": ["in_proj", "x_proj", "out_proj"],
    "caduceus-ps_seqlen-131k_d_model-256_n_layer-16": ["in_proj", "x_proj", "out_proj"],
}
"""Layers as those who fine-tune a family name them."""


def network_of(model: Model) -> nn.Module:
    network = model.network
    assert isinstance(network, nn.Module)
    inner = network.network
    assert isinstance(inner, nn.Module)
    return inner


def logits(network: nn.Module, n_vocabulary: int = 11) -> Tensor:
    """Run it on fixed tokens that all small vocabularies have."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, n_vocabulary, (2, 24), generator=generator)
    with torch.inference_mode():
        found = network(ids)
    return found.logits if hasattr(found, "logits") else found


def adapted(network: nn.Module, folder: Path, **settings: Any) -> nn.Module:
    """Let peft adapt a network with random numbers and write the adapter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of models that it does not know
        wrapped = peft.get_peft_model(network, peft.LoraConfig(**({"r": 4, "lora_alpha": 6} | settings))).eval()
        generator = torch.Generator().manual_seed(7)
        for value in wrapped.parameters():
            if value.requires_grad:
                value.data = value.data + 0.2 * torch.randn(value.shape, generator=generator)
        wrapped.save_pretrained(folder)
    return wrapped


def with_adapter(name: str, folder: Path, **options: Any) -> Model:
    return load(
        name,
        ModelOptions(weights=small_folder(name), offline=True, window=SMALL[name].window, adapter=folder, **options),
    )


def distance(found: Tensor, expected: Tensor) -> float:
    """Give the largest difference as a share of the scale."""
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", ENDS)
def test_an_adapter_of_peft_gives_the_logits_that_peft_gives(name: str, tmp_path: Path) -> None:
    base = network_of(small_language(name))
    wrapped = adapted(copy.deepcopy(base), tmp_path, target_modules=ENDS[name], use_rslora=name == "dnabert-3")
    ours = network_of(with_adapter(name, tmp_path))
    assert distance(logits(ours), logits(wrapped)) < 2e-5
    assert distance(logits(ours), logits(base)) > 1e-2


SMALL_SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40}
AUTHORS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "dnabert-3": ("Bert", {"vocab_size": 69, "max_position_embeddings": 128}, {"model_type": "bert"}),
    "nt-500m-human-ref": (
        "Esm",
        {
            "vocab_size": 4105, "max_position_embeddings": 60, "pad_token_id": 1, "mask_token_id": 2,
            "position_embedding_type": "absolute", "token_dropout": False, "emb_layer_norm_before": False,
        },
        {"model_type": "esm"},
    ),
    "gena-lm-bigbird-base-t2t": (
        "BigBird",
        {
            "vocab_size": 20, "max_position_embeddings": 128, "block_size": 4, "num_random_blocks": 3,
            "attention_type": "block_sparse", "pad_token_id": 3, "hidden_act": "gelu_new", "sep_token_id": None,
            "bos_token_id": None, "eos_token_id": None,
        },
        {"model_type": "big_bird"},
    ),
}  # fmt: skip
"""Checkpoints whose authors' class is one of transformers: its family, its sizes, and what `config.json` adds."""


def authors_class(name: str, task: str) -> Any:
    transformers = pytest.importorskip("transformers", reason="the authors' classes are those of transformers (lm)")
    family, sizes, _ = AUTHORS[name]
    config = getattr(transformers, f"{family}Config")(**SMALL_SIZES, **sizes, attn_implementation="eager")
    network = getattr(transformers, f"{family}{task}")(config).eval()
    if family == "BigBird":
        network.base_model.set_attention_type("original_full")  # as it does by itself for short sequences
    torch.manual_seed(2)
    for _, value in sorted(network.base_model.named_parameters()):  # of itself it begins with nearly zero
        nn.init.normal_(value, std=0.2)
    return network


def published(name: str, folder: Path) -> Path:
    """Write the authors' class with the head of the masked model as its published folder."""
    _, sizes, more = AUTHORS[name]
    state = {key: value.numpy() for key, value in authors_class(name, "ForMaskedLM").state_dict().items()}
    config = {key: value for key, value in (SMALL_SIZES | sizes | more).items() if value is not None}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps(toy()))
    write_safetensors(folder / "model.safetensors", state)
    return folder


@pytest.mark.parametrize("task", ["ForMaskedLM", "ForSequenceClassification", "Model"])
@pytest.mark.parametrize("name", AUTHORS)
def test_an_adapter_made_on_the_authors_class_fits(name: str, task: str, tmp_path: Path) -> None:
    weights = published(name, tmp_path / "published")
    theirs = authors_class(name, task)
    kinds = {"Model": None, "ForMaskedLM": None, "ForSequenceClassification": "SEQ_CLS"}
    settings = {"task_type": kinds[task], "target_modules": ["query", "key", "value", "dense"]}
    wrapped = adapted(theirs, tmp_path / "adapter", **settings)
    model = load(name, ModelOptions(weights=weights, offline=True, window=96, adapter=tmp_path / "adapter"))
    ids = torch.randint(3, 19, (2, 24), generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        found = network_of(model).hidden(ids)  # type: ignore[operator]
        expected = wrapped.get_base_model().base_model(ids).last_hidden_state  # type: ignore[operator]
    assert distance(found, expected) < 2e-5
    plain = network_of(load(name, ModelOptions(weights=weights, offline=True, window=96)))
    with torch.inference_mode():
        assert distance(plain.hidden(ids), expected) > 1e-2  # type: ignore[operator]


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": r".*\.attention\.self\.(query|key)", "rank_pattern": {"layer.0.*query": 2}},
        {"target_modules": ["query", "dense"], "alpha_pattern": {"dense": 40, "query": 1}, "exclude_modules": ["cls"]},
        {"target_modules": ["query"], "bias": "lora_only"},
        {"target_modules": ["value"], "bias": "all"},
        {"target_modules": ["value", "dense"], "modules_to_save": ["LayerNorm"]},
        {"target_modules": ["value", "dense"], "layers_to_transform": [1]},
    ],
    ids=["pattern", "alphas", "bias of layers", "all biases", "norms", "some layers"],
)
def test_patterns_biases_and_whole_layers_mean_what_they_mean_to_peft(settings: dict[str, Any], tmp_path: Path) -> None:
    base = network_of(small_language("dnabert-3"))
    wrapped = adapted(copy.deepcopy(base), tmp_path, **settings)
    found = logits(network_of(with_adapter("dnabert-3", tmp_path)))
    assert distance(found, logits(wrapped)) < 2e-5
    assert distance(found, logits(base)) > 1e-2


def test_the_bias_of_berts_head_has_two_names(tmp_path: Path) -> None:
    weights = published("dnabert-3", tmp_path / "published")
    wrapped = adapted(authors_class("dnabert-3", "ForMaskedLM"), tmp_path / "a", target_modules=["query"], bias="all")
    model = load("dnabert-3", ModelOptions(weights=weights, offline=True, window=96, adapter=tmp_path / "a"))
    expected = wrapped.get_submodule("base_model.model.cls.predictions").bias  # type: ignore[operator]
    assert torch.equal(network_of(model).get_parameter("cls.predictions.bias"), expected)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    adapted(copy.deepcopy(network_of(small_language("dnabert-3"))), folder, target_modules=["query", "value"])
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "adapter"))


def configured(folder: Path, **changes: object) -> Path:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"use_dora": True}, "use_dora is true, which varfm does not apply"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; varfm applies LORA alone"),
        ({"init_lora_weights": "pissa"}, 'init_lora_weights is "pissa"'),
        ({"loftq_config": {"loftq_bits": 4}}, "loftq_config"),
        ({"something_new": 3}, "something_new is 3"),
        ({"r": 0}, "r is 0, expected a number above 0"),
        ({"lora_alpha": None}, "lora_alpha is null"),
        ({"r": 5}, "has rank 4, but adapter_config.json says 5"),
        ({"target_modules": None}, "target_modules"),
        ({"target_modules": ["query", "value", "key"]}, r"key of target_modules is also bert\.encoder.*lacks"),
        ({"alpha_pattern": {"(": 3}}, "is no pattern"),
        ({"base_model_name_or_path": "zhihan1996/DNA_bert_6"}, "Run it with --model dnabert-6"),
        ({"base_model_name_or_path": "/c/models--InstaDeepAI--agro-nt-1b/snapshots/0a"}, "--model agro-nt-1b"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(folder: Path, changes: dict[str, object], said: str) -> None:
    with pytest.raises(ModelError, match=said):
        with_adapter("dnabert-3", configured(folder, **changes))


@pytest.mark.parametrize("base", ["zhihan1996/DNA_bert_3", "/data/dna_bert_3/", "dnabert-3", "", None])
def test_the_base_may_be_called_by_any_of_its_names(
    folder: Path, base: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with_adapter("dnabert-3", configured(folder, base_model_name_or_path=base))
    assert "made for" not in caplog.text


def test_a_base_that_nobody_knows_is_warned_about(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with_adapter("dnabert-3", configured(folder, base_model_name_or_path="me/my-dnabert"))
    assert "made for me/my-dnabert, which is no model of varfm" in caplog.text


def test_an_adapter_of_another_network_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match=r"adapts bert\.encoder\.layer\.0\.attention\.self\.query, which dnabert-2"):
        with_adapter("dnabert-2-117m", folder)
    with pytest.raises(ModelError, match=r"has lora_A .4, 24. and lora_B .24, 4., expected .4, 32. and .32, 4.\."):
        wider = Dnabert(DnabertConfig(k=3, width=32, n_layers=2, n_heads=4))
        apply_adapter(read_adapter(folder), wider, catalog.get("dnabert-3"))
    with pytest.raises(ModelError, match=r"query of target_modules is also bert\.encoder\.layer\.2.*lacks"):
        deeper = Dnabert(DnabertConfig(k=3, width=24, n_layers=3, n_heads=4))
        apply_adapter(read_adapter(folder), deeper, catalog.get("dnabert-3"))


def test_a_damaged_or_pickled_adapter_ends_with_one_line_and_status_4(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = write_fasta(tmp_path, {"c": "GATTACAGGTACC" * 20})
    (tmp_path / "in.vcf").write_text(vcf_text([("c", 131, "G", "T")]))
    weights = small_folder("dnabert-3")
    command = ["score", str(tmp_path / "in.vcf"), "-f", str(fasta), "-m", "dnabert-3", "--weights", str(weights)]
    command += ["--window", "96", "-o", str(tmp_path / "out.vcf"), "--adapter", str(folder)]
    path = folder / "adapter_model.safetensors"
    content = path.read_bytes()
    damages: list[tuple[bytes | None, str]] = [
        (content[: len(content) // 2], "damaged or cut safetensors"),
        (pickle.dumps({"base_model": 1}), "no safetensors file, and varfm runs no pickle"),
        (b"", "no safetensors file"),
        (None, "adapter_model.bin, a pickle, which varfm does not run"),
    ]
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({}))
    for damage, said in damages:
        path.unlink() if damage is None else path.write_bytes(damage)
        capsys.readouterr()
        assert varfm(command) == 4
        lines = [line for line in capsys.readouterr().err.splitlines() if "not taken as published" not in line]
        assert len(lines) == 1 and said in lines[0]
        assert not (tmp_path / "out.vcf").exists()
    assert varfm([*command[:-1], str(tmp_path / "none")]) == 4


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (".lora_A.", ".lora_C.", "of a kind of LoRA that varfm does not apply"),
        (PREFIX, "", "does not begin with base_model.model."),
        ("query.lora_B", "query.gone.lora_B", "has lora_A or lora_B, but not both"),
        ("self.query", "self.question", "self.question, which dnabert-3 does not have as a layer"),
    ],
)
def test_tensors_that_fit_nothing_are_refused_by_name(folder: Path, old: str, new: str, said: str) -> None:
    path = folder / "adapter_model.safetensors"
    arrays = {key: np.array(value) for key, value in read(path).items()}
    write_safetensors(path, {key.replace(old, new): value for key, value in arrays.items()})
    with pytest.raises(ModelError, match=said):
        with_adapter("dnabert-3", folder)
    write_safetensors(path, {key: value * np.nan for key, value in arrays.items()})
    with pytest.raises(ModelError, match="holds NaN or infinity"):
        with_adapter("dnabert-3", folder)


def test_header_and_manifest_name_the_adapter_which_needs_no_peft(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("peft", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    fasta = write_fasta(tmp_path, {"c": "GATTACAGGTACC" * 20})
    (tmp_path / "in.vcf").write_text(vcf_text([("c", 131, "G", "T")]))
    out = tmp_path / "out.vcf"
    command = ["score", str(tmp_path / "in.vcf"), "-f", str(fasta), "-m", "dnabert-3", "--window", "96", "-o", str(out)]
    command += ["--weights", str(small_folder("dnabert-3")), "--force"]
    assert varfm(command) == 0
    plain = out.read_text().splitlines()[-1]
    assert varfm([*command, "--adapter", str(folder)]) == 0
    sha256 = hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
    text = out.read_text()
    assert f'adapter="sha256:{sha256}",adapter_r="4",adapter_alpha="6"' in text
    options = json.loads(out.with_name("out.vcf.varfm.json").read_text())["models"][0]["options"]
    assert (options["adapter"], options["adapter_r"], options["adapter_alpha"]) == (f"sha256:{sha256}", "4", "6")
    assert text.splitlines()[-1] != plain and "VARFM_DNABERT_3_LLR=" in text.splitlines()[-1]


def test_an_adapter_is_for_one_language_model(folder: Path) -> None:
    with pytest.raises(OptionError, match="--adapter does not apply to mini"):
        load("mini", ModelOptions(adapter=folder))
    with pytest.raises(OptionError, match="--adapter fits one model"):
        load_models(SessionOptions("-", None, ("mini", "dnabert-3"), ModelOptions(adapter=folder)))


def test_the_name_of_a_base_is_that_of_the_hub() -> None:
    assert hub_name(catalog.get("dnabert-2-117m")) == "zhihan1996/DNABERT-2-117M"
    assert hub_name(catalog.get("dnagpt-0.1b-h")) == "dnagpt-0.1b-h"
