"""Outputs of every format and every way to fail to write one: whole and right, or not there, with the right status."""

from __future__ import annotations

import csv
import gzip
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cyvcf2
import pandas
import pyarrow.parquet
import pysam
import pytest
from conftest import PlainUser, Varfm, message_of
from vcf_bytes import GOOD, HEAD, info_values, names_in, record, vcf, without_annotation

ROWS = vcf(
    record(1, "A", "C"),
    record(2, "C", "G,<DEL>,T"),
    record(99, "G", "."),
    record(500, "T", "TGG"),
    record(1, "A", "C", contig="chrNO"),
)
STATUS = [["OK"], ["OK", "SYMBOLIC", "OK"], ["NO_ALT"], ["OK"], ["NO_CONTIG"]]
# 0-based starts modulo 97; an insertion lies before base 500.
SCORES = [[0.0], [1.0, None, 1.0], [None], [500 % 97], [None]]
DECLARED = ROWS.replace(b"##contig=<ID=chr1,length=1000>", b"##contig=<ID=chr1,length=1000>\n##contig=<ID=chrNO>")


@pytest.fixture
def rows(varfm: Varfm) -> Path:
    return varfm.file("in.vcf", DECLARED)


def as_lists(values: list[float | None]) -> list[list[float | None]]:
    """Group a column of seven alleles by record."""
    pieces, place = [], 0
    for words in STATUS:
        pieces.append(values[place : place + len(words)])
        place += len(words)
    return pieces


def finite(values: object) -> list[float | None]:
    return [None if value is None or value != value else float(value) for value in values]  # type: ignore[attr-defined]


# Every format, read by a reader that is not ours.


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz", ".bcf"])
def test_vcf_formats_are_read_alike_by_cyvcf2_and_pysam(varfm: Varfm, rows: Path, suffix: str) -> None:
    out = varfm.out / f"o{suffix}"
    result = varfm.score(rows, "-o", out)
    assert result.status == 0, result.err
    with pysam.VariantFile(str(out)) as reader:
        assert [list(row.info.get("VARFM_NULL_POSITION", [None])) for row in reader] == SCORES
    with pysam.VariantFile(str(out)) as reader:
        assert [list(row.info["VARFM_STATUS"]) for row in reader] == STATUS
    reader = cyvcf2.VCF(str(out))
    values = [row.INFO.get("VARFM_NULL_POSITION") for row in reader]
    reader.close()
    assert [list(v) if isinstance(v, tuple) else [v] for v in values] == SCORES


def test_text_formats_hold_the_same_bytes_and_indexes_are_made(varfm: Varfm) -> None:
    table = varfm.file("sorted.vcf", vcf(record(1, "A", "C"), record(2, "C", "G")))
    on_stdout = varfm.score(table).out
    for suffix in (".vcf", ".vcf.gz"):
        assert varfm.score(table, "-o", varfm.out / f"o{suffix}").status == 0
    assert (varfm.out / "o.vcf").read_bytes() == on_stdout
    assert gzip.decompress((varfm.out / "o.vcf.gz").read_bytes()) == on_stdout
    assert "o.vcf.gz.tbi" in names_in(varfm.out)
    with pysam.TabixFile(str(varfm.out / "o.vcf.gz")) as index:
        assert [line.split("\t")[1] for line in index.fetch("chr1", 1, 2)] == ["2"]


