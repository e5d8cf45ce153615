"""Shards of a run, joined by `varfm merge`: what the run without shards writes, or a refusal that says why."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sei_files import SMALL, write_sei
from shard_files import PACKINGS, assert_equal, merge, packed, printed, score, score_shards
from tools import require_tool

from varfm.cli.main import run

SHARED = Path(__file__).parents[2] / "shared" / "data"
EXAMPLE = Path(__file__).parents[1] / "example_data"
FASTA = EXAMPLE / "ntng1.fa.gz"
FORMATS = (".vcf", ".vcf.gz", ".bcf", ".tsv", ".tsv.gz", ".parquet")


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VARFM_TESTING", "1")
    monkeypatch.setenv("VARFM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "config.toml").touch()


@pytest.fixture(scope="module")
def example() -> bytes:
    """The example's VCF with more records, so that there are some for many shards."""
    lines = (EXAMPLE / "ntng1.vcf").read_bytes().splitlines(keepends=True)
    header = [line for line in lines if line.startswith(b"#")]
    return b"".join(header + [line * 3 for line in lines if not line.startswith(b"#")])


@pytest.fixture
def source(tmp_path: Path, example: bytes) -> Path:
    return packed(example, "bgzf", tmp_path, indexed=False)


@pytest.mark.parametrize("indexed", [False, True], ids=["no index", "an index"])
@pytest.mark.parametrize("packing", PACKINGS)
def test_joined_shards_are_the_run_without_shards(tmp_path: Path, example: bytes, packing: str, indexed: bool) -> None:
    source = packed(example, packing, tmp_path, indexed=indexed)
    options = ("-f", FASTA, "-m", "null")
    suffix, table = {"plain": (".vcf", ".tsv"), "bgzf": (".vcf.gz", ".parquet")}.get(packing, (".bcf", ".tsv.gz"))
    whole = tmp_path / f"whole{suffix}"
    score(source, whole, *options, "--table", tmp_path / f"whole_table{table}")
    tables = str(tmp_path / "s{n}_table") + table
    shards = score_shards(source, 7, suffix, tmp_path, *options, "--table", tables)
    found, found_table = tmp_path / f"found{suffix}", tmp_path / f"found_table{table}"
    assert merge(shards, found, "--table", found_table) == 0
    assert_equal(found, whole)
    assert_equal(found_table, tmp_path / f"whole_table{table}")


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_can_be_joined_from_more_shards_than_records(tmp_path: Path, suffix: str) -> None:
    lines = (EXAMPLE / "ntng1.vcf").read_bytes().splitlines(keepends=True)
    n_header = sum(line.startswith(b"#") for line in lines)
    source = packed(b"".join(lines[: n_header + 5]), "plain", tmp_path, indexed=False)
    options = ("-f", FASTA, "-m", "null")
    score(source, tmp_path / f"whole{suffix}", *options)
    shards = score_shards(source, 9, suffix, tmp_path, *options)
    assert merge(shards, tmp_path / f"found{suffix}") == 0
    assert_equal(tmp_path / f"found{suffix}", tmp_path / f"whole{suffix}")


def test_a_network_scores_the_same_in_shards(tmp_path: Path) -> None:
    source = packed((EXAMPLE / "ntng1.vcf").read_bytes(), "plain", tmp_path, indexed=False)
    score(source, tmp_path / "whole.tsv", "-f", FASTA, "-m", "mini", "-m", "null")
    shards = score_shards(source, 3, ".tsv", tmp_path, "-f", FASTA, "-m", "mini", "-m", "null")
    assert merge(shards, tmp_path / "found.tsv") == 0
    for model in ("mini", "null"):
        assert_equal(tmp_path / f"found.{model}.tsv", tmp_path / f"whole.{model}.tsv")


def test_files_of_shards_may_be_moved_together(tmp_path: Path, source: Path) -> None:
    options = ("-f", FASTA, "-m", "null", "--table")
    score(source, tmp_path / "whole.vcf.gz", *options, tmp_path / "whole.tsv")
    shards = score_shards(source, 2, ".vcf.gz", tmp_path / "a", *options, str(tmp_path / "a" / "t{n}.tsv"))
    (tmp_path / "a").rename(tmp_path / "b")
    moved = [tmp_path / "b" / path.name for path in shards]
    assert merge(moved, tmp_path / "found.vcf.gz", "--table", tmp_path / "found.tsv") == 0
    assert_equal(tmp_path / "found.vcf.gz", tmp_path / "whole.vcf.gz")
    assert_equal(tmp_path / "found.tsv", tmp_path / "whole.tsv")


