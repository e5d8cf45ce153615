"""The Nextflow modules: a parser reads them, and what their blocks give runs in bash.

Nextflow itself is not needed: reftrace parses the modules, and Groovy, the language of their blocks, evaluates them.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from golden import differences
from tools import require_tool

from varfm import __version__

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
MODULES = ROOT / "nextflow" / "modules" / "local" / "varfm"
NAMES = ["merge", "score"]
EXPECTED = (ROOT / "example_data" / "ntng1.expected.vcf").read_text()
TASK = {"cpus": 1, "process": "VARFM", "ext": {"args": "--offline"}, "accelerator": None}
SHARDS = "ntng1.scored.1-2.vcf.gz ntng1.scored.2-2.vcf.gz"


def request(module: str, block: str, **values: object) -> dict[str, Any]:
    """Ask for a block with the values of the example, some of them replaced."""
    usual = {"meta": {"id": "ntng1"}, "vcf": "input.vcf", "fasta": "ref.fa.gz", "genes": []}
    usual |= {"task": TASK, "shards": SHARDS}
    return {"file": str(MODULES / module / "main.nf"), "block": block, "values": usual | values}


REQUESTS = {
    "score": request("score", "script"),
    "first": request("score", "script", meta={"id": "ntng1", "shard": "1/2"}),
    "second": request("score", "script", meta={"id": "ntng1", "shard": "2/2"}),
    "merge": request("merge", "script", task=TASK | {"ext": {}}),
    "score stub": request("score", "stub", meta={"id": "ntng1", "shard": "1/2"}),
    "merge stub": request("merge", "stub"),
    "other": request(
        "score",
        "script",
        genes="genes.gtf",
        task=TASK | {"cpus": 4, "accelerator": 1, "ext": {"args": "-m sei", "suffix": "bcf", "prefix": "all"}},
    ),
    "same": request("score", "script", vcf="a.vcf.gz", task=TASK | {"ext": {"prefix": "a"}}),
}


@pytest.fixture(scope="module")
def blocks() -> dict[str, dict[str, str]]:
    """Evaluate every block that the tests need, all in one start of Groovy."""
    groovy, java = require_tool("groovy"), require_tool("java")
    environment = os.environ | {"JAVA_HOME": str(Path(java).resolve().parents[1])}
    done = subprocess.run(
        [groovy, str(TESTS / "nextflow_blocks.groovy")],
        input=json.dumps(list(REQUESTS.values())),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(REQUESTS, json.loads(done.stdout), strict=True))


def bash(script: str, folder: Path) -> None:
    """Run a script as Nextflow does: in its folder, ending at the first error."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "VARFM_CACHE": str(folder / "cache")}
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Give a task's folder: links to inputs in a folder that cannot be written; the FASTA has no index."""
    store = tmp_path / "store"
    store.mkdir()
    folder = tmp_path / "work"
    folder.mkdir()
    for name, link in (("ntng1.vcf", "input.vcf"), ("ntng1.fa.gz", "ref.fa.gz")):
        shutil.copy(ROOT / "example_data" / name, store)
        (folder / link).symlink_to(store / name)
    store.chmod(0o555)
    return folder


