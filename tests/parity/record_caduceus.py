"""Record what Caduceus's own classes answer to random weights, PH and PS, with and without the fused norm.

    PYTHONPATH=. python tests/parity/record_caduceus.py CADUCEUS MAMBA

CADUCEUS is github.com/kuleshov-group/caduceus at 0060a6d, MAMBA github.com/state-spaces/mamba at e9594ce. In place of
the kernels for CUDA and Triton, the reference functions run that stand beside them in MAMBA. Python wants torch,
transformers 4, einops and safetensors.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import numpy as np
from drawing import drawn
from numpy.typing import NDArray

SEED = 60
GAIN = 0.5
DATA = Path(__file__).parent / "data" / "caduceus.npz"
COMPLEMENT = {str(token): {7: 10, 8: 9, 9: 8, 10: 7}.get(token, token) for token in range(16)}
PUBLISHED: dict[str, Any] = {
    "bidirectional": True,
    "bidirectional_strategy": "add",
    "bidirectional_weight_tie": True,
    "complement_map": COMPLEMENT,
    "d_model": 256,
    "fused_add_norm": True,
    "initializer_cfg": {"initializer_range": 0.02, "n_residuals_per_layer": 1, "rescale_prenorm_residual": True},
    "n_layer": 16,
    "norm_epsilon": 1e-5,
    "pad_vocab_size_multiple": 8,
    "rcps": True,
    "residual_in_fp32": False,
    "rms_norm": True,
    "ssm_cfg": {
        "bias": False,
        "conv_bias": True,
        "d_conv": 4,
        "d_state": 16,
        "dt_init": "random",
        "dt_init_floor": 0.0001,
        "dt_max": 0.1,
        "dt_min": 0.001,
        "dt_rank": "auto",
        "dt_scale": 1.0,
        "expand": 2,
        "use_fast_path": True,
    },
    "vocab_size": 16,
}
"""The published PS network for 131,072 bases."""

_INSIDE = PUBLISHED["ssm_cfg"]
_PLANT = {str(token): {3: 6, 4: 5, 5: 4, 6: 3}.get(token, token) for token in range(7)}
CASES: dict[str, dict[str, Any]] = {
    "ph": {"d_model": 24, "n_layer": 3, "rcps": False},
    "ph_unfused": {"d_model": 24, "n_layer": 2, "rcps": False, "fused_add_norm": False, "vocab_size": 12},
    "ps": {"d_model": 24, "n_layer": 3},
    "ps_unfused": {"d_model": 24, "n_layer": 3, "fused_add_norm": False},
    "ps_other_sizes": {
        "d_model": 20,
        "n_layer": 2,
        "norm_epsilon": 1e-3,
        "ssm_cfg": _INSIDE | {"d_state": 5, "d_conv": 3, "expand": 3, "dt_rank": 7},
    },
    "ps_plant": {"d_model": 16, "n_layer": 2, "residual_in_fp32": True, "vocab_size": 7, "complement_map": _PLANT},
}
"""What differs from the published network; the last one as PlantCaduceus, and without the class of the head."""

LENGTH, LONG, WIDE = 151, 701, 65
READ = slice(0, None, 10)
READ_LONG = slice(0, None, 50)
READ_WIDE = (0, 1, 31, 32, 64)
MASKED = (0, 60, 75, 150)


def sequences(length: int = LENGTH) -> list[str]:
    """Give the inputs: random bases, some in lower case, with N in between, and runs of one base."""
    generator = np.random.RandomState(SEED + 1)
    letters = ["".join(generator.choice(list("ACGT"), length)) for _ in range(4)]
    letters.append("N" * 20 + letters[0][20:])
    letters.append(letters[1][:30] + "Nnnn" + letters[1][34:])
    letters.append(letters[2][:30].lower() + letters[2][30:])
    return [*letters, "A" * length, "CG" * (length // 2) + "C" * (length % 2)]


def weights_of(shapes: Mapping[str, list[int]]) -> dict[str, NDArray[np.float32]]:
    """Draw weights; step sizes are such that states last for some twenty positions, as trained ones do."""
    learned = {key: shape for key, shape in shapes.items() if not key.endswith("complement_map")}
    weights = drawn(learned, SEED, gain=GAIN)
    return {key: value - 3 if key.endswith("dt_proj.bias") else value for key, value in weights.items()}


def main() -> None:
    """Run the authors' code and write the fixture."""
    caduceus = _upstream(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())
    recorded: dict[str, Any] = {"sequences": np.array(sequences()), "ids": _tokenized()}
    long, wide = _tokenized(LONG)[:4], _tokenized(WIDE)[:6]
    for case, given in CASES.items():
        ids = recorded["ids"]
        recorded |= _answers(case, _network(caduceus, given), ids % 7 if case == "ps_plant" else ids, READ)
    recorded |= _answers("long", _network(caduceus, CASES["ps"]), long, READ_LONG)
    recorded |= _answers("published", _network(caduceus, {}), wide, READ_WIDE)
    recorded["about"] = json.dumps(_about())
    np.savez_compressed(DATA, **recorded)


