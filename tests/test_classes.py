"""Tests of `varfm classes`: the list of the classes, and the command on the example with a small Sei."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sei_files import vectors, write_sei

from varfm.cli.main import run
from varfm.models.sei_classes import CLASSES, GROUPS

ROOT = Path(__file__).parents[1]
VCF = ROOT / "example_data" / "ntng1.vcf"
FASTA = ROOT / "example_data" / "ntng1.fa.gz"
GOLDEN = Path(__file__).parent / "data" / "sei_classes.tsv"
TOLERANCE = 1e-5

Table = dict[tuple[str, str], dict[str, str]]


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VARFM_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config.toml").touch()
    monkeypatch.setenv("VARFM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def sei(tmp_path: Path) -> list[str]:
    """Arguments that name the input and the weights."""
    folder = write_sei(tmp_path / "sei")
    return [str(VCF), "-f", str(FASTA), "--weights", str(folder), "--offline", "--threads", "1", "--device", "cpu"]


def table(text: str) -> Table:
    """Give the rows of a TSV by id and ALT, column by column; of the two equal records the first one."""
    header, *rows = [line.split("\t") for line in text.splitlines()]
    found: Table = {}
    for row in rows:
        cells = dict(zip(header, row, strict=True))
        assert found.setdefault((cells["id"], cells["alt"]), cells) == cells
    return found


def written(tmp_path: Path, *args: str) -> Table:
    path = tmp_path / f"out{len(list(tmp_path.iterdir()))}.tsv"
    assert run(["classes", *args, "--quiet", "-o", str(path)]) == 0
    return table(path.read_text())


# Without VCF.


def test_list_of_the_classes_is_printed_as_tsv(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "id\tname\tgroup"
    assert lines[1] == "PC1\tPolycomb / Heterochromatin\tPC"
    assert lines[6] == "E1\tStem cell\tE"
    assert lines[28] == "CTCF\tCTCF-Cohesin\tCTCF"
    assert lines[40] == "HET6\tCentromere\tHET"
    assert len(lines) == 41


def test_list_on_a_terminal_is_a_table_that_explains_the_groups(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run(["classes"]) == 0
    shown = capsys.readouterr().out
    assert "PC4" in shown and "Polycomb / Bivalent stem cell Enh" in shown and "HET (heterochromatin)" in shown
    assert "\t" not in shown


def test_list_needs_no_torch() -> None:
    code = (
        "import sys; from varfm.cli.main import run; run(['classes']); print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "False"


def test_classes_are_forty_with_labels_of_their_groups() -> None:
    assert len({item.label for item in CLASSES}) == 40
    assert {item.group for item in CLASSES} == set(GROUPS)


def test_option_without_vcf_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classes", "-o", "x.tsv"]) == 2
    assert "--output needs a VCF" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--model", "--genes", "--bins", "--shifts", "--tss"])
def test_options_that_do_not_apply_to_sei_are_not_there(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["classes", str(VCF), option, "x"]) == 2
    assert "No such option" in capsys.readouterr().err


# With VCF.


def test_scores_of_the_example_are_the_golden_ones(sei: list[str], capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Scores to 1e-5 of the largest of their column, everything else as text."""
    assert run(["classes", *sei]) == 0
    found, expected = table(capfdbinary.readouterr().out.decode()), table(GOLDEN.read_text())
    assert found.keys() == expected.keys()
    names = list(next(iter(expected.values())))
    for name in names:
        cells = [(row[name], found[key][name]) for key, row in expected.items()]
        if name in (*(item.label for item in CLASSES), "top_score"):
            scale = max(abs(float(cell)) for cell, _ in cells if cell != ".")
            assert scale > 1e-4
            assert [a for a, _ in cells if a == "."] == [b for _, b in cells if b == "."]
            assert all(abs(float(a) - float(b)) <= 2 * TOLERANCE * scale for a, b in cells if a != ".")
        else:
            assert [a for a, _ in cells] == [b for _, b in cells], name


