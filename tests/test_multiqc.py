"""Tests of varfm.multiqc: the file's content, its name, and that it is there whole or not at all."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from varfm.account import Summary
from varfm.cli.main import run
from varfm.errors import OptionError
from varfm.multiqc import check_target, content, sample_of
from varfm.variants import Status

EXAMPLE = Path(__file__).resolve().parents[1] / "example_data"


def test_every_allele_stands_in_the_bar_of_its_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VARFM_TESTING", "1")
    target = tmp_path / "ntng1_mqc.json"
    command = ["score", f"{EXAMPLE}/ntng1.vcf", "-f", f"{EXAMPLE}/ntng1.fa.gz", "-m", "null", "-o", f"{tmp_path}/o.vcf"]
    assert run([*command, "--multiqc", str(target)]) == 0
    found = json.loads(target.read_bytes())
    assert (found["id"], found["plot_type"], list(found["data"])) == ("varfm_alleles", "bargraph", ["ntng1"])
    assert sum(found["data"]["ntng1"].values()) == 80 and found["data"]["ntng1"]["REF_MISMATCH"] == 1
    before = target.read_bytes()
    assert run([*command, "--multiqc", str(target)]) == 2
    (tmp_path / "o.vcf").unlink()
    assert run([*command, "--multiqc", str(target)]) == 2, "an existing report is not replaced"
    assert not (tmp_path / "o.vcf").exists() and target.read_bytes() == before
    assert run([*command, "--multiqc", str(target), "--force"]) == 0


def test_a_resumed_run_that_was_finished_writes_its_report_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VARFM_TESTING", "1")
    target = tmp_path / "ntng1_mqc.json"
    command = ["score", f"{EXAMPLE}/ntng1.vcf", "-f", f"{EXAMPLE}/ntng1.fa.gz", "-m", "null", "-o", f"{tmp_path}/o.vcf"]
    command += ["--resume", "--multiqc", str(target)]
    assert run(command) == 0
    before = target.read_bytes()
    assert run(command) == 0
    assert target.read_bytes() == before
    target.unlink()
    assert run(command) == 0
    assert target.read_bytes() == before


def test_several_models_have_a_bar_each() -> None:
    counts = {"a": Counter({Status.OK: 2}), "b": Counter({Status.OK: 1, Status.TOO_LONG: 1})}
    found = json.loads(content(Summary(1, 2, counts), "s"))
    assert found["data"] == {"s (a)": {"OK": 2}, "s (b)": {"TOO_LONG": 1, "OK": 1}}


@pytest.mark.parametrize(
    ("vcf", "sample"),
    [("-", "stdin"), ("a/b.vcf.gz", "b"), ("b.bcf", "b"), ("b.c.vcf", "b.c"), ("b", "b"), (".vcf", ".vcf")],
)
def test_sample_is_named_after_the_vcf(vcf: str, sample: str) -> None:
    assert sample_of(vcf) == sample


def test_name_that_multiqc_would_not_find_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"names that end with _mqc\.json"):
        check_target(tmp_path / "report.json", force=False)
