"""Scores of networks that give one number per track and window: the alternate answer minus the reference answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from varfm.protocols import Column, Field, GeneIndex, Value
from varfm.variants import Status, Variant, VariantKind
from varfm.windows import Gene, Haplotype, Pair, Site, left_fixed, reversed_strand, right_fixed

if TYPE_CHECKING:
    from torch import Tensor

IndelMode = Literal["anchor", "compensate"]
Strands = Literal["both", "forward"]

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
    """Compares the answers of left-fixed pairs, and of right-fixed ones under `compensate`.

    Attributes:
        length: Bases that the network reads.
        index: 0-based place of the first changed base.
        scores: What is reported, in order.
        strands: `both`: answers of the two strands are averaged before they are compared.
        indel_mode: What is done for alleles of unequal length (DESIGN, 3).
    """

    length: int
    index: int
    scores: tuple[TrackScore, ...]
    strands: Strands = "both"
    indel_mode: IndelMode = "anchor"

    needs_genes = False
    supports = EVERY_KIND

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
    def max_allele(self) -> int:
        """At least one reference base must be left on the right."""
        return self.length - 1 - self.index

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give one site: the allele itself."""
        return [Site(left, right)]

    def pairs(self, site: Site) -> list[Pair]:
        """Give the comparisons whose mean is the score."""
        pairs = [left_fixed(site.left, self.length, self.index)]
        if self.indel_mode == "compensate" and len(site.left.ref) != len(site.left.alt):
            pairs.append(right_fixed(site.right, self.length, self.index))
        return pairs

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give ref and alt of each pair, each followed by its other strand."""
        forward = [haplotype for pair in self.pairs(site) for haplotype in pair]
        if self.strands == "forward":
            return forward
        return [oriented for haplotype in forward for oriented in (haplotype, reversed_strand(haplotype))]

    def score(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Compare (n_tracks,) answers -> (n_columns,) float64."""
        import torch

        stacked = torch.stack(list(answers)).double()
        n_strands = 1 if self.strands == "forward" else 2
        by_pair = stacked.view(-1, 2, n_strands, stacked.shape[-1]).mean(2)  # pair, (ref, alt), track
        difference = (by_pair[:, 1] - by_pair[:, 0]).mean(0)
        return torch.stack([difference[list(score.tracks)].mean() for score in self.scores])

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        """Give the columns that have a key."""
        return tuple(float(scores[index]) for index in self.plain_fields)
