"""Tests of varfm.io.info: header lines and INFO text against literal bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pysam
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from varfm.errors import OptionError
from varfm.io.info import (
    best_status,
    clean_text,
    format_float,
    header_lines,
    info_texts,
    rounded,
)
from varfm.protocols import Column, Field, Model, Origin, Scored, Value
from varfm.variants import Status, VariantKind
from varfm.windows import Gene


@dataclass(frozen=True)
class ToyScorer:
    """Columns and fields only; a headline that is not plain names the gene and the largest column."""

    columns: tuple[Column, ...]
    fields: tuple[Field, ...]
    plain_fields: tuple[int, ...] | None = None
    needs_genes: bool = False
    supports: frozenset[VariantKind] = frozenset(VariantKind)
    max_allele: int = 10

    @property
    def n_values(self) -> int:
        return len(self.columns)

    def unchanged(self) -> Any:
        raise NotImplementedError

    def sites(self, left: object, right: object, genes: object) -> Any:
        raise NotImplementedError

    def haplotypes(self, site: object) -> Any:
        raise NotImplementedError

    def score(self, site: object, answers: object) -> Any:
        raise NotImplementedError

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        if self.plain_fields is not None:
            raise AssertionError("plain fields must not be asked for one by one")
        best = int(np.argmax(np.abs(scores)))
        return float(scores[best]), best, gene.name if gene else None


def column(name: str, formula: str = "alt - ref") -> Column:
    return Column(name, f"{name} difference", "log odds", formula)


MINI = Model(
    "mini",
    None,
    ToyScorer(
        (column("CTCF"), column("PU1")),
        (Field("CTCF", "Float", "CTCF binding"), Field("PU1", "Float", "PU.1 binding")),
        plain_fields=(0, 1),
    ),
    Origin("ab" * 32, options=(("indel-mode", "anchor"), ("strands", "both"))),
)
GENES = Model(
    "xpresso-human",
    None,
    ToyScorer(
        (column("LEVEL"), column("OTHER")),
        (Field("LEVEL", "Float", "Level"), Field("T", "Integer", "Track"), Field("GENE", "String", "Gene")),
        needs_genes=True,
    ),
)


def alleles_of(counts: Sequence[int]) -> Any:
    record = np.repeat(np.arange(len(counts)), counts)
    return SimpleNamespace(n_records=len(counts), record=record)


def scored_of(
    status: Sequence[Status],
    scores: Sequence[Sequence[float]],
    genes: tuple[Gene, ...] | None = None,
    site_allele: Sequence[int] | None = None,
    headline_site: Sequence[int] | None = None,
) -> Scored:
    """Give one site to each scored allele unless the sites are given."""
    is_scored = np.array([item.is_scored for item in status], bool)
    headline = np.where(is_scored, np.cumsum(is_scored) - 1, -1)
    width = len(scores[0]) if scores else 2
    return Scored(
        np.array(status, np.uint8),
        np.array(np.flatnonzero(is_scored) if site_allele is None else site_allele, np.int64),
        genes,
        np.array(scores, np.float64).reshape(len(scores), width),
        np.array(headline if headline_site is None else headline_site, np.int64),
    )


OK, PADDED, STAR, MISMATCH, NO_GENE = Status.OK, Status.PADDED, Status.STAR, Status.REF_MISMATCH, Status.NO_GENE


def test_each_record_gets_status_then_fields_in_order() -> None:
    scored = scored_of([OK, PADDED], [[0.1, -2.0], [1234567.0, -0.0]])
    assert info_texts(alleles_of([1, 1]), [(MINI, scored)]) == [
        b"VARFM_STATUS=OK;VARFM_MINI_CTCF=0.1;VARFM_MINI_PU1=-2",
        b"VARFM_STATUS=PADDED;VARFM_MINI_CTCF=1.23457e+06;VARFM_MINI_PU1=0",
    ]


def test_block_without_records_gives_no_text() -> None:
    assert info_texts(alleles_of([]), [(MINI, scored_of([], []))]) == []


def test_alleles_of_a_record_are_joined_with_points_for_those_without_score() -> None:
    scored = scored_of([OK, MISMATCH, STAR, OK, OK], [[0.5, 1.0], [2.0, 3.0], [4.0, 5.0]])
    assert info_texts(alleles_of([2, 1, 2]), [(MINI, scored)]) == [
        b"VARFM_STATUS=OK,REF_MISMATCH;VARFM_MINI_CTCF=0.5,.;VARFM_MINI_PU1=1,.",
        b"VARFM_STATUS=STAR",
        b"VARFM_STATUS=OK,OK;VARFM_MINI_CTCF=2,4;VARFM_MINI_PU1=3,5",
    ]


def test_keys_without_any_value_are_left_out_and_single_missing_values_are_points() -> None:
    scored = scored_of([OK, OK, OK], [[math.nan, 1.0], [math.inf, 2.0], [3.0, -math.inf]])
    assert info_texts(alleles_of([1, 2]), [(MINI, scored)]) == [
        b"VARFM_STATUS=OK;VARFM_MINI_PU1=1",
        b"VARFM_STATUS=OK,OK;VARFM_MINI_CTCF=.,3;VARFM_MINI_PU1=2,.",
    ]


def test_plain_fields_take_the_columns_they_name() -> None:
    swapped = replace(MINI, scorer=ToyScorer(MINI.scorer.columns, MINI.scorer.fields[:1], plain_fields=(1,)))
    assert info_texts(alleles_of([1]), [(swapped, scored_of([OK], [[1.0, 7.0]]))]) == [
        b"VARFM_STATUS=OK;VARFM_MINI_CTCF=7"
    ]


def test_an_allele_that_is_not_scored_shows_no_value_even_if_it_has_a_site() -> None:
    scored = scored_of([Status.NAN], [[1.0, 2.0]], site_allele=[0], headline_site=[0])
    assert info_texts(alleles_of([1]), [(MINI, scored)]) == [b"VARFM_STATUS=NAN"]


def test_several_models_have_a_status_each_and_the_best_of_them_in_front() -> None:
    mini = scored_of([MISMATCH, PADDED, OK], [[1.0, 2.0], [3.0, 4.0]])
    genes = scored_of([MISMATCH, NO_GENE, OK], [[5.0, 6.0]], genes=(Gene("ABC", "1", 5, "+", "E1"),))
    assert info_texts(alleles_of([1, 2]), [(MINI, mini), (GENES, genes)]) == [
        b"VARFM_STATUS=REF_MISMATCH;VARFM_MINI_STATUS=REF_MISMATCH;VARFM_XPRESSO_HUMAN_STATUS=REF_MISMATCH",
        b"VARFM_STATUS=PADDED,OK;VARFM_MINI_STATUS=PADDED,OK;VARFM_MINI_CTCF=1,3;VARFM_MINI_PU1=2,4;"
        b"VARFM_XPRESSO_HUMAN_STATUS=NO_GENE,OK;VARFM_XPRESSO_HUMAN_LEVEL=.,6;VARFM_XPRESSO_HUMAN_T=.,1;"
        b"VARFM_XPRESSO_HUMAN_GENE=.,ABC",
    ]


def test_gene_anchored_models_show_the_headline_site_with_a_clean_gene_name() -> None:
    genes = (Gene("A", "1", 5, "+", "A"), Gene("HLA A*1;x=2", "1", 9, "-", "B"), Gene("", "1", 9, "-", "C"))
    scored = scored_of(
        [OK, NO_GENE, OK],
        [[1.0, 0.0], [-3.0, 0.5], [0.25, -0.5]],
        genes=genes,
        site_allele=[0, 0, 2],
        headline_site=[1, -1, 2],
    )
    assert info_texts(alleles_of([1, 1, 1]), [(GENES, scored)]) == [
        b"VARFM_STATUS=OK;VARFM_XPRESSO_HUMAN_LEVEL=-3;VARFM_XPRESSO_HUMAN_T=0;VARFM_XPRESSO_HUMAN_GENE=HLA_A_1_x_2",
        b"VARFM_STATUS=NO_GENE",
        b"VARFM_STATUS=OK;VARFM_XPRESSO_HUMAN_LEVEL=-0.5;VARFM_XPRESSO_HUMAN_T=1",
    ]


def test_best_status_prefers_ok_then_padded_then_the_earlier_reason() -> None:
    first = np.array([Status.NAN, PADDED, Status.NO_ALT, Status.TOO_LONG], np.uint8)
    second = np.array([PADDED, OK, Status.NO_ALT, Status.UNSUPPORTED_KIND], np.uint8)
    assert best_status([first, second]).tolist() == [PADDED, OK, Status.NO_ALT, Status.UNSUPPORTED_KIND]
    assert best_status([second, first]).tolist() == best_status([first, second]).tolist()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, b"0"),
        (-0.0, b"0"),
        (-1e-60, b"0"),
        (1 / 3, b"0.333333"),
        (1e-5, b"1e-05"),
        (123456.5, b"123456"),
        (16777217.0, b"1.67772e+07"),
        (math.nan, b"."),
        (-math.inf, b"."),
        (1e39, b"."),
    ],
)
def test_floats_have_six_digits_no_negative_zero_and_no_nan(value: float, text: bytes) -> None:
    assert format_float(value) == text


@given(st.floats())
def test_a_written_float_reads_back_within_six_digits_and_is_written_alike_again(value: float) -> None:
    text = format_float(value)
    assert re.fullmatch(rb"[A-Za-z0-9._+-]+", text)
    assert text not in (b"-0", b"nan", b"inf", b"-inf")
    if text == b".":
        assert not abs(value) < 3.4e38
        return
    smallest = 1.5e-45  # of float32
    assert abs(float(text) - value) <= max(abs(value) * 5.1e-6, smallest)
    assert format_float(float(text)) == text


@given(st.lists(st.floats(), min_size=1))
def test_info_shows_the_rounded_float32_that_the_tables_hold(values: list[float]) -> None:
    scored = scored_of([OK] * len(values), [[value, 0.0] for value in values])
    texts = info_texts(alleles_of([1] * len(values)), [(MINI, scored)])
    for text, single in zip(texts, rounded(np.array(values)).tolist(), strict=True):
        shown = b"" if math.isnan(single) else b"VARFM_MINI_CTCF=%.6g;" % single
        assert text == b"VARFM_STATUS=OK;" + shown + b"VARFM_MINI_PU1=0"


def test_text_values_keep_only_signs_that_any_parser_takes() -> None:
    assert clean_text("E1 | Stem,cell") == "E1___Stem_cell"
    assert clean_text("é") == "_"
    assert clean_text("") == "."


def test_header_names_version_options_model_formulas_and_fields() -> None:
    assert header_lines([MINI], "0.1.0", [("on-ref-mismatch", "skip")]) == [
        b"##varfm_version=0.1.0",
        b'##varfm_option=<ID=on-ref-mismatch,Value="skip">',
        b'##varfm_model=<ID=mini,Weights="sha256:' + b"ab" * 32 + b'",Published="yes",'
        b'Scores="CTCF, PU1: alt - ref",indel_mode="anchor",strands="both">',
        b'##INFO=<ID=VARFM_STATUS,Number=A,Type=String,Description="Whether varfm scored the ALT: OK, PADDED (scored, '
        b"but the window leaves the contig), or why it did not: NO_ALT, STAR, SYMBOLIC, BREAKEND, NON_ACGT, NO_CONTIG, "
        b'OUT_OF_CONTIG, REF_MISMATCH, UNSUPPORTED_KIND, NO_GENE, TOO_LONG, N_HEAVY, NAN">',
        b'##INFO=<ID=VARFM_MINI_CTCF,Number=A,Type=Float,Description="CTCF binding">',
        b'##INFO=<ID=VARFM_MINI_PU1,Number=A,Type=Float,Description="PU.1 binding">',
    ]


def test_header_escapes_quotes_and_never_breaks_a_line() -> None:
    field = Field("CTCF", "Float", 'a "b" \\ c\n\x1b\x9b\u202ed')
    model = replace(MINI, scorer=ToyScorer(MINI.scorer.columns, (field,)))
    assert header_lines([model], "1", [])[-1].endswith(b'Description="a \\"b\\" \\\\ c d">')


def test_header_says_when_weights_are_not_the_published_file_and_what_the_licence_forbids() -> None:
    origin = Origin("cd", published=False, licence="CC BY-NC 4.0", notes=(("class", 'ID=E1,Name="Stem\ncell"'),))
    lines = header_lines([replace(MINI, origin=origin)], "1", [])
    assert lines[1].startswith(
        b'##varfm_model=<ID=mini,Weights="sha256:cd",Published="not the published file",Licence="CC BY-NC 4.0",'
    )
    assert lines[2] == b'##varfm_class=<ID=E1,Name="Stem cell">'


def test_header_counts_columns_that_share_a_formula_instead_of_naming_thousands() -> None:
    many = tuple(column(f"T{i}", "sum of bins") for i in range(9))
    model = replace(MINI, scorer=ToyScorer((*many, column("X", "mean")), MINI.scorer.fields), origin=Origin())
    assert header_lines([model], "1", [])[1] == (
        b'##varfm_model=<ID=mini,Weights="none",Scores="9 columns: sum of bins; X: mean">'
    )


def test_header_of_several_models_has_a_status_for_each() -> None:
    ids = [line.split(b",")[0] for line in header_lines([MINI, GENES], "1", []) if line.startswith(b"##INFO")]
    assert ids == [
        b"##INFO=<ID=VARFM_" + name
        for name in (
            b"STATUS",
            b"MINI_STATUS",
            b"MINI_CTCF",
            b"MINI_PU1",
            b"XPRESSO_HUMAN_STATUS",
            b"XPRESSO_HUMAN_LEVEL",
            b"XPRESSO_HUMAN_T",
            b"XPRESSO_HUMAN_GENE",
        )
    ]


def test_two_models_with_equal_keys_are_refused() -> None:
    with pytest.raises(OptionError, match="VARFM_MINI_STATUS would be written 2 times"):
        header_lines([MINI, MINI], "1", [])


def test_header_and_values_are_read_by_an_independent_parser(tmp_path: Path) -> None:
    origin = Origin("ab", licence='CC "BY" \\ NC, <4.0>', options=(("indel-mode", "a,b=<c>"),))
    scored = scored_of([OK, MISMATCH], [[0.5, -0.25]])
    text = b"\n".join(
        [
            b"##fileformat=VCFv4.3\n##contig=<ID=1>",
            *header_lines([replace(MINI, origin=origin)], "0.1.0", [("tss", "all")]),
            b"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO",
            b"1\t5\t.\tA\tC,G\t.\t.\t" + info_texts(alleles_of([2]), [(MINI, scored)])[0] + b"\n",
        ]
    )
    (tmp_path / "out.vcf").write_bytes(text)
    with pysam.VariantFile(str(tmp_path / "out.vcf")) as file:
        assert file.header.info["VARFM_MINI_CTCF"].number == "A"
        assert [dict(record.info) for record in file] == [
            {
                "VARFM_STATUS": ("OK", "REF_MISMATCH"),
                "VARFM_MINI_CTCF": (0.5, None),
                "VARFM_MINI_PU1": (-0.25, None),
            }
        ]


def one_by_one(
    counts: Sequence[int], status: Sequence[Status], cells: Sequence[Sequence[float] | None]
) -> Iterator[bytes]:
    """Write what `info_texts` writes, record by record, with `format_float` alone."""
    first = 0
    for count in counts:
        span = range(first, first + count)
        first += count
        entries = [b"VARFM_STATUS=" + b",".join(status[i].name.encode() for i in span)]
        for number, key in enumerate((b"VARFM_MINI_CTCF", b"VARFM_MINI_PU1")):
            texts = [b"." if (row := cells[i]) is None else format_float(row[number]) for i in span]
            if any(text != b"." for text in texts):
                entries.append(key + b"=" + b",".join(texts))
        yield b";".join(entries)


@given(st.data())
def test_whole_blocks_are_written_as_their_records_one_by_one(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=12))
    n = sum(counts)
    status = data.draw(st.lists(st.sampled_from(list(Status)), min_size=n, max_size=n))
    row = st.lists(st.sampled_from([0.5, -0.0, 1e-7, math.nan, math.inf, 123456789.0]), min_size=2, max_size=2)
    cells = [data.draw(row) if item.is_scored else None for item in status]
    scored = scored_of(status, [item for item in cells if item is not None])
    assert info_texts(alleles_of(counts), [(MINI, scored)]) == list(one_by_one(counts, status, cells))
