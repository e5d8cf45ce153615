"""The Snakemake workflow: used as a module, on this machine, it gives what one run over the whole file gives."""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from golden import differences
from tools import require_tool

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / "workflow"
EXPECTED = (ROOT / "example_data" / "ntng1.expected.vcf").read_text()
REASONS = {
    "BREAKEND": 2, "NON_ACGT": 2, "OUT_OF_CONTIG": 2, "SYMBOLIC": 2, "TOO_LONG": 2,
    "NO_ALT": 1, "NO_CONTIG": 1, "N_HEAVY": 1, "REF_MISMATCH": 1, "STAR": 1,
}  # fmt: skip

# A workflow that takes ours as a module.
PARENT = f"""
module varfm:
    snakefile: {str(WORKFLOW / "Snakefile")!r}
    config: config["scores"]

use rule * from varfm as varfm_*

rule all:
    default_target: True
    input: rules.varfm_all.input
"""

# A rule of its own that takes our wrapper, with all that it can be given.
OWN = f"""
rule table:
    input:
        vcf="in put.vcf",
        fasta="ntng1.fa.gz",
        genes="ntng1.gff3",
    output:
        scores="table.tsv",
        manifest="table.tsv.varfm.json",
    log: "table.log"
    params:
        models=["mini"],
        shard="2/3",
        extra="--offline --strands both",
    wrapper: "file://{WORKFLOW / "wrappers" / "varfm" / "score"}"
"""


def snakemake(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Snakemake in a folder, with the `varfm` of this Python first on PATH."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    # Its caches stay in the folder.
    environment = os.environ | {"PATH": path, "XDG_CACHE_HOME": str(folder / "cache")}
    command = [require_tool("snakemake"), "--cores", "2", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def example(folder: Path, **settings: object) -> Path:
    """Copy the example into a folder, under a name with a blank, and write a configuration that scores it."""
    vcf = folder / "in put.vcf"
    shutil.copy(ROOT / "example_data" / "ntng1.vcf", vcf)
    shutil.copy(ROOT / "example_data" / "ntng1.fa.gz", folder)
    config = {"vcfs": {"ntng1": vcf.name}, "fasta": "ntng1.fa.gz", "shards": 3} | settings
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def assert_as_of_one_run(folder: Path) -> None:
    """Check what the workflow left in a folder against the expected output of one run."""
    text = gzip.decompress((folder / "results" / "ntng1.vcf.gz").read_bytes()).decode()
    assert list(differences(EXPECTED, text)) == []
    assert json.loads((folder / "results" / "ntng1.vcf.gz.varfm.json").read_text())["counts"]["records"] == 73
    lines = [line.split("\t") for line in (folder / "results" / "skipped.tsv").read_text().splitlines()]
    assert lines[0] == ["file", "model", "alleles", "scored", "reason", "skipped"]
    assert {line[4]: int(line[5]) for line in lines[1:]} == REASONS
    assert {tuple(line[:4]) for line in lines[1:]} == {("ntng1", "mini", "80", "65")}


def test_pieces_are_joined_to_what_one_run_writes_and_do_not_stay(tmp_path: Path) -> None:
    config = json.loads(example(tmp_path, options="--offline").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"scores": config}))
    (tmp_path / "Snakefile").write_text(PARENT)
    done = snakemake(tmp_path, "--configfile", "config.json")
    assert done.returncode == 0, done.stdout
    assert_as_of_one_run(tmp_path)
    results = tmp_path / "results"
    names = {path.relative_to(results).as_posix() for path in results.rglob("*") if path.is_file()}
    assert names == {
        "ntng1.vcf.gz", "ntng1.vcf.gz.tbi", "ntng1.vcf.gz.varfm.json", "skipped.html", "skipped.tsv", "weights/mini",
        "logs/weights/mini.log", "logs/merge/ntng1.log", "logs/skipped.log",
        *(f"logs/score/ntng1/{shard}.log" for shard in (1, 2, 3)),
    }  # fmt: skip
    assert "3 shards: 73 records, 80 alleles." in (results / "logs" / "merge" / "ntng1.log").read_text()
    page = (results / "skipped.html").read_text()
    assert '<td class="n">80</td><td class="n">65</td><td class="n">15</td>' in page and "2 BREAKEND" in page


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shard": 3}, "'shard' was unexpected"),
        ({"models": ["mini", "null"], "format": "tsv"}, "'tsv' is not one of"),
        ({"options": "--offline --force"}, "--offline --force"),
        ({"vcfs": {"a/b": "x.vcf"}}, "'a/b' does not match"),
    ],
)
def test_wrong_configuration_is_refused_by_name(settings: dict[str, object], message: str, tmp_path: Path) -> None:
    config = example(tmp_path, **settings)
    done = snakemake(tmp_path, "--snakefile", str(WORKFLOW / "Snakefile"), "--configfile", str(config), "--dry-run")
    assert done.returncode != 0
    assert "Error validating config" in done.stdout and message in done.stdout


