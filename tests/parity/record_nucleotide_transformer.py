"""Record what the authors' code answers to random weights, for the first and the second Nucleotide Transformer.

    PYTHONPATH=. python tests/parity/record_nucleotide_transformer.py CHECKOUT

CHECKOUT is github.com/instadeepai/nucleotide-transformer at 2dc37b8. Python wants dm-haiku, jax, jmp, joblib, regex,
torch and transformers. The first generation is `EsmForMaskedLM` of transformers, for which it was published; the second
is the authors' network in JAX, filled with the same weights under the names of the published files.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from drawing import drawn
from numpy.typing import NDArray

SEED = 50
DATA = Path(__file__).parent / "data" / "nucleotide_transformer.npz"
LENGTH = 149
MASKED = (4, 11)
READ = (0, 3, 4, 11, 20)

_FIRST = {
    "architectures": ["EsmForMaskedLM"],
    "model_type": "esm",
    "pad_token_id": 1,
    "mask_token_id": 2,
    "position_embedding_type": "absolute",
    "emb_layer_norm_before": False,
    "tie_word_embeddings": False,
    "attention_probs_dropout_prob": 0.0,
    "hidden_dropout_prob": 0.0,
    "layer_norm_eps": 1e-12,
    "token_dropout": False,
    "use_cache": False,
}
_SECOND = {
    "add_bias_fnn": False,
    "architectures": ["EsmForMaskedLM"],
    "auto_map": {"AutoModelForMaskedLM": "modeling_esm.EsmForMaskedLM"},
    "pad_token_id": 1,
    "mask_token_id": 2,
    "position_embedding_type": "rotary",
    "emb_layer_norm_before": False,
    "tie_word_embeddings": False,
    "token_dropout": False,
    "max_position_embeddings": 2050,
}
CASES: dict[str, dict[str, Any]] = {
    "first": _FIRST
    | {
        "vocab_size": 4105,
        "hidden_size": 40,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 162,
    },
    "first_scaled": _FIRST
    | {
        "vocab_size": 73,
        "hidden_size": 30,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 170,
        "token_dropout": True,
        "emb_layer_norm_before": True,
        "layer_norm_eps": 1e-5,
    },
    "second": _SECOND
    | {
        "vocab_size": 4107,
        "hidden_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 3,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-5,
    },
    "second_3mer": _SECOND
    | {
        "vocab_size": 75,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "intermediate_size": 24,
        "layer_norm_eps": 1e-5,
    },
}
"""The `config.json` of each. The norms of the head of the JAX network have an epsilon of 1e-5."""


def sequences() -> list[str]:
    """Give the inputs: random bases, some in lower case, with N and other letters in between, and runs of one base."""
    generator = np.random.RandomState(SEED + 1)
    letters = ["".join(generator.choice(list("ACGT"), LENGTH)) for _ in range(5)]
    letters.append("N" * 40 + letters[0][40:])
    letters.append(letters[1][:70] + "NNRYnn" + letters[1][76:])
    letters.append(letters[2][:50].lower() + letters[2][50:])
    return [*letters, "A" * LENGTH, "CG" * (LENGTH // 2) + "C" * (LENGTH % 2)]


def upper(letters: str) -> str:
    """Give what upstream is given: upper case, and N for whatever is no base."""
    return "".join(letter if letter in "ACGT" else "N" for letter in letters.upper())


def shapes_of(config: dict[str, Any]) -> dict[str, list[int]]:
    """Give the keys and shapes of a published file."""
    width, inner, n_layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    gated = "add_bias_fnn" in config
    shapes = {
        "esm.embeddings.word_embeddings.weight": [config["vocab_size"], width],
        "esm.embeddings.position_embeddings.weight": [config["max_position_embeddings"], width],
        "esm.contact_head.regression.weight": [1, n_layers * config["num_attention_heads"]],
        "esm.contact_head.regression.bias": [1],
        "lm_head.decoder.weight": [config["vocab_size"], width],
        "lm_head.bias": [config["vocab_size"]],
        **_dense("lm_head.dense", width, width),
        **_norm("lm_head.layer_norm", width),
        **_norm("esm.encoder.emb_layer_norm_after", width),
    }
    if config["emb_layer_norm_before"]:
        shapes |= _norm("esm.embeddings.layer_norm", width)
    for number in range(n_layers):
        layer = f"esm.encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _dense(f"{layer}.attention.{part}", width, width)
        shapes |= _norm(f"{layer}.attention.LayerNorm", width) | _norm(f"{layer}.LayerNorm", width)
        shapes |= _dense(f"{layer}.intermediate.dense", width, inner * (2 if gated else 1), not gated)
        shapes |= _dense(f"{layer}.output.dense", inner, width, not gated)
    return shapes


def _dense(name: str, n_in: int, n_out: int, bias: bool = True) -> dict[str, list[int]]:
    return {f"{name}.weight": [n_out, n_in]} | ({f"{name}.bias": [n_out]} if bias else {})


def _norm(name: str, width: int) -> dict[str, list[int]]:
    return {f"{name}.weight": [width], f"{name}.bias": [width]}


def weights_of(config: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Draw the weights of a published file."""
    return drawn(shapes_of(config), SEED)


