"""Measure the way of the data alone: `varfm score -m null` beside pysam.VariantFile, which only copies the same file.

    python benchmarks/io.py
    python benchmarks/io.py --records 100000 1000000 10000000 --rounds 1
    python benchmarks/io.py --records 20000 --samples 100

Makes a FASTA and sorted VCFs whose REF agrees with it: 93 % single bases, 5 % indels, 2 % with two ALTs, the INFO
entries of 1000 Genomes phase 3. Both run in processes of their own, in turn; the figures are medians. A header without
records is run, and taken off for the `net` figures; all else counts: start, read, check REF, align, score, write,
read back and count, index, digests.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pysam

N_CONTIGS = 4
CONTIG_BASES = 4_000_000
CHUNK_RECORDS = 10_000
SEED = 20_240_501
ROOT = Path(__file__).resolve().parents[1]

COPY = """
import sys, pysam
with pysam.VariantFile(sys.argv[1]) as source:
    with pysam.VariantFile(sys.argv[2], sys.argv[3], header=source.header) as target:
        for record in source:
            target.write(record)
"""

HEADER = """##fileformat=VCFv4.2
##FILTER=<ID=PASS,Description="All filters passed">
##INFO=<ID=AC,Number=A,Type=Integer,Description="Allele count">
##INFO=<ID=AF,Number=A,Type=Float,Description="Allele frequency">
##INFO=<ID=AN,Number=1,Type=Integer,Description="Number of alleles">
##INFO=<ID=DP,Number=1,Type=Integer,Description="Depth">
##INFO=<ID=NS,Number=1,Type=Integer,Description="Samples with data">
##INFO=<ID=DB,Number=0,Type=Flag,Description="In dbSNP">
##INFO=<ID=EAS_AF,Number=A,Type=Float,Description="Allele frequency in East Asia">
##INFO=<ID=AMR_AF,Number=A,Type=Float,Description="Allele frequency in the Americas">
##INFO=<ID=AFR_AF,Number=A,Type=Float,Description="Allele frequency in Africa">
##INFO=<ID=EUR_AF,Number=A,Type=Float,Description="Allele frequency in Europe">
##INFO=<ID=SAS_AF,Number=A,Type=Float,Description="Allele frequency in South Asia">
##INFO=<ID=AA,Number=1,Type=String,Description="Ancestral allele">
##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">
##FORMAT=<ID=DP,Number=1,Type=Integer,Description="Depth">
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took.

    Attributes:
        wall: Seconds.
        cpu: Seconds of user and system, all threads.
        peak: Largest resident memory, MiB.
    """

    wall: float
    cpu: float
    peak: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the data, run, print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[100_000, 1_000_000], help="numbers of records")
    parser.add_argument("--samples", type=int, default=0, help="sample columns; default: none")
    parser.add_argument(
        "--info",
        choices=["1000g", "short"],
        default="1000g",
        help="INFO entries: those of 1000 Genomes phase 3 (default), or six short ones",
    )
    parser.add_argument("--rounds", type=int, default=2, help="runs of each program; default: 2, in turn")
    parser.add_argument("--formats", nargs="+", choices=["vcf.gz", "vcf"], default=["vcf.gz", "vcf"])
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary folder")
    parser.add_argument("--only-varfm", action="store_true", help="leave pysam out, where memory is the question")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="varfm-io-") as folder:
        _report(Path(folder), options)
    return 0


def _report(folder: Path, options: argparse.Namespace) -> None:
    programs: dict[str, Callable[[Path, Path], list[str]]] = {"varfm": score_command, "pysam": copy_command}
    if options.only_varfm:
        del programs["pysam"]
    contigs = write_fasta(folder / "ref.fa")
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f} before the first run", flush=True)
    print(_TITLES, flush=True)
    for suffix in options.formats:
        idle: dict[str, Cost] = {}
        for n_records in (0, *options.records):
            source = folder / f"in.{suffix}"
            write_vcf(source, contigs, n_records, options.samples, options.info)
            costs = measure(programs, source, options.rounds)
            idle = idle or costs
            _print_costs(suffix, n_records, source, costs, idle)
            source.unlink()
    print(f"load {os.getloadavg()[0]:.1f} after the last run")


_TITLES = (
    f"{'format':<8}{'records':>11}{'MB':>8}  {'program':<8}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}"
    f"{'records/s':>11}{'/s/core':>10}{'net /s':>10}{'net /s/core':>13}"
)


def _print_costs(suffix: str, n_records: int, source: Path, costs: dict[str, Cost], idle: dict[str, Cost]) -> None:
    megabytes = source.stat().st_size / 1e6
    rates = {name: _rates(n_records, cost, idle[name]) for name, cost in costs.items()}
    for name, cost in costs.items():
        row = f"{suffix:<8}{n_records:>11,}{megabytes:>8.1f}  {name:<8}"
        row += f"{cost.wall:>9.2f}{cost.cpu:>9.2f}{cost.peak:>10.0f}"
        wall, cpu, net_wall, net_cpu = (f"{rate:,.0f}" if n_records else "" for rate in rates[name])
        print(f"{row}{wall:>11}{cpu:>10}{net_wall:>10}{net_cpu:>13}", flush=True)
    if n_records and len(costs) == 2:
        wall, cpu, net_wall, net_cpu = (f"{a / b:.2f}x" for a, b in zip(rates["varfm"], rates["pysam"], strict=True))
        print(f"{'':<29}{'ratio':<36}{wall:>11}{cpu:>10}{net_wall:>10}{net_cpu:>13}", flush=True)


def _rates(n_records: int, cost: Cost, idle: Cost) -> tuple[float, float, float, float]:
    """Give records per second of wall and of CPU, both also without what a run on no records takes."""
    shortest = 1e-3
    return (
        n_records / cost.wall,
        n_records / cost.cpu,
        n_records / max(cost.wall - idle.wall, shortest),
        n_records / max(cost.cpu - idle.cpu, shortest),
    )


def measure(programs: dict[str, Callable[[Path, Path], list[str]]], source: Path, n_rounds: int) -> dict[str, Cost]:
    """Run every program in turn, `n_rounds` times, and give medians; the largest peak."""
    seen: dict[str, list[Cost]] = {name: [] for name in programs}
    for _ in range(n_rounds):
        for name, command in programs.items():
            target = source.with_name(f"out.{source.name.partition('.')[2]}")
            seen[name].append(run(command(source, target)))
            for path in source.parent.glob("out.*"):
                path.unlink()
    return {
        name: Cost(
            statistics.median(cost.wall for cost in costs),
            statistics.median(cost.cpu for cost in costs),
            max(cost.peak for cost in costs),
        )
        for name, costs in seen.items()
    }


def score_command(source: Path, target: Path) -> list[str]:
    """Annotate `source` with the null model."""
    fasta = str(source.with_name("ref.fa"))
    return [sys.executable, "-m", "varfm", "score", str(source), "-f", fasta, "-m", "null", "-o", str(target)]


def copy_command(source: Path, target: Path) -> list[str]:
    """Read every record of `source` with pysam and write it."""
    return [sys.executable, "-c", COPY, str(source), str(target), "wz" if target.suffix == ".gz" else "w"]


def run(command: list[str]) -> Cost:
    """Run a process to its end.

    Raises:
        RuntimeError: If it fails.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "VARFM_TESTING": "1", "PYTHONPATH": os.pathsep.join(paths)}
    started = time.perf_counter()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, env=environment, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)}: {errors.read().decode(errors='replace')}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 2**20)


