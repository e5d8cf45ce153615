"""Record what DNAGPT's own class and tokenizer answer to random weights.

    PYTHONPATH=. python tests/parity/record_dnagpt.py CHECKOUT

CHECKOUT is github.com/TencentAILabHealthcare/DNAGPT at 9b6c093. Python wants torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from drawing import drawn
from numpy.typing import NDArray

SEED = 60
GAIN = 1.0
DATA = Path(__file__).parent / "data" / "dnagpt.npz"
RESERVED = [*"0123456789", *"+-*/=&|!", *"MBP", *"RIKLOQSUV", *"WYXZ"]

CASES: dict[str, dict[str, int]] = {
    "whole_kmers": {"max_tokens": 64, "width": 24, "n_layers": 3, "n_heads": 3, "k": 3, "shortest": 3},
    "all_kmers": {"max_tokens": 80, "width": 20, "n_layers": 2, "n_heads": 2, "k": 3, "shortest": 1},
    "published_width": {"max_tokens": 50, "width": 768, "n_layers": 2, "n_heads": 12, "k": 3, "shortest": 1},
    "published_kmers": {"max_tokens": 64, "width": 8, "n_layers": 1, "n_heads": 2, "k": 6, "shortest": 1},
}

LENGTH = 139
READ = (slice(None), slice(0, None, 9), slice(0, None, 7))
READ_KMERS = (slice(None), slice(0, None, 5), slice(0, None, 997))
READ_HIDDEN = (slice(0, 2), slice(0, None, 15))
READ_OF = dict.fromkeys(CASES, READ) | {"published_kmers": READ_KMERS}


def sequences() -> list[str]:
    """Give the inputs: random bases, some in lower case, with N in between, and runs of one base."""
    generator = np.random.RandomState(SEED + 1)
    letters = ["".join(generator.choice(list("ACGT"), LENGTH)) for _ in range(4)]
    letters.append("N" * 20 + letters[0][20:])
    letters.append(letters[1][:30] + "Nnnn" + letters[1][34:])
    letters.append(letters[2][:30].lower() + letters[2][30:])
    return [*letters, "A" * LENGTH, "CG" * (LENGTH // 2) + "C"]


def weights_of(shapes: Mapping[str, list[int]]) -> dict[str, NDArray[np.float32]]:
    """Draw the weights; the tables of tokens and of places as large as what the layers add."""
    weights = drawn(shapes, SEED, gain=GAIN)
    for name in ("transformer.wte.weight", "transformer.wpe.weight"):
        weights[name] *= np.float32(shapes[name][1] ** 0.5)
    return weights


def main() -> None:
    """Run the authors' code and write the fixture."""
    import torch

    sys.path.insert(0, str(Path(sys.argv[1]).resolve()))
    recorded: dict[str, Any] = {}
    for case, config in CASES.items():
        recorded |= _answers(case, config)
    recorded["examples"] = json.dumps(_examples())
    recorded["about"] = json.dumps(
        {
            "upstream": "github.com/TencentAILabHealthcare/DNAGPT at 9b6c0931e3b2011ee5bbb4b988be3e19d62953ae",
            "versions": f"torch {torch.__version__}",
            "command": "PYTHONPATH=. python tests/parity/record_dnagpt.py CHECKOUT",
        }
    )
    np.savez_compressed(DATA, **recorded)


def _tokenizer(k: int, shortest: int) -> Any:
    from dna_gpt.tokenizer import KmerTokenizer

    assert shortest in (1, k)
    return KmerTokenizer(k, RESERVED, dynamic_kmer=shortest == 1)


def _examples() -> dict[str, list[list[int]]]:
    """Cut sequences of many lengths with the published vocabularies."""
    found = {}
    for name, shortest in (("h", 6), ("m", 1)):
        tokenizer = _tokenizer(6, shortest)
        texts = [line[:length].upper() for line in sequences() for length in (*range(1, 14), 60, LENGTH)]
        found[name] = [tokenizer.encode(f"<R>{text}", to_tensor=False) for text in texts]
    return found


def _answers(case: str, config: Mapping[str, int]) -> dict[str, NDArray[Any] | str]:
    """Run one case in both precisions, and keep the double one."""
    import torch
    from dna_gpt.model import DNAGPT

    tokenizer = _tokenizer(config["k"], config["shortest"])
    network = DNAGPT(
        vocab_size=len(tokenizer),
        max_len=config["max_tokens"],
        num_layers=config["n_layers"],
        num_heads=config["n_heads"],
        embedding_dim=config["width"],
        bias=False,
    ).eval()
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights_of(shapes).items()})
    ids = torch.stack([tokenizer.encode(f"<R>{line.upper()}") for line in sequences()])
    with torch.no_grad():
        single = network(ids).numpy()
        network = network.double()
        hidden = network._transformer_impl(network._embedding_impl(ids)).numpy()
        logits = network(ids).numpy()
    error = np.abs(single - logits).max() / np.abs(logits).max()
    print(f"{case}: float32 differs by {error:.1e} of the scale")
    assert error < 1e-5 and logits.dtype == np.float64
    return {
        f"{case}_shapes": json.dumps(shapes),
        f"{case}_ids": ids.numpy().astype(np.int32),
        f"{case}_logits": logits[READ_OF[case]],
        f"{case}_hidden": hidden[READ_HIDDEN],
    }


if __name__ == "__main__":
    main()
