"""`varfm finetune`: what it learns, what it writes, and that `score --adapter` and peft give back what was learned."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_languages import SMALL, small_folder
from toys import SHARED, needs_shared

from varfm.cli.finetune import finetune as command
from varfm.cli.main import run as varfm
from varfm.errors import ModelError, OptionError
from varfm.finetune import FILES
from varfm.models import ModelOptions, catalog, load
from varfm.models.language import LanguageNetwork
from varfm.protocols import Row
from varfm.readers.safetensors import write_safetensors
from varfm.session import Session, SessionOptions
from varfm.windows import Site

peft = pytest.importorskip("peft", reason="it trains with peft (extra finetune)")
sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="it needs scikit-learn (extra finetune)")

GPN = "gpn-brassicales"


def benchmark() -> Any:
    """Import the benchmark, which makes the planted set."""
    path = Path(__file__).parents[1] / "benchmarks" / "finetune.py"
    spec = importlib.util.spec_from_file_location("benchmark_finetune", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a planted set, a small GPN of random weights, and an adapter fitted to the set."""
    folder = tmp_path_factory.mktemp("planted")
    made = benchmark()
    made.planted_motif(folder, 360)
    made.small_gpn(folder / "gpn")
    assert varfm([*training(folder), "-o", str(folder / "adapter"), "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory, planted: Path) -> Path:
    """Give a folder with a small set, for what does not depend on how much is learned."""
    folder = tmp_path_factory.mktemp("few")
    benchmark().planted_motif(folder, 72)
    shutil.copytree(planted / "gpn", folder / "gpn")
    return folder


def training(folder: Path) -> list[str]:
    words = ["finetune", str(folder / "table.tsv"), *reading(folder), "--held-out", "c4,c5", "--validation", "c3"]
    return [*words, "--learning-rate", "0.005", "--epochs", "3"]


def reading(folder: Path) -> list[str]:
    words = ["-f", str(folder / "planted.fa"), "-m", GPN, "--weights", str(folder / "gpn"), "--threads", "1"]
    return [*words, "--window", "64"]


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "varfm_finetune.json").read_text())
    return found


def scores(folder: Path, tmp_path: Path, *more: str) -> pd.DataFrame:
    """Score the variants on the contigs that were held out, by the command."""
    table = pd.read_csv(folder / "table.tsv", sep="\t").query("contig in ('c4', 'c5')").reset_index(drop=True)
    records = [f"{r.contig}\t{r.pos}\t.\t{r.ref}\t{r.alt}\t.\t.\t.\n" for r in table.itertuples()]
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "in.vcf").write_text(head + "".join(records))
    out = tmp_path / "scores.tsv"
    assert varfm(["score", str(tmp_path / "in.vcf"), *reading(folder), "-o", str(out), "--force", *more]) == 0
    return pd.read_csv(out, sep="\t", na_values=".").assign(label=table["label"])


def test_an_adapter_finds_a_planted_motif_better_than_a_head_on_the_frozen_model(planted: Path) -> None:
    found = report(planted / "adapter")
    assert found["alleles"] == {"training": 180, "validation": 60, "held_out": 120}
    assert found["best_epoch"] > 0 and len(found["losses"]) <= 4
    held_out = found["metrics"]["held_out"]
    assert held_out["adapted"]["auroc"] > held_out["frozen"]["auroc"] + 0.01
    assert held_out["adapted"]["auprc"] > held_out["frozen"]["auprc"]


def test_the_folder_holds_nothing_else(planted: Path) -> None:
    assert {path.name for path in (planted / "adapter").iterdir()} == FILES
    assert not [path for path in planted.iterdir() if "varfm-tmp" in path.name]


def test_score_gives_back_what_was_learned(planted: Path, tmp_path: Path) -> None:
    table = scores(planted, tmp_path, "--adapter", str(planted / "adapter"))
    assert table["FINETUNED"].between(0, 1).all()
    expected = report(planted / "adapter")["metrics"]["held_out"]["adapted"]
    assert sklearn_metrics.roc_auc_score(table["label"], table["FINETUNED"]) == pytest.approx(
        expected["auroc"], abs=2e-3
    )
    assert (table["LLR"] - scores(planted, tmp_path)["LLR"]).abs().max() > 1e-2


