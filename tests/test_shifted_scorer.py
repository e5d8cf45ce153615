"""The scorer of shifted windows around an allele, summed by distance to the TSS and read by linear models."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from toys import WindowsNet, by_allele_and_strand, flipped, gene, one, point_sum, run_toy

from varfm.genes import GeneIndex
from varfm.normalise import normalise
from varfm.protocols import Column, Model
from varfm.scorers.matrix import TrackName
from varfm.scorers.placement import IndelMode, Strands
from varfm.scorers.shifted import Decay, Shifted, ShiftedScorer
from varfm.variants import Status, Variant
from varfm.windows import Haplotype, Pair, Site, left_fixed, right_fixed

LENGTH, INDEX = 32, 15
SHIFTS = (0, -4, -8, 4, 8)
DECAY = Decay(rates=(0.1, 0.5), step=4)
REACH = 12
LINEAR = torch.tensor(
    [  # upstream slow (sum, G), upstream fast, downstream slow, downstream fast
        [1.0, 2.0, -3.0, 5.0, 0.5, 0.25, 7.0, -11.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0],
        [-4.0, 0.0, 9.0, -2.0, 3.0, -1.0, 0.0, 6.0],
    ],
    dtype=torch.float64,
)
TISSUES = (TrackName(0, "liver"), TrackName(1, "lung"), TrackName(2, "brain"))
SNV = Variant("c", 30, "G", "T")

few = settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])


def shifted(indel_mode: IndelMode = "anchor", strands: Strands = "both") -> Shifted:
    return Shifted(LENGTH, INDEX, SHIFTS, REACH, strands, indel_mode)


def scorer_of(placement: Shifted | None = None, tracks: Sequence[int] = (0, 1, 2)) -> ShiftedScorer:
    chosen = tuple(TISSUES[track] for track in tracks)
    column = Column("DLNE", "Change of the toy's expression.", "none", "weights x (alt - ref)")
    return ShiftedScorer(placement or shifted(), DECAY, LINEAR, chosen, column)


class CountingNet(WindowsNet):
    """Remembers how many rows it was given."""

    n_rows = 0

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) codes -> (n, n_windows, 2)."""
        self.n_rows += len(batch)
        return super().forward(batch)


def model_of(placement: Shifted | None = None, tracks: Sequence[int] = (0, 1, 2)) -> Model:
    return Model("toy-shifted", WindowsNet(LENGTH, SHIFTS), scorer_of(placement, tracks), batch_rows=(4, 4))


def answers_of(bases: str) -> list[float]:
    """Work out both answers of `PointNet`, averaged over the strands."""
    n_g = (bases.count("G") + bases.count("C")) / 2
    return [(point_sum(bases) + point_sum(flipped(bases))) / 2, n_g]


