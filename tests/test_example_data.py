"""The example data holds what its README says, and its script still makes it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from torch import Tensor

from varfm.protocols import Column, Model, Row
from varfm.scorers.placement import Centred
from varfm.scorers.tracks import TrackScore, TrackScorer
from varfm.session import Session, SessionOptions
from varfm.variants import Status
from varfm.windows import Haplotype

SOURCE = os.environ.get("VARFM_BCFTOOLS_SOURCE", "")
FOLDER = Path(__file__).parent.parent / "example_data"

NOT_SCORED = {
    ("insertion_60", 0): "TOO_LONG",
    ("deletion_60", 0): "TOO_LONG",
    ("no_alt", 0): "NO_ALT",
    ("star", 1): "STAR",
    ("symbolic", 0): "SYMBOLIC",
    ("any_other", 1): "SYMBOLIC",
    ("breakend", 0): "BREAKEND",
    ("single_breakend", 0): "BREAKEND",
    ("n_in_alt", 0): "NON_ACGT",
    ("ambiguous_alt", 0): "NON_ACGT",
    ("ref_differs", 0): "REF_MISMATCH",
    ("past_the_end", 0): "OUT_OF_CONTIG",
    ("beyond_contig", 0): "OUT_OF_CONTIG",
    ("after_last_base", 0): "N_HEAVY",
    ("no_contig", 0): "NO_CONTIG",
}
"""Record name and number of the ALT to the status that a window of 99 bases with index 49 gives."""

PADDED = {"tss_snv_1", "tss_snv_2", "tss_snv_3", "near_end"}
"""Records whose window leaves the contig."""


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_example", FOLDER / "make_example.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def sequences(maker: ModuleType) -> dict[str, str]:
    found: dict[str, str] = maker.read_fasta(FOLDER / "ntng1.fa.gz")
    return found


@pytest.fixture(scope="module")
def records() -> list[list[str]]:
    text = (FOLDER / "ntng1.vcf").read_text()
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


def test_vcf_is_what_the_script_writes_for_the_committed_fasta(maker: ModuleType, sequences: dict[str, str]) -> None:
    assert maker.vcf_text(sequences) == (FOLDER / "ntng1.vcf").read_text()
    assert maker.labels_text(sequences) == (FOLDER / "labels.tsv").read_text()


@pytest.mark.skipif(not SOURCE, reason="VARFM_BCFTOOLS_SOURCE does not name the source folder of bcftools")
def test_script_makes_the_committed_files_from_their_source(maker: ModuleType, tmp_path: Path) -> None:
    maker.main(Path(SOURCE) / "test" / "csq", tmp_path)
    for name in ("ntng1.vcf", "ntng1.gff3", "labels.tsv"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()
    assert maker.read_fasta(tmp_path / "ntng1.fa.gz") == maker.read_fasta(FOLDER / "ntng1.fa.gz")


def test_fasta_holds_the_two_pieces_and_nothing_but_bases(sequences: dict[str, str]) -> None:
    assert {contig: len(bases) for contig, bases in sequences.items()} == {"NTNG1": 343_452, "MKNK1": 59_466}
    assert set("".join(sequences.values())) == set("ACGT")
    assert sequences["NTNG1"].startswith("GAGGTACACGAGGAGTTACTGG")


def test_no_index_lies_beside_the_fasta() -> None:
    assert not [path.name for path in FOLDER.iterdir() if path.suffix in {".fai", ".gzi"}]


def test_annotation_puts_each_transcript_where_the_readme_says() -> None:
    lines = [line.split("\t") for line in (FOLDER / "ntng1.gff3").read_text().splitlines() if not line.startswith("#")]
    transcripts = {fields[0]: fields for fields in lines if fields[2] == "transcript"}
    places = {contig: (fields[3], fields[4], fields[6]) for contig, fields in transcripts.items()}
    assert places == {"NTNG1": ("11", "341464", "+"), "MKNK1": ("14712", "28862", "-")}
    assert all("biotype=protein_coding" in fields[8] for fields in transcripts.values())
    assert all("Parent=gene:ENSG" in fields[8] for fields in transcripts.values())


def test_every_annotated_place_lies_on_its_contig(sequences: dict[str, str]) -> None:
    for line in (FOLDER / "ntng1.gff3").read_text().splitlines():
        if not line.startswith("#"):
            contig, _, _, start, end = line.split("\t")[:5]
            assert 1 <= int(start) <= int(end) <= len(sequences[contig]), line


def test_records_are_sorted_and_have_two_samples(records: list[list[str]]) -> None:
    order = ["NTNG1", "MKNK1", "decoy1"]
    places = [(order.index(fields[0]), int(fields[1])) for fields in records]
    assert places == sorted(places)
    assert {len(fields) for fields in records} == {11}


def test_ref_is_the_reference_except_where_the_record_says_otherwise(
    records: list[list[str]], sequences: dict[str, str]
) -> None:
    differing = []
    for contig, pos, name, ref, *_ in records:
        start = int(pos) - 1
        if sequences.get(contig, "")[start : start + len(ref)] != ref.upper():
            differing.append(name)
    assert differing == ["ref_differs", "past_the_end", "beyond_contig", "no_contig"]


def test_enough_alleles_match_for_the_assembly_to_be_accepted(
    records: list[list[str]], sequences: dict[str, str]
) -> None:
    counts: Counter[bool] = Counter()
    for contig, pos, _, ref, alts, *_ in records:
        start = int(pos) - 1
        found = sequences.get(contig, "")[start : start + len(ref)]
        if len(found) == len(ref):
            n_plain = sum(set(alt.upper()) <= set("ACGT") for alt in alts.split(","))
            counts[found == ref.upper()] += n_plain
    assert counts == {True: 68, False: 1}


def test_every_status_that_the_default_model_can_give_occurs() -> None:
    never = {Status.UNSUPPORTED_KIND, Status.NO_GENE, Status.NAN, Status.PADDED, Status.OK}
    assert set(NOT_SCORED.values()) == {status.name for status in Status if status not in never}


class CountG:
    """Counts the G of a window: a network of the default model's size whose answer is known."""

    length = 99

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        return batch.eq(2).float().sum(1, keepdim=True)

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        return outputs[0]


