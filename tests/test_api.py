"""The Python interface: results one by one and as a frame, and that equal files give equal results."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
from toys import RecordText, point_model, vcf_text, write_fasta

import varfm
from varfm import session
from varfm.api import Result
from varfm.errors import InputError, OptionError, ReferenceMismatch
from varfm.session import SessionOptions

BASES = "ACGTTGCAACGGATTCAGCT" * 3
RECORDS: list[RecordText] = [
    ("c", 31, "G", "T"),
    ("c", 31, "g", "t,*,GA"),
    ("c", 31, "G", "G"),
    ("c", 1, "T", "A"),
    ("c", 1, "A", "C"),
    ("z", 1, "A", "C"),
]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(session, "load_models", lambda options: [point_model()])
    vcf = tmp_path / "in.vcf"
    vcf.write_text(vcf_text(RECORDS))
    return str(vcf), str(write_fasta(tmp_path, {"c": BASES}))


def test_results_come_in_input_order_with_what_the_vcf_says(files: tuple[str, str]) -> None:
    with varfm.score(*files) as results:
        found = list(results)
    scores = {"sum": 37.5, "n_g": -0.5}
    assert found[0] == Result("c", 31, ".", "G", "T", "OK", None, scores)
    assert found[1] == Result("c", 31, ".", "g", "t", "OK", None, scores)
    assert found[2] == Result("c", 31, ".", "g", "*", "STAR", None, {})
    assert (found[3].alt, found[3].status) == ("GA", "OK")
    assert found[4] == Result("c", 31, ".", "G", "G", "OK", None, {"sum": 0.0, "n_g": 0.0})
    assert [result.status for result in found[5:]] == ["REF_MISMATCH", "PADDED", "NO_CONTIG"]
    assert all(math.isfinite(value) for result in found for value in result.scores.values())


def test_a_frame_has_one_row_per_result(files: tuple[str, str]) -> None:
    frame = varfm.score(*files).frame()
    assert frame["status"].tolist() == ["OK", "OK", "STAR", "OK", "OK", "REF_MISMATCH", "PADDED", "NO_CONTIG"]
    assert frame["pos"].tolist() == [31] * 5 + [1] * 3
    assert frame["sum"].iloc[0] == 37.5
    assert math.isnan(frame["sum"].iloc[2])


@pytest.mark.parametrize("block_records", [1, 2, 3])
def test_the_size_of_blocks_changes_nothing(
    files: tuple[str, str], block_records: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with varfm.score(*files) as results:
        expected = list(results)
    monkeypatch.setattr(session, "BLOCK_RECORDS", block_records)
    with varfm.score(*files) as results:
        assert list(results) == expected


def test_results_can_be_left_early(files: tuple[str, str]) -> None:
    with varfm.score(*files) as results:
        assert next(results).pos == 31
    results.close()
    unused = varfm.score(*files)
    unused.close()


def test_a_wrong_assembly_stops_before_the_first_result(files: tuple[str, str]) -> None:
    Path(files[0]).write_text(vcf_text([("c", 1, "T", "A")] * 5))
    with pytest.raises(ReferenceMismatch, match="5 of the first 5"):
        varfm.score(*files)
    with varfm.score(*files, options=SessionOptions("", None, max_ref_mismatch=100)) as results:
        assert [result.status for result in results] == ["REF_MISMATCH"] * 5


def test_an_error_in_the_middle_comes_after_the_results_before_it(
    files: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The judgement of the assembly is over after 2,000 alleles; what comes later is met while scoring.
    monkeypatch.setattr(session, "BLOCK_RECORDS", 1000)
    good = vcf_text([("c", 31, "G", "T")] * 3008)  # 47 blocks
    Path(files[0]).write_text(good + "c\tx\t.\tA\tC\t.\t.\t.\n")
    n_results = 0
    with pytest.raises(InputError, match="line 3,011: POS is"), varfm.score(*files) as results:
        for result in results:
            assert result.status == "OK"
            n_results += 1
    assert n_results == 3008


def test_a_missing_reference_is_asked_for(files: tuple[str, str]) -> None:
    with pytest.raises(InputError, match="no reference given"):
        varfm.score(files[0])


def test_a_reference_that_the_header_names_is_taken(files: tuple[str, str]) -> None:
    text = Path(files[0]).read_text().replace("v4.2\n", f"v4.2\n##reference=file://{files[1]}\n")
    Path(files[0]).write_text(text)
    with varfm.score(files[0]) as results:
        assert next(results).scores["sum"] == 37.5


def test_a_model_cannot_be_named_twice(files: tuple[str, str]) -> None:
    with pytest.raises(OptionError, match="twice"):
        session.Session(SessionOptions(*files, models=("mini", "mini")))


def test_old_keys_are_refused_or_replaced(files: tuple[str, str]) -> None:
    Path(files[0]).write_text(vcf_text([("c", 31, "G", "T")]).replace("\t.\n", "\tVARFM_STATUS=OK\n"))
    with pytest.raises(InputError, match="--overwrite"), varfm.score(*files) as results:
        list(results)
    with varfm.score(*files, options=SessionOptions("", None, overwrite=True)) as results:
        assert next(results).scores["sum"] == 37.5


def test_importing_the_package_loads_neither_torch_nor_pandas() -> None:
    code = "import sys, varfm; varfm.list_models(); print([m for m in ('torch', 'pandas') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert run.stdout.strip() == "[]"
