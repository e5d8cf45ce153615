"""ExPecto: change of expression in 218 tissues, from the chromatin around an allele and its distance to a gene's TSS.

Paper: Zhou et al., Nature Genetics 50 (2018) 1171. Code and linear models: github.com/FunctionLab/ExPecto, commit
1b89458 (Princeton academic licence: no commercial use, no redistribution; nothing of it is part of varfm).

Beluga reads nine windows, shifted by up to 800 bases, on both strands and with both alleles; the differences are
weighted by ten exponentials of each window's distance to the TSS and summed; a linear model per tissue answers the
change of ln expression. What is read, from the cache or from `--weights FOLDER`, has the names of the authors'
repository: `resources/deepsea.beluga.pth` (in the cache, the file of `beluga`), `resources/modellist`, and the files of
`models/` that the list names, relative to the repository. A clone of it with `resources_20190807.tar.gz` unpacked is
such a folder. Other models and their list, as upstream's `train.py` makes them, will do: they may have the unused slot
that the published ones have before each block of features, or not.

The nine windows are read as one row, see `ShiftedBeluga`. What differs from upstream: every gene in reach is scored,
not the closest one; genes come from `--genes`, for which the authors' `resources/geneanno.csv` is recommended; both
alleles of an indel begin with the same bases, where upstream trims each to its own centre; effects are averaged and
summed in float64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from varfm.encoding.onehot import N
from varfm.errors import ModelError
from varfm.models import ModelOptions
from varfm.models.columns import COLUMNS
from varfm.models.deepsea import Beluga, BelugaConfig, convert
from varfm.models.loading import loaded, origin, refuse, sizes
from varfm.protocols import Model
from varfm.readers import read_tensors
from varfm.scorers.matrix import MAX_INFO_TRACKS, TrackName
from varfm.scorers.shifted import Decay, Shifted, ShiftedScorer
from varfm.tracks import Track, choose, read_tracks
from varfm.weights import Checkpoint, LocalWeights
from varfm.windows import Haplotype

OPTIONS = frozenset({"indel_mode", "strands", "tracks", "max_distance", "model_config"})

__all__ = ["build", "config_of", "convert", "network_of", "read_tissues"]

SHIFTS = (0, -200, -400, -600, -800, 200, 400, 600, 800)
DECAY = Decay(rates=(0.01, 0.02, 0.05, 0.1, 0.2), step=200)
MAX_DISTANCE = 20_000


class ShiftedBeluga(Beluga):
    """Beluga on windows that overlap: what they have in common is computed once.

    Convolutions without padding give a position the same value in whatever window it is; only pools ask where a window
    begins, so each pool is taken once for every remainder of these places.

    Args:
        config: Of Beluga.
        shifts: Of the windows.

    Attributes:
        length: Bases that all windows take together.
        starts: Of the windows in them, from left to right; read from the other end they are the same.
    """

    def __init__(self, config: BelugaConfig, shifts: Sequence[int] = SHIFTS) -> None:
        super().__init__(config)
        self.starts = tuple(sorted(shift - min(shifts) for shift in shifts))
        self.window, self.n_positions = config.length, config.n_positions
        self.length = self.window + self.starts[-1]

    def is_n_heavy(self, sequence: bytes) -> bool:
        """Tell whether more than half of any window is N."""
        return any(2 * sequence.count(N, start, start + self.window) > self.window for start in self.starts)

    def logits(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_windows, n_tracks) natural log odds."""
        windows = self._windows(self.encoded(batch), dict(enumerate(self.starts)), 0)
        return self.dense(torch.stack([windows[number].transpose(1, 2).flatten(1) for number in sorted(windows)], 1))

    def _windows(self, x: Tensor, starts: Mapping[int, int], layer: int) -> dict[int, Tensor]:
        """Run the convolutions from a number on, and cut out windows by where they begin in `x`."""
        if layer == len(self.convs):
            return {number: x[:, :, start : start + self.n_positions] for number, start in starts.items()}
        if layer not in self.pooled:
            return self._windows(self.layer(layer, x), starts, layer + 1)
        found: dict[int, Tensor] = {}
        for rest in sorted({start % self.pool for start in starts.values()}):
            pooled = functional.max_pool1d(x[:, :, rest:], self.pool)
            of_rest = {number: start // self.pool for number, start in starts.items() if start % self.pool == rest}
            found |= self._windows(self.layer(layer, pooled), of_rest, layer + 1)
        return found

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """Give the windows from left to right of the forward strand."""
        return outputs[0].flip(0) if haplotype.strand == "-" else outputs[0]


def network_of(config: BelugaConfig) -> ShiftedBeluga:
    """Make the network of these sizes."""
    return ShiftedBeluga(config)


class Tissues(NamedTuple):
    """The linear models.

    Attributes:
        tracks: (n_tissues,) as the list has them.
        linear: (n_tissues, n_blocks x n_features) float64 weights, without the published ones' unused slots.
        sha256: Of all these weights as float32, in the order of the list.
    """

    tracks: tuple[Track, ...]
    linear: Tensor
    sha256: str


def config_of(checkpoint: Checkpoint) -> BelugaConfig:
    """Give the published sizes of the network."""
    return BelugaConfig()


def read_tissues(listed: Path, files: Mapping[str, Path], n_features: int) -> Tissues:
    """Read the list of linear models and the models.

    Args:
        listed: Tab-separated, a header, then file and tissue of each model.
        files: Where files of the catalogue are; others lie below the folder that holds the list's folder.
        n_features: Of the network.

    Raises:
        ModelError: If the list or a model is missing, damaged or something else.
    """
    tracks = read_tracks(listed, "expecto")
    weights = [_weights(_find(listed, dict(track.facts)["model"], files), n_features) for track in tracks]
    digest = hashlib.sha256(b"".join(array.tobytes() for array in weights)).hexdigest()
    return Tissues(tracks, torch.from_numpy(np.stack(weights)).double(), digest)


def _find(listed: Path, name: str, files: Mapping[str, Path]) -> Path:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ModelError(f"{listed}: names {name}, which lies elsewhere. Put the models where the authors have them.")
    return files.get(str(path), listed.parent.parent / path)


def _weights(path: Path, n_features: int) -> NDArray[np.float32]:
    """Read the weights of one model, block by block, without slots: (n_blocks x n_features,)."""
    tensors = read_tensors(path)
    n_blocks = DECAY.n_blocks
    if "weight" not in tensors or tensors["weight"].size not in (n_blocks * (n_features + 1), n_blocks * n_features):
        found = [f"{key} {values.shape}" for key, values in tensors.items()]
        raise refuse(path, f"a linear model of {n_blocks} blocks of {n_features} features", found)
    blocks = tensors.take("weight", (None,)).reshape(n_blocks, -1)
    for constant in ("bias", "base_score"):
        tensors.take(constant, ())  # cancels between the alleles
    tensors.check_all_taken()
    return np.ascontiguousarray(blocks[:, -n_features:]).ravel()


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load Beluga and the linear models.

    Raises:
        ModelError: If a file is missing, damaged, or holds something else.
        OptionError: If an option does not apply, or `--tracks` names a tissue that is not there.
    """
    name = checkpoint.name
    config = sizes(config_of(checkpoint), weights, options)
    placement = _placement(config, weights, options)
    listed = weights.files.get(checkpoint.tracks_file)
    if listed is None:
        raise ModelError(f"{name}: its list of linear models, {checkpoint.tracks_file}, was not found.")
    tissues = read_tissues(listed, weights.files, config.n_tracks)
    chosen = choose(name, tissues.tracks, options.tracks)
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    scorer = ShiftedScorer(
        placement=placement,
        decay=DECAY,
        linear=tissues.linear,
        tracks=tuple(_named(tissues.tracks[i]) for i in chosen or range(len(tissues.tracks))),
        column=COLUMNS["expecto"][0],
        tracks_in_info=0 < len(chosen) <= MAX_INFO_TRACKS,
    )
    said = origin(checkpoint, weights, _details(placement, tissues))
    return Model(name, network, scorer, said, batch_rows=(4, 32), incremental=True)


def _placement(config: BelugaConfig, weights: LocalWeights, options: ModelOptions) -> Shifted:
    index = config.length // 2 - 1
    if index < max(SHIFTS):
        raise ModelError(
            f"{options.model_config or weights.config}: length is {config.length}, but windows are shifted by up to "
            f"{max(SHIFTS)} bases around the allele. Give a length of {2 * max(SHIFTS) + 2} or more."
        )
    return Shifted(
        length=config.length,
        index=index,
        shifts=SHIFTS,
        max_distance=MAX_DISTANCE if options.max_distance is None else options.max_distance,
        strands=options.strands or "both",
        indel_mode=options.indel_mode or "anchor",
    )


def _named(track: Track) -> TrackName:
    return TrackName(track.index, track.name, track.facts)


def _details(placement: Shifted, tissues: Tissues) -> tuple[tuple[str, str], ...]:
    return (
        ("window", str(placement.length)),
        ("index", f"{placement.index} - shift"),
        ("shifts", _listed(placement.shifts)),
        ("max_distance", str(placement.max_distance)),
        ("indels", placement.indel_mode),
        ("strands", placement.strands),
        ("strands_averaged", "answers"),
        ("linear_models_sha256", tissues.sha256),
    )


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
