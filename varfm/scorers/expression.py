"""The score of networks that answer with one number per gene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from varfm.protocols import Column, Field, GeneIndex, Value
from varfm.scorers.placement import OnGenes
from varfm.scorers.tracks import EVERY_KIND
from varfm.variants import Status, Variant
from varfm.windows import Gene, Haplotype, Site

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TssScorer:
    """Compares one number per gene, read on the gene's strand, the TSS at the same place in both haplotypes.

    Attributes:
        placement: On the gene's strand alone.
        column: The score.
        key: Its INFO key without the model's prefix.
    """

    placement: OnGenes
    column: Column
    key: str

    needs_genes = True
    supports = EVERY_KIND
    plain_fields = None
    n_values = 1

    @property
    def columns(self) -> tuple[Column, ...]:
        """The one score."""
        return (self.column,)

    @property
    def fields(self) -> tuple[Field, ...]:
        """The score of largest size among the genes of an allele, and its gene."""
        return (
            Field(self.key, "Float", f"{self.column.description} Of the genes in reach, the largest in size."),
            Field("GENE", "String", "Gene of that score."),
        )

    @property
    def max_allele(self) -> int:
        """As the placement says."""
        return self.placement.max_allele

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give one site per gene whose window the allele touches."""
        return self.placement.sites(left, right, genes)

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give the reference and the alternate haplotype on the gene's strand."""
        return self.placement.haplotypes(site)

    def score(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Compare two answers of one number each -> (1,) float64."""
        ref, alt = answers
        return (alt.double() - ref.double()).reshape(1)

    def unchanged(self) -> NDArray[np.float64]:
        """Give zero."""
        return np.zeros(1)

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        """Give the score and the gene's name."""
        return float(scores[0]), gene.name if gene else None
