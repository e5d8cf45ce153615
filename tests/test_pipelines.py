"""docs/pipelines.md: every command of it is run here or in test_image.py, or the page says that none is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pipelines_page import PAGE, assert_expected, commands, lay_out, sections
from slurm import one_node_slurm
from tools import require_tool

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"

RUN_HERE = {"Snakemake", "Slurm array", "Several GPUs", "Offline nodes"}
RUN_ON_THE_IMAGE = {"Docker"}
NOT_RUN = {"", "Apptainer", "Nextflow"}

# Snakemake waits most of a minute before it asks Slurm for the first time.
HASTE = " --slurm-init-seconds-before-status-checks 3 --seconds-between-status-checks 3 --latency-wait 20"


def environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "XDG_CACHE_HOME": str(folder / "caches"), "VARFM_CACHE": str(folder / "caches")}


def bash(script: str, folder: Path, *before: str) -> None:
    """Run a script in a folder, ending at the first error."""
    command = [*before, "bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    print(done.stdout[-1500:], done.stderr[-1500:])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with the files that the page speaks of, and the configuration that it shows."""
    lay_out(tmp_path)
    (config,) = (block.text for block in sections()["Snakemake"] if block.language == "yaml")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "config.yaml").write_text(config)
    return tmp_path


def test_every_section_has_its_test_or_says_that_it_has_none() -> None:
    assert sections().keys() == RUN_HERE | RUN_ON_THE_IMAGE | NOT_RUN
    for title, blocks in sections().items():
        assert blocks, title
        is_run = any(block.is_run for block in blocks if block.language == "sh")
        assert is_run == (title not in NOT_RUN), title


def test_every_block_was_found() -> None:
    assert sum(len(blocks) for blocks in sections().values()) == len(re.findall("^```", PAGE, re.MULTILINE)) // 2
    languages = {block.language for blocks in sections().values() for block in blocks}
    assert languages == {"sh", "bash", "yaml", "python", "groovy"}


def test_workflow_of_nextflow_can_be_parsed(tmp_path: Path) -> None:
    workflow, _ = (block.text for block in sections()["Nextflow"])
    (tmp_path / "main.nf").write_text(workflow)
    (tmp_path / "rules.py").write_text("")
    command = [require_tool("reftrace"), "lint", "--rules", str(tmp_path / "rules.py"), "--directory", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (tmp_path / "main.nf").write_text(workflow.replace("workflow {", "workflow {{"))
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0


@pytest.mark.slow
def test_snakemake_runs_on_one_machine(folder: Path) -> None:
    require_tool("snakemake")
    bash(commands("Snakemake")[0], folder)
    assert_expected(folder / "results" / "cohort.vcf.gz")


@pytest.mark.slow
def test_snakemake_runs_through_slurm(folder: Path) -> None:
    require_tool("snakemake")
    with one_node_slurm() as slurm:
        bash(commands("Snakemake")[1].rstrip() + HASTE, folder, *slurm.inside(folder))
    assert_expected(folder / "results" / "cohort.vcf.gz")


@pytest.mark.slow
def test_array_of_slurm_scores_and_joins(folder: Path) -> None:
    (script,) = (block.text for block in sections()["Slurm array"] if block.language == "bash")
    (folder / "score.sbatch").write_text(script)
    with one_node_slurm() as slurm:
        bash("\n".join(commands("Slurm array")), folder, *slurm.inside(folder))
    assert "3 shards: 73 records, 80 alleles." in (folder / "merge.log").read_text()
    assert_expected(folder / "out.vcf.gz")


@pytest.mark.slow
@pytest.mark.parametrize("section", ["Several GPUs", "Offline nodes"])
def test_commands_leave_the_scored_file(section: str, folder: Path) -> None:
    bash("\n".join(commands(section)), folder)
    assert_expected(folder / "out.vcf.gz")
