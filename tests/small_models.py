"""Every supervised model in small: the same classes, random weights, and the tables that its checkpoint names.

The weights lie in varfm's own format; that published files are read right is for `tests/parity` to show.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from varfm.converted import VERSION
from varfm.models import ModelOptions, catalog, load
from varfm.models.basenji import BasenjiConfig
from varfm.models.basenji2 import Basenji2Config
from varfm.models.basset import BassetConfig
from varfm.models.deepsea import BelugaConfig, DeepSeaConfig
from varfm.models.enformer import EnformerConfig
from varfm.models.sei import SeiConfig
from varfm.models.sei_classes import CLASSES
from varfm.protocols import Model
from varfm.readers.safetensors import write_safetensors

N_TRACKS = 16
GAINS = {"sei": 0.7}
"""Sei adds many convolutions up; with the usual variance its probabilities are all 0 or 1."""
ASSAYS = ("DNASE", "DNASE", "CHIP", "CAGE") * 4

BASENJI2 = Basenji2Config(
    length=512, n_tracks=N_TRACKS, stem_channels=6, tower_channels=(7, 8), tower_width=3, residual_channels=4,
    dilations=(1, 2), crop_bins=8, head_channels=9,
)  # fmt: skip
ENFORMER = EnformerConfig(
    n_tracks=N_TRACKS,
    length=512,
    n_bins=8,
    stem=8,
    tower=(10, 12, 24),
    tower_width=3,
    n_layers=2,
    n_heads=2,
    key_size=4,
)
CONFIGS: dict[str, Any] = {
    "deepsea": DeepSeaConfig(length=250, n_tracks=N_TRACKS, channels=(6, 7, 8), n_hidden=16),
    "beluga": BelugaConfig(length=340, n_tracks=N_TRACKS, channels=(5, 6, 7), n_hidden=16),
    "basset": BassetConfig(
        length=118, n_tracks=N_TRACKS, channels=(6, 7), widths=(19, 11), pools=(4, 3), n_hidden=(16,)
    ),
    "basenji": BasenjiConfig(
        length=512, n_tracks=N_TRACKS, channels=(6, 7, 8, 4, 9), widths=(22, 1, 6, 3, 1), dilations=(1, 1, 1, 2, 1),
        pools=(2, 2, 4, 1, 1), dense=(0, 0, 0, 1, 0), crop_bins=8,
    ),
    "basenji2": BASENJI2,
    "enformer": ENFORMER,
    "sei": SeiConfig(
        length=128, n_tracks=N_TRACKS, channels=(5, 6, 8), width=5, dilated_width=3, dilations=(2, 3), n_splines=5
    ),
}  # fmt: skip
"""Sizes by the model's name in the catalogue; the windows are short, their rules those of the published sizes."""


def small_folder(name: str, folder: Path) -> Path:
    """Write everything that `--weights` wants for a model, and give the folder."""
    checkpoint, config = catalog.get(name), CONFIGS[name]
    module = importlib.import_module(f"varfm.models.{checkpoint.module}")
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in module.network_of(config).state_dict().items()}
    gain = GAINS.get(name, 2.0)
    arrays = {key: _drawn(key, shape, gain) for key, shape in shapes.items()}
    about = {"format": "varfm", "model": name, "config": json.dumps(asdict(config)), "conversion": str(VERSION)}
    write_safetensors(folder / "small.safetensors", arrays, about)
    (folder / "config.json").write_text(json.dumps(asdict(config)))
    table = folder / checkpoint.tracks_file
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(_TABLES[checkpoint.tracks_format]())
    if name == "sei":
        _write_projection(folder)
    return folder


@cache
def small_model(name: str, **options: Any) -> Model:
    """Load a small model as a user does; each once."""
    folder = _folder(name)
    return load(name, ModelOptions(weights=folder, offline=True, **options))


@cache
def _folder(name: str) -> Path:
    return small_folder(name, Path(mkdtemp(prefix=f"varfm-{name}-")))


def _drawn(key: str, shape: tuple[int, ...], gain: float) -> NDArray[Any]:
    generator = np.random.RandomState(sum(key.encode()))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if "var" in key.rpartition(".")[2]:
        return generator.uniform(0.5, 1.5, shape).astype(np.float32)
    fan_in = int(np.prod(shape[1:])) or 1
    spread = np.sqrt(gain / fan_in) if len(shape) > 1 else 0.3
    return (generator.normal(0, spread, shape) + (len(shape) == 1) * 0.5).astype(np.float32)


def _basenji_table() -> str:
    rows = [f"{n}\t0\tID{n}\t/far/{n}.w5\t32\t2\tmean\t{assay}:cell {n}" for n, assay in enumerate(ASSAYS)]
    return "\n".join(["index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription", *rows]) + "\n"


def _beluga_table() -> str:
    rows = [f"{n + 1}\tcell {n}\tCTCF\tNone\tTF\tENCODE\tpeaks" for n in range(N_TRACKS)]
    return "\n".join(["\tCell type\tAssay\tTreatment\tAssay type\tSource\t", *rows]) + "\n"


_TABLES: dict[str, Callable[[], str]] = {
    "basenji": _basenji_table,
    "basenji2018": lambda: "".join(f"ID{n}\tfile\t{assay}:cell {n}\n" for n, assay in enumerate(ASSAYS)),
    "basset": lambda: "".join(f"cell {n}\tpeaks\n" for n in range(N_TRACKS)),
    "beluga": _beluga_table,
    "deepsea": lambda: "".join(f"cell {n}|CTCF|None\n" for n in range(N_TRACKS)),
    "sei": lambda: "".join(f"cell {n} | CTCF | ENCODE\n" for n in range(N_TRACKS)),
}


def _write_projection(folder: Path) -> None:
    generator = np.random.RandomState(5)
    np.save(folder / "projvec_targets.npy", generator.normal(0, 1, (61, N_TRACKS)).astype(np.float32))
    np.save(folder / "histone_inds.npy", np.array([1, 4]))
    (folder / "seqclass.names").write_text("".join(f"{item.label} {item.name}\n" for item in CLASSES))
