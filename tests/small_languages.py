"""Every family of language models in small: published settings and layout, small sizes, random weights."""

from __future__ import annotations

import importlib
import json
import re
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from test_bpe import toy, with_long_runs

from varfm.models import ModelOptions, catalog, load
from varfm.protocols import Model

BERT_JSON: dict[str, Any] = {
    "model_type": "bert", "hidden_act": "gelu", "layer_norm_eps": 1e-12, "pad_token_id": 3, "pre_layer_norm": True,
    "last_layer_norm": False, "position_embedding_type": "absolute", "type_vocab_size": 2,
}  # fmt: skip
GPN_TOKENS = {"[PAD]": 0, "[MASK]": 1, "[UNK]": 2, "a": 3, "c": 4, "g": 5, "t": 6}
GPN_TOKENIZER = {
    "normalizer": {"type": "Lowercase"},
    "pre_tokenizer": {"type": "Whitespace"},
    "model": {"type": "BPE", "unk_token": "[UNK]", "vocab": GPN_TOKENS, "merges": []},
}
CADUCEUS = {
    "model_type": "caduceus", "d_model": 16, "n_layer": 2, "vocab_size": 12, "rms_norm": True, "bidirectional": True,
    "bidirectional_strategy": "add", "bidirectional_weight_tie": True, "fused_add_norm": True,
    "complement_map": {str(i): {7: 10, 8: 9, 9: 8, 10: 7}.get(i, i) for i in range(16)},
    "ssm_cfg": {"d_state": 4, "d_conv": 4, "expand": 2},
}  # fmt: skip


class Small(NamedTuple):
    """A checkpoint's family in small: its `config.json`, further files, and the window that is read."""

    config: dict[str, Any]
    window: int
    files: dict[str, str] = {}  # noqa: RUF012


SMALL = {
    "gpn-brassicales": Small(
        {
            "architectures": ["ConvNetForMaskedLM"], "model_type": "ConvNet", "hidden_size": 16, "n_layers": 3,
            "kernel_size": 5, "dilation_cycle": 6, "dilation_max": 32, "dilation_double_every": 1, "vocab_size": 7,
        },
        96,
        {"tokenizer.json": json.dumps(GPN_TOKENIZER)},
    ),
    "phylogpn": Small({"model_type": "phylogpn", "outer_dim": 16, "inner_dim": 12, "num_stacks": 2}, 64),
    "dnabert-2-117m": Small(
        {
            "model_type": "bert", "hidden_act": "gelu", "alibi_starting_size": 512, "vocab_size": 20,
            "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
        },
        96,
        {"tokenizer.json": json.dumps(toy())},
    ),
    "dnabert-3": Small(
        {
            "model_type": "bert", "vocab_size": 69, "hidden_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 128,
        },
        96,
    ),
    "nt-v2-50m-multi-species": Small(
        {
            "model_type": "esm", "vocab_size": 4107, "hidden_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 3, "intermediate_size": 40, "max_position_embeddings": 60, "pad_token_id": 1,
            "mask_token_id": 2, "position_embedding_type": "rotary", "add_bias_fnn": False, "token_dropout": False,
            "emb_layer_norm_before": False, "tie_word_embeddings": False,
        },
        96,
    ),
    "dnagpt-0.1b-h": Small({"max_tokens": 40, "width": 12, "n_layers": 2, "n_heads": 3, "k": 3, "shortest": 3}, 96),
    "dnagpt-0.1b-m": Small({"max_tokens": 40, "width": 12, "n_layers": 2, "n_heads": 3, "k": 3, "shortest": 1}, 96),
    "gena-lm-bert-base-t2t": Small(
        BERT_JSON | {
            "vocab_size": 20, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3,
            "intermediate_size": 40, "max_position_embeddings": 128,
        },
        96,
        {"tokenizer.json": json.dumps(with_long_runs())},
    ),
    "gena-lm-bigbird-base-t2t": Small(
        {
            "model_type": "big_bird", "hidden_act": "gelu_new", "layer_norm_eps": 1e-12, "pad_token_id": 3,
            "position_embedding_type": "absolute", "type_vocab_size": 2, "attention_type": "block_sparse",
            # Attention is full up to 72 tokens: a window of 96 bases has some more or some less.
            "block_size": 8, "num_random_blocks": 2, "rescale_embeddings": False, "use_bias": True, "vocab_size": 20,
            "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 40,
            "max_position_embeddings": 128,
        },
        96,
        {"tokenizer.json": json.dumps(toy())},
    ),
    "hyenadna-tiny-1k-seqlen": Small(
        {
            "model_type": "hyenadna", "d_model": 16, "n_layer": 2, "d_inner": 32, "max_seq_len": 130, "vocab_size": 12,
            "filter_order": 16,
        },
        96,
    ),
    "caduceus-ph_seqlen-131k_d_model-256_n_layer-16": Small(CADUCEUS | {"rcps": False}, 64),
    "caduceus-ps_seqlen-131k_d_model-256_n_layer-16": Small(CADUCEUS | {"rcps": True}, 64),
}  # fmt: skip


