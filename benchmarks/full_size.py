"""Run a model at its published size, with random weights, through the command: wall time, CPU time and peak memory.

    python benchmarks/full_size.py deepsea beluga basset basenji basenji2 enformer sei expecto

One SNV, one MNV, one insertion and one deletion in the middle of the example sequence of 343 kb are scored into a VCF
and a Parquet table. The weights are written as `varfm models download` keeps them, ExPecto's linear models as their
authors publish them. Sei needs 4 GB of disk for a while.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from varfm.checkpoints import Checkpoint
from varfm.converted import VERSION
from varfm.genome import Genome, decode
from varfm.models import catalog
from varfm.models.loading import described
from varfm.models.sei_classes import CLASSES
from varfm.readers.safetensors import write_safetensors
from varfm.windows import Haplotype, Window

ROOT = Path(__file__).parents[1]
FASTA = ROOT / "example_data" / "ntng1.fa.gz"
MODELS = ("deepsea", "beluga", "basset", "basenji", "basenji2", "enformer", "sei", "expecto")


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
    write_weights(checkpoint, weights)
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


def write_weights(checkpoint: Checkpoint, folder: Path) -> None:
    """Write everything that `--weights` wants."""
    module = importlib.import_module(f"varfm.models.{checkpoint.module}")
    config = module.config_of(checkpoint)
    with torch.device("meta"):
        state = module.network_of(config).state_dict()
    about = {"format": "varfm", "model": checkpoint.name, "config": json.dumps(described(config))}
    about["conversion"] = str(VERSION)
    write_safetensors(folder / "random.safetensors", Drawn(state), about)
    table = folder / checkpoint.tracks_file
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(TABLES[checkpoint.tracks_format](checkpoint.n_outputs))
    if checkpoint.name == "sei":
        np.save(folder / "projvec_targets.npy", np.random.default_rng(1).normal(size=(61, config.n_tracks)))
        np.save(folder / "histone_inds.npy", np.arange(0, config.n_tracks, 2))
        (folder / "seqclass.names").write_text("".join(f"{item.label} {item.name}\n" for item in CLASSES))
    if checkpoint.name == "expecto":
        write_linear_models(folder, checkpoint.n_outputs, config.n_tracks)


class Drawn(Mapping[str, NDArray[Any]]):
    """Random arrays, made when they are asked for: those of Sei take 3.6 GB."""

    def __init__(self, state: Mapping[str, torch.Tensor]) -> None:
        self._state = state

    def __getitem__(self, key: str) -> NDArray[Any]:
        shape = tuple(self._state[key].shape)
        if key.endswith(("num_batches_tracked", "gelu_form")):
            return np.zeros(shape, np.int64 if key.endswith("tracked") else np.float32)
        draw = np.random.default_rng(len(key))
        if "var" in key.rpartition(".")[2]:
            return draw.uniform(0.5, 1.5, shape).astype(np.float32)
        spread = np.float32(np.sqrt(1 / max(1, np.prod(shape[1:])))) if len(shape) > 1 else np.float32(0.1)
        return draw.standard_normal(shape, np.float32) * spread

    def __iter__(self) -> Iterator[str]:
        return iter(self._state)

    def __len__(self) -> int:
        return len(self._state)


def write_linear_models(folder: Path, n_models: int, n_features: int) -> None:
    """Write ExPecto's models and their list."""
    sys.path.insert(0, str(ROOT / "tests"))
    from writers import write_xgboost_linear

    (folder / "models").mkdir()
    draw = np.random.default_rng(2)
    for number in range(n_models):
        weights = draw.normal(0, 1e-4, 10 * (n_features + 1)).astype(np.float32)
        write_xgboost_linear(folder / "models" / f"{number}.save", weights, 0.5, 2.0)


def _coverage(n: int) -> str:
    rows = (f"{i}\t0\tID{i}\t.\t32\t2\tmean\t{('DNASE', 'CHIP', 'CAGE')[i % 3]}:cell {i}\n" for i in range(n))
    return "index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription\n" + "".join(rows)


def _beluga(n: int) -> str:
    rows = (f"{i + 1}\tcell {i}\tCTCF\tNone\tTF\tENCODE\tpeaks\n" for i in range(n))
    return "\tCell type\tAssay\tTreatment\tAssay type\tSource\t\n" + "".join(rows)


TABLES: dict[str, Callable[[int], str]] = {
    "basenji": _coverage,
    "basenji2018": lambda n: "".join(f"ID{i}\tfile\tDNASE:cell {i}\n" for i in range(n)),
    "basset": lambda n: "".join(f"cell {i}\tpeaks\n" for i in range(n)),
    "beluga": _beluga,
    "deepsea": lambda n: "".join(f"cell {i}|CTCF|None\n" for i in range(n)),
    "sei": lambda n: "".join(f"cell {i} | CTCF | ENCODE\n" for i in range(n)),
    "expecto": lambda n: "ModelName\tTissue\n" + "".join(f"./models/{i}.save\tTissue {i}\n" for i in range(n)),
}

if __name__ == "__main__":
    raise SystemExit(main())
