"""Options and models that cannot be served: a usage error, a missing model, or no such device, and nothing written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import Varfm, message_of
from vcf_bytes import GOOD, HEAD, info_values, names_in, record, vcf
from weight_files import mpra_dragonn, xpresso


@pytest.fixture(scope="session")
def mpra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mpra_dragonn(tmp_path_factory.mktemp("weights") / "mpra.h5")


@pytest.fixture
def rows(varfm: Varfm) -> Path:
    return varfm.file("in.vcf", GOOD)


def usage_error(varfm: Varfm, *args: object) -> str:
    """Call, expect click's own error, and give it."""
    result = varfm.run("score", *args, "-o", varfm.out / "o.vcf")
    assert result.status == 2, result.err
    assert names_in(varfm.out) == []
    return result.err


# Models and weights.


def test_unknown_model_is_named_with_the_closest_one(varfm: Varfm, rows: Path) -> None:
    message = varfm.refused(4, rows, "-m", "xpreso-human")
    assert "'xpreso-human'" in message and "xpresso-human" in message and "varfm models list" in message


@pytest.mark.parametrize("name", ["", " ", "../mini", "enformer\x1b[31m", "x" * 10_000])
def test_strange_names_of_models_are_unknown_models(varfm: Varfm, rows: Path, name: str) -> None:
    assert "varfm models list" in varfm.refused(4, rows, "-m", name)


