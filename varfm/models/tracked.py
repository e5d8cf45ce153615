"""From a network with many tracks to a model: which scores, tracks, bins and windows its user asked for."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from varfm.errors import ModelError, OptionError
from varfm.models import ModelOptions, without_options
from varfm.models.columns import MEASURES
from varfm.models.loading import origin
from varfm.protocols import Model, Network
from varfm.scorers.matrix import MAX_INFO_TRACKS, Group, MatrixScorer, TrackName
from varfm.scorers.measures import Measure
from varfm.scorers.placement import Centred, IndelMode, OnGenes, Placement
from varfm.tracks import Track, choose, read_tracks
from varfm.weights import Checkpoint, LocalWeights

logger = logging.getLogger(__name__)

_MAX_SHIFT = 1000


class Bins(NamedTuple):
    """Output bins of a network: the first base of the first one in the window, and bases per bin."""

    first: int
    width: int
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What scoring needs to know of a network.

    Attributes:
        length: Bases that it reads.
        index: 0-based place of the first changed base, or of the TSS where windows are placed on genes.
        n_tracks: Outputs.
        default: Names of the scores that are reported unless others are asked for; the first is the headline's.
        bins: None for networks that give one number per track.
        indel_mode: For alleles of unequal length, unless the user chooses.
        strands_scored: True: strands are scored, and scores averaged; False: answers are averaged.
        batch_rows: Rows per forward pass on the CPU and on a GPU.
        measures: In place of those of `MEASURES` with the same names: scores that need tables of the checkpoint.
    """

    length: int
    index: int
    n_tracks: int
    default: tuple[str, ...]
    bins: Bins | None = None
    indel_mode: IndelMode = "anchor"
    strands_scored: bool = False
    batch_rows: tuple[int, int] = (16, 64)
    measures: tuple[Measure, ...] = ()


def track_model(
    checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions, network: Network, layout: Layout
) -> Model:
    """Put a loaded network, its track table and the user's choices together.

    Raises:
        ModelError: If the track table does not fit the network.
        OptionError: If an option's value is not known, or does not apply to the model.
    """
    name = checkpoint.name
    if layout.bins is not None and options.on_genes:
        without_options(
            f"{name} with --genes", indel_mode=options.indel_mode, shifts=options.shifts, strands=options.strands
        )
    offered = {measure.name: measure for measure in (*MEASURES[name], *layout.measures)}
    measures = choose_measures(name, tuple(offered.values()), options.scores or layout.default)
    tracks = _table(checkpoint, weights, layout.n_tracks)
    chosen = choose(name, tracks, options.tracks) if options.tracks else tuple(range(len(tracks)))
    scorer = MatrixScorer(
        placement=_placement(layout, options),
        measures=measures,
        tracks=tuple(TrackName(i, tracks[i].name, _facts(tracks[i])) for i in chosen),
        groups=_groups(tracks, by_assay=layout.bins is not None, on_genes=options.on_genes),
        headline_measure=_headline(measures, layout.default),
        bins=_bins(layout, options),
        strands_scored=layout.strands_scored,
        tracks_in_info=_fit_into_info(name, options, len(chosen)),
    )
    said = origin(checkpoint, weights, _details(scorer, layout))
    return Model(name, network, scorer, said, layout.batch_rows, incremental=True)


def choose_measures(name: str, offered: Sequence[Measure], asked: Sequence[str]) -> tuple[Measure, ...]:
    """Turn what a user wrote under `--scores` into measures, in the order in which the model offers them.

    Raises:
        OptionError: If the model has no such score.
    """
    wanted = {text.upper() for text in asked}
    unknown = wanted - {measure.name for measure in offered}
    if unknown:
        known = ", ".join(measure.name for measure in offered)
        raise OptionError(f"--scores {', '.join(sorted(unknown))}: {name} has {known}. See: varfm models info {name}")
    return tuple(measure for measure in offered if measure.name in wanted)