def test_example_configuration_names_every_key_with_its_default() -> None:
    schema = yaml.safe_load((WORKFLOW / "schemas" / "config.schema.yaml").read_text())
    config = yaml.safe_load((WORKFLOW / "config" / "config.yaml").read_text())
    assert config.keys() == schema["properties"].keys()
    for key, rule in schema["properties"].items():
        assert rule["description"].endswith(".")
        if key not in {"vcfs", "fasta", "shards"}:
            assert config[key] == rule["default"], key


@pytest.mark.slow
def test_snakemake_finds_nothing_to_say_against_the_workflow(tmp_path: Path) -> None:
    config = example(tmp_path, container="docker://varfm")
    done = snakemake(tmp_path, "--snakefile", str(WORKFLOW / "Snakefile"), "--configfile", str(config), "--lint")
    assert (done.returncode, "in a good condition" in done.stdout) == (0, True), done.stdout


@pytest.mark.slow
def test_threads_of_a_piece_do_not_depend_on_the_machine(tmp_path: Path) -> None:
    config = example(tmp_path, threads=4)
    words = ["--snakefile", str(WORKFLOW / "Snakefile"), "--configfile", str(config), "--dry-run", "--printshellcmds"]
    done = snakemake(tmp_path, *words)
    assert (done.returncode, done.stdout.count(" --threads 4 ")) == (0, 3), done.stdout


@pytest.mark.slow
def test_wrapper_runs_by_the_example_beside_it(tmp_path: Path) -> None:
    for name in ("ntng1.vcf", "ntng1.fa.gz"):
        shutil.copy(ROOT / "example_data" / name, tmp_path)
    snakefile = WORKFLOW / "wrappers" / "varfm" / "score" / "test" / "Snakefile"
    done = snakemake(tmp_path, "--snakefile", str(snakefile), "--wrapper-prefix", f"file://{WORKFLOW}/wrappers/")
    assert done.returncode == 0, done.stdout
    assert list(differences(EXPECTED, (tmp_path / "scored" / "ntng1.vcf").read_text())) == []


@pytest.mark.slow
def test_wrapper_hands_on_whatever_it_is_given(tmp_path: Path) -> None:
    example(tmp_path)
    shutil.copy(ROOT / "example_data" / "ntng1.gff3", tmp_path)
    (tmp_path / "Snakefile").write_text(OWN)
    done = snakemake(tmp_path)
    assert done.returncode == 0, done.stdout
    command = json.loads((tmp_path / "table.tsv.varfm.json").read_text())["command"]
    assert command == [
        "score", "in put.vcf", "-f", "ntng1.fa.gz", "-m", "mini", "--genes", "ntng1.gff3", "--shard", "2/3",
        "--offline", "--strands", "both", "--device", "cpu", "--threads", "1", "-o", "table.tsv",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def skipped() -> ModuleType:
    """Load the script that writes the account of skipped alleles."""
    spec = importlib.util.spec_from_file_location("skipped", WORKFLOW / "scripts" / "skipped.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def manifest(path: Path, alleles: int, **status: dict[str, int]) -> Path:
    path.write_text(json.dumps({"counts": {"records": 1, "alleles": alleles, "status": status}}))
    return path


def test_account_has_a_row_per_file_and_model_and_the_most_frequent_reason_first(
    skipped: ModuleType, tmp_path: Path
) -> None:
    first = manifest(tmp_path / "a", 7, mini={"OK": 1, "PADDED": 2, "STAR": 1, "NO_ALT": 3}, sei={"OK": 7})
    second = manifest(tmp_path / "b", 0, mini={})
    rows = list(skipped.rows(["a", "b"], [first, second]))
    assert skipped.table(rows).splitlines()[1:] == [
        "a\tmini\t7\t3\tNO_ALT\t3",
        "a\tmini\t7\t3\tSTAR\t1",
        "a\tsei\t7\t7\t.\t0",
        "b\tmini\t0\t0\t.\t0",
    ]


def test_account_that_does_not_add_up_is_refused(skipped: ModuleType, tmp_path: Path) -> None:
    wrong = manifest(tmp_path / "a", 7, mini={"OK": 6})
    with pytest.raises(SystemExit, match="mini accounts for 6 of 7 alleles"):
        list(skipped.rows(["a"], [wrong]))


def test_page_shows_no_markup_from_outside(skipped: ModuleType) -> None:
    row = skipped.Row("<b>", "mini", 1, 0, (("<script>", 1),))
    page = skipped.page([row])
    assert "<script>" not in page and "<b>" not in page and "&lt;script&gt;" in page
