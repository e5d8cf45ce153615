"""A Slurm of one node that talks on the loopback interface only; it needs root and Debian's slurm-wlm and munge."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tools import require_tool

DAEMONS = ("munged", "slurmctld", "slurmd")
START_SECONDS = 60

CONFIG = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
MinJobAge=300
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 Gres=gpu:1
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


MUNGE_FILES = ("key-file", "pid-file", "log-file", "seed-file")

NAMESPACE = 'mount --bind "$0" /etc/slurm && touch "$0/namespace" && exec sleep infinity'


class Slurm(NamedTuple):
    """A running Slurm. Its commands find it where `inside` stands before them."""

    process_id: int

    def inside(self, folder: Path, *command: str) -> list[str]:
        """Give a command that runs in `folder` and sees this Slurm's configuration as the machine's own."""
        return ["nsenter", f"--target={self.process_id}", "--mount", "env", f"--chdir={folder}", *command]


@contextlib.contextmanager
def one_node_slurm() -> Iterator[Slurm]:
    """Start Slurm, and stop it afterwards.

    Slurm's own steps look for their configuration in /etc/slurm alone. So everything runs in a mount namespace where
    that folder is ours, and the machine's stays as it is. The node says that it has a GPU, which is /dev/null: enough
    for jobs that ask for one.
    """
    paths = {name: require_tool(name) for name in (*DAEMONS, "sbatch", "unshare", "nsenter")}
    # The path of a socket has at most 107 characters, too few for the folders of pytest.
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        _configure(folder)
        private = [paths["unshare"], "--mount", "--propagation=private", "bash", "-c", NAMESPACE, str(folder)]
        slurm = Slurm(stack.enter_context(_running(private, folder / "namespace.log")))
        _wait((folder / "namespace").exists, folder)
        munge = ["--foreground", "--force", *(f"--{name}={folder}/munge.{name[:4]}" for name in MUNGE_FILES)]
        munge.append(f"--socket={folder}/munge.socket")
        stack.enter_context(_running([paths["munged"], *munge], folder / "munged.log"))
        _wait((folder / "munge.socket").exists, folder)
        for name in DAEMONS[1:]:
            stack.enter_context(_running(slurm.inside(folder, paths[name], "-D"), folder / f"{name}.log"))
        _wait(lambda: _is_idle(slurm, folder), folder)
        yield slurm


def _configure(folder: Path) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key-"
    key.touch(0o600)
    key.write_bytes(os.urandom(128))
    host = socket.gethostname().split(".")[0]
    controller_port, node_port = _free_ports(2)
    text = CONFIG.format(host=host, folder=folder, controller_port=controller_port, node_port=node_port)
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text("Name=gpu File=/dev/null\n")
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")


def _free_ports(number: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def _running(command: list[str], log: Path) -> Iterator[int]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(is_ready: Callable[[], bool], folder: Path) -> None:
    for _ in range(START_SECONDS * 5):
        if is_ready():
            return
        time.sleep(0.2)
    logs = "\n".join(f"{path.name}: {path.read_text(errors='replace')[-2000:]}" for path in folder.glob("*.log"))
    raise AssertionError(f"Slurm did not start within {START_SECONDS} s.\n{logs}")


def _is_idle(slurm: Slurm, folder: Path) -> bool:
    command = slurm.inside(folder, "sinfo", "--noheader", "--format=%T")
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "idle"
