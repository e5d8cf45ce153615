"""Scores of networks whose window is placed on a transcription start site."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from varfm.protocols import Column, Field, GeneIndex, Value
from varfm.scorers.tracks import EVERY_KIND
from varfm.variants import Status, Variant
from varfm.windows import Gene, Haplotype, Site, touches, tss_fixed, tss_window

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TssScorer:
    """Compares one number per gene, read on the gene's strand, the TSS at the same place in both haplotypes.

    Attributes:
        length: Bases that the network reads.
        index: Place of the TSS in them, on the gene's strand.
        column: The score.
        key: Its INFO key without the model's prefix.
    """

    length: int
    index: int
    column: Column
    key: str

    needs_genes = True
    supports = EVERY_KIND
    plain_fields = None

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
        """At least one reference base must be left beyond an allele at the TSS."""
        return self.length - 1 - self.index

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give one site per gene whose window the allele touches."""
        assert genes is not None
        reach = max(self.index + 1, self.length - self.index)
        near = genes.overlapping(left.contig, left.start - reach, right.end + reach + 1)
        sites = [Site(left, right, gene) for gene in near if self._touches(left, right, gene)]
        return sites or Status.NO_GENE

    def _touches(self, left: Variant, right: Variant, gene: Gene) -> bool:
        # The same placement in repeats as the haplotypes take.
        return touches(left if gene.strand == "+" else right, tss_window(gene, self.length, self.index))

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give the reference and the alternate haplotype on the gene's strand."""
        return list(tss_fixed(site, self.length, self.index))

    def score(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Compare two answers of one number each -> (1,) float64."""
        ref, alt = answers
        return (alt.double() - ref.double()).reshape(1)

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        """Give the score and the gene's name."""
        return float(scores[0]), gene.name if gene else None
