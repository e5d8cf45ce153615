"""Record what HyenaDNA's own classes answer to random weights.

    PYTHONPATH=. python tests/parity/record_hyenadna.py CHECKOUT

CHECKOUT is github.com/HazyResearch/hyena-dna at d553021. Its standalone_hyenadna.py has no head for the next base; as
in the authors' training code and in their port for Hugging Face, it is a dense layer without a bias. Python wants
torch, transformers 4 and einops; torchvision, of which the file imports a layer that does nothing here, is left out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from drawing import drawn
from numpy.typing import NDArray

SEED = 50
GAIN = 0.5
DATA = Path(__file__).parent / "data" / "hyenadna.npz"
PREFIX = "hyena."
"""Of the published files, before the names of the authors' class; but for the head."""

PUBLISHED: dict[str, Any] = {
    "activation_freq": 10,
    "d_inner": 512,
    "d_model": 128,
    "emb_dim": 5,
    "embed_dropout": 0.1,
    "filter_order": 64,
    "hyena_dropout": 0.0,
    "hyena_filter_dropout": 0.0,
    "hyena_order": 2,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-5,
    "max_seq_len": 1026,
    "model_type": "hyenadna",
    "n_layer": 2,
    "num_inner_mlps": 2,
    "pad_token_id": 4,
    "pad_vocab_size_multiple": 8,
    "short_filter_order": 3,
    "torch_dtype": "float32",
    "train_freq": True,
    "use_bias": True,
    "vocab_size": 12,
}
"""tiny-1k-seqlen."""

CASES: dict[str, dict[str, Any]] = {
    "small": {"d_model": 24, "d_inner": 40, "n_layer": 3, "max_seq_len": 160, "filter_order": 16},
    "long_filter": {"d_model": 16, "d_inner": 64, "n_layer": 2, "max_seq_len": 5000, "filter_order": 12},
    "other_sizes": {
        "d_model": 20, "d_inner": 36, "n_layer": 2, "max_seq_len": 151, "emb_dim": 3, "filter_order": 10,
        "num_inner_mlps": 1, "vocab_size": 20, "pad_vocab_size_multiple": 3,
    },
}  # fmt: skip
"""What differs from tiny-1k-seqlen."""

LENGTH, WIDE = 151, 1025
READ = slice(0, None, 10)
READ_WIDE = (0, 1, 2, 500, 768, 1023, 1024)
READ_HIDDEN = slice(0, None, 50)


