"""Compare Enformer with what Python users mostly run instead of it: enformer-pytorch, at full size.

    python benchmarks/enformer_port.py

Needs `pip install enformer-pytorch` and 12 GB of memory. Both hold the same random weights, and ours the port's table
of position features, which differs from the authors'. For every SNV in the middle of a window the port runs ref and
alt, in one batch of two; varfm runs them as `varfm score` does. They take turns; figures are CPU time of all threads,
the first round warms up. The error is the largest difference of any output over the largest output.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from varfm.models.enformer import Enformer, EnformerConfig, convert
from varfm.models.loading import filled
from varfm.protocols import Row
from varfm.readers import read_tensors

sys.path.insert(0, str(Path(__file__).parent))
from speed import runner, snv, timed, window


def main() -> int:
    """Print a line per round, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parsed = parser.parse_args()
    torch.set_num_threads(parsed.threads)
    config = EnformerConfig()
    theirs, positions = port(config)
    ours = runner("enformer", same(theirs, positions, config), 1, parsed.threads)
    print(f"# enformer-pytorch {version('enformer-pytorch')}, torch {torch.__version__}, {parsed.threads} threads")
    print("round", "port_s", "varfm_s", "ratio", "error/scale", sep="\t", flush=True)
    spent = []
    for number in range(parsed.rounds + 1):
        change = snv(window(config.length, number), config.length // 2 - 1)
        port_seconds, expected = timed(lambda rows=[change.base, change.row]: answers(theirs, rows))
        seconds, found = timed(lambda asked=[change.base, change]: torch.stack(list(ours.outputs(asked).values())))
        error = float((found - expected).abs().max() / expected.abs().max())
        print(
            number, *(f"{x:.4g}" for x in (port_seconds, seconds, port_seconds / seconds, error)), sep="\t", flush=True
        )
        if number:
            spent.append((port_seconds, seconds, port_seconds / seconds))
    print("median", *(f"{statistics.median(column):.4g}" for column in zip(*spent, strict=True)), sep="\t")
    return 0


def port(config: EnformerConfig) -> tuple[nn.Module, Tensor]:
    """Make the port with random weights that neither die nor explode, and its table of position features."""
    from enformer_pytorch import Enformer as Port
    from enformer_pytorch.modeling_enformer import get_positional_embed

    made: nn.Module = Port.from_hparams(use_tf_gamma=False)
    torch.manual_seed(1)
    for value in made.parameters():
        spread = (1.0 / value[0].numel()) ** 0.5 if value.dim() > 1 else 0.1
        nn.init.normal_(value, 0.0, spread)
    n_features = config.channels // config.n_heads
    positions: Tensor = get_positional_embed(config.n_tokens, n_features, "cpu", False, torch.float32)
    return made.requires_grad_(False).eval(), positions


def same(theirs: nn.Module, positions: Tensor, config: EnformerConfig) -> Enformer:
    """Make our network with the weights of the port, by way of a file of its format."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pytorch_model.bin"
        torch.save(theirs.state_dict(), path)
        with torch.device("meta"):
            empty = Enformer(config)
        network = filled(empty, convert(read_tensors(path), config, path), path)
    network.positions.copy_(positions.reshape(network.positions.shape))
    return network.requires_grad_(False).eval()


@torch.inference_mode()
def answers(theirs: Callable[..., Any], rows: list[Row]) -> Tensor:
    """Run the port on windows: (n, n_bins, n_tracks)."""
    codes = torch.from_numpy(np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1).copy())
    found: Tensor = theirs(codes.long(), head="human")
    return found


if __name__ == "__main__":
    sys.exit(main())