def test_default_columns_are_the_classes_the_top_class_and_the_class_of_the_reference(
    sei: list[str], tmp_path: Path
) -> None:
    row = next(iter(written(tmp_path, *sei).values()))
    head = ["contig", "pos", "id", "ref", "alt", "status"]
    assert list(row) == [*head, *(item.label for item in CLASSES), "top_class", "top_score", "ref_class"]


def test_top_class_is_the_one_of_largest_size_with_its_sign(sei: list[str], tmp_path: Path) -> None:
    rows = written(tmp_path, *sei).values()
    signs = set()
    for row in rows:
        if row["top_score"] not in (".", "0"):
            scores = {item.label: float(row[item.label]) for item in CLASSES}
            assert abs(float(row["top_score"])) == max(map(abs, scores.values()))
            assert scores[row["top_class"]] == float(row["top_score"])
            signs.add(float(row["top_score"]) > 0)
    assert signs == {True, False}


def test_class_of_the_reference_is_the_largest_raw_score_whatever_the_allele(sei: list[str], tmp_path: Path) -> None:
    rows = written(tmp_path, *sei, "--scores", "raw")
    for row in rows.values():
        if row["ref_class"] != ".":
            raw = [float(row[f"RAW_REF_{item.label}"]) for item in CLASSES]
            assert CLASSES[int(np.argmax(raw))].label == row["ref_class"]
    assert len({row["ref_class"] for row in rows.values()} - {"."}) > 1
    assert rows["three_alternates", "A"]["ref_class"] == rows["three_alternates", "G"]["ref_class"]


def test_class_scores_follow_from_raw_scores_and_differences_by_hand(sei: list[str], tmp_path: Path) -> None:
    """Without histone marks, equalising does nothing: so with one mark whose vectors are zero."""
    folder = Path(sei[sei.index("--weights") + 1])
    plain = vectors().astype(np.float64)
    plain[:, 3] = 0
    np.save(folder / "projvec_targets.npy", plain)
    np.save(folder / "histone_inds.npy", np.array([3]))
    row = written(tmp_path, *sei, "--scores", "CLASS,RAW,DIFF,MAX_ABS")["mnv_3", "GCT"]
    difference = np.array([float(row[f"DIFF_T{index}"]) for index in range(12)])
    expected = plain @ difference / np.linalg.norm(plain, axis=1)
    found = [float(row[item.label]) for item in CLASSES]
    scale = np.abs(expected).max()
    assert found == pytest.approx(expected[:40], abs=1e-4 * scale)
    assert float(row["MAX_ABS"]) == max(map(abs, found)) > 0
    raw = float(row["RAW_ALT_E1"]) - float(row["RAW_REF_E1"])
    assert raw == pytest.approx(found[5], abs=1e-3 * scale + 2e-6)


def test_allele_equal_to_ref_scores_zero_and_names_no_class_of_the_reference(sei: list[str], tmp_path: Path) -> None:
    row = written(tmp_path, *sei)["alt_is_ref", "T"]
    assert row["status"] == "OK"
    assert {row[item.label] for item in CLASSES} == {"0"}
    assert (row["top_class"], row["top_score"], row["ref_class"]) == ("PC1", "0", ".")


def test_stdout_and_file_hold_the_same_bytes(
    sei: list[str], tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert run(["classes", *sei, "--quiet"]) == 0
    shown = capfdbinary.readouterr().out
    assert run(["classes", *sei, "--quiet", "-o", str(tmp_path / "o.tsv")]) == 0
    assert (tmp_path / "o.tsv").read_bytes() == shown
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("-")]


