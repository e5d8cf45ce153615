"""The benchmark scripts run; what they measure is not judged here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pysam
import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py"))


@pytest.fixture(scope="module")
def bench_io() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_io", FOLDER / "io.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_io"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_explains_itself(script: str) -> None:
    run = subprocess.run([sys.executable, FOLDER / script, "--help"], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"usage: {script}")
    assert f"python benchmarks/{script}" in run.stdout


def test_readme_has_a_section_for_every_script() -> None:
    readme = (FOLDER / "README.md").read_text()
    assert [script for script in SCRIPTS if f"\n## `{script}`" not in readme] == []


def test_io_prints_both_programs_and_their_ratio(
    bench_io: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--records", "300", "--samples", "2", "--rounds", "1", "--formats", "vcf", "--folder", str(tmp_path)]
    assert bench_io.main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:4] == ["format", "records", "MB", "program"]
    rows = [line.split() for line in lines[2:-1]]
    assert [(row[1], row[3]) for row in rows[:4]] == [
        ("0", "varfm"),
        ("0", "pysam"),
        ("300", "varfm"),
        ("300", "pysam"),
    ]
    assert rows[4][0] == "ratio" and all(cell.endswith("x") for cell in rows[4][1:])
    assert list(tmp_path.iterdir()) == []


def test_records_agree_with_the_fasta_and_are_sorted(bench_io: ModuleType, tmp_path: Path) -> None:
    contigs = bench_io.write_fasta(tmp_path / "ref.fa")
    bench_io.write_vcf(tmp_path / "in.vcf.gz", contigs, 1000, 0)
    with pysam.VariantFile(str(tmp_path / "in.vcf.gz")) as file, pysam.FastaFile(str(tmp_path / "ref.fa")) as fasta:
        records = [(r.contig, r.start, r.ref or "", r.alts or ()) for r in file]
        assert len(records) == 1000
        assert all(fasta.fetch(contig, start, start + len(ref)) == ref for contig, start, ref, _ in records)
        assert all(alts and ref not in alts for _, _, ref, alts in records)
        places = [record[:2] for record in records]
    assert places == sorted(places)
    assert {name for name, _ in places} == {"chr1", "chr2", "chr3", "chr4"}
    assert 20 < sum(len(alts[0]) != len(ref) for _, _, ref, alts in records) < 80


def test_equal_arguments_give_equal_files(bench_io: ModuleType, tmp_path: Path) -> None:
    contigs = {f"chr{number}": b"ACGTTGCA" * 500 for number in (1, 2)}
    for name in ("a.vcf", "b.vcf"):
        bench_io.write_vcf(tmp_path / name, contigs, 50, 3)
    assert (tmp_path / "a.vcf").read_bytes() == (tmp_path / "b.vcf").read_bytes()


def test_a_program_that_fails_stops_the_benchmark(bench_io: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="no such luck"):
        bench_io.run([sys.executable, "-c", "raise SystemExit('no such luck')"])
