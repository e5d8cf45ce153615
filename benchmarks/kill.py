"""Stop `varfm score --resume` at random moments, run it again, and compare with a run that nobody stopped.

    python benchmarks/kill.py
    python benchmarks/kill.py --model mini --repeat 10 --kill 14 --term 3 --int 3
    python benchmarks/kill.py --kill 0 --term 0 --int 0 --levels 20

Every trial begins without an output, is stopped once (kill -9 at any moment between reading the command line and the
end; SIGTERM and SIGINT once it scores), and is then run to its end. Of a stopped process it is known, from memory that
outlives it, how many records it had scored and how many it had reported as finished. With `--levels` the outputs lie on
a small tmpfs (which takes root to mount) that is filled up to so many levels; then room is made.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import mmap
import os
import random
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

from varfm.cli.main import main as main_of_varfm
from varfm.journal import Chunk, Journal
from varfm.session import ScoredBlock, Session

SEED = 20_261_127
OUTPUTS = ("out.vcf.gz", "out.vcf.gz.tbi", "out.tsv")
EXIT = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
DISK = 6


@dataclass(slots=True)
class Found:
    """What the trials showed."""

    n_trials: int = 0
    n_equal: int = 0
    early: int = 0
    wrong_exit: int = 0
    forgotten: int = 0
    n_in_time: int = 0
    n_with_chunks: int = 0
    lost: list[int] = field(default_factory=list)
    largest_chunk: int = 0


def write_input(path: Path, n_records: int, repeat: int) -> None:
    """Write the VCF of `io.py`, every record `repeat` times, and `ref.fa` beside it."""
    spec = importlib.util.spec_from_file_location("bench_io", Path(__file__).with_name("io.py"))
    assert spec is not None and spec.loader is not None
    bench_io = importlib.util.module_from_spec(spec)
    sys.modules["bench_io"] = bench_io
    spec.loader.exec_module(bench_io)
    bench_io.write_vcf(path, bench_io.write_fasta(path.with_name("ref.fa")), n_records // repeat, 0, "short")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line if line.startswith(b"#") else line * repeat for line in lines))


class Process:
    """A process that was forked."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._status: int | None = None

    def poll(self) -> int | None:
        """Give the exit status, negative for a signal; None while it runs."""
        return self._take(os.WNOHANG)

    def wait(self) -> int:
        """Wait for its end, and give the exit status."""
        status = self._take(0)
        assert status is not None
        return status

    def send(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self._pid, number)

    def _take(self, how: int) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self._pid, how)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status


def _run(arguments: list[str], marks: Path) -> NoReturn:
    """Run the command line in this process, and note how far it is where others can read it."""
    with marks.open("r+b") as file:
        memory = mmap.mmap(file.fileno(), 16)
    scored, append = Session.__iter__, Journal.append

    def counted(self: Session) -> Iterator[ScoredBlock]:
        for item in scored(self):
            memory[:8] = struct.pack("<q", item.n_read)
            yield item

    def noted(self: Journal, chunk: Chunk, pieces: Sequence[bytes]) -> None:
        append(self, chunk, pieces)
        memory[8:] = struct.pack("<q", chunk.n_read)

    Session.__iter__, Journal.append = counted, noted  # type: ignore[method-assign]
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs ignore
    try:
        main_of_varfm(arguments)
    except SystemExit as end:
        os._exit(end.code if isinstance(end.code, int) else 0)