def test_the_window_of_the_head_is_that_of_training_unless_another_is_asked_for(planted: Path) -> None:
    options = ModelOptions(weights=planted / "gpn", offline=True, adapter=planted / "adapter")
    assert dict(load(GPN, options).origin.options)["window"] == "64"


def test_header_names_the_head_and_its_formula(few: Path, planted: Path, tmp_path: Path) -> None:
    scores(few, tmp_path)
    out = tmp_path / "out.vcf"
    words = ["score", str(tmp_path / "in.vcf"), *reading(few), "--adapter", str(planted / "adapter")]
    assert varfm([*words, "-o", str(out)]) == 0
    text = out.read_text()
    assert 'adapter_head="sha256:' in text and "##INFO=<ID=VARFM_GPN_BRASSICALES_FINETUNED,Number=A,Type=Float" in text


def test_peft_loads_the_folder_and_gives_the_same_logits(planted: Path) -> None:
    plain, ours = (
        load(GPN, ModelOptions(weights=planted / "gpn", offline=True, adapter=adapter)).network
        for adapter in (None, planted / "adapter")
    )
    assert isinstance(plain, LanguageNetwork) and isinstance(ours, LanguageNetwork)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = peft.PeftModel.from_pretrained(copy.deepcopy(plain.network), planted / "adapter").eval()
    ids = torch.randint(3, 7, (3, 64), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, expected, before = ours.network(ids), theirs(ids), plain.network(ids)
    assert torch.allclose(found, expected, rtol=0, atol=2e-5 * float(expected.abs().max()))
    assert not torch.allclose(found, before, rtol=0, atol=1e-2 * float(expected.abs().max()))
    assert theirs.peft_config["default"].base_model_name_or_path == "songlab/gpn-brassicales"


def test_equal_seeds_give_equal_adapters(few: Path, tmp_path: Path) -> None:
    files = ("adapter_config.json", "adapter_model.safetensors", "varfm_head.safetensors")
    short = [*training(few), "--epochs", "1", "--quiet"]
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert varfm([*short, "--seed", seed, "-o", str(tmp_path / name)]) == 0
    same = [(tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in files]
    assert same == [True, True, True]
    assert (tmp_path / "a" / files[1]).read_bytes() != (tmp_path / "c" / files[1]).read_bytes()


def test_real_labels_are_predicted_in_their_own_unit(planted: Path, tmp_path: Path) -> None:
    shutil.copytree(planted / "gpn", tmp_path / "gpn")
    benchmark().planted_motif(tmp_path, 144)
    table = pd.read_csv(tmp_path / "table.tsv", sep="\t")
    draw = np.random.default_rng(3)
    table["label"] = 1000 + 50 * table["ref"].isin(["G", "C"]) + draw.normal(0, 5, len(table))
    table.to_csv(tmp_path / "table.tsv", sep="\t", index=False)
    assert varfm([*training(tmp_path), "--epochs", "1", "-o", str(tmp_path / "adapter"), "--quiet"]) == 0
    found = report(tmp_path / "adapter")
    assert found["labels"] == "real"
    assert found["metrics"]["held_out"]["adapted"]["pearson"] > 0.4
    assert set(found["metrics"]["held_out"]["frozen"]) == {"pearson", "spearman"}
    scored = scores(tmp_path, tmp_path, "--adapter", str(tmp_path / "adapter"))
    assert (scored["FINETUNED"] - scored["label"]).abs().median() < 25


def test_rows_that_cannot_be_read_are_counted(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (few / "table.tsv").read_text()
    wrong = "ACGT"["ACGT".index(text.splitlines()[1].split("\t")[2]) - 1]
    first = text.splitlines()[1].split("\t")
    lines = ["\t".join([*first[:2], wrong, first[2], "1"]), "elsewhere\t5\tA\tC\t1", "c0\t999999\tA\tC\t0"]
    (tmp_path / "table.tsv").write_text(text + "\n".join(lines) + "\n")
    words = ["finetune", str(tmp_path / "table.tsv"), *training(few)[2:], "--epochs", "1"]
    assert varfm([*words, "-o", str(tmp_path / "adapter")]) == 0
    assert report(tmp_path / "adapter")["status"] == {"NO_CONTIG": 1, "OUT_OF_CONTIG": 1, "REF_MISMATCH": 1}
    said = capsys.readouterr().err
    assert "72 alleles: 36 training, 12 validation, 24 held out; 3 not read (1 NO_CONTIG" in said
    assert "held out: AUROC 0." in said and "without the adapter" in said


def test_a_wrong_assembly_is_named_with_the_table(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (few / "planted.fa").read_text()
    (tmp_path / "other.fa").write_text(text.translate(str.maketrans("ACGT", "CGTA")).replace(">g", ">c"))
    words = [word.replace(str(few / "planted.fa"), str(tmp_path / "other.fa")) for word in training(few)]
    assert varfm([*words, "-o", str(tmp_path / "adapter")]) == 3
    said = capsys.readouterr().err
    assert f"{few / 'table.tsv'}: REF differs from other.fa" in said.replace("\n", " ")
    assert not (tmp_path / "adapter").exists()


def test_rows_that_do_not_fit_the_reference_are_told_of_where_too_few_are_left(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, *rows = (few / "table.tsv").read_text().splitlines()
    column = head.split("\t").index("ref")
    wrong = []
    for row in rows:
        cells = row.split("\t")
        if cells[0] == "c3":  # too few for the assembly to be judged wrong
            cells[column] = "ACGT"["ACGT".index(cells[column]) - 1]
        wrong.append("\t".join(cells))
    (tmp_path / "table.tsv").write_text("\n".join([head, *wrong]) + "\n")
    words = [word.replace(str(few / "table.tsv"), str(tmp_path / "table.tsv")) for word in training(few)]
    assert varfm([*words, "--max-ref-mismatch", "50", "-o", str(tmp_path / "adapter")]) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert "the part for validation has no row that can be read." in said
    assert "12 rows of 72 could not be read (12 REF_MISMATCH): is this the FASTA of the table?" in said
    assert not (tmp_path / "adapter").exists()


def test_a_folder_is_replaced_with_force_only_and_only_if_it_is_an_adapters(
    few: Path, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*training(few), "--epochs", "1", "-o", str(tmp_path / "adapter"), "--quiet"]
    shutil.copytree(planted / "adapter", tmp_path / "adapter")
    before = (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes()
    assert varfm(words) == 2
    assert "Use --force to replace it" in capsys.readouterr().err
    (tmp_path / "adapter" / "notes.txt").write_text("mine")
    assert varfm([*words, "--force"]) == 2
    assert "holds notes.txt, which is not varfm's" in capsys.readouterr().err
    assert (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes() == before
    (tmp_path / "adapter" / "notes.txt").unlink()
    assert varfm([*words, "--force"]) == 0
    assert (tmp_path / "adapter" / "adapter_model.safetensors").read_bytes() != before
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]
    assert varfm([*words[:-2], str(tmp_path / "no" / "adapter")]) == 2
    assert varfm([*words[:-2], str(tmp_path / "adapter" / "adapter_config.json")]) == 2


def test_a_folder_that_holds_the_table_is_not_replaced(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "adapter" / "varfm_finetune.json"
    table.parent.mkdir()
    shutil.copy(few / "table.tsv", table)
    words = [word.replace(str(few / "table.tsv"), str(table)) for word in training(few)]
    assert varfm([*words, "-o", str(tmp_path / "adapter"), "--force"]) == 2
    assert "varfm_finetune.json is an input, which is read" in capsys.readouterr().err.replace("\n", " ")
    assert table.read_bytes() == (few / "table.tsv").read_bytes()


def test_memory_that_runs_out_in_training_has_its_status(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forward = LanguageNetwork.forward

    def greedy(self: LanguageNetwork, batch: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, batch)

    monkeypatch.setattr(LanguageNetwork, "forward", greedy)
    assert varfm([*training(few), "-o", str(tmp_path / "adapter")]) == 5
    assert "Use a smaller --batch-size" in capsys.readouterr().err.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_without_the_extra_it_says_how_to_get_it(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert varfm([*training(few), "-o", str(tmp_path / "adapter")]) == 4
    assert "pip install 'varfm[finetune]'" in capsys.readouterr().err


def test_models_that_take_no_adapter_are_refused(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("mini", "phylogpn"):
        words = ["finetune", str(few / "table.tsv"), "-f", str(few / "planted.fa"), "-m", name]
        assert varfm([*words, "-o", str(tmp_path / "adapter")]) == 2
        assert f"{name} takes no LoRA adapter" in capsys.readouterr().err
        with pytest.raises(OptionError, match=f"--adapter does not apply to {name}"):
            load(name, ModelOptions(adapter=tmp_path, offline=True))


@pytest.mark.parametrize("damage", ["weights", "adapter", "cut", "pickle", "format"])
def test_a_head_that_does_not_belong_is_refused(
    damage: str, planted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = Path(shutil.copytree(planted / "adapter", tmp_path / "adapter"))
    head = adapter / "varfm_head.safetensors"
    options = ModelOptions(weights=planted / "gpn", offline=True, adapter=adapter)
    said = "not a head that this version of varfm wrote"
    if damage == "weights":
        weights = Path(shutil.copytree(planted / "gpn", tmp_path / "gpn"))
        content = (weights / "model.safetensors").read_bytes()
        (weights / "model.safetensors").write_bytes(content[:-4] + bytes(4))
        options, said = ModelOptions(weights=weights, offline=True, adapter=adapter), "trained on gpn-brassicales with"
    elif damage == "adapter":
        content = (adapter / "adapter_model.safetensors").read_bytes()
        (adapter / "adapter_model.safetensors").write_bytes(content[:-4] + bytes(4))
        said = "trained with another adapter than the one beside it"
    elif damage == "cut":
        head.write_bytes(head.read_bytes()[:-8])
        said = "damaged or cut safetensors"
    elif damage == "pickle":
        head.write_bytes(b"\x80\x04K\x01.")
    else:
        head.write_bytes(head.read_bytes().replace(b"varfm head 1", b"varfm head 9"))
    with pytest.raises(ModelError, match=said):
        load(GPN, options)


ADAPTABLE = [name for name in SMALL if catalog.get(name).adaptable]
QUICK = {GPN, "dnabert-2-117m", "hyenadna-tiny-1k-seqlen", "caduceus-ps_seqlen-131k_d_model-256_n_layer-16"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in ADAPTABLE])
def test_every_family_learns_in_all_its_layers_and_gives_it_back(name: str, tmp_path: Path) -> None:
    from varfm.fitting import Fit, LinearHead, Schedule, Task, adapted_layers, adapter_state, inject
    from varfm.models.lora import apply_adapter, read_adapter

    bases = "GATTACAGGTACCATGCAATTGCCGATAACGTTAGCATGCCTAGGATCCAATGCAAGT" * 8
    (tmp_path / "in.fa").write_text(f">c\n{bases}\n")
    records = [(150 + 7 * n, bases[149 + 7 * n]) for n in range(8)]
    lines = [f"c\t{pos}\t.\t{ref}\t{'ACGT'[ref == 'A']}\t.\t.\t.\n" for pos, ref in records]
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "in.vcf").write_text(head + "".join(lines))
    chosen = ModelOptions(weights=small_folder(name), offline=True, window=SMALL[name].window, embeddings=True)
    options = SessionOptions(str(tmp_path / "in.vcf"), str(tmp_path / "in.fa"), (name,), chosen, threads=1)
    with Session(options) as session:
        (item,) = session
        sites = [Site(*item.alleles.aligned(number)) for number in range(8)]
        network = session.models[0].network
        assert isinstance(network, LanguageNetwork)
        values = item.scored[0].scores.astype(np.float32)
        ref, alt = np.split(values, 2, axis=1)
        features = np.concatenate([ref, alt - ref], 1)
        before = {key: value.clone() for key, value in network.network.state_dict().items()}
        layers = adapted_layers(network.network)
        schedule = Schedule(rank=2, epochs=2, batch=4, learning_rate=0.002)
        config = inject(network.network, schedule)
        fit = Fit(network, LinearHead(features), Task(True), rows_of(session, sites), schedule)
        every = np.arange(8)
        fit.run(every, every, np.array([0.0, 1.0] * 4), lambda n_alleles, share: None)
        learned = adapter_state(network.network)
        answers = fit.head.folded(fit.task)
        expected = fit.answers(every)
        rows = [rows_of(session, sites)(number) for number in range(8)]
    assert fit.best_epoch > 0
    assert sorted(learned) == sorted(f"{layer}.{part}.weight" for layer in layers for part in ("lora_A", "lora_B"))
    assert all(bool(value.abs().max() > 0) for value in learned.values())
    after = {key.replace("base_layer.", ""): value for key, value in network.network.state_dict().items()}
    assert all(torch.equal(value, after[key]) for key, value in before.items())  # the base is as it was
    write(tmp_path / "adapter", learned, config)
    again = load(name, ModelOptions(weights=small_folder(name), offline=True, window=SMALL[name].window))
    assert isinstance(again.network, LanguageNetwork)
    apply_adapter(read_adapter(tmp_path / "adapter"), again.network.network, catalog.get(name))
    with torch.inference_mode():
        embedded = [[again.network(packed(row))[0].double().numpy() for row in own] for own in rows]
    strands = len(embedded[0]) // 2
    found = [answers.predict(np.mean(own[:strands], 0), np.mean(own[strands:], 0)) for own in embedded]
    assert np.allclose(found, torch.sigmoid(expected).numpy(), atol=1e-4)


def rows_of(session: Session, sites: list[Site]) -> Callable[[int], list[Row]]:
    """Cut the windows of a site as the session's model reads them."""
    from varfm.finetune import rows_of_site

    return lambda number: rows_of_site(session, sites[number])


def packed(row: Row) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(row, np.uint8).copy())[None]


def write(folder: Path, learned: dict[str, torch.Tensor], config: Any) -> None:
    folder.mkdir()
    arrays = {f"base_model.model.{key}": value.numpy() for key, value in learned.items()}
    write_safetensors(folder / "adapter_model.safetensors", arrays)
    described = config.to_dict() | {"target_modules": sorted(config.target_modules)}
    (folder / "adapter_config.json").write_text(json.dumps(described))


def test_example_of_the_help_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = re.search(r"^ +varfm (finetune .*)$", command.help or "", re.M)
    assert words
    shutil.copytree(Path(__file__).parents[1] / "example_data", tmp_path / "example_data")
    monkeypatch.chdir(tmp_path)
    name = "hyenadna-tiny-1k-seqlen"
    for variable, value in (("WEIGHTS", small_folder(name)), ("WINDOW", 24), ("THREADS", 1), ("EPOCHS", 1)):
        monkeypatch.setenv(f"VARFM_{variable}", str(value))
    assert varfm(words[1].split()) == 0
    assert {path.name for path in Path("adapter").iterdir()} == FILES


@pytest.mark.slow
@needs_shared
def test_on_measured_effects_it_says_what_it_reaches_on_elements_held_out(tmp_path: Path) -> None:
    made = benchmark()
    fasta = made.satmut(tmp_path, SHARED, 25)
    made.small_gpn(tmp_path / "gpn")
    words = ["finetune", str(tmp_path / "table.tsv"), "-f", str(fasta), "-m", GPN, "--weights", str(tmp_path / "gpn")]
    words += ["--held-out", ",".join(made.SATMUT_HELD_OUT), "--validation", ",".join(made.SATMUT_VALIDATION)]
    words += ["--window", "64", "--epochs", "2", "--threads", "1", "--max-ref-mismatch", "0"]
    assert varfm([*words, "-o", str(tmp_path / "adapter"), "--quiet"]) == 0
    found = report(tmp_path / "adapter")
    assert found["alleles"]["held_out"] > 250 and found["status"].keys() <= {"N_HEAVY"}
    for kinds in found["metrics"].values():
        for values in kinds.values():
            assert all(value is not None and -1 < value < 1 for value in values.values())
