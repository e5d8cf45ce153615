"""Shards scored and joined, and the comparison of the whole with a run without shards."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pysam
import pysam.bcftools
from tools import require_tool

from varfm.cli.main import run
from varfm.io.deflate import compress_blocks
from varfm.io.inflate import BGZF_EOF

PACKINGS = ("plain", "bgzf", "gzip", "bcf")


def packed(text: bytes, packing: str, folder: Path, *, indexed: bool) -> Path:
    """Write a VCF in one of `PACKINGS`; with an index beside it, which is that of other data where it can be."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / {"plain": "in.vcf", "bgzf": "in.vcf.gz", "gzip": "in.vcf.gz", "bcf": "in.bcf"}[packing]
    if packing == "bcf":
        (folder / "text.vcf").write_bytes(text)
        bcftools = require_tool("bcftools")
        subprocess.run([bcftools, "view", "--no-version", "-Ob", "-o", path, folder / "text.vcf"], check=True)
    elif packing == "bgzf":  # in blocks so small that there are some for every shard
        pieces = (text[start : start + 9000] for start in range(0, len(text), 9000))
        path.write_bytes(b"".join(map(compress_blocks, pieces)) + BGZF_EOF)
    else:
        path.write_bytes(gzip.compress(text) if packing == "gzip" else text)
    if indexed and packing == "bgzf":
        pysam.tabix_index(str(path), preset="vcf", force=True)
    elif indexed and packing == "bcf":
        pysam.bcftools.index(str(path))
    elif indexed:
        Path(f"{path}.tbi").write_bytes(b"no index")
    return path


def score(source: Path, output: Path, *options: object) -> None:
    """Run `varfm score`, or `varfm classes` if `options` name weights."""
    command = "classes" if "--weights" in options else "score"
    arguments = [command, source, *options, "--output", output, "--quiet", "--threads", 1, "--device", "cpu"]
    assert run([str(argument) for argument in arguments]) == 0


def score_shards(source: Path, total: int, suffix: str, folder: Path, *options: object) -> list[Path]:
    """Score every shard; `{n}` in an option is the shard's number."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"s{number}{suffix}" for number in range(1, total + 1)]
    for number, path in enumerate(paths, 1):
        numbered = [option.format(n=number) if isinstance(option, str) else option for option in options]
        score(source, path, *numbered, "--shard", f"{number}/{total}")
    return paths


def merge(shards: Sequence[Path], output: Path, *options: object) -> int:
    """Run `varfm merge` on shards in an order that is not theirs, and give its exit status."""
    shuffled = [*shards[1::2], *shards[::2]]
    return run([str(argument) for argument in ["merge", *shuffled, "-o", output, "--quiet", *options]])


def assert_equal(found: Path, expected: Path) -> None:
    """Compare in the sense of the contract: bytes, or for BCF what bcftools prints, or for Parquet all rows."""
    if expected.suffix == ".bcf":
        assert printed(found) == printed(expected)
    elif expected.suffix == ".parquet":
        pd.testing.assert_frame_equal(pd.read_parquet(found), pd.read_parquet(expected), check_exact=True)
    else:
        assert found.read_bytes() == expected.read_bytes()
    for suffix in (".tbi", ".csi"):
        assert Path(f"{found}{suffix}").exists() == Path(f"{expected}{suffix}").exists()


def printed(path: Path) -> bytes:
    """Give a VCF as `bcftools view` prints it."""
    command = [require_tool("bcftools"), "view", "--no-version", str(path)]
    return subprocess.run(command, capture_output=True, check=True).stdout
