"""Embeddings of both alleles: what is read for them, how far apart they are, and what a trained head makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from varfm.protocols import Column, Field, GeneIndex, Value
from varfm.scorers.placement import Strands
from varfm.scorers.tracks import EVERY_KIND
from varfm.variants import Status, Variant
from varfm.windows import Gene, Haplotype, Site, left_fixed, reversed_strand

if TYPE_CHECKING:
    from torch import Tensor

READING = "embedding"
"""How networks are told to read for it; see `models/language.py`."""

DISTANCES = ("L2", "COSINE")
FINETUNED = "FINETUNED"


def embedded(site: Site, length: int, index: int, strands: Strands) -> list[Haplotype]:
    """Give what is read for the embeddings of a site: ref, on each strand, then alt.

    Args:
        site: The allele.
        length: Bases of a window.
        index: 0-based place of the first changed base.
        strands: `forward`: one reading per allele, else two.
    """
    found = []
    for own in left_fixed(site.left, length, index):
        start = site.left.start - own.window.start
        n_own = len(site.left.ref if own.variant is None else site.left.alt)
        forward = own._replace(reading=READING, focus=(start, start + n_own), partner=site.left)
        found += [forward] if strands == "forward" else [forward, reversed_strand(forward)]
    return found


def by_allele(embeddings: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack answers in the order of `embedded` -> (n_strands, width) of ref and of alt, float64."""
    import torch

    half = len(embeddings) // 2
    ref, alt = (torch.stack(list(part)).double() for part in (embeddings[:half], embeddings[half:]))
    return ref, alt


def distances(ref: Tensor, alt: Tensor) -> dict[str, float]:
    """Compare (n_strands, width) embeddings; the mean over strands by the name of the score."""
    import torch

    cosine = 1 - torch.nn.functional.cosine_similarity(ref, alt, dim=1)
    return {"L2": float((alt - ref).norm(dim=1).mean()), "COSINE": float(cosine.mean())}


def distance_columns() -> list[Column]:
    """Describe the distances."""
    about = "distance between the mean hidden states of ref and alt within 64 bases of the allele"
    formulas = {"L2": "|e(alt) - e(ref)|, strands averaged", "COSINE": "1 - cos(e(alt), e(ref)), strands averaged"}
    kinds = {"L2": "Euclidean", "COSINE": "Cosine"}
    return [Column(name, f"{kinds[name]} {about}.", "none", formulas[name], signed=False) for name in DISTANCES]


@dataclass(frozen=True)
class Head:
    """A linear function of both embeddings, fitted to labels.

    Attributes:
        of_ref: (width,) weights of e(ref).
        of_change: (width,) weights of e(alt) - e(ref).
        bias: Added.
        is_probability: True: the sum is log odds, and the answer the probability of label 1; else it is the label.
    """

    of_ref: NDArray[np.float64]
    of_change: NDArray[np.float64]
    bias: float
    is_probability: bool

    @property
    def column(self) -> Column:
        """The head's answer as a score."""
        inner = "w0 . e(ref) + w1 . (e(alt) - e(ref)) + b, e averaged over strands"
        if self.is_probability:
            text = "Probability of label 1, by the head that was trained with the adapter."
            return Column(FINETUNED, text, "probability", f"1 / (1 + exp(-({inner})))", signed=False)
        text = "The label, as predicted by the head that was trained with the adapter."
        return Column(FINETUNED, text, "that of the labels", inner, signed=False)

    def predict(self, ref: NDArray[np.float64], alt: NDArray[np.float64]) -> NDArray[np.float64]:
        """Turn (..., width) embeddings, strands averaged, into (...) answers."""
        total = ref @ self.of_ref + (alt - ref) @ self.of_change + self.bias
        return np.asarray(0.5 + 0.5 * np.tanh(total / 2) if self.is_probability else total)


@dataclass(frozen=True)
class EmbeddingScorer:
    """Gives the embeddings themselves: `width` numbers of ref, then as many of alt, strands averaged.

    Attributes:
        length: Bases of a window.
        index: 0-based place of the first changed base.
        strands: `both`: the mean of two readings; `forward`: one.
        width: Numbers of an embedding.
    """

    length: int
    index: int
    strands: Strands
    width: int

    method = "embedding"
    needs_genes = False
    supports = EVERY_KIND
    fields: tuple[Field, ...] = ()
    plain_fields = ()

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """One per number."""
        text = "A number of the mean hidden state within 64 bases of the allele, strands averaged."
        names = [f"{allele}_{number}" for allele in ("REF", "ALT") for number in range(self.width)]
        return tuple(Column(name, text, "none", "mean over tokens", signed=False) for name in names)

    @property
    def n_values(self) -> int:
        """Nothing is hidden."""
        return 2 * self.width

    @property
    def max_allele(self) -> int:
        """At least one reference base must be left on the right."""
        return max(0, self.length - 1 - self.index)

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give one site: the allele itself."""
        return [Site(left, right)]

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give ref, on each strand, then alt."""
        return embedded(site, self.length, self.index, self.strands)

    def score(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Average over strands: (width,) each -> (2 * width,) float64."""
        import torch

        return torch.cat([part.mean(0) for part in by_allele(answers)])

    def unchanged(self) -> None:
        """An ALT equal to REF has an embedding, which must be read."""

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        """Give nothing: embeddings stand in no VCF."""
        return ()
