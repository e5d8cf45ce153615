"""Inputs made to act on a terminal, a spreadsheet or the memory: they stay text, and stay small."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zlib
from pathlib import Path

import pandas as pd
import pytest
from conftest import Varfm
from vcf_bytes import GOOD, HEAD, bgzf, record, vcf

from varfm.errors import InputError
from varfm.io import lines
from varfm.io.inflate import READ_BYTES
from varfm.io.streams import open_stream
from varfm.io.terminal import TerminalFile

TITLE = "\x1b]0;owned\x07"
HOSTILE = [TITLE, "\x1b[2J", "\x9b31m", "\u202e", "\x07", "\x08", "\x7f"]


def hostile_rows(text: str) -> bytes:
    return vcf(record(1, "A", "C", f"X={text}", name=text), record(1, "A", "C", contig=f"chr1{text}"))


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_of_an_input_acts_on_the_terminal_as_a_message(varfm: Varfm, text: str) -> None:
    """Every call checks that stderr is printable; here the bad text is in what each message quotes."""
    bad_name = varfm.file(f"{text}.vcf", GOOD)
    results = [
        varfm.score(varfm.file("in.vcf", hostile_rows(text)), "-o", varfm.out / "a.tsv"),
        varfm.score(varfm.file("in.vcf", hostile_rows(text).replace(b"\t1\t", b"\tx\t")), "-o", varfm.out / "b.vcf"),
        varfm.score(varfm.file("in.vcf", vcf(*[record(1, "A", "C", contig=text)] * 5)), "-o", varfm.out / "c.vcf"),
        varfm.score(varfm.file("in.vcf", HEAD + text.encode() + b"\n"), "-o", varfm.out / "d.vcf"),
        varfm.score(varfm.file("in.vcf", vcf(record(1, "G", "C", name=text))), "--on-ref-mismatch", "error"),
        varfm.score(varfm.file("in.vcf", hostile_rows(text)), "-o", varfm.out / "e.bcf"),
        varfm.score(bad_name, "-o", varfm.out / "f.vcf"),
        varfm.score(bad_name, "-o", varfm.out / "f.vcf"),
        varfm.score(f"{text}.none.vcf"),
        varfm.score(bad_name, bad_name),
        varfm.score(bad_name, f"--{text}"),
        varfm.score(bad_name, "--tss", text),
        varfm.score(bad_name, "--max-ref-mismatch", text),
        varfm.score(bad_name, "-m", text),
        varfm.score(bad_name, "-r", text),
        varfm.score(bad_name, "-f", varfm.file(f"{text}.fa", f">a\nA\n{text}\n".encode())),
        varfm.score(bad_name, "-o", varfm.out / f"{text}.xlsx"),
        varfm.score(bad_name, "--contig-map", varfm.file("map.tsv", text.encode())),
        varfm.score(bad_name, "-m", "mpra-dragonn", "--weights", varfm.file(f"{text}.h5", text.encode())),
        varfm.run(text),
        varfm.run("tracks", text),
        varfm.run("tracks", "mini", text),
        varfm.run("models", "info", text),
        varfm.run("models", "path", text),
    ]
    assert {result.status for result in results} >= {0, 2, 3, 4}
    for result in results:
        assert text not in result.err
        assert result.err.replace("\n", "").isprintable() or "╭" in result.err or "│" in result.err


@pytest.mark.parametrize("command", [("doctor",), ("models", "verify", "xpresso-human"), ("models", "list")])
def test_hostile_paths_are_shown_escaped(
    varfm: Varfm, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("VARFM_FASTA", TITLE)
    monkeypatch.setenv("VARFM_CACHE", str(varfm.folder / TITLE))
    result = varfm.run(*command)
    assert b"\x1b" not in result.out
    assert command == ("models", "list") or b"\\x1b]0;owned\\x07" in result.out


def test_terminal_as_output_shows_what_acts_escaped_and_keeps_the_rest() -> None:
    shown = io.BytesIO()
    text = "chr1\t1\té\u202e\r\n\x1b[31m\x9b\rend\n".encode()
    assert TerminalFile(shown).write(text + b"\xff") == len(text) + 1
    assert shown.getvalue().decode() == "chr1\t1\té\\u202e\r\n\\x1b[31m\\x9b\\rend\n\\udcff"


@pytest.mark.parametrize(("output", "times"), [("vcf", 3), ("tsv", 2)])
def test_hostile_records_are_escaped_on_a_terminal_and_kept_in_a_pipe(varfm: Varfm, output: str, times: int) -> None:
    pty = pytest.importorskip("pty")
    rows = varfm.file("in.vcf", hostile_rows(TITLE))
    main = "import sys; from varfm.cli.main import run; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", main, "score", rows, "-f", varfm.fasta, "-m", "null"]
    if output == "tsv":
        command = [sys.executable, "-c", TABLE, rows, varfm.fasta]
    piped = subprocess.run(command, capture_output=True, check=True).stdout
    assert piped.count(TITLE.encode()) == times
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # how Linux says that the other end was closed
            pass
        os.close(ours)
        assert process.wait() == 0
    assert TITLE.encode() not in shown
    assert shown.count(b"\\x1b]0;owned\\x07") == times


TABLE = """
import sys
from varfm.output import OutputOptions, write_scores
from varfm.session import Session, SessionOptions
with Session(SessionOptions(sys.argv[1], sys.argv[2], ("null",))) as session:
    write_scores(session, OutputOptions(table_on_stdout=True), lambda n, fraction: None)