def kept(n_vocabulary: int) -> slice:
    """Give the tokens whose logits are recorded."""
    return slice(0, None, max(1, n_vocabulary // 80))


def main() -> None:
    """Run the authors' code and write the fixture."""
    sys.path.insert(0, str(Path(sys.argv[1]).resolve()))
    recorded: dict[str, Any] = {"sequences": np.array(sequences())}
    for case, config in CASES.items():
        ids = _tokenized(config["vocab_size"])
        recorded[f"{case}_ids"] = json.dumps(ids)
        answers = _second if "add_bias_fnn" in config else _first
        single, double = answers(config, ids, np.float32), answers(config, ids, np.float64)
        error = max(np.abs(one - other).max() / np.abs(other).max() for one, other in zip(single, double, strict=True))
        print(f"{case}: float32 differs by {error:.1e} of the scale")
        assert error < 1e-5
        recorded |= {f"{case}_hidden": double[0], f"{case}_logits": double[1][..., kept(config["vocab_size"])]}
    recorded["about"] = json.dumps(_about())
    np.savez_compressed(DATA, **recorded)


def _about() -> dict[str, str]:
    import haiku
    import jax
    import torch
    import transformers

    return {
        "upstream": "github.com/instadeepai/nucleotide-transformer at 2dc37b86e16a6970fbc731751f7719d9f676f7f9",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, jax {jax.__version__}, "
        f"dm-haiku {haiku.__version__}",
        "command": "PYTHONPATH=. python tests/parity/record_nucleotide_transformer.py CHECKOUT",
    }


def _tokenized(n_vocabulary: int) -> list[list[int]]:
    """Cut the sequences with the authors' tokenizer, as `get_pretrained_model` makes it, and hide some tokens."""
    from nucleotide_transformer.tokenizers import FixedSizeNucleotidesKmersTokenizer, compute_tokens_to_ids_v2

    k = 6 if n_vocabulary > 4_096 else 3
    ids_of = compute_tokens_to_ids_v2(k_mers=k)[0] if n_vocabulary % 2 and (n_vocabulary - 11) == 4**k else None
    tokenizer = FixedSizeNucleotidesKmersTokenizer(
        k_mers=k, fixed_length=1000, prepend_cls_token=True, tokens_to_ids=ids_of
    )
    ids = []
    for letters in sequences():
        found = list(tokenizer.tokenize(upper(letters))[1])
        for position in MASKED:
            found[position] = tokenizer.mask_token_id
        ids.append(found)
    return ids


def _first(config: dict[str, Any], ids: list[list[int]], dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    import torch
    from transformers import EsmConfig, EsmForMaskedLM

    network = EsmForMaskedLM(EsmConfig(**config, attn_implementation="eager"))
    weights = {key: torch.from_numpy(value) for key, value in weights_of(config).items()}
    network.load_state_dict(weights, strict=True)
    network = network.to(torch.float64 if dtype == np.float64 else torch.float32).eval()
    hidden, logits = [], []
    with torch.no_grad():
        for line in ids:
            found = network(input_ids=torch.tensor([line]), output_hidden_states=True)
            last = network.esm(input_ids=torch.tensor([line])).last_hidden_state
            hidden.append(last[0, list(READ)].numpy())
            logits.append(found.logits[0, list(READ)].numpy())
    return np.array(hidden), np.array(logits)


def _second(config: dict[str, Any], ids: list[list[int]], dtype: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    import haiku
    import jax
    from nucleotide_transformer.model import NucleotideTransformer, NucleotideTransformerConfig

    jax.config.update("jax_enable_x64", dtype == np.float64)
    n_layers = config["num_hidden_layers"]
    given = NucleotideTransformerConfig(
        alphabet_size=config["vocab_size"],
        pad_token_id=1,
        mask_token_id=2,
        max_positions=config["max_position_embeddings"] - 2,
        attention_heads=config["num_attention_heads"],
        embed_dim=config["hidden_size"],
        ffn_embed_dim=config["intermediate_size"],
        num_layers=n_layers,
        positional_embedding=None,
        add_bias_ffn=False,
        use_rotary_embedding=True,
        ffn_activation_name="swish",
        use_glu_in_ffn=True,
        layer_norm_eps=config["layer_norm_eps"],
        embeddings_layers_to_save=(n_layers,),
    )
    network = haiku.transform(lambda tokens: NucleotideTransformer(given, name="nt")(tokens))
    weights = _haiku(weights_of(config), n_layers, dtype)
    hidden, logits = [], []
    for line in ids:
        found = network.apply(weights, jax.random.PRNGKey(0), np.array([line]))
        assert found["logits"].dtype == dtype
        hidden.append(np.array(found[f"embeddings_{n_layers}"])[0, list(READ)])
        logits.append(np.array(found["logits"])[0, list(READ)])
    return np.array(hidden), np.array(logits)


def _haiku(weights: dict[str, NDArray[Any]], n_layers: int, dtype: Any) -> dict[str, dict[str, NDArray[Any]]]:
    """Put the tensors of a published file under the names of the JAX network."""
    dense, norm = {"weight": "w", "bias": "b"}, {"weight": "scale", "bias": "offset"}
    head = "nt/~/roberta_lm_head/~"
    places = {
        "lm_head.dense": (f"{head}/lm_head_fc_1", dense),
        "lm_head.layer_norm": (f"{head}/lm_head_layer_norm", norm),
        "lm_head.decoder": (f"{head}/lm_final_fc", dense),
        "esm.encoder.emb_layer_norm_after": (f"{head}/emb_layer_norm_after", norm),
        "esm.embeddings.word_embeddings": ("nt/~/embed", {"weight": "embeddings"}),
    }
    for number in range(n_layers):
        ours, theirs = f"esm.encoder.layer.{number}", f"nt/attention_layer_{number}/~"
        for name in ("query", "key", "value"):
            places[f"{ours}.attention.self.{name}"] = (f"{theirs}/self_attention/{name}", dense)
        places |= {
            f"{ours}.attention.output.dense": (f"{theirs}/self_attention/mha_output", dense),
            f"{ours}.attention.LayerNorm": (f"{theirs}/self_attention_layer_norm", norm),
            f"{ours}.LayerNorm": (f"{theirs}/final_layer_norm", norm),
            f"{ours}.intermediate.dense": (f"{theirs}/fc1", dense),
            f"{ours}.output.dense": (f"{theirs}/fc2", dense),
        }
    found: dict[str, dict[str, NDArray[Any]]] = {f"{head}/lm_final_fc": {"b": weights["lm_head.bias"].astype(dtype)}}
    for key, values in weights.items():
        module, _, name = key.rpartition(".")
        if module in places:
            place, names = places[module]
            turned = values.T if names is dense and name == "weight" else values
            found.setdefault(place, {})[names[name]] = turned.astype(dtype)
    return found


if __name__ == "__main__":
    main()