@pytest.mark.parametrize("as_table_option", [False, True])
def test_tables_hold_the_same_scores_in_every_format(varfm: Varfm, rows: Path, as_table_option: bool) -> None:
    for name in ("o.tsv", "o.tsv.gz", "o.parquet"):
        options = ("-o", varfm.out / f"beside-{name}.vcf", "--table", varfm.out / name)
        result = varfm.score(rows, *(options if as_table_option else ("-o", varfm.out / name)))
        assert result.status == 0, result.err
        if as_table_option:
            assert info_values((varfm.out / f"beside-{name}.vcf").read_bytes()) == STATUS
    lines = (varfm.out / "o.tsv").read_text()
    assert gzip.decompress((varfm.out / "o.tsv.gz").read_bytes()).decode() == lines
    parsed = list(csv.DictReader(lines.splitlines(), delimiter="\t"))
    assert list(parsed[0]) == ["contig", "pos", "id", "ref", "alt", "status", "position"]
    assert as_lists([None if row["position"] == "." else float(row["position"]) for row in parsed]) == SCORES
    assert [row["status"] for row in parsed] == [word for words in STATUS for word in words]
    frame = pandas.read_csv(varfm.out / "o.tsv", sep="\t", na_values=".", keep_default_na=False)
    assert as_lists(finite(frame["position"])) == SCORES
    table = pyarrow.parquet.read_table(varfm.out / "o.parquet")
    assert as_lists(finite(table["position"].to_pylist())) == SCORES
    assert as_lists(finite(pandas.read_parquet(varfm.out / "o.parquet")["position"])) == SCORES
    assert table["pos"].to_pylist() == frame["pos"].tolist() == [1, 2, 2, 2, 99, 500, 1]


def test_manifest_beside_the_output_counts_the_same(varfm: Varfm, rows: Path) -> None:
    assert varfm.score(rows, "-o", varfm.out / "o.vcf").status == 0
    manifest = json.loads((varfm.out / "o.vcf.varfm.json").read_bytes())
    assert manifest["counts"]["records"] == 5
    assert manifest["counts"]["alleles"] == 7
    assert manifest["counts"]["status"]["null"] == {"NO_ALT": 1, "NO_CONTIG": 1, "OK": 4, "SYMBOLIC": 1}


def test_equal_input_gives_equal_bytes_whatever_the_name_of_the_output(varfm: Varfm, rows: Path) -> None:
    for name in ("a.vcf.gz", "b.vcf.gz", "a.parquet", "b.parquet"):
        assert varfm.score(rows, "-o", varfm.out / name, "--batch-size", "1" if name[0] == "a" else "7").status == 0
    for suffix in (".vcf.gz", ".parquet"):
        assert (varfm.out / f"a{suffix}").read_bytes() == (varfm.out / f"b{suffix}").read_bytes()


def test_non_utf8_bytes_reach_every_format(varfm: Varfm) -> None:
    table = varfm.file("in.vcf", vcf(b"chr1\t1\trs\xff\tA\tC\t.\t.\tX=\xe9\n"))
    for name in ("o.vcf", "o.tsv", "o.parquet"):
        assert varfm.score(table, "-o", varfm.out / name).status == 0
    assert b"\trs\xff\t" in (varfm.out / "o.tsv").read_bytes()
    assert pyarrow.parquet.read_table(varfm.out / "o.parquet")["id"].to_pylist() == ["rs\ufffd"]


def test_header_only_input_gives_an_empty_table_and_vcf_of_every_format(varfm: Varfm) -> None:
    table = varfm.file("in.vcf", HEAD)
    for suffix in (".vcf", ".vcf.gz", ".bcf", ".tsv", ".tsv.gz", ".parquet"):
        result = varfm.score(table, "-o", varfm.out / f"o{suffix}")
        assert result.status == 0, result.err
    assert (varfm.out / "o.tsv").read_bytes() == b"contig\tpos\tid\tref\talt\tstatus\tposition\n"
    assert pyarrow.parquet.read_table(varfm.out / "o.parquet").num_rows == 0
    assert list(pysam.VariantFile(str(varfm.out / "o.bcf"))) == []


# Names.


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz", ".bcf", ".tsv", ".tsv.gz", ".parquet"])
def test_existing_file_is_not_touched_without_force(varfm: Varfm, rows: Path, suffix: str) -> None:
    out = varfm.out / f"o{suffix}"
    out.write_bytes(b"precious")
    result = varfm.score(rows, "-o", out)
    assert result.status == 2
    assert str(out) in message_of(result) and "--force" in message_of(result)
    assert names_in(varfm.out) == [out.name]
    assert out.read_bytes() == b"precious"
    assert varfm.score(rows, "-o", out, "--force").status == 0
    assert out.read_bytes() != b"precious"


