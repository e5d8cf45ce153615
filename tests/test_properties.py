"""What must hold for every model: equal alleles, swapped roles, strands, spellings, order and batches."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pysam
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from toys import (
    SHARED,
    RecordText,
    Toy,
    binned_model,
    flipped,
    gene,
    matrix_model,
    needs_shared,
    one,
    point_model,
    run_files,
    run_toy,
    tss_model,
    vcf_text,
    write_fasta,
)

from varfm.genome import encode
from varfm.models import ModelOptions, load
from varfm.normalise import normalise
from varfm.plan import make_plan
from varfm.protocols import Model
from varfm.runner import Runner
from varfm.scorers.matrix import MatrixScorer
from varfm.scorers.placement import Centred, OnGenes
from varfm.scorers.tracks import TrackScorer
from varfm.variants import Variant
from varfm.windows import Gene, Pair, Site, right_fixed

few = settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def mini_model() -> Model:
    return load("mini")


def mpra_model() -> Model:
    return load("mpra-dragonn", ModelOptions(weights=SHARED / "mpra_dragonn_conv.hdf5"))


def xpresso_model() -> Model:
    return load("xpresso-human", ModelOptions(weights=SHARED / "xpresso_human_median.h5"))


class Subject(NamedTuple):
    """A model under test, the length of a genome for it, and whether its scores are exact integers' halves."""

    name: str
    make: Callable[[], Model]
    n_bases: int
    has_genes: bool = False


POINT = Subject("point", point_model, 60)
EVEN = Subject("even", lambda: point_model(10, 4), 60)
POINT_COMPENSATED = Subject("point compensated", lambda: point_model(indel_mode="compensate"), 60)
BINNED = Subject("binned", binned_model, 60)
TSS = Subject("tss", tss_model, 60, has_genes=True)
MATRIX = Subject("matrix", matrix_model, 60)
TWO_BINS = Subject("two bins", lambda: matrix_model(bins=(0, 2)), 60)
SHIFTED = Subject("shifted", lambda: matrix_model(Centred(12, 5, "both", "compensate", (0, 2))), 60)
ON_GENES = Subject("on genes", lambda: matrix_model(OnGenes(12, 7, "both"), bins=(1, 2)), 60, has_genes=True)
TOYS = [POINT, EVEN, POINT_COMPENSATED, BINNED, TSS, MATRIX, TWO_BINS, SHIFTED, ON_GENES]
MINI = Subject("mini", mini_model, 260)
MPRA = Subject("mpra-dragonn", mpra_model, 300)
XPRESSO = Subject("xpresso", xpresso_model, 12_000, has_genes=True)
REAL = [
    MINI,
    pytest.param(MPRA, marks=needs_shared),
    pytest.param(XPRESSO, marks=needs_shared),
]
COMPENSATED = [
    Subject("mini compensated", lambda: load("mini", ModelOptions(indel_mode="compensate")), 260),
    pytest.param(
        Subject(
            "mpra-dragonn compensated",
            lambda: load(
                "mpra-dragonn",
                ModelOptions(weights=SHARED / "mpra_dragonn_conv.hdf5", indel_mode="compensate"),
            ),
            300,
        ),
        marks=needs_shared,
    ),
]
subjects = pytest.mark.parametrize("subject", TOYS, ids=lambda subject: subject.name)
real_subjects = pytest.mark.parametrize("subject", REAL, ids=lambda subject: subject.name)

_models: dict[str, Model] = {}


def model_of(subject: Subject) -> Model:
    """Load each model once."""
    if subject.name not in _models:
        _models[subject.name] = subject.make()
    return _models[subject.name]