def write_fasta(path: Path) -> dict[str, bytes]:
    """Write random contigs with their index, and give their letters by name."""
    random = np.random.default_rng(SEED)
    contigs = {
        f"chr{number}": np.frombuffer(b"ACGT", np.uint8)[random.integers(0, 4, CONTIG_BASES)].tobytes()
        for number in range(1, N_CONTIGS + 1)
    }
    width = 80
    with path.open("wb") as file:
        for name, bases in contigs.items():
            file.write(b">" + name.encode() + b"\n")
            for start in range(0, len(bases), 100_000 * width):
                piece = bases[start : start + 100_000 * width]
                file.writelines(piece[k : k + width] + b"\n" for k in range(0, len(piece), width))
    pysam.faidx(str(path))
    return contigs


def write_vcf(path: Path, contigs: dict[str, bytes], n_records: int, n_samples: int, info: str = "1000g") -> None:
    """Write `n_records` sorted records, spread evenly over the contigs; equal arguments give equal bytes."""
    names = [f"S{number}" for number in range(1, n_samples + 1)]
    columns = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", *(["FORMAT", *names] if names else [])]
    lengths = "".join(f"##contig=<ID={name},length={len(bases)}>\n" for name, bases in contigs.items())
    with pysam.BGZFile(str(path), "wb", None) if path.suffix == ".gz" else path.open("wb") as file:
        file.write((HEADER + lengths + "\t".join(columns) + "\n").encode())
        for number, (name, bases) in enumerate(contigs.items()):
            share = n_records * (number + 1) // len(contigs) - n_records * number // len(contigs)
            random = np.random.default_rng([SEED, number])
            for places in _chunks_of_places(random, share, len(bases)):
                file.write(b"".join(_records(random, name.encode(), bases, places, n_samples, info)))


