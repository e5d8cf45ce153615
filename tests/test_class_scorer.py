"""Tests of varfm.scorers.classes and varfm.scorers.selene: numbers worked out by hand, ties, and what is not known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from varfm.scorers.classes import N_CLUSTERS, ClassScorer, Projection, equalised
from varfm.scorers.matrix import TrackName
from varfm.scorers.placement import Centred
from varfm.scorers.selene import SeleneWindows, copied, selene_pair
from varfm.variants import Variant
from varfm.windows import Haplotype, Site, Window, reversed_strand

LABELS = ("A1", "B1", "B2")
SNV = Site(Variant("c", 50, "A", "C"), Variant("c", 50, "A", "C"))
DELETION = Site(Variant("c", 50, "AC", ""), Variant("c", 52, "AC", ""))
TRACKS = (TrackName(1, "one"), TrackName(3, "three"))


def projection() -> Projection:
    """Put A1 along profile 0 with length 2, B1 along 1, B2 along 3, all others along 2. 0 and 1 are histones."""
    vectors = torch.zeros(N_CLUSTERS, 4, dtype=torch.float64)
    vectors[:, 2] = 1
    vectors[:3] = torch.tensor([[2.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    return Projection(vectors, torch.tensor([0, 1]), LABELS)


def scorer(*scores: str, placement: Centred | None = None) -> ClassScorer:
    return ClassScorer(placement or Centred(16, 7, "forward"), projection(), scores or ("CLASS",), TRACKS)


def values(found: ClassScorer, *answers: list[float], site: Site = SNV) -> dict[str, float]:
    scores = found.score(site, [torch.tensor(answer) for answer in answers])
    assert scores.shape == (found.n_values,) and scores.dtype == torch.float64
    return dict(zip([column.name for column in found.columns], scores.tolist(), strict=True))


REF, ALT = [0.25, 0.25, 0.5, 0.5], [0.75, 0.25, 0.5, 0.125]
"""Histone totals are 0.5 and 1, so ref is scaled by 1.5 and alt by 0.75."""


def test_histone_profiles_are_scaled_to_the_mean_total_and_others_stay() -> None:
    both = equalised(torch.tensor(REF).double(), torch.tensor(ALT).double(), torch.tensor([0, 1]))
    assert both.tolist() == [[0.375, 0.375, 0.5, 0.5], [0.5625, 0.1875, 0.5, 0.125]]


def test_class_scores_are_differences_of_projections_by_length() -> None:
    found = values(scorer(), REF, ALT)
    assert found == {
        "A1": 0.1875, "B1": -0.1875, "B2": -0.375,
        "top_class": 2, "top_score": -0.375, "ref_class": 2,
    }  # fmt: skip


def test_raw_scores_are_projections_without_equalising() -> None:
    found = values(scorer("RAW"), REF, ALT)
    assert [found[f"RAW_REF_{name}"] for name in (*LABELS, "3", "60")] == [0.25, 0.25, 0.5, 0.5, 0.5]
    assert [found[f"RAW_ALT_{name}"] for name in LABELS] == [0.75, 0.25, 0.125]
    assert len(found) == 2 * N_CLUSTERS + 3


def test_differences_and_largest_size_stand_in_fixed_order() -> None:
    found = values(scorer("DIFF", "MAX_ABS"), REF, ALT)
    assert list(found) == ["DIFF_T1", "DIFF_T3", "MAX_ABS", "top_class", "top_score", "ref_class"]
    assert list(found.values())[:3] == [0, -0.375, 0.375]


def test_strands_are_averaged_before_anything_is_compared() -> None:
    both = scorer(placement=Centred(16, 7, "both"))
    far = [[2 * value - 0.1 for value in answer] for answer in (REF, ALT)]
    near = [[0.1] * 4, [0.1] * 4]
    expected = values(scorer(), REF, ALT)
    assert values(both, near[0], far[0], near[1], far[1]) == pytest.approx(expected, abs=1e-7)


def test_pairs_of_windows_are_compared_each_and_averaged() -> None:
    compensated = scorer("CLASS", "RAW", placement=Centred(16, 7, "forward", "compensate"))
    found = values(compensated, REF, ALT, ALT, ALT, site=DELETION)
    assert found["B2"] == -0.375 / 2
    assert found["RAW_REF_B2"] == (0.5 + 0.125) / 2


def test_swapped_roles_give_minus_every_signed_score_and_the_same_top_class() -> None:
    found = scorer("CLASS", "DIFF", "MAX_ABS")
    there, back = values(found, REF, ALT), values(found, ALT, REF)
    for column in found.columns:
        if column.signed:
            assert back[column.name] == -there[column.name], column.name
    assert back["top_class"] == there["top_class"] and back["MAX_ABS"] == there["MAX_ABS"]


def test_ties_go_to_the_lower_index() -> None:
    found = values(scorer(), [0.5, 0.25, 0, 0.5], [0.25, 0.5, 0, 0.5])
    assert (found["A1"], found["B1"]) == (-0.25, 0.25)
    assert found["top_class"] == 0 and found["top_score"] == -0.25
    assert found["ref_class"] == 0


def test_class_of_a_cluster_without_a_name_is_never_the_reference_class() -> None:
    assert values(scorer(), [0.1, 0.2, 1, 0.1], [0.1, 0.3, 1, 0.1])["ref_class"] == 1


def test_headline_is_label_score_and_label() -> None:
    found = scorer()
    scores = found.score(SNV, [torch.tensor(REF), torch.tensor(ALT)]).numpy()
    assert found.headline(scores, None) == ("B2", -0.375, "B2")
    assert [field.key for field in found.fields] == ["CLASS", "SCORE", "REF_CLASS"]


def test_headline_shows_tracks_and_largest_size_where_they_were_asked_for() -> None:
    found = ClassScorer(Centred(16, 7, "forward"), projection(), ("DIFF", "MAX_ABS"), TRACKS, tracks_in_info=True)
    scores = found.score(SNV, [torch.tensor(REF), torch.tensor(ALT)]).numpy()
    assert [field.key for field in found.fields][3:] == ["DIFF_T1", "DIFF_T3", "MAX_ABS"]
    assert found.headline(scores, None)[3:] == (0, -0.375, 0.375)


def test_allele_equal_to_ref_scores_zero_and_leaves_open_what_only_a_network_knows() -> None:
    found = scorer("CLASS", "RAW", "DIFF", "MAX_ABS")
    unchanged = dict(zip([column.name for column in found.columns], found.unchanged().tolist(), strict=True))
    known = {name: value for name, value in unchanged.items() if not name.startswith("RAW") and name != "ref_class"}
    assert set(known.values()) == {0} and len(known) == 3 + 2 + 1 + 2
    assert all(np.isnan(value) for name, value in unchanged.items() if name not in known)
    assert found.headline(found.unchanged(), None)[:3] == ("A1", 0, None)


def test_scores_that_are_not_numbers_name_no_class() -> None:
    nothing = [0.0, 0.0, 0.5, 0.5]  # no histone total to divide by
    found = scorer()
    scores = found.score(SNV, [torch.tensor(nothing), torch.tensor(REF)]).numpy()
    assert found.headline(scores, None)[0] is None


def test_label_columns_carry_the_labels() -> None:
    named = {column.name: column.labels for column in scorer().columns if column.labels}
    assert named == {"top_class": LABELS, "ref_class": LABELS}


# Selene's windows. A window of 16 bases has radius 8; POS counts from 1 and is taken for a 0-based place.


def sequence(haplotype: Haplotype, bases: str) -> str:
    """Cut a haplotype from a contig as the genome does, and fill in what Selene writes again; letters as codes."""
    window, variant = haplotype.window, haplotype.variant
    if variant is None:
        found = bases[window.start : window.end]
    else:
        found = bases[window.start : variant.start] + variant.alt + bases[variant.end : window.end]
    codes = bytes("ACGTN".index(base) for base in found)
    if haplotype.strand == "-":
        codes = bytes(4 if code == 4 else 3 - code for code in codes[::-1])
    return "".join("ACGTN"[code] for code in copied(codes, haplotype))


BASES = "".join(np.random.RandomState(0).choice(list("ACGT"), 100))


def test_snv_stands_where_the_right_placement_puts_it() -> None:
    variant = Variant("c", 50, BASES[50], "A" if BASES[50] != "A" else "C")
    ref, alt = selene_pair(variant, 16)
    assert ref.window == Window("c", 43, 59) == alt.window
    assert sequence(alt, BASES) == BASES[43:50] + variant.alt + BASES[51:59]


def test_longer_substitution_is_centred_by_half_its_length() -> None:
    ref, alt = selene_pair(Variant("c", 50, BASES[50:54], "NNNN"), 16)
    assert ref.window == Window("c", 45, 61) == alt.window


def test_insertion_is_trimmed_on_both_sides() -> None:
    # POS 50, REF the base 49, ALT that base and three others: one is taken away on the left, two on the right.
    ref, alt = selene_pair(Variant("c", 50, "", "GTT"), 16)
    assert ref.window == Window("c", 42, 58)
    assert sequence(alt, BASES) == BASES[43:50] + "GTT" + BASES[50:56]


def test_deletion_takes_the_bases_two_to_the_right_and_writes_the_anchor_again() -> None:
    # POS 50, REF the bases 49 to 52, ALT the base 49: left part up to 51, ALT, right part from 55.
    ref, alt = selene_pair(Variant("c", 50, BASES[50:53], ""), 16)
    assert ref.window == Window("c", 44, 60)
    assert sequence(alt, BASES) == BASES[42:51] + BASES[49] + BASES[55:61]
    assert alt.length == ref.length == 16


def test_other_strand_of_a_deletion_is_its_reverse_complement() -> None:
    alt = selene_pair(Variant("c", 50, BASES[50:53], ""), 16).alt
    turned = sequence(reversed_strand(alt), BASES)
    assert turned == sequence(alt, BASES)[::-1].translate(str.maketrans("ACGT", "TGCA"))


def test_other_haplotypes_are_left_as_they_are() -> None:
    codes = bytes([0, 4, 2])
    window = Window("c", 0, 3)
    for variant in (None, Variant("c", 1, "A", "C"), Variant("c", 1, "A", "")):
        assert copied(codes, Haplotype(window, variant)) == codes


def test_windows_of_selene_are_one_pair_on_both_strands() -> None:
    haplotypes = SeleneWindows(16, 7).haplotypes(DELETION)
    assert [haplotype.strand for haplotype in haplotypes] == ["+", "-", "+", "-"]
    assert {haplotype.length for haplotype in haplotypes} == {16}


def test_answers_may_lie_on_any_device(device: str) -> None:
    answers: list[Tensor] = [torch.tensor(REF, device=device), torch.tensor(ALT, device=device)]
    assert scorer().score(SNV, answers)[:3].tolist() == [0.1875, -0.1875, -0.375]
