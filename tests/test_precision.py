"""Half precision: how much of a difference is left, that it is asked for by name, and what is said of it."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from small_languages import SMALL as LANGUAGES
from small_languages import small_language
from small_models import CONFIGS, small_folder, small_model
from test_changes import NAMES, Small, model_of, questions, substituted, window
from test_properties import Subject, a_genome, some_records
from torch import Tensor, nn
from toys import RecordText, binned_model, point_model, run_toy, vcf_text, write_fasta

from varfm import precision as precision_module
from varfm import runner as runner_module
from varfm.cli.main import run as varfm
from varfm.encoding.onehot import onehot
from varfm.errors import DeviceError, OptionError
from varfm.plan import Precision, make_plan
from varfm.precision import BOUND, Effect, in_bfloat16, relative_error, widened
from varfm.protocols import Asked, Change, Model
from varfm.runner import Runner

NAN, INF = torch.tensor([torch.nan]), torch.tensor([torch.inf])


def started(model: Model, precision: Precision, **choices: Any) -> Runner:
    runner = Runner(model, make_plan([model], device="cpu", threads=1, precision=precision, **choices))
    runner.probe()
    return runner


def changes_of(name: str) -> list[Change]:
    return [one for one in questions(CONFIGS[name].length, 5) if isinstance(one, Change) and one.row != one.base]


def differences(runner: Runner, changes: list[Change]) -> list[Tensor]:
    pairs = [runner.compared(change.base, change.row) for change in changes]
    found = runner.outputs([one for pair in pairs for one in pair])
    return [found[alternate] - found[reference] for reference, alternate in pairs]


@pytest.mark.parametrize("name", NAMES)
def test_mixed_differences_are_near_those_of_float32_and_nearer_than_those_of_bfloat16(name: str) -> None:
    model, changes = small_model(name), changes_of(name)
    exact = differences(started(model, "float32"), changes)
    runner = started(model, "mixed")
    errors = []
    for found in (differences(runner, changes), differences(started(model, "bfloat16"), changes)):
        assert {one.dtype for one in found} == {torch.float32}
        errors.append(relative_error(map(Effect, found, exact)))
    assert errors[0] is not None and errors[1] is not None and runner.precision_error is not None
    assert 0 < errors[0] < min(0.05, errors[1] / 2)
    assert 0 < runner.precision_error <= BOUND


@pytest.mark.gpu
def test_mixed_differences_are_near_those_of_float32_on_a_gpu() -> None:
    for name in NAMES:
        model = small_model(name)
        found, exact = (
            differences(Runner(model, make_plan([model], device="cuda", precision=kind)), changes_of(name))
            for kind in ("mixed", "float32")
        )
        error = relative_error(map(Effect, found, exact))
        assert error is not None and error < BOUND


@pytest.mark.parametrize("precision", ["mixed", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_an_output_in_half_precision_depends_on_what_is_asked_alone(name: str, precision: Precision) -> None:
    model = small_model(name)
    first = started(model, precision, batch_size=4)
    asked: list[Asked] = [one for change in changes_of(name) for one in first.compared(change.base, change.row)]
    expected = first.outputs(asked)
    for parts in ([asked[::-1]], [asked[7:], asked[:7]], [asked[-3:-1], asked[:1], asked]):
        again = started(model, precision, batch_size=4)
        for part in parts:
            found = again.outputs(part)
            assert all(torch.equal(found[one], expected[one]) for one in part)


def test_alleles_score_the_same_in_mixed_precision_in_whatever_company() -> None:
    subject = Subject("basset", partial(small_model, "basset"), 3 * CONFIGS["basset"].length)
    bases = a_genome(subject.n_bases)
    records: list[RecordText] = [("c", 150, bases[149], other) for other in "ACGT" if other != bases[149]]
    records += [record for record in some_records(subject, bases, 5) if record[3] != "."]
    together = run_toy(small_model("basset"), bases, records, precision="mixed")
    alone = [run_toy(small_model("basset"), bases, [record], precision="mixed") for record in records]
    assert [toy.scores for toy in together] == [toy.scores for found in alone for toy in found]
    assert together != run_toy(small_model("basset"), bases, records)


def test_alleles_of_one_place_share_the_reference_that_is_computed_for_it() -> None:
    runner = started(model_of(Small()), "mixed")
    base = window(1)
    pairs = [runner.compared(base, substituted(base, place, n).row) for place, n in ((34, 1), (35, 1), (34, 2))]
    assert len({reference for reference, _ in pairs}) == 1
    assert len({alternate for _, alternate in pairs}) == 3
    n_before = runner.n_computed
    runner.outputs([one for pair in pairs for one in pair])
    assert runner.n_computed - n_before == 4


def test_rows_that_do_not_differ_get_one_answer() -> None:
    runner = started(model_of(Small()), "mixed")
    reference, alternate = runner.compared(window(2), window(2))
    found = runner.outputs([reference, alternate])
    assert torch.equal(found[reference], found[alternate])
    assert runner.precision_error is None


def test_float32_asks_for_the_reference_as_it_stands() -> None:
    runner = started(model_of(Small()), "float32")
    change = substituted(window(3), 30)
    assert runner.compared(change.base, change.row) == (change.base, change)
    assert runner.outputs([change])[change].dtype == torch.float32


class Touchy(Small):
    """A sine that turns many times with what is rounded, so that no difference survives it."""

    def forward(self, batch: Tensor) -> Tensor:
        return torch.sin(1000 * self.conv(onehot(batch, dtype=self.conv.weight.dtype)).sum(2))


def test_a_network_whose_differences_are_off_is_stopped_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = started(model_of(Touchy()), "mixed")
    asked = runner.compared(*substituted(window(4), 30)[:2])
    with pytest.raises(DeviceError, match=r"small: with --precision mixed.* at most 10% is allowed") as caught:
        runner.outputs(asked)
    assert (caught.value.exit_status, "Use --precision float32." in str(caught.value)) == (5, True)
    monkeypatch.setattr(runner_module, "check", lambda model, error: None)
    runner.outputs(asked)
    assert runner.precision_error is not None and runner.precision_error > BOUND


def test_what_is_measured_changes_no_score(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    changes = changes_of("deepsea")
    with caplog.at_level(logging.WARNING):
        measured = differences(started(small_model("deepsea"), "mixed"), changes)
    said = [record.getMessage() for record in caplog.records if "mixed precision" in record.getMessage()]
    assert len(said) == 1 and "relative rms over 16 changed windows, against float32" in said[0]
    monkeypatch.setattr(Runner, "_measure", lambda *_: None)
    plain = differences(started(small_model("deepsea"), "mixed"), changes)
    assert all(map(torch.equal, measured, plain))


def test_memory_that_is_too_small_for_a_whole_window_in_float32_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Small()
    runner = started(model_of(network), "mixed")
    network.room = 0  # the copy in bfloat16 has room
    with pytest.raises(DeviceError, match="too little free memory for one sequence"):
        runner._whole(window(5))


def test_an_error_is_relative_to_the_size_of_the_differences() -> None:
    one, two, three = (torch.tensor([value]) for value in (1.0, 2.0, 3.0))
    assert relative_error([Effect(two, one)]) == 1.0
    assert relative_error([Effect(one, two), Effect(one, one)]) == pytest.approx((1 / 5) ** 0.5)
    assert relative_error([Effect(three, three)]) == 0.0


def test_an_error_is_unknown_where_float32_sees_nothing_and_infinite_where_it_alone_answers() -> None:
    zero, one = torch.zeros(1), torch.ones(1)
    assert relative_error([]) is relative_error([Effect(one, zero)]) is relative_error([Effect(one, NAN)]) is None
    assert relative_error([Effect(NAN, one)]) == relative_error([Effect(INF, one), Effect(one, one)]) == torch.inf
    for error in (torch.inf, torch.nan, 0.11):
        with pytest.raises(DeviceError):
            precision_module.check("small", error)


def test_a_network_in_bfloat16_is_a_copy_that_keeps_whole_numbers() -> None:
    network = nn.Sequential(nn.Conv1d(4, 3, 3), nn.BatchNorm1d(3)).requires_grad_(False).eval()
    halved = in_bfloat16(network)
    kinds = {key: value.dtype for key, value in halved.state_dict().items()}
    assert kinds.pop("1.num_batches_tracked") == torch.int64
    assert set(kinds.values()) == {torch.bfloat16}
    assert {value.dtype for value in network.parameters()} == {torch.float32}
    assert isinstance(halved[0].weight, nn.Parameter) and not halved[0].weight.requires_grad
    answer = halved(torch.ones(1, 4, 9, dtype=torch.bfloat16))
    assert widened(answer).dtype == torch.float32
    assert torch.allclose(widened(answer), network(torch.ones(1, 4, 9)), atol=0.05)


@pytest.mark.parametrize("name", LANGUAGES)
def test_language_models_run_in_bfloat16_and_give_numbers_near_those_of_float32(name: str) -> None:
    model = small_language(name)
    bases = a_genome(3 * LANGUAGES[name].window)
    place = len(bases) // 2
    records: list[RecordText] = [("c", place + 1, bases[place], other) for other in "ACGT" if other != bases[place]]
    ours, exact = (run_toy(model, bases, records, precision=kind) for kind in ("bfloat16", "float32"))
    assert [toy.status for toy in ours] == [toy.status for toy in exact] == ["OK"] * 3
    pairs = [pair for a, b in zip(ours, exact, strict=True) for pair in zip(a.scores, b.scores, strict=True)]
    assert all((a == a) == (b == b) for a, b in pairs)
    known = [(a, b) for a, b in pairs if a == a]
    assert any(a != b for a, b in known)
    assert max(abs(a - b) for a, b in known) <= 0.1 * max(abs(b) for _, b in known)


def test_models_that_compute_windows_whole_refuse_mixed_precision_alone() -> None:
    models = [model_of(Small()), point_model(), binned_model()]
    with pytest.raises(OptionError, match=r"--precision mixed: toy-point, toy-binned computes.* --precision float32"):
        make_plan(models, device="cpu", precision="mixed")
    with pytest.raises(OptionError, match="--precision mixed and --exact-full exclude each other"):
        make_plan(models[:1], device="cpu", precision="mixed", exact_full=True)
    assert make_plan(models, device="cpu", precision="bfloat16").precision == "bfloat16"
    with pytest.raises(OptionError, match="--precision half: give float32, mixed, bfloat16"):
        make_plan(models, device="cpu", precision="half")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small DeepSEA, a genome and a VCF of SNVs."""
    folder = tmp_path_factory.mktemp("precision")
    bases = a_genome(900)
    records = [("c", at, bases[at - 1], "A" if bases[at - 1] != "A" else "C") for at in range(300, 600, 25)]
    (folder / "in.vcf").write_text(vcf_text(records))
    write_fasta(folder, {"c": bases})
    weights = folder / "weights"
    weights.mkdir()
    small_folder("deepsea", weights)
    return folder


