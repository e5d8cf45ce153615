"""Tests of varfm.io.table, rows and parquet: literal tables, and the three formats held against each other."""

from __future__ import annotations

import gzip
import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_info import GENES, MINI, OK, PADDED, STAR, ToyScorer, alleles_of, column, scored_of

from varfm.errors import DiskError, MissingExtra, OptionError
from varfm.io import table
from varfm.io.block import Block
from varfm.io.info import info_texts
from varfm.io.table import frame, open_table, table_path
from varfm.protocols import Model, Scored
from varfm.variants import Status
from varfm.windows import Gene

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

TEXT = (
    b"chr1\t10\trs1\tA\tG\t.\t.\t.\tGT\t0/1\n"
    b"chr1\t10\t.\tac\tT,*\t.\t.\tDP=1\tGT\t0/1\n"
    b"2\t0012\tx;y\tN\t.\t.\t.\t.\tGT\t0/1\n"
)


def block_of(text: bytes) -> Block:
    lines = text.splitlines(keepends=True)
    starts = np.cumsum([0, *map(len, lines)])
    ends = [np.cumsum([len(cell) + 1 for cell in line.split(b"\t")[:8]]) - 1 for line in lines]
    return Block("in.vcf", text, starts, starts[:-1, None] + np.array(ends, np.int64).reshape(-1, 8), 1, 0)


BLOCK = block_of(TEXT)
ALLELES = alleles_of([1, 2, 1])
SCORED = scored_of([OK, PADDED, STAR, Status.NO_ALT], [[0.5, -0.0], [1 / 3, math.nan]])
ROWS = (
    b"chr1\t10\trs1\tA\tG\tOK\t0.5\t0\n"
    b"chr1\t10\t.\tac\tT\tPADDED\t0.333333\t.\n"
    b"chr1\t10\t.\tac\t*\tSTAR\t.\t.\n"
    b"2\t0012\tx;y\tN\t.\tNO_ALT\t.\t.\n"
)
HEADER = b"contig\tpos\tid\tref\talt\tstatus\tCTCF\tPU1\n"
GENE_SCORED = scored_of(
    [OK, OK, STAR, Status.NO_GENE],
    [[1.0, 2.0], [math.nan, 4.0], [5.0, 6.0]],
    genes=(Gene("B", "1", 1, "+", "b"), Gene("A 1", "1", 2, "+", "a"), Gene("C", "1", 3, "-", "c")),
    site_allele=[0, 0, 1],
    headline_site=[0, 2, -1, -1],
)


def write(path: Path, model: Model, *parts: tuple[Block, Any, Scored]) -> None:
    writer = open_table(path, model, force=False)
    try:
        for part in parts:
            writer.write(*part)
        writer.seal()
        writer.publish()
    finally:
        writer.discard()


def test_tsv_has_one_header_line_and_one_row_per_allele_as_written_in_the_record(tmp_path: Path) -> None:
    write(tmp_path / "out.tsv", MINI, (BLOCK, ALLELES, SCORED))
    assert (tmp_path / "out.tsv").read_bytes() == HEADER + ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["out.tsv"]


def test_tsv_with_single_alts_takes_the_five_columns_as_one_piece(tmp_path: Path) -> None:
    part = (block_of(TEXT.splitlines(keepends=True)[0]), alleles_of([1]), scored_of([OK], [[2.0, 3.0]]))
    write(tmp_path / "out.tsv", MINI, part, part)
    row = b"chr1\t10\trs1\tA\tG\tOK\t2\t3\n"
    assert (tmp_path / "out.tsv").read_bytes() == HEADER + row + row


def test_compressed_tsv_is_bgzf_with_the_same_text(tmp_path: Path) -> None:
    write(tmp_path / "out.tsv.gz", MINI, (BLOCK, ALLELES, SCORED))
    data = (tmp_path / "out.tsv.gz").read_bytes()
    assert data[12:14] == b"BC"
    assert gzip.decompress(data) == HEADER + ROWS


def test_table_without_records_is_a_header_alone(tmp_path: Path) -> None:
    write(tmp_path / "out.tsv", MINI)
    write(tmp_path / "out.parquet", MINI)
    assert (tmp_path / "out.tsv").read_bytes() == HEADER
    assert pq.read_table(tmp_path / "out.parquet").shape == (0, 8)
    assert frame(MINI, []).shape == (0, 8)


def test_gene_anchored_models_have_a_row_per_gene_in_order_of_sites(tmp_path: Path) -> None:
    write(tmp_path / "out.tsv", GENES, (BLOCK, ALLELES, GENE_SCORED))
    assert (tmp_path / "out.tsv").read_bytes() == (
        b"contig\tpos\tid\tref\talt\tstatus\tgene\tLEVEL\tOTHER\n"
        b"chr1\t10\trs1\tA\tG\tOK\tB\t1\t2\n"
        b"chr1\t10\trs1\tA\tG\tOK\tA_1\t.\t4\n"
        b"chr1\t10\t.\tac\tT\tOK\tC\t5\t6\n"
        b"chr1\t10\t.\tac\t*\tSTAR\t.\t.\t.\n"
        b"2\t0012\tx;y\tN\t.\tNO_GENE\t.\t.\t.\n"
    )