def test_modules_have_the_shape_of_nf_core() -> None:
    command = [require_tool("reftrace"), "lint", "--rules", str(TESTS / "nextflow_rules.py"), "--directory"]
    done = subprocess.run([*command, str(MODULES)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout


def test_rules_find_a_module_of_another_shape(tmp_path: Path) -> None:
    module = tmp_path / "varfm" / "score"
    module.mkdir(parents=True)
    (module / "main.nf").write_text((MODULES / "score" / "main.nf").read_text().replace("process_medium", "big"))
    command = [require_tool("reftrace"), "lint", "--rules", str(TESTS / "nextflow_rules.py"), "--directory"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "has the labels ['big']" in done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_description_names_every_channel_of_the_module(name: str) -> None:
    text = (MODULES / name / "main.nf").read_text()
    meta = yaml.safe_load((MODULES / name / "meta.yml").read_text())
    assert meta["name"] == f"varfm_{name}" and len(meta["keywords"]) >= 3
    declared = text[text.index("    input:\n") : text.index("    output:\n")]
    inputs = [re.findall(r"(?:val|path)\((\w+)\)", line) for line in declared.splitlines() if "tuple" in line]
    assert [[next(iter(element)) for element in channel] for channel in meta["input"]] == inputs
    assert list(meta["output"]) == re.findall(r"emit: (\w+)", text)
    for channel, elements in meta["output"].items():
        line = next(line for line in text.splitlines() if f"emit: {channel}" in line)
        for element in elements[0]:
            (key,) = element
            assert key in line, key


@pytest.mark.parametrize("name", NAMES)
def test_module_states_the_version_of_the_package(name: str) -> None:
    text = (MODULES / name / "main.nf").read_text()
    packages = yaml.safe_load((MODULES / name / "environment.yml").read_text())["dependencies"]
    assert packages == [f"bioconda::varfm={__version__}"]
    assert f'container "varfm:{__version__}"' in text


def test_script_scores_a_linked_fasta_that_has_no_index(blocks: dict[str, dict[str, str]], work: Path) -> None:
    bash(blocks["score"]["script"], work)
    assert blocks["score"]["prefix"] == "ntng1.scored"
    text = gzip.decompress((work / "ntng1.scored.vcf.gz").read_bytes()).decode()
    assert list(differences(EXPECTED, text)) == []
    assert json.loads((work / "ntng1.scored.vcf.gz.varfm.json").read_text())["counts"]["alleles"] == 80
    assert sorted(path.name for path in (work.parent / "store").iterdir()) == ["ntng1.fa.gz", "ntng1.vcf"]


@pytest.mark.slow
def test_scripts_score_and_join_pieces(blocks: dict[str, dict[str, str]], work: Path) -> None:
    for name in ("first", "second", "merge"):
        bash(blocks[name]["script"], work)
    assert [blocks["first"]["prefix"], blocks["second"]["prefix"]] == ["ntng1.scored.1-2", "ntng1.scored.2-2"]
    text = gzip.decompress((work / "ntng1.scored.vcf.gz").read_bytes()).decode()
    assert list(differences(EXPECTED, text)) == []


def test_stubs_leave_files_of_the_same_names(blocks: dict[str, dict[str, str]], tmp_path: Path) -> None:
    for name in ("score stub", "merge stub"):
        bash(blocks[name]["script"], tmp_path)
    names = [f"ntng1.scored{piece}.vcf.gz" for piece in (".1-2", "")]
    assert {path.name for path in tmp_path.iterdir()} == {*names, *(f"{name}.varfm.json" for name in names)}
    assert all(gzip.decompress((tmp_path / name).read_bytes()) == b"\n" for name in names)


def test_settings_of_the_task_reach_the_command(blocks: dict[str, dict[str, str]]) -> None:
    words = blocks["other"]["script"].replace("\\\n", " ").split()
    assert words == [
        "varfm", "score", "input.vcf", "--fasta", "ref.fa.gz", "--genes", "genes.gtf", "--device", "cuda",
        "--threads", "4", "--output", "all.bcf", "-m", "sei",
    ]  # fmt: skip


def test_output_never_takes_the_name_of_the_input(blocks: dict[str, dict[str, str]]) -> None:
    assert "both named a.vcf.gz" in blocks["same"]["error"]


def test_version_is_read_from_the_command(tmp_path: Path) -> None:
    text = (MODULES / "score" / "main.nf").read_text()
    command = re.search(r'eval\("(.*?)"\)', text)
    assert command
    bash(f"{command[1]} > version", tmp_path)
    assert (tmp_path / "version").read_text() == f"{__version__}\n"
