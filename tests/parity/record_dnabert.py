"""Record what the authors' own classes answer to random weights, and how they cut sequences.

    PYTHONPATH=. python tests/parity/record_dnabert.py CHECKOUT

CHECKOUT is github.com/jerryji1993/DNABERT at b6da04e. Python wants boto3, filelock, requests, tokenizers, torch and
tqdm. Of the authors' fork of transformers, only what the network and the tokenizer import is imported: its other
tokenizers want a version of `tokenizers` that no present Python can build.
"""

from __future__ import annotations

import hashlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
from drawing import drawn
from numpy.typing import NDArray

SEED = 60
DATA = Path(__file__).parent / "data" / "dnabert.npz"
LENGTH = 151
MASKED = (40, 41, 42)
READ = (0, 1, 20, 40, 41, 42, 100)

CASES: dict[str, dict[str, Any]] = {
    "3": {
        "vocab_size": 69,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "max_position_embeddings": 160,
    },
    "6": {
        "vocab_size": 4101,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "intermediate_size": 64,
        "max_position_embeddings": 512,
        "layer_norm_eps": 1e-7,
    },
}
"""What differs from the authors' defaults, by k."""


def sequences() -> list[str]:
    """Give the inputs: random bases, some in lower case, with N and other letters in between, and runs of one base."""
    generator = np.random.RandomState(SEED + 1)
    letters = ["".join(generator.choice(list("ACGT"), LENGTH)) for _ in range(5)]
    letters.append("N" * 40 + letters[0][40:])
    letters.append(letters[1][:70] + "NNRYnn" + letters[1][76:])
    letters.append(letters[2][:50].lower() + letters[2][50:])
    return [*letters, "A" * LENGTH, "CG" * (LENGTH // 2) + "C" * (LENGTH % 2)]


def kept(n_vocabulary: int) -> slice:
    """Give the tokens whose logits are recorded."""
    return slice(0, None, max(1, n_vocabulary // 80))


def main() -> None:
    """Run the authors' code and write the fixture."""
    source = Path(sys.argv[1]).resolve() / "src" / "transformers"
    package = types.ModuleType("transformers")
    package.__path__, package.__version__ = [str(source)], "2.5.0"  # type: ignore[attr-defined]
    sys.modules["transformers"] = package
    recorded: dict[str, Any] = {"sequences": np.array(sequences())}
    for k in CASES:
        recorded |= _answers(k, _tokenized(k, source))
    files = {k: (source / "dnabert-config" / f"bert-config-{k}" / "vocab.txt").read_bytes() for k in "3456"}
    recorded["vocabularies"] = json.dumps({k: hashlib.sha256(content).hexdigest() for k, content in files.items()})
    recorded["about"] = json.dumps(_about())
    np.savez_compressed(DATA, **recorded)


def _about() -> dict[str, str]:
    import torch

    return {
        "upstream": "github.com/jerryji1993/DNABERT at b6da04ec9a7d4e53efe5b33a6ce1a21c0e7ac413",
        "versions": f"torch {torch.__version__}",
        "command": "PYTHONPATH=. python tests/parity/record_dnabert.py CHECKOUT",
    }


def _tokenized(k: str, source: Path) -> NDArray[np.int16]:
    from transformers.tokenization_dna import DNATokenizer

    vocabulary = source / "dnabert-config" / f"bert-config-{k}" / "vocab.txt"
    tokenizer = DNATokenizer(str(vocabulary), max_len=512)
    ids = []
    for line in sequences():
        kmers = [line.upper()[start : start + int(k)] for start in range(len(line) - int(k) + 1)]
        ids.append(tokenizer.encode(" ".join(kmers), add_special_tokens=True))
    return np.array(ids, np.int16)


def _answers(k: str, ids: NDArray[np.int16]) -> dict[str, Any]:
    """Run one case in double precision; float32 must be near."""
    import torch
    from transformers.configuration_bert import BertConfig
    from transformers.modeling_bert import BertForMaskedLM

    config = BertConfig(**CASES[k])
    network = BertForMaskedLM(config).eval()
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    weights = weights_of(shapes)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=True)
    tokens = torch.from_numpy(ids.astype(np.int64))
    tokens[:, list(MASKED)] = 4
    with torch.no_grad():
        single = network(tokens)[0].numpy()
        network = network.double()
        hidden, logits = network.bert(tokens)[0].numpy(), network(tokens)[0].numpy()
    error = np.abs(single - logits).max() / np.abs(logits).max()
    print(f"{k}-mers: float32 differs by {error:.1e} of the scale")
    assert error < 1e-5
    return {
        f"{k}_ids": ids,
        f"{k}_config": config.to_json_string(),
        f"{k}_shapes": json.dumps(shapes),
        f"{k}_hidden": hidden[:, list(READ)],
        f"{k}_logits": logits[:, list(READ), kept(logits.shape[-1])],
    }


def weights_of(shapes: dict[str, list[int]]) -> dict[str, NDArray[np.float32]]:
    """Draw the weights of a published file, in which the head's table and bias stand twice."""
    weights = drawn(shapes, SEED)
    copies = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }
    return weights | {copy: weights[key] for copy, key in copies.items() if copy in weights}


if __name__ == "__main__":
    main()
