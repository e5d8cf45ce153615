"""The Snakemake workflow through its Slurm executor, on a Slurm of one node that the test starts and stops."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from slurm import one_node_slurm
from test_workflow import WORKFLOW, assert_as_of_one_run, example
from tools import require_tool

pytestmark = pytest.mark.slow

EXECUTOR = (
    "--executor slurm --slurm-no-account --slurm-status-command squeue --slurm-init-seconds-before-status-checks 3"
    " --seconds-between-status-checks 3 --latency-wait 20 --default-resources slurm_partition=main --jobs 4"
)


def test_every_piece_is_a_job_that_asks_for_what_it_needs(tmp_path: Path) -> None:
    config = example(tmp_path, gpus=1, device="cpu", memory_mb=2000, runtime_minutes=20)
    words = ["--snakefile", str(WORKFLOW / "Snakefile"), "--configfile", str(config), *EXECUTOR.split()]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    with one_node_slurm() as slurm:
        command = slurm.inside(tmp_path, require_tool("snakemake"), *words)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)
        show = slurm.inside(tmp_path, "scontrol", "--oneliner", "show", "job")
        jobs = subprocess.run(show, capture_output=True, text=True, check=True).stdout.splitlines()
    print(done.stderr[-1500:], *jobs, sep="\n")
    assert done.returncode == 0, done.stderr
    assert_as_of_one_run(tmp_path)
    assert all("JobState=COMPLETED" in job for job in jobs)
    scores = [job for job in jobs if "rule_score" in job]
    assert (len(scores), len(jobs)) == (3, 4)
    for job in scores:
        assert "MinMemoryNode=2000M" in job and "TimeLimit=00:20:00" in job and "TresPerJob=gres:gpu:1" in job
    assert not any(":gpu" in job for job in jobs if job not in scores)