def test_sites_of_alleles_that_are_not_scored_make_no_rows(tmp_path: Path) -> None:
    scored = scored_of([Status.NAN], [[1.0, 2.0]], site_allele=[0], headline_site=[0])
    write(tmp_path / "out.tsv", MINI, (block_of(TEXT.splitlines(keepends=True)[0]), alleles_of([1]), scored))
    assert (tmp_path / "out.tsv").read_bytes() == HEADER + b"chr1\t10\trs1\tA\tG\tNAN\t.\t.\n"


def test_parquet_holds_float32_with_nulls_and_the_meaning_of_each_score(tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", MINI, (BLOCK, ALLELES, SCORED))
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.to_pydict() == {
        "contig": ["chr1", "chr1", "chr1", "2"],
        "pos": [10, 10, 10, 12],
        "id": ["rs1", ".", ".", "x;y"],
        "ref": ["A", "ac", "ac", "N"],
        "alt": ["G", "T", "*", "."],
        "status": ["OK", "PADDED", "STAR", "NO_ALT"],
        "CTCF": [0.5, float(np.float32(1 / 3)), None, None],
        "PU1": [0.0, None, None, None],
    }
    assert math.copysign(1, found["PU1"][0].as_py()) == 1
    assert found.schema.field("CTCF").type == pa.float32()
    assert found.schema.field("pos").type == pa.int64()
    assert found.schema.field("alt").type == pa.large_string()
    about = {b"description": b"CTCF difference", b"unit": b"log odds", b"formula": b"alt - ref"}
    assert {key: found.schema.field("CTCF").metadata[key] for key in about} == about
    assert found.schema.metadata[b"varfm_model"] == b"mini"


def test_parquet_has_null_where_an_allele_has_no_gene(tmp_path: Path) -> None:
    write(tmp_path / "out.parquet", GENES, (BLOCK, ALLELES, GENE_SCORED))
    found = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert found["gene"] == ["B", "A_1", "C", None, None]
    assert found["LEVEL"] == [1.0, None, 5.0, None, None]


def test_bytes_that_are_not_utf8_stay_in_tsv_and_become_replacement_signs_elsewhere(tmp_path: Path) -> None:
    part = (block_of(b"c\xe9\t1\tr\xc3\xa9\tA\tG\t.\t.\t.\n"), alleles_of([1]), scored_of([OK], [[1.0, 2.0]]))
    write(tmp_path / "out.tsv", MINI, part)
    write(tmp_path / "out.parquet", MINI, part)
    assert (tmp_path / "out.tsv").read_bytes() == HEADER + b"c\xe9\t1\tr\xc3\xa9\tA\tG\tOK\t1\t2\n"
    found = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert (found["contig"], found["id"]) == (["c\ufffd"], ["r\u00e9"])
    assert frame(MINI, [part])["contig"].tolist() == ["c\ufffd"]


def test_row_groups_do_not_depend_on_how_records_came_in_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("varfm.io.parquet._GROUP_ROWS", (3, 3))
    write(tmp_path / "whole.parquet", MINI, *[(BLOCK, ALLELES, SCORED)] * 3)
    line = block_of(TEXT.splitlines(keepends=True)[0])
    single = (line, alleles_of([1]), scored_of([OK], [[1.0, 2.0]]))
    write(tmp_path / "single.parquet", MINI, *[single] * 12)
    sizes = [
        [found.row_group(group).num_rows for group in range(found.num_row_groups)]
        for found in (pq.read_metadata(tmp_path / name) for name in ("whole.parquet", "single.parquet"))
    ]
    assert sizes == [[3, 3, 3, 3], [3, 3, 3, 3]]
    assert pq.read_table(tmp_path / "whole.parquet")["alt"].to_pylist() == ["G", "T", "*", "."] * 3


def test_wide_tables_are_written_in_pieces_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_VALUES_AT_ONCE", 4)
    wide = replace(MINI, scorer=ToyScorer(tuple(column(f"T{i}") for i in range(3)), ()))
    scored = scored_of([OK, OK, STAR, OK], [[1, 2, 3], [4, 5, 6], [7, 8, 9]])
    write(tmp_path / "out.tsv", wide, (BLOCK, ALLELES, scored))
    cells = [line.split(b"\t", 6)[6] for line in (tmp_path / "out.tsv").read_bytes().splitlines()]
    assert cells == [b"T0\tT1\tT2", b"1\t2\t3", b"4\t5\t6", b".\t.\t.", b"7\t8\t9"]


def test_frame_has_the_columns_of_the_table() -> None:
    found = frame(GENES, [(BLOCK, ALLELES, GENE_SCORED), (BLOCK, ALLELES, GENE_SCORED)])
    assert list(found.columns) == ["contig", "pos", "id", "ref", "alt", "status", "gene", "LEVEL", "OTHER"]
    assert len(found) == 10 and found.index.tolist() == list(range(10))
    assert found["pos"].tolist()[:5] == [10, 10, 10, 10, 12]
    assert found["pos"].dtype == np.int64 and found["LEVEL"].dtype == np.float32
    assert found["gene"].isna().tolist()[:5] == [False, False, False, True, True]
    np.testing.assert_array_equal(found["LEVEL"][:5], np.array([1, np.nan, 5, np.nan, np.nan], np.float32))


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(), st.floats(width=32)), min_size=1, max_size=20))
def test_info_tsv_and_parquet_agree_after_rounding_to_six_digits(
    tmp_path_factory: pytest.TempPathFactory, scores: list[tuple[float, float]]
) -> None:
    folder = tmp_path_factory.mktemp("formats")
    block = block_of(TEXT.splitlines(keepends=True)[0] * len(scores))
    part = (block, alleles_of([1] * len(scores)), scored_of([OK] * len(scores), scores))
    write(folder / "out.tsv", MINI, part)
    write(folder / "out.parquet", MINI, part)
    held = pq.read_table(folder / "out.parquet")
    lines = (folder / "out.tsv").read_bytes().splitlines()[1:]
    for line, info, *values in zip(
        lines, info_texts(part[1], [(MINI, part[2])]), held["CTCF"].to_pylist(), held["PU1"].to_pylist(), strict=True
    ):
        shown = [b"." if value is None else b"%.6g" % value for value in values]
        assert line.split(b"\t")[6:] == shown
        keys = dict(entry.split(b"=") for entry in info.split(b";"))
        assert [keys.get(b"VARFM_MINI_CTCF", b"."), keys.get(b"VARFM_MINI_PU1", b".")] == shown


