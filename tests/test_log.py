"""Tests of varfm.cli.log through the command: what programs can read on stderr."""

from __future__ import annotations

import json
import logging
import shlex
from pathlib import Path

import pytest

from varfm.cli import progress
from varfm.cli.log import StderrLog, start_log, stderr_log
from varfm.cli.main import run

HEAD = "##fileformat=VCFv4.3\n##contig=<ID=chr1,length=8>\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VARFM_TESTING", "1")
    (tmp_path / "in.vcf").write_text(f"{HEAD}1\t1\t.\tA\tC,<DEL>\t.\t.\t.\n")
    (tmp_path / "ref.fa").write_text(">1\nACGTACGTA\n")
    return ["score", str(tmp_path / "in.vcf"), "-f", str(tmp_path / "ref.fa"), "-m", "null", "-o", "-"]


def test_json_has_one_object_per_event(call: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*call, "--log-format", "json"]) == 0
    [note, summary] = map(json.loads, capfd.readouterr().err.splitlines())
    assert (note["level"], note["event"]) == ("info", "note") and "length conflict: chr1" in note["message"]
    assert summary["event"] == "summary" and summary["time"].endswith("+00:00")
    numbers = {name: summary[name] for name in ("records", "alleles", "scored", "OK", "SYMBOLIC", "model", "device")}
    expected = {"records": 1, "alleles": 2, "scored": 1, "OK": 1, "SYMBOLIC": 1, "model": "null", "device": "cpu"}
    assert numbers == expected


def test_key_value_pairs_are_quoted_where_needed(call: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*call, "--log-format", "key-value"]) == 0
    [note, summary] = map(shlex.split, capfd.readouterr().err.splitlines())
    assert [word.partition("=")[0] for word in note] == ["time", "level", "event", "message"]
    assert {"event=summary", "alleles=2", "scored=1", "SYMBOLIC=1", "model=null"} <= set(summary)


@pytest.mark.parametrize("way", ["option", "environment"])
def test_errors_and_warnings_have_the_format_too(
    call: list[str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "environment":
        monkeypatch.setenv("VARFM_LOG_FORMAT", "json")
    options = ["--log-format", "json"] if way == "option" else []
    assert run([*call[:-2], "--regions", "\x1b[31m", *options]) == 2
    [error] = map(json.loads, capfd.readouterr().err.splitlines())
    assert (error["level"], error["event"], error["status"]) == ("error", "error", 2)
    assert error["message"].startswith("--regions '\\x1b[31m'")
    logging.getLogger("varfm.x").warning("a\x1b[31m b")
    line = capfd.readouterr().err
    assert "\x1b" not in line and json.loads(line)["message"] == "a\x1b[31m b"


def test_wrong_values_of_options_are_events(call: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*call, "--batch-size", "few", "--log-format", "json"]) == 2
    [error] = map(json.loads, capfd.readouterr().err.splitlines())
    assert (error["level"], error["event"], error["status"]) == ("error", "error", 2)
    assert "--batch-size" in error["message"] and "few" in error["message"]


def test_one_is_not_a_plural(tmp_path: Path, call: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.vcf").write_text(f"{HEAD}1\t1\t.\tA\tC\t.\t.\t.\n")
    out = str(tmp_path / "s.vcf")
    assert run([*call[:-1], out, "--shard", "1/1"]) == 0
    assert capfd.readouterr().err.splitlines()[-1].startswith("1 allele: 1 scored.")
    assert run(["merge", out, "-o", str(tmp_path / "out.vcf")]) == 0
    assert capfd.readouterr().err == "1 shard: 1 record, 1 allele.\n"


def test_text_is_the_default_again_in_the_next_run(call: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    run([*call, "--log-format", "json"])
    capfd.readouterr()
    run(call)
    assert capfd.readouterr().err.splitlines()[-1].startswith("2 alleles: 1 scored, 1 not (1 SYMBOLIC).")
    assert sum(isinstance(handler, StderrLog) for handler in logging.getLogger("varfm").handlers) == 1


@pytest.mark.parametrize(("style", "start"), [("text", "progress alleles=3 "), ("key-value", "time=")])
def test_progress_is_an_event(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, style: str, start: str
) -> None:
    start_log()
    stderr_log().style = style
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.0)
    with progress.Progress() as bar:
        bar.advance(3, None)
    line = capfd.readouterr().err
    assert line.startswith(start) and " alleles=3 " in line
    start_log()


def test_quiet_leaves_errors_only(call: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*call, "--log-format", "json", "--quiet"]) == 0
    assert capfd.readouterr().err == ""


def test_every_line_of_ism_is_an_event(call: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ["ism", "1:2-4", "-f", str(tmp_path / "ref.fa"), "--one-window", "-m", "mini", "--log-format", "json"]
    assert run([*words, "--svg", str(tmp_path / "out.svg"), "-o", str(tmp_path / "out.tsv")]) == 0
    note, *_, summary = map(json.loads, capfd.readouterr().err.splitlines())
    assert note["event"] == "note" and note["message"].startswith("picture: ")
    assert (summary["event"], summary["alleles"]) == ("summary", 9)


def test_doctor_takes_the_format_of_its_errors_without_a_plan(
    call: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["doctor", "--log-format", "json"]) in (0, 5)
    assert capfd.readouterr().err == ""
    assert run(["doctor", "--plan", f"{call[1]}x", *call[2:6], "--log-format", "json"]) == 3
    assert json.loads(capfd.readouterr().err)["status"] == 3