class Bench:
    """One input, and the folder in which it is scored.

    Args:
        folder: For the input and what is expected.
        target: For the outputs of the trials.
        options: Of the command line.
    """

    def __init__(self, folder: Path, target: Path, options: argparse.Namespace) -> None:
        self._folder, self.target = folder, target
        self._model = options.model
        self._source = folder / "in.vcf"
        write_input(self._source, options.records, options.repeat)
        self._marks = folder / "marks"
        expected = folder / "expected"
        expected.mkdir()
        self.seconds = statistics.median(self._timed(expected) for _ in range(2))
        self._expected = {name: (expected / name).read_bytes() for name in OUTPUTS}
        self.n_bytes = sum(map(len, self._expected.values()))

    def _timed(self, folder: Path) -> float:
        for path in folder.iterdir():
            path.unlink()
        started = time.monotonic()
        process = self.start(folder)
        if process.wait():
            raise RuntimeError(f"the run that nobody stops failed with {process.returncode}")
        return time.monotonic() - started

    def start(self, folder: Path | None = None) -> Process:
        """Start a run in the target folder: a process of its own, but with Python's modules loaded already."""
        self._marks.write_bytes(bytes(16))
        folder = folder or self.target
        outputs = ["-o", str(folder / "out.vcf.gz"), "--table", str(folder / "out.tsv"), "--resume"]
        arguments = ["score", str(self._source), "-f", str(self._folder / "ref.fa"), "-m", self._model, "--quiet"]
        pid = os.fork()
        if pid:
            return Process(pid)
        try:
            _run([*arguments, *outputs, "--threads", "1", "--device", "cpu"], self._marks)
        finally:
            os._exit(99)  # not reached

    def marks(self) -> tuple[int, int]:
        """Give the records that the last process had scored, and those that it had reported as finished."""
        with self._marks.open("r+b") as file, mmap.mmap(file.fileno(), 16) as memory:
            scored, finished = struct.unpack("<qq", memory[:])
        return scored, finished

    def chunks(self) -> list[int]:
        """Give the records up to the end of each chunk on the disk."""
        path = self.target / "out.vcf.gz.varfm-partial" / "chunks"
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line[65:])["n_read"] for line in lines if line.endswith(b"\n")]

    def outputs(self) -> list[str]:
        """Name the final files that are there."""
        return [name for name in (*OUTPUTS, "out.vcf.gz.varfm.json") if (self.target / name).exists()]

    def is_complete(self) -> bool:
        """Tell whether all outputs are on the disk, so that they are being given their names."""
        return (self.target / "out.vcf.gz.varfm-partial" / "finished.json").exists()

    def is_equal(self) -> bool:
        """Tell whether the outputs are those of the run that nobody stopped, and nothing else is left."""
        left = {path.name for path in self.target.iterdir()} - {*OUTPUTS, "out.vcf.gz.varfm.json", "filler"}
        return not left and all((self.target / n).read_bytes() == data for n, data in self._expected.items())

    def clear(self) -> None:
        """Remove everything from the target folder."""
        for path in self.target.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the trials; 1 if one of them was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="null", help="default: null")
    parser.add_argument("--records", type=int, default=100_000, help="records of the input; default: 100,000")
    parser.add_argument("--repeat", type=int, default=1, help="write every record so many times; default: once")
    parser.add_argument("--kill", type=int, default=200, help="trials that end with kill -9; default: 200")
    parser.add_argument("--term", type=int, default=20, help="trials that end with SIGTERM; default: 20")
    parser.add_argument("--int", type=int, default=20, help="trials that end with SIGINT; default: 20")
    parser.add_argument("--levels", type=int, default=0, help="levels of a full disk; default: none")
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary folder")
    options = parser.parse_args(arguments)
    os.environ["VARFM_TESTING"] = "1"
    if options.model != "null":
        import torch  # noqa: F401  # before the processes part
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="varfm-kill-") as name:
        target = Path(name) / "target"
        target.mkdir()
        bench = Bench(Path(name), target, options)
        size = f"{bench.seconds:.1f} s and {bench.n_bytes / 1e6:.1f} MB a run"
        print(f"{options.records:,} records, {options.model}, {size}", flush=True)
        good = _stop(bench, options) if options.kill + options.term + options.int else True
        return 0 if (not options.levels or _fill(bench, target, options.levels)) and good else 1


