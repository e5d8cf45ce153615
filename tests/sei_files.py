"""A small Sei in the files that its authors publish: other sizes, random weights, the tables of the projection."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from varfm.models.loading import filled
from varfm.models.sei import Sei, SeiConfig, convert
from varfm.models.sei_classes import CLASSES
from varfm.readers import Tensors

sys.path.append(str(Path(__file__).parent / "parity"))
from drawing import drawn

SMALL = SeiConfig(
    length=256, n_tracks=12, channels=(6, 8, 10), width=5, pool=4, dilated_width=3, dilations=(2, 3), n_splines=6
)
"""Three stages and two dilated convolutions, as few numbers as will do."""

HISTONES = (1, 2, 5, 7, 11)
SEED = 3


def upstream_shapes(config: SeiConfig) -> dict[str, tuple[int, ...]]:
    """Give keys and shapes of `sei.pth`, for some sizes."""
    kernels: dict[str, tuple[int, ...]] = {}
    n_in = 4
    for stage, n in enumerate(config.channels, 1):
        pooled = 2 if stage > 1 else 0
        kernels[f"lconv{stage}.{pooled}"] = (n, n_in, config.width)
        kernels[f"lconv{stage}.{pooled + 1}"] = (n, n, config.width)
        kernels[f"conv{stage}.{pooled // 2}"] = kernels[f"conv{stage}.{pooled // 2 + 2}"] = (n, n, config.width)
        n_in = n
    for number in range(1, len(config.dilations) + 1):
        kernels[f"dconv{number}.1"] = (n_in, n_in, config.dilated_width)
    kernels["classifier.0"] = (config.n_tracks, n_in * config.n_splines)
    kernels["classifier.2"] = (config.n_tracks, config.n_tracks)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in kernels.items():
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]
    return shapes


def weights(config: SeiConfig = SMALL, seed: int = SEED) -> dict[str, torch.Tensor]:
    """Draw weights under upstream's names, without a wrapper's prefix; a window of N gives probabilities of a half."""
    values = drawn(upstream_shapes(config), seed, gain=1.0)
    values["classifier.2.weight"] *= np.float32(2)
    path = Path("drawn")
    with torch.device("meta"):
        network = Sei(config)
    filled(network, convert(Tensors(path, values), config, path), path)
    with torch.inference_mode():
        shared = network.logits(torch.full((1, config.length), 4, dtype=torch.uint8))[0]
    values["classifier.2.bias"] -= shared.numpy()
    return {name: torch.from_numpy(value) for name, value in values.items()}


def vectors(n_tracks: int = SMALL.n_tracks) -> NDArray[Any]:
    """Draw projection vectors, (61, n_tracks) float32; each sums to 0, so that what all profiles share is no class."""
    drawn_at_random = np.random.RandomState(SEED + 1).normal(0, 1, (61, n_tracks))
    return (drawn_at_random - drawn_at_random.mean(1, keepdims=True)).astype(np.float32)


def write_sei(folder: Path, config: SeiConfig = SMALL) -> Path:
    """Write everything that `--weights FOLDER` wants, and give the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({f"module.model.{name}": value for name, value in weights(config).items()}, folder / "sei.pth")
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    np.save(folder / "projvec_targets.npy", vectors(config.n_tracks))
    np.save(folder / "histone_inds.npy", np.array(HISTONES))
    (folder / "seqclass.names").write_text("".join(f"{item.label} {item.name}\n" for item in CLASSES))
    tracks = [
        f"Cell {index} | {'H3K4me3' if index in HISTONES else 'CTCF'} | ENCODE" for index in range(config.n_tracks)
    ]
    (folder / "target.names").write_text("\n".join(tracks) + "\n")
    return folder