def test_every_shard_has_the_same_header_and_is_readable_alone(tmp_path: Path, source: Path) -> None:
    shards = score_shards(source, 20, ".vcf.gz", tmp_path, "-f", FASTA, "-m", "null")
    texts = [gzip.decompress(path.read_bytes()).splitlines() for path in shards]
    headers = {tuple(line for line in text if line.startswith(b"#")) for text in texts}
    assert len(headers) == 1
    empty = [path for path, text in zip(shards, texts, strict=True) if len(text) == len(next(iter(headers)))]
    assert empty
    assert b"#CHROM" in printed(empty[0])
    assert not any(b"shard" in line for line in next(iter(headers)))


def test_bcftools_concat_naive_joins_the_records(tmp_path: Path, source: Path) -> None:
    score(source, tmp_path / "whole.vcf.gz", "-f", FASTA, "-m", "null")
    shards = score_shards(source, 7, ".vcf.gz", tmp_path, "-f", FASTA, "-m", "null")
    joined = tmp_path / "joined.vcf.gz"
    subprocess.run([require_tool("bcftools"), "concat", "--naive", *shards, "-o", joined], check=True)
    assert printed(joined) == printed(tmp_path / "whole.vcf.gz")


def test_the_manifest_of_the_whole_is_that_of_the_run_without_shards(tmp_path: Path, source: Path) -> None:
    score(source, tmp_path / "whole.vcf.gz", "-f", FASTA, "-m", "null")
    shards = score_shards(source, 3, ".vcf.gz", tmp_path, "-f", FASTA, "-m", "null")
    assert manifest(shards[1])["selection"] == {"shard": "2/3"}
    assert merge(shards, tmp_path / "found.vcf.gz") == 0
    found, whole = manifest(tmp_path / "found.vcf.gz"), manifest(tmp_path / "whole.vcf.gz")
    for item in (found, whole):
        for key in ("command", "started", "ended"):
            del item[key]
        for output in item["outputs"]:
            del output["path"], output["modified"]
    assert found == whole


def test_shards_of_regions_are_joined_too(tmp_path: Path, source: Path) -> None:
    (tmp_path / "regions.bed").write_text("NTNG1\t0\t20000\n")
    options = ("-f", FASTA, "-m", "null", "--regions", tmp_path / "regions.bed")
    score(source, tmp_path / "whole.vcf", *options)
    shards = score_shards(source, 4, ".vcf", tmp_path, *options)
    assert merge(shards, tmp_path / "found.vcf") == 0
    assert_equal(tmp_path / "found.vcf", tmp_path / "whole.vcf")


