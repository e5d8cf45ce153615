"""Record what the PyTorch port of Basenji2 answers to random weights.

    python tests/parity/record_basenji2_port.py

Wants the package basenji2-pytorch 0.1.2 (github.com/d-laub/basenji2-pytorch) with torch 2.13.0. Its GELU is the exact
form, which is not the one that the published weights were trained with.
"""

from __future__ import annotations

import copy
import json
import sys
from importlib.metadata import version

import numpy as np
import torch
from basenji2_pytorch import Basenji2, basenji2_params
from basenji_inputs import windows
from drawing import drawn
from record_basenji2 import DATA, GAIN, SEED, SIZES


def params() -> dict:
    """Give the port's parameters with the small sizes put in."""
    model = copy.deepcopy(basenji2_params["model"])
    model.update(seq_length=SIZES["length"], target_length=SIZES["length"] // 128)
    stem, tower, residual, crop, head = model["trunk"]
    stem["filters"], head["filters"] = SIZES["stem_channels"], SIZES["head_channels"]
    tower["filters_init"] = SIZES["tower_channels"][0]
    residual["filters"], crop["cropping"] = SIZES["residual_channels"], SIZES["crop_bins"]
    model["head_human"]["units"] = SIZES["n_tracks"]
    return model


def main() -> None:
    """Write the answers in both precisions."""
    model = Basenji2(params()).eval().requires_grad_(False)
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    counts = {key: np.zeros((), np.int64) for key in shapes if key.endswith("num_batches_tracked")}
    weights = drawn({key: shape for key, shape in shapes.items() if key not in counts}, SEED, gain=GAIN) | counts
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=True)
    codes = np.array([["ACGT".find(base) for base in window.upper()] for window in windows(SIZES["length"])])
    inputs = np.where(codes[:, None] < 0, 0.25, codes[:, None] == np.arange(4)[:, None])
    single = model(torch.from_numpy(inputs).float()).numpy()
    double = model.double()(torch.from_numpy(inputs).double()).numpy()
    about = {
        "repository": "github.com/d-laub/basenji2-pytorch",
        "command": "python tests/parity/record_basenji2_port.py",
        "versions": {
            "python": sys.version.split()[0],
            "torch": torch.__version__,
            "basenji2-pytorch": version("basenji2-pytorch"),
        },
        "shapes": shapes,
    }
    np.savez_compressed(DATA / "basenji2_port.npz", about=json.dumps(about), single=single, double=double)


if __name__ == "__main__":
    main()
