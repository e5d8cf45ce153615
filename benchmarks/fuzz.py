"""Damage files at random and read them with every reader of varfm: nothing may crash, hang or end in a traceback.

python benchmarks/fuzz.py --inputs 100000
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

_TESTS = Path(__file__).resolve().parents[1] / "tests"


def arguments() -> argparse.ArgumentParser:
    """Give the parser of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="fuzz.py", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--inputs", type=int, default=100_000, help="number of inputs, over all readers alike")
    parser.add_argument("--seed", type=int, default=1, help="of the damage; equal seeds give equal inputs")
    parser.add_argument("--only", default="", metavar="TEXT", help="only readers whose name holds TEXT")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write inputs that failed there")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run, print a row per reader, and tell by the exit status whether all inputs were read or refused."""
    chosen = arguments().parse_args(argv)
    sys.path[:0] = [str(_TESTS), str(_TESTS / "hard")]
    from fuzz_targets import TARGETS
    from fuzzing import Report, fuzz

    targets = {name: target for name, target in TARGETS.items() if chosen.only in name}
    each = -(-chosen.inputs // max(1, len(targets)))
    print(f"{'reader':<52}{'inputs':>8}{'read':>8}{'refused':>9}{'failed':>8}{'slowest, s':>12}", flush=True)
    total, started = Report(), time.monotonic()
    for name, target in targets.items():
        report = fuzz(name, target, range(each), chosen.seed)
        numbers = f"{report.n:>8,}{report.n_read:>8,}{report.n_refused:>9,}{len(report.failures):>8}"
        print(f"{name:<52}{numbers}{report.slowest_cpu_s:>12.2f}", flush=True)
        for failure in report.failures:
            print(f"    {failure.number}: {failure.what[:400]}", flush=True)
            if chosen.keep:
                chosen.keep.mkdir(parents=True, exist_ok=True)
                place = chosen.keep / f"{name.replace(' ', '_')}-{failure.number}"
                place.write_bytes(failure.content)
        total.n_read += report.n_read
        total.n_refused += report.n_refused
        total.failures += report.failures
        total.slowest_cpu_s = max(total.slowest_cpu_s, report.slowest_cpu_s)
    became = f"{total.n_read:,} read, {total.n_refused:,} refused, {len(total.failures)} failed"
    print(f"{total.n:,} inputs in {time.monotonic() - started:,.0f} s: {became}.", end=" ")
    print(f"The slowest took {total.slowest_cpu_s:.2f} s of CPU time.")
    return 1 if total.failures else 0


if __name__ == "__main__":
    sys.exit(main())