def _upstream(caduceus: Path, mamba: Path) -> ModuleType:
    """Import the authors' classes, with reference functions where they would run kernels."""
    from transformers import PreTrainedModel  # noqa: F401  # looks for the real Triton

    triton = MagicMock(__version__="3.0.0")
    triton.Config.return_value.num_warps = 1
    sys.modules |= {"triton": triton, "triton.language": MagicMock()}
    package = ModuleType("mamba_ssm")  # its own __init__ wants kernels
    package.__path__ = [str(mamba / "mamba_ssm")]
    sys.modules["mamba_ssm"] = package
    sys.path.insert(0, str(caduceus))

    from mamba_ssm.modules import mamba_simple
    from mamba_ssm.ops import selective_scan_interface as scan
    from mamba_ssm.ops.triton import layer_norm

    def rms_norm(x: Any, weight: Any, bias: Any, *, residual_in_fp32: bool, **given: Any) -> Any:
        return layer_norm.rms_norm_ref(x, weight, bias, **given)

    def norm(x: Any, weight: Any, bias: Any, *, is_rms_norm: bool, **given: Any) -> Any:
        assert is_rms_norm
        return rms_norm(x, weight, bias, **given)

    layer_norm.rms_norm_fn, layer_norm.layer_norm_fn = rms_norm, norm
    layer_norm.RMSNorm.forward = lambda self, x: layer_norm.rms_norm_ref(x, self.weight, None, eps=self.eps)
    mamba_simple.selective_scan_fn = scan.selective_scan_ref
    assert mamba_simple.causal_conv1d_fn is None

    from mamba_ssm.modules import block

    block.layer_norm_fn = norm
    import caduceus.modeling_caduceus as classes

    return classes


def _about() -> dict[str, str]:
    import torch
    import transformers

    return {
        "upstream": "github.com/kuleshov-group/caduceus at 0060a6d8079b6a040fc55d505e15972a327b70a6",
        "mamba": "github.com/state-spaces/mamba at e9594ce1c732d97440f0332fdc43170a2294dbfa",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}",
        "command": "PYTHONPATH=. python tests/parity/record_caduceus.py CADUCEUS MAMBA",
    }


def _tokenized(length: int = LENGTH) -> NDArray[np.int8]:
    """Run the authors' tokenizer, and hide some positions."""
    from caduceus.tokenization_caduceus import CaduceusTokenizer

    tokenizer = CaduceusTokenizer(model_max_length=length)
    ids = np.array([tokenizer(line, add_special_tokens=False)["input_ids"] for line in sequences(length)], np.int8)
    ids[:, [position for position in MASKED if position < length]] = tokenizer.mask_token_id
    return ids


def _network(classes: ModuleType, given: Mapping[str, Any]) -> Any:
    """Give the authors' network with drawn weights."""
    import torch

    config = json.loads(json.dumps(PUBLISHED | given))
    network = classes.CaduceusForMaskedLM(classes.CaduceusConfig(**config))
    network.tie_weights()
    shapes = {key: list(value.shape) for key, value in network.named_parameters()}
    with torch.no_grad():
        for key, value in weights_of(shapes).items():
            network.get_parameter(key).copy_(torch.from_numpy(value))
    network.given = PUBLISHED | given | {"model_type": "caduceus"}
    return network.eval()


def _answers(case: str, network: Any, ids: NDArray[Any], read: Any) -> dict[str, Any]:
    """Run one case in double precision; float32 must be what the authors' code gives as it stands."""
    import torch

    published = _saved(network)
    tokens = torch.from_numpy(ids.astype(np.int64))
    as_it_stands = torch.Tensor.float
    with torch.no_grad():
        single = network(tokens).logits.numpy()
        torch.Tensor.float = torch.Tensor.double  # the reference functions go down to 32 bits
        network = network.double()
        hidden, logits = network.caduceus(tokens, return_dict=True).last_hidden_state, network(tokens).logits.numpy()
        torch.Tensor.float = as_it_stands
    error = np.abs(single - logits).max() / np.abs(logits).max()
    print(f"{case}: float32 differs by {error:.1e} of the scale")
    assert error < 1e-5 and logits.dtype == np.float64
    return {
        f"{case}_config": json.dumps(network.given),
        f"{case}_shapes": json.dumps(published),
        f"{case}_ids": ids,
        f"{case}_logits": logits[:, read],
        f"{case}_hidden": hidden.numpy()[:2, READ_LONG],
    }


def _saved(network: Any) -> dict[str, list[int]]:
    """Give the names and shapes in a file of the authors' class, which keeps one of each that are tied."""
    from safetensors import safe_open
    from safetensors.torch import save_model

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        save_model(network, str(path))
        with safe_open(path, "numpy") as file:
            return {key: list(file.get_slice(key).get_shape()) for key in file.keys()}


if __name__ == "__main__":
    main()
