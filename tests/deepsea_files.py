"""Small DeepSEA and Beluga networks in folders as users have them: an upstream state, a table of tracks, the sizes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from varfm.models.deepsea import BelugaConfig, Config, DeepSeaConfig

sys.path.append(str(Path(__file__).parent / "parity"))
from drawing import drawn

SMALL_DEEPSEA = DeepSeaConfig(length=60, n_tracks=5, channels=(6, 8, 16), n_hidden=16, width=4, pool=2)
SMALL_BELUGA = BelugaConfig(length=80, n_tracks=5, channels=(6, 8, 16), n_hidden=16, width=4, pool=2)
SEED = 5


def upstream_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """Give keys and shapes of `deepsea.beluga.pth`, or of `deepsea_predict.pth`."""
    if isinstance(config, BelugaConfig):
        convs, dense = [f"model.0.{place}" for place in (0, 2, 6, 8, 12, 14)], ["model.1.2.1", "model.1.4.1"]
    else:
        convs, dense = ["2.0", "2.4", "2.8"], ["2.12.1", "2.14.1"]
    channels = (4, *config.convolutions)
    units = (channels[-1] * config.n_positions, config.n_hidden, config.n_tracks)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, n_in, n_out in zip(convs, channels, channels[1:], strict=False):
        shapes |= {f"{name}.weight": (n_out, n_in, 1, config.width), f"{name}.bias": (n_out,)}
    for name, n_in, n_out in zip(dense, units, units[1:], strict=False):
        shapes |= {f"{name}.weight": (n_out, n_in), f"{name}.bias": (n_out,)}
    return shapes


def write_folder(folder: Path, config: Config, state: Mapping[str, NDArray[Any]] | None = None) -> Path:
    """Write sizes, a table of tracks and an upstream state, drawn unless it is given; give the folder."""
    write_sizes(folder, config)
    state = state or drawn(upstream_shapes(config), SEED)
    name = "deepsea.beluga.pth" if isinstance(config, BelugaConfig) else "deepsea_predict.pth"
    torch.save({key: torch.from_numpy(np.ascontiguousarray(values)) for key, values in state.items()}, folder / name)
    return folder


def write_sizes(folder: Path, config: Config) -> None:
    """Write all but the state: sizes and a table of tracks."""
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    if isinstance(config, BelugaConfig):
        lines = ["\tCell type\tAssay\tTreatment\tAssay type\tSource\t"]
        lines += [f"{n}\tcell{n}\tCTCF\tNone\tTF\tENCODE\tpeaks" for n in range(1, config.n_tracks + 1)]
        name = "deepsea_beluga_2002_features.tsv"
    else:
        lines, name = [f"cell{n}|CTCF|None" for n in range(1, config.n_tracks + 1)], "predictor.names"
    (folder / name).write_text("".join(f"{line}\n" for line in lines))