@cache
def small_language(name: str, **options: Any) -> Model:
    """Load a small model as a user does; each once."""
    return load(name, ModelOptions(weights=small_folder(name), offline=True, window=SMALL[name].window, **options))


@cache
def small_folder(name: str) -> Path:
    """Write the published folder of a small model; each once."""
    return write_published(name, SMALL[name], Path(mkdtemp(prefix="varfm-language-")))


_LEFT_OUT = r"rev\.(in|out)_proj|pos_emb|deltas"
"""What a file need not hold: what Caduceus ties, and the tables of HyenaDNA, which are computed."""


def write_published(name: str, small: Small, folder: Path) -> Path:
    """Write random weights as a checkpoint's authors publish theirs, under the names that the catalogue has."""
    module = importlib.import_module(f"varfm.models.{catalog.get(name).module}")
    (folder / "config.json").write_text(json.dumps(small.config))
    for file, text in small.files.items():
        (folder / file).write_text(text)
    torch.manual_seed(5)
    state = module.network_of(_sizes(module, small.config, folder)).state_dict()
    arrays = {key: _drawn(key, value) for key, value in state.items() if not re.search(_LEFT_OUT, key)}
    if name == "phylogpn":
        arrays = {_of_phylogpn(key): value for key, value in arrays.items()}
    weights = folder / catalog.get(name).files[0].name
    if weights.suffix == ".safetensors":
        save_file(arrays, weights, {"format": "pt"})
    else:
        torch.save({key: torch.from_numpy(value) for key, value in arrays.items()}, weights)
    return folder


def _of_phylogpn(key: str) -> str:
    """Name a tensor as upstream does, which makes all but norms alike for both strands in every pass."""
    module, part = key.rsplit(".", 1)
    return f"_model.{key}" if "norm" in key else f"_model.{module}.parametrizations.{part}.original"


def _sizes(module: ModuleType, config: dict[str, Any], folder: Path) -> Any:
    kinds = [value for key, value in vars(module).items() if key.endswith("Config")]
    published = [kind for kind in kinds if hasattr(kind, "from_json")]
    # Where no config.json is published, it has the fields of our own sizes.
    return published[0].from_json(config, folder) if published else kinds[0](**config)


def _drawn(key: str, value: torch.Tensor) -> NDArray[Any]:
    # What a family sets up itself (decays, frequencies) stays; norms, biases and matrices are drawn.
    if not value.is_floating_point() or any(word in key for word in ("A_log", "freq")):
        return value.numpy()
    generator = np.random.RandomState(sum(key.encode()))
    spread = 0.3 if value.ndim < 2 else 1.5 / np.sqrt(value[0].numel())
    offset = 1.0 if value.ndim == 1 and key.endswith("weight") else 0.0
    return (generator.normal(0, spread, value.shape) + offset).astype(np.float32)
