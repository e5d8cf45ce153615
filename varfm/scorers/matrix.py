"""Scores of networks with hundreds or thousands of tracks: chosen measures of chosen tracks, and a headline of all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varfm.protocols import Column, Field, GeneIndex, Value
from varfm.scorers.measures import Measure
from varfm.scorers.placement import Comparison, Placement
from varfm.scorers.tracks import EVERY_KIND
from varfm.variants import Status, Variant
from varfm.windows import Gene, Haplotype, Site

if TYPE_CHECKING:
    from torch import Tensor

MAX_INFO_TRACKS = 64
"""More chosen tracks than this stand in tables only."""


@dataclass(frozen=True, slots=True)
class TrackName:
    """One track as columns describe it: its output index, what people call it, and what else is known of it."""

    index: int
    name: str
    facts: tuple[tuple[str, str], ...] = ()


class Group(NamedTuple):
    """Tracks among which a headline is the score of largest size, e.g. those of one assay.

    Attributes:
        key: `[A-Z0-9_]`, ends the INFO key.
        tracks: Output indices, ascending.
    """

    key: str
    tracks: tuple[int, ...]


@dataclass(frozen=True)
class MatrixScorer:
    """Compares profiles of tracks, and of bins where the network has them.

    The values of a site are the columns, measure by measure and track by track, and then for each group the headline's
    score and the index of its track.

    Attributes:
        placement: Where windows lie.
        measures: What is reported, in order.
        tracks: Which tracks are reported, ascending.
        groups: What headlines are chosen from; together any tracks of the network, reported or not.
        headline_measure: One of `measures`.
        bins: Output bins that count, from the left of a left-fixed window; None: all, or the network has none.
        strands_scored: True: each strand is scored and scores are averaged; False: answers are averaged first.
        tracks_in_info: True if INFO shows `tracks`, too; at most `MAX_INFO_TRACKS` of them.
    """

    placement: Placement
    measures: tuple[Measure, ...]
    tracks: tuple[TrackName, ...]
    groups: tuple[Group, ...]
    headline_measure: Measure
    bins: tuple[int, ...] | None = None
    strands_scored: bool = False
    tracks_in_info: bool = False

    supports = EVERY_KIND
    plain_fields = None

    @property
    def needs_genes(self) -> bool:
        """As the placement says."""
        return self.placement.needs_genes

    @property
    def max_allele(self) -> int:
        """As the placement says."""
        return self.placement.max_allele

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """One per measure and track, e.g. `SAR_T5110`."""
        return tuple(_column(measure, track) for measure in self.measures for track in self.tracks)

    @property
    def n_values(self) -> int:
        """Two hidden values per group."""
        return len(self.measures) * len(self.tracks) + 2 * len(self.groups)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """Headlines first, then the gene, then the tracks that were asked for."""
        return tuple(self._fields())

    def _fields(self) -> Iterator[Field]:
        measure = self.headline_measure
        for group in self.groups:
            most = "of largest size" if measure.neutral == 0 else f"furthest from {measure.neutral:g}"
            among = f"the one {most} among {len(group.tracks)} tracks"
            yield Field(f"{measure.name}_{group.key}", "Float", f"{measure.description} Of these, {among}.")
            yield Field(f"{measure.name}_{group.key}_TRACK", "Integer", "Index of that track, see varfm tracks.")
        if self.needs_genes:
            yield Field("GENE", "String", "Gene of these scores, the one of largest size in reach.")
        for index in self._shown:
            yield Field(self.columns[index].name, "Float", self.columns[index].description)

    @cached_property
    def _shown(self) -> range:
        return range(len(self.measures) * len(self.tracks) if self.tracks_in_info else 0)

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give the placement's sites."""
        return self.placement.sites(left, right, genes)

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give the placement's sequences."""
        return self.placement.haplotypes(site)

    def score(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Compare answers, (n_tracks,) or (n_bins, n_tracks) each -> (n_values,) float64 on their device."""
        import torch

        comparisons = self.placement.comparisons(site, answers)
        if self.bins is None and answers[0].dim() == 2:
            comparisons = comparisons[:1]  # from whichever end bins are counted, they are all the bins
        found: dict[str, Tensor] = {}
        for measure in self._compared:
            found[measure.name] = torch.zeros(answers[0].shape[-1], dtype=torch.float64, device=answers[0].device)
        for comparison in comparisons:
            pairs = list(self._answers(comparison))
            for measure in self._compared:
                assert measure.compare is not None
                # Strands first: read on the other strand, they and the pairs change places, which may change no bit.
                found[measure.name] += torch.stack([measure.compare(ref, alt) for ref, alt in pairs]).sum(0)
        n = len(comparisons) * (len(comparisons[0].ref) if self.strands_scored else 1)
        found = {name: total / n for name, total in found.items()}
        for measure in self.measures:
            if measure.combine is not None:
                found[measure.name] = measure.combine([found[other.name] for other in measure.needs])
        columns = [found[measure.name][self._track_indices] for measure in self.measures]
        return torch.cat([*columns, *self._headlines(found[self.headline_measure.name])])

    @cached_property
    def _compared(self) -> tuple[Measure, ...]:
        wanted = [m for measure in self.measures for m in (measure.needs or (measure,))]
        return tuple({measure.name: measure for measure in wanted}.values())

    @cached_property
    def _track_indices(self) -> list[int]:
        return [track.index for track in self.tracks]

    def _answers(self, comparison: Comparison) -> Iterator[tuple[Tensor, Tensor]]:
        """Give (ref, alt) in float64, the bins that count only: averaged, or strand by strand."""
        if not self.strands_scored:
            yield self._mean(comparison.ref, comparison.mirrored), self._mean(comparison.alt, comparison.mirrored)
            return
        for ref, alt in zip(comparison.ref, comparison.alt, strict=True):
            yield self._mean((ref,), comparison.mirrored), self._mean((alt,), comparison.mirrored)

    def _mean(self, answers: Sequence[Tensor], mirrored: bool) -> Tensor:
        # One at a time: an answer of Enformer takes 38 MB as float64.
        total = self._counted(answers[0], mirrored).double()
        for answer in answers[1:]:
            total = total + self._counted(answer, mirrored)
        return total / len(answers)

    def _counted(self, answer: Tensor, mirrored: bool) -> Tensor:
        if self.bins is None:
            return answer
        last = len(answer) - 1
        return answer[[last - index for index in self.bins] if mirrored else list(self.bins)]

    def _headlines(self, scores: Tensor) -> Iterator[Tensor]:
        import torch

        for group in self.groups:
            indices = torch.as_tensor(group.tracks, device=scores.device)
            among = scores[indices]
            size = (among - self.headline_measure.neutral).abs().nan_to_num(nan=-1.0, posinf=-1.0)
            best = size.argmax()  # the first of equals
            yield torch.stack([among[best], indices[best].double()])

    def unchanged(self) -> NDArray[np.float64]:
        """Give zeros, or what means no effect; the headline's track is the first of its group, as for all ties."""
        columns = np.repeat([measure.neutral for measure in self.measures], len(self.tracks))
        hidden = [value for group in self.groups for value in (self.headline_measure.neutral, group.tracks[0])]
        return np.concatenate([columns, hidden])

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        """Give score and track of each group, the gene, and the tracks that were asked for."""
        hidden = scores[len(scores) - 2 * len(self.groups) :]
        values: list[Value] = []
        for score, track in zip(hidden[::2].tolist(), hidden[1::2].tolist(), strict=True):
            values += [score, int(track) if np.isfinite(score) else None]
        if self.needs_genes:
            values.append(gene.name if gene else None)
        return (*values, *scores[list(self._shown)].tolist())


def _column(measure: Measure, track: TrackName) -> Column:
    return Column(
        name=f"{measure.name}_T{track.index}",
        description=f"{measure.description} Track {track.index}: {track.name}.",
        unit=measure.unit,
        formula=measure.formula,
        signed=measure.signed,
        facts=(("track", str(track.index)), ("name", track.name), *track.facts),
    )
