"""Tests of `varfm ism`: what is mutated, that scores are those of `varfm score`, and what is written."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small_languages import SMALL, small_language
from small_models import CONFIGS, small_model
from toys import SHARED, needs_shared, point_model, tss_model, vcf_text

from varfm import ism
from varfm.cli.main import run
from varfm.contigs import ContigMap
from varfm.errors import OptionError, ReferenceMismatch
from varfm.genome import Genome, encode, reverse_complement
from varfm.io.block import ALT, ID, POS, REF
from varfm.ism import IsmSession, Place, SubstitutionReader, read_place
from varfm.picture import PictureWriter
from varfm.protocols import Model
from varfm.scorers.placement import Centred
from varfm.session import GeneOptions, Session, SessionOptions
from varfm.variants import Status, Variant
from varfm.windows import Site

EXAMPLE = Path(__file__).parents[1] / "example_data"
NTNG1 = EXAMPLE / "ntng1.fa.gz"
MPRA = ["-m", "mpra-dragonn", "--weights", str(SHARED / "mpra_dragonn_conv.hdf5"), "--offline", "--quiet"]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("VARFM_")]:
        monkeypatch.delenv(name)
    (tmp_path / "config.toml").touch()
    monkeypatch.setenv("VARFM_CONFIG", str(tmp_path / "config.toml"))
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VARFM_TESTING", "1")
    monkeypatch.setenv("VARFM_THREADS", "1")
    monkeypatch.setenv("VARFM_DEVICE", "cpu")


@pytest.fixture
def fasta(tmp_path: Path) -> str:
    """A reference with lower case, N, an ambiguity code, and a name that holds what separates a region."""
    path = tmp_path / "toy.fa"
    path.write_text(">chr1\nACGTNacgtACGRAC\n>HLA:1-2\nGGGG\n>chr2\nTTTT\n>chr3\nTTTT\n")
    return str(path)


@pytest.fixture
def genome(fasta: str, tmp_path: Path) -> Iterator[Genome]:
    with Genome(fasta, tmp_path / "cache") as genome:
        yield genome


def place(text: str, genome: Genome, flank: int = 2) -> Place:
    return read_place(text, flank, ContigMap(genome.contigs), genome)


def records(where: Place, n_records: int = 4096) -> list[tuple[str, str, str, str]]:
    """Give POS, ID, REF and ALT of all records."""
    return [
        tuple(block.field(record, column).decode() for column in (POS, ID, REF, ALT))  # type: ignore[misc]
        for block in SubstitutionReader(where).blocks(n_records)
        for record in range(block.n_records)
    ]


# What is mutated.


@pytest.mark.parametrize(
    ("text", "start", "end", "bases"),
    [
        ("chr1:1-4", 0, 4, "ACGT"),
        ("1:6-9", 5, 9, "ACGT"),
        ("chr1:4-6", 3, 6, "TNA"),
        ("chr1:13-15", 12, 15, "NAC"),
        ("HLA:1-2:2-3", 1, 3, "GG"),
        ("chr1:1-15", 0, 15, "ACGTNACGTACGNAC"),
    ],
)
def test_region_counts_from_one_and_holds_its_ends(text: str, start: int, end: int, bases: str, genome: Genome) -> None:
    found = place(text, genome)
    assert (found.start, found.end, found.bases, found.written) == (start, end, bases, None)
    assert str(found) == text


def test_region_may_have_thousands_commas(tmp_path: Path) -> None:
    path = tmp_path / "long.fa"
    path.write_text(f">c\n{'ACGT' * 500}\n")
    with Genome(path, tmp_path / "cache") as genome:
        assert str(place("c:1,001-1,010", genome)) == "c:1001-1010"


@pytest.mark.parametrize("text", ["chr1:7:C:T", "chr1-7-C-T", "chr1:7:C>T", "1:7:c:t", "chr1:6:AC:AT"])
def test_variant_lies_in_the_middle_of_its_flanks(text: str, genome: Genome) -> None:
    found = place(text, genome)
    assert (found.start, found.end) == (4, 9)
    assert found.variant is not None and found.variant[1:] == (6, "C", "T")
    assert found.is_substitution
    marked = [record for record in records(found) if record[1] == "variant"]
    assert marked == [("7", "variant", "C", "T")]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [("chr1:1:A:C", 0, 3), ("chr1:15:C:A", 12, 15), ("chr1:6:ACG:A", 4, 10), ("chr1:6:A:ATT", 4, 8)],
)
def test_flanks_end_where_the_contig_ends_and_begin_at_the_bases_that_change(
    text: str, start: int, end: int, genome: Genome
) -> None:
    found = place(text, genome)
    assert (found.start, found.end) == (start, end)


@pytest.mark.parametrize("text", ["chr1:6:ACG:A", "chr1:6:A:ATT", "chr1:6:AC:GT", "chr1:13:G:T"])
def test_variant_that_is_no_substitution_of_the_reference_stands_first(text: str, genome: Genome) -> None:
    found = place(text, genome)
    _, position, ref, alt = text.split(":")
    first, *rest = records(found)
    assert first == (position, "variant", ref, alt)
    assert {record[1] for record in rest} == {"."}


def test_every_position_has_its_three_substitutions_in_order(genome: Genome) -> None:
    assert records(place("chr1:2-3", genome)) == [
        ("2", ".", "C", "A"),
        ("2", ".", "C", "G"),
        ("2", ".", "C", "T"),
        ("3", ".", "G", "A"),
        ("3", ".", "G", "C"),
        ("3", ".", "G", "T"),
    ]


@pytest.mark.parametrize("n_records", [1, 3, 4, 7, 100])
def test_size_of_blocks_changes_no_record(n_records: int, genome: Genome) -> None:
    for text in ("chr1:1-15", "chr1:6:ACG:A"):
        found = place(text, genome)
        assert records(found, n_records) == records(found)
        assert max(block.n_records for block in SubstitutionReader(found).blocks(n_records)) <= max(n_records, 4) + 2


def test_reader_tells_how_far_it_is(genome: Genome) -> None:
    reader = SubstitutionReader(place("chr1:1-4", genome))
    assert reader.fraction == 0
    assert [reader.fraction for _ in reader.blocks(3)] == [0, 0.25, 0.5, 0.75]
    assert reader.fraction == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("chr1", "no region and no variant"),
        ("in.vcf", "no region and no variant"),
        ("chr1:5", "no region and no variant"),
        ("chr1:1-", "no region and no variant"),
        ("chr1:\u0661-\u0662", "no region and no variant"),
        ("chr1:9-5", "the end is before the start"),
        ("chr1:0-5", "has the positions 1 to 15"),
        ("chr1:1-16", "has the positions 1 to 15"),
        ("chr1:10000000000000000000000-10000000000000000000001", "has the positions 1 to 15"),
        ("chr9:1-5", r"has no contig 'chr9' \(it has chr1, HLA:1-2, chr2, \.\.\.\)"),
        ("\x1b:1-5", r"'\\x1b'"),
        ("chr9:1:A:C", "has no contig"),
        ("chr1:1:A:N", "made of A, C, G and T"),
        ("chr1:1:A:<DEL>", "no region and no variant"),
        ("chr1:1:A:A", "are the same"),
        ("chr1:15:CA:C", "has the positions 1 to 15"),
        ("chr1:0:A:C", "has the positions 1 to 15"),
    ],
)
def test_region_that_makes_no_sense_is_refused(text: str, message: str, genome: Genome) -> None:
    with pytest.raises(OptionError, match=message):
        place(text, genome)


@given(text=st.one_of(st.text(), st.text("chr12HLA:-0123456789,>NacgtACGT", min_size=8)))
@example(text="chr1:" + "1" * 5000 + "-" + "9" * 5000)
@example(text="chr1:1:A:" + "C" * 5000)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_understood_or_refused(text: str, genome: Genome) -> None:
    try:
        found = place(text, genome)
    except (OptionError, ReferenceMismatch) as error:
        assert "\n" not in str(error).replace(text, "")
        return
    assert 0 <= found.start < found.end <= 15
    assert len(found.bases) == found.end - found.start
    assert len(records(found)) >= 3 * len(found.bases)


def test_insertion_without_flank_has_nothing_to_mutate(genome: Genome) -> None:
    with pytest.raises(OptionError, match="--flank 1 or more"):
        place("chr1:6:A:AT", genome, flank=0)
    assert place("chr1:6:A:T", genome, flank=0).bases == "A"


def test_ref_that_the_fasta_does_not_have_is_refused(genome: Genome) -> None:
    with pytest.raises(ReferenceMismatch, match=r"toy\.fa has A there, not C"):
        place("chr1:6:C:T", genome)
    with pytest.raises(ReferenceMismatch, match="has N there, not A"):
        place("chr1:5:A:T", genome)


def test_long_region_is_refused(genome: Genome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ism, "MAX_LENGTH", 5)
    assert place("chr1:1-5", genome).bases == "ACGTN"
    for text in ("chr1:1-6", "chr1:6:A:C"):
        with pytest.raises(OptionError, match=r"[67] positions; 5 are allowed"):
            place(text, genome, flank=3)


# Scores.


Found = dict[tuple[int, str], tuple[str, str]]
"""Status, and scores as text (which tells NaN from NaN no more), by 1-based position and ALT."""


def scores_of(session: Session) -> Found:
    """Score everything."""
    found: Found = {}
    with session:
        for block, alleles, (scored, *_), _ in session:
            for allele in range(len(alleles)):
                record = int(alleles.record[allele])
                key = int(block.positions[record]), block.field(record, ALT).decode()
                sites = scored.scores[scored.site_allele == allele]
                found[key] = Status(scored.status[allele]).name, str(sites.ravel().tolist())
    return found


def both_ways(model: Model, fasta: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Found, Found]:
    """Score a region with `ism`, and its substitutions, in another order, from a VCF."""
    monkeypatch.setattr("varfm.session.load_models", lambda options: [model])
    options = SessionOptions(where, str(fasta), (model.name,), device="cpu", threads=1)
    session = IsmSession(options)
    contig = session.place.contig
    rows = [
        (contig, session.place.start + index + 1, ref, alt)
        for index, ref in enumerate(session.place.bases)
        for alt in "ACGT"
        if alt != ref
    ]
    vcf = fasta.with_suffix(".vcf")
    vcf.write_text(vcf_text(rows[::-1]))
    found = scores_of(session)
    return found, scores_of(Session(SessionOptions(str(vcf), str(fasta), (model.name,), device="cpu", threads=1)))


@pytest.mark.parametrize("name", sorted(CONFIGS) + sorted(SMALL))
def test_scores_of_every_model_are_those_of_a_vcf(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "random.fa"
    path.write_text(">c\n" + "".join(np.random.default_rng(3).choice(list("ACGT"), 700)) + "\n")
    model = small_language(name) if name in SMALL else small_model(name)
    found, expected = both_ways(model, path, "c:350-352", monkeypatch)
    assert len(found) == 9 and {status for status, _ in found.values()} == {"OK"}
    assert len({scores for _, scores in found.values()}) == 9
    assert found == expected


CENTRED = sorted(name for name in CONFIGS if type(getattr(small_model(name).scorer, "placement", None)) is Centred)


def expected_in_one_window(model: Model, bases: str, start: int, place: int, alt: str) -> str:
    """Score a substitution in the window that begins at `start`, from the letters."""
    network, window = model.network, bases[start : start + model.network.length]
    changed = window[: place - start] + alt + window[place - start + 1 :]
    sequences = [one for text in (window, changed) for one in (encode(text), reverse_complement(encode(text)))]
    variant = Variant("c", place, bases[place], alt)
    site = Site(variant, variant)
    answers = []
    for sequence, haplotype in zip(sequences, model.scorer.haplotypes(site), strict=True):
        with torch.inference_mode():
            codes = torch.from_numpy(np.frombuffer(sequence, np.uint8).copy())[None]
            answers.append(network.reduce(haplotype, sequence, list(network(codes))))
    return str(model.scorer.score(site, answers).tolist())


@pytest.mark.parametrize("name", CENTRED)
def test_all_substitutions_are_scored_in_one_window_if_asked_for(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(name)
    monkeypatch.setattr("varfm.session.load_models", lambda options: [model])
    bases = "".join(np.random.default_rng(3).choice(list("ACGT"), 1200))
    path = tmp_path / "random.fa"
    path.write_text(f">c\n{bases}\n")
    options = SessionOptions("c:596-602", str(path), (name,), device="cpu", threads=1, exact_full=True)
    own, found = scores_of(IsmSession(options)), scores_of(IsmSession(options, in_one_window=True))
    placement = model.scorer.placement
    start = 598 - placement.index
    assert found.keys() == own.keys() and len(found) == 21
    for (pos, alt), (status, scores) in found.items():
        expected = ast.literal_eval(expected_in_one_window(model, bases, start, pos - 1, alt))
        assert status == "OK"
        np.testing.assert_allclose(ast.literal_eval(scores), expected, rtol=0, atol=1e-5 * max(map(abs, expected)))
        assert (scores == own[pos, alt][1]) == (pos == 599)


def test_one_window_takes_one_reference_pass_and_a_change_per_allele(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model("basset")
    monkeypatch.setattr("varfm.session.load_models", lambda options: [model])
    path = tmp_path / "random.fa"
    path.write_text(">c\n" + "".join(np.random.default_rng(3).choice(list("ACGT"), 1200)) + "\n")
    session = IsmSession(SessionOptions("c:595-604", str(path), ("basset",), device="cpu"), in_one_window=True)
    scores_of(session)
    assert session.engines[0].runner is not None
    assert session.engines[0].runner.n_computed == 2 + 2 * 30  # both strands
    assert dict(session.models[0].origin.options)["one_window"].startswith("c:")


def test_picture_names_the_one_window(tmp_path: Path) -> None:
    svg = tmp_path / "one.svg"
    ism_table(tmp_path, "NTNG1:13257-13259", "-f", str(NTNG1), "--quiet", "--one-window", "--svg", str(svg))
    assert "in one window, NTNG1:13209-13307." in " ".join(svg.read_text().split())


def test_variant_of_another_length_is_scored_in_the_one_window(tmp_path: Path) -> None:
    where = ["NTNG1:13257:C:CAT", "-f", str(NTNG1), "--quiet"]
    own, one = ism_table(tmp_path, *where, "--flank", "4"), ism_table(tmp_path, *where, "--flank", "4", "--one-window")
    assert own["id"].tolist() == one["id"].tolist() and own["id"][0] == "variant"
    assert (one["status"] == "OK").all()
    scores = own.columns[-1]
    assert one[scores][0] == own[scores][0]
    assert (one[scores] != own[scores]).sum() > 20


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["NTNG1:13207-13307"], "101 positions do not fit into the window of mini, which holds 99"),
        (["NTNG1:13257:C:G", "--flank", "50"], "101 positions do not fit"),
        (["MKNK1:28850-28852", "-m", "null"], "the windows of null do not lie centred on alleles"),
    ],
)
def test_what_does_not_fit_into_one_window_is_refused(
    args: list[str], words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.tsv"
    assert run(["ism", *args, "--one-window", "-f", str(NTNG1), "-o", str(out)]) == 2
    assert words in " ".join(capfd.readouterr().err.split())
    assert not out.exists()


def test_ends_of_a_contig_are_padded_and_n_is_skipped(fasta: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected = both_ways(point_model(), Path(fasta), "chr1:1-9", monkeypatch)
    assert found == expected
    words = {key: status for key, (status, _) in found.items()}
    assert words[(1, "C")] == "N_HEAVY"  # four of nine bases lie outside, and there is an N
    assert words[(2, "A")] == "PADDED"
    assert words[(7, "A")] == "OK"
    assert [found[(5, base)] for base in "ACGT"] == [("NON_ACGT", "[]")] * 4


def test_lower_case_scores_like_upper_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("varfm.session.load_models", lambda options: [point_model()])
    found = []
    for name, bases in (("lower", "acgtacgtacgtac"), ("upper", "ACGTACGTACGTAC")):
        path = tmp_path / f"{name}.fa"
        path.write_text(f">c\n{bases}\n")
        found.append(scores_of(IsmSession(SessionOptions("c:1-14", str(path), ("toy",), device="cpu", threads=1))))
    assert found[0] == found[1]


def ism_table(tmp_path: Path, *args: str) -> pd.DataFrame:
    """Run `varfm ism` and read its table."""
    path = tmp_path / f"ism{len(list(tmp_path.iterdir()))}.parquet"
    assert run(["ism", *args, "-o", str(path)]) == 0
    return pd.read_parquet(path)


@needs_shared
@pytest.mark.parametrize("where", ["LDLR:150-160", pytest.param("LDLR:1-318", marks=pytest.mark.slow)])
def test_ism_of_the_ldlr_element_equals_score_on_the_same_snvs(where: str, tmp_path: Path) -> None:
    fasta = str(SHARED / "satmut_elements.fa")
    table = ism_table(tmp_path, where, "-f", fasta, *MPRA)
    vcf, scored = tmp_path / "snvs.vcf", tmp_path / "score.parquet"
    vcf.write_text(vcf_text(list(table[["contig", "pos", "ref", "alt"]].itertuples(index=False, name=None))))
    assert run(["score", str(vcf), "-f", fasta, *MPRA, "-o", str(scored)]) == 0
    expected = pd.read_parquet(scored)
    assert list(table.columns) == list(expected.columns)
    assert table.iloc[:, :6].equals(expected.iloc[:, :6])
    assert table["HEPG2"].abs().max() > 0.05
    np.testing.assert_allclose(table.iloc[:, 6:], expected.iloc[:, 6:], rtol=0, atol=1e-6)


@needs_shared
def test_scores_computed_from_what_changes_are_those_of_whole_windows(tmp_path: Path) -> None:
    args = ["LDLR:175-179", "-f", str(SHARED / "satmut_elements.fa"), *MPRA]
    changed, whole = (ism_table(tmp_path, *args, *more)["HEPG2"] for more in ([], ["--exact-full"]))
    assert whole.abs().max() > 0.05
    np.testing.assert_allclose(changed, whole, rtol=0, atol=1e-5 * whole.abs().max())


@needs_shared
def test_models_of_genes_have_a_row_for_each_gene(tmp_path: Path) -> None:
    xpresso = ["-m", "xpresso-human", "--weights", str(SHARED / "xpresso_human_median.h5"), "--quiet"]
    genes = ["--genes", str(EXAMPLE / "ntng1.gff3"), "-f", str(NTNG1)]
    svg = tmp_path / "gene.svg"
    table = ism_table(tmp_path, "MKNK1:28850-28852", *genes, *xpresso, "--svg", str(svg))
    assert table["gene"].tolist() == ["MKNK1"] * 9
    assert table["delta_z"].abs().min() > 0
    assert "xpresso-human: delta_z of MKNK1 in MKNK1:28850-28852" in svg.read_text()


# What is written.


def test_table_has_one_row_per_substitution(fasta: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ism", "1:3-5", "-f", fasta, "-m", "null"]) == 0
    shown = capfd.readouterr()
    lines = [line.split("\t") for line in shown.out.splitlines()]
    assert lines[0] == ["contig", "pos", "id", "ref", "alt", "status", "position"]
    assert lines[1] == ["1", "3", ".", "G", "A", "OK", "2"]
    assert lines[-1] == ["1", "5", ".", "N", "T", "NON_ACGT", "."]
    assert len(lines) == 1 + 3 + 3 + 4
    assert "contig names: 1 = chr1" in shown.err
    assert re.search(r"10 alleles: 6 scored, 4 not \(4 NON_ACGT\)", shown.err)


def test_formats_hold_the_same_table(fasta: str, tmp_path: Path) -> None:
    names = ("a.tsv", "a.tsv.gz", "a.parquet")
    for name in names:
        assert run(["ism", "chr1:1-9", "-f", fasta, "-m", "null", "-o", str(tmp_path / name), "--quiet"]) == 0
    tables = [pd.read_csv(tmp_path / name, sep="\t", na_values=".", keep_default_na=False) for name in names[:2]]
    parquet = pd.read_parquet(tmp_path / names[2])
    assert tables[0].equals(tables[1])
    assert parquet["position"].equals(tables[0]["position"].astype(np.float32))
    assert parquet[["pos", "ref", "alt", "status"]].equals(tables[0][["pos", "ref", "alt", "status"]])


def test_manifest_names_region_table_and_picture(fasta: str, tmp_path: Path) -> None:
    table, svg = tmp_path / "a.tsv", tmp_path / "a.svg"
    args = ["ism", "chr1:1-4", "-f", fasta, "-m", "null", "-o", str(table), "--svg", str(svg), "--quiet"]
    assert run(args) == 0
    manifest = json.loads((tmp_path / "a.tsv.varfm.json").read_text())
    assert manifest["command"] == args
    assert (manifest["inputs"][0]["role"], manifest["inputs"][0]["path"]) == ("region", "chr1:1-4")
    assert [(item["role"], item["path"]) for item in manifest["outputs"]] == [
        ("table", str(table)),
        ("picture", str(svg)),
    ]
    assert manifest["counts"]["alleles"] == 12


def test_picture_shows_what_the_table_says(tmp_path: Path) -> None:
    svg = tmp_path / "a.svg"
    args = ["NTNG1:13257:C:G", "--flank", "3", "-f", str(NTNG1), "--svg", str(svg), "--column", "PU1", "--quiet"]
    table = ism_table(tmp_path, *args)
    titles = [element.text or "" for element in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "mini: PU1 around NTNG1:13,257 C>G"
    shown = sorted(titles[1:])
    expected = [f"NTNG1:{row.pos:,} {row.ref}>{row.alt}: {row.PU1:.3g}" for row in table.itertuples()]
    assert len(shown) == 21 and shown == sorted(expected)


def test_picture_of_a_deletion_gives_its_own_score_in_words(tmp_path: Path) -> None:
    svg = tmp_path / "a.svg"
    table = ism_table(tmp_path, "NTNG1:13256:CCA:C", "--flank", "2", "-f", str(NTNG1), "--svg", str(svg), "--quiet")
    assert table.loc[0, ["pos", "id", "ref", "alt"]].tolist() == [13256, "variant", "CCA", "C"]
    text = svg.read_text()
    assert f"The variant itself, NTNG1:13,256 CCA&gt;C: {table.loc[0, 'CTCF']:.3g}." in text
    assert text.count("<title>") == len(table) - 1


def test_picture_says_which_of_many_scores_it_shows(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    args = ["ism", "NTNG1:13257-13258", "-f", str(NTNG1), "--svg", str(tmp_path / "a.svg"), "--force"]
    assert run([*args, "-o", str(tmp_path / "a.tsv")]) == 0
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "picture: CTCF, one of 2 scores; --column NAME draws another"
    assert lines[-1].startswith("6 alleles: 6 scored.")
    assert run([*args, "-o", str(tmp_path / "b.tsv"), "--column", "PU1"]) == 0
    assert "picture" not in capfd.readouterr().err


def test_picture_counts_what_was_padded_or_not_scored(tmp_path: Path) -> None:
    fasta, svg = tmp_path / "ends.fa", tmp_path / "a.svg"
    fasta.write_text(f">c\n{'ACGTTGCAAC' * 9}NACGTTGCA\n")
    table = ism_table(tmp_path, "c:1-99", "-f", str(fasta), "--svg", str(svg), "--quiet")
    counts = table["status"].value_counts()
    text = svg.read_text()
    assert counts["OK"] > 0 and counts["PADDED"] > 0 and counts["N_HEAVY"] == 3
    assert f"padded with N: {counts['PADDED']} substitutions." in text
    assert "Not scored: 4 NON_ACGT, 3 N_HEAVY." in text
    assert text.count(": not scored</title>") == 7


def test_gene_of_the_largest_score_is_drawn_unless_another_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("varfm.session.load_models", lambda options: [replace(tss_model(), name="null")])
    fasta, bed = tmp_path / "g.fa", tmp_path / "g.bed"
    fasta.write_text(f">c\n{'ACGTACGGTACT' * 3}\n")
    bed.write_text("c\t12\t13\tfar\t0\t+\nc\t16\t17\tnear\t0\t+\n")
    options = SessionOptions("c:17-17", str(fasta), ("toy",), genes=GeneOptions(str(bed), ()), device="cpu", threads=1)
    drawn = {}
    for asked in (None, "far", "near", "nobody"):
        with IsmSession(options) as session:
            picture = PictureWriter(tmp_path / f"{asked}.svg", session, gene=asked, force=False)
            for block, alleles, (scored,), _ in session:
                picture.write(block, alleles, scored)
            if asked == "nobody":
                with pytest.raises(OptionError, match=r"no substitution has a score of it\. Scored: far, near"):
                    picture.seal()
                picture.discard()
                continue
            picture.seal()
            picture.publish()
        drawn[asked] = re.search(r"level of (\w+) in", (tmp_path / f"{asked}.svg").read_text())[1]  # type: ignore[index]
    # The substitution lies at place 12 of the window of `far`, and at place 8 of that of `near`; places count squared.
    assert drawn == {None: "far", "far": "far", "near": "near"}


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["chr1:9-5"], 2, "the end is before the start"),
        (["chr9:1-5"], 2, "has no contig"),
        (["chr1:6:C:T"], 3, "toy.fa has A there, not C"),
        (["chr1:1-4", "-o", "x.vcf"], 2, "the suffix names no table"),
        (["chr1:1-4", "--svg", "x.png"], 2, "ends with .svg"),
        (["chr1:1-4", "--svg", "missing/x.svg"], 2, "does not exist"),
        (["chr1:1-4", "--column", "position"], 2, "Give --svg"),
        (["chr1:1-4", "--gene", "TP53"], 2, "Give --svg"),
        (["chr1:1-4", "--svg", "x.svg", "--column", "SAD"], 2, "It has position."),
        (["chr1:1-4", "--svg", "x.svg", "--gene", "TP53"], 2, "belong to no gene"),
        (["chr1:1-4", "--flank", "7"], 2, "--flank belongs to a variant"),
        (["chr1:1-4", "-m", "nothing"], 4, "nothing"),
        (["chr1:1-4", "--genes", "missing.gtf"], 3, "missing.gtf"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_leave_no_file(
    args: list[str],
    status: int,
    message: str,
    fasta: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VARFM_MODEL", "null")
    before = sorted(tmp_path.rglob("*.*"))
    assert run(["ism", "-f", fasta, *args]) == status
    shown = capfd.readouterr()
    assert shown.out == "" and len(shown.err.splitlines()) == 1 and message in shown.err
    assert [path for path in sorted(tmp_path.rglob("*.*")) if "cache" not in path.parts] == before


def test_reference_must_be_given(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ism", "chr1:1-4", "-m", "null"]) == 3
    assert "Give the FASTA with --fasta, or set VARFM_FASTA" in capfd.readouterr().err


def test_files_that_are_there_are_replaced_with_force_only(
    fasta: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    svg = tmp_path / "a.svg"
    svg.write_text("mine")
    args = ["ism", "chr1:1-4", "-f", fasta, "-m", "null", "--svg", str(svg)]
    assert run(args) == 2
    shown = capfd.readouterr()
    assert shown.out == "" and "exists" in shown.err and svg.read_text() == "mine"
    assert run([*args, "--force"]) == 0
    assert svg.read_text().startswith("<svg ")


def test_region_too_long_for_a_picture_still_has_a_table(
    fasta: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("varfm.picture.MAX_LENGTH", 3)
    args = ["ism", "chr1:1-4", "-f", fasta, "-m", "null", "-o", str(tmp_path / "a.tsv")]
    assert run([*args, "--svg", str(tmp_path / "a.svg")]) == 2
    assert "a picture has at most 3 positions" in capfd.readouterr().err
    assert run(args) == 0


def test_options_of_score_that_have_no_meaning_here_are_not_offered(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["ism", "--help"]) == 0
    shown = capfd.readouterr().out
    assert "--indel-mode" not in shown and "--overwrite" not in shown and "--table" not in shown
    assert run(["ism", "chr1:1-4", "-m", "mini", "-m", "null", "-f", "x.fa"]) != 0