def manifest(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(Path(f"{path}.varfm.json").read_text())
    return loaded


# What is refused.


@pytest.fixture
def shards(tmp_path: Path, source: Path) -> list[Path]:
    return score_shards(source, 3, ".vcf", tmp_path / "shards", "-f", FASTA, "-m", "null")


def refusal(capfd: pytest.CaptureFixture[str], paths: list[Path], output: Path, status: int = 3) -> str:
    assert merge(paths, output) == status
    assert not output.exists()
    return capfd.readouterr().err


def test_a_missing_shard_is_named(tmp_path: Path, shards: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    assert "Missing shards: 2 (1 of 3)." in refusal(capfd, [shards[0], shards[2]], tmp_path / "o.vcf")


def test_a_doubled_shard_is_named(tmp_path: Path, shards: list[Path], capfd: pytest.CaptureFixture[str]) -> None:
    assert "Shard 1/3 is given 2 times" in refusal(capfd, [*shards, shards[0]], tmp_path / "o.vcf")


def test_another_cut_is_named(
    tmp_path: Path, source: Path, shards: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    others = score_shards(source, 2, ".vcf", tmp_path / "others", "-f", FASTA, "-m", "null")
    assert "is shard 1/3, but" in refusal(capfd, [*shards, others[0]], tmp_path / "o.vcf")


def test_an_output_that_is_no_shard_is_refused(tmp_path: Path, source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    score(source, tmp_path / "whole.vcf", "-f", FASTA, "-m", "null")
    assert "is no shard" in refusal(capfd, [tmp_path / "whole.vcf"], tmp_path / "o.vcf")
    assert "its manifest" in refusal(capfd, [tmp_path / "none.vcf"], tmp_path / "o.vcf")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--overwrite",), "overwrite is yes, not none"),
        (("--regions", "NTNG1:1-200000"), "regions is NTNG1:1-200000, not none"),
        (("-m", "mini"), "models is null, mini, not null"),
        (("--threads", "2"), "threads is 2, not 1"),
        (("--batch-size", "5"), "batch_rows of null is 5, not 16"),
    ],
)
def test_a_shard_of_another_run_is_refused_by_what_differs(
    tmp_path: Path,
    source: Path,
    shards: list[Path],
    options: tuple[str, ...],
    words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    arguments = ["score", source, "-f", FASTA, "-m", "null", "--threads", 1, "--shard", "2/3", "-o", shards[1]]
    assert run([str(item) for item in [*arguments, "--force", *options]]) == 0
    assert words in refusal(capfd, shards, tmp_path / "o.vcf")


def test_a_shard_of_another_input_or_reference_is_refused(
    tmp_path: Path, source: Path, shards: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    longer = tmp_path / "longer.vcf.gz"
    longer.write_bytes(gzip.compress(gzip.decompress(source.read_bytes()) * 1 + b""))
    others = score_shards(longer, 3, ".vcf", tmp_path / "others", "-f", FASTA, "-m", "null")
    assert "vcf is sha256" in refusal(capfd, [*shards[:2], others[2]], tmp_path / "o.vcf")
    fasta = tmp_path / "other.fa"
    fasta.write_bytes(gzip.decompress(FASTA.read_bytes()) + b">more\nACGT\n")
    others = score_shards(source, 3, ".vcf", tmp_path / "moved", "-f", fasta, "-m", "null")
    assert "fasta is" in refusal(capfd, [*shards[:2], others[2]], tmp_path / "o.vcf")


def edit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def apply(path: Path) -> None:
        content = manifest(path)
        change(content)
        Path(f"{path}.varfm.json").write_text(json.dumps(content))

    return apply


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "is not what its manifest says"),
        (lambda path: path.write_bytes(path.read_bytes().replace(b"POSITION=1", b"POSITION=2")), "is not what"),
        (lambda path: path.unlink(), "no such file"),
        (lambda path: Path(f"{path}.varfm.json").write_text("{}"), "not a manifest"),
        (edit(lambda item: item["selection"].update(shard="4/3")), "s2.vcf.varfm.json: shard is '4/3'"),
        (edit(lambda item: item["options"].update(on_ref_mismatch="error")), "on_ref_mismatch is error, not skip"),
        (edit(lambda item: item["plan"].update(torch="9.9")), "torch is 9.9, not not used"),
        (edit(lambda item: item.update(device="cuda:1")), "device is cuda, not cpu"),
        (edit(lambda item: item["versions"].update(varfm="9.9")), "version of varfm is 9.9"),
    ],
)
def test_a_spoilt_shard_is_refused(
    tmp_path: Path,
    shards: list[Path],
    spoil: Callable[[Path], None],
    words: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    spoil(shards[1])
    assert words in refusal(capfd, shards, tmp_path / "o.vcf")


def test_shards_from_several_devices_of_a_kind_and_folders_are_of_one_run(tmp_path: Path, shards: list[Path]) -> None:
    for number, path in enumerate(shards):
        change = {"device": f"cuda:{number}"}
        edit(lambda item, change=change: (item.update(change), item["plan"].update(change)))(path)  # type: ignore[misc]
        edit(lambda item: [entry.update(path="elsewhere") for entry in item["inputs"]])(path)  # type: ignore[arg-type,return-value]
    assert merge(shards, tmp_path / "o.vcf") == 0


@pytest.mark.parametrize("name", ["o.bcf", "o.tsv", "o.parquet"])
def test_merge_changes_no_format(
    tmp_path: Path, shards: list[Path], name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert "shards are" in refusal(capfd, shards, tmp_path / name, status=2)


def test_text_may_be_compressed_on_the_way(tmp_path: Path, source: Path, shards: list[Path]) -> None:
    score(source, tmp_path / "whole.vcf.gz", "-f", FASTA, "-m", "null")
    assert merge(shards, tmp_path / "found.vcf.gz") == 0
    assert_equal(tmp_path / "found.vcf.gz", tmp_path / "whole.vcf.gz")


def test_an_existing_output_is_replaced_only_with_force(tmp_path: Path, shards: list[Path]) -> None:
    (tmp_path / "o.vcf").write_text("mine")
    assert merge(shards, tmp_path / "o.vcf") == 2
    assert (tmp_path / "o.vcf").read_text() == "mine"
    assert merge(shards, tmp_path / "o.vcf", "--force") == 0
    assert (tmp_path / "o.vcf").read_text() != "mine"


def test_text_goes_to_stdout(
    tmp_path: Path, source: Path, shards: list[Path], capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    score(source, tmp_path / "whole.vcf", "-f", FASTA, "-m", "null")
    assert merge(shards, Path("-")) == 0
    assert capfdbinary.readouterr().out == (tmp_path / "whole.vcf").read_bytes()


@pytest.mark.parametrize("shard", ["0/3", "4/3", "3", "1/0"])
def test_a_shard_that_does_not_exist_is_a_usage_error(source: Path, shard: str) -> None:
    assert run(["score", str(source), "-f", str(FASTA), "-m", "null", "--shard", shard]) == 2


def test_a_shard_of_stdin_is_a_usage_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "-", "-f", str(FASTA), "-m", "null", "--shard", "1/2"]) == 2
    assert "a stream can be read only once" in capfd.readouterr().err
    os.mkfifo(tmp_path / "pipe")
    assert run(["score", str(tmp_path / "pipe"), "-f", str(FASTA), "-m", "null", "--shard", "1/2"]) == 2
    assert "a stream can be read only once" in capfd.readouterr().err


def test_a_shard_of_what_is_no_file_is_an_input_error(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "none.vcf", "no such file")):
        assert run(["score", str(path), "-f", str(FASTA), "-m", "null", "--shard", "1/2"]) == 3
        assert words in capfd.readouterr().err


def test_every_shard_judges_the_assembly_by_the_whole_input(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The first 2,000 alleles are right, all later ones wrong, and the other way round."""
    (tmp_path / "a.fa").write_text(">1\n" + "A" * 3000 + "\n")
    head = b"##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    right, wrong = (
        b"".join(b"1\t%d\t.\t%b\tT\t.\t.\t.\n" % (k + 1, base) for k in range(2000)) for base in (b"A", b"C")
    )
    for body, status in ((right + wrong, 0), (wrong + right, 3)):
        (tmp_path / "in.vcf").write_bytes(head + body)
        for number in (1, 2):
            arguments = ["score", tmp_path / "in.vcf", "-f", tmp_path / "a.fa", "-m", "null", "--force"]
            shard = ["--shard", f"{number}/2", "-o", tmp_path / "o.vcf", "--quiet"]
            assert run([str(item) for item in [*arguments, *shard]]) == status


# All of the real data.

PAIRS = ((".vcf", ".tsv"), (".vcf.gz", ".parquet"), (".bcf", ".tsv.gz"))


class Real(NamedTuple):
    """Real variants as text, how they are scored, and the folder of the runs without shards."""

    text: bytes
    options: list[object]
    folder: Path


@pytest.fixture(scope="module")
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Real:
    """For a model: every variant, or for the Sei of small layers, but with windows of 4,096 bases, each 16th.

    What varfm writes does not depend on how the input is packed, so one run a format serves all.
    """
    if not (SHARED / "kg_chr20_1mb.vcf.gz").is_file():
        pytest.skip("the real data are not there")
    folder = tmp_path_factory.mktemp("real")
    text = gzip.decompress((SHARED / "kg_chr20_1mb.vcf.gz").read_bytes())
    text = text.replace(b"#CHROM", b"##contig=<ID=z>\n#CHROM", 1)  # of its last record; without, there is no BCF of it
    options: list[object] = ["-f", SHARED / "kg_chr20_1mb.fa", "-m", request.param]
    if request.param == "sei":
        weights = write_sei(folder / "sei", replace(SMALL, length=4096, channels=(2, 3, 4), width=3))
        options = [*options[:2], "--weights", weights, "--offline"]
        lines = text.splitlines(keepends=True)
        n_header = sum(line.startswith(b"#") for line in lines)
        text = b"".join(lines[:n_header] + lines[n_header::16])
    plain = packed(text, "plain", folder, indexed=False)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("VARFM_TESTING", "1")
        monkeypatch.setenv("VARFM_CACHE", str(folder / "cache"))
        for suffix, table in PAIRS:
            score(plain, folder / f"whole{suffix}", *options, "--table", folder / f"whole{table}")
    return Real(text, options, folder)


@pytest.mark.slow
@pytest.mark.parametrize("total", [1, 2, 7, 64])
@pytest.mark.parametrize("indexed", [False, True], ids=["no index", "an index"])
@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("real", ["null", "mini", "sei"], indirect=True)
def test_real_variants_in_shards_are_the_run_without_shards(
    tmp_path: Path, real: Real, packing: str, indexed: bool, total: int
) -> None:
    """In every pair of formats, but for networks in one pair, another one for every number of shards."""
    source = packed(real.text, packing, tmp_path, indexed=indexed)
    is_null = real.options[-1] == "null"
    for suffix, table in PAIRS if is_null else [PAIRS[((1, 2, 7, 64).index(total) + PACKINGS.index(packing)) % 3]]:
        folder = tmp_path / f"shards{suffix}"
        shards = score_shards(source, total, suffix, folder, *real.options, "--table", str(folder / "s{n}") + table)
        found, found_table = tmp_path / f"found{suffix}", tmp_path / f"found{table}"
        assert merge(shards, found, "--table", found_table, "--force") == 0
        assert_equal(found_table, real.folder / f"whole{table}")
        if packing != "bcf" or suffix == ".bcf":  # htslib prints some headers and floats in words of its own
            assert_equal(found, real.folder / f"whole{suffix}")
