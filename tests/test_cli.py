"""Tests of the command line as a whole: help, settings and their order, exit statuses, the last line on stderr."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from varfm import __version__
from varfm.cli.main import COMMANDS, main, run
from varfm.manifest import software_versions

EXAMPLE = Path(__file__).parents[1] / "example_data"
VCF = EXAMPLE / "ntng1.vcf"
FASTA = EXAMPLE / "ntng1.fa.gz"

HEAVY = ("torch", "pandas", "transformers", "pyarrow", "h5py", "numpy", "pysam", "cyvcf2", "varfm.session")


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the path of the settings file, which is empty at first."""
    for name in [name for name in os.environ if name.startswith("VARFM_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "config.toml"
    path.write_text("")
    monkeypatch.setenv("VARFM_CONFIG", str(path))
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VARFM_TESTING", "1")
    monkeypatch.setenv("VARFM_THREADS", "1")
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> list[str]:
    """Arguments that score three alleles, two of them scorable, with the `null` model."""
    fasta, vcf = tmp_path / "tiny.fa", tmp_path / "tiny.vcf"
    fasta.write_text(">chr1\nACGTACGTAC\n")
    rows = "chr1\t1\t.\tA\tC,<DEL>\t.\t.\t.\nchr1\t2\t.\tC\tG\t.\t.\t.\n"
    vcf.write_text(f"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n{rows}")
    return ["score", str(vcf), "-f", str(fasta), "-m", "null"]


def last_line(capfd: pytest.CaptureFixture[str]) -> str:
    return capfd.readouterr().err.splitlines()[-1]


# Help.


@pytest.mark.parametrize("command", list(COMMANDS))
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help_under_both_names(command: str, option: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([command, option]) == 0
    shown = capfd.readouterr()
    assert f"varfm {command}" in shown.out
    assert shown.err == ""


def test_help_of_the_program_lists_every_command_with_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["-h"]) == 0
    shown = capfd.readouterr().out
    for name, (_, line) in COMMANDS.items():
        assert name in shown and line in shown
        assert len(line) <= 70


def test_versions_as_yaml_are_those_of_the_manifest(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--versions", "yaml"]) == 0
    head, *lines = capfd.readouterr().out.splitlines()
    assert head == "varfm:"
    assert lines == [f"    {name}: '{version}'" for name, version in software_versions(__version__).items()]


def test_version_is_the_package_s(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capfd.readouterr().out == f"varfm {__version__}\n"


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["score", "--nonsense"]])
def test_help_loads_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys; from varfm.cli.main import run; "
        f"run({args!r}); print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    heavy = HEAVY if args[0] != "score" else HEAVY[:4]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stderr.splitlines()[-1]
    assert [name for name in heavy if f"'{name}'" in loaded] == []


# Usage errors.


@pytest.mark.parametrize(
    "args", [["scroe"], ["--nonsense"], ["score"], ["score", "a.vcf", "--nonsense"], ["models", "x"]]
)
def test_unknown_command_or_option_is_status_2(args: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(args) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("command", ["ism", "embed", "finetune"])
@pytest.mark.parametrize("second", [["-m", "mini"], ["--model=mini"]], ids=" ".join)
def test_a_second_model_is_refused_where_one_is_run(
    command: str, second: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "x", "-m", "null", *second, "-o", "x.npz"]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert f"--model is given twice, and {command} takes one. Run them one at a time." in said


def test_escaping_without_a_table_is_refused_where_it_was_typed(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = ["-o", str(tmp_path / "out.vcf")]
    assert run([*tiny, *out, "--escape-formulas"]) == 2
    assert run(["classes", *tiny[1:4], *out, "--escape-formulas"]) == 2
    assert capfd.readouterr().err.count("--escape-formulas acts on tables.") == 2
    assert run([*tiny, *out, "--escape-formulas", "--table", str(tmp_path / "out.tsv")]) == 0
    monkeypatch.setenv("VARFM_ESCAPE_FORMULAS", "1")
    assert run([*tiny, *out, "--force"]) == 0


def test_misspelt_option_is_named_with_the_right_one(tiny: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*tiny, "--ouput", "x.vcf"]) == 2
    assert "--output" in capfd.readouterr().err


# Settings: command line, VARFM_*, settings file, default.


def regions_used(capfd: pytest.CaptureFixture[str]) -> int:
    return int(last_line(capfd).split()[0])


def test_command_line_goes_before_environment_before_settings_before_default(
    tiny: list[str], settings: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(tiny) == 0
    assert last_line(capfd).startswith("3 alleles")
    settings.write_text('[score]\nregions = "chr1:1"\n')
    assert run(tiny) == 0
    assert last_line(capfd).startswith("2 alleles")
    monkeypatch.setenv("VARFM_REGIONS", "chr1:2")
    assert run(tiny) == 0
    assert last_line(capfd).startswith("1 allele:")
    assert run([*tiny, "--regions", "chr1:1-2"]) == 0
    assert last_line(capfd).startswith("3 alleles")


def test_reference_and_model_may_stand_in_the_settings(
    tiny: list[str], settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings.write_text(f'[score]\nfasta = "{tiny[3]}"\nmodel = ["null"]\nmax-ref-mismatch = 5\nstrict = true\n')
    assert run(tiny[:2]) == 1
    assert "3 alleles: 2 scored" in last_line(capfd)


def test_one_model_needs_no_brackets_in_the_settings(
    tiny: list[str], settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings.write_text('[score]\nmodel = "null"\n')
    assert run(tiny[:4]) == 0
    assert "3 alleles: 2 scored" in last_line(capfd)


def test_several_models_may_stand_in_the_environment(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VARFM_MODEL", "null nul")
    assert run(tiny[:4]) == 4
    assert "'nul'" in last_line(capfd)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[score]\nfsata = "x"\n', ["[score] fsata", "varfm score --help"]),
        ('[scroe]\nfasta = "x"\n', ["scroe"]),
        ('fasta = "x"\n', ["fasta", "[score]"]),
        ("[score\n", ["TOML"]),
        ("[score]\nbatch-size = 0\n", ["0"]),
        ('[score]\nbatch-size = "many"\n', ["many"]),
    ],
)
def test_settings_that_cannot_be_served_are_a_usage_error(
    tiny: list[str], settings: Path, text: str, words: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    settings.write_text(text)
    assert run(tiny) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert [word for word in words if word not in shown.err] == [], shown.err


def test_settings_that_are_no_text_or_not_there_are_a_usage_error(
    tiny: list[str], settings: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    settings.write_bytes(b"\xff\xfe\0")
    assert run(tiny) == 2
    assert "config.toml" in last_line(capfd)
    monkeypatch.setenv("VARFM_CONFIG", str(settings.parent / "typo.toml"))
    assert run(tiny) == 2
    assert "typo.toml" in last_line(capfd)


def test_no_settings_file_in_the_usual_place_is_no_error(
    tiny: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VARFM_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "nobody" / ".config"))
    assert run(tiny) == 0


# The last line.


def test_last_line_counts_alleles_and_reasons(tiny: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*tiny, "--device", "cpu"]) == 0
    line = last_line(capfd)
    assert re.fullmatch(r"3 alleles: 2 scored, 1 not \(1 SYMBOLIC\)\. \d+ s, [\d,]+ alleles/s on cpu\.", line), line


def test_quiet_says_nothing_but_errors(tiny: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*tiny, "--quiet"]) == 0
    assert capfd.readouterr().err == ""
    assert run([*tiny, "--quiet", "-m", "nul"]) == 4
    assert "There is no model" in capfd.readouterr().err


def test_strict_is_status_1_only_where_something_was_not_scored(tiny: list[str]) -> None:
    assert run([*tiny, "--strict"]) == 1
    assert run([*tiny, "--strict", "--regions", "chr1:2"]) == 0


def test_example_of_the_help_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["score", str(VCF), "-f", str(FASTA), "-o", str(tmp_path / "out.vcf"), "--device", "cpu"]) == 0
    records = [line for line in (tmp_path / "out.vcf").read_text().splitlines() if not line.startswith("#")]
    assert len(records) == sum(not line.startswith("#") for line in VCF.read_text().splitlines())
    assert all("VARFM_STATUS=" in record for record in records)
    assert " scored, " in last_line(capfd)


# Faults of varfm itself.


def test_unexpected_failure_is_one_line_and_status_70(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("boom \x1b[31m")

    monkeypatch.setattr("varfm.session.judge_assembly", fail)
    assert run(tiny) == 70
    shown = capfd.readouterr().err
    assert shown.count("\n") == 1
    assert "internal error: RuntimeError: boom \\x1b[31m" in shown and "VARFM_DEBUG=1" in shown
    monkeypatch.setenv("VARFM_DEBUG", "1")
    assert run(tiny) == 70
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize(("error", "status"), [(MemoryError(), 5), (KeyboardInterrupt(), 130)])
def test_memory_and_ctrl_c_have_statuses_of_their_own(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int
) -> None:
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr("varfm.session.judge_assembly", fail)
    assert run(tiny) == status


def test_python_dash_m_ends_with_the_status_of_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "varfm", "score", "no.vcf", "-f", "no.fa"], capture_output=True)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.startswith(b"varfm: error: no.vcf: there is no such file.")


def test_genes_that_no_model_reads_are_told_of(
    tiny: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    genes = tmp_path / "genes.bed"
    genes.write_text("chr1\t2\t5\tA\t0\t+\n")
    assert run([*tiny, "--genes", str(genes), "-o", str(tmp_path / "out.vcf")]) == 0
    assert "--genes is not read by null: scores of alleles, not of genes" in capfd.readouterr().err.splitlines()


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_of_the_program_do_not_spin_unless_the_user_says_so(
    given: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setenv("OMP_WAIT_POLICY", given or "")
    if given is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    with pytest.raises(SystemExit):
        main(["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == expected
