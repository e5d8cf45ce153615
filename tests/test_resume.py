"""Runs that are stopped and go on: the same bytes as a run that nobody stopped, or a refusal that says why."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from shard_files import PACKINGS, assert_equal, merge, packed

from varfm.cli.main import _stop_on_sigterm, run
from varfm.cli.progress import Progress
from varfm.io.atomic import AtomicFile
from varfm.session import Session

EXAMPLE = Path(__file__).parents[1] / "example_data"
FASTA = EXAMPLE / "ntng1.fa.gz"
FORMATS = (".vcf", ".vcf.gz", ".bcf", ".tsv", ".tsv.gz", ".parquet")
N_RECORDS = sum(not line.startswith(b"#") for line in (EXAMPLE / "ntng1.vcf").read_bytes().splitlines())


class Stop(BaseException):
    """The process ends here."""


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short blocks, each a chunk."""
    monkeypatch.setenv("VARFM_TESTING", "1")
    monkeypatch.setenv("VARFM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "config.toml").touch()
    monkeypatch.setattr("varfm.session.BLOCK_RECORDS", 16)
    monkeypatch.setattr("varfm.resume._CHUNK_SECONDS", 0.0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return packed((EXAMPLE / "ntng1.vcf").read_bytes(), "plain", tmp_path, indexed=False)


def arguments(source: Path, output: Path, *options: object) -> list[str]:
    models = () if "-m" in options else ("-m", "null")
    basic = ["score", source, "-f", FASTA, *models, "-o", output, "--threads", 1, "--device", "cpu"]
    return [str(item) for item in [*basic, *options]]


def resume(source: Path, output: Path, *options: object) -> int:
    return run(arguments(source, output, "--resume", *options))


def stop_at(monkeypatch: pytest.MonkeyPatch, block: int, how: Callable[[], None]) -> None:
    """Call `how` in the middle of a block, counted from 1, of each run."""
    advance, seen = Progress.advance, [0]

    def counted(self: Progress, n_alleles: int, fraction: float | None) -> None:
        seen[0] += 1
        if seen[0] == block:
            how()
        advance(self, n_alleles, fraction)

    monkeypatch.setattr(Progress, "advance", counted)


def die() -> None:
    raise Stop


def stopped(source: Path, output: Path, block: int, *options: object) -> None:
    """Run until a block is scored, and die before its chunk is on the disk."""
    with pytest.MonkeyPatch.context() as monkeypatch, pytest.raises(Stop):
        stop_at(monkeypatch, block, die)
        resume(source, output, *options)


def scored_blocks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give a list that grows with the records of each block that is scored."""
    blocks: list[int] = []
    score = Session.__iter__

    def noted(self: Session) -> Iterator[object]:
        for item in score(self):
            blocks.append(item.block.n_records)
            yield item

    monkeypatch.setattr(Session, "__iter__", noted)
    return blocks


def left(folder: Path, output: Path) -> set[str]:
    """Name what lies beside the output, other than the output's own files."""
    known = ("in.", "config", "cache", "whole", "text.")
    return {p.name for p in folder.iterdir() if not p.name.startswith(known)} - {output.name}


def writing(path: Path) -> tuple[int, int]:
    """Tell one writing of a file from another; to read it changes nothing here, but the time of access."""
    about = path.stat()
    return about.st_ino, about.st_mtime_ns


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_run_that_was_stopped_again_and_again_writes_the_same(
    tmp_path: Path, source: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(arguments(source, tmp_path / f"whole{suffix}")) == 0
    output = tmp_path / f"out{suffix}"
    for block in (2, 1, 3):
        stopped(source, output, block)
        assert not output.exists()
        assert left(tmp_path, output) == {f"out{suffix}.varfm-partial"}
    blocks = scored_blocks(monkeypatch)
    assert resume(source, output) == 0
    assert sum(blocks) == N_RECORDS - 3 * 16  # one, none and two chunks were finished
    assert_equal(output, tmp_path / f"whole{suffix}")
    if suffix == ".parquet":
        assert output.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
    assert not Path(f"{output}.varfm-partial").exists()


@pytest.mark.parametrize("packing", PACKINGS[1:])
def test_any_packing_of_the_input_can_be_gone_on_with(tmp_path: Path, packing: str) -> None:
    source = packed((EXAMPLE / "ntng1.vcf").read_bytes(), packing, tmp_path, indexed=False)
    assert run(arguments(source, tmp_path / "whole.vcf")) == 0
    stopped(source, tmp_path / "out.vcf", 3)
    assert resume(source, tmp_path / "out.vcf") == 0
    assert_equal(tmp_path / "out.vcf", tmp_path / "whole.vcf")


def test_networks_and_tables_of_several_models_go_on(tmp_path: Path, source: Path) -> None:
    """With a table in another folder, and two models of which one has a network."""
    (tmp_path / "in.tables").mkdir()
    source.write_bytes(b"".join(source.read_bytes().splitlines(keepends=True)[:100]))
    options = ("-m", "mini", "-m", "null", "--table")
    assert run(arguments(source, tmp_path / "whole.vcf.gz", *options, tmp_path / "whole.parquet")) == 0
    target = tmp_path / "in.tables" / "t.parquet"
    stopped(source, tmp_path / "out.vcf.gz", 4, *options, target)
    assert resume(source, tmp_path / "out.vcf.gz", *options, target) == 0
    assert_equal(tmp_path / "out.vcf.gz", tmp_path / "whole.vcf.gz")
    for model in ("mini", "null"):
        found = (tmp_path / "in.tables" / f"t.{model}.parquet").read_bytes()
        assert found == (tmp_path / f"whole.{model}.parquet").read_bytes()
    assert {path.name for path in (tmp_path / "in.tables").iterdir()} == {"t.mini.parquet", "t.null.parquet"}


def test_shards_and_regions_go_on(tmp_path: Path, source: Path) -> None:
    options = ("--regions", "NTNG1:1-20000,MKNK1")
    assert run(arguments(source, tmp_path / "whole.vcf", *options)) == 0
    shards = []
    for number in (1, 2):
        shards.append(tmp_path / f"s{number}.vcf")
        stopped(source, shards[-1], 2, *options, "--shard", f"{number}/2")
        assert resume(source, shards[-1], *options, "--shard", f"{number}/2") == 0
    assert merge(shards, tmp_path / "out.vcf") == 0
    assert_equal(tmp_path / "out.vcf", tmp_path / "whole.vcf")


def test_a_shard_without_records_joins_those_with_some(tmp_path: Path) -> None:
    # One block of BGZF, so that all records lie in the first shard.
    source = packed((EXAMPLE / "ntng1.vcf").read_bytes(), "bgzf", tmp_path, indexed=False)
    shards = [tmp_path / f"s{part}.vcf" for part in (1, 2)]
    for part, shard in enumerate(shards, 1):
        assert resume(source, shard, "-m", "mini", "--shard", f"{part}/2") == 0
    assert merge(shards, tmp_path / "merged.vcf") == 0
    assert run(arguments(source, tmp_path / "whole.vcf", "-m", "mini")) == 0
    assert_equal(tmp_path / "merged.vcf", tmp_path / "whole.vcf")


def test_an_input_without_records_is_finished_at_once(tmp_path: Path, source: Path) -> None:
    source.write_bytes(b"".join(line for line in source.read_bytes().splitlines(True) if line.startswith(b"#")))
    assert run(arguments(source, tmp_path / "whole.vcf.gz")) == 0
    assert resume(source, tmp_path / "out.vcf.gz") == 0
    assert_equal(tmp_path / "out.vcf.gz", tmp_path / "whole.vcf.gz")


def test_counts_and_manifest_are_those_of_all_runs_together(
    tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert resume(source, tmp_path / "whole.vcf") == 0
    last = re.sub(r"\. \d+ s.*", "", capfd.readouterr().err.splitlines()[-1])
    stopped(source, tmp_path / "out.vcf", 4)
    capfd.readouterr()
    assert resume(source, tmp_path / "out.vcf") == 0
    lines = capfd.readouterr().err.splitlines()
    assert lines[-1].startswith(last)
    assert re.fullmatch(r"\d+ of them were finished before\.", lines[-2])
    found, whole = (json.loads((tmp_path / f"{name}.vcf.varfm.json").read_text()) for name in ("out", "whole"))
    assert found["counts"] == whole["counts"]
    assert found["inputs"] == whole["inputs"]
    assert found["outputs"][0]["sha256"] == whole["outputs"][0]["sha256"]
    assert resume(source, tmp_path / "out.vcf", "--strict") == 1


# Signals.


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_lets_the_chunk_in_hand_be_finished(
    tmp_path: Path,
    source: Path,
    number: signal.Signals,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("varfm.resume._CHUNK_SECONDS", 1e9)
    before = signal.signal(signal.SIGTERM, _stop_on_sigterm)
    try:
        with pytest.MonkeyPatch.context() as stopping:
            stop_at(stopping, 3, lambda: os.kill(os.getpid(), number))
            assert resume(source, tmp_path / "out.vcf") == status
        assert signal.getsignal(signal.SIGTERM) is _stop_on_sigterm
    finally:
        signal.signal(signal.SIGTERM, before)
    kept = f"is kept in {tmp_path}/out.vcf.varfm-partial: the same command goes on from there."
    assert kept in capfd.readouterr().err
    assert not (tmp_path / "out.vcf").exists()
    blocks = scored_blocks(monkeypatch)
    assert resume(source, tmp_path / "out.vcf") == 0
    assert sum(blocks) == N_RECORDS - 3 * 16
    assert run(arguments(source, tmp_path / "whole.vcf")) == 0
    assert_equal(tmp_path / "out.vcf", tmp_path / "whole.vcf")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_without_resume_tells_that_nothing_was_kept(
    tmp_path: Path,
    source: Path,
    number: signal.Signals,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = signal.signal(signal.SIGTERM, _stop_on_sigterm)
    try:
        stop_at(monkeypatch, 3, lambda: os.kill(os.getpid(), number))
        assert run(arguments(source, tmp_path / "out.vcf")) == status
    finally:
        signal.signal(signal.SIGTERM, before)
    said = capfd.readouterr().err
    assert "nothing was left under the output's name. A run with --resume keeps what is finished." in said
    assert "goes on" not in said


def test_a_second_signal_is_obeyed_at_once(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the run went on")

    stop_at(monkeypatch, 3, twice)
    assert resume(source, tmp_path / "out.vcf") == 130


def test_a_signal_in_the_last_chunk_is_obeyed_and_nothing_is_scored_again(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_blocks = -(-N_RECORDS // 16)
    with pytest.MonkeyPatch.context() as stopping:
        stop_at(stopping, n_blocks, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert resume(source, tmp_path / "out.vcf") == 130
    blocks = scored_blocks(monkeypatch)
    assert resume(source, tmp_path / "out.vcf") == 0
    assert blocks == []


# What lies there already.


def test_a_finished_run_is_not_done_again(tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.vcf.gz"
    assert resume(source, output) == 0
    before = writing(output)
    Path(f"{output}.varfm-partial").mkdir()  # stopped before it could be removed
    capfd.readouterr()
    assert resume(source, output) == 0
    lines = capfd.readouterr().err.splitlines()
    assert lines[-2] == "The output was finished before; nothing was left to score."
    assert " alleles: " in lines[-1]
    assert writing(output) == before
    assert not Path(f"{output}.varfm-partial").exists()


@pytest.mark.parametrize("suffix", [".vcf.gz", ".bcf"])
def test_a_lost_index_of_a_finished_run_is_made_again(
    tmp_path: Path, source: Path, suffix: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / f"out{suffix}"
    assert resume(source, output) == 0
    before = writing(output)
    index = next(path for path in tmp_path.iterdir() if path.name in (f"out{suffix}.tbi", f"out{suffix}.csi"))
    whole, names = index.read_bytes(), sorted(tmp_path.iterdir())
    blocks = scored_blocks(monkeypatch)
    for damage in (index.unlink, lambda: index.write_bytes(whole[:-10])):
        damage()
        caplog.clear()
        assert resume(source, output) == 0
        assert f"{index} is missing, or another one; it is made again." in caplog.text
        assert index.read_bytes() == whole and writing(output) == before and sorted(tmp_path.iterdir()) == names
    caplog.clear()
    assert resume(source, output) == 0
    assert "made again" not in caplog.text and blocks == []


def test_a_run_without_resume_counts_as_finished_too(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(arguments(source, tmp_path / "out.vcf")) == 0
    blocks = scored_blocks(monkeypatch)
    assert resume(source, tmp_path / "out.vcf") == 0
    assert blocks == []


def test_an_output_without_manifest_is_replaced_only_with_force(
    tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.vcf"
    output.write_text("mine")
    assert resume(source, output) == 2
    assert "no manifest says how it was made" in capfd.readouterr().err
    assert output.read_text() == "mine"
    assert not Path(f"{output}.varfm-partial").exists()
    assert resume(source, output, "--force") == 0
    assert output.read_text() != "mine"


def test_an_output_that_was_changed_is_replaced_only_with_force(
    tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.vcf"
    assert resume(source, output) == 0
    whole = output.read_bytes()
    output.write_bytes(whole[:-1])
    assert resume(source, output) == 2
    assert "is not what its manifest says" in capfd.readouterr().err
    assert resume(source, output, "--force") == 0
    assert output.read_bytes() == whole


def test_the_output_that_is_missing_or_changed_is_named(
    tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output, table = tmp_path / "out.vcf", tmp_path / "out.tsv"
    assert resume(source, output, "--table", str(table)) == 0
    written = output.read_bytes()
    output.write_bytes(written[:-1])
    assert resume(source, output, "--table", str(table)) == 2
    assert "out.vcf is not what its manifest says" in capfd.readouterr().err
    output.write_bytes(written)
    table.unlink()
    assert resume(source, output, "--table", str(table)) == 2
    assert f"out.vcf exists without {table}." in capfd.readouterr().err


def change_input(source: Path, fasta: Path) -> None:
    source.write_bytes(source.read_bytes().replace(b"\t.\t", b"\t1\t", 1))


def change_reference(source: Path, fasta: Path) -> None:
    about = fasta.stat()
    text = fasta.read_bytes()
    fasta.write_bytes(text[:-3] + b"N" + text[-2:])
    os.utime(fasta, ns=(about.st_atime_ns, about.st_mtime_ns))


def nothing(source: Path, fasta: Path) -> None:
    """Change neither file."""


@pytest.mark.parametrize("is_finished", [False, True], ids=["unfinished", "finished"])
@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (nothing, ("--threads", "2"), "threads was 1, now 2"),
        (nothing, ("--batch-size", "3"), "batch_rows of null was 16, now 3"),
        (nothing, ("--overwrite",), "overwrite was none, now yes"),
        (nothing, ("--regions", "NTNG1"), "regions was none, now NTNG1"),
        (nothing, ("--shard", "1/2"), "shard was none, now 1/2"),
        (nothing, ("-m", "mini"), "models was null, now null, mini"),
        (change_input, (), "vcf was sha256"),
        (change_reference, (), "fasta was s"),
    ],
)
def test_another_run_is_refused_by_what_differs(
    tmp_path: Path,
    source: Path,
    change: Callable[[Path, Path], None],
    options: tuple[str, ...],
    words: str,
    is_finished: bool,
    capfd: pytest.CaptureFixture[str],
) -> None:
    fasta, output = tmp_path / "in.fa", tmp_path / "out.vcf"
    fasta.write_bytes(gzip.decompress(FASTA.read_bytes()))
    basic = ("-f", fasta, "-m", "null")
    if is_finished:
        assert resume(source, output, *basic) == 0
    else:
        stopped(source, output, 3, *basic)
    change(source, fasta)
    capfd.readouterr()
    assert resume(source, output, *basic, *options) == 2
    assert words in capfd.readouterr().err
    assert resume(source, output, *basic, *options, "--force") == 0
    assert run(arguments(source, tmp_path / "whole.vcf", *basic, *options)) == 0
    assert_equal(output, tmp_path / "whole.vcf")


def test_an_unfinished_run_that_says_nothing_of_itself_is_begun_anew(tmp_path: Path, source: Path) -> None:
    stopped(source, tmp_path / "out.vcf", 3)
    (tmp_path / "out.vcf.varfm-partial" / "run.json").write_text("{")
    assert resume(source, tmp_path / "out.vcf") == 0
    assert run(arguments(source, tmp_path / "whole.vcf")) == 0
    assert_equal(tmp_path / "out.vcf", tmp_path / "whole.vcf")


@pytest.mark.parametrize("n_named", [0, 1, 2])
def test_a_run_that_died_while_it_gave_names_goes_on(
    tmp_path: Path, source: Path, n_named: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The VCF, its table and the manifest get their names one after the other."""
    output, table = tmp_path / "out.vcf.gz", tmp_path / "out.tsv"
    publish, named = AtomicFile.publish, [0]

    def counted(self: AtomicFile) -> None:
        if not self.path.endswith(".json") or self.path.endswith("gz.varfm.json"):
            if named[0] == n_named:
                raise Stop
            named[0] += 1
        publish(self)

    with pytest.MonkeyPatch.context() as stopping, pytest.raises(Stop):
        stopping.setattr(AtomicFile, "publish", counted)
        resume(source, output, "--table", table)
    assert output.exists() + table.exists() == n_named
    blocks = scored_blocks(monkeypatch)
    assert resume(source, output, "--table", table) == 0
    assert blocks == []
    assert run(arguments(source, tmp_path / "whole.vcf.gz", "--table", tmp_path / "whole.tsv")) == 0
    assert_equal(output, tmp_path / "whole.vcf.gz")
    assert_equal(table, tmp_path / "whole.tsv")
    assert left(tmp_path, output) == {"out.tsv", "out.vcf.gz.tbi", "out.vcf.gz.varfm.json"}


def test_a_full_disk_is_status_6_and_the_run_goes_on_when_there_is_room(
    tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write = os.pwrite

    def fail(file: int, data: memoryview, place: int) -> int:
        if place > 3000:
            raise OSError(28, "No space left on device")
        return write(file, data, place)

    with pytest.MonkeyPatch.context() as full:
        full.setattr(os, "pwrite", fail)
        assert resume(source, tmp_path / "out.vcf") == 6
    said = capfd.readouterr().err
    assert "No space left on device. Nothing incomplete was left under an output's name: make room" in said
    assert f"What is finished is kept in {tmp_path}/out.vcf.varfm-partial: the same command goes on from there." in said
    assert not (tmp_path / "out.vcf").exists()
    assert resume(source, tmp_path / "out.vcf") == 0
    assert run(arguments(source, tmp_path / "whole.vcf")) == 0
    assert_equal(tmp_path / "out.vcf", tmp_path / "whole.vcf")


def test_streams_cannot_be_resumed(tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "-", "-f", str(FASTA), "-m", "null", "--resume", "-o", str(tmp_path / "o.vcf")]) == 2
    assert "a stream can be read only once" in capfd.readouterr().err
    assert run(["score", str(source), "-f", str(FASTA), "-m", "null", "--resume"]) == 2
    assert run(["classes", str(source), "-f", str(FASTA), "--resume"]) == 2
    assert capfd.readouterr().err.count("stdout cannot be gone on with") == 2


def test_a_manifest_of_another_name_is_not_replaced(tmp_path: Path, source: Path) -> None:
    (tmp_path / "m.json").write_text("mine")
    assert resume(source, tmp_path / "out.vcf", "--manifest", tmp_path / "m.json") == 2
    assert (tmp_path / "m.json").read_text() == "mine"
    assert not (tmp_path / "out.vcf.varfm-partial").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ("--model", "null", "--kill", "184", "--term", "18", "--int", "18"),
        ("--model", "mini", "--kill", "16", "--term", "2", "--int", "2", "--repeat", "10"),
        ("--model", "null", "--kill", "0", "--term", "0", "--int", "0", "--levels", "20"),
    ],
    ids=["null", "mini", "full disk"],
)
def test_real_processes_stopped_at_random_moments(options: tuple[str, ...]) -> None:
    if "--levels" in options and (os.geteuid() != 0 or sys.platform != "linux"):
        pytest.skip("only root of Linux may mount a small disk")
    script = Path(__file__).parents[1] / "benchmarks" / "kill.py"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script, *options], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
