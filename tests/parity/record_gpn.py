"""Record what GPN's own classes answer to random weights, and what its variant script makes of a few SNVs.

    PYTHONPATH=. python tests/parity/record_gpn.py CHECKOUT

CHECKOUT is github.com/songlab-cal/gpn at 99293f8. Python wants torch, transformers, safetensors, and for the authors'
gpn/ss/run_vep.py and gpn/data.py biopython, bioframe, datasets, joblib, pandas, pyBigWig, tqdm and zarr.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from drawing import drawn
from numpy.typing import NDArray

SEED = 40
DATA = Path(__file__).parent / "data" / "gpn.npz"
LENGTH = 151
PAPER_LENGTH = 512
PAPER_POSITIONS = (0, 100, 255, 256, 511)
MASKED = (0, 60, 75, 150)
READ = slice(0, None, 5)
READ_HIDDEN = slice(0, None, 75)

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "legacy": ("ConvNet", {"hidden_size": 24, "n_layers": 8}),
    "legacy_schedule": (
        "ConvNet",
        {
            "hidden_size": 16,
            "n_layers": 7,
            "kernel_size": 7,
            "dilation_double_every": 2,
            "dilation_cycle": 5,
            "dilation_max": 6,
            "dilation_base": 3,
        },
    ),
    "convnet": ("GPN", {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 6}),
    "convnet_depthwise": (
        "GPN",
        {
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 5,
            "depthwise": True,
            "bias": True,
            "embedding": "embedding",
            "mlm_head_transform": False,
            "dilation_cycle": 3,
        },
    ),
    "bytenet_promoter": (
        "GPN",
        {
            "hidden_size": 24,
            "num_hidden_layers": 9,
            "encoder": "bytenet",
            "embedding": "embedding",
            "mlm_head_transform": False,
            "slim": True,
            "bias": False,
        },
    ),
    "bytenet_wide": (
        "GPN",
        {"hidden_size": 16, "num_hidden_layers": 4, "encoder": "bytenet", "bias": True, "rest_kernel_size": 7},
    ),
}
"""Upstream's model type, and what differs from its defaults."""


def sequences(length: int = LENGTH) -> list[str]:
    """Give the inputs: random bases, some in lower case, with N and other letters in between, and runs of one base."""
    generator = np.random.RandomState(SEED + 1)
    letters = ["".join(generator.choice(list("ACGT"), length)) for _ in range(5)]
    letters.append("N" * 40 + letters[0][40:])
    letters.append(letters[1][:70] + "NNRYnn" + letters[1][76:])
    letters.append(letters[2][:50].lower() + letters[2][50:])
    return [*letters, "A" * length, "CG" * (length // 2) + "C" * (length % 2)]


def snvs(contig: str) -> list[tuple[int, str, str]]:
    """Give places from 1, and bases; the windows of the first and the last leave the contig."""
    found = []
    for pos in (20, 130, 131, 200, 277, 390):
        ref = contig[pos - 1].upper()
        found.append((pos, ref, "ACGT"[("ACGT".index(ref) + 1 + pos % 3) % 4]))
    return found


def main() -> None:
    """Run the authors' code and write the fixture."""
    checkout = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(checkout))
    recorded: dict[str, Any] = {"sequences": np.array(sequences())}
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        recorded |= _tokenized(checkout)
        for case in CASES:
            recorded |= _answers(case, recorded["ids"])
        recorded |= _scores(recorded["contig"])
        recorded |= _paper()
    recorded["about"] = json.dumps(_about())
    np.savez_compressed(DATA, **recorded)


def _about() -> dict[str, str]:
    import tokenizers
    import torch
    import transformers

    return {
        "upstream": "github.com/songlab-cal/gpn at 99293f823a7f01dd5f9a05a7e2d7db701cda9228",
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"tokenizers {tokenizers.__version__}",
        "command": "PYTHONPATH=. python tests/parity/record_gpn.py CHECKOUT",
    }


def _tokenized(checkout: Path) -> dict[str, Any]:
    """Let the authors' script make the tokenizer, and run it with and without masks."""
    from transformers import AutoTokenizer

    runpy.run_path(str(checkout / "gpn" / "ss" / "train_tokenizer_ss.py"), run_name="__main__")
    tokenizer = AutoTokenizer.from_pretrained("tokenizer_ss")
    ids = []
    for line in sequences():
        characters = list(line)
        for position in MASKED:
            characters[position] = tokenizer.mask_token
        ids.append(tokenizer("".join(characters))["input_ids"])
    return {
        "tokenizer": Path("tokenizer_ss", "tokenizer.json").read_text(),
        "unmasked_ids": np.array([tokenizer(line)["input_ids"] for line in sequences()], np.int8),
        "ids": np.array(ids, np.int8),
        "contig": "".join(np.random.RandomState(SEED + 2).choice(list("ACGTacgt"), 400)),
    }


def _network(model_type: str, given: dict[str, Any], seed: int) -> Any:
    """Give the authors' network with drawn weights."""
    import torch
    from gpn.legacy import ConvNetConfig, ConvNetForMaskedLM
    from gpn.model import GPNConfig, GPNForMaskedLM

    if model_type == "ConvNet":
        network = ConvNetForMaskedLM(ConvNetConfig(**given))
    else:
        network = GPNForMaskedLM(GPNConfig(**given))
    shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    weights = drawn(shapes, seed)
    network.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=True)
    return network.eval()