def _table(checkpoint: Checkpoint, weights: LocalWeights, n_tracks: int) -> tuple[Track, ...]:
    path = weights.files.get(checkpoint.tracks_file)
    if path is None:
        raise ModelError(f"{checkpoint.name}: its table of tracks, {checkpoint.tracks_file}, was not found.")
    return read_tracks(path, checkpoint.tracks_format, n_tracks)


def _facts(track: Track) -> tuple[tuple[str, str], ...]:
    return (("group", track.group), *track.facts) if track.group else track.facts


def _groups(tracks: Sequence[Track], *, by_assay: bool, on_genes: bool) -> tuple[Group, ...]:
    """Group tracks by assay in order of the outputs; CAGE comes first where genes are ranked by the first group."""
    members: dict[str, list[int]] = {}
    for track in tracks:
        key = re.sub(r"[^A-Z0-9]+", "_", track.group.upper()).strip("_") if by_assay else ""
        members.setdefault(key or "MAX", []).append(track.index)
    order = sorted(members, key=lambda key: key != "CAGE") if on_genes else list(members)
    return tuple(Group(key, tuple(members[key])) for key in order)


def _headline(measures: Sequence[Measure], default: Sequence[str]) -> Measure:
    by_name = {measure.name: measure for measure in measures}
    return next((by_name[name] for name in default if name in by_name), measures[0])


def _placement(layout: Layout, options: ModelOptions) -> Placement:
    if options.on_genes and layout.bins is not None:
        return OnGenes(layout.length, layout.index, "both")
    shifts = options.shifts or (0,)
    if len(set(shifts)) < len(shifts) or any(abs(shift) > _MAX_SHIFT for shift in shifts):
        raise OptionError(f"--shifts {_listed(shifts)}: give different numbers from -{_MAX_SHIFT} to {_MAX_SHIFT}.")
    return Centred(
        layout.length, layout.index, options.strands or "both", options.indel_mode or layout.indel_mode, tuple(shifts)
    )


def _bins(layout: Layout, options: ModelOptions) -> tuple[int, ...] | None:
    bins = layout.bins
    if bins is None:
        return None
    if options.bins is not None and options.bins != "all":
        return _parse_bins(options.bins, bins.n)
    if options.on_genes and options.bins is None:
        centre = (layout.index - bins.first) // bins.width
        return tuple(n for n in (centre - 1, centre, centre + 1) if 0 <= n < bins.n)
    return None


def _parse_bins(text: str, n_bins: int) -> tuple[int, ...]:
    chosen: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < n_bins:
            raise OptionError(f"--bins {text}: give bins from 0 to {n_bins - 1}, such as 446-448 or 440,447; or all.")
        chosen.update(range(first, last + 1))
    return tuple(sorted(chosen))


def _fit_into_info(name: str, options: ModelOptions, n_chosen: int) -> bool:
    if options.tracks and n_chosen > MAX_INFO_TRACKS:
        logger.warning(
            "%s: %d tracks are more than the %d that INFO takes; they stand in tables only",
            name, n_chosen, MAX_INFO_TRACKS,
        )  # fmt: skip
    return bool(options.tracks) and n_chosen <= MAX_INFO_TRACKS


def _details(scorer: MatrixScorer, layout: Layout) -> tuple[tuple[str, str], ...]:
    """What decides the scores, for header and manifest, in fixed order."""
    placement = scorer.placement
    details = {"window": str(layout.length), "index": str(layout.index)}
    if isinstance(placement, Centred):
        details |= {"indels": placement.indel_mode, "strands": placement.strands}
    else:
        details |= {"placed_on": "TSS", "indels": "TSS-fixed", "strands": "both"}
    details["strands_averaged"] = "scores" if layout.strands_scored else "answers"
    if layout.bins is not None:
        details["bins"] = "all" if scorer.bins is None else _listed(scorer.bins)
        details["shifts"] = _listed(placement.shifts) if isinstance(placement, Centred) else "0"
    details["scores"] = ",".join(measure.name for measure in scorer.measures)
    return tuple(details.items())


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
