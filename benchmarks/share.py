"""Measure what part of `varfm score` goes into the network: the rest is reading, windows, strands, scores and writing.

    python benchmarks/share.py deepsea beluga basset basenji2 sei expecto
    python benchmarks/share.py --data DATA mpra-dragonn xpresso-human

SNVs, every tenth a deletion of one base, around the middle of the example sequence, are scored into a VCF and a Parquet
table, on one thread, by networks of the published sizes with random weights; with the published ones, from DATA, for
mpra-dragonn and xpresso-human. CPU time from the first record on; what comes before, the start of Python and torch and
the loading of weights, is left out and printed beside.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from full_size import FASTA, MODELS, contig, write_weights  # noqa: E402

from varfm.genome import Genome, decode  # noqa: E402
from varfm.models import catalog  # noqa: E402
from varfm.windows import Haplotype, Window  # noqa: E402

PUBLISHED = {"mpra-dragonn": "mpra_dragonn_conv.hdf5", "xpresso-human": "xpresso_human_median.h5"}
ALLELES = {
    **{"deepsea": 400, "beluga": 80, "basset": 800, "sei": 16, "expecto": 16},
    **{"mpra-dragonn": 4000, "xpresso-human": 1000},
}
SPACING = 10
FEW = 4
"""Alleles of the models that are not named above."""


def main() -> int:
    """Run each model in its own process and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=[*MODELS, *PUBLISHED], metavar="MODEL")
    parser.add_argument("--data", type=Path, help="folder with the published weights")
    parsed = parser.parse_args()
    if parsed.data is None and not PUBLISHED.keys().isdisjoint(parsed.models):
        parser.error(f"{', '.join(PUBLISHED)}: give --data")
    print("model", "alleles", "start_s", "network_s", "all_s", "network/all", sep="\t")
    for name in parsed.models:
        with tempfile.TemporaryDirectory() as folder:
            print(name, *measured(name, Path(folder), parsed.data), sep="\t", flush=True)
    return 0


def measured(name: str, folder: Path, data: Path | None) -> list[str]:
    """Write weights and alleles, run the command, and give what is printed."""
    if name in PUBLISHED:
        assert data is not None
        weights = data / PUBLISHED[name]
    else:
        weights = folder / "weights"
        weights.mkdir()
        in_process(write_weights, name, weights)
    n = ALLELES.get(name, FEW)
    write_vcf(folder / "in.vcf", n)
    arguments = ["score", str(folder / "in.vcf"), "-f", str(FASTA), "-m", name, "--weights", str(weights)]
    arguments += ["--threads", "1", "--quiet", "--offline", "-o", str(folder / "out.vcf")]
    arguments += ["--table", str(folder / "out.parquet")]
    if catalog.get(name).needs_genes:
        (folder / "genes.bed").write_text(f"{contig()[0]}\t170000\t175000\tGENE\t0\t+\n")
        arguments += ["--genes", str(folder / "genes.bed")]
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    in_process(timed_run, arguments, theirs)
    found: Mapping[str, float] = ours.recv()
    seconds = found["start"], found["network"], found["all"]
    return [str(n), *(f"{one:.2f}" for one in seconds), f"{found['network'] / found['all']:.3f}"]


def in_process(run: Callable[..., None], *args: Any) -> None:
    """Run something in a process of its own."""
    process = multiprocessing.get_context("spawn").Process(target=run, args=args)
    process.start()
    process.join()
    assert process.exitcode == 0, process.exitcode


def timed_run(arguments: list[str], pipe: Connection) -> None:
    """Run the command, and send CPU seconds: before the first record, in the network, and in all after the start."""
    from varfm.cli.main import run
    from varfm.runner import Runner
    from varfm.session import Session

    spent = {"start": 0.0, "network": 0.0}
    outputs, blocks = Runner.outputs, Session._judged_blocks

    def timed_outputs(self: Runner, asked: Any) -> Any:
        started = time.thread_time()  # not that of the thread that reads ahead
        found = outputs(self, asked)
        spent["network"] += time.thread_time() - started
        return found

    def timed_blocks(self: Session) -> Any:
        spent["start"] = time.process_time()
        return blocks(self)

    Runner.outputs, Session._judged_blocks = timed_outputs, timed_blocks  # type: ignore[method-assign]
    assert run(arguments) == 0
    pipe.send(spent | {"all": time.process_time() - spent["start"]})


def write_vcf(path: Path, n: int) -> None:
    """Write alleles around the middle of the sequence."""
    name, length = contig()
    first = length // 2 - SPACING * n // 2
    with tempfile.TemporaryDirectory() as index, Genome(FASTA, Path(index)) as genome:
        bases = decode(genome.sequence(Haplotype(Window(name, first, first + SPACING * n), None)))
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for number in range(n):
        at = SPACING * number
        ref = bases[at : at + 2] if number % 10 == 9 else bases[at]
        alt = ref[0] if len(ref) == 2 else "CATG"["ACGT".index(ref)]
        lines.append(f"{name}\t{first + at + 1}\t.\t{ref}\t{alt}\t.\t.\t.")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main())
