"""The container image: built from the Dockerfile without Docker, and run as a workflow engine runs it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import Engine
from golden import differences
from pipelines_page import assert_expected, commands, lay_out

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
EXPECTED = (ROOT / "example_data" / "ntng1.expected.vcf").read_text()
BASE = "localhost/base"
USER = 10001
BUILD, *RUNS = commands("Docker")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Give a store that holds the base image."""
    if os.geteuid() != 0:
        pytest.skip("only root can build an image here")
    engine = Engine(Path(tempfile.mkdtemp(prefix="image")))
    try:
        engine.make_base(BASE)
        yield engine
    finally:
        engine.close()


@pytest.fixture(scope="module")
def image(engine: Engine) -> str:
    """Build the image for the CPU as docs/pipelines.md says, and give its name."""
    words = shlex.split(BUILD)
    assert words[:3] == ["docker", "build", "-t"]
    done = engine.build(ROOT, words[2:], BASE=BASE)
    print(done.stdout[-600:] + done.stderr[-600:])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return words[3]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Give a folder with the example that belongs to the image's user."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("ntng1.vcf", "ntng1.fa.gz"):
        shutil.copy(ROOT / "example_data" / name, folder)
    os.chown(folder, USER, USER)
    return folder


def test_an_unknown_kind_of_torch_stops_the_build(engine: Engine) -> None:
    done = engine.build(ROOT, ["-t", "wrong", "."], BASE=BASE, TORCH="gpu")
    assert done.returncode != 0
    assert "TORCH is 'gpu'. Use cpu or cuda." in done.stdout + done.stderr


def test_image_scores_as_a_plain_user_on_a_root_that_cannot_be_written(engine: Engine, image: str, data: Path) -> None:
    words = ["score", "ntng1.vcf", "-f", "ntng1.fa.gz", "-o", "out.vcf"]
    done = engine.run("--read-only", f"--volume={data}:/data", image, *words)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
    assert "80 alleles: 65 scored, 15 not" in done.stderr
    assert list(differences(EXPECTED, (data / "out.vcf").read_text())) == []
    assert ((data / "out.vcf").stat().st_uid, (data / "out.vcf").stat().st_gid) == (USER, USER)


def test_a_shell_starts_as_the_plain_user_and_finds_ps(engine: Engine, image: str) -> None:
    script = "id --user; ps -e -o comm=; touch /new 2>&1; varfm --version"
    done = engine.run("--read-only", image, "bash", "-c", script)
    print(done.stdout, done.stderr)
    lines = done.stdout.splitlines()
    assert done.returncode == 0 and lines[0] == str(USER) and "ps" in lines
    assert "Read-only file system" in done.stdout and lines[-1].startswith("varfm ")


def test_another_user_may_run_it(engine: Engine, image: str, data: Path) -> None:
    os.chown(data, 4321, 4321)
    words = ["score", "ntng1.vcf", "-f", "ntng1.fa.gz", "-o", "out.vcf"]
    done = engine.run("--read-only", "--user=4321:4321", f"--volume={data}:/data", image, *words)
    assert done.returncode == 0, done.stderr
    assert (data / "out.vcf").stat().st_uid == 4321


def test_image_holds_torch_without_cuda_and_every_extra(engine: Engine, image: str) -> None:
    script = "import json, peft, pyarrow, torch, transformers; print(json.dumps(torch.version.cuda))"
    done = engine.run(image, "python", "-W", "ignore", "-c", script)
    assert (done.returncode, json.loads(done.stdout)) == (0, None), done.stderr


@pytest.mark.usefixtures("image")
def test_commands_of_the_page_run(engine: Engine, tmp_path: Path) -> None:
    work, programs = tmp_path / "work", tmp_path / "bin"
    for folder in (work, programs):
        folder.mkdir()
    lay_out(work)
    engine.docker(programs)
    env = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"}
    command = ["bash", "-euo", "pipefail", "-c", "\n".join(RUNS)]
    done = subprocess.run(command, cwd=work, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mini" in done.stdout
    for name in ("out.vcf.gz", "readonly.vcf.gz"):
        assert_expected(work / name)
