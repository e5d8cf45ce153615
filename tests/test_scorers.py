"""Scorers: which sequences they ask for, how they compare answers, and what they show."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from toys import binned_model, gene, point_model, tss_model

from varfm.genes import GeneIndex
from varfm.models.columns import COLUMNS
from varfm.scorers.position import PositionScorer
from varfm.scorers.tracks import TrackScorer
from varfm.variants import Status, Variant
from varfm.windows import Site, Window

SNV = Variant("c", 30, "G", "T")
DELETION = Variant("c", 30, "G", "")


def track_scorer(**options: str) -> TrackScorer:
    scorer = point_model(**options).scorer  # type: ignore[arg-type]
    assert isinstance(scorer, TrackScorer)
    return scorer


def test_both_strands_of_ref_and_alt_are_asked_for() -> None:
    scorer = track_scorer()
    haplotypes = scorer.haplotypes(Site(SNV, SNV))
    assert [(h.variant, h.strand) for h in haplotypes] == [(None, "+"), (None, "-"), (SNV, "+"), (SNV, "-")]
    assert {h.window for h in haplotypes} == {Window("c", 26, 35)}


def test_compensate_asks_for_a_right_fixed_pair_with_its_own_reference() -> None:
    right = DELETION._replace(start=31)
    haplotypes = track_scorer(indel_mode="compensate", strands="forward").haplotypes(Site(DELETION, right))
    assert [(h.window.start, h.window.end, h.variant) for h in haplotypes] == [
        (26, 35, None),
        (26, 36, DELETION),
        (27, 36, None),
        (26, 36, right),
    ]
    assert len(track_scorer(indel_mode="compensate", strands="forward").haplotypes(Site(SNV, SNV))) == 2
    assert len(track_scorer(strands="forward").haplotypes(Site(DELETION, right))) == 2


def test_strands_are_averaged_then_alleles_compared_then_pairs_averaged() -> None:
    scorer = track_scorer(indel_mode="compensate")
    answers = [torch.tensor([value, 2 * value]) for value in (1.0, 3.0, 5.0, 7.0, 0.0, 0.0, 1.0, 0.0)]
    # Left: (5 + 7) / 2 - (1 + 3) / 2 = 4; right: 0.5 - 0.
    assert scorer.score(Site(DELETION, DELETION), answers).tolist() == [2.25, 4.5]


def test_differences_are_taken_in_double_precision() -> None:
    answers = [torch.tensor([2.0**24, 0.0]), torch.tensor([1.0, 0.0])] * 2
    scorer = track_scorer(strands="forward", indel_mode="compensate")
    assert scorer.score(Site(DELETION, DELETION), answers)[0].item() == 1 - 2.0**24
    assert scorer.score(Site(DELETION, DELETION), answers).dtype == torch.float64


def test_fields_are_the_columns_with_a_key() -> None:
    scorer = track_scorer()
    assert [column.name for column in scorer.columns] == ["sum", "n_g"]
    assert [field.key for field in scorer.fields] == ["SUM"]
    assert scorer.plain_fields == (0,)
    assert scorer.headline(np.array([1.5, 2.5]), None) == (1.5,)
    assert binned_model().scorer.plain_fields == (0,)


@pytest.mark.parametrize(("length", "index", "longest"), [(9, 4, 4), (10, 4, 5), (145, 72, 72), (2, 1, 0)])
def test_one_reference_base_is_left_beyond_the_longest_allele(length: int, index: int, longest: int) -> None:
    assert point_model(length, index).scorer.max_allele == longest


GENES = GeneIndex(
    [gene(30, "+", "near"), gene(30, "-", "back"), gene(38, "+", "b"), gene(60, "+", "far"), gene(30, "+", "x", "d")],
    "bed",
)


def test_genes_whose_window_holds_the_allele_are_the_sites() -> None:
    sites = tss_model().scorer.sites(SNV, SNV, GENES)
    assert not isinstance(sites, Status)
    assert [site.gene.name for site in sites if site.gene] == ["back", "near"]
    assert tss_model().scorer.sites(SNV._replace(contig="e"), SNV._replace(contig="e"), GENES) is Status.NO_GENE


@pytest.mark.parametrize("strand", ["+", "-"])
def test_the_window_of_a_gene_reaches_to_its_last_base_and_no_further(strand: str) -> None:
    scorer = tss_model(12, 7).scorer
    inside = []
    for start in range(10, 60):
        variant = Variant("c", start, "A", "C")
        if scorer.sites(variant, variant, GeneIndex([gene(30, strand)], "bed")) is not Status.NO_GENE:
            inside.append(start)
    assert inside == (list(range(23, 35)) if strand == "+" else list(range(26, 38)))


def test_a_long_deletion_that_only_reaches_into_the_window_is_a_site() -> None:
    scorer = tss_model(12, 7).scorer
    for variant in (Variant("c", 10, "A" * 14, ""), Variant("c", 34, "A" * 30, "")):
        assert scorer.sites(variant, variant, GeneIndex([gene(30)], "bed")) is not Status.NO_GENE
    for variant in (Variant("c", 10, "A" * 13, ""), Variant("c", 35, "A" * 30, "")):
        assert scorer.sites(variant, variant, GeneIndex([gene(30)], "bed")) is Status.NO_GENE


def test_a_gene_score_is_alt_minus_ref_and_shows_the_gene() -> None:
    scorer = tss_model().scorer
    site = Site(SNV, SNV, gene(30, name="TP53"))
    assert scorer.score(site, [torch.tensor([1.5]), torch.tensor([4.0])]).tolist() == [2.5]
    assert scorer.headline(np.array([2.5]), site.gene) == (2.5, "TP53")
    assert [field.key for field in scorer.fields] == ["LEVEL", "GENE"]


def test_the_null_score_is_the_start_modulo_97() -> None:
    scorer = PositionScorer(COLUMNS["null"])
    assert scorer.direct(np.array([0, 96, 97, 1000])).tolist() == [[0.0], [96.0], [0.0], [30.0]]
    assert scorer.score(Site(SNV, SNV), []).tolist() == [30.0]
