"""Sei: 21,907 chromatin profiles of 4,096 bases, and the sequence classes that they are projected on.

Paper: Chen et al., Nature Genetics 54 (2022) 940. Code: github.com/FunctionLab/sei-framework, model/sei.py, commit
1e16bff (academic and non-commercial use; the record of the weights says CC BY 4.0).
What differs from upstream: dropout, which does nothing outside training, is left out; the spline basis is computed at
construction, not at the first batch. N is 0.25 in all four channels, base order A, C, G, T. Strands are averaged by the
scorer, in probabilities, as upstream's wrapper does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn import functional

from varfm.delta.product import has_steady_product, products_by_row, steady_product
from varfm.encoding.onehot import onehot
from varfm.errors import ModelError, OptionError
from varfm.models import OF_TRACKS, ModelOptions
from varfm.models.layers import sigmoid
from varfm.models.loading import loaded, origin, refuse, sizes
from varfm.models.sei_classes import CLASSES, read_classes
from varfm.protocols import Model, Row
from varfm.readers import Tensors
from varfm.scorers.classes import N_CLUSTERS, SCORES, ClassScorer, Projection
from varfm.scorers.matrix import MAX_INFO_TRACKS, TrackName
from varfm.scorers.placement import Centred
from varfm.scorers.selene import SeleneWindows, copied
from varfm.tracks import choose, read_tracks
from varfm.weights import Checkpoint, LocalWeights
from varfm.windows import Haplotype

OPTIONS = OF_TRACKS | {"compat"}

N_VALUE = 0.25
"""What each channel holds at an N."""

BATCH_ROWS = (4, 64)
"""An SNV is four rows: two alleles on two strands."""

_DEGREE = 3
_LABELS = tuple(item.label for item in CLASSES)
_NOTES = tuple(("class", f'<ID={item.label},Name="{item.name}",Group={item.group}>') for item in CLASSES)
_OTHER_FILE = "Give the file that the authors published with these weights."


@dataclass(frozen=True, slots=True, kw_only=True)
class SeiConfig:
    """Sizes of Sei; the defaults are the published network.

    Attributes:
        length: Bases that it reads.
        n_tracks: Chromatin profiles that it answers.
        channels: Output channels of the stages.
        width: Positions that a kernel of the stages covers; odd.
        pool: Positions that the step between two stages joins.
        dilated_width: Positions that a dilated kernel covers; odd.
        dilations: Distances between them, one per dilated convolution.
        n_splines: Functions of the basis onto which positions are projected; at least 4.
    """

    length: int = 4_096
    n_tracks: int = 21_907
    channels: tuple[int, ...] = (480, 640, 960)
    width: int = 9
    pool: int = 4
    dilated_width: int = 5
    dilations: tuple[int, ...] = (2, 4, 8, 16, 25)
    n_splines: int = 16

    @property
    def n_positions(self) -> int:
        """Positions that are left behind the last stage."""
        return int(self.length // self.pool ** (len(self.channels) - 1))


class Sei(nn.Module):
    """Three stages of a linear and a rectified path, dilated convolutions, a spline basis, and two dense layers.

    Args:
        config: Sizes.

    Raises:
        ModelError: If they do not go together.
    """

    basis: Tensor

    def __init__(self, config: SeiConfig) -> None:
        super().__init__()
        _check(config)
        self.length, self.pool = config.length, config.pool
        stages = list(zip((4, *config.channels), config.channels, strict=False))
        last = config.channels[-1]
        self.linear = nn.ModuleList(
            nn.Sequential(_conv(n_in, n_out, config.width), _conv(n_out, n_out, config.width)) for n_in, n_out in stages
        )
        self.rectified = nn.ModuleList(
            nn.Sequential(_conv(n, n, config.width), nn.ReLU(), _conv(n, n, config.width), nn.ReLU()) for _, n in stages
        )
        self.dilated = nn.ModuleList(_conv(last, last, config.dilated_width, dilation) for dilation in config.dilations)
        self.hidden = nn.Linear(last * config.n_splines, config.n_tracks)
        self.tracks = nn.Linear(config.n_tracks, config.n_tracks)
        # Real even where parameters are made on the meta device: no file holds it.
        basis = torch.from_numpy(spline_basis(config.n_positions, config.n_splines))
        self.register_buffer("basis", basis, persistent=False)

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        """Read the sequence as it is, apart from what Selene writes behind a deletion."""
        return [copied(sequence, haplotype)]

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_tracks) probabilities."""
        return sigmoid(self.logits(batch))

    def logits(self, batch: Tensor) -> Tensor:
        """(n, length) base codes -> (n, n_tracks) natural log odds."""
        x = onehot(batch, N_VALUE, self.hidden.weight.dtype)
        for number, (linear, rectified) in enumerate(zip(self.linear, self.rectified, strict=True)):
            x = functional.max_pool1d(x, self.pool) if number else x
            straight = linear(x)
            bent = rectified(straight)
            x = bent + straight
        # The first residual is the rectified path alone, although the convolution reads the sum of both.
        total = bent + functional.relu(self.dilated[0](x))
        for conv in self.dilated[1:]:
            total = total + functional.relu(conv(total))
        splines = total @ self.basis  # (n, channels, n_splines)
        hidden = functional.relu(dense(splines.flatten(1), self.hidden.weight, self.hidden.bias))  # channel-major
        return dense(hidden, self.tracks.weight, self.tracks.bias)

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        """A profile belongs to the middle of the window and has no orientation to turn back."""
        return outputs[0]


