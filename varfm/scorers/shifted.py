"""Scores of genes from windows shifted around an allele, weighted by their distance to the TSS, and linear models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from varfm.protocols import Column, Field, GeneIndex, Value
from varfm.scorers.matrix import TrackName
from varfm.scorers.placement import IndelMode, Strands
from varfm.scorers.tracks import EVERY_KIND
from varfm.variants import Status, Variant
from varfm.windows import Gene, Haplotype, Pair, Site, left_fixed, reversed_strand, right_fixed

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Decay:
    """How an effect fades with the distance between its window's centre and the TSS.

    Attributes:
        rates: Of the exponential weights, per step.
        step: Bases per step; parts of a step do not count.
    """

    rates: tuple[float, ...]
    step: int

    @property
    def n_blocks(self) -> int:
        """Weights per window: every rate upstream of the TSS, then every rate downstream."""
        return 2 * len(self.rates)

    def weights(self, centres: Sequence[int]) -> NDArray[np.float64]:
        """Weight windows by where their centres lie.

        Args:
            centres: (n,) bases from the TSS in the direction of transcription, negative upstream.

        Returns:
            (n_blocks, n). A centre at the TSS itself counts on both sides.

        Source:
            FunctionLab/ExPecto, predict.py, compute_effects, commit 1b89458.
        """
        places = np.array(centres)
        decays = np.exp(-np.array(self.rates)[:, None] * np.floor(np.abs(places) / self.step))
        return np.concatenate([decays * (places <= 0), decays * (places >= 0)])


@dataclass(frozen=True, slots=True)
class Shifted:
    """Windows around the allele, one per shift, and the genes in reach of it.

    Attributes:
        length: Bases that the network reads.
        index: 0-based place of the first changed base in the window that is not shifted.
        shifts: By how many bases the centre of each window lies right of the allele, on the forward strand.
        max_distance: The farthest TSS, in bases from the allele, that still counts.
        strands: `both`: each sequence is also read on its other strand.
        indel_mode: Under `compensate`, alleles of unequal length are read in right-fixed windows, too. There, as on the
            other strand, the allele counts as lying at its last changed base (an insertion: at the base before it).
    """

    length: int
    index: int
    shifts: tuple[int, ...]
    max_distance: int
    strands: Strands = "both"
    indel_mode: IndelMode = "anchor"

    @property
    def max_allele(self) -> int:
        """One reference base must be left beyond the allele in the window that reaches least far beyond it."""
        return self.length - 1 - self.index - max(abs(shift) for shift in self.shifts)

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give one site per gene whose TSS is in reach of a place where the allele counts as lying."""
        assert genes is not None
        reach, places = self.max_distance, self.places(Site(left, right))
        near = genes.overlapping(left.contig, min(places) - reach, max(places) + reach + 1)
        sites = [Site(left, right, gene) for gene in near if any(abs(place - gene.tss) <= reach for place in places)]
        return sites or Status.NO_GENE

    def places(self, site: Site) -> list[int]:
        """Give the 0-based base where the allele counts as lying: for left-fixed pairs, then for right-fixed ones."""
        if self._is_compensated(site):
            return [site.left.start, site.right.end - 1]
        return [site.left.start]

    def _is_compensated(self, site: Site) -> bool:
        return self.indel_mode == "compensate" and len(site.left.ref) != len(site.left.alt)

    def pairs(self, site: Site) -> list[Pair]:
        """Give the left-fixed pair of each shift, then the right-fixed ones where there are any.

        On the reverse complement a shift has the other sign, so a right-fixed pair has `index + shift` bases on its
        right: either way the centre of the window moves right by `shift`.
        """
        pairs = [left_fixed(site.left, self.length, self.index - shift) for shift in self.shifts]
        if self._is_compensated(site):
            pairs += [right_fixed(site.right, self.length, self.index + shift) for shift in self.shifts]
        return pairs

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give what the windows of ref, and of alt, take together, each followed by its other strand.

        Left-fixed windows are one sequence, right-fixed ones another. They are the same for every gene.
        """
        pairs = self.pairs(site)
        kinds = [pairs[first : first + len(self.shifts)] for first in range(0, len(pairs), len(self.shifts))]
        forward = [_around(alleles) for kind in kinds for alleles in zip(*kind, strict=True)]
        if self.strands == "forward":
            return forward
        return [oriented for haplotype in forward for oriented in (haplotype, reversed_strand(haplotype))]

    def effects(self, answers: Sequence[Tensor]) -> Tensor:
        """Compare answers in the order of `haplotypes`, (n_shifts, n_features) each, windows from left to right.

        Returns:
            alt - ref, averaged over strands: (placements, n_shifts, n_features) float64 on the CPU, in order of shifts.
        """
        import torch

        n_strands = 1 if self.strands == "forward" else 2
        stacked = torch.stack(list(answers)).cpu().double()
        by_allele = stacked.view(-1, 2, n_strands, len(self.shifts), stacked.shape[-1])
        order = [sorted(self.shifts).index(shift) for shift in self.shifts]
        return (by_allele[:, 1] - by_allele[:, 0]).mean(1)[:, order]


@dataclass(frozen=True)
class ShiftedScorer:
    """Sums the effects in shifted windows by distance to a gene's TSS and hands them to one linear model per track.

    The values of a site are the columns, then the score of largest size among all tracks and the index of its track.

    Attributes:
        placement: Windows and genes.
        decay: How windows are weighted.
        linear: Weights of all linear models, block by block: (n_tracks, n_blocks x n_features) float64 on the CPU.
            Their constants cancel between the alleles.
        tracks: Which tracks are reported, ascending.
        column: What the columns have in common; their names are its name and the track's index.
        tracks_in_info: True: INFO shows the reported tracks, too, those of the gene of the largest score.
    """

    placement: Shifted
    decay: Decay
    linear: Tensor
    tracks: tuple[TrackName, ...]
    column: Column
    tracks_in_info: bool = False

    needs_genes = True
    supports = EVERY_KIND
    plain_fields = None

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """One per reported track, e.g. `DLNE_T52`."""
        return tuple(_of_track(self.column, track) for track in self.tracks)

    @property
    def n_values(self) -> int:
        """Two hidden values."""
        return len(self.tracks) + 2

    @property
    def fields(self) -> tuple[Field, ...]:
        """The score of largest size among genes and tracks, its track and gene, and the tracks that were asked for."""
        return (
            Field(
                self.column.name, "Float", f"{self.column.description} The largest in size of all tissues and genes."
            ),
            Field("TISSUE", "Integer", "Index of that tissue, from 0; see varfm tracks."),
            Field("GENE", "String", "Gene of these scores, the one of largest size in reach."),
            *(Field(column.name, "Float", column.description) for column in self.columns[: self._n_shown]),
        )

    @property
    def _n_shown(self) -> int:
        return len(self.tracks) if self.tracks_in_info else 0

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

    def inputs(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Give what the linear models read: (n_blocks, n_features) float64 on the CPU."""
        import torch

        gene = site.gene
        assert gene is not None
        sign = 1 if gene.strand == "+" else -1
        weights = [
            self.decay.weights([(place + shift - gene.tss) * sign for shift in self.placement.shifts])
            for place in self.placement.places(site)
        ]
        return (torch.from_numpy(np.stack(weights)) @ self.placement.effects(answers)).mean(0)

    def score(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Compare answers, (n_shifts, n_features) each -> (n_values,) float64 on the CPU."""
        import torch

        scores = self.linear @ self.inputs(site, answers).flatten()
        largest = scores.abs().argmax()  # the first of equals
        return torch.cat([scores[self._indices], scores[largest, None], largest[None].double()])

    @cached_property
    def _indices(self) -> list[int]:
        return [track.index for track in self.tracks]

    def unchanged(self) -> NDArray[np.float64]:
        """Give zeros; the largest is the first track, as for all ties."""
        return np.zeros(self.n_values)

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        """Give the largest score, its track, the gene's name, and the tracks that were asked for."""
        largest, track = scores[-2:].tolist()
        return largest, int(track), gene.name if gene else None, *scores[: self._n_shown].tolist()


def _around(windows: Sequence[Haplotype]) -> Haplotype:
    """Give the sequence that overlapping windows of one allele are cut from."""
    spans = [haplotype.window for haplotype in windows]
    whole = spans[0]._replace(start=min(span.start for span in spans), end=max(span.end for span in spans))
    return windows[0]._replace(window=whole)


def _of_track(column: Column, track: TrackName) -> Column:
    return Column(
        name=f"{column.name}_T{track.index}",
        description=f"{column.description} Tissue {track.index}: {track.name}.",
        unit=column.unit,
        formula=column.formula,
        signed=column.signed,
        facts=(("track", str(track.index)), ("name", track.name), *track.facts),
    )
