"""Record what GENA-LM's own network and BigBird answer to random weights, and how tokenizers cuts the sequences.

    PYTHONPATH=. python tests/parity/record_gena_lm.py CHECKOUT

CHECKOUT is github.com/AIRI-Institute/GENA_LM at 4a88463. Python wants torch, tokenizers and transformers 4.38, which
the authors' code is written for; their BigBird is the class of transformers.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from bpe_cases import READ, SEED, sequences, trained
from drawing import drawn

DATA = Path(__file__).parent / "data" / "gena_lm.npz"
N_VOCABULARY = 64
LONGEST = 403
WORDS = "bert.embeddings.word_embeddings.weight"
COPIES = {"cls.predictions.decoder.weight": WORDS, "cls.predictions.decoder.bias": "cls.predictions.bias"}
POSITIONS = "bert.embeddings.position_ids"

_SIZES = {
    "vocab_size": N_VOCABULARY,
    "hidden_size": 30,
    "num_attention_heads": 5,
    "num_hidden_layers": 3,
    "intermediate_size": 44,
    "max_position_embeddings": 256,
    "pad_token_id": 3,
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "base": ("BertForMaskedLM", {"pre_layer_norm": True, "last_layer_norm": False}),
    "base_v1": ("BertForPreTraining", {"pre_layer_norm": True, "last_layer_norm": False}),
    "large": ("BertForMaskedLM", {"pre_layer_norm": True, "layer_norm_eps": 1e-3}),
    # Full attention up to 22 blocks of 4 or 9 blocks of 8 tokens, sparse attention above.
    "bigbird": ("BigBirdForPreTraining", {"block_size": 8, "num_random_blocks": 2, "max_position_embeddings": 256}),
    "bigbird_small_blocks": (
        "BigBirdForPreTraining",
        {"block_size": 4, "num_random_blocks": 3, "layer_norm_eps": 1e-3},
    ),
}


def main() -> None:
    """Run the authors' code and write the fixture."""
    import tokenizers
    import torch
    import transformers

    sys.path.insert(0, str(Path(sys.argv[1]) / "src" / "gena_lm"))
    tokenizer = trained("gena_lm", N_VOCABULARY)
    ids = [tokenizer.encode(line.upper()).ids for line in sequences(LONGEST)]
    print("tokens:", [len(line) for line in ids])
    recorded: dict[str, Any] = {
        "tokenizer": tokenizer.to_str(),
        "ids": np.concatenate(ids).astype(np.int16),
        "n_tokens": np.array([len(line) for line in ids], np.int16),
        "about": json.dumps(
            {
                "upstream": "github.com/AIRI-Institute/GENA_LM at 4a884630dd72fac47775a256f9c85452b63d28e3",
                "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, "
                f"tokenizers {tokenizers.__version__}",
                "command": "PYTHONPATH=. python tests/parity/record_gena_lm.py CHECKOUT",
            }
        ),
    }
    for case, (kind, given) in CASES.items():
        recorded |= _answers(case, kind, _SIZES | given, ids)
    np.savez_compressed(DATA, **recorded)


def _network(kind: str, given: dict[str, Any]) -> Any:
    import modeling_bert
    from transformers import BertConfig, BigBirdConfig, BigBirdForPreTraining

    if kind == "BigBirdForPreTraining":
        return BigBirdForPreTraining(BigBirdConfig(architectures=[kind], **given))
    return getattr(modeling_bert, kind)(BertConfig(architectures=[kind], **given))


def _answers(case: str, kind: str, given: dict[str, Any], ids: list[list[int]]) -> dict[str, Any]:
    """Run one case in double precision; float32 must be near it."""
    import torch

    network = _network(kind, given).eval()
    state = network.state_dict()
    shapes = {key: list(value.shape) for key, value in state.items() if key not in {*COPIES, POSITIONS}}
    weights = {key: torch.from_numpy(value) for key, value in drawn(shapes, SEED).items()}
    weights |= {copy: weights[key] for copy, key in COPIES.items()}
    network.load_state_dict(weights | {key: state[key] for key in state if key == POSITIONS}, strict=True)
    single = [_run(network, line)[0] for line in ids]
    network = network.double()
    logits, hidden = zip(*(_run(network, line) for line in ids), strict=True)
    scale = max(np.abs(line).max() for line in logits)
    error = max(np.abs(one - two).max() for one, two in zip(single, logits, strict=True)) / scale
    print(f"{case}: float32 differs by {error:.1e} of the scale, {scale:.2f}")
    assert error < 1e-5
    return {
        f"{case}_config": network.config.to_json_string(),
        f"{case}_shapes": json.dumps(shapes),
        f"{case}_logits": np.array([line[list(READ)] for line in logits]),
        f"{case}_hidden": np.array([line[list(READ)] for line in hidden]),
    }


def _run(network: Any, ids: list[int]) -> tuple[Any, Any]:
    """Give logits and last hidden states of one input, as a network that has seen no other one gives them."""
    import torch

    if network.config.model_type == "big_bird":
        network.bert.set_attention_type("block_sparse")
    batch = torch.tensor([ids])
    with torch.no_grad():
        hidden = network.bert(input_ids=batch).last_hidden_state
        return network.cls.predictions(hidden)[0].numpy(), hidden[0].numpy()


if __name__ == "__main__":
    main()