def _chunks_of_places(
    random: np.random.Generator, n_records: int, length: int
) -> Iterator[np.ndarray[tuple[int], np.dtype[np.int64]]]:
    """Give 0-based places in order, one in each of `n_records` equal steps, away from the ends."""
    margin = 100
    step = (length - 2 * margin) / max(n_records, 1)
    for first in range(0, n_records, CHUNK_RECORDS):
        numbers = np.arange(first, min(first + CHUNK_RECORDS, n_records))
        yield (margin + (numbers + random.random(len(numbers))) * step).astype(np.int64)


def _records(
    random: np.random.Generator,
    name: bytes,
    bases: bytes,
    places: np.ndarray[tuple[int], np.dtype[np.int64]],
    n_samples: int,
    info: str,
) -> Iterator[bytes]:
    n = len(places)
    kinds, known = random.random(n).tolist(), random.choice([True, False], n, p=[0.6, 0.4]).tolist()
    sizes, turns = random.geometric(0.35, n).tolist(), random.integers(1, 4, n).tolist()
    counts, depths = random.geometric(0.02, n).tolist(), random.integers(8_000, 25_000, n).tolist()
    for place, kind, size, turn, count, depth, is_known in zip(
        places.tolist(), kinds, sizes, turns, counts, depths, known, strict=True
    ):
        ref, alt = _alleles(bases, place, kind, size, turn)
        n_alts = alt.count(b",") + 1
        yield b"%s\t%d\t%s\t%s\t%s\t100\tPASS\tAC=%s;AF=%s;AN=5008;DP=%d;NS=2504%s%s%s\n" % (
            name,
            place + 1,
            b"rs%d" % (place * 37 + count) if is_known else b".",
            ref,
            alt,
            b",".join([b"%d" % count] * n_alts),
            b",".join([b"%.6f" % (count / 5008)] * n_alts),
            depth,
            b";DB" if is_known else b"",
            _populations(count, n_alts, base=bases[place : place + 1]) if info == "1000g" else b"",
            _samples(n_samples, place, depth),
        )


def _alleles(bases: bytes, place: int, kind: float, size: int, turn: int) -> tuple[bytes, bytes]:
    """Give REF and ALT: 93 % single bases, 2 % two of them, 2.5 % insertions, as many deletions."""
    base = bases[place : place + 1]
    others = b"ACGT".replace(base, b"")
    if kind < 0.93:
        return base, others[turn - 1 : turn]
    if kind < 0.95:
        return base, b"%c,%c" % (others[turn - 1], others[turn % 3])
    if kind < 0.975:
        return base, base + bases[place + 50 : place + 50 + size]
    return bases[place : place + 1 + size], base


def _populations(count: int, n_alts: int, base: bytes) -> bytes:
    """Give the frequencies per continent and the ancestral allele, as 1000 Genomes phase 3 writes them."""
    entries = []
    for number, name in enumerate((b"EAS_AF", b"AMR_AF", b"AFR_AF", b"EUR_AF", b"SAS_AF")):
        value = b"%.4g" % ((count * (number + 2) % 1000) / 1000)
        entries.append(name + b"=" + b",".join([value] * n_alts))
    return b";" + b";".join(entries) + b";AA=" + base + b"|||"


def _samples(n_samples: int, place: int, depth: int) -> bytes:
    if not n_samples:
        return b""
    genotypes = (b"0|0", b"0|0", b"0|0", b"0|1", b"0|0", b"1|0", b"0|0", b"1|1")
    cells = [b"%s:%d" % (genotypes[(place * 7 + k * k) % 8], 10 + (depth + k * 13) % 60) for k in range(n_samples)]
    return b"\tGT:DP\t" + b"\t".join(cells)


if __name__ == "__main__":
    sys.exit(main())