def sequences(length: int = LENGTH) -> list[str]:
    """Give the inputs: random bases, some in lower case, with N in between, and runs of one base."""
    generator = np.random.RandomState(SEED + 1)
    letters = ["".join(generator.choice(list("ACGT"), length)) for _ in range(4)]
    letters.append("N" * 20 + letters[0][20:])
    letters.append(letters[1][:30] + "Nnnn" + letters[1][34:])
    letters.append(letters[2][:30].lower() + letters[2][30:])
    return [*letters, "A" * length, "CG" * (length // 2) + "C" * (length % 2)]


def weights_of(shapes: Mapping[str, list[int]]) -> dict[str, NDArray[np.float32]]:
    """Draw the learned weights; the frequencies of the sines near 10, as they begin, and what they multiply small."""
    learned = {key: shape for key, shape in shapes.items() if not key.endswith((".z", ".t", ".deltas"))}
    weights = drawn(learned, SEED, gain=GAIN)
    for key in weights:
        if key.endswith("freq"):
            weights[key] += 10
        elif "implicit_filter" in key and not key.endswith("6.weight"):
            weights[key] *= 0.2
    return weights


def tables_of(shapes: Mapping[str, list[int]]) -> dict[str, NDArray[np.float32]]:
    """Give the tables: those of positions drawn, as if they were learned; the others as upstream has them."""
    found = {}
    for key, (_, n, width) in ((key, shape) for key, shape in shapes.items() if len(shape) == 3):
        if key.endswith(".z"):
            found[key] = np.random.RandomState(SEED + 2).normal(0, 0.7, (1, n, width)).astype(np.float32)
        elif key.endswith(".t"):
            found[key] = np.linspace(0, 1, n).astype(np.float32)[None, :, None]
        elif key.endswith(".deltas"):
            found[key] = np.linspace(np.log(0.01) / 1.5, np.log(0.01) / 0.3, width).astype(np.float32)[None, None]
    return found


def main() -> None:
    """Run the authors' code and write the fixture."""
    classes = _upstream(Path(sys.argv[1]).resolve())
    recorded: dict[str, Any] = {"sequences": np.array(sequences())}
    recorded["ids"] = _tokenized(classes, sequences())
    wide = _tokenized(classes, sequences(WIDE)[:5])
    for case, given in CASES.items():
        recorded |= _answers(case, classes, given, recorded["ids"], READ)
    recorded |= _answers("published", classes, {}, wide, READ_WIDE)
    recorded["about"] = json.dumps(_about())
    np.savez_compressed(DATA, **recorded)


def _upstream(checkout: Path) -> ModuleType:
    """Import the authors' classes."""
    import torch
    from transformers import PreTrainedTokenizer  # noqa: F401  # looks for the real torchvision

    class StochasticDepth(torch.nn.Identity):
        def __init__(self, p: float, mode: str) -> None:
            super().__init__()
            assert p == 0

    layers: Any = ModuleType("torchvision.ops")
    layers.StochasticDepth = StochasticDepth
    sys.modules |= {"torchvision": ModuleType("torchvision"), "torchvision.ops": layers}
    sys.path.insert(0, str(checkout))
    import standalone_hyenadna

    return standalone_hyenadna


def _about() -> dict[str, str]:
    import torch
    import transformers

    return {
        "upstream": "github.com/HazyResearch/hyena-dna at d553021b483b82980aa4b868b37ec2d4332e198a",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "command": "PYTHONPATH=. python tests/parity/record_hyenadna.py CHECKOUT",
    }


def _tokenized(classes: ModuleType, letters: list[str]) -> NDArray[np.int8]:
    """Run what the authors' tokenizer runs on each character, which wants upper case."""
    known = {name: number for number, name in enumerate("ACGTN", 7)}
    tokenize = classes.CharacterTokenizer._tokenize
    return np.array([[known[token] for token in tokenize(None, line.upper())] for line in letters], np.int8)


def _network(classes: ModuleType, given: Mapping[str, Any]) -> tuple[Any, Any]:
    """Give the authors' network and the head, with drawn weights."""
    import torch

    config = PUBLISHED | given
    network = classes.HyenaDNAModel(
        d_model=config["d_model"],
        n_layer=config["n_layer"],
        d_inner=config["d_inner"],
        vocab_size=config["vocab_size"],
        pad_vocab_size_multiple=config["pad_vocab_size_multiple"],
        layer={
            "l_max": config["max_seq_len"],
            "order": config["hyena_order"],
            "filter_order": config["filter_order"],
            "emb_dim": config["emb_dim"],
            "num_inner_mlps": config["num_inner_mlps"],
            "w": config["activation_freq"],
            "lr_pos_emb": 0.0,
        },
    )
    tables = network.state_dict()
    rows = network.backbone.embeddings.word_embeddings.num_embeddings
    head = torch.nn.Linear(config["d_model"], rows, bias=False)
    shapes = {PREFIX + key: list(value.shape) for key, value in network.named_parameters()}
    weights = weights_of(shapes | {"lm_head.weight": list(head.weight.shape)})
    with torch.no_grad():
        for key, value in weights.items():
            target = head.weight if key == "lm_head.weight" else network.get_parameter(key.removeprefix(PREFIX))
            target.copy_(torch.from_numpy(value))
        shapes = {PREFIX + key: list(value.shape) for key, value in tables.items()}
        for key, value in tables_of(shapes).items():
            tables[key.removeprefix(PREFIX)].copy_(torch.from_numpy(value))
    return network.eval(), head


def _answers(
    case: str, classes: ModuleType, given: Mapping[str, Any], ids: NDArray[Any], read: Any
) -> dict[str, NDArray[Any] | str]:
    """Run one case in both precisions, and keep the double one."""
    import torch

    network, head = _network(classes, given)
    config = PUBLISHED | given
    positions = classes.PositionalEmbedding(config["emb_dim"], config["max_seq_len"])
    window = classes.ExponentialModulation(config["d_model"])
    shapes = {PREFIX + key: list(value.shape) for key, value in network.state_dict().items()}
    shapes["lm_head.weight"] = list(head.weight.shape)
    tokens = torch.from_numpy(ids.astype(np.int64))
    with torch.no_grad():
        single = head(network(tokens)).numpy()
        hidden = network.double()(tokens)
        logits = head.double()(hidden).numpy()
    error = np.abs(single - logits).max() / np.abs(logits).max()
    print(f"{case}: float32 differs by {error:.1e} of the scale")
    assert error < 1e-5 and logits.dtype == np.float64
    return {
        f"{case}_config": json.dumps(config),
        f"{case}_shapes": json.dumps(shapes),
        f"{case}_ids": ids,
        f"{case}_z": positions.z[0, ::37].detach().numpy(),
        f"{case}_t": positions.t[0, ::37].numpy(),
        f"{case}_deltas": window.deltas[0, 0].numpy(),
        f"{case}_logits": logits[:, read],
        f"{case}_hidden": hidden.numpy()[:2, READ_HIDDEN],
    }


if __name__ == "__main__":
    main()