def test_null_is_refused_outside_tests(varfm: Varfm, rows: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VARFM_TESTING")
    message = varfm.refused(4, rows, "-m", "null")
    assert "for tests" in message and "VARFM_TESTING=1" in message


def test_weights_that_are_not_here_are_named_with_size_licence_and_command(varfm: Varfm, rows: Path) -> None:
    message = varfm.refused(4, rows, "-m", "mpra-dragonn", "--offline")
    assert "mpra-dragonn" in message and "1.4 MB" in message and "MIT" in message and "--offline" in message
    assert message.endswith("varfm models download mpra-dragonn")


def test_one_model_twice_is_a_usage_error(varfm: Varfm, rows: Path) -> None:
    assert "twice" in varfm.refused(2, rows, "-m", "null", "-m", "null")
    assert "twice" in varfm.refused(2, rows, "-m", "null", "-m", "NULL")


def test_local_weights_are_taken_and_said_not_to_be_the_published_ones(varfm: Varfm, rows: Path, mpra: Path) -> None:
    result = varfm.score(rows, "-m", "mpra-dragonn", "--weights", mpra)
    assert result.status == 0, result.err
    assert info_values(result.out) == [["PADDED"], ["PADDED"], ["PADDED"]]
    assert "not the published file" in result.err
    assert b"not the published file" in result.out


def test_require_published_refuses_them(varfm: Varfm, rows: Path, mpra: Path) -> None:
    message = varfm.refused(4, rows, "-m", "mpra-dragonn", "--weights", mpra, "--require-published")
    assert str(mpra) in message and "sha256" in message and "--require-published" in message


@pytest.mark.parametrize(
    "kind", ["HTML", "empty", "random", "truncated", "NUL", "magic only", "VCF", "pickle", "safetensors", "other model"]
)
def test_weights_of_another_kind_are_refused(varfm: Varfm, rows: Path, mpra: Path, kind: str) -> None:
    data = {
        "HTML": b"<!DOCTYPE html><html>404</html>",
        "empty": b"",
        "random": bytes(range(256)) * 40,
        "truncated": mpra.read_bytes()[:3000],
        "NUL": bytes(5000),
        "magic only": b"\x89HDF\r\n\x1a\n",
        "VCF": GOOD,
        "pickle": b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.",
        "safetensors": (2).to_bytes(8, "little") + b"{}",
        "other model": b"",
    }[kind]
    weights = varfm.file("weights.h5", data)
    if kind == "other model":
        xpresso(weights)
    message = varfm.refused(4, rows, "-m", "mpra-dragonn", "--weights", weights)
    assert "weights.h5" in message
    assert not Path("owned").exists()


def test_missing_weights_folder_and_pipe_are_refused(varfm: Varfm, rows: Path) -> None:
    assert "no such file" in varfm.refused(4, rows, "-m", "mpra-dragonn", "--weights", varfm.folder / "no.h5")
    assert "is not in this folder" in varfm.refused(4, rows, "-m", "mpra-dragonn", "--weights", varfm.folder)
    os.mkfifo(varfm.folder / "pipe")
    assert "neither a file nor" in varfm.refused(4, rows, "-m", "mpra-dragonn", "--weights", varfm.folder / "pipe")


def test_weights_for_several_models_or_for_none_are_refused(varfm: Varfm, rows: Path, mpra: Path) -> None:
    assert "--weights" in varfm.refused(2, rows, "-m", "mpra-dragonn", "-m", "null", "--weights", mpra)
    assert "--weights" in varfm.refused(4, rows, "-m", "null", "--weights", mpra)


def test_damaged_weights_in_the_cache_are_refused_with_the_command_to_mend_them(varfm: Varfm, rows: Path) -> None:
    cache = Path(os.environ["VARFM_CACHE"]) / "weights" / "mpra-dragonn"
    cache.mkdir(parents=True)
    (cache / "pretrained.hdf5").write_bytes(bytes(1_390_888))
    message = varfm.refused(4, rows, "-m", "mpra-dragonn")
    assert "damaged" in message and "varfm models download mpra-dragonn" in message


# Options of models.


@pytest.mark.parametrize("track", ["12", "-1", "NoSuchTrack", "(", "[", "1e400"])
def test_tracks_without_a_match_are_a_usage_error(varfm: Varfm, rows: Path, mpra: Path, track: str) -> None:
    message = varfm.refused(2, rows, "-m", "mpra-dragonn", "--weights", mpra, f"--tracks={track}")
    assert f"--tracks {track}" in message


def test_tracks_are_written_beside_the_headline(varfm: Varfm, rows: Path, mpra: Path) -> None:
    result = varfm.score(
        rows, "-m", "mpra-dragonn", "--weights", mpra, "--tracks", "8", "--tracks", "HepG2_SV40P_pooled"
    )
    assert result.status == 0, result.err
    values = [info_values(result.out, key) for key in (b"VARFM_MPRA_DRAGONN_HEPG2", b"VARFM_MPRA_DRAGONN_T8")]
    other = info_values(result.out, b"VARFM_MPRA_DRAGONN_T11")
    for [[mean], [first]], [second] in zip(zip(*values, strict=True), other, strict=True):
        assert float(mean) == pytest.approx((float(first) + float(second)) / 2, rel=1e-4)


@pytest.mark.parametrize("option", [("--indel-mode", "anchor"), ("--strands", "forward"), ("--tracks", "0")])
def test_options_that_do_not_apply_are_refused_by_name(varfm: Varfm, rows: Path, option: tuple[str, str]) -> None:
    weights = xpresso(varfm.folder / "xpresso.h5")
    genes = varfm.file("genes.bed", b"chr1\t100\t101\tA\t0\t+\n")
    message = varfm.refused(2, rows, "-m", "xpresso-human", "--weights", weights, "--genes", genes, *option)
    assert f"{option[0]} does not apply to xpresso-human" in message


def test_missing_genes_are_told_before_weights_are_looked_for(varfm: Varfm, rows: Path) -> None:
    message = varfm.refused(2, rows, "-m", "xpresso-human", "--offline")
    assert "xpresso-human" in message and "--genes" in message


@pytest.mark.parametrize("option", [("--indel-mode", "anchor"), ("--strands", "forward"), ("--tracks", "0")])
def test_options_that_do_not_apply_to_null_are_refused_too(varfm: Varfm, rows: Path, option: tuple[str, str]) -> None:
    assert f"{option[0]} does not apply to null" in varfm.refused(2, rows, *option)


# Running.


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--batch-size", "0"), ["--batch-size", "0"]),
        (("--batch-size", "-3"), ["--batch-size", "-3"]),
        (("--batch-size", "x"), ["--batch-size", "'x'"]),
        (("--threads", "-1"), ["--threads", "-1"]),
        (("--max-ref-mismatch", "101"), ["--max-ref-mismatch", "101"]),
        (("--max-ref-mismatch", "-1"), ["--max-ref-mismatch", "-1"]),
        (("--max-ref-mismatch", "nan"), ["--max-ref-mismatch", "nan"]),
        (("--on-ref-mismatch", "warn"), ["--on-ref-mismatch", "skip"]),
        (("--strands", "reverse"), ["--strands", "forward"]),
        (("--indel-mode", "left"), ["--indel-mode", "compensate"]),
        (("--tss", "first"), ["--tss", "representative"]),
        (("--nonsense",), ["--nonsense"]),
        (("--output",), ["--output"]),
        (("second.vcf",), ["second.vcf"]),
    ],
)
def test_bad_values_of_options_are_usage_errors(
    varfm: Varfm, rows: Path, option: tuple[str, ...], words: list[str]
) -> None:
    said = usage_error(varfm, rows, "-m", "null", "-f", varfm.fasta, *option) if option != ("--output",) else None
    if said is None:
        result = varfm.run("score", rows, "--output")
        assert result.status == 2
        said = result.err
    assert [word for word in words if word not in said] == [], said


