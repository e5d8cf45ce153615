"""Measure the largest memory of whole runs, runs that can be resumed, shards and merge, at growing numbers of records.

    python benchmarks/scale.py
    python benchmarks/scale.py --records 1000000 10000000 --shards 4

Makes the sorted BGZF files of `io.py`, scores them with the `null` model, and compares the outputs byte for byte.
"""

from __future__ import annotations

import argparse
import filecmp
import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any


def bench_io() -> ModuleType:
    """Load `io.py`, whose name is that of a module of Python."""
    spec = importlib.util.spec_from_file_location("bench_io", Path(__file__).with_name("io.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_io"] = module
    spec.loader.exec_module(module)
    return module


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 if outputs differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--shards", type=int, default=4, help="number of shards; default: 4")
    parser.add_argument("--folder", type=Path, help="where the files go; default: a temporary folder")
    options = parser.parse_args(arguments)
    io = bench_io()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="varfm-scale-") as name:
        contigs = io.write_fasta(Path(name) / "ref.fa")
        print(f"{'records':>11}  {'run':<14}{'wall s':>9}{'CPU s':>9}{'peak MiB':>10}", flush=True)
        equal = [_measure(io, Path(name), contigs, n, options.shards) for n in options.records]
    return 0 if all(equal) else 1


def _measure(io: ModuleType, folder: Path, contigs: dict[str, bytes], n_records: int, n_shards: int) -> bool:
    source = folder / "in.vcf.gz"
    io.write_vcf(source, contigs, n_records, 0)
    whole, resumed, merged = (folder / f"{name}.vcf.gz" for name in ("whole", "resumed", "merged"))
    _show(n_records, "whole", [io.run(io.score_command(source, whole))])
    _show(n_records, "--resume", [io.run([*io.score_command(source, resumed), "--resume"])])
    shards = [folder / f"shard{number}.vcf.gz" for number in range(1, n_shards + 1)]
    commands = [
        [*io.score_command(source, path), "--shard", f"{number}/{n_shards}"] for number, path in enumerate(shards, 1)
    ]
    _show(n_records, f"{n_shards} shards", [io.run(command) for command in commands])
    merge = [sys.executable, "-m", "varfm", "merge", *map(str, shards), "-o", str(merged)]
    _show(n_records, "merge", [io.run(merge)])
    equal = all(filecmp.cmp(whole, other, shallow=False) for other in (resumed, merged))
    print(f"{n_records:>11,}  {'equal bytes' if equal else 'THE OUTPUTS DIFFER'}", flush=True)
    for path in (source, *folder.glob("*.vcf.gz*")):
        path.unlink(missing_ok=True)
    return equal


def _show(n_records: int, name: str, costs: list[Any]) -> None:
    """Print the sum of the times, and the largest memory, of some processes."""
    wall, cpu, peak = sum(c.wall for c in costs), sum(c.cpu for c in costs), max(c.peak for c in costs)
    print(f"{n_records:>11,}  {name:<14}{wall:>9.1f}{cpu:>9.1f}{peak:>10.0f}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
