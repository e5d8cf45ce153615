"""The scorer of many tracks: columns, headlines, bins, shifts, strands, genes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import gene

from varfm.scorers.matrix import Group, MatrixScorer, TrackName
from varfm.scorers.measures import D1, DIFF, LOGODDS, SAD, SAR, Measure
from varfm.scorers.placement import Centred, OnGenes
from varfm.variants import Variant
from varfm.windows import Site

SNV = Variant("c", 30, "G", "T")
DELETION = Variant("c", 30, "G", "")
SITE = Site(SNV, SNV)


def scorer(n_tracks: int = 3, **options: object) -> MatrixScorer:
    tracks = tuple(TrackName(n, f"track {n}") for n in range(n_tracks))
    groups = (Group("CHIP", (0, 1)), Group("CAGE", (2,)))
    made = MatrixScorer(Centred(12, 5, "forward"), (SAD, SAR), tracks, groups, SAR)
    return replace(made, **options)  # type: ignore[arg-type]


def bins(*values: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(values)


REF = bins((1.0, 1.0, 3.0), (1.0, 0.0, 0.0))
ALT = bins((3.0, 0.0, 3.0), (1.0, 0.0, 3.0))


def test_columns_go_measure_by_measure_and_track_by_track_and_headlines_follow() -> None:
    assert [column.name for column in scorer().columns] == ["SAD_T0", "SAD_T1", "SAD_T2", "SAR_T0", "SAR_T1", "SAR_T2"]
    values = scorer().score(SITE, [REF, ALT])
    # SAR: log2(4/2) = 1; log2(1/2) = -1; log2(4) = 2. Of the tie in CHIP the first track.
    assert values.tolist() == [2.0, -1.0, 3.0, 1.0, -1.0, 2.0, 1.0, 0.0, 2.0, 2.0]
    assert scorer().n_values == 10
    assert scorer().headline(values.numpy(), None) == (1.0, 0, 2.0, 2)


def test_fields_name_score_assay_and_track() -> None:
    assert [field.key for field in scorer().fields] == ["SAR_CHIP", "SAR_CHIP_TRACK", "SAR_CAGE", "SAR_CAGE_TRACK"]
    assert [field.type for field in scorer().fields] == ["Float", "Integer"] * 2


def test_chosen_tracks_are_the_same_columns_of_the_full_run_and_leave_the_headline_alone() -> None:
    chosen = scorer(tracks=(TrackName(1, "b"),), tracks_in_info=True)
    full, part = scorer().score(SITE, [REF, ALT]), chosen.score(SITE, [REF, ALT])
    assert part.tolist() == [full[1], full[4], *full[6:]]
    assert [field.key for field in chosen.fields][4:] == ["SAD_T1", "SAR_T1"]
    assert chosen.headline(part.numpy(), None) == (1.0, 0, 2.0, 2, -1.0, -1.0)


def test_only_the_bins_that_count_are_summed() -> None:
    first = scorer(bins=(0,), measures=(SAD,), headline_measure=SAD)
    assert first.score(SITE, [REF, ALT]).tolist()[:3] == [2.0, -1.0, 0.0]


def test_each_half_of_the_bins_comes_from_the_pair_that_leaves_it_in_place() -> None:
    placed = Centred(12, 5, "forward", "compensate")
    compensated = scorer(1, placement=placed, measures=(SAD, D1), groups=(Group("MAX", (0,)),), headline_measure=SAD)
    left_ref, left_alt = bins((1.0,), (2.0,), (3.0,), (4.0,)), bins((1.5,), (2.0,), (90.0,), (91.0,))
    right_ref, right_alt = bins((5.0,), (6.0,), (7.0,), (8.0,)), bins((92.0,), (93.0,), (6.0,), (8.25,))
    site = Site(DELETION, DELETION)
    # Left: +0.5, 0. Right: -1, +0.25. The flanks that moved, 90 to 93, do not count.
    values = compensated.score(site, [left_ref, left_alt, right_ref, right_alt])
    assert values.tolist()[:2] == [-0.25, 1.75]
    swapped = compensated.score(site, [left_alt, left_ref, right_alt, right_ref])
    assert swapped.tolist()[:2] == [0.25, 1.75]


def test_a_middle_bin_is_the_mean_of_both_pairs() -> None:
    placed = Centred(12, 5, "forward", "compensate")
    odd = scorer(1, placement=placed, measures=(SAD,), groups=(Group("MAX", (0,)),), headline_measure=SAD, bins=(1,))
    zeros, left, right = (bins(*[(value,)] * 3) for value in (0.0, 1.0, 4.0))
    assert odd.score(Site(DELETION, DELETION), [zeros, left, zeros, right])[0].item() == 2.5


def test_of_a_compensated_indel_chosen_bins_are_counted_from_either_end() -> None:
    placed = Centred(12, 5, "forward", "compensate")
    first = scorer(1, placement=placed, measures=(SAD,), groups=(Group("MAX", (0,)),), headline_measure=SAD, bins=(0,))
    zeros, left, right = bins(*[(0.0,)] * 4), bins((1.0,), *[(9.0,)] * 3), bins(*[(9.0,)] * 3, (3.0,))
    assert first.score(Site(DELETION, DELETION), [zeros, left, zeros, right])[0].item() == 2.0


def test_shifts_and_strands_are_averaged_before_alleles_are_compared() -> None:
    placed = Centred(12, 5, "both", "anchor", (0, 2))
    both = scorer(1, placement=placed, measures=(SAR,), groups=(Group("MAX", (0,)),))
    assert [h.window.start for h in both.haplotypes(SITE)] == [25, 25, 25, 25, 23, 23, 23, 23]
    answers = [bins((value,)) for value in (1.0, 3.0, 7.0, 9.0, 0.0, 0.0, 8.0, 4.0)]
    assert both.score(SITE, answers)[0].item() == pytest.approx(math.log2(8) - math.log2(2))


def test_strands_are_scored_one_by_one_where_the_authors_did() -> None:
    point = MatrixScorer(Centred(12, 5), (DIFF, LOGODDS), (TrackName(0, "a"),), (Group("MAX", (0,)),), DIFF)
    answers = [torch.tensor([p]) for p in (0.5, 0.2, 0.8, 0.2)]
    averaged, scored = (replace(point, strands_scored=on).score(SITE, answers) for on in (False, True))
    assert averaged.tolist()[:2] == pytest.approx([0.15, 0.0 - math.log2(0.35 / 0.65)])
    assert scored.tolist()[:2] == pytest.approx([0.15, math.log2(4) / 2])


def test_a_measure_made_of_others_takes_their_averages() -> None:
    product = Measure("PRODUCT", "Product.", "", "", None, False, (DIFF, LOGODDS), lambda both: both[0] * both[1])
    made = MatrixScorer(Centred(12, 5, "forward"), (product,), (TrackName(0, "a"),), (), product)
    assert made.score(SITE, [torch.tensor([0.5]), torch.tensor([0.8])])[0].item() == pytest.approx(0.3 * 2, rel=1e-6)


def test_a_value_that_is_not_finite_is_no_headline() -> None:
    values = scorer().score(SITE, [REF, bins((1.0, float("inf"), 3.0), (1.0, 0.0, float("inf")))])
    assert scorer().headline(values.numpy(), None)[:2] == (0.0, 0)
    assert scorer().headline(values.numpy(), None)[3] is None


def test_an_allele_equal_to_ref_has_zeros_and_the_first_track_of_each_group() -> None:
    assert scorer().headline(scorer().unchanged(), None) == (0.0, 0, 0.0, 2)
    assert not scorer().unchanged()[:6].any()


def test_genes_have_their_name_and_count_bins_on_their_own_strand() -> None:
    placed = OnGenes(12, 5, "both")
    on_genes = scorer(placement=placed, bins=(0,), measures=(SAD,), headline_measure=SAD)
    assert on_genes.needs_genes
    assert [field.key for field in on_genes.fields][-1] == "GENE"
    for strand, expected in (("+", [2.0, -1.0, 0.0]), ("-", [0.0, 0.0, 3.0])):
        site = Site(SNV, SNV, gene(30, strand, "TP53"))
        assert [h.strand for h in on_genes.haplotypes(site)] == ([strand, "-+"[strand == "-"]] * 2)
        values = on_genes.score(site, [REF, REF, ALT, ALT])
        assert values.tolist()[:3] == expected
        assert on_genes.headline(values.numpy(), site.gene)[-1] == "TP53"


def test_unsigned_scores_say_so() -> None:
    made = scorer(measures=(SAR, D1))
    assert [column.signed for column in made.columns] == [True] * 3 + [False] * 3
    assert np.isfinite(made.unchanged()).all()


def test_strands_and_pairs_that_change_places_change_no_bit() -> None:
    both = scorer(
        placement=Centred(12, 5, "both", "compensate"),
        measures=(LOGODDS,),
        headline_measure=LOGODDS,
        strands_scored=True,
    )
    site = Site(DELETION, DELETION)
    draw = torch.Generator().manual_seed(1)
    for _ in range(50):
        # Left-fixed ref and alt, forward and reverse; then the same of the right-fixed pair.
        answers = list(torch.rand((8, 3), generator=draw))
        mirrored = [answers[place] for place in (5, 4, 7, 6, 1, 0, 3, 2)]
        assert torch.equal(both.score(site, answers), both.score(site, mirrored))
