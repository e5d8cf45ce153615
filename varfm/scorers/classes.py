"""Scores of Sei: two chromatin profiles projected onto sequence classes, with histone marks brought to one total."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from varfm.protocols import Column, Field, GeneIndex, Value
from varfm.scorers.matrix import TrackName
from varfm.scorers.placement import Comparison, Placement
from varfm.scorers.tracks import EVERY_KIND
from varfm.variants import Status, Variant
from varfm.windows import Gene, Haplotype, Site

if TYPE_CHECKING:
    from torch import Tensor

SCORES = ("CLASS", "RAW", "DIFF", "MAX_ABS")
"""What can be asked for, in the order of the table; the top class and the reference class always stand behind it."""

N_CLUSTERS = 61
"""Rows of the projection: the named classes, then clusters that were too small to get a name."""


class Projection(NamedTuple):
    """How profiles become class scores.

    Attributes:
        vectors: (61, n_profiles) float64 on the CPU.
        histones: (n_histones,) int64, the profiles that are histone marks.
        labels: Of the classes that have one, in the order of the first rows.
    """

    vectors: Tensor
    histones: Tensor
    labels: tuple[str, ...]

    def project(self, profiles: Tensor) -> Tensor:
        """Project (..., n_profiles) float64 onto (..., 61) raw scores.

        Source:
            FunctionLab/sei-framework, utils.py, sc_projection, commit 1e16bff.
        """
        import torch

        scores: Tensor = profiles @ self.vectors.T / torch.linalg.vector_norm(self.vectors, dim=1)
        return scores

    def compare(self, ref: Tensor, alt: Tensor) -> Tensor:
        """Compare two profiles, (n_profiles,) float64 -> (n_labels,), alt minus ref.

        Source:
            FunctionLab/sei-framework, utils.py, sc_hnorm_varianteffect, commit 1e16bff.
        """
        both = self.project(equalised(ref, alt, self.histones))
        return (both[1] - both[0])[: len(self.labels)]


def equalised(ref: Tensor, alt: Tensor, histones: Tensor) -> Tensor:
    """Scale histone profiles so that both alleles carry the same histone total, the mean of the two.

    Args:
        ref: Probabilities, (n_profiles,), strands averaged.
        alt: Same shape and order.
        histones: Indices of the histone profiles.

    Returns:
        (2, n_profiles): ref, alt; other profiles are unchanged.
    """
    import torch

    both = torch.stack([ref, alt])
    marks = both[:, histones]
    totals = marks.sum(1)
    both[:, histones] = marks * ((totals * 0.5).sum() / totals)[:, None]
    return both


TOP_CLASS = Column(
    "top_class",
    "Sequence class whose score changes most.",
    "sequence class",
    "class of largest |score|, the first of equals",
    signed=False,
)
TOP_SCORE = Column(
    "top_score",
    "Change of the score of that sequence class, alt minus ref.",
    "projection of probabilities",
    "class score of largest size, with its sign",
)
REF_CLASS = Column(
    "ref_class",
    "Sequence class of the reference window.",
    "sequence class",
    "class of largest raw score of the reference window, the first of equals",
    signed=False,
)
MAX_ABS = Column(
    "MAX_ABS",
    "Largest size of a change among the sequence classes.",
    "projection of probabilities",
    "max of |class score|",
    signed=False,
)


_CLASS = Column(
    "CLASS",
    "Change of the score of a sequence class, histone marks equalised; a column per class, named by its label.",
    "projection of probabilities",
    "p . v / |v| of alt minus that of ref, histone marks scaled to the mean of both totals",
)
_RAW = Column(
    "RAW",
    "Score of a window for each sequence class and each cluster without a name, for ref and for alt.",
    "projection of probabilities",
    "p . v / |v|",
    signed=False,
)
_DIFF = Column(
    "DIFF",
    "Change of the predicted probability of a chromatin profile; a column per track.",
    "probability",
    "p(alt) - p(ref), strands averaged",
)
SUMMARY = (_CLASS, _RAW, _DIFF, MAX_ABS, TOP_CLASS, TOP_SCORE, REF_CLASS)
"""The scores in words, one entry for all columns of a score."""


def headline_columns(labels: Sequence[str]) -> tuple[Column, ...]:
    """Give the columns that every table of Sei ends with."""
    named = tuple(labels)
    return replace(TOP_CLASS, labels=named), TOP_SCORE, replace(REF_CLASS, labels=named)


def class_columns(labels: Sequence[str]) -> tuple[Column, ...]:
    """Give one column per class."""
    return tuple(
        replace(
            _CLASS, name=label, description=f"Change of the score of sequence class {label}, histone marks equalised."
        )
        for label in labels
    )


def raw_columns(labels: Sequence[str]) -> tuple[Column, ...]:
    """Give one column per row of the projection for ref, then for alt; rows without a label have their number."""
    names = [*labels, *map(str, range(len(labels), N_CLUSTERS))]
    return tuple(
        replace(_RAW, name=f"RAW_{allele}_{name}", description=f"Score of sequence class {name} of the {words} window.")
        for allele, words in (("REF", "reference"), ("ALT", "alternate"))
        for name in names
    )


def _difference_column(track: TrackName) -> Column:
    return replace(
        _DIFF,
        name=f"DIFF_T{track.index}",
        description=f"Change of the predicted probability. Track {track.index}: {track.name}.",
        facts=(("track", str(track.index)), ("name", track.name), *track.facts),
    )


@dataclass(frozen=True)
class ClassScorer:
    """Averages probabilities over strands, projects and compares them, and averages scores over pairs.

    The values of a site are the columns; the top class, its score, and the reference class are the last three of them.

    Attributes:
        placement: Where windows lie.
        projection: Vectors, histone marks and labels.
        scores: Names out of `SCORES`, in their order.
        tracks: The profiles whose differences are reported under `DIFF`, ascending.
        tracks_in_info: True if INFO shows them, too.
    """

    placement: Placement
    projection: Projection
    scores: tuple[str, ...] = ("CLASS",)
    tracks: tuple[TrackName, ...] = ()
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
        """Score by score; then the top class, its score, and the reference class."""
        labels = self.projection.labels
        return (*(column for score in self.scores for column in self._columns_of(score)), *headline_columns(labels))

    def _columns_of(self, score: str) -> tuple[Column, ...]:
        if score == "CLASS":
            return class_columns(self.projection.labels)
        if score == "RAW":
            return raw_columns(self.projection.labels)
        if score == "DIFF":
            return tuple(_difference_column(track) for track in self.tracks)
        return (MAX_ABS,)

    @property
    def n_values(self) -> int:
        """Nothing is hidden."""
        return len(self.columns)

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The top class, its score, the reference class; then `MAX_ABS` and tracks where they were asked for."""
        return (
            Field("CLASS", "String", f"{TOP_CLASS.description} See the lines varfm_class."),
            Field("SCORE", "Float", TOP_SCORE.description),
            Field("REF_CLASS", "String", f"{REF_CLASS.description} See the lines varfm_class."),
            *(Field(self.columns[index].name, "Float", self.columns[index].description) for index in self._shown),
        )

    @cached_property
    def _shown(self) -> tuple[int, ...]:
        chosen = {MAX_ABS.name}
        if self.tracks_in_info and "DIFF" in self.scores:
            chosen |= {_difference_column(track).name for track in self.tracks}
        return tuple(index for index, column in enumerate(self.columns) if column.name in chosen)

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give the placement's sites."""
        return self.placement.sites(left, right, genes)

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give the placement's sequences."""
        return self.placement.haplotypes(site)

    def score(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Compare answers, (n_profiles,) probabilities each -> (n_values,) float64 on the CPU."""
        import torch

        pairs = [_profiles(comparison) for comparison in self.placement.comparisons(site, answers)]
        classes = torch.stack([self.projection.compare(ref, alt) for ref, alt in pairs]).mean(0)
        profiles = torch.stack([torch.stack(pair) for pair in pairs]).mean(0)  # (ref, alt), profile
        raw = self.projection.project(profiles)
        values = {
            "CLASS": classes,
            "RAW": raw.flatten(),
            "DIFF": (profiles[1] - profiles[0])[self._track_indices],
            "MAX_ABS": classes.abs().max()[None],
        }
        return torch.cat([*(values[score] for score in self.scores), self._headline(classes, raw[0])])

    @cached_property
    def _track_indices(self) -> list[int]:
        return [track.index for track in self.tracks]

    def _headline(self, classes: Tensor, raw_ref: Tensor) -> Tensor:
        import torch

        top = classes.abs().argmax()  # the first of equals
        named = torch.where(classes[top].isfinite(), top.double(), torch.nan)
        of_ref = raw_ref[: len(self.projection.labels)].argmax()
        return torch.stack([named, classes[top], of_ref.double()])

    def unchanged(self) -> NDArray[np.float64]:
        """Give zeros: the top class is the first, as for all ties. What only a network can say is not known."""
        values = np.zeros(self.n_values)
        not_known = {column.name for column in raw_columns(self.projection.labels)} | {REF_CLASS.name}
        values[[column.name in not_known for column in self.columns]] = np.nan
        return values

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        """Give the top class, its score, the reference class, and what else INFO shows."""
        top, score, of_ref = scores[len(scores) - 3 :].tolist()
        return self._label(top), score, self._label(of_ref), *scores[list(self._shown)].tolist()

    def _label(self, index: float) -> str | None:
        return self.projection.labels[int(index)] if np.isfinite(index) else None


def _profiles(comparison: Comparison) -> tuple[Tensor, Tensor]:
    """Average (ref, alt) over strands, in probabilities, in float64."""
    import torch

    ref, alt = (torch.stack(answers).cpu().double().mean(0) for answers in (comparison.ref, comparison.alt))
    return ref, alt
