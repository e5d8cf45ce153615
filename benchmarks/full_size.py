"""Run a model at its published size, with random weights, through the command: wall time, CPU time and peak memory.

    python benchmarks/full_size.py deepsea beluga basset basenji basenji2 enformer sei expecto

One SNV, one MNV, one insertion and one deletion in the middle of the example sequence of 343 kb are scored into a VCF
and a Parquet table. The weights are written in the format in which the authors publish theirs: Torch7 (Basset), PyTorch
(DeepSEA, Beluga, Sei, ExPecto with xgboost's linear models), TensorFlow checkpoints (Basenji, Enformer) and Keras HDF5
(Basenji2). Sei needs 4 GB of disk for a while.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import sys
import tempfile
import time
from pathlib import Path

from varfm.genome import Genome, decode
from varfm.models import catalog
from varfm.windows import Haplotype, Window

ROOT = Path(__file__).parents[1]
FASTA = ROOT / "example_data" / "ntng1.fa.gz"
MODELS = (
    "deepsea", "beluga", "basset", "basenji", "basenji2", "basenji2-mouse", "enformer", "enformer-mouse", "sei",
    "expecto",
)  # fmt: skip


def main() -> int:
    """Run each model in its own process and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=MODELS, metavar="MODEL", help=", ".join(MODELS))
    parser.add_argument("--threads", type=int, default=2)
    parsed = parser.parse_args()
    print("model\twall_s\tcpu_s\tpeak_MB\texit\tstatuses")
    for name in parsed.models:
        with tempfile.TemporaryDirectory() as folder:
            print(name, *measured(name, Path(folder), parsed.threads), sep="\t", flush=True)
    return 0


def measured(name: str, folder: Path, threads: int) -> list[str]:
    """Write weights, run the command, and give what is printed."""
    checkpoint = catalog.get(name)
    weights = folder / "weights"
    weights.mkdir()
    # In a process of its own: what the writers take of memory is given back before the command runs.
    writer = multiprocessing.get_context("spawn").Process(target=write_weights, args=(name, weights))
    writer.start()
    writer.join()
    assert writer.exitcode == 0
    write_vcf(folder / "in.vcf")
    command = [sys.executable, "-m", "varfm", "score", str(folder / "in.vcf"), "-f", str(FASTA), "-m", name]
    command += ["--weights", str(weights), "--threads", str(threads), "--quiet", "--offline"]
    command += ["-o", str(folder / "out.vcf"), "--table", str(folder / "out.parquet")]
    if checkpoint.needs_genes:
        (folder / "genes.bed").write_text(f"{contig()[0]}\t170000\t175000\tGENE\t0\t+\n")
        command += ["--genes", str(folder / "genes.bed")]
    started = time.perf_counter()
    pid = os.posix_spawn(command[0], command, os.environ | {"VARFM_CACHE": str(folder / "cache")})
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - started
    lines = (folder / "out.vcf").read_text().splitlines() if status == 0 else []
    found = [line.split("VARFM_STATUS=")[1].split(";")[0] for line in lines if not line.startswith("#")]
    cpu = usage.ru_utime + usage.ru_stime
    return [
        f"{wall:.0f}",
        f"{cpu:.0f}",
        f"{usage.ru_maxrss / 1e3:.0f}",
        f"{os.waitstatus_to_exitcode(status)}",
        ",".join(found),
    ]


def write_weights(name: str, folder: Path) -> None:
    """Write everything that `--weights` wants, in the authors' format."""
    sys.path.insert(0, str(ROOT / "tests"))
    from full_size_files import write_upstream

    checkpoint = catalog.get(name)
    module = importlib.import_module(f"varfm.models.{checkpoint.module}")
    write_upstream(checkpoint, module.config_of(checkpoint), folder)


def contig() -> tuple[str, int]:
    """Give name and length of the example's longest contig."""
    with tempfile.TemporaryDirectory() as index, Genome(FASTA, Path(index)) as genome:
        return max(genome.contigs.items(), key=lambda item: item[1])


def write_vcf(path: Path) -> None:
    """Write an SNV, an MNV, an insertion and a deletion, 100 bases apart."""
    name, length = contig()
    with tempfile.TemporaryDirectory() as index, Genome(FASTA, Path(index)) as genome:
        start = length // 2
        bases = decode(genome.sequence(Haplotype(Window(name, start, start + 400), None)))
    changes = [(1, 1, ""), (2, 2, ""), (1, 0, "GATTACA"), (5, 0, "")]
    lines = ["##fileformat=VCFv4.2", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for number, (n_ref, n_changed, added) in enumerate(changes):
        at = 100 * number
        other = "".join("CATG"["ACGT".index(base)] for base in bases[at : at + n_changed])
        alt = other or bases[at] + added
        lines.append(f"{name}\t{start + at + 1}\t.\t{bases[at : at + n_ref]}\t{alt}\t.\t.\t.")
    path.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