def expected(bases: str, allele: tuple[int, str, str], tss: int, strand: str, right_fixed: bool = False) -> list[float]:
    """Work out the score of every tissue by cutting strings; the genome must be long enough on both sides."""
    start, ref, alt = allele
    changed = bases[:start] + alt + bases[start + len(ref) :]
    end, last = start + len(ref), start + len(ref) - 1
    sign = 1 if strand == "+" else -1
    scores = [0.0, 0.0, 0.0]
    for shift in SHIFTS:
        if right_fixed:  # as many bases right of the allele as the mirrored rule has left of it
            stop = end + INDEX + shift
            windows = bases[stop - LENGTH : stop], changed[: stop + len(alt) - len(ref)][-LENGTH:]
        else:
            first = start - (INDEX - shift)
            windows = bases[first : first + LENGTH], changed[first : first + LENGTH]
        effect = [a - r for r, a in zip(*map(answers_of, windows), strict=True)]
        centre = ((last if right_fixed else start) + shift - tss) * sign
        for block, rate in enumerate((0.1, 0.5, 0.1, 0.5)):
            counts = centre <= 0 if block < 2 else centre >= 0
            weight = math.exp(-rate * (abs(centre) // 4)) if counts else 0.0
            for track in range(3):
                for feature in range(2):
                    scores[track] += weight * LINEAR[track, 2 * block + feature].item() * effect[feature]
    return scores


GENOME = "".join(np.random.RandomState(5).choice(list("ACGT"), 90))
ALLELES = {
    "SNV": (45, GENOME[45], "A" if GENOME[45] != "A" else "C"),
    "MNV": (45, GENOME[45:48], flipped(GENOME[45:48])[::-1]),
    "insertion": (45, "", "GATTA"),
    "deletion": (45, GENOME[45:49], ""),
    "delins": (45, GENOME[45:47], flipped(GENOME[45:47])[::-1] + "G"),
}


def record(bases: str, allele: tuple[int, str, str]) -> tuple[str, int, str, str]:
    start, ref, alt = allele
    if ref and alt:
        return "c", start + 1, ref, alt
    return "c", start, bases[start - 1] + ref, bases[start - 1] + alt


@pytest.mark.parametrize("kind", ALLELES)
@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("tss", [37, 45, 49, 55])
def test_a_score_is_the_weighted_sum_of_the_effects_in_every_window(kind: str, strand: str, tss: int) -> None:
    found = one(run_toy(model_of(), GENOME, [record(GENOME, ALLELES[kind])], genes=[gene(tss, strand)]))
    left, _ = normalise_record(GENOME, ALLELES[kind])
    assert (found.status, found.gene) == ("OK", "g")
    wanted = expected(GENOME, (left.start, left.ref, left.alt), tss, strand)
    assert found.scores == pytest.approx(wanted, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("kind", ["insertion", "deletion", "delins"])
def test_compensated_indels_are_the_mean_of_left_and_right_fixed_windows(kind: str, strand: str) -> None:
    model = model_of(shifted("compensate"))
    found = one(run_toy(model, GENOME, [record(GENOME, ALLELES[kind])], genes=[gene(40, strand)]))
    left, right = normalise_record(GENOME, ALLELES[kind])
    pair = (
        expected(GENOME, (left.start, left.ref, left.alt), 40, strand),
        expected(GENOME, (right.start, right.ref, right.alt), 40, strand, right_fixed=True),
    )
    assert found.scores == pytest.approx(np.mean(pair, axis=0).tolist(), rel=1e-12, abs=1e-9)


def test_alleles_of_equal_length_are_never_compensated() -> None:
    site = Site(SNV, SNV, gene(30))
    assert shifted("compensate").haplotypes(site) == shifted("anchor").haplotypes(site)


def normalise_record(bases: str, allele: tuple[int, str, str]) -> tuple[Variant, Variant]:
    from varfm.genome import encode

    codes = np.frombuffer(encode(bases), np.uint8)
    found = normalise(Variant("c", *allele), codes)
    return found[0], found[1]


def test_windows_of_both_kinds_move_right_by_the_shift() -> None:
    pairs = shifted("compensate").pairs(Site(SNV._replace(alt=""), SNV._replace(alt="")))
    starts = [pair.ref.window.start for pair in pairs]
    assert starts[:5] == [15 + shift for shift in SHIFTS]
    assert starts[5:] == [14 + shift for shift in SHIFTS]  # the mirrored rule of an even window


def test_what_all_windows_of_ref_and_alt_take_is_read_on_both_strands() -> None:
    haplotypes = shifted().haplotypes(Site(SNV, SNV, gene(30)))
    assert [h.window[1:] for h in haplotypes] == [(30 - INDEX - 8, 30 - INDEX + LENGTH + 8)] * 4
    assert [(h.variant, h.strand) for h in haplotypes] == [(None, "+"), (None, "-"), (SNV, "+"), (SNV, "-")]
    forward = shifted(strands="forward").haplotypes(Site(SNV, SNV, gene(30)))
    assert forward == haplotypes[::2]


def test_a_centre_at_the_tss_counts_upstream_and_downstream() -> None:
    weights = Decay((0.1, 0.5), 200).weights([0, -1, 199, 200, -400])
    slow, fast = math.exp(-0.1), math.exp(-0.5)
    assert weights.tolist() == [
        pytest.approx([1, 1, 0, 0, slow**2]),
        pytest.approx([1, 1, 0, 0, fast**2]),
        pytest.approx([1, 0, 1, slow, 0]),
        pytest.approx([1, 0, 1, fast, 0]),
    ]


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("mode", ["anchor", "compensate"])
def test_genes_at_the_greatest_distance_count_and_no_further(strand: str, mode: IndelMode) -> None:
    scorer = scorer_of(replace(shifted(mode), max_distance=20_000))
    snv = Variant("c", 50_000, "A", "C")
    for tss, is_near in ((29_999, False), (30_000, True), (70_000, True), (70_001, False)):
        sites = scorer.sites(snv, snv, GeneIndex([gene(tss, strand)], "bed"))
        assert (sites != Status.NO_GENE) == is_near
    assert scorer.sites(snv, snv, GeneIndex([gene(50_000, contig="d")], "bed")) is Status.NO_GENE


def test_under_compensate_a_gene_is_in_reach_of_either_end_of_an_indel() -> None:
    deletion = Variant("c", 30, "ACGTA", "")
    for tss, modes in (
        (17, ()),
        (18, ("anchor", "compensate")),
        (43, ("compensate",)),
        (46, ("compensate",)),
        (47, ()),
    ):
        for mode in ("anchor", "compensate"):
            sites = shifted(mode).sites(deletion, deletion, GeneIndex([gene(tss)], "bed"))  # type: ignore[arg-type]
            assert (sites != Status.NO_GENE) == (mode in modes), (tss, mode)


def test_every_gene_in_reach_is_scored_and_the_network_reads_each_sequence_once() -> None:
    near = [gene(40, "+", "a"), gene(45, "-", "b"), gene(52, "+", "c")]
    network = CountingNet(LENGTH, SHIFTS)
    model = replace(model_of(), network=network, batch_rows=(1, 1))
    found = run_toy(model, GENOME, [record(GENOME, ALLELES["SNV"])], genes=[*near, gene(70, "+", "far")])
    assert [toy.gene for toy in found] == ["a", "b", "c"]
    for toy, one_gene in zip(found, near, strict=True):
        assert toy.scores == pytest.approx(expected(GENOME, ALLELES["SNV"], one_gene.tss, one_gene.strand))
    assert network.n_rows == 4 + 1  # one row tried the network before the first record


def test_an_allele_without_a_gene_in_reach_says_so() -> None:
    found = one(run_toy(model_of(), GENOME, [record(GENOME, ALLELES["SNV"])], genes=[gene(80)]))
    assert found.status == "NO_GENE"


def test_an_alt_equal_to_ref_scores_zero() -> None:
    found = one(run_toy(model_of(), GENOME, [("c", 46, GENOME[45], GENOME[45])], genes=[gene(40)]))
    assert (found.status, found.scores) == ("OK", (0.0,) * 3)
    assert scorer_of().headline(scorer_of().unchanged(), gene(40, name="TP53")) == (0.0, 0, "TP53")
    assert len(scorer_of().unchanged()) == scorer_of().n_values == 5


@pytest.mark.parametrize("mode", ["anchor", "compensate"])
def test_an_allele_must_leave_a_reference_base_in_every_window(mode: IndelMode) -> None:
    model = model_of(shifted(mode))
    assert model.scorer.max_allele == 8
    bases = "A" * 200
    for alt, status in (("G" * 8, "OK"), ("G" * 9, "TOO_LONG")):
        allele = (95, "", alt)
        assert one(run_toy(model, bases, [record(bases, allele)], genes=[gene(95)])).status == status
    assert Shifted(2000, 999, (0, -800, 800), 20_000).max_allele == 200


def test_chosen_tracks_are_the_columns_of_the_whole_and_leave_the_headline_alone() -> None:
    records, genes = [record(GENOME, allele) for allele in ALLELES.values()], [gene(40), gene(50, "-", "h")]
    whole = run_toy(model_of(), GENOME, records, genes=genes)
    chosen = run_toy(model_of(tracks=(0, 2)), GENOME, records, genes=genes)
    assert len(whole) == len(chosen) == 10
    assert [(toy.scores[0], toy.scores[2]) for toy in whole] == [toy.scores for toy in chosen]
    scorer = scorer_of(tracks=(0, 2))
    assert [column.name for column in scorer.columns] == ["DLNE_T0", "DLNE_T2"]
    assert scorer.columns[1].facts == (("track", "2"), ("name", "brain"))
    assert [field.key for field in scorer.fields] == ["DLNE", "TISSUE", "GENE"]
    shown = replace(scorer, tracks_in_info=True)
    assert [field.key for field in shown.fields] == ["DLNE", "TISSUE", "GENE", "DLNE_T0", "DLNE_T2"]


def test_the_headline_is_the_largest_tissue_and_the_first_of_equals() -> None:
    scorer = scorer_of()
    site = Site(SNV, SNV, gene(30, name="TP53"))
    answers = [torch.zeros(2)] * (4 * len(SHIFTS))
    assert scorer.headline(scorer.score(site, by_allele_and_strand(answers, SHIFTS)).numpy(), site.gene) == (
        0.0,
        0,
        "TP53",
    )
    answers[2:4] = [torch.tensor([0.0, 1.0])] * 2  # at the TSS all weights are 1
    scores = scorer.score(site, by_allele_and_strand(answers, SHIFTS))
    assert scores.dtype == torch.float64
    assert scores.tolist() == [-3.75, 1.0, 3.0, -3.75, 0.0]
    assert scorer.headline(scores.numpy(), site.gene) == (-3.75, 0, "TP53")
    shown = replace(scorer, tracks=TISSUES[1:], tracks_in_info=True)
    assert shown.headline(shown.score(site, by_allele_and_strand(answers, SHIFTS)).numpy(), None) == (
        -3.75,
        0,
        None,
        1.0,
        3.0,
    )
    tied = replace(scorer, linear=LINEAR[[1, 2, 0]] * torch.tensor([[-3.75], [1.0], [1.0]]))
    assert tied.headline(tied.score(site, by_allele_and_strand(answers, SHIFTS)).numpy(), None) == (-3.75, 0, None)


def test_differences_are_taken_in_double_precision() -> None:
    site = Site(SNV, SNV, gene(30))
    answers = [torch.tensor([2.0**24, 0.0]), torch.tensor([1.0, 0.0])] + [torch.zeros(2)] * (4 * len(SHIFTS) - 2)
    scorer = replace(scorer_of(), linear=torch.eye(8, dtype=torch.float64)[:3])
    assert scorer.score(site, by_allele_and_strand(answers, SHIFTS))[0].item() == -(2.0**24 + 1) / 2


@given(data=st.data())
@few
def test_swapping_the_alleles_of_a_substitution_gives_minus_the_score(data: st.DataObject) -> None:
    bases, allele, tss, strand = drawn_case(data, ("SNV", "MNV"))
    start, ref, alt = allele
    changed = bases[:start] + alt + bases[start + len(ref) :]
    forward = one(run_toy(model_of(), bases, [record(bases, allele)], genes=[gene(tss, strand)]))
    back = one(run_toy(model_of(), changed, [record(changed, (start, alt, ref))], genes=[gene(tss, strand)]))
    assert forward.scores == pytest.approx([-score for score in back.scores], rel=1e-12, abs=1e-9)


def drawn_case(data: st.DataObject, kinds: Sequence[str]) -> tuple[str, tuple[int, str, str], int, str]:
    bases = data.draw(st.text("ACGT", min_size=90, max_size=90))
    start, kind = data.draw(st.integers(40, 50)), data.draw(st.sampled_from(kinds))
    n_ref, n_alt = {"SNV": (1, 1), "MNV": (3, 3), "insertion": (0, 2), "deletion": (2, 0)}[kind]
    ref, alt = bases[start : start + n_ref], data.draw(st.text("ACGT", min_size=n_alt, max_size=n_alt))
    if n_ref == n_alt:  # every base changes
        alt = ref.translate(str.maketrans("ACGT", "CGTA"))
    tss, strand = start + data.draw(st.integers(-10, 10)), data.draw(st.sampled_from("+-"))
    return bases, (start, ref, alt), tss, strand


def mirrored(
    bases: str, allele: tuple[int, str, str], tss: int, strand: str
) -> tuple[str, tuple[int, str, str], int, str]:
    start, ref, alt = allele
    there = (len(bases) - start - len(ref), flipped(ref), flipped(alt))
    return flipped(bases), there, len(bases) - 1 - tss, "-" if strand == "+" else "+"


class MirroredShifted(Shifted):
    """The rule of `Shifted` applied to the other strand of genome, allele and gene, and named on this one."""

    __slots__ = ()

    def places(self, site: Site) -> list[int]:
        """Give the last changed base."""
        return [site.right.end - 1]

    def pairs(self, site: Site) -> list[Pair]:
        """Give right-fixed pairs, on the other strand's shifts."""
        return [right_fixed(site.right, self.length, self.index + shift) for shift in self.shifts]


@given(data=st.data())
@few
def test_the_other_strand_scores_the_same_under_the_mirrored_rule(data: st.DataObject) -> None:
    case = drawn_case(data, ("SNV", "insertion", "deletion"))
    bases, allele, tss, strand = case
    rule = MirroredShifted(LENGTH, INDEX, SHIFTS, 2 * REACH)
    here = one(run_toy(model_of(rule), bases, [record(bases, allele)], genes=[gene(tss, strand)]))
    bases, allele, tss, strand = mirrored(*case)
    model = model_of(replace(shifted(), max_distance=2 * REACH))
    there = one(run_toy(model, bases, [record(bases, allele)], genes=[gene(tss, strand)]))
    assert here.scores == pytest.approx(there.scores, rel=1e-12, abs=1e-9)


@given(data=st.data())
@few
def test_compensated_indels_and_odd_windows_score_the_same_on_both_strands(data: st.DataObject) -> None:
    case = drawn_case(data, ("SNV", "insertion", "deletion"))
    model = Model("toy-odd", WindowsNet(33, SHIFTS), scorer_of(Shifted(33, 16, SHIFTS, REACH, "both", "compensate")))
    found = []
    for bases, allele, tss, strand in (case, mirrored(*case)):
        found.append(one(run_toy(model, bases, [record(bases, allele)], genes=[gene(tss, strand)])))
    assume(found[0].status == "OK")
    assert found[0].status == found[1].status
    assert found[0].scores == pytest.approx(found[1].scores, rel=1e-12, abs=1e-9)


@pytest.mark.parametrize("kind", ["insertion", "deletion"])
def test_the_windows_of_both_alleles_are_cut_from_their_sequence(kind: str) -> None:
    left, right = normalise_record(GENOME, ALLELES[kind])
    placement, site = shifted("compensate", "forward"), Site(left, right)
    pairs, whole = placement.pairs(site), placement.haplotypes(site)
    spread = max(SHIFTS) - min(SHIFTS)
    assert [haplotype.length for haplotype in whole] == [LENGTH + spread] * 4
    for number, pair in enumerate(pairs):
        start = SHIFTS[number % len(SHIFTS)] - min(SHIFTS)
        for window, sequence in zip(pair, whole[2 * (number // len(SHIFTS)) :], strict=False):
            assert text_of(sequence)[start : start + LENGTH] == text_of(window)


def text_of(haplotype: Haplotype) -> str:
    variant, (_, start, end) = haplotype.variant, haplotype.window
    if variant is None:
        return GENOME[start:end]
    return GENOME[start : variant.start] + variant.alt + GENOME[variant.end : end]


def test_left_fixed_windows_hold_the_allele_at_the_index_less_the_shift() -> None:
    for shift, pair in zip(SHIFTS, shifted().pairs(Site(SNV, SNV)), strict=True):
        assert pair == left_fixed(SNV, LENGTH, INDEX - shift)
        assert SNV.start - pair.ref.window.start == INDEX - shift
