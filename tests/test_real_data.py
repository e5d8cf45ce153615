"""Real variants through the whole command: nothing lost, nothing changed but INFO, every reader agrees."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cyvcf2 import VCF
from tools import require_tool

from varfm.cli.main import run

SHARED = Path(__file__).parents[2] / "shared" / "data"
KEYS = ("CTCF", "PU1")
N_ALLELES, N_SCORED = 29_144, 29_119


@pytest.fixture(scope="module", params=[1500, pytest.param(None, marks=pytest.mark.slow)], ids=["head", "whole"])
def outputs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with in.vcf.gz, and what `mini` makes of it as .vcf.gz, .tsv and .parquet."""
    source = SHARED / "kg_chr20_1mb.vcf.gz"
    if not source.is_file():
        pytest.skip(f"{source} is not there")
    folder = tmp_path_factory.mktemp("real")
    lines = gzip.decompress(source.read_bytes()).splitlines(keepends=True)
    n_header = sum(line.startswith(b"#") for line in lines)
    (folder / "in.vcf.gz").write_bytes(gzip.compress(b"".join(lines[: n_header + (request.param or len(lines))])))
    for name in ("out.vcf.gz", "out.tsv", "out.parquet"):
        arguments = ["score", folder / "in.vcf.gz", "-f", SHARED / "kg_chr20_1mb.fa", "-o", folder / name, "--quiet"]
        assert run([str(argument) for argument in arguments]) == 0
    return folder


def test_taking_our_keys_and_lines_away_gives_the_input_back(outputs: Path) -> None:
    before = gzip.decompress((outputs / "in.vcf.gz").read_bytes())
    lines = []
    for line in gzip.decompress((outputs / "out.vcf.gz").read_bytes()).splitlines(keepends=True):
        if line.startswith((b"##varfm_", b"##INFO=<ID=VARFM_")):
            continue
        fields = line.split(b"\t", 8)
        if not line.startswith(b"#"):
            ends_line = fields[7].endswith(b"\n")
            kept = [entry for entry in fields[7].rstrip(b"\n").split(b";") if not entry.startswith(b"VARFM_")]
            fields[7] = (b";".join(kept) or b".") + (b"\n" if ends_line else b"")
        lines.append(b"\t".join(fields))
    assert b"".join(lines) == before


def test_every_alt_has_a_status_and_all_readers_agree(outputs: Path) -> None:
    table = pd.read_csv(outputs / "out.tsv", sep="\t", na_values=".", keep_default_na=False, dtype={"id": str})
    parquet = pd.read_parquet(outputs / "out.parquet")
    rows = []
    for record in VCF(str(outputs / "out.vcf.gz")):
        words = record.INFO["VARFM_STATUS"].split(",")
        assert len(words) == len(record.ALT)
        for number, (alt, word) in enumerate(zip(record.ALT, words, strict=True)):
            values = [np.atleast_1d(record.INFO.get(f"VARFM_MINI_{key}", [None] * len(words)))[number] for key in KEYS]
            rows.append((record.POS, record.REF, alt, word, *values))
    vcf = pd.DataFrame(rows, columns=["pos", "ref", "alt", "status", *KEYS]).astype(dict.fromkeys(KEYS, "float64"))
    for frame in (table, parquet):
        assert (
            frame[["pos", "ref", "alt", "status"]].to_numpy().tolist()
            == vcf[["pos", "ref", "alt", "status"]].to_numpy().tolist()
        )
        for key in KEYS:
            np.testing.assert_allclose(vcf[key], frame[key], rtol=5.1e-6)  # 6 digits, and float32
    is_scored = vcf["status"].isin(["OK", "PADDED"])
    assert (vcf[list(KEYS)].notna().all(axis=1) == is_scored).all()
    if len(vcf) > 2000:
        assert (len(vcf), is_scored.sum()) == (N_ALLELES, N_SCORED)


def test_bcftools_and_vcf_validator_accept_the_output(outputs: Path) -> None:
    bcftools, validator = require_tool("bcftools"), require_tool("vcf-validator")
    output = str(outputs / "out.vcf.gz")
    counted = subprocess.run([bcftools, "index", "-n", output], check=True, capture_output=True, text=True)
    viewed = subprocess.run([bcftools, "view", "-H", output], check=True, capture_output=True, text=True)
    assert int(counted.stdout) == len(viewed.stdout.splitlines())
    subprocess.run([bcftools, "index", "-s", output], check=True, capture_output=True)
    said = [
        set(
            re.findall(
                r"^.+$", subprocess.run([validator, str(outputs / name)], capture_output=True, text=True).stderr, re.M
            )
        )
        for name in ("in.vcf.gz", "out.vcf.gz")
    ]
    assert not {line.replace("out.vcf.gz", "in.vcf.gz") for line in said[1]} - said[0]
