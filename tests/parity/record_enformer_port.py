"""Record what the PyTorch port of Enformer answers with drawn weights, in float32 and in float64.

    PYTHONPATH=tests/parity python tests/parity/record_enformer_port.py

Needs enformer-pytorch 0.8.12 (github.com/lucidrains/enformer-pytorch, MIT) and torch 2.13.0. Writes
tests/parity/data/enformer_port.npz. The port divides its gamma features by the maximum over features where the authors'
code divides by the maximum over positions, so its table of position features is recorded too.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from drawing import drawn
from enformer_cases import PORT, SEED
from enformer_pytorch import Enformer
from enformer_pytorch.modeling_enformer import get_positional_embed

PATH = Path(__file__).parent / "data" / "enformer_port.npz"


def main() -> None:
    """Build, fill, run, record."""
    model = Enformer.from_hparams(
        dim=PORT.channels,
        depth=PORT.n_layers,
        heads=PORT.n_heads,
        output_heads={"human": PORT.n_tracks, "mouse": PORT.n_tracks - 1},
        target_length=PORT.n_bins,
        attn_dim_key=4,
        num_downsamples=3,
        dim_divisible_by=8,
    ).eval()
    shapes = {key: list(value.shape) for key, value in model.state_dict().items()}
    canonical = {key: shape for key, shape in shapes.items() if not key.startswith("_trunk.")}
    weights = drawn({key: shape for key, shape in canonical.items() if not key.endswith("tracked")}, SEED)
    state = {key: torch.from_numpy(values) for key, values in weights.items()}
    print(model.load_state_dict(state, strict=False).unexpected_keys)
    recorded = {}
    for name, dtype in (("float32", torch.float32), ("float64", torch.float64)):
        model.to(dtype)
        letters = np.stack([np.frombuffer(bases.upper().encode(), np.uint8) for bases in PORT.sequences()])
        inputs = torch.from_numpy(letters[:, :, None] == np.frombuffer(b"ACGT", np.uint8)).to(dtype)
        with torch.inference_mode():
            recorded |= {f"{head}_{name}": values.numpy() for head, values in model(inputs).items()}
        recorded[f"positions_{name}"] = get_positional_embed(
            PORT.n_tokens, PORT.channels // PORT.n_heads, "cpu", False, dtype
        ).numpy()
    source = {"package": "enformer-pytorch", "version": version("enformer-pytorch"), "torch": torch.__version__}
    np.savez_compressed(PATH, source=json.dumps(source), shapes=json.dumps(shapes), **recorded)
    print(PATH, PATH.stat().st_size)


if __name__ == "__main__":
    main()
