"""Measure how fast alleles become batches of base codes, for the windows of DeepSEA: 1,000 bases, both strands.

    python benchmarks/encoding.py

SNVs at random places of the example sequence. A window is one allele on one strand: four of them per SNV. `rows` is
what `varfm score` does from the decided allele to the rows of the network: placing the windows, cutting the reference,
putting the allele in, turning strands, counting N, and asking for the alternate row by its difference. `batches` puts
them side by side as codes on the device. Turning codes into four channels is the network's first layer and counts as
its time; it is printed beside. Windows per second of CPU time on one thread, medians of the rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

from varfm.encoding.onehot import onehot
from varfm.engine import Engine
from varfm.genome import Genome, decode
from varfm.models import catalog
from varfm.models.columns import MEASURES
from varfm.models.deepsea import config_of, network_of
from varfm.plan import make_plan
from varfm.protocols import Change, Model, Row
from varfm.scorers.matrix import Group, MatrixScorer
from varfm.scorers.placement import Centred
from varfm.variants import Variant
from varfm.windows import Site

LENGTH, ROWS, PER_SNV = 1000, 16, 4
WAVE = 64
"""SNVs that are run together."""

N_ENCODED = 200
FASTA = Path(__file__).resolve().parents[1] / "example_data" / "ntng1.fa.gz"


def main() -> int:
    """Print a line per round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--snvs", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    with Genome(FASTA) as genome:
        sites = drawn(genome, parsed.snvs)
        model = deepsea()
        engine = Engine(model, make_plan([model], device="cpu", threads=1), genome)
        rounds = [one_round(engine, sites) for _ in range(parsed.rounds + 1)][1:]  # the first one warms up
    print("windows/s of", "rows", "batches", "rows and batches", "four channels", sep="\t")
    for number, rates in enumerate(rounds, 1):
        print(number, *(f"{rate:,.0f}" for rate in rates), sep="\t")
    print("median", *(f"{statistics.median(rates):,.0f}" for rates in zip(*rounds, strict=True)), sep="\t")
    return 0


def deepsea() -> Model:
    """Make DeepSEA as `varfm score` has it, without weights: it is never run."""
    network = network_of(config_of(catalog.get("deepsea")))
    measures = MEASURES["deepsea"]
    scorer = MatrixScorer(
        placement=Centred(LENGTH, LENGTH // 2 - 1),
        measures=measures,
        tracks=(),
        groups=(Group("MAX", (0,)),),
        headline_measure=measures[0],
        strands_scored=True,
    )
    return Model("deepsea", network, scorer, batch_rows=(ROWS, ROWS), incremental=True)


def drawn(genome: Genome, n: int) -> list[Site]:
    """Draw SNVs in order of their places."""
    (contig, length), *_ = genome.contigs.items()
    codes = genome.codes(contig)
    places = np.sort(np.random.default_rng(1).integers(LENGTH, length - LENGTH, n)).tolist()
    variants = [Variant(contig, p, decode(bytes(codes[p : p + 1])), "ACGT"[(int(codes[p]) + 1) % 4]) for p in places]
    return [Site(variant, variant) for variant in variants]


def one_round(engine: Engine, sites: list[Site]) -> tuple[float, float, float, float]:
    """Give windows per second of each step, wave by wave as the command has them."""
    assert engine.runner is not None
    reading = batching = 0.0
    for first in range(0, len(sites), WAVE):
        started = time.process_time()
        asked = [one for site in sites[first : first + WAVE] for of_one in engine.read(site).asked for one in of_one]
        reading += time.process_time() - started
        rows: list[Row] = [one.row if isinstance(one, Change) else one for one in asked]
        assert len(rows) == PER_SNV * len(sites[first : first + WAVE])
        started = time.process_time()
        for start in range(0, len(rows), ROWS):
            codes = engine.runner.codes(rows[start : start + ROWS], ROWS)
        batching += time.process_time() - started
    n = PER_SNV * len(sites)
    started = time.process_time()
    for _ in range(N_ENCODED):
        onehot(codes)
    encoding = time.process_time() - started
    return n / reading, n / batching, n / (reading + batching), N_ENCODED * ROWS / encoding


if __name__ == "__main__":
    sys.exit(main())
