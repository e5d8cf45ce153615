"""No output may take the place of an input or of another output, whatever its name and --force: status 2 at once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from varfm.apart import check_apart, files_of
from varfm.cli.main import run
from varfm.errors import OptionError

EXAMPLE = Path(__file__).parents[1] / "example_data"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, also the current one, with an input of every kind under a name that an output could have."""
    for name in [name for name in os.environ if name.startswith("VARFM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VARFM_CONFIG", os.devnull)
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VARFM_TESTING", "1")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    shutil.copy(EXAMPLE / "ntng1.vcf", "in.vcf")
    shutil.copy(EXAMPLE / "ntng1.fa.gz", "ref.fa.gz")
    shutil.copy(EXAMPLE / "ntng1.gff3", "genes.gff3")
    for name in ("map.tsv", "regions.tsv", "config.json", "ref.fa.gz.fai", "ref.fa.gz.gzi", "in.vcf.csi"):
        Path(name).write_text("NTNG1\t1\n")
    for name in ("weights", "adapter"):
        Path(name).mkdir()
        Path(name, f"{name}.json").write_text("{}")
    Path("linked.vcf").symlink_to("in.vcf")
    os.link("in.vcf", "same.vcf")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


SCORE = ("score", "in.vcf", "-f", "ref.fa.gz", "-m", "null", "--force")
READING = ("--genes", "genes.gff3", "--contig-map", "map.tsv", "--regions", "regions.tsv")
MODEL = ("--weights", "weights", "--adapter", "adapter", "--model-config", "config.json")


@pytest.mark.parametrize(
    "outputs",
    [
        ("-o", "in.vcf"),
        ("-o", "./in.vcf"),
        ("-o", "linked.vcf"),
        ("-o", "same.vcf"),
        ("-o", "in.vcf", "--resume"),
        ("-o", "out.vcf", "--table", "map.tsv"),
        ("-o", "regions.tsv"),
        *(
            ("-o", "out.vcf", "--manifest", name)
            for name in ("in.vcf", "in.vcf.csi", "ref.fa.gz", "ref.fa.gz.fai", "ref.fa.gz.gzi", "genes.gff3")
        ),
        *(
            ("-o", "out.vcf", "--manifest", name)
            for name in ("config.json", "weights/weights.json", "adapter/adapter.json")
        ),
    ],
    ids=" ".join,
)
def test_an_output_that_is_an_input_is_refused_before_anything(
    folder: Path, outputs: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    assert run([*SCORE, *READING, *MODEL, *outputs]) == 2
    assert "which is read. Give the output another name." in capfd.readouterr().err
    assert contents(folder) == before


@pytest.mark.parametrize(
    "line",
    ["score in.vcf >> in.vcf", "score - -o in.vcf --force < in.vcf", "score - < in.vcf >> in.vcf"],
)
def test_a_stream_that_the_shell_leads_into_an_input_is_refused(folder: Path, line: str) -> None:
    before = contents(folder)
    words = f'exec "{sys.executable}" -m varfm {line.replace("score", "score -f ref.fa.gz -m null", 1)}'
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True)
    assert done.returncode == 2 and "which is read. Give the output another name." in done.stderr, done
    assert contents(folder) == before


def test_the_reference_that_the_vcf_names_is_not_replaced(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    text = Path("in.vcf").read_text()
    Path("in.vcf").write_text(text.replace("\n", "\n##reference=ref.fa.gz\n", 1))
    for name in ("ref.fa.gz.fai", "ref.fa.gz.gzi"):
        Path(name).unlink()
    before = contents(folder)
    assert run(["score", "in.vcf", "-m", "null", "--force", "-o", "out.vcf", "--manifest", "ref.fa.gz"]) == 2
    assert "ref.fa.gz is an input, which is read." in capfd.readouterr().err
    assert contents(folder) == before


def test_what_an_earlier_run_wrote_among_weights_may_be_replaced() -> None:
    names = ("out.vcf", "out.vcf.varfm.json", "out.tsv", "out_mqc.json")
    for name in names:
        Path("weights", name).touch()
    check_apart([Path("weights", name) for name in names], files_of(Path("weights")))


@pytest.mark.parametrize(
    "outputs",
    [
        ("-o", "out.vcf", "--manifest", "out_mqc.json", "--multiqc", "out_mqc.json"),
        ("-o", "out.vcf", "--multiqc", "out_mqc.json", "--manifest", "./out_mqc.json", "--resume"),
        ("-o", "out.vcf.gz", "--manifest", "out.vcf.gz.tbi"),
        ("-o", "out.vcf", "--manifest", "out.vcf"),
    ],
    ids=" ".join,
)
def test_two_outputs_of_one_name_are_refused_before_anything(
    folder: Path, outputs: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    assert run([*SCORE, *outputs]) == 2
    assert "is another output's name. Give it a name of its own." in capfd.readouterr().err
    assert contents(folder) == before


@pytest.mark.parametrize(
    "outputs", [("-o", "map.tsv"), ("-o", "out.tsv", "--svg", "linked.svg")], ids=["table", "picture"]
)
def test_ism_replaces_no_input(folder: Path, outputs: tuple[str, ...]) -> None:
    Path("linked.svg").symlink_to("genes.gff3")
    before = contents(folder)
    options = ("-f", "ref.fa.gz", "-m", "null", "--contig-map", "map.tsv", "--genes", "genes.gff3", "--force")
    assert run(["ism", "NTNG1:5321-5330", *options, *outputs]) == 2
    assert contents(folder) == before


def test_merge_replaces_none_of_its_shards(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        tables = ("--table", f"s{number}.tsv")
        assert run([*SCORE, "--shard", f"{number}/2", "-o", f"s{number}.vcf", *tables, "--quiet"]) == 0
    before = contents(folder)
    for outputs in (("s1.vcf",), ("out.vcf", "--table", "s2.tsv"), ("out.vcf", "--manifest", "s2.vcf.varfm.json")):
        assert run(["merge", "s1.vcf", "s2.vcf", "--force", "-o", *outputs]) == 2
        assert "which is read" in capfd.readouterr().err
    assert contents(folder) == before


def test_convert_does_not_replace_its_source(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("basset.safetensors").write_bytes(b"weights")
    Path("linked.safetensors").symlink_to("basset.safetensors")
    for target in ("basset.safetensors", "linked.safetensors"):
        assert run(["models", "convert", "basset", "basset.safetensors", target, "--force"]) == 2
        assert "which is read" in capfd.readouterr().err
    assert Path("basset.safetensors").read_bytes() == b"weights"


def test_files_that_are_not_there_are_told_apart_by_where_they_lie(folder: Path) -> None:
    Path("other").symlink_to(folder)
    check_apart([Path("a"), Path("b")], [Path("c")])
    with pytest.raises(OptionError, match="other/a is another output's name"):
        check_apart([Path("a"), Path("other/a")], [])
    with pytest.raises(OptionError, match="other/c is the input c, which is read"):
        check_apart([Path("other/c")], [Path("c")])