def _check(config: SeiConfig) -> None:
    numbers = (config.n_tracks, *config.channels, config.width, config.pool, config.dilated_width, *config.dilations)
    if min(numbers) < 1 or config.width % 2 == 0 or config.dilated_width % 2 == 0:
        raise ModelError("The sizes of a Sei do not go together: none may be 0, and widths are odd. Correct them.")
    if config.n_splines <= _DEGREE or config.n_positions < 2:
        raise ModelError(
            f"The sizes of a Sei do not go together: {config.n_splines} splines over {config.n_positions} positions; "
            f"more than {_DEGREE} over at least 2 are wanted. Correct the file of sizes."
        )


def _conv(n_in: int, n_out: int, width: int, dilation: int = 1) -> nn.Conv1d:
    return nn.Conv1d(n_in, n_out, width, dilation=dilation, padding=dilation * (width - 1) // 2)


@fx.wrap
def dense(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Apply a dense layer, on a CPU so that a row does not depend on its companions: (n, n_in) -> (n, n_out).

    Few rows and much weight: the time goes into reading the weights.
    """
    if x.device.type != "cpu":
        return functional.linear(x, weight, bias)
    if has_steady_product(x, weight):
        return steady_product(x, weight, bias)
    return products_by_row(x, weight, bias)


def spline_basis(n_positions: int, n_splines: int) -> NDArray[np.float32]:
    """Evaluate the cubic B-splines of equally spaced knots at 0, 1, ..., n_positions - 1.

    Returns:
        (n_positions, n_splines); each row sums to 1.

    Source:
        FunctionLab/sei-framework, model/sei.py, spline_factory, commit 1e16bff; by the recursion of Cox and de Boor.
    """
    last = n_positions - 1
    inner = np.linspace(0, last, n_splines - _DEGREE + 1)
    knots = np.concatenate([np.zeros(_DEGREE), inner, np.full(_DEGREE, last)])
    places = np.arange(n_positions)[:, None]
    # The last interval takes in its right end, so that the last place lies in one of them.
    interval = np.minimum(np.searchsorted(inner, places, "right") - 1, n_splines - _DEGREE - 1) + _DEGREE
    basis = (np.arange(len(knots) - 1) == interval).astype(np.float64)
    for degree in range(1, _DEGREE + 1):
        left, right = knots[: -degree - 1], knots[degree + 1 :]
        rising = _ratio(places - left, knots[degree:-1] - left)
        falling = _ratio(right - places, right - knots[1:-degree])
        basis = rising * basis[:, :-1] + falling * basis[:, 1:]
    return basis.astype(np.float32)


def _ratio(numerator: NDArray[np.float64], width: NDArray[np.float64]) -> NDArray[np.float64]:
    # An interval between equal knots has no width and takes no part.
    return np.divide(numerator, width, out=np.zeros_like(numerator), where=width > 0)


def convert(tensors: Tensors, config: SeiConfig, path: Path) -> dict[str, NDArray[np.generic]]:
    """Rename the tensors of `sei.pth`, whatever wrappers stand before their names.

    Args:
        tensors: As read.
        config: Sizes of the network.
        path: For messages.

    Raises:
        ModelError: If the file holds other layers.
    """
    first = _upstream_name("linear.0.0.weight")
    prefixes = [key.removesuffix(first) for key in tensors if re.fullmatch(rf"(?:.*\W)?{re.escape(first)}", key)]
    if len(prefixes) != 1:
        raise refuse(path, f"{first} of Sei, once", sorted(tensors))
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in Sei(config).state_dict().items()}
    state = {name: tensors.take(prefixes[0] + _upstream_name(name), shape) for name, shape in shapes.items()}
    tensors.check_all_taken()
    return state


def _upstream_name(name: str) -> str:
    """Turn `rectified.1.0.weight` into `conv2.1.weight`: upstream counts pooling and dropout, too."""
    kind, *numbers, part = name.split(".")
    if kind in ("hidden", "tracks"):
        return f"classifier.{0 if kind == 'hidden' else 2}.{part}"
    stage = int(numbers[0]) + 1
    if kind == "dilated":
        return f"dconv{stage}.1.{part}"
    before = {"linear": 2, "rectified": 1}[kind] if stage > 1 else 0
    path = {"linear": "lconv", "rectified": "conv"}[kind]
    return f"{path}{stage}.{int(numbers[1]) + before}.{part}"


def config_of(checkpoint: Checkpoint) -> SeiConfig:
    """Give the sizes of the published network."""
    return SeiConfig(length=checkpoint.window, n_tracks=checkpoint.n_outputs)


def network_of(config: SeiConfig) -> Sei:
    """Make the network without values."""
    return Sei(config)


def build(checkpoint: Checkpoint, weights: LocalWeights, options: ModelOptions) -> Model:
    """Load `sei.pth`, or varfm's conversion of it, and the tables of the projection.

    Raises:
        ModelError: If a file is not one of Sei, or does not fit the network.
        OptionError: If an option's value is not known, or does not apply to Sei.
    """
    config = sizes(config_of(checkpoint), weights, options)
    placement = _placement(checkpoint.name, config.length, options)
    chosen = _chosen_scores(checkpoint.name, options)
    projection = read_projection(weights.files, config.n_tracks)
    names = read_tracks(weights.files[checkpoint.tracks_file], checkpoint.tracks_format, config.n_tracks)
    indices = choose(checkpoint.name, names, options.tracks) if options.tracks else range(config.n_tracks)
    scorer = ClassScorer(
        placement,
        projection,
        chosen,
        tuple(TrackName(index, names[index].name, names[index].facts) for index in indices),
        tracks_in_info=bool(options.tracks) and len(indices) <= MAX_INFO_TRACKS,
    )
    network = loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))
    about = replace(origin(checkpoint, weights, _details(placement, chosen)), notes=_NOTES)
    return Model(checkpoint.name, network, scorer, about, BATCH_ROWS, incremental=True)


def _placement(name: str, length: int, options: ModelOptions) -> Centred:
    index = length // 2 - 1
    strands = options.strands or "both"
    if options.compat is None:
        return Centred(length, index, strands, options.indel_mode or "anchor")
    if options.compat != "selene":
        raise OptionError(f"--compat {options.compat}: {name} knows selene. Leave it out for the right placement.")
    if options.indel_mode:
        raise OptionError("--compat selene places indels in its own way; leave out --indel-mode.")
    return SeleneWindows(length, index, strands)


def _chosen_scores(name: str, options: ModelOptions) -> tuple[str, ...]:
    """Give the scores in the order of the table; tracks that were asked for bring their differences with them."""
    asked = {text.upper() for text in options.scores} or {"CLASS"}
    unknown = asked - set(SCORES)
    if unknown:
        raise OptionError(
            f"--scores {', '.join(sorted(unknown))}: {name} has {', '.join(SCORES)}. See: varfm models info {name}"
        )
    return tuple(score for score in SCORES if score in asked or (score == "DIFF" and options.tracks))


def _details(placement: Centred, scores: Sequence[str]) -> tuple[tuple[str, str], ...]:
    is_selene = isinstance(placement, SeleneWindows)
    return (
        ("window", str(placement.length)),
        ("index", str(placement.index)),
        ("indels", "selene" if is_selene else placement.indel_mode),
        ("strands", placement.strands),
        ("strands_averaged", "answers"),
        *((("compat", "selene"),) if is_selene else ()),
        ("scores", ",".join(scores)),
    )


def read_projection(files: Mapping[str, Path], n_tracks: int) -> Projection:
    """Read what turns profiles into class scores.

    Args:
        files: `projvec_targets.npy`, `histone_inds.npy` and `seqclass.names` by these names.
        n_tracks: Outputs of the network.

    Raises:
        ModelError: If a file is damaged, or does not fit the network or the classes.
    """
    vectors = _array(files["projvec_targets.npy"], "f", (N_CLUSTERS, n_tracks)).astype(np.float64)
    if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
        raise ModelError(f"{files['projvec_targets.npy']}: a row is all zeros, or not finite. {_OTHER_FILE}")
    histones = _array(files["histone_inds.npy"], "iu", (None,)).astype(np.int64)
    in_range = len(histones) > 0 and histones.min() >= 0 and histones.max() < n_tracks
    if not in_range or len(np.unique(histones)) < len(histones):
        raise ModelError(
            f"{files['histone_inds.npy']}: expected different numbers from 0 to {n_tracks - 1}. {_OTHER_FILE}"
        )
    _check_labels(files["seqclass.names"])
    return Projection(torch.from_numpy(vectors), torch.from_numpy(histones), _LABELS)


def _array(path: Path, kinds: str, shape: tuple[int | None, ...]) -> NDArray[np.generic]:
    try:
        found = np.lib.format.open_memmap(path, mode="r")  # mapped, a cut file is found out before it is read
    except (OSError, ValueError, EOFError) as error:
        said = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: cannot be read as a NumPy array ({said}). {_OTHER_FILE}") from error
    fits = len(found.shape) == len(shape) and all(w in (None, f) for w, f in zip(shape, found.shape, strict=True))
    if not fits or found.dtype.kind not in kinds:
        wanted = " x ".join("any" if size is None else str(size) for size in shape)
        raise ModelError(
            f"{path}: holds {found.dtype} of shape {found.shape}, "
            f"expected {wanted} {'floats' if 'f' in kinds else 'integers'}. {_OTHER_FILE}"
        )
    return found


def _check_labels(path: Path) -> None:
    try:
        found = tuple(item.label for item in read_classes(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as text ({error}). {_OTHER_FILE}") from error
    if found != _LABELS:
        raise ModelError(f"{path}: does not name the 40 sequence classes of Sei in their order. {_OTHER_FILE}")
