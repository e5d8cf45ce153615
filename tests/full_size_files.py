"""Random weights of the published size in upstream's own file format, for every model whose authors publish tracks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import basenji_files
import basset_files
import deepsea_files
import enformer_files
import numpy as np
import sei_files
import torch
from numpy.typing import NDArray
from writers import write_tf_bundle, write_torch7, write_xgboost_linear

from varfm.checkpoints import Checkpoint
from varfm.models.sei_classes import CLASSES

sys.path.append(str(Path(__file__).parent / "parity"))
from drawing import drawn

SEED = 7
N_TISSUE_WEIGHTS = 10 * (2_002 + 1)


def write_upstream(checkpoint: Checkpoint, config: Any, folder: Path) -> None:
    """Write weights and tables into a folder as the authors publish them.

    Args:
        checkpoint: Of a model with tracks.
        config: Its sizes, those that are published.
        folder: Must be empty.
    """
    table = folder / checkpoint.tracks_file
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(TABLES[checkpoint.tracks_format](checkpoint.n_outputs))
    WRITERS[checkpoint.module](folder, checkpoint, config)


def _deepsea(folder: Path, checkpoint: Checkpoint, config: Any) -> None:
    name = "deepsea.beluga.pth" if checkpoint.name == "beluga" else "deepsea_predict.pth"
    _save_torch(folder / name, drawn(deepsea_files.upstream_shapes(config), SEED))


def _basset(folder: Path, checkpoint: Checkpoint, config: Any) -> None:
    layers = basset_files.PUBLISHED
    weights = drawn(basset_files.kipoi_shapes(layers), SEED)
    write_torch7(folder / "pretrained_model.th", basset_files.convnet(weights, layers))


def _basenji(folder: Path, checkpoint: Checkpoint, config: Any) -> None:
    write_tf_bundle(folder / "model.tf", drawn(basenji_files.bundle_shapes(config), SEED, "tf"))


def _basenji2(folder: Path, checkpoint: Checkpoint, config: Any) -> None:
    shapes = basenji_files.keras_shapes(config)
    arrays = drawn(shapes, SEED, "tf")
    species = "mouse" if checkpoint.name.endswith("mouse") else "human"
    basenji_files.write_keras(folder / f"model_{species}.h5", {key: arrays[key] for key in shapes}, {})


def _enformer(folder: Path, checkpoint: Checkpoint, config: Any) -> None:
    shapes = enformer_files.bundle_shapes(config, {"human": 5_313, "mouse": 1_643})
    arrays = drawn(shapes, SEED, "tf", gain=1.0)
    write_tf_bundle(folder / "enformer-fine-tuned-human-1", enformer_files.bundle(arrays))


def _sei(folder: Path, checkpoint: Checkpoint, config: Any) -> None:
    weights = drawn(sei_files.upstream_shapes(config), SEED, gain=1.0)
    _save_torch(folder / "sei.pth", {f"module.model.{name}": values for name, values in weights.items()})
    np.save(folder / "projvec_targets.npy", sei_files.vectors(config.n_tracks))
    np.save(folder / "histone_inds.npy", np.arange(0, config.n_tracks, 2))
    (folder / "seqclass.names").write_text("".join(f"{item.label} {item.name}\n" for item in CLASSES))


def _expecto(folder: Path, checkpoint: Checkpoint, config: Any) -> None:
    _save_torch(folder / "resources" / "deepsea.beluga.pth", drawn(deepsea_files.upstream_shapes(config), SEED))
    (folder / "models").mkdir()
    draw = np.random.default_rng(SEED)
    for number in range(checkpoint.n_outputs):
        weights = draw.normal(0, 1e-4, N_TISSUE_WEIGHTS).astype(np.float32)
        write_xgboost_linear(folder / "models" / f"{number}.save", weights, 0.5, 2.0)


def _save_torch(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    torch.save({key: torch.from_numpy(np.ascontiguousarray(values)) for key, values in arrays.items()}, path)


WRITERS: dict[str, Callable[[Path, Checkpoint, Any], None]] = {
    "deepsea": _deepsea,
    "basset": _basset,
    "basenji": _basenji,
    "basenji2": _basenji2,
    "enformer": _enformer,
    "sei": _sei,
    "expecto": _expecto,
}


def _coverage(n: int) -> str:
    first = 5_313 if n == 1_643 else 0  # the mouse's tracks are counted on from the human ones
    assays = ("DNASE", "CHIP", "CAGE")
    rows = (f"{first + i}\t0\tID{i}\t.\t32\t2\tmean\t{assays[i % 3]}:cell {i}\n" for i in range(n))
    return "index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription\n" + "".join(rows)


def _beluga_features(n: int) -> str:
    rows = (f"{i + 1}\tcell {i}\tCTCF\tNone\tTF\tENCODE\tpeaks\n" for i in range(n))
    return "\tCell type\tAssay\tTreatment\tAssay type\tSource\t\n" + "".join(rows)


TABLES: dict[str, Callable[[int], str]] = {
    "basenji": _coverage,
    "basenji2018": lambda n: "".join(f"ID{i}\tfile\tDNASE:cell {i}\n" for i in range(n)),
    "basset": lambda n: "".join(f"cell {i}\tpeaks\n" for i in range(n)),
    "beluga": _beluga_features,
    "deepsea": lambda n: "".join(f"cell {i}|CTCF|None\n" for i in range(n)),
    "sei": lambda n: "".join(f"cell {i} | CTCF | ENCODE\n" for i in range(n)),
    "expecto": lambda n: "ModelName\tTissue\n" + "".join(f"./models/{i}.save\tTissue {i}\n" for i in range(n)),
}