@pytest.fixture
def toy_model() -> Model:
    column = Column("G", "Change of the number of G.", "bases", "alt - ref")
    return Model("toy", CountG(), TrackScorer(Centred(99, 49, "forward"), (TrackScore(column, (0,), "G"),)))


def test_every_allele_gets_the_status_that_the_readme_tells(
    toy_model: Model, records: list[list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VARFM_CACHE", str(tmp_path))
    monkeypatch.setattr("varfm.session.load_models", lambda options: [toy_model])
    options = SessionOptions(vcf=str(FOLDER / "ntng1.vcf"), fasta=str(FOLDER / "ntng1.fa.gz"), models=("toy",))
    found, scores = {}, {}
    with Session(options) as session:
        for _, alleles, (scored,), _ in session:
            for index, (record, number) in enumerate(zip(alleles.record, alleles.number, strict=True)):
                place = (records[record][2], int(number))
                found[place] = Status(scored.status[index]).name
                for site in np.flatnonzero(scored.site_allele == index):
                    scores[place] = scored.scores[site, 0]
    assert {place: status for place, status in found.items() if status not in {"OK", "PADDED"}} == NOT_SCORED
    assert {name for (name, _), status in found.items() if status == "PADDED"} == PADDED
    assert scores["poly_a_shorter_left", 0] == scores["poly_a_shorter_right", 0]
    assert scores["alt_is_ref", 0] == 0
    assert scores["ctcf_1_core", 0] == 1  # C>G
    assert scores["tss_snv_3", 0] == 1  # C>G
    assert scores["tss_snv_6", 0] == -1  # G>T


def test_unscored_alleles_are_there_and_the_readme_counts_them(records: list[list[str]]) -> None:
    alleles = {(fields[2], number) for fields in records for number in range(len(fields[4].split(",")))}
    assert NOT_SCORED.keys() <= alleles
    n_alleles = sum(len(fields[4].split(",")) for fields in records)
    readme = (FOLDER / "README.md").read_text()
    assert f"{len(records)} records with {n_alleles} alternate alleles" in readme
    n_scored = n_alleles - len(NOT_SCORED)
    assert f"{n_scored} alleles are scored and {len(NOT_SCORED)} are not" in readme


def test_readme_explains_every_record(records: list[list[str]]) -> None:
    readme = (FOLDER / "README.md").read_text()
    families = {"tss_snv", "mknk1_snv", "ctcf", "pu1", "insertion", "deletion"}
    for name in {fields[2] for fields in records}:
        known = f"`{name}`" in readme or any(name.startswith(family) for family in families)
        assert known, name
