"""Compare half precision with float32: the error of differences between alleles, and the time.

    python benchmarks/precision.py deepsea basset beluga expecto basenji2 sei enformer

Every network has its published size and random weights; every SNV has a window of its own. An error is the root mean
square of the error of alt - ref over that of alt - ref in float32, all windows together. A ratio is the CPU time of
two whole passes in float32 over that of the way; ways take turns on the same windows, and times are medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from varfm.plan import Precision, make_plan
from varfm.precision import Effect, relative_error
from varfm.protocols import Change, Model
from varfm.runner import Runner
from varfm.scorers.position import PositionScorer

sys.path.insert(0, str(Path(__file__).parent))
from speed import ROWS, drawn, snv, timed, window

WAYS: dict[str, tuple[Precision, bool]] = {
    "whole": ("float32", True),
    "float32": ("float32", False),
    "mixed": ("mixed", False),
    "bfloat16": ("bfloat16", False),
}
"""Precision, and whether every window is computed whole."""

GAINS = {"sei": 0.7, "basenji2": 1.3, "enformer": 1.0}
"""Twice the share of its variance that a layer hands on, where 2 is too much: these networks add many layers up."""

HEADER = ("model", "windows", "mixed_error", "bfloat16_error", "whole_ms", "float32", "mixed", "bfloat16")


def main() -> int:
    """Print a line per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=ROWS, metavar="MODEL", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parsed = parser.parse_args()
    print(f"# torch {torch.__version__}, {parsed.threads} threads")
    print(*HEADER, sep="\t", flush=True)
    for name in parsed.models:
        print(name, *line(name, parsed.rounds, parsed.threads), sep="\t", flush=True)
    return 0


def line(name: str, rounds: int, threads: int) -> list[str]:
    """Measure one model."""
    network, n_rows = lively(drawn(name), GAINS.get(name, 2.0)), max(2, ROWS[name])
    ways = {way: runner(name, network, threads, *settings) for way, settings in WAYS.items()}
    spent: dict[str, list[float]] = {way: [] for way in WAYS}
    effects: dict[str, list[Effect]] = {"mixed": [], "bfloat16": []}
    for number in range(rounds + 1):  # the first one warms up
        bases = [window(ways["whole"].network.length, n_rows * number + row) for row in range(n_rows)]
        changes = [snv(base, len(base) // 2 - 1) for base in bases]
        found: dict[str, list[Tensor]] = {}
        for way, made in ways.items():
            seconds, found[way] = timed(lambda made=made, changes=changes: differences(made, changes))
            spent[way].append(seconds / n_rows)
        for way, known in effects.items():
            known += map(Effect, found[way], found["whole"])
    errors = [relative_error(known) or 0.0 for known in effects.values()]
    median = {way: statistics.median(values[1:]) for way, values in spent.items()}
    ratios = [median["whole"] / median[way] for way in ("float32", "mixed", "bfloat16")]
    n_windows = str(len(effects["mixed"]))
    return [n_windows, *(f"{number:.3g}" for number in (*errors, median["whole"] * 1e3, *ratios))]


def lively(network: nn.Module, gain: float) -> nn.Module:
    """Draw weights with which a change in the middle of a window is felt at the end."""
    torch.manual_seed(2)
    for key, value in network.named_parameters():
        if value.dim() > 1:
            nn.init.normal_(value, 0.0, (gain / value[0].numel()) ** 0.5)
        else:
            nn.init.normal_(value, float(key.endswith("weight")), 0.05)
    return network


def runner(name: str, network: nn.Module, threads: int, precision: Precision, full: bool) -> Runner:
    """Make a runner as a session does."""
    rows = (ROWS[name], ROWS[name])
    model = Model(name, network, PositionScorer(()), batch_rows=rows, incremental=True)  # type: ignore[arg-type]
    made = Runner(model, make_plan([model], device="cpu", threads=threads, exact_full=full, precision=precision))
    made.probe()
    made.precision_error = 0.0  # so that it neither measures nor stops
    return made


def differences(made: Runner, changes: list[Change]) -> list[Tensor]:
    """Give alt - ref of each change."""
    pairs = [made.compared(*one[:2]) if made.is_incremental else one[:2] for one in changes]
    found = made.outputs([one for pair in pairs for one in pair])
    return [found[alternate] - found[reference] for reference, alternate in pairs]


if __name__ == "__main__":
    sys.exit(main())
