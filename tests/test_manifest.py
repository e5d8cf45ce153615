"""Tests of varfm.manifest: the file's bytes, reading back, and every way in which it can be wrong."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from varfm.errors import DiskError, InputError, OptionError
from varfm.manifest import (
    Counts,
    FileRecord,
    Manifest,
    ModelRecord,
    describe_fasta,
    describe_file,
    differences,
    read_manifest,
    software_versions,
    utc_time,
)

MANIFEST = Manifest(
    versions={"varfm": "0.1.0"},
    command=["varfm", "score", "in.vcf", "-o", "a b.vcf"],
    inputs=[FileRecord("vcf", "in.vcf", 3, "2026-01-02T03:04:05+00:00", "ab")],
    models=[ModelRecord("mini", "cd", True, {"strands": "both"})],
    options={"on_ref_mismatch": "skip"},
    selection={"shard": "1/2"},
    plan={"batch_rows": {"mini": 64}, "executor": "full"},
    counts=Counts(2, 3, {"mini": {"STAR": 1, "OK": 2}}),
    outputs=[],
    started="2026-01-02T03:04:05+00:00",
    ended="2026-01-02T03:04:06+00:00",
    threads=2,
    device="cpu",
)

TEXT = """{
  "command": [
    "varfm",
    "score",
    "in.vcf",
    "-o",
    "a b.vcf"
  ],
  "counts": {
    "alleles": 3,
    "records": 2,
    "status": {
      "mini": {
        "OK": 2,
        "STAR": 1
      }
    }
  },
  "device": "cpu",
  "ended": "2026-01-02T03:04:06+00:00",
  "format": 1,
  "inputs": [
    {
      "contigs_sha256": null,
      "modified": "2026-01-02T03:04:05+00:00",
      "path": "in.vcf",
      "role": "vcf",
      "sha256": "ab",
      "size": 3
    }
  ],
  "models": [
    {
      "name": "mini",
      "options": {
        "strands": "both"
      },
      "published": true,
      "weights_sha256": "cd"
    }
  ],
  "options": {
    "on_ref_mismatch": "skip"
  },
  "outputs": [],
  "plan": {
    "batch_rows": {
      "mini": 64
    },
    "executor": "full"
  },
  "selection": {
    "shard": "1/2"
  },
  "started": "2026-01-02T03:04:05+00:00",
  "threads": 2,
  "versions": {
    "varfm": "0.1.0"
  }
}
"""


def test_manifest_is_sorted_indented_json(tmp_path: Path) -> None:
    MANIFEST.write(tmp_path / "out.vcf.varfm.json", force=False)
    assert (tmp_path / "out.vcf.varfm.json").read_text() == TEXT
    assert len(list(tmp_path.iterdir())) == 1


def test_manifest_reads_back_equal(tmp_path: Path) -> None:
    odd = replace(MANIFEST, command=["varfm", "caf\udce9", "\u00e9"])
    odd.write(tmp_path / "m.json", force=False)
    assert read_manifest(tmp_path / "m.json") == odd


def test_existing_manifest_is_replaced_only_with_force(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text("old")
    with pytest.raises(OptionError, match="--force"):
        MANIFEST.write(path, force=False)
    assert path.read_text() == "old"
    MANIFEST.write(path, force=True)
    assert path.read_text() == TEXT


def test_manifest_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(old: str, new: str) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(DiskError, match="No space left on device"):
        MANIFEST.write(tmp_path / "m.json", force=False)
    assert list(tmp_path.iterdir()) == []


def changed(**changes: Any) -> str:
    data = json.loads(TEXT)
    for key, value in changes.items():
        *parents, last = key.split("__")
        part = data
        for parent in parents:
            part = part[parent]
        part[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expecting value"),
        ("[]", "the manifest is of type list, expected an object"),
        (TEXT[:-20], "Unterminated string"),
        (changed(format=2), "format is 2, expected 1"),
        (changed(extra=1), "the manifest has the unknown key extra"),
        (TEXT.replace('  "threads": 2,\n', ""), "the manifest has no key threads"),
        (TEXT.replace('"threads": 2,', '"threads": 2, "threads": 3,'), "the key threads stands twice"),
        (changed(threads=True), "threads is of type bool, expected int"),
        (changed(threads=2.0), "threads is of type float, expected int"),
        (changed(device=None), "device is null, expected str"),
        (changed(command=["varfm", 1]), r"command\[1\] is of type int, expected str"),
        (changed(models=[{}]), r"models\[0\] has no key name"),
        (changed(inputs={}), "inputs is of type dict, expected list"),
        (changed(plan={"x": float("nan")}), "NaN is no JSON number"),
        (changed(counts__alleles=4), "counts.status.mini adds up to 3 of 4 alleles"),
        (changed(counts__status={"mini": {"GOOD": 3}}), "counts.status.mini has the unknown word GOOD"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_file_that_is_no_whole_manifest_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_manifest(tmp_path / "m.json")
    assert str(tmp_path / "m.json") in str(caught.value)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(b"\x80\x04pickle")
    with pytest.raises(InputError, match="not a manifest"):
        read_manifest(tmp_path / "m.json")


def test_a_missing_manifest_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_manifest(tmp_path / "m.json")


def test_files_are_named_by_size_time_and_digest(tmp_path: Path) -> None:
    path = tmp_path / "in.vcf"
    path.write_bytes(b"abc")
    os.utime(path, (1767323045, 1767323045))
    assert describe_file("vcf", path) == FileRecord(
        "vcf",
        str(path),
        3,
        "2026-01-02T03:04:05+00:00",
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    )


def test_stdin_is_named_by_its_dash_alone() -> None:
    assert describe_file("vcf", Path("-")) == FileRecord("vcf", "-")


def test_a_fasta_is_named_by_its_contigs_and_not_hashed(tmp_path: Path) -> None:
    (tmp_path / "g.fa").write_bytes(b">1\nACG\n>2\nA\n")
    found = describe_fasta(tmp_path / "g.fa", {"1": 3, "2": 1})
    assert (found.size, found.sha256) == (12, None)
    assert found.contigs_sha256 == hashlib.sha256(b"1\t3\n2\t1\n").hexdigest()


def test_versions_name_what_numbers_depend_on() -> None:
    versions = software_versions("0.1.0")
    assert list(versions) == ["varfm", "python", "torch", "numpy", "pysam"]
    assert versions["varfm"] == "0.1.0"
    assert versions["numpy"] == __import__("numpy").__version__


def test_times_are_utc_in_whole_seconds() -> None:
    moment = datetime(2026, 1, 2, 4, 4, 5, 999_999, timezone(timedelta(hours=1)))
    assert utc_time(moment) == "2026-01-02T03:04:05+00:00"
    assert datetime.fromisoformat(utc_time()).tzinfo == UTC


# Whether two runs fit together.


def changed(**changes: Any) -> Manifest:
    return replace(MANIFEST, **changes)


@pytest.mark.parametrize(
    "other",
    [
        changed(command=["varfm", "score", "moved.vcf"], started="2027-01-01T00:00:00+00:00"),
        changed(inputs=[replace(MANIFEST.inputs[0], path="elsewhere/in.vcf", modified="2027-01-01T00:00:00+00:00")]),
        changed(versions={"varfm": "0.1.0", "python": "3.12", "pysam": "0.23"}),
        changed(counts=Counts(0, 0, {"mini": {}})),
    ],
    ids=["command and time", "path and time of an input", "other versions", "counts"],
)
def test_what_decides_nothing_is_no_difference(other: Manifest) -> None:
    assert differences(MANIFEST, other, with_times=True) == []


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (changed(versions={"varfm": "0.2.0"}), ("version of varfm", "0.1.0", "0.2.0")),
        (changed(inputs=[]), ("vcf", "in.vcf", "none")),
        (
            changed(inputs=[replace(MANIFEST.inputs[0], sha256="ac")]),
            ("vcf", "sha256 ab", "sha256 ac"),
        ),
        (
            changed(models=[replace(MANIFEST.models[0], weights_sha256="ce")]),
            ("weights of mini", "cd", "ce"),
        ),
        (changed(models=[replace(MANIFEST.models[0], options={})]), ("strands of mini", "both", "none")),
        (changed(options={"on_ref_mismatch": "error"}), ("on_ref_mismatch", "skip", "error")),
        (changed(selection={"shard": "2/2"}), ("shard", "1/2", "2/2")),
        (
            changed(plan={"batch_rows": {"mini": 32}, "executor": "full"}),
            ("batch_rows of mini", "64", "32"),
        ),
        (changed(device="cuda:0"), ("device", "cpu", "cuda")),
        (changed(outputs=[FileRecord("vcf", "a.bcf")]), ("outputs", "", "vcf as .bcf")),
    ],
)
def test_what_decides_the_output_is_named(other: Manifest, found: tuple[str, str, str]) -> None:
    assert [tuple(item) for item in differences(MANIFEST, other, with_times=True)] == [found]
    assert differences(MANIFEST, other, with_times=True, without=[found[0]]) == []


def test_gpus_of_one_kind_do_not_differ_by_their_number() -> None:
    first, second = (changed(device=f"cuda:{n}", plan={**MANIFEST.plan, "device": f"cuda:{n}"}) for n in (0, 1))
    assert differences(first, second, with_times=True) == []


def test_a_reference_without_digest_is_known_by_size_contigs_and_where_asked_by_time() -> None:
    fasta = FileRecord("fasta", "a.fa", 10, "2026-01-02T03:04:05+00:00", None, "ef")
    first = changed(inputs=[fasta])
    copied = changed(inputs=[replace(fasta, modified="2026-01-02T03:04:06+00:00")])
    assert differences(first, copied, with_times=False) == []
    assert [item.what for item in differences(first, copied, with_times=True)] == ["fasta"]
    for change in ({"size": 11}, {"contigs_sha256": "ee"}):
        other = changed(inputs=[replace(fasta, **change)])
        assert [item.what for item in differences(first, other, with_times=False)] == ["fasta"]


def test_a_reference_with_digests_is_known_by_them_alone() -> None:
    fasta = FileRecord("fasta", "a.fa", 10, "2026-01-02T03:04:05+00:00", "12", "ef")
    first = changed(inputs=[fasta])
    assert differences(first, changed(inputs=[replace(fasta, modified="x", size=11)]), with_times=True) == []
    assert [item.what for item in differences(first, changed(inputs=[replace(fasta, sha256="13")]), with_times=False)]
