"""Compare incremental evaluation with two whole passes: work, time, error, and tangermeme where it is installed.

    python benchmarks/speed.py deepsea basset beluga expecto basenji2 sei enformer

Every network has its published size and random weights. Programs take turns on the same windows (A B A B); figures are
medians of CPU time of all threads, so that other users of the machine disturb them less.
isolated: every SNV has a window of its own; time for ref and alt of the whole way over that of the incremental way;
alleles/s is one strand of that.
shared: every window has 12 SNVs, in 4 neighbouring places; time of one whole pass over the time per SNV, without that
of the reference windows.
For expecto the whole way reads nine windows of Beluga per allele, in batches.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from varfm.delta.executor import Executor
from varfm.delta.grid import STEP, changed_span, on_grid
from varfm.models import catalog
from varfm.plan import make_plan
from varfm.protocols import Asked, Change, Model, Row
from varfm.runner import Runner
from varfm.scorers.position import PositionScorer

ROWS = {"deepsea": 16, "basset": 32, "beluga": 8, "expecto": 4, "basenji": 1, "basenji2": 1, "sei": 4, "enformer": 1}
"""Rows per pass on the CPU, as the models have them."""

N_ISOLATED = {1: 2, 4: 12, 8: 64, 16: 128, 32: 256}
"""SNVs by rows per pass: from 8 rows on as many as `varfm score` runs together, else fewer, for the time it takes."""

N_SHARED = 4
"""Places of a window that change, three alleles each."""

HEADER = (
    "model", "GFLOP/window", "part/allele", "full_ms", "isolated_ms", "isolated", "shared_ms", "shared",
    "alleles/s", "full/peak", "error/scale", "tangermeme_ms", "over_tangermeme", "tangermeme_error/scale",
)  # fmt: skip


class Case(NamedTuple):
    """A network in both ways, and windows for it; for expecto the whole way reads other rows than the incremental."""

    incremental: Runner
    full: Runner
    windows: Callable[[Row], list[Row]]
    n_isolated: int


def main() -> int:
    """Print a line per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=ROWS, metavar="MODEL", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    peak = measured_peak()
    print(f"# torch {torch.__version__}, {parsed.threads} threads, convolutions reach {peak / 1e9:.0f} GFLOP/s")
    print(*HEADER, sep="\t", flush=True)
    for name in parsed.models:
        print(name, *line(name, parsed.rounds, parsed.threads, peak), sep="\t", flush=True)
    return 0


def drawn(name: str) -> nn.Module:
    """Make a network of the published sizes with random weights that neither die nor explode."""
    checkpoint = catalog.get(name)
    module = importlib.import_module(f"varfm.models.{checkpoint.module}")
    network: nn.Module = module.network_of(module.config_of(checkpoint))
    torch.manual_seed(1)
    for value in network.parameters():
        spread = (1.0 / value[0].numel()) ** 0.5 if value.dim() > 1 else 0.1
        nn.init.normal_(value, 0.0, spread)
    return network.requires_grad_(False).eval()


def line(name: str, rounds: int, threads: int, peak: float) -> list[str]:
    """Measure one model."""
    network = drawn(name)
    case = case_of(name, network, threads)
    n_flops, part = work(case)
    spent: dict[str, list[float]] = {"full": [], "isolated": [], "shared": [], "tangermeme": []}
    error = differs = 0.0
    for number in range(rounds + 1):  # the first one warms up
        n, length = case.n_isolated, case.incremental.network.length
        bases, others = ([window(length, 2 * n * number + n * half + row) for row in range(n)] for half in (0, 1))
        found, one_error = one_round(case, bases, others[: ROWS[name]], spent)
        error = max(error, one_error)
        if name != "expecto" and (effects := tangermeme()):
            seconds, theirs = timed(lambda rows=bases: effects(network, rows, ROWS[name]))
            spent["tangermeme"].append(seconds / n)
            ours = torch.stack(list(found.values())).double()
            differs = max(differs, float((ours - torch.cat(theirs)).abs().max() / ours.abs().max()))
    median = {key: statistics.median(values[1:]) if values else float("nan") for key, values in spent.items()}
    full = median["full"]  # of both alleles
    ratios = full / median["isolated"], full / 2 / median["shared"]
    numbers = [n_flops / 1e9, part, full * 1e3, median["isolated"] * 1e3, ratios[0], median["shared"] * 1e3, ratios[1]]
    numbers += [1 / median["isolated"], 2 * n_flops / full / peak, error, median["tangermeme"] * 1e3]
    numbers += [median["tangermeme"] / median["isolated"], differs]
    return [f"{number:.4g}" for number in numbers]