def _stop(bench: Bench, options: argparse.Namespace) -> bool:
    draw = random.Random(SEED)
    found = Found()
    signals = {signal.SIGKILL: options.kill, signal.SIGTERM: options.term, signal.SIGINT: options.int}
    for number, count in signals.items():
        for _ in range(count):
            while not _trial(bench, number, draw, found):
                pass
            print(f"{signal.Signals(number).name}: {found.n_equal} of {found.n_trials} equal", end="\r", flush=True)
        print(f"after {signal.Signals(number).name}: {found.n_equal} of {found.n_trials} equal", flush=True)
    print(
        f"{found.n_equal} of {found.n_trials} outputs equal, with their index and table, and nothing left beside them"
    )
    print(f"{found.early} times a final name before the end; {found.wrong_exit} wrong exit statuses")
    print(f"{found.forgotten} times a finished chunk was not found again")
    print(f"{found.n_in_time} hit a process that had scored records, {found.n_with_chunks} one with finished chunks")
    print(
        f"the chunk in hand, which was lost, had at most {max(found.lost, default=0):,} records (median "
        f"{statistics.median(found.lost or [0]):,.0f}); the largest finished chunk had {found.largest_chunk:,}"
    )
    return found.n_equal == found.n_trials and not (found.early or found.wrong_exit or found.forgotten)


def _trial(bench: Bench, number: signal.Signals, draw: random.Random, found: Found) -> bool:
    """Stop one run and go on with it; False if it had ended before it could be stopped."""
    bench.clear()
    process = bench.start()
    if number == signal.SIGKILL:
        time.sleep(draw.random() * bench.seconds)
    else:
        while not bench.marks()[0] and process.poll() is None:
            time.sleep(0.002)
        time.sleep(draw.random() * bench.seconds / 3)
    process.send(number)
    status = process.wait()
    if status == 0 or bench.outputs() == [*OUTPUTS, "out.vcf.gz.varfm.json"]:
        return False
    (scored, finished), chunks = bench.marks(), bench.chunks()
    on_disk = chunks[-1] if chunks else 0
    found.n_trials += 1
    found.wrong_exit += status != EXIT[number]
    found.early += bool(bench.outputs()) and not bench.is_complete()
    found.forgotten += on_disk < finished
    found.forgotten += number != signal.SIGKILL and on_disk < scored
    found.n_in_time += scored > 0
    found.n_with_chunks += bool(chunks)
    found.lost.append(scored - on_disk)
    found.largest_chunk = max([found.largest_chunk, *(end - start for start, end in pairwise([0, *chunks]))])
    status = bench.start().wait()
    good = status == 0 and bench.is_equal()
    found.n_equal += good
    if not good:
        left = {path.name: path.stat().st_size for path in sorted(bench.target.iterdir())}
        print(f"\n{number.name} after {scored:,} records and {len(chunks)} chunks: then exit status {status}, {left}")
    return True


def _fill(bench: Bench, target: Path, n_levels: int) -> bool:
    """Run on a disk that is full at some level, then make room and run again."""
    n_bytes = _needed(bench, target)
    n_full = n_good = n_complete = 0
    with _tmpfs(target, n_bytes * 2):
        for level in range(n_levels):
            bench.clear()
            _leave(target, n_bytes * level // n_levels)
            status = bench.start().wait()
            left = bench.outputs()
            n_full += status == DISK
            n_good += status == DISK and not left
            (target / "filler").unlink()
            n_complete += bench.start().wait() == 0 and bench.is_equal()
    print(f"full disk, {n_levels} levels up to {n_bytes / 1e6:.1f} MB: {n_full} times exit status {DISK},", end=" ")
    print(f"{n_good} times no final file, {n_complete} times complete and equal when there was room")
    return n_full == n_good == n_complete == n_levels


def _needed(bench: Bench, target: Path) -> int:
    """Give the bytes that a run occupies at most: the journal, and the outputs that are put together from it."""
    bench.clear()
    process, most = bench.start(), 0
    while process.poll() is None:
        most = max(most, sum(_sizes(target)))
        time.sleep(0.002)
    return most


def _sizes(folder: Path) -> Iterator[int]:
    for path in folder.rglob("*"):
        try:
            yield path.stat().st_blocks * 512
        except FileNotFoundError:
            continue


@contextmanager
def _tmpfs(folder: Path, n_bytes: int) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def _leave(folder: Path, n_bytes: int) -> None:
    """Fill the disk but for `n_bytes`."""
    about = os.statvfs(folder)
    size = about.f_bavail * about.f_frsize - n_bytes
    with (folder / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, size))


if __name__ == "__main__":
    sys.exit(main())