def _inputs(network: Any, ids: NDArray[Any]) -> dict[str, Any]:
    """One-hot layers make float32 of ids, so in double precision they are given as probabilities."""
    import torch

    tokens = torch.from_numpy(ids.astype(np.int64))
    if getattr(network.config, "embedding", "one_hot") == "embedding":
        return {"input_ids": tokens}
    return {"input_probs": torch.nn.functional.one_hot(tokens, network.config.vocab_size).double()}


def _answers(case: str, ids: NDArray[Any]) -> dict[str, Any]:
    """Run one case in double precision; float32 must be what the authors' code gives for ids."""
    import torch

    network = _network(*CASES[case], SEED)
    shapes = {key: list(value.shape) for key, value in network.state_dict().items()}
    network.save_pretrained(case)
    with torch.no_grad():
        single = network(input_ids=torch.from_numpy(ids.astype(np.int64))).logits.numpy()
        network = network.double()
        inputs = _inputs(network, ids)
        hidden = network.model(**inputs).last_hidden_state.numpy()
        logits = network(**inputs).logits.numpy()
    error = np.abs(single - logits).max() / np.abs(logits).max()
    print(f"{case}: float32 differs by {error:.1e} of the scale")
    assert error < 1e-5
    return {
        f"{case}_config": Path(case, "config.json").read_text(),
        f"{case}_shapes": json.dumps(shapes),
        f"{case}_logits": logits[:, READ],
        f"{case}_hidden": hidden[:, READ_HIDDEN],
    }


def _scores(contig: str) -> dict[str, Any]:
    """Run the authors' variant script on SNVs, in float32 and without compiling."""
    import torch
    from datasets import Dataset
    from gpn.data import Genome
    from gpn.ss import run_vep
    from transformers import AutoTokenizer

    class Trainer:
        def __init__(self, model: Any, args: Any) -> None:
            self.model = model.eval()

        def predict(self, test_dataset: Any) -> Any:
            batch = {key: torch.tensor(values) for key, values in test_dataset[:].items()}
            with torch.no_grad():
                return type("Predicted", (), {"predictions": self.model(**batch).numpy()})

    run_vep.Trainer, run_vep.TrainingArguments = Trainer, lambda **_: None
    Path("genome.fa").write_text(f">chr1\n{contig}\n")
    scores = {}
    for case in ("legacy", "bytenet_promoter"):
        for window in (64, 101):
            rows = [{"chrom": "chr1", "pos": pos, "ref": ref, "alt": alt} for pos, ref, alt in snvs(contig)]
            tokenizer, model = AutoTokenizer.from_pretrained("tokenizer_ss"), run_vep.MLMforVEPModel(case)
            found = run_vep.run_vep(Dataset.from_list(rows), Genome("genome.fa"), window, tokenizer, model)
            scores[f"{case}_llr_{window}"] = found
    return scores


def _paper() -> dict[str, Any]:
    """Run the network of the paper in its full size."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("tokenizer_ss")
    ids = np.array([tokenizer(line)["input_ids"] for line in sequences(PAPER_LENGTH)[:2]])
    ids[:, 256] = tokenizer.mask_token_id
    network = _network("ConvNet", {}, SEED)
    with torch.no_grad():
        logits = network(input_ids=torch.from_numpy(ids)).logits.numpy()
    return {"paper_logits": logits[:, list(PAPER_POSITIONS)]}


if __name__ == "__main__":
    main()