def test_existing_table_and_manifest_are_not_touched_without_force(varfm: Varfm, rows: Path) -> None:
    precious = varfm.out / "precious.tsv"
    precious.write_bytes(b"precious")
    for option in ("--table", "--manifest"):
        result = varfm.score(rows, "-o", varfm.out / "o.vcf", option, precious)
        assert result.status == 2, (option, result.err)
        assert "precious.tsv" in message_of(result) and "--force" in message_of(result)
        assert (names_in(varfm.out), precious.read_bytes()) == (["precious.tsv"], b"precious")


def test_two_outputs_of_one_name_are_refused(varfm: Varfm, rows: Path) -> None:
    for options in (
        ("-o", varfm.out / "o.vcf", "--manifest", varfm.out / "o.vcf"),
        ("-o", varfm.out / "o.tsv", "--manifest", varfm.out / "o.tsv"),
        ("-o", varfm.out / "o.vcf", "--table", varfm.out / "t.tsv", "--manifest", varfm.out / "t.tsv"),
    ):
        result = varfm.score(rows, *options)
        assert result.status == 2, (options, result.err)
        assert names_in(varfm.out) == []


@pytest.mark.parametrize("name", ["o", "o.txt", "o.vcf.bgz", "o.VCF", "o.csv", "o.vcf.gz.tbi", "vcf", "o.bcf.gz"])
def test_unknown_suffix_is_a_usage_error_that_names_the_known_ones(varfm: Varfm, rows: Path, name: str) -> None:
    result = varfm.score(rows, "-o", varfm.out / name)
    assert result.status == 2
    assert name in message_of(result)
    assert all(suffix in message_of(result) for suffix in (".vcf.gz", ".bcf", ".tsv", ".parquet")), result.err
    assert names_in(varfm.out) == []


@pytest.mark.parametrize("option", ["-o", "--table", "--manifest"])
def test_missing_folder_is_a_usage_error_before_anything_is_written(varfm: Varfm, rows: Path, option: str) -> None:
    target = varfm.out / "no" / "o.tsv"
    result = varfm.score(rows, *(() if option == "-o" else ("-o", varfm.out / "o.vcf")), option, target)
    assert result.status == 2, result.err
    assert "does not exist" in message_of(result)
    assert names_in(varfm.out) == []


def test_folder_and_device_as_output_are_usage_errors(varfm: Varfm, rows: Path) -> None:
    (varfm.out / "o.vcf").mkdir()
    assert "is a folder" in message_of(varfm.score(rows, "-o", varfm.out / "o.vcf", "--force"))
    os.mkfifo(varfm.out / "pipe.vcf")
    assert "no regular file" in message_of(varfm.score(rows, "-o", varfm.out / "pipe.vcf", "--force"))


def test_table_of_no_table_suffix_or_beside_a_table_is_refused(varfm: Varfm, rows: Path) -> None:
    assert ".parquet" in varfm.refused(2, rows, "--table", varfm.out / "t.vcf")
    result = varfm.score(rows, "-o", varfm.out / "o.tsv", "--table", varfm.out / "t.tsv")
    assert (result.status, names_in(varfm.out)) == (2, [])


def test_output_over_its_own_input_is_refused(varfm: Varfm, rows: Path) -> None:
    for options in ((), ("--force",)):
        assert varfm.score(rows, "-o", rows, *options).status == 2
        assert rows.read_bytes() == DECLARED


def test_table_beside_stdout_leaves_stdout_alone(varfm: Varfm, rows: Path) -> None:
    result = varfm.score(rows, "--table", varfm.out / "t.tsv")
    assert (result.status, without_annotation(result.out)) == (0, DECLARED)
    assert names_in(varfm.out) == ["t.tsv"]


# What htslib would drop.


