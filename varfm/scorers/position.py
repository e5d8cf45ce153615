"""The score of the `null` model: it depends on the place alone, so that pipelines can be tested at full speed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from varfm.protocols import Column, Field, GeneIndex, Value
from varfm.scorers.tracks import EVERY_KIND
from varfm.variants import Status, Variant
from varfm.windows import Gene, Haplotype, Site

if TYPE_CHECKING:
    from torch import Tensor


class PositionScorer:
    """Scores an allele by its 0-based start modulo 97, without reading the genome."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.columns = columns

    fields: tuple[Field, ...] = (Field("POSITION", "Float", "Start of the normalised allele modulo 97."),)
    plain_fields = (0,)
    supports = EVERY_KIND
    needs_genes = False
    max_allele = 10**9
    n_values = 1

    def direct(self, starts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Score (n,) starts -> (n, 1)."""
        return (starts % 97).astype(np.float64)[:, None]

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give the allele itself."""
        return [Site(left, right)]

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give none: no sequence is read."""
        return []

    def score(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Score one site -> (1,) float64."""
        import torch

        return torch.from_numpy(self.direct(np.array([site.left.start]))[0])

    def unchanged(self) -> NDArray[np.float64]:
        """Never asked for: no network is spared."""
        return np.zeros(1)

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        """Give the score."""
        return (float(scores[0]),)