def test_missing_vcf_argument_is_a_usage_error(varfm: Varfm) -> None:
    assert "VCF" in usage_error(varfm)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_cuda_without_a_device_is_status_5(varfm: Varfm, rows: Path, device: str) -> None:
    message = varfm.refused(5, rows, "--device", device)
    assert f"--device {device}" in message and "--device cpu" in message


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x", "cuda:-1", "cpu:1", "CPU0", "tpu"])
def test_device_of_no_known_name_is_a_usage_error(varfm: Varfm, rows: Path, device: str) -> None:
    if device:
        assert f"--device {device}" in varfm.refused(2, rows, "--device", device)
    else:
        varfm.refused(2, rows, "--device", device)


# Regions and contig maps.


@pytest.mark.parametrize(
    ("regions", "status", "words"),
    [
        ("chr1:5-1", 2, ["chr1:5-1"]),
        ("chr1:x-9", 2, ["chr1:x-9"]),
        ("chr1:-5", 2, ["chr1:-5"]),
        ("chr1:1-2-3", 2, ["chr1:1-2-3"]),
        (",", 2, [","]),
        ("chrNO", 2, ["chrNO"]),
        ("chrNO:1-5", 2, ["chrNO"]),
        ("no.bed", 3, ["no.bed", "no such file"]),
    ],
)
def test_regions_that_mean_nothing_are_refused(
    varfm: Varfm, rows: Path, regions: str, status: int, words: list[str]
) -> None:
    message = varfm.refused(status, rows, "-r", regions)
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    "data", [b"chr1\n", b"chr1\t1\n", b"chr1\t5\t1\n", b"chr1\tx\ty\n", b"<html>\n", b"\x1f\x8bx", b"\0\0"]
)
def test_bed_of_another_kind_is_refused_by_name(varfm: Varfm, rows: Path, data: bytes) -> None:
    assert "regions.bed" in varfm.refused(3, rows, "-r", varfm.file("regions.bed", data))


def test_empty_bed_leaves_out_every_record(varfm: Varfm, rows: Path) -> None:
    result = varfm.score(rows, "-r", varfm.file("none.bed", b""))
    assert (result.status, result.out.splitlines()[-1][:6]) == (0, b"#CHROM")


def test_regions_leave_out_records_and_count_the_rest(varfm: Varfm, rows: Path) -> None:
    result = varfm.score(rows, "-r", "chr1:2-9")
    assert result.status == 0
    assert [line.split(b"\t")[1] for line in result.out.splitlines() if not line.startswith(b"#")] == [b"2"]
    assert result.err.startswith("1 allele: 1 scored.")


