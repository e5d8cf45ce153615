"""Run damaged inputs through readers, in forked workers that may crash, hang or fill the memory without doing harm."""

from __future__ import annotations

import faulthandler
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from fuzz_targets import Finding, Target

from varfm.errors import VarfmError

MOST_CPU_S = 5
_MOST_WALL_S = 120  # a machine that is busy must not look like a reader that hangs
_MOST_MEMORY = 2 << 30  # above what the process has at the start
_CHUNK = 250


@dataclass(frozen=True)
class Failure:
    """An input that a reader did not read or refuse as it should.

    Attributes:
        number: With the target's name and the seed, it gives the input again.
        what: What happened: a signal, an exception, a wrong result.
        content: The input.
    """

    target: str
    number: int
    what: str
    content: bytes


@dataclass
class Report:
    """What became of the inputs of one target."""

    n_read: int = 0
    n_refused: int = 0
    slowest_cpu_s: float = 0.0
    slowest: int = -1
    failures: tuple[Failure, ...] = ()

    @property
    def n(self) -> int:
        """Inputs in all."""
        return self.n_read + self.n_refused + len(self.failures)


def damaged(name: str, target: Target, number: int, seed: int) -> bytes:
    """Give one input; equal arguments give equal bytes."""
    return target.draw(random.Random(f"{seed}/{name}/{number}"))


def fuzz(name: str, target: Target, numbers: range, seed: int, most_failures: int = 20) -> Report:
    """Run inputs of one target, each worker process a chunk of them; one that dies is followed by another."""
    report = Report()
    _check_seeds(target)
    next_number = numbers.start
    while next_number < numbers.stop and len(report.failures) < most_failures:
        chunk = range(next_number, min(next_number + _CHUNK, numbers.stop))
        lines, status = _in_worker(name, target, chunk, seed)
        n_done = 0
        for line in lines:
            kind, number, seconds, what = line.split("\t", 3)
            n_done += 1
            if float(seconds) > report.slowest_cpu_s:
                report.slowest_cpu_s, report.slowest = float(seconds), int(number)
            if kind == "read":
                report.n_read += 1
            elif kind == "refused":
                report.n_refused += 1
            else:
                _add(report, name, target, int(number), seed, what)
        next_number += n_done
        if n_done < len(chunk):
            _add(report, name, target, next_number, seed, f"the process ended: {_ended(status)}")
            next_number += 1
    return report


def _check_seeds(target: Target) -> None:
    """Make sure that undamaged files are read; this also imports what the workers would each import again."""
    for seed in target.seeds:
        with tempfile.TemporaryDirectory(dir=_memory_disk()) as root:
            found = outcome(target, target.wrap(seed, random.Random(0)), Path(root))
        assert found == ("read", ""), found


def _add(report: Report, name: str, target: Target, number: int, seed: int, what: str) -> None:
    failure = Failure(name, number, what, damaged(name, target, number, seed))
    report.failures = (*report.failures, failure)


def _ended(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code in (-signal.SIGPROF, -signal.SIGALRM):
        return f"it took more than {MOST_CPU_S} s"
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"


def _in_worker(name: str, target: Target, chunk: range, seed: int) -> tuple[list[str], int]:
    """Run a chunk in a forked process; gives a line per input that it got through, and how the process ended."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            _work(name, target, chunk, seed, writer)
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader, encoding="utf-8") as answers:
        lines = [line.rstrip("\n") for line in answers if line.endswith("\n")]
    return lines, os.waitpid(child, 0)[1]


def _work(name: str, target: Target, chunk: range, seed: int, writer: int) -> None:
    faulthandler.disable()  # a crash is told by how the process ends
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # C libraries write there by themselves
        os.dup2(null, stream)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + _MOST_MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, 1 << 30))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    with tempfile.TemporaryDirectory(dir=_memory_disk()) as root:
        for number in chunk:
            content = damaged(name, target, number, seed)
            signal.setitimer(signal.ITIMER_PROF, MOST_CPU_S)
            signal.alarm(_MOST_WALL_S)
            started = time.process_time()
            kind, what = outcome(target, content, Path(root))
            seconds = time.process_time() - started
            signal.setitimer(signal.ITIMER_PROF, 0)
            os.write(writer, f"{kind}\t{number}\t{seconds:.4f}\t{what}\n".encode())


def _memory_disk() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def outcome(target: Target, content: bytes, root: Path) -> tuple[str, str]:
    """Read one input in a folder of its own: `read`, `refused` with a message, or `failed` with what is wrong."""
    folder = root / "one"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    path = folder / target.name
    path.write_bytes(content)
    try:
        target.read(path)
    except VarfmError as error:
        return _judged(error, folder)
    except Finding as finding:
        return "failed", str(finding).replace("\n", " ")
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "failed", f"{type(error).__name__}: {error!s:.300} ({place.filename}:{place.lineno})".replace("\n", " ")
    return "read", ""


def _judged(error: VarfmError, folder: Path) -> tuple[str, str]:
    said = str(error)
    if error.exit_status == 70:
        return "failed", f"a fault of varfm: {said[:300]}".replace("\n", " ")
    if len(said.replace(str(folder), "")) > 1500:
        return "failed", f"a message of {len(said):,} characters: {said[:200]!r}"
    return "refused", ""
