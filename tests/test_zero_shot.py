"""Language models from their published folders through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from toys import one, run_toy, vcf_text, write_fasta

from varfm.cli.main import run as varfm
from varfm.errors import ModelError, OptionError
from varfm.models import ModelOptions, describe, load
from varfm.models.gpn import GpnConfig, network_of
from varfm.protocols import Model
from varfm.readers.safetensors import write_safetensors

CONFIG = {
    "architectures": ["ConvNetForMaskedLM"], "model_type": "ConvNet", "hidden_size": 16, "n_layers": 3,
    "kernel_size": 5, "dilation_cycle": 6, "dilation_max": 32, "dilation_double_every": 1, "vocab_size": 7,
}  # fmt: skip
VOCABULARY = {"[PAD]": 0, "[MASK]": 1, "[UNK]": 2, "a": 3, "c": 4, "g": 5, "t": 6}
BASES = "GATTACAGGTACCATGCAATTGCCGATAACGTTAGCATGCCTAGGATCCAATGCAAGT" * 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    tokenizer = {"normalizer": {"type": "Lowercase"}, "pre_tokenizer": {"type": "Whitespace"}}
    model = {"type": "BPE", "unk_token": "[UNK]", "vocab": VOCABULARY, "merges": []}
    (tmp_path / "tokenizer.json").write_text(json.dumps(tokenizer | {"model": model}))
    network = network_of(GpnConfig.from_json(CONFIG, tmp_path))
    torch.manual_seed(3)
    for value in network.parameters():
        torch.nn.init.normal_(value, std=0.3)
    arrays = {key: value.numpy() for key, value in network.state_dict().items()}
    write_safetensors(tmp_path / "model.safetensors", arrays, {"format": "pt"})
    return tmp_path


def gpn(folder: Path, **options: object) -> Model:
    return load("gpn-brassicales", ModelOptions(weights=folder, offline=True, **options))  # type: ignore[arg-type]


def test_a_snv_an_mnv_and_an_indel_have_their_columns(folder: Path) -> None:
    model = gpn(folder, window=64)
    at = 300
    records = [("c", at + 1, BASES[at], "ACGT"[BASES[at] == "A"]), ("c", at + 1, BASES[at : at + 2], "".join(
        "ACGT"["ACGT".index(base) - 1] for base in BASES[at : at + 2])), ("c", at + 1, BASES[at], BASES[at] + "GG"),
    ]  # fmt: skip
    snv, mnv, insertion = (dict(zip(names(model), toy.scores, strict=True)) for toy in run_toy(model, BASES, records))
    assert snv["LLR"] == pytest.approx((snv["FORWARD"] + snv["REVERSE"]) / 2) != 0
    assert (snv["N_TOKENS_REF"], mnv["N_TOKENS_REF"], insertion["N_TOKENS_ALT"]) == (1, 2, 34)
    assert snv["LLR_INDEL"] != snv["LLR_INDEL"]  # NaN
    assert insertion["LLR_INDEL"] != 0 and insertion["LLR"] != insertion["LLR"]


def names(model: Model) -> list[str]:
    return [column.name for column in model.scorer.columns]


def test_an_allele_whose_flanks_leave_the_window_is_too_long(folder: Path) -> None:
    model = gpn(folder, window=64)
    long = [("c", 301, BASES[300], BASES[300] + "GATC" * 4), ("c", 301, BASES[300], BASES[300] + "GATC" * 3)]
    assert [toy.status for toy in run_toy(model, BASES, long)] == ["TOO_LONG", "OK"]


def test_what_lies_outside_the_window_changes_nothing(folder: Path) -> None:
    model = gpn(folder, window=64)
    other = "C" * 200 + BASES[200:400] + "T" * (len(BASES) - 400)
    record = [("c", 301, BASES[300], "ACGT"[BASES[300] == "A"])]
    assert one(run_toy(model, other, record)).scores[0] == one(run_toy(model, BASES, record)).scores[0]


def test_distances_are_computed_where_they_are_asked_for(folder: Path) -> None:
    assert names(gpn(folder))[-1] == "N_TOKENS_ALT"
    model = gpn(folder, scores=("LLR", "cosine"), window=64)
    assert names(model)[-2:] == ["L2", "COSINE"]
    found = one(run_toy(model, BASES, [("c", 301, BASES[300], "ACGT"[BASES[300] == "A"])]))
    assert found.scores[-2] > 0
    for name in ("SAD", "PLL"):
        with pytest.raises(OptionError, match=f"--scores {name}: gpn-brassicales has its likelihood score"):
            gpn(folder, scores=(name,))


def test_blanks_are_filled_in_where_that_is_asked_for(folder: Path) -> None:
    model = gpn(folder, scores=("infill",), window=64)
    fields = [field.key for field in model.scorer.fields]
    assert fields == ["LLR", "LLR_INDEL", "INFILL", "INFILL_INDEL"]
    mnv = ("c", 301, BASES[300:303], "".join("ACGT"["ACGT".index(base) - 1] for base in BASES[300:303]))
    found = dict(zip(names(model), one(run_toy(model, BASES, [mnv])).scores, strict=True))
    assert found["INFILL"] == (found["INFILL_FORWARD"] + found["INFILL_REVERSE"]) / 2
    assert found["INFILL"] != pytest.approx(found["LLR"], abs=1e-3)
    assert "filled in one by one" in describe("gpn-brassicales")[names(model).index("INFILL")].formula
    assert not [column for column in describe("dnagpt-0.1b-h") if "INFILL" in column.name]


def test_header_and_words_say_how_it_scores(folder: Path) -> None:
    assert dict(gpn(folder).origin.options) | {"scores": ""} == {
        "window": "512", "index": "256", "method": "masked", "strands": "both", "scores": "",
    }  # fmt: skip
    assert [column.name for column in describe("gpn-brassicales")][:2] == ["LLR", "LLR_INDEL"]


def test_a_folder_of_another_network_is_refused(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | {"model_type": "bert"}))
    with pytest.raises(ModelError, match="model_type is 'bert'"):
        gpn(folder)
    (folder / "config.json").write_text("[")
    with pytest.raises(ModelError, match="cannot be read as JSON"):
        gpn(folder)


def test_the_summary_tells_of_tokens_that_the_model_does_not_know(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    fasta = write_fasta(tmp_path, {"c": BASES})
    for name, pos in (("edge", 20), ("inside", 301)):
        vcf = tmp_path / f"{name}.vcf"
        vcf.write_text(vcf_text([("c", pos, BASES[pos - 1], "ACGT"[BASES[pos - 1] == "A"])]))
        arguments = ["score", str(vcf), "-f", str(fasta), "-m", "gpn-brassicales", "--weights", str(folder)]
        assert varfm([*arguments, "--window", "64", "-o", str(tmp_path / f"{name}.tsv")]) == 0
        said = capsys.readouterr().err
        assert ("gpn-brassicales: 26 of 128 tokens are unknown to it, such as N" in said) == (name == "edge")