def test_vcf_and_parquet_hold_what_the_table_holds(sei: list[str], tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    vcf, parquet = tmp_path / "o.vcf", tmp_path / "o.parquet"
    assert run(["classes", *sei, "--quiet", "-o", str(vcf), "--table", str(parquet)]) == 0
    rows = written(tmp_path, *sei)
    names = ["id", "alt", "top_class", "ref_class"]
    columns = [pq.read_table(parquet)[name].to_pylist() for name in names]
    texts = [tuple(value or "." for value in row) for row in zip(*columns, strict=True)]
    assert dict.fromkeys(texts) == dict.fromkeys(tuple(row[name] for name in names) for row in rows.values())
    found = {}
    for line in vcf.read_text().splitlines():
        if not line.startswith("#"):
            fields = line.split("\t")
            info = dict(entry.partition("=")[::2] for entry in fields[7].split(";"))
            for number, alt in enumerate(fields[4].split(",")):
                keys = ("VARFM_SEI_CLASS", "VARFM_SEI_SCORE", "VARFM_SEI_REF_CLASS", "VARFM_STATUS")
                texts = [info.get(key, ".,.,.").split(",") for key in keys]
                found[fields[2], alt] = tuple(text[number] for text in texts)
    assert found == {
        key: (row["top_class"], row["top_score"], row["ref_class"], row["status"]) for key, row in rows.items()
    }


def test_score_with_the_model_sei_writes_the_same_vcf(sei: list[str], tmp_path: Path) -> None:
    first, second = tmp_path / "a.vcf", tmp_path / "b.vcf"
    assert run(["classes", *sei, "--quiet", "-o", str(first)]) == 0
    assert run(["score", *sei, "--quiet", "-m", "sei", "-o", str(second)]) == 0
    assert first.read_bytes() == second.read_bytes()


def test_header_names_every_class_and_says_how_windows_lie(sei: list[str], tmp_path: Path) -> None:
    path = tmp_path / "o.vcf"
    assert run(["classes", *sei, "--quiet", "-o", str(path)]) == 0
    lines = path.read_text().splitlines()
    assert '##varfm_class=<ID=E1,Name="Stem cell",Group=E>' in lines
    assert sum(line.startswith("##varfm_class=") for line in lines) == 40
    [model] = [line for line in lines if line.startswith("##varfm_model=")]
    assert "selene" not in model and "anchor" in model


def test_compat_selene_changes_deletions_and_not_snvs_and_says_so(sei: list[str], tmp_path: Path) -> None:
    right, wrong = written(tmp_path, *sei), written(tmp_path, *sei, "--compat", "selene")
    same = {key for key, row in right.items() if row == wrong[key]}
    scored = {key for key, row in right.items() if row["top_score"] != "."}
    snvs = {key for key in scored if len(right[key]["ref"]) == len(key[1]) == 1}
    deletions = {key for key in scored if len(right[key]["ref"]) > len(key[1])}
    assert snvs <= same and len(snvs) > 20
    assert not deletions & same and len(deletions) > 5
    assert all(row["status"] == wrong[key]["status"] for key, row in right.items() if row["status"] == "OK")
    path = tmp_path / "selene.vcf"
    assert run(["classes", *sei, "--quiet", "--compat", "selene", "-o", str(path)]) == 0
    [model] = [line for line in path.read_text().splitlines() if line.startswith("##varfm_model=")]
    assert "compat=selene" in model or 'compat="selene"' in model


def test_two_spellings_of_a_deletion_score_alike_under_compat_too(sei: list[str], tmp_path: Path) -> None:
    rows = written(tmp_path, *sei, "--compat", "selene")
    left, right = rows["poly_a_shorter_left", "C"], rows["poly_a_shorter_right", "A"]
    assert [left[item.label] for item in CLASSES] == [right[item.label] for item in CLASSES]


def test_summary_goes_to_stderr(sei: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["classes", *sei, "-r", "NTNG1:20001"]) == 0
    shown = capfd.readouterr()
    assert shown.out.count("\n") == 4
    assert shown.err.splitlines()[-1].startswith("3 alleles: 3 scored.")