def test_bcf_with_undeclared_keys_is_refused_with_line_and_key(varfm: Varfm) -> None:
    table = varfm.file("in.vcf", vcf(record(1, "A", "C"), record(2, "C", "G", "NEW_KEY=3")))
    result = varfm.score(table, "-o", varfm.out / "o.bcf")
    assert result.status == 3
    message = message_of(result)
    assert "record 2 (chr1:2)" in message and "'NEW_KEY' is not declared" in message and ".vcf.gz" in message
    assert names_in(varfm.out) == []


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(b"chr1\t1\t.\tA\tC\t.\tq10\t.\n", id="undeclared filter"),
        pytest.param(b"chrNO\t1\t.\tA\tC\t.\t.\t.\n", id="undeclared contig"),
        pytest.param(b"chr1\t2147483648\t.\tA\tC\t.\t.\t.\n", id="POS beyond 2^31"),
        pytest.param(b"chr1\t1\t.\tA\tC\tabc\t.\t.\n", id="QUAL that is no number"),
        pytest.param(b"chr1\t1\t.\tA\tC\t.\t.\tX\xff=1\n", id="key that is not UTF-8"),
    ],
)
def test_bcf_that_would_lose_something_is_refused_or_keeps_it(varfm: Varfm, row: bytes) -> None:
    result = varfm.score(varfm.file("in.vcf", vcf(row)), "-o", varfm.out / "o.bcf")
    if result.status == 0:
        with pysam.VariantFile(str(varfm.out / "o.bcf")) as reader:
            [kept] = [str(read) for read in reader]
        assert kept.split("\t")[:7] == row.decode("utf-8", "replace").split("\t")[:7]
    else:
        assert result.status == 3
        assert "record 1 (" in message_of(result)
        assert names_in(varfm.out) == []


# Two models at once.


def test_two_models_give_two_sets_of_keys_and_a_table_each(varfm: Varfm) -> None:
    table = varfm.file("in.vcf", vcf(record(500, "T", "A"), record(501, "A", "*")))
    result = varfm.score(table, "-m", "null", "-m", "mini", "-o", varfm.out / "o.vcf", "--table", varfm.out / "t.tsv")
    assert result.status == 0, result.err
    annotated = (varfm.out / "o.vcf").read_bytes()
    assert without_annotation(annotated) == table.read_bytes()
    for key in (b"VARFM_STATUS", b"VARFM_NULL_STATUS", b"VARFM_MINI_STATUS"):
        assert info_values(annotated, key) == [["OK"], ["STAR"]]
    assert names_in(varfm.out) == ["o.vcf", "o.vcf.varfm.json", "t.mini.tsv", "t.null.tsv"]
    mini = list(csv.DictReader((varfm.out / "t.mini.tsv").read_text().splitlines(), delimiter="\t"))
    assert mini[0]["CTCF"] == info_values(annotated, b"VARFM_MINI_CTCF")[0][0]
    assert [line.split(":")[0] for line in result.err.splitlines()] == ["null", "mini"]


# A package that is not there.


