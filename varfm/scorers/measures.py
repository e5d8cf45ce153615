"""Scores by name: how the answers of the alternate and of the reference window are compared, track by track.

Nothing here imports torch, so that `varfm models info` can print formulas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Compare = Callable[["Tensor", "Tensor"], "Tensor"]
"""(ref, alt) -> (n_tracks,) float64. Both are (n_tracks,), or (n_bins, n_tracks) for networks with bins, in float64."""

Combine = Callable[[Sequence["Tensor"]], "Tensor"]
"""The values of other measures, (n_tracks,) each, averaged over strands and pairs -> (n_tracks,)."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A score that every track of a network can have.

    Attributes:
        name: `[A-Z0-9_]`; begins the names of its columns and INFO keys.
        description: One sentence without the track.
        unit: What the number is counted in.
        formula: In one line.
        compare: Compares two answers; None for a measure that is made of others.
        signed: True if swapping ref and alt gives minus the score.
        needs: The measures that `combine` takes, in order.
        combine: Makes the score of those.
        neutral: The score of an allele that changes nothing; the further from it, the larger the effect.
    """

    name: str
    description: str
    unit: str
    formula: str
    compare: Compare | None
    signed: bool = True
    needs: tuple[Measure, ...] = ()
    combine: Combine | None = None
    neutral: float = 0.0


def _difference(ref: Tensor, alt: Tensor) -> Tensor:
    return alt - ref


def _logit(p: Tensor) -> Tensor:
    p = p.where(p != 0, 1e-24).where(p < 1, 0.999999)
    return (p / (1 - p)).log()


def _log2_odds(p: Tensor) -> Tensor:
    return (p / (1 - p + 1e-12)).log2()


def _log2_fold(ref: Tensor, alt: Tensor) -> Tensor:
    return (alt + 1e-12).log2() - (ref + 1e-12).log2()


def _js(ref: Tensor, alt: Tensor) -> Tensor:
    floor = ref.quantile(0.25, dim=0)
    p, q = ref + floor, alt + floor
    p, q = p / p.sum(0), q / q.sum(0)
    ratio = (p / q).log()
    return ((p * ratio).sum(0) - (q * ratio).sum(0)) / 2


DIFF = Measure("DIFF", "Change of the predicted probability.", "probability", "p(alt) - p(ref)", _difference)
LOGIT = Measure(
    "LOGIT",
    "Change of the natural log odds of the predicted probability.",
    "natural log odds",
    "ln(p / (1 - p)) of alt minus that of ref; p = 0 is taken as 1e-24, p >= 1 as 0.999999",
    lambda ref, alt: _logit(alt) - _logit(ref),
)
LOGODDS = Measure(
    "LOGODDS",
    "Change of the log2 odds of the predicted probability, DeepSEA's log fold change.",
    "log2 odds",
    "log2(p / (1 - p + 1e-12)) of alt minus that of ref",
    lambda ref, alt: _log2_odds(alt) - _log2_odds(ref),
)
LOG2FC = Measure(
    "LOG2FC",
    "Fold change of the predicted probability.",
    "log2 fold change",
    "log2(p(alt) + 1e-12) - log2(p(ref) + 1e-12)",
    _log2_fold,
)
POINT_MEASURES = (DIFF, LOGODDS, LOGIT, LOG2FC)
"""What networks that answer with one probability per track offer."""

SAD = Measure(
    "SAD",
    "Change of the predicted coverage, summed over the output bins.",
    "predicted coverage",
    "sum over bins of (alt - ref)",
    lambda ref, alt: (alt - ref).sum(0),
)
SAD_MEAN = Measure(
    "SAD_MEAN",
    "Change of the predicted coverage, averaged over the output bins.",
    "predicted coverage per bin",
    "mean over bins of (alt - ref)",
    lambda ref, alt: (alt - ref).mean(0),
)
SAR = Measure(
    "SAR",
    "Change of the log2 predicted coverage, summed over the output bins.",
    "log2 ratio, summed",
    "sum over bins of (log2(alt + 1) - log2(ref + 1))",
    lambda ref, alt: ((alt + 1).log2() - (ref + 1).log2()).sum(0),
)
SADR = Measure(
    "SADR",
    "Log2 ratio of the predicted coverage summed over the output bins.",
    "log2 ratio",
    "log2(sum over bins of alt + 1) - log2(sum over bins of ref + 1)",
    lambda ref, alt: (alt.sum(0) + 1).log2() - (ref.sum(0) + 1).log2(),
)
D1 = Measure(
    "D1",
    "Size of the change of the predicted coverage over the output bins, L1 norm.",
    "predicted coverage",
    "sum over bins of |alt - ref|",
    lambda ref, alt: (alt - ref).abs().sum(0),
    signed=False,
)
D2 = Measure(
    "D2",
    "Size of the change of the predicted coverage over the output bins, L2 norm.",
    "predicted coverage",
    "square root of the sum over bins of (alt - ref)^2",
    lambda ref, alt: (alt - ref).square().sum(0).sqrt(),
    signed=False,
)
JS = Measure(
    "JS",
    "Change of the shape of the predicted coverage over the output bins.",
    "nats",
    "(KL(ref, alt) + KL(alt, ref)) / 2 over bins, each plus the 25th percentile of ref, scaled to sum 1",
    _js,
    signed=False,
)
BINNED_MEASURES = (SAD, SAR, SADR, SAD_MEAN, D1, D2, JS)
"""What networks that answer with coverage in bins offer."""
