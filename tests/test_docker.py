"""The container: the Dockerfile is clean, its entry point starts varfm or any other program, nothing is missing."""

from __future__ import annotations

import os
import re
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tools import require_tool

from varfm import __version__
from varfm.cli.main import COMMANDS

ROOT = Path(__file__).parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
ENTRYPOINT = ROOT / "docker" / "entrypoint.sh"
FINAL_STAGE = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]

Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Run the entry point with a `varfm` that prints what it was given."""
    programs = tmp_path / "bin"
    programs.mkdir()
    stub = programs / "varfm"
    stub.write_text('#!/bin/sh\nprintf "varfm"\nfor word in "$@"; do printf " [%s]" "$word"; done\necho\n')
    stub.chmod(0o755)

    def run(*words: str, **environment: str) -> str:
        env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"} | environment
        command = ["bash", str(ENTRYPOINT), *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
        return done.stdout

    return run


def test_hadolint_has_nothing_to_say() -> None:
    command = [require_tool("hadolint"), "--no-color", str(ROOT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", ["docker/entrypoint.sh", ".ci/run"])
def test_shellcheck_has_nothing_to_say(script: str) -> None:
    command = [require_tool("shellcheck"), str(ROOT / script)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_command_starts_varfm(start: Start) -> None:
    assert start("score", "in file.vcf", "-f", "ref.fa") == "varfm [score] [in file.vcf] [-f] [ref.fa]\n"


def test_an_option_starts_varfm(start: Start) -> None:
    assert start("--version") == "varfm [--version]\n"


def test_nothing_at_all_shows_the_help(start: Start) -> None:
    assert start() == "varfm [--help]\n"


def test_a_misspelt_command_reaches_varfm_and_its_message(start: Start) -> None:
    assert start("scroe", "in.vcf") == "varfm [scroe] [in.vcf]\n"


def test_a_shell_runs_as_it_is(start: Start) -> None:
    assert start("bash", "-c", "echo $((6 * 7)); varfm models list") == "42\nvarfm [models] [list]\n"
    assert start("/bin/bash", "-ue", "-c", "echo workflow") == "workflow\n"


def test_varfm_by_its_own_name_runs_once(start: Start) -> None:
    assert start("varfm", "score") == "varfm [score]\n"


def test_home_moves_where_it_cannot_be_written(start: Start, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone")
    assert start("bash", "-c", "echo $HOME", HOME=gone, TMPDIR=str(tmp_path)) == f"{tmp_path}\n"
    assert start("bash", "-c", "echo $HOME", HOME=str(tmp_path)) == f"{tmp_path}\n"


def test_exit_status_of_the_program_is_passed_on(start: Start) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        start("bash", "-c", "exit 3")
    assert caught.value.returncode == 3


def test_every_command_of_varfm_is_known_to_the_entry_point() -> None:
    known = re.search(r"^  -\* \| (.*)\)$", ENTRYPOINT.read_text(), re.MULTILINE)
    assert known is not None
    assert set(COMMANDS) <= set(known[1].split(" | "))


def test_entry_point_can_be_executed() -> None:
    assert ENTRYPOINT.stat().st_mode & stat.S_IXOTH


def test_image_runs_as_a_plain_user_with_a_cache_that_is_mounted() -> None:
    assert "\nUSER 10001:10001\n" in FINAL_STAGE
    assert "VARFM_CACHE=/cache" in FINAL_STAGE
    assert 'VOLUME ["/cache"]' in FINAL_STAGE
    assert "procps" in FINAL_STAGE


def test_image_takes_the_build_without_cuda_unless_told_otherwise() -> None:
    assert "\nARG TORCH=cpu\n" in DOCKERFILE
    assert "\nARG TORCH_INDEX=https://download.pytorch.org/whl/cpu\n" in DOCKERFILE


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("cpu", "[install] [--no-cache-dir] [--index-url] [https://cpu.example] [torch==1.2]\n"),
        ("cuda", "[install] [--no-cache-dir] [torch==1.2]\n"),
    ],
)
def test_build_argument_chooses_where_torch_comes_from(kind: str, expected: str, tmp_path: Path) -> None:
    step = re.search(r"^RUN (case \"\$TORCH\" in .*?esac)$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert step
    (tmp_path / "pip").write_text("#!/bin/sh\nprintf '[%s] ' \"$@\" | sed 's/ $//'; echo\n")
    (tmp_path / "pip").chmod(0o755)
    settings = {"TORCH": kind, "TORCH_VERSION": "1.2", "TORCH_INDEX": "https://cpu.example"}
    env = os.environ | settings | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["sh", "-ec", step[1].replace("\\\n", "")], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == expected


def test_both_stages_stand_on_one_base_that_may_be_replaced() -> None:
    assert re.search(r"^ARG BASE=python:3\.11-", DOCKERFILE, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE) == ["${BASE}", "${BASE}"]


def test_image_states_the_version_of_the_package() -> None:
    assert f"\nARG VERSION={__version__}\n" in FINAL_STAGE


def test_whatever_the_image_copies_exists_and_is_not_ignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    assert copied
    for name in (name for names in copied for name in names):
        assert (ROOT / name).exists(), name
        assert name.split("/")[0] in allowed, name
