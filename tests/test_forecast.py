"""Tests of varfm.forecast and `varfm doctor --plan`: counts are exact, times are not judged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from varfm.cli.main import run
from varfm.errors import OptionError
from varfm.forecast import Forecast, forecast
from varfm.session import Session, SessionOptions

EXAMPLE = Path(__file__).resolve().parents[1] / "example_data"
VCF, FASTA = str(EXAMPLE / "ntng1.vcf"), str(EXAMPLE / "ntng1.fa.gz")
HEAD = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VARFM_TESTING", "1")


def of(vcf: str, model: str = "null", fasta: str = FASTA, seconds: float = 60.0) -> Forecast:
    with Session(SessionOptions(vcf, fasta, (model,), device="cpu", threads=1, max_ref_mismatch=100.0)) as session:
        return forecast(session, seconds)


def test_records_and_alleles_are_counted_and_all_but_the_first_record_are_measured() -> None:
    found = of(VCF)
    assert (found.n_records, found.n_alleles, found.n_measured) == (73, 80, 79)
    assert found.alleles_per_second > 0 and found.memory > 10_000_000
    assert (found.n_windows, found.device_memory, found.device) == (0, None, "cpu")


def test_windows_are_those_that_the_network_reads(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_text(">1\n" + "ACGTTGCA" * 50 + "\n")
    rows = [f"1\t{8 * n + 1}\t.\tA\t{alt}\t.\t.\t.\n" for n, alt in enumerate(["C", "C", "G,T"], 20)]
    (tmp_path / "in.vcf").write_text(HEAD + "".join(rows))
    found = of(str(tmp_path / "in.vcf"), "mini", str(tmp_path / "g.fa"))
    # The reference repeats, so that its window is known from the first record; mini reads both strands.
    assert (found.n_alleles, found.n_measured) == (4, 3)
    assert found.n_windows == round(2 * 2 / 3 * 4)


def test_measuring_stops_when_its_time_is_over() -> None:
    assert of(VCF, seconds=0.0).n_measured == 1


def test_input_without_records_takes_no_time(tmp_path: Path) -> None:
    (tmp_path / "in.vcf").write_text(HEAD)
    found = of(str(tmp_path / "in.vcf"))
    assert (found.n_records, found.n_alleles, found.seconds, found.n_shards) == (0, 0, 0.0, 1)
    assert found.alleles_per_second == 0.0


@pytest.mark.parametrize(("n_alleles", "n_shards"), [(1, 1), (18_000, 1), (18_001, 2), (1_000_000, 56)])
def test_shards_take_half_an_hour_at_most(n_alleles: int, n_shards: int) -> None:
    known = Forecast(1, 1, 1, 10.0, 1, 1, None, "cpu")
    assert replace(known, n_alleles=n_alleles).n_shards == n_shards


def test_stream_is_refused(tmp_path: Path) -> None:
    with Session(SessionOptions(VCF, FASTA, ("null",))) as session:
        session.options = replace(session.options, vcf="-")
        with pytest.raises(OptionError, match="is no file that can be read twice"):
            forecast(session)


def test_command_prints_a_line_for_each(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--plan", VCF, "-f", FASTA, "-m", "null"]) == 0
    lines = dict(line.split("\t") for line in capfd.readouterr().out.splitlines())
    assert list(lines) == ["input", "records", "alleles", "windows", "memory", "speed", "time", "shards"]
    assert (lines["records"], lines["alleles"]) == ("73", "80")
    assert lines["shards"] == "1 of at most half an hour each (--shard I/1)"


def test_command_with_a_model_that_is_not_there_ends_as_score_does(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--plan", VCF, "-f", FASTA, "-m", "enformer", "--offline"]) == 4
    assert "varfm models download enformer" in capfd.readouterr().err


@pytest.mark.parametrize("option", [["-m", "mini"], ["--fasta", str(FASTA)], ["--offline"]], ids=" ".join)
def test_options_of_a_plan_without_one_are_refused(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", *option]) == 2
    shown = capsys.readouterr()
    assert "needs a run to plan: varfm doctor --plan VCF" in shown.err and shown.out == ""


def test_settings_of_a_plan_do_not_disturb_the_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARFM_MODEL", "mini")
    assert run(["doctor"]) in (0, 5)