class Case(NamedTuple):
    """A genome, an allele on it, and a gene."""

    bases: str
    start: int
    ref: str
    alt: str
    tss: int
    strand: str

    @property
    def record(self) -> RecordText:
        """The allele as a VCF can write it, an anchor base on the left or, at the start, on the right."""
        if self.ref and self.alt:
            return "c", self.start + 1, self.ref, self.alt
        if self.start:
            anchor = self.bases[self.start - 1]
            return "c", self.start, anchor + self.ref, anchor + self.alt
        after = self.bases[len(self.ref)]
        return "c", 1, self.ref + after, self.alt + after

    @property
    def changed(self) -> str:
        """The genome that carries the allele."""
        return self.bases[: self.start] + self.alt + self.bases[self.start + len(self.ref) :]

    @property
    def swapped(self) -> Case:
        """The way back, on the genome that carries the allele; the gene moves with its bases."""
        upstream, shift = self.upstream, len(self.alt) - len(self.ref)
        is_before = upstream.start <= self.tss if self.strand == "+" else upstream.end <= self.tss
        moved = self.tss + shift * is_before
        return Case(self.changed, self.start, self.alt, self.ref, moved, self.strand)

    @property
    def mirrored(self) -> Case:
        """The same on the other strand."""
        start = len(self.bases) - self.start - len(self.ref)
        strand = "-" if self.strand == "+" else "+"
        tss = len(self.bases) - 1 - self.tss
        return Case(flipped(self.bases), start, flipped(self.ref), flipped(self.alt), tss, strand)

    @property
    def upstream(self) -> Variant:
        """The allele where its repeat begins, seen from the gene's far upstream: there it moves the TSS or does not."""
        left, right = normalise(
            Variant("c", self.start, self.ref, self.alt), np.frombuffer(encode(self.bases), np.uint8)
        )
        return left if self.strand == "+" else right

    @property
    def genes(self) -> list[Gene]:
        return [gene(self.tss, self.strand)]


UNITS = ["A", "C", "AC", "ACA", "GT", "GTT", "T", "CG", "GATTACA"]


@st.composite
def cases(draw: st.DrawFn, n_bases: int, kind: str = "any") -> Case:
    pieces = draw(st.lists(st.sampled_from(UNITS), min_size=12, max_size=24))
    text = "".join(pieces)
    if n_bases > 100:  # a long genome, its repeats where the allele will be
        rng = np.random.default_rng(draw(st.integers(0, 999)))
        rest = "".join(rng.choice(list("ACGT"), n_bases))
        at = n_bases // 2 + draw(st.integers(-n_bases // 3, n_bases // 3))
        bases, low, high = rest[:at] + text + rest[at:], at, at + len(text)
    else:
        bases, low, high = text, 0, len(text)
    start = draw(st.integers(low, high - 4))
    n_ref = 1 if kind == "snv" else draw(st.integers(0, 3))
    ref = bases[start : start + n_ref]
    alt = draw(st.text("ACGT", min_size=1 if kind == "snv" else 0, max_size=1 if kind == "snv" else 3))
    assume(ref != alt)
    assume(kind != "indel" or len(ref) != len(alt))
    centre = start if n_bases <= 100 else len(bases) // 2
    tss = min(max(0, centre + draw(st.integers(-6, 6))), len(bases) - 1)
    return Case(bases, start, ref, alt, tss, draw(st.sampled_from("+-")))


def run(
    subject: Subject, case: Case, records: Sequence[RecordText] | None = None, *, exact_full: bool = False
) -> list[Toy]:
    genes = case.genes if subject.has_genes else ()
    return run_toy(model_of(subject), case.bases, records or [case.record], genes=genes, exact_full=exact_full)


def answer(subject: Subject, case: Case, *, exact_full: bool = False) -> tuple[str, tuple[float, ...]]:
    found = one(run(subject, case, exact_full=exact_full))
    return found.status, found.scores


def negated(answered: tuple[str, tuple[float, ...]]) -> tuple[str, tuple[float, ...]]:
    return answered[0], tuple(-score for score in answered[1])


# --- an ALT equal to REF -------------------------------------------------------------------------------------------