def test_parquet_without_pyarrow_names_the_extra(varfm: Varfm, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = varfm.score(rows, "-o", varfm.out / "o.parquet")
    assert result.status == 4
    assert "pip install 'varfm[parquet]'" in message_of(result)
    assert names_in(varfm.out) == []


# Disks.


@pytest.fixture
def at_most_4096_bytes_a_file() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def random_rows(n_records: int) -> bytes:
    """Give rows that hardly compress."""
    return vcf(
        *[record(1 + 4 * (n * 7919 % 250), "A", "C", name=f"id{n * 2654435761 % 2**32:x}") for n in range(n_records)]
    )


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz", ".bcf", ".tsv", ".tsv.gz", ".parquet"])
def test_write_that_the_system_refuses_is_a_disk_error_and_leaves_nothing(
    varfm: Varfm, at_most_4096_bytes_a_file: None, suffix: str, request: pytest.FixtureRequest
) -> None:
    rows = varfm.folder / "in.vcf"
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    rows.write_bytes(random_rows(3000))
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    result = varfm.score(rows, "-o", varfm.out / f"o{suffix}")
    assert result.status == 6, result.err
    assert f"o{suffix}" in message_of(result)
    assert names_in(varfm.out) == []


@pytest.fixture
def small_disk(open_folder: Path) -> Iterator[Path]:
    disk = open_folder / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk]).returncode:
        pytest.skip("a file system cannot be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("suffix", [".vcf", ".vcf.gz", ".bcf", ".tsv", ".parquet"])
def test_full_disk_is_a_disk_error_and_leaves_nothing(varfm: Varfm, small_disk: Path, suffix: str) -> None:
    result = varfm.score(varfm.file("in.vcf", random_rows(20_000)), "-o", small_disk / f"o{suffix}")
    assert result.status == 6, result.err
    assert "No space left" in message_of(result)
    assert names_in(small_disk) == []


def test_full_disk_of_the_table_leaves_no_vcf_either(varfm: Varfm, small_disk: Path) -> None:
    rows = varfm.file("in.vcf", random_rows(20_000))
    result = varfm.score(rows, "-o", varfm.out / "o.vcf", "--table", small_disk / "t.tsv")
    assert (result.status, names_in(small_disk), names_in(varfm.out)) == (6, [], [])


def test_full_disk_of_the_vcf_leaves_no_table_either(varfm: Varfm, small_disk: Path) -> None:
    rows = varfm.file("in.vcf", random_rows(20_000))
    result = varfm.score(rows, "-o", small_disk / "o.vcf.gz", "--table", varfm.out / "t.tsv")
    assert (result.status, names_in(small_disk), names_in(varfm.out)) == (6, [], [])


def test_full_disk_of_the_manifest_leaves_no_output_either(varfm: Varfm, small_disk: Path, rows: Path) -> None:
    (small_disk / "filler").write_bytes(bytes(64 * 1024))
    result = varfm.score(rows, "-o", varfm.out / "o.vcf", "--manifest", small_disk / "m.json")
    assert (result.status, names_in(small_disk), names_in(varfm.out)) == (6, ["filler"], [])


def test_read_only_folder_is_a_disk_error_for_a_plain_user(
    varfm: Varfm, as_plain_user: PlainUser, open_folder: Path
) -> None:
    (open_folder / "in.vcf").write_bytes(GOOD)
    (open_folder / "ref.fa").write_bytes(varfm.fasta.read_bytes())
    locked = open_folder / "locked"
    locked.mkdir(mode=0o555)
    result = as_plain_user(
        "score", open_folder / "in.vcf", "-m", "null", "-f", open_folder / "ref.fa", "-o", locked / "o.vcf"
    )
    assert result.status == 6, result.err
    assert "cannot write in the folder" in message_of(result)
    assert names_in(locked) == []


# Ends from outside; each of these is a process of its own.


def start(*args: object, **settings: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "varfm", *map(str, args)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, **settings)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("n_records", [3, 100_000])
def test_reader_of_stdout_that_goes_away_ends_the_run_silently(varfm: Varfm, n_records: int) -> None:
    rows = varfm.file("in.vcf", random_rows(n_records))
    process = start("score", rows, "-m", "null", "-f", varfm.fasta, "--quiet", stdout=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    if n_records > 3:
        assert process.stdout.readline() == b"##fileformat=VCFv4.2\n"
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (141, b"")
    process.stderr.close()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_the_run_without_a_file(varfm: Varfm, number: signal.Signals, status: int) -> None:
    read, write = os.pipe()
    out = varfm.out / "o.vcf.gz"
    process = start("score", "-", "-m", "null", "-f", varfm.fasta, "-o", out, stdin=read)
    os.close(read)
    with open(write, "wb") as pipe:
        pipe.write(random_rows(60_000))  # more than is read to judge the assembly; then the input stalls
        pipe.flush()
        for _ in range(600):
            if names_in(varfm.out):
                break
            time.sleep(0.1)
        process.send_signal(number)
        assert (process.wait(60), names_in(varfm.out)) == (status, [])
    said = process.communicate()[1]
    assert b"Traceback" not in said and b"stopped by" in said
    assert names_in(varfm.out) == []
