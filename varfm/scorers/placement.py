"""Where windows are placed around an allele, which sequences that asks for, and which answers belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from varfm.protocols import GeneIndex
from varfm.variants import Status, Variant
from varfm.windows import (
    Haplotype,
    Pair,
    Site,
    left_fixed,
    reversed_strand,
    right_fixed,
    touches,
    tss_fixed,
    tss_window,
)

if TYPE_CHECKING:
    from torch import Tensor

    from varfm.windows import Gene

IndelMode = Literal["anchor", "compensate"]
Strands = Literal["both", "forward"]


class Comparison(NamedTuple):
    """The answers of one pair of haplotypes: one per shift and strand, the same order for both alleles.

    Attributes:
        ref: Answers of the reference haplotype, in forward orientation.
        alt: Answers of the alternate haplotype.
        mirrored: True: bins are counted from the right, as in a pair that was placed on the reverse complement.
    """

    ref: tuple[Tensor, ...]
    alt: tuple[Tensor, ...]
    mirrored: bool


def spliced(left: Comparison, right: Comparison) -> list[Comparison]:
    """Put the left half of the bins of a left-fixed pair and the right half of those of a right-fixed pair together.

    An indel moves one flank of a window against the bins, and that alone changes the answer there. Each half is taken
    from the pair that leaves it in place, so what is left of the difference is the allele's.

    Args:
        left: Answers (n_bins, n_tracks) of the left-fixed pair.
        right: Those of the right-fixed pair, as many and in the same order. A middle bin is the mean of both.

    Returns:
        The answers of both alleles twice: with bins counted from the left, and from the right.
    """
    ref, alt = _spliced(left.ref, right.ref), _spliced(left.alt, right.alt)
    return [Comparison(ref, alt, mirrored) for mirrored in (False, True)]


def _spliced(left: Sequence[Tensor], right: Sequence[Tensor]) -> tuple[Tensor, ...]:
    import torch

    half, odd = divmod(len(left[0]), 2)
    found = []
    for a, b in zip(left, right, strict=True):
        middle = (a[half : half + odd] + b[half : half + odd]) / 2
        found.append(torch.cat([a[:half], middle, b[half + odd :]]))
    return tuple(found)


class Placement(Protocol):
    """Chooses the haplotypes of a site and sorts their answers."""

    @property
    def needs_genes(self) -> bool:
        """True if windows are placed on genes."""

    @property
    def max_allele(self) -> int:
        """Bases that the longer trimmed allele may have."""

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give the places at which an allele is scored, or why there is none."""

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give the sequences to read, in fixed order."""

    def comparisons(self, site: Site, answers: Sequence[Tensor]) -> list[Comparison]:
        """Sort answers, in the order of `haplotypes`, into the comparisons whose mean score counts."""


@dataclass(frozen=True, slots=True)
class Centred:
    """Windows placed on the allele: left-fixed pairs, and right-fixed ones under `compensate`.

    Attributes:
        length: Bases that the network reads.
        index: 0-based place of the first changed base.
        strands: `both`: each sequence is also read on its other strand.
        indel_mode: What is done for alleles of unequal length (DESIGN, 3).
        shifts: Bases by which the allele stands right of `index`, one window each.
    """

    length: int
    index: int
    strands: Strands = "both"
    indel_mode: IndelMode = "anchor"
    shifts: tuple[int, ...] = (0,)

    needs_genes = False

    @property
    def max_allele(self) -> int:
        """At least one reference base must be left on the right."""
        return self.length - 1 - self.index - max(self.shifts)

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give one site: the allele itself."""
        return [Site(left, right)]

    def pairs(self, site: Site, shift: int) -> list[Pair]:
        """Give the pairs that are compared, the right-fixed one last."""
        index = self.index + shift
        pairs = [left_fixed(site.left, self.length, index)]
        if self.indel_mode == "compensate" and len(site.left.ref) != len(site.left.alt):
            pairs.append(right_fixed(site.right, self.length, index))
        return pairs

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give, shift by shift, ref and alt of each pair, each followed by its other strand."""
        forward = [haplotype for shift in self.shifts for pair in self.pairs(site, shift) for haplotype in pair]
        return _on_strands(forward, self.strands)

    def comparisons(self, site: Site, answers: Sequence[Tensor]) -> list[Comparison]:
        """Sort answers into one comparison per pair, shifts and strands within; answers with bins are spliced."""
        n_strands = 2 if self.strands == "both" else 1
        n_pairs = len(answers) // (2 * n_strands * len(self.shifts))
        found = []
        for pair in range(n_pairs):
            starts = [2 * n_strands * (shift * n_pairs + pair) for shift in range(len(self.shifts))]
            ref = tuple(answer for start in starts for answer in answers[start : start + n_strands])
            alt = tuple(answer for start in starts for answer in answers[start + n_strands : start + 2 * n_strands])
            found.append(Comparison(ref, alt, mirrored=pair == 1))
        return spliced(*found) if n_pairs == 2 and answers[0].dim() == 2 else found


@dataclass(frozen=True, slots=True)
class OnGenes:
    """Windows placed on transcription start sites, one site per gene whose window the allele touches.

    Attributes:
        length: Bases that the network reads.
        index: Place of the TSS in them, read on the gene's strand.
        strands: `gene`: read on the gene's strand alone; `both`: on the other one, too.
    """

    length: int
    index: int
    strands: Literal["gene", "both"] = "gene"

    needs_genes = True

    @property
    def max_allele(self) -> int:
        """At least one reference base must be left beyond an allele at the TSS."""
        return self.length - 1 - self.index

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give one site per gene whose window the allele touches."""
        assert genes is not None
        reach = max(self.index + 1, self.length - self.index)
        near = genes.overlapping(left.contig, left.start - reach, right.end + reach + 1)
        return [Site(left, right, gene) for gene in near if self._touches(left, right, gene)] or Status.NO_GENE

    def _touches(self, left: Variant, right: Variant, gene: Gene) -> bool:
        # The same placement in repeats as the haplotypes take.
        return touches(left if gene.strand == "+" else right, tss_window(gene, self.length, self.index))

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give the reference and the alternate haplotype on the gene's strand, each followed by the other strand."""
        return _on_strands(tss_fixed(site, self.length, self.index), self.strands)

    def comparisons(self, site: Site, answers: Sequence[Tensor]) -> list[Comparison]:
        """Put the answers of ref and of alt side by side."""
        assert site.gene is not None
        half = len(answers) // 2
        return [Comparison(tuple(answers[:half]), tuple(answers[half:]), mirrored=site.gene.strand == "-")]


def _on_strands(haplotypes: Sequence[Haplotype], strands: str | None) -> list[Haplotype]:
    if strands != "both":
        return list(haplotypes)
    return [one for haplotype in haplotypes for one in (haplotype, reversed_strand(haplotype))]