def one_round(
    case: Case, bases: list[Row], others: list[Row], spent: dict[str, list[float]]
) -> tuple[dict[Asked, Tensor], float]:
    """Let every way take its turn, note the seconds per SNV; give the outputs, bases first, and the error."""
    changes = [snv(base, len(base) // 2 - 1) for base in bases]
    asked: list[Asked] = [*bases, *changes]
    seconds, found = timed(lambda: case.incremental.outputs(asked))
    spent["isolated"].append(seconds / len(changes))
    rows = [row for one in asked for row in case.windows(one.row if isinstance(one, Change) else one)]
    seconds, whole = timed(lambda: case.full.outputs(rows))
    spent["full"].append(2 * seconds / len(asked))
    shared = [change for base in bases[: len(others)] for change in neighbours(base) if change not in found]
    seconds, _ = timed(lambda: case.incremental.outputs(shared))
    reference, _ = timed(lambda: case.incremental.outputs(others))
    spent["shared"].append((seconds - reference) / len(shared))
    return found, largest_error(found, whole, case)


def case_of(name: str, network: nn.Module, threads: int) -> Case:
    """Put both ways side by side."""
    rows = ROWS[name]
    if name == "expecto":
        beluga = drawn("beluga")
        beluga.load_state_dict(network.state_dict())
        starts, width = network.starts, beluga.length
        full = runner("beluga", beluga, 9, threads, full=True)
        incremental = runner(name, network, rows, threads)
        return Case(incremental, full, lambda row: [row[start : start + width] for start in starts], N_ISOLATED[rows])
    ways = [runner(name, network, rows, threads, full=full) for full in (False, True)]
    return Case(ways[0], ways[1], lambda row: [row], N_ISOLATED[rows])


def runner(name: str, network: Any, rows: int, threads: int, *, full: bool = False) -> Runner:
    """Make a runner as a session does."""
    model = Model(name, network, PositionScorer(()), batch_rows=(rows, rows), incremental=True)
    made = Runner(model, make_plan([model], device="cpu", threads=threads, exact_full=full))
    made.probe()
    return made


def window(length: int | None, seed: int) -> Row:
    """Draw a window of base codes."""
    assert length is not None
    return np.random.default_rng(seed).integers(0, 4, length).astype(np.uint8).tobytes()


def snv(base: Row, place: int, step: int = 1) -> Change:
    """Change one base."""
    return Change(base, base[:place] + bytes([(base[place] + step) % 4]) + base[place + 1 :])


def neighbours(base: Row) -> list[Change]:
    """Give every SNV of four places beside the middle, which are one cell of the grid."""
    first = len(base) // 2 + STEP // 2
    return [snv(base, first + place, step) for place in range(N_SHARED) for step in (1, 2, 3)]


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Give the CPU time of all threads in seconds, and what came out."""
    started = time.process_time()
    result = run()
    return time.process_time() - started, result


def largest_error(found: dict[Asked, Tensor], whole: dict[Asked, Tensor], case: Case) -> float:
    """Give the largest difference over the largest size of an output."""
    error = scale = 0.0
    for one, output in found.items():
        rows = case.windows(one.row if isinstance(one, Change) else one)
        expected = torch.stack([whole[row] for row in rows]).reshape(output.shape)
        error = max(error, float((output - expected).abs().max()))
        scale = max(scale, float(expected.abs().max()))
    return error / scale


def work(case: Case) -> tuple[float, float]:
    """Count the products of a whole window, and the part of them that an SNV in the middle takes."""
    length = case.incremental.network.length
    base = window(length, 0)
    change = snv(base, len(base) // 2 - 1)
    meta = network_on_meta(case.incremental.name)
    executor = Executor(meta, len(base))
    route = executor.route(on_grid(changed_span(change.base, change.row), len(base)))
    windows = case.windows(base)
    naive = meta if len(windows) == 1 else network_on_meta("beluga")
    with FlopCounterMode(display=False) as counter:
        naive.forward(empty_codes(len(windows), len(windows[0])))
    whole = float(counter.get_total_flops())
    _, (context,) = executor.reference(empty_codes(1, len(base)), [route])
    with FlopCounterMode(display=False) as counter:
        executor.alternate(empty_codes(1, route.span.width), context)
    return whole, counter.get_total_flops() / whole


def network_on_meta(name: str) -> nn.Module:
    """Make a network of the published sizes without memory."""
    checkpoint = catalog.get(name)
    module = importlib.import_module(f"varfm.models.{checkpoint.module}")
    with torch.device("meta"):
        network: nn.Module = module.network_of(module.config_of(checkpoint))
    return network.to("meta").eval()


def empty_codes(n: int, width: int) -> Tensor:
    """Give codes without values."""
    return torch.empty(n, width, dtype=torch.uint8, device="meta")


def measured_peak() -> float:
    """Give the products and sums per second of CPU time that a large convolution reaches."""
    x, kernel = torch.randn(4, 512, 2048), torch.randn(512, 512, 5)
    with torch.inference_mode():
        seconds = [timed(lambda: functional.conv1d(x, kernel))[0] for _ in range(4)]
    return 2.0 * 512 * 512 * 5 * 4 * 2044 / min(seconds)


def tangermeme() -> Callable[[nn.Module, Sequence[Row], int], Any] | None:
    """Give tangermeme's effects of substitutions in the middle of windows, or None where it is not installed."""
    try:
        from tangermeme.variant_effect import substitution_effect
    except ImportError:
        return None

    class OneHot(nn.Module):
        """A network that reads one-hot channels, as tangermeme gives them."""

        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor) -> Tensor:
            """(n, 4, length) -> the network's outputs."""
            found: Tensor = self.network(x.argmax(1).to(torch.uint8))
            return found

    def effects(network: nn.Module, rows: Sequence[Row], batch: int) -> Any:
        codes = torch.from_numpy(np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1).copy()).long()
        middle = codes.shape[1] // 2 - 1
        changed = [[n, middle, int((code + 1) % 4)] for n, code in enumerate(codes[:, middle])]
        x = functional.one_hot(codes, 4).transpose(1, 2).float().contiguous()
        return substitution_effect(OneHot(network).eval(), x, torch.tensor(changed), batch_size=batch, device="cpu")

    return effects


if __name__ == "__main__":
    sys.exit(main())