"""


@pytest.mark.parametrize("start", "=+-@")
def test_formulas_in_text_are_escaped_on_demand_and_numbers_never(varfm: Varfm, start: str) -> None:
    contig, name = f"{start}A1", f"{start}cmd|x"
    rows = varfm.file("in.vcf", vcf(record(1, "A", "C", name=name), record(1, "A", "C", contig=contig)))
    for suffix in ("tsv", "parquet"):
        for options in ((), ("--escape-formulas",)):
            place = varfm.out / f"{len(options)}.{suffix}"
            assert varfm.score(rows, "-o", place, *options).status == 0
    plain, safe = ((varfm.out / f"{n}.tsv").read_text().splitlines() for n in (0, 1))
    assert [line.split("\t")[2] for line in plain[1:]] == [name, "."]
    assert [line.split("\t")[:3] for line in safe[1:]] == [["chr1", "1", f"'{name}"], [f"'{contig}", "1", "."]]
    assert [line.split("\t")[3:] for line in safe] == [line.split("\t")[3:] for line in plain]
    frame = pd.read_parquet(varfm.out / "1.parquet")
    assert frame["id"].tolist() == [f"'{name}", "."] and frame["contig"].tolist() == ["chr1", f"'{contig}"]


def test_negative_scores_are_not_touched(varfm: Varfm) -> None:
    rows = varfm.file("in.vcf", GOOD)
    for number, options in enumerate([(), ("--escape-formulas",)]):
        assert varfm.score(rows, "-m", "mini", "-o", varfm.out / f"{number}.tsv", *options).status == 0
    assert "\t-" in (varfm.out / "0.tsv").read_text()
    assert (varfm.out / "0.tsv").read_bytes() == (varfm.out / "1.tsv").read_bytes()


def gzip_bomb(start: bytes, n_mebibytes: int) -> bytes:
    """Give `start` and that many MiB of the letter A without a line end, about a thousandth as long."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = b"A" * (1 << 20)
    return b"".join([packer.compress(start), *(packer.compress(piece) for _ in range(n_mebibytes)), packer.flush()])


@pytest.mark.parametrize("option", ["--genes", "--contig-map", "-r"])
def test_endless_line_in_a_small_file_is_refused(varfm: Varfm, monkeypatch: pytest.MonkeyPatch, option: str) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 2 << 20)
    bomb = varfm.file("bomb.bed.gz", gzip_bomb(b"chr1\t", 6))
    assert "a line is longer than 2 MiB" in varfm.refused(3, varfm.file("in.vcf", GOOD), option, bomb, "-m", "null")


def test_line_at_the_limit_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 3 << 20)
    (tmp_path / "a").write_bytes(b"A" * (3 << 20) + b"\nB")
    assert [len(line) for line in lines.read_lines(tmp_path / "a")] == [3 << 20, 1]
    (tmp_path / "a").write_bytes(b"A" * (5 << 20) + b"\nB")
    with pytest.raises(InputError, match="longer than 3 MiB"):
        list(lines.read_lines(tmp_path / "a"))


def test_bgzf_bomb_is_unpacked_in_pieces(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(bgzf(b"A" * (64 << 20), 65_000))
    assert (tmp_path / "bomb.gz").stat().st_size < READ_BYTES
    with open_stream(str(tmp_path / "bomb.gz")) as stream:
        sizes = [len(chunk) for chunk in stream]
    assert sum(sizes) == 64 << 20 and max(sizes) <= 16 << 20


BOUNDED = """
import resource, sys
from varfm.cli.main import run
*options, good, bad = sys.argv[1:]
run([*options, good])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
status = run([*options, bad])
print(status, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("packed", ["gzip", "bgzf"])
def test_bomb_of_gigabytes_takes_no_more_memory_than_a_line_may_have(varfm: Varfm, packed: str) -> None:
    start = HEAD + b"chr1\t1\t"
    if packed == "gzip":
        bomb = gzip_bomb(start, 4096)
    else:
        bomb = bgzf(start + b"A" * (700 << 20), 65_000)
    good, bad = varfm.file("in.vcf", GOOD), varfm.file("bomb.vcf.gz", bomb)
    command = [sys.executable, "-c", BOUNDED, "score", "-f", varfm.fasta, "-m", "null", "-o", varfm.out / "o.vcf"]
    done = subprocess.run([*command, "--force", good, bad], capture_output=True, text=True, check=True)
    assert "longer than 256 MiB" in done.stderr
    status, more = done.stdout.split()
    assert status == "3" and int(more) < 1200
