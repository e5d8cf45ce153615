"""Record what DNABERT-2's own network answers to random weights, and how tokenizers cuts the sequences.

    PYTHONPATH=. python tests/parity/record_dnabert2.py CHECKOUT

CHECKOUT is github.com/mosaicml/examples at daddaef. Python wants torch, transformers 4.38, einops, tokenizers, and no
Triton.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from bpe_cases import READ, SEED, sequences, trained
from drawing import drawn

DATA = Path(__file__).parent / "data" / "dnabert2.npz"
N_VOCABULARY = 64
LONGEST = 203
TIED = "cls.predictions.decoder.weight"

CASES: dict[str, dict[str, Any]] = {
    "six_heads": {"hidden_size": 36, "num_attention_heads": 6, "num_hidden_layers": 4, "intermediate_size": 50},
    # Longer than the table that it begins with, and another epsilon than the head's.
    "two_heads": {
        "hidden_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "intermediate_size": 40,
        "alibi_starting_size": 16,
        "layer_norm_eps": 1e-3,
    },
}


def main() -> None:
    """Run the authors' code and write the fixture."""
    import tokenizers
    import torch
    import transformers

    sys.path.insert(0, str(Path(sys.argv[1]) / "examples" / "benchmarks" / "bert" / "src"))
    warnings.filterwarnings("ignore")
    tokenizer = trained("dnabert2", N_VOCABULARY)
    ids = [tokenizer.encode(line.upper()).ids for line in sequences(LONGEST)]
    recorded: dict[str, Any] = {
        "tokenizer": tokenizer.to_str(),
        "ids": np.concatenate(ids).astype(np.int16),
        "n_tokens": np.array([len(line) for line in ids], np.int16),
        "about": json.dumps(
            {
                "upstream": "github.com/mosaicml/examples at daddaeff7a535273ff984b0134da4839c70a45b3",
                "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, "
                f"tokenizers {tokenizers.__version__}",
                "command": "PYTHONPATH=. python tests/parity/record_dnabert2.py CHECKOUT",
            }
        ),
    }
    for case, given in CASES.items():
        recorded |= _answers(case, given, ids)
    np.savez_compressed(DATA, **recorded)


def _answers(case: str, given: dict[str, Any], ids: list[list[int]]) -> dict[str, Any]:
    """Run one case in double precision; float32 must be near it."""
    import torch
    from bert_layers import BertForMaskedLM
    from configuration_bert import BertConfig

    config = BertConfig(vocab_size=N_VOCABULARY, attention_probs_dropout_prob=0.0, **given)
    network = BertForMaskedLM(config).eval()
    shapes = {key: list(value.shape) for key, value in network.state_dict().items() if key != TIED}
    weights = {key: torch.from_numpy(value) for key, value in drawn(shapes, SEED).items()}
    network.load_state_dict(weights | {TIED: weights["bert.embeddings.word_embeddings.weight"]}, strict=True)
    with torch.no_grad():
        single = [network(input_ids=torch.tensor([line])).logits[0].numpy() for line in ids]
        network = network.double()
        logits = [network(input_ids=torch.tensor([line])).logits[0].numpy() for line in ids]
        hidden = [network.bert(input_ids=torch.tensor([line]))[0][0].numpy() for line in ids]
    scale = max(np.abs(line).max() for line in logits)
    error = max(np.abs(one - two).max() for one, two in zip(single, logits, strict=True)) / scale
    print(f"{case}: float32 differs by {error:.1e} of the scale, {scale:.2f}")
    assert error < 1e-5
    return {
        f"{case}_config": config.to_json_string(),
        f"{case}_shapes": json.dumps(shapes),
        f"{case}_logits": np.array([line[list(READ)] for line in logits]),
        f"{case}_hidden": np.array([line[list(READ)] for line in hidden]),
    }


if __name__ == "__main__":
    main()