@subjects
@given(data=st.data())
def test_an_alt_equal_to_ref_is_exactly_zero(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    place = data.draw(st.integers(max(0, case.tss - 2), min(case.tss + 2, len(case.bases) - 1)))
    same = case.bases[place : place + data.draw(st.integers(1, 4))]
    found = one(run(subject, case, [("c", place + 1, same, same)]))
    assert found.status == "OK"
    assert set(found.scores) == {0.0}


@few
@real_subjects
@given(data=st.data())
def test_an_alt_equal_to_ref_is_exactly_zero_in_real_networks(subject: Subject, data: st.DataObject) -> None:
    test_an_alt_equal_to_ref_is_exactly_zero.hypothesis.inner_test(subject, data)


# --- swapped roles -------------------------------------------------------------------------------------------------


@subjects
@given(data=st.data())
def test_swapped_roles_give_minus_the_score(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    if subject.has_genes:
        assume(not case.upstream.start <= case.tss < case.upstream.end)  # a TSS that was lost is in no other genome
    there = answer(subject, case, exact_full=True)
    assert answer(subject, case.swapped, exact_full=True) == negated(there)
    # Each allele is computed from the other one, so that the ways there and back are rounded differently.
    for found, expected in ((answer(subject, case), there), (answer(subject, case.swapped), negated(there))):
        assert found[0] == expected[0]
        assert found[1] == pytest.approx(expected[1], rel=0, abs=1e-5)


@few
@real_subjects
@given(data=st.data())
def test_swapped_roles_give_minus_the_score_of_real_networks(subject: Subject, data: st.DataObject) -> None:
    test_swapped_roles_give_minus_the_score.hypothesis.inner_test(subject, data)


# --- strands -------------------------------------------------------------------------------------------------------


def holds_unmirrored(subject: Subject, case: Case) -> None:
    status, scores = answer(subject, case)
    other_status, others = answer(subject, case.mirrored)
    if subject is BINNED:
        others = (others[0], *others[:0:-1]) if others else others
    assert (other_status, others) == (status, scores)


@pytest.mark.parametrize("subject", [POINT, POINT_COMPENSATED], ids=lambda subject: subject.name)
@given(data=st.data())
def test_snvs_in_odd_centred_windows_score_alike_on_both_strands(subject: Subject, data: st.DataObject) -> None:
    holds_unmirrored(subject, data.draw(cases(subject.n_bases, "snv")))


@few
@pytest.mark.parametrize("subject", REAL[:2], ids=lambda subject: subject.name)
@given(data=st.data())
def test_snvs_score_alike_on_both_strands_of_real_networks(subject: Subject, data: st.DataObject) -> None:
    holds_unmirrored(subject, data.draw(cases(subject.n_bases, "snv")))


@pytest.mark.parametrize(
    "subject", [POINT_COMPENSATED, BINNED, MATRIX, TWO_BINS, SHIFTED], ids=lambda subject: subject.name
)
@given(data=st.data())
def test_compensated_indels_score_alike_on_both_strands(subject: Subject, data: st.DataObject) -> None:
    holds_unmirrored(subject, data.draw(cases(subject.n_bases, "indel")))


@few
@pytest.mark.parametrize("subject", COMPENSATED, ids=lambda subject: subject.name)
@given(data=st.data())
def test_compensated_indels_score_alike_on_both_strands_of_real_networks(subject: Subject, data: st.DataObject) -> None:
    holds_unmirrored(subject, data.draw(cases(subject.n_bases, "indel")))


@dataclass(frozen=True, slots=True)
class Mirrored(Centred):
    """The window rule on the other strand: the flank on the right stays in place."""

    def pairs(self, site: Site, shift: int) -> list[Pair]:
        return [right_fixed(site.right, self.length, self.index + shift)]


def mirrored_rule(subject: Subject) -> Subject:
    def make() -> Model:
        model = subject.make()
        scorer = model.scorer
        assert isinstance(scorer, TrackScorer | MatrixScorer)
        centred = scorer.placement
        assert isinstance(centred, Centred)
        mirrored = Mirrored(centred.length, centred.index, centred.strands, centred.indel_mode, centred.shifts)
        return replace(model, scorer=replace(scorer, placement=mirrored))

    return subject._replace(name=f"{subject.name} mirrored", make=make)


@pytest.mark.parametrize("subject", [POINT, EVEN], ids=lambda subject: subject.name)
@given(data=st.data())
def test_every_allele_scores_alike_under_the_mirrored_rule(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    assert answer(mirrored_rule(subject), case.mirrored) == answer(subject, case)


@few
@pytest.mark.parametrize("subject", REAL[:2], ids=lambda subject: subject.name)
@given(data=st.data())
def test_every_allele_scores_alike_under_the_mirrored_rule_of_real_networks(
    subject: Subject, data: st.DataObject
) -> None:
    test_every_allele_scores_alike_under_the_mirrored_rule.hypothesis.inner_test(subject, data)


@pytest.mark.parametrize("subject", [TSS, ON_GENES], ids=lambda subject: subject.name)
@given(data=st.data())
def test_every_allele_near_a_gene_scores_alike_on_both_strands(subject: Subject, data: st.DataObject) -> None:
    holds_unmirrored(subject, data.draw(cases(subject.n_bases)))


@few
@needs_shared
@given(data=st.data())
def test_every_allele_in_a_promoter_scores_alike_on_both_strands_of_xpresso(data: st.DataObject) -> None:
    holds_unmirrored(XPRESSO, data.draw(cases(XPRESSO.n_bases)))


# --- spellings -----------------------------------------------------------------------------------------------------


def spellings(case: Case, data: st.DataObject) -> list[RecordText]:
    """Write the same change in other ways."""
    written = []
    for _ in range(3):
        first = max(0, case.start - data.draw(st.integers(0, 5)))
        last = min(len(case.bases), case.start + len(case.ref) + data.draw(st.integers(0, 5)))
        before, after = case.bases[first : case.start], case.bases[case.start + len(case.ref) : last]
        ref, alt = before + case.ref + after, before + case.alt + after
        if ref and alt:
            written.append(("c", first + 1, ref, alt))
    written += [("c", pos, ref.lower(), alt.lower()) for _, pos, ref, alt in written[:1]]
    if not case.ref or not case.alt:
        written += [("c", start + 1, ref, alt) for start, ref, alt in shifted(case)]
    return written


def shifted(case: Case) -> list[tuple[int, str, str]]:
    """Find every other place in reach at which an indel of the same size spells the same genome, by string surgery."""
    found = []
    for start in range(max(1, case.start - 8), min(case.start + 9, len(case.bases) - len(case.ref))):
        alt = case.changed[start : start + len(case.alt)]
        if case.bases[:start] + alt + case.bases[start + len(case.ref) :] == case.changed:
            anchor = case.bases[start - 1]
            found.append((start - 1, anchor + case.bases[start : start + len(case.ref)], anchor + alt))
    return found


def holds_spelled(subject: Subject, data: st.DataObject) -> None:
    case = data.draw(cases(subject.n_bases))
    written = spellings(case, data)
    expected = answer(subject, case)
    written.append(case.record)
    alone = [(found.status, found.scores) for found in run(subject, case, written)]
    assert alone == [expected] * len(written)
    contig, pos, ref, alt = case.record
    other = "A" if ref.startswith("C") else "C"
    together = run(subject, case, [(contig, pos, ref, f"<DEL>,{alt},{other + ref[1:]},*,{alt}")])
    chosen = [(found.status, found.scores) for found in together if found.number in (1, 4)]
    assert chosen == [expected] * 2


@subjects
@given(data=st.data())
def test_every_spelling_of_a_haplotype_scores_alike(subject: Subject, data: st.DataObject) -> None:
    holds_spelled(subject, data)


@few
@real_subjects
@given(data=st.data())
def test_every_spelling_scores_alike_bit_for_bit_in_real_networks(subject: Subject, data: st.DataObject) -> None:
    holds_spelled(subject, data)


# --- order, companions, files --------------------------------------------------------------------------------------


def a_genome(n_bases: int) -> str:
    return "".join(np.random.default_rng(11).choice(list("ACGT"), n_bases))


def some_records(subject: Subject, bases: str, n_records: int) -> list[RecordText]:
    rng = np.random.default_rng(12)
    records = []
    for _ in range(n_records):
        start = int(rng.integers(0, len(bases) - 5))
        ref = bases[start : start + int(rng.integers(1, 4))]
        alts = {"".join(rng.choice(list("ACGT"), rng.integers(1, 4))) for _ in range(int(rng.integers(1, 3)))} - {ref}
        records.append(("c", start + 1, ref, ",".join(sorted(alts)) or "."))
    return records


def some_genes(subject: Subject, bases: str) -> list[Gene]:
    if not subject.has_genes:
        return []
    middle = len(bases) // 2
    return [gene(middle - 3, "+", "g1"), gene(middle + 3, "-", "g2")]


def by_allele(found: Sequence[Toy], records: Sequence[RecordText]) -> set[tuple[object, ...]]:
    """Forget the place in the file."""
    return {
        (records[toy.record][1], records[toy.record][2], records[toy.record][3].split(",")[toy.number], *toy[2:])
        for toy in found
    }


@pytest.mark.parametrize("subject", [*TOYS, *REAL], ids=lambda subject: subject.name)
def test_order_duplicates_and_blocks_change_no_bit(subject: Subject, tmp_path: Path) -> None:
    model = model_of(subject)
    bases = a_genome(subject.n_bases)
    genes = some_genes(subject, bases)
    records = some_records(subject, bases, 25)
    expected = by_allele(run_toy(model, bases, records, genes=genes), records)
    again = [*reversed(records), *records[3:9]]
    assert by_allele(run_toy(model, bases, again, genes=genes), again) == expected
    fasta = write_fasta(tmp_path, {"c": bases})
    vcf = tmp_path / "in.vcf"
    vcf.write_text(vcf_text(records))
    small_blocks = run_files(model, fasta, vcf, genes=genes, block_records=3)
    assert by_allele(small_blocks, records) == expected
    alone = [by_allele(run_toy(model, bases, [record], genes=genes), [record]) for record in records[:3]]
    assert set().union(*alone) <= expected


def output_scale(model: Model, bases: str) -> float:
    """Give the largest size of an output on windows of a genome."""
    assert model.network is not None and model.network.length is not None
    windows = [encode(bases[start : start + model.network.length]) for start in range(8)]
    outputs = Runner(model, make_plan([model], device="cpu", threads=1)).outputs(windows)
    return max(float(output.abs().max()) for output in outputs.values())


@pytest.mark.parametrize("subject", [*TOYS, *REAL], ids=lambda subject: subject.name)
def test_other_batch_sizes_change_at_most_the_last_digits(subject: Subject) -> None:
    model = model_of(subject)
    bases = a_genome(subject.n_bases)
    genes = some_genes(subject, bases)
    records = some_records(subject, bases, 12)
    expected = run_toy(model, bases, records, genes=genes)
    scale = output_scale(model, bases)
    assert any(abs(value) > 1e-3 * scale for toy in expected for value in toy.scores)
    for size in (1, 3):
        found = run_toy(model, bases, records, genes=genes, batch_size=size)
        assert [toy[:4] for toy in found] == [toy[:4] for toy in expected]
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.scores == pytest.approx(theirs.scores, rel=0, abs=1e-5 * scale)


@pytest.mark.parametrize("subject", [POINT, BINNED, TSS, *REAL], ids=lambda subject: subject.name)
def test_samples_soft_mask_line_ends_and_compression_change_no_bit(subject: Subject, tmp_path: Path) -> None:
    model = model_of(subject)
    bases = a_genome(subject.n_bases)
    genes = some_genes(subject, bases)
    text = vcf_text(some_records(subject, bases, 25)).replace("\tINFO\n", "\tINFO\tFORMAT\ta\tb\n")
    with_samples = text.replace("\t.\t.\t.\n", "\t50\tPASS\tAC=1;X\tGT\t0/1\t1|1\n")
    plain = vcf_text(some_records(subject, bases, 25))
    masked = tmp_path / "masked.fa"
    masked.write_text(">c words\n" + "\n".join(bases[i : i + 7] for i in range(0, len(bases), 7)).lower() + "\n")
    fasta = write_fasta(tmp_path, {"c": bases})

    files = {name: tmp_path / name for name in ("a.vcf", "s.vcf", "crlf.vcf", "a.vcf.gz", "b.vcf.gz")}
    files["a.vcf"].write_text(plain)
    files["s.vcf"].write_text(with_samples)
    files["crlf.vcf"].write_bytes(plain.replace("\n", "\r\n").encode())
    files["a.vcf.gz"].write_bytes(gzip.compress(plain.encode()))
    pysam.tabix_compress(str(files["a.vcf"]), str(files["b.vcf.gz"]))
    expected = run_files(model, fasta, files["a.vcf"], genes=genes)
    assert any(toy.scores for toy in expected)
    assert run_files(model, masked, files["a.vcf"], genes=genes) == expected
    for path in files.values():
        assert run_files(model, fasta, path, genes=genes) == expected


# --- a row's answer is a function of the row -----------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@real_subjects
def test_an_answer_depends_neither_on_its_place_in_the_batch_nor_on_its_companions(
    subject: Subject, threads: int
) -> None:
    model = model_of(subject)
    assert model.network is not None
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        plan = make_plan([model], device="cpu", threads=threads)
        rng = np.random.default_rng(3)
        length = model.network.length
        rows = [rng.integers(0, 5, length).astype(np.uint8).tobytes() for _ in range(2 * model.batch_rows[0] + 3)]
        expected = Runner(model, plan).outputs(rows)
        orders = [rows[::-1], *([rows[i] for i in rng.permutation(len(rows))] for _ in range(3)), rows[:1], rows[-2:]]
        for order in orders:
            found = Runner(model, plan).outputs(order)
            assert all(torch.equal(found[row], expected[row]) for row in order)
    finally:
        torch.set_num_threads(before)
