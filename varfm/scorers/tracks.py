"""Scores of networks with a few outputs of their own names: the alternate answer minus the reference answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from varfm.protocols import Column, Field, GeneIndex, Value
from varfm.scorers.placement import Comparison, Placement
from varfm.variants import Status, Variant, VariantKind
from varfm.windows import Gene, Haplotype, Site

if TYPE_CHECKING:
    from torch import Tensor

EVERY_KIND = frozenset(VariantKind) - {VariantKind.NONE}


@dataclass(frozen=True, slots=True)
class TrackScore:
    """A column and the tracks whose mean difference it is.

    Attributes:
        column: How it is called.
        tracks: Output indices; more than one are averaged.
        key: Its INFO key without the model's prefix; None: in tables only.
    """

    column: Column
    tracks: tuple[int, ...]
    key: str | None = None


@dataclass(frozen=True, slots=True)
class TrackScorer:
    """Averages answers over strands and shifts, compares alleles, and averages over pairs.

    Attributes:
        placement: Where windows lie.
        scores: What is reported, in order.
    """

    placement: Placement
    scores: tuple[TrackScore, ...]

    supports = EVERY_KIND

    @property
    def needs_genes(self) -> bool:
        """As the placement says."""
        return self.placement.needs_genes

    @property
    def columns(self) -> tuple[Column, ...]:
        """One per score."""
        return tuple(score.column for score in self.scores)

    @property
    def fields(self) -> tuple[Field, ...]:
        """One per score that has a key."""
        return tuple(Field(s.key, "Float", s.column.description) for s in self.scores if s.key)

    @property
    def plain_fields(self) -> tuple[int, ...]:
        """Fields are columns."""
        return tuple(index for index, score in enumerate(self.scores) if score.key)

    @property
    def n_values(self) -> int:
        """Nothing is hidden."""
        return len(self.scores)

    @property
    def max_allele(self) -> int:
        """As the placement says."""
        return self.placement.max_allele

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give the placement's sites."""
        return self.placement.sites(left, right, genes)

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give the placement's sequences."""
        return self.placement.haplotypes(site)

    def score(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Compare (n_tracks,) answers -> (n_columns,) float64."""
        import torch

        # For a small network these calls are most of what is not the network, so there are few of them.
        differences = [_difference(comparison) for comparison in self.placement.comparisons(site, answers)]
        difference = differences[0] if len(differences) == 1 else torch.stack(differences).mean(0)
        columns = difference[[score.tracks[0] for score in self.scores]]
        for index, score in enumerate(self.scores):
            if len(score.tracks) > 1:
                columns[index] = difference[list(score.tracks)].mean()
        return columns

    def unchanged(self) -> NDArray[np.float64]:
        """Give zeros."""
        return np.zeros(self.n_values)

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        """Give the columns that have a key."""
        return tuple(float(scores[index]) for index in self.plain_fields)


def _difference(comparison: Comparison) -> Tensor:
    import torch

    n_answers, n_tracks = len(comparison.alt), len(comparison.alt[0])
    answers = torch.stack([*comparison.alt, *comparison.ref]).double().view(2, n_answers, n_tracks)
    alt, ref = answers.mean(1).unbind(0)
    return alt - ref
