"""Build and run the container image without a daemon, as root, with Debian's mmdebstrap, buildah, podman and runc."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pip._internal.models.index import PyPI
from tools import require_tool

# Debian 12's own Python stands in for the one of the public image, which lies in a registry.
BASE_PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates"
BASE_SUITE = "bookworm"

# The limits of the machine that the tests run on must not be raised.
RUN = ["--runtime", "runc", "--cgroup-manager", "cgroupfs", "run", "--rm", "--ulimit", "nofile=1024:1024"]
RUN += ["--ulimit", "nproc=1000:1000", "--network", "none"]


@dataclass(frozen=True)
class Engine:
    """A store of images in a folder of its own.

    Attributes:
        folder: Where the store lies.
    """

    folder: Path

    @property
    def _store(self) -> list[str]:
        return ["--root", str(self.folder / "store"), "--runroot", str(self.folder / "run")]

    def make_base(self, name: str) -> None:
        """Make an image of Debian with Python, from Debian's packages."""
        tar = self.folder / "base.tar"
        packages = f"--include={BASE_PACKAGES}"
        check([require_tool("mmdebstrap"), "--quiet", "--variant=minbase", packages, BASE_SUITE, str(tar)])
        (self.folder / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        check(
            [
                require_tool("buildah"),
                *self._store,
                "bud",
                "--quiet",
                "--isolation=chroot",
                "--tag",
                name,
                str(self.folder),
            ]
        )
        tar.unlink()

    def build(self, source: Path, words: Sequence[str], **arguments: str) -> subprocess.CompletedProcess[str]:
        """Build an image in a folder; pip is told in there what it is told on this machine.

        Args:
            source: The folder.
            words: What would stand behind `docker build`.
            arguments: Build arguments.
        """
        settings = pip_settings()
        if {"find-links", "extra-index-url"} & settings.keys():
            arguments.setdefault("TORCH_INDEX", settings.get("index-url", PyPI.simple_url))
        config = self.folder / "pip.conf"
        config.write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in settings.items()))
        volumes = {str(config): "/etc/pip.conf"} | {path: path for path in paths_in(settings.values())}
        command = [require_tool("buildah"), *self._store, "bud", "--isolation=chroot", "--layers=false"]
        command += [f"--volume={ours}:{theirs}:ro" for ours, theirs in volumes.items()]
        command += [f"--build-arg={key}={value}" for key, value in arguments.items()]
        return subprocess.run([*command, *words], cwd=source, capture_output=True, text=True, check=False)

    def docker(self, folder: Path) -> Path:
        """Make a program `docker` of which `docker run` is podman's on this store."""
        program = folder / "docker"
        program.write_text(f'#!/bin/sh\ntest "$1" = run || exit 1\nshift\nexec {shlex.join(self.command(*RUN))} "$@"\n')
        program.chmod(0o755)
        return program

    def command(self, *words: str) -> list[str]:
        """Give a command of podman on this store; `RUN` begins one that starts a container."""
        return [require_tool("podman"), *self._store, *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Start a container: options of `podman run`, the image, and what it is given."""
        return subprocess.run(self.command(*RUN, *words), capture_output=True, text=True, check=False)

    def close(self) -> None:
        """Remove all of it: images are gigabytes."""
        subprocess.run([require_tool("buildah"), *self._store, "rm", "--all"], capture_output=True, check=False)
        subprocess.run(self.command("rmi", "--all", "--force"), capture_output=True, check=False)
        for place in reversed(mounts_under(self.folder)):
            subprocess.run(["umount", place], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def check(command: list[str]) -> None:
    """Run a command; what it printed is the message if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def pip_settings() -> dict[str, str]:
    """Give what pip is told on this machine, by files and by the environment, which counts more."""
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = re.findall(r"^(global|:env:)\.([a-z-]+)=(.*)$", done.stdout, re.MULTILINE)
    found.sort(key=lambda item: item[0] == ":env:")
    return {key: str(ast.literal_eval(value)) for _, key, value in found}


def paths_in(values: Iterable[str]) -> list[str]:
    """Give the files and folders that settings name; an index of files needs the folder around it."""
    words = " ".join(values).split()
    paths = [Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word) for word in words]
    return sorted({str(path) for path in paths if path.is_absolute() and path.exists()})


def mounts_under(folder: Path) -> list[str]:
    """Give the places below a folder where something is mounted, outer ones first."""
    places = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return [place for place in places if place.startswith(f"{folder}{os.sep}")]