def score(example: Path, output: Path, *more: str) -> int:
    given = ["-f", str(example / "toy.fa"), "-m", "deepsea", "--weights", str(example / "weights"), "--threads", "1"]
    return varfm(["score", str(example / "in.vcf"), *given, "-o", str(output), "--quiet", *more])


def header(output: Path) -> list[str]:
    return [line for line in output.read_text().splitlines() if line.startswith("#")]


def manifest(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"{output}.varfm.json").read_text())
    return found


def test_header_and_manifest_name_a_precision_that_is_not_the_usual_one(
    example: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    outputs = {kind: tmp_path / f"{kind}.vcf" for kind in ("plain", "float32", "mixed", "bfloat16")}
    said = {}
    for kind, output in outputs.items():
        assert score(example, output, *(["--precision", kind] if kind != "plain" else [])) == 0
        said[kind] = capfd.readouterr().err
    assert outputs["plain"].read_bytes() == outputs["float32"].read_bytes()
    assert not any("precision" in line for line in header(outputs["plain"]))
    assert "mixed" not in said["plain"] and "bfloat16" not in said["plain"]
    for kind in ("mixed", "bfloat16"):
        added = [line for line in header(outputs[kind]) if line not in header(outputs["plain"])]
        assert added == [f'##varfm_option=<ID=precision,Value="{kind}">']
        assert manifest(outputs[kind])["plan"]["precision"] == kind
        assert outputs[kind].read_text() != outputs["plain"].read_text()
    assert "varfm: warning: --precision bfloat16 leaves two to three digits" in said["bfloat16"]
    assert "deepsea: differences between alleles in mixed precision are off by" in said["mixed"]
    assert 0 < manifest(outputs["mixed"])["plan"]["precision_error"]["deepsea"] < BOUND
    assert all("precision_error" not in manifest(outputs[kind])["plan"] for kind in ("plain", "bfloat16"))


def test_an_error_beyond_the_bound_ends_the_command_with_5_and_leaves_no_output(
    example: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision_module, "BOUND", 1e-6)
    assert score(example, tmp_path / "out.vcf", "--precision", "mixed") == 5
    said = capfd.readouterr().err
    assert "Use --precision float32." in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


def test_mini_refuses_mixed_precision_as_wrong_usage(
    example: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", str(example / "in.vcf"), "-f", str(example / "toy.fa"), "-o", str(tmp_path / "out.vcf")]
    assert varfm([*arguments, "--precision", "mixed"]) == 2
    assert "mini computes every window whole" in capfd.readouterr().err
    assert varfm([*arguments, "--precision", "half"]) == 2


def test_shards_in_mixed_precision_are_the_whole_run_and_merge_only_with_their_like(
    example: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    parts = [tmp_path / f"{number}.vcf" for number in (1, 2)]
    for number, part in enumerate(parts, 1):
        assert score(example, part, "--precision", "mixed", "--shard", f"{number}/2") == 0
    assert score(example, tmp_path / "whole.vcf", "--precision", "mixed") == 0
    assert varfm(["merge", *map(str, parts), "-o", str(tmp_path / "merged.vcf")]) == 0
    assert (tmp_path / "merged.vcf").read_bytes() == (tmp_path / "whole.vcf").read_bytes()
    errors = [manifest(part)["plan"]["precision_error"]["deepsea"] for part in parts]
    assert errors[0] != errors[1]  # they begin with other records
    assert manifest(tmp_path / "merged.vcf")["plan"]["precision_error"] == {"deepsea": max(errors)}
    assert score(example, parts[1], "--shard", "2/2", "--force") == 0
    capfd.readouterr()
    assert varfm(["merge", *map(str, parts), "-o", str(tmp_path / "no.vcf")]) == 3
    assert "precision is float32, not mixed" in capfd.readouterr().err


def test_a_resumed_run_keeps_its_precision_and_what_was_measured(
    example: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.vcf"
    for _ in range(2):
        assert score(example, output, "--precision", "mixed", "--resume") == 0
        assert 0 < manifest(output)["plan"]["precision_error"]["deepsea"] < BOUND
    capfd.readouterr()
    assert score(example, output, "--resume") == 2
    assert "precision was mixed, now float32" in capfd.readouterr().err


def test_sequence_classes_and_mutagenesis_take_mixed_precision(example: Path, tmp_path: Path) -> None:
    small_folder("sei", tmp_path)
    common = ["-f", str(example / "toy.fa"), "--weights", str(tmp_path), "--threads", "1", "--quiet"]
    common += ["--precision", "mixed"]
    assert varfm(["classes", str(example / "in.vcf"), *common, "-o", str(tmp_path / "classes.tsv")]) == 0
    assert manifest(tmp_path / "classes.tsv")["plan"]["precision"] == "mixed"
    assert varfm(["ism", "c:400-403", *common, "-m", "sei", "-o", str(tmp_path / "ism.tsv")]) == 0
    assert manifest(tmp_path / "ism.tsv")["plan"]["precision_error"]["sei"] < BOUND
