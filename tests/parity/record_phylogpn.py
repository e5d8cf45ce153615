"""Record what PhyloGPN's own class answers to random weights, and what its weights are called.

    PYTHONPATH=. python tests/parity/record_phylogpn.py CHECKOUT

CHECKOUT is github.com/songlab-cal/gpn at 8e3c22d. Python wants torch, transformers, safetensors and jaxtyping.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from drawing import drawn
from numpy.typing import NDArray

SEED = 60
DATA = Path(__file__).parent / "data" / "phylogpn.npz"
LENGTH = 61
PAD = "-"
READ = slice(0, None, 4)
CASES: dict[str, dict[str, Any]] = {
    "small": {"outer_dim": 24, "inner_dim": 16, "num_stacks": 3},
    "deep": {"outer_dim": 12, "inner_dim": 20, "kernel_size": 3, "stack_size": 4, "num_stacks": 2},
}
"""What differs from upstream's defaults."""


def sequences() -> list[str]:
    """Give the inputs: random bases, some with N and other letters in between, and runs of one base."""
    generator = np.random.RandomState(SEED + 1)
    letters = ["".join(generator.choice(list("ACGT"), LENGTH)) for _ in range(4)]
    letters.append("N" * 20 + letters[0][20:])
    letters.append(letters[1][:30] + "NNRYN" + letters[1][35:])
    return [*letters, "A" * LENGTH, "CG" * (LENGTH // 2) + "C"]


def weights_of(shapes: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Draw weights that are multiples of 1/4096: means of two of them are exact in either precision."""
    return {key: np.round(values * 4096) / np.float32(4096) for key, values in drawn(shapes, SEED).items()}


def main() -> None:
    """Run the authors' class and write the fixture."""
    sys.path.insert(0, str(Path(sys.argv[1]).resolve() / "src"))
    import torch
    import transformers

    recorded: dict[str, Any] = {
        "about": json.dumps(
            {
                "upstream": "github.com/songlab-cal/gpn at 8e3c22da0088332ee09b65bf51bca1b65f349471",
                "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
                "command": "PYTHONPATH=. python tests/parity/record_phylogpn.py CHECKOUT",
            }
        )
    }
    for case in CASES:
        recorded |= _answers(case)
    np.savez_compressed(DATA, **recorded)


def _answers(case: str) -> dict[str, Any]:
    import torch
    from gpn.phylo.model import PhyloGPNConfig, PhyloGPNModel

    config = PhyloGPNConfig(**CASES[case])
    network = PhyloGPNModel(config).eval()
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    weights = {key: torch.from_numpy(value) for key, value in weights_of(shapes).items()}
    network.load_state_dict(weights, strict=True)
    dilations = config.num_stacks * [config.kernel_size**power for power in range(config.stack_size)]
    flank = (config.kernel_size - 1) // 2 * sum(dilations)
    padded = [PAD * flank + line + PAD * flank for line in sequences()]
    ids = torch.tensor(
        [[{base: n for n, base in enumerate("ACGTN-")}.get(base, 4) for base in line.upper()] for line in padded]
    )
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        network.save_pretrained(folder)
        mapping = Path(folder, "config.json").read_text()
        single = torch.stack(list(network(ids).values()), 2).numpy()
        network = network.double()
        rates = torch.stack(list(network(ids).values()), 2).numpy()
        hidden = network.get_embeddings(ids).numpy()
    error = np.abs(single - rates).max() / np.abs(rates).max()
    print(f"{case}: float32 differs by {error:.1e} of the scale")
    assert error < 1e-5
    return {
        f"{case}_config": mapping,
        f"{case}_shapes": json.dumps(shapes),
        f"{case}_rates": rates[:, READ],
        f"{case}_hidden": hidden[:, READ][:, ::4],
    }


if __name__ == "__main__":
    main()