@pytest.mark.parametrize(
    "data", [b"one\n", b"a\tb\tc\n", b"a\tchr1\na\tchr2\n", b"x\tchrNO\n", b"chr1\tchr2\n", b"\0\0\n", b"\x1f\x8bx"]
)
def test_contig_map_that_makes_no_sense_is_refused(varfm: Varfm, rows: Path, data: bytes) -> None:
    varfm.refused(3, rows, "--contig-map", varfm.file("names.tsv", data))


def test_contig_map_and_aliases_are_told_once(varfm: Varfm) -> None:
    names = varfm.file("names.tsv", b"NC_1\tchr1\n")
    table = vcf(record(1, "A", "C", contig="NC_1"), record(5, "A", "C", contig="1"), head=HEAD)
    result = varfm.score(varfm.file("alias.vcf", table), "--contig-map", names)
    assert (result.status, info_values(result.out)) == (0, [["OK"], ["OK"]])
    assert result.err.count("NC_1 = chr1, 1 = chr1") == 1


# Counting.


def test_strict_gives_1_with_complete_output(varfm: Varfm) -> None:
    table = varfm.file("in.vcf", vcf(record(1, "A", "C"), record(1, "A", "*")))
    result = varfm.score(table, "--strict", "-o", varfm.out / "o.vcf")
    assert result.status == 1
    assert info_values((varfm.out / "o.vcf").read_bytes()) == [["OK"], ["STAR"]]
    assert "1 not (1 STAR)" in result.err


def test_strict_gives_0_where_everything_is_scored(varfm: Varfm, rows: Path) -> None:
    assert varfm.score(rows, "--strict").status == 0


def test_strict_counts_each_model_for_itself(varfm: Varfm, mpra: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # An insertion of 80 bases is too long for 145 - 1 - 72 = 72 bases right of the variant, but not for `null`.
    from varfm.weights import LocalWeights

    monkeypatch.setattr("varfm.weights._from_cache", lambda checkpoint: LocalWeights(mpra, "0" * 64, published=True))
    monkeypatch.setattr("varfm.weights._missing", lambda checkpoint: [])
    table = varfm.file("in.vcf", vcf(record(500, "T", "T" + "G" * 80)))
    result = varfm.score(table, "-m", "null", "-m", "mpra-dragonn", "--strict")
    assert result.status == 1, result.err
    assert info_values(result.out) == [["OK"]]
    assert info_values(result.out, b"VARFM_NULL_STATUS") == [["OK"]]
    assert info_values(result.out, b"VARFM_MPRA_DRAGONN_STATUS") == [["TOO_LONG"]]
    assert "null: 1 allele: 1 scored." in result.err
    assert "mpra-dragonn: 1 allele: 0 scored, 1 not (1 TOO_LONG)." in result.err


def test_alt_of_a_million_bases_is_too_long_for_a_window(varfm: Varfm, mpra: Path) -> None:
    table = varfm.file("in.vcf", vcf(record(1, "A", "A" + "C" * 10**6), record(500, "T", "A")))
    result = varfm.score(table, "-m", "mpra-dragonn", "--weights", mpra)
    assert (result.status, info_values(result.out)) == (0, [["TOO_LONG"], ["OK"]])


def test_weights_with_nan_give_a_status_and_no_number(varfm: Varfm, mpra: Path) -> None:
    import h5py

    weights = varfm.folder / "nan.h5"
    shutil.copyfile(mpra, weights)
    with h5py.File(weights, "r+") as file:
        file["model_weights/dense_1/dense_1/bias:0"][...] = float("nan")
    result = varfm.score(varfm.file("in.vcf", GOOD), "-m", "mpra-dragonn", "--weights", weights)
    if result.status == 0:
        assert info_values(result.out) == [["NAN"]] * 3
        assert info_values(result.out, b"VARFM_MPRA_DRAGONN_HEPG2") == [["."]] * 3
    else:
        assert result.status == 4 and "nan.h5" in message_of(result)
