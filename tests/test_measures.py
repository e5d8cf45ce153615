"""Scores by name: numbers worked out by hand, and what holds for all of them."""

from __future__ import annotations

import math

import pytest
import torch

from varfm.models.columns import MEASURES
from varfm.scorers.measures import (
    BINNED_MEASURES,
    D1,
    D2,
    DIFF,
    JS,
    LOG2FC,
    LOGIT,
    LOGODDS,
    POINT_MEASURES,
    SAD,
    SAD_MEAN,
    SADR,
    SAR,
    Measure,
)

POINT = {
    DIFF: 0.5,
    LOGIT: math.log(3) - math.log(1 / 3),
    LOGODDS: math.log2(3) - math.log2(1 / 3),
    LOG2FC: math.log2(3),
}
# Two bins of one track: ref 1, 3; alt 3, 0.
BINNED = {
    SAD: -1.0,
    SAD_MEAN: -0.5,
    SAR: (2 - 1) + (0 - 2),
    SADR: math.log2(4) - math.log2(5),
    D1: 5.0,
    D2: math.sqrt(13),
}


def compared(measure: Measure, ref: list[list[float]], alt: list[list[float]]) -> list[float]:
    assert measure.compare is not None
    return measure.compare(torch.tensor(ref).double(), torch.tensor(alt).double()).tolist()


@pytest.mark.parametrize("measure", POINT, ids=lambda measure: measure.name)
def test_a_probability_of_a_quarter_that_becomes_three_quarters(measure: Measure) -> None:
    assert measure.compare is not None
    found = measure.compare(torch.tensor([0.25]).double(), torch.tensor([0.75]).double())
    assert found.tolist() == pytest.approx([POINT[measure]], abs=1e-10)


@pytest.mark.parametrize("measure", BINNED, ids=lambda measure: measure.name)
def test_coverage_of_two_bins(measure: Measure) -> None:
    assert compared(measure, [[1.0], [3.0]], [[3.0], [0.0]]) == pytest.approx([BINNED[measure]], abs=1e-12)


def test_js_compares_shapes_after_adding_the_lower_quartile_of_ref() -> None:
    # Quartile of 1, 3 is 1.5: shapes 2.5, 4.5 of 7 and 4.5, 1.5 of 6.
    p, q = [2.5 / 7, 4.5 / 7], [4.5 / 6, 1.5 / 6]
    expected = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True)) / 2
    assert compared(JS, [[1.0], [3.0]], [[3.0], [0.0]]) == pytest.approx([expected])


def test_certain_probabilities_have_the_odds_that_upstream_gives_them() -> None:
    assert LOGIT.compare is not None
    assert LOGODDS.compare is not None
    none, all_ = torch.zeros(1).double(), torch.ones(1).double()
    assert LOGIT.compare(none, all_).item() == pytest.approx(math.log(0.999999 / 0.000001) - math.log(1e-24))
    assert LOGODDS.compare(torch.full((1,), 0.5).double(), all_).item() == pytest.approx(math.log2(1e12))


@pytest.mark.parametrize("measure", [*POINT_MEASURES, *BINNED_MEASURES], ids=lambda measure: measure.name)
def test_signed_measures_turn_with_the_alleles_and_equal_answers_give_zero(measure: Measure) -> None:
    assert measure.compare is not None
    draw = torch.Generator().manual_seed(1)
    ref, alt = torch.rand(2, 6, 5, generator=draw, dtype=torch.float64)
    there, back = measure.compare(ref, alt), measure.compare(alt, ref)
    if measure.signed:
        torch.testing.assert_close(there, -back, rtol=0, atol=1e-12)
    else:
        assert (there > 0).all()
    assert measure.compare(ref, ref).abs().max() < 1e-12


def test_each_model_names_its_scores_once() -> None:
    for measures in MEASURES.values():
        assert len({measure.name for measure in measures}) == len(measures)