def test_several_models_write_a_table_each() -> None:
    assert table_path(Path("d/out.tsv"), "mini", 1) == Path("d/out.tsv")
    assert table_path(Path("d/out.x.tsv"), "mini", 2) == Path("d/out.x.mini.tsv")
    assert table_path(Path("d/out.tsv.gz"), "mini", 2) == Path("d/out.mini.tsv.gz")
    assert table_path(Path("out.parquet"), "xpresso-human", 2) == Path("out.xpresso-human.parquet")


def test_a_suffix_that_is_no_table_is_refused() -> None:
    with pytest.raises(OptionError, match=r"out\.csv: the suffix names no table"):
        table_path(Path("out.csv"), "mini", 1)


@pytest.mark.parametrize("name", ["out.tsv", "out.tsv.gz", "out.parquet"])
def test_discarding_leaves_no_file(tmp_path: Path, name: str) -> None:
    writer = open_table(tmp_path / name, MINI, force=False)
    writer.write(BLOCK, ALLELES, SCORED)
    writer.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.tsv", "out.tsv.gz", "out.parquet"])
def test_discarding_after_the_end_keeps_the_file(tmp_path: Path, name: str) -> None:
    writer = open_table(tmp_path / name, MINI, force=False)
    writer.seal()
    writer.publish()
    writer.discard()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["out.tsv", "out.parquet"])
def test_an_existing_table_is_replaced_only_with_force(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(OptionError, match="--force"):
        open_table(tmp_path / name, MINI, force=False)
    writer = open_table(tmp_path / name, MINI, force=True)
    writer.seal()
    writer.publish()
    assert (tmp_path / name).read_bytes() != b"old"


@pytest.mark.parametrize("name", ["out.tsv", "out.tsv.gz", "out.parquet"])
def test_a_lost_row_is_found_before_the_file_gets_its_name(tmp_path: Path, name: str) -> None:
    writer: Any = open_table(tmp_path / name, MINI, force=False)
    writer.write(BLOCK, ALLELES, SCORED)
    writer._n_rows += 1
    with pytest.raises(DiskError, match="of 5 rows written, 4 came back"):
        writer.seal()
        writer.publish()
    writer.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.tsv", "out.tsv.gz", "out.parquet"])
def test_a_full_disk_is_a_disk_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        target = SimpleNamespace(file=full, discard=full.close, close=full.close)
        monkeypatch.setattr("varfm.io.counted.AtomicFile", lambda path, force, staging: target)
        with pytest.raises(DiskError, match=f"{name}: writing failed: No space left on device"):
            write(tmp_path / name, MINI, (BLOCK, ALLELES, SCORED))


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pip install 'varfm\[parquet\]'"):
        open_table(tmp_path / "out.parquet", MINI, force=False)
    assert list(tmp_path.iterdir()) == []


def test_parquet_is_written_without_pandas(tmp_path: Path) -> None:
    root = Path(__file__).parents[1] / "example_data"
    command = ["score", str(root / "ntng1.vcf"), "-f", str(root / "ntng1.fa.gz"), "-m", "null", "--quiet"]
    code = f"import sys; from varfm.cli.main import run; assert run({[*command, '-o', 'out.parquet']}) == 0; "
    code += "assert 'pyarrow' in sys.modules; assert 'pandas' not in sys.modules"
    environment = os.environ | {"VARFM_TESTING": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True)
