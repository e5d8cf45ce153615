"""Record what the authors' own scripts make of drawn effects, drawn linear models and a drawn genome.

Run with numpy 1.26.4, pandas 2.1.4, h5py, six and xgboost 1.7.6 (releases 2 and later cannot read the models' format):

    PYTHONPATH=.:tests python tests/parity/record_expecto.py FOLDER

where FOLDER is a clone of github.com/FunctionLab/ExPecto. Nothing of the clone is kept but the numbers that its code
gives. `predict.py` runs unchanged, but that `pandas.match`, which is gone, is put back; of `chromatin.py` the two
functions that cut windows run, on a genome in memory.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from writers import write_xgboost_linear

SEED = 20180716
N_FEATURES, N_BLOCKS, N_TISSUES = 2002, 10, 3
SHIFTS = (0, -200, -400, -600, -800, 200, 400, 600, 800)
SAMPLED = slice(None, None, 143)
"""Features of which the inputs of the linear models are kept."""

DATA = Path(__file__).parent / "data" / "expecto.json"

# From the TSS in the direction of the genome: at it, at the edges of a step, where a shifted centre meets the TSS, far.
DISTANCES = (0, 1, -1, 199, 200, -200, 400, -800, 801, -999, 1097, -1506, 5000, 12_345, -19_999, 20_000)
STRANDS = "+-" * 8
ALLELES = ((3_000, "A", "C"), (3_500, "G", "T"), (4_000, "T", "G"))
"""SNVs on the drawn genome: 0-based start, REF, ALT."""


class Linear(NamedTuple):
    """One linear model in the old format: (20,030) float32 weights, bias and base score."""

    weights: NDArray[np.float32]
    bias: float
    base_score: float


def drawn_linear() -> list[Linear]:
    """Draw the models; the first slot of each block holds a weight that nothing must read."""
    generator = np.random.RandomState(SEED)
    shape = (N_BLOCKS * (N_FEATURES + 1),)
    return [Linear(generator.normal(0, 0.05, shape).astype(np.float32), 0.25 * n, 2.0) for n in range(N_TISSUES)]


def drawn_effects() -> NDArray[np.float32]:
    """Draw alt - ref: (shifts, variants forward and then reverse, features).

    Multiples of 2^-16 below 1, so that the mean of two strands is exact in float32, in which upstream takes it.
    """
    generator = np.random.RandomState(SEED + 1)
    values = generator.normal(0, 3000, (len(SHIFTS), 2 * len(DISTANCES), N_FEATURES))
    return (np.clip(np.round(values), -65_535, 65_535) / 2**16).astype(np.float32)


def drawn_genome() -> str:
    """Draw a contig, the REF of every allele in place."""
    bases = np.random.RandomState(SEED + 2).choice(list("ACGTacgt"), 7_000)
    for start, ref, _ in ALLELES:
        bases[start] = ref
    return "".join(bases)


def window_digest(bases: str) -> str:
    """Give a short digest of a window, in which case does not count."""
    return hashlib.sha256(bases.upper().encode()).hexdigest()[:16]


def write_models(folder: Path) -> Path:
    """Write the drawn models where the authors keep theirs, and their list."""
    (folder / "models").mkdir()
    (folder / "resources").mkdir()
    lines = ["ModelName\tTissue"]
    for number, linear in enumerate(drawn_linear()):
        write_xgboost_linear(folder / "models" / f"tissue_{number}.save", *linear)
        lines.append(f"./models/tissue_{number}.save\tTissue {number} | drawn")
    path = folder / "resources" / "modellist"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_inputs(folder: Path) -> None:
    """Write what `predict.py` reads: variants, their genes and their effects."""
    import h5py

    positions = [10_000 + 100 * number for number in range(len(DISTANCES))]
    (folder / "in.vcf").write_text("".join(f"chr1\t{position}\t-\tA\tC\n" for position in positions))
    genes = [
        f"1\t{position - 1}\t{position}\tA\tC\t1\t{position - d - 1}\t{position - d}\t{strand}\tGENE\t{-d}\n"
        for position, d, strand in zip(positions, DISTANCES, STRANDS, strict=True)
    ]
    (folder / "in.genes").write_text("".join(genes))
    for shift, effects in zip(SHIFTS, drawn_effects(), strict=True):
        with h5py.File(folder / f"in.shift_{shift}.h5", "w") as file:
            file.create_dataset("pred", data=effects)


def run_predict(upstream: Path, folder: Path) -> dict[str, Any]:
    """Run `predict.py` on the written files and give its namespace."""
    import os

    import pandas

    pandas.match = lambda wanted, known: pandas.Index(known).get_indexer(wanted)  # type: ignore[attr-defined]
    arguments = {
        "--coorFile": "in.vcf",
        "--geneFile": "in.genes",
        "--snpEffectFilePattern": "in.shift_SHIFT.h5",
        "--modelList": "resources/modellist",
        "--output": "out.csv",
        "--threads": "1",
    }
    os.chdir(folder)
    sys.argv = ["predict.py", *(word for pair in arguments.items() for word in pair)]
    source = (upstream / "predict.py").read_text()
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, "predict.py", "exec"), namespace)
    assert namespace["old_format"]
    return namespace


class ExactModel:
    """A linear model in float64 in place of xgboost's float32; keeps what it was last given."""

    def __init__(self, linear: Linear) -> None:
        self.weights = linear.weights.astype(np.float64)
        self.seen = np.empty(0)

    def predict(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give (n,) values for (n, 20,030) inputs."""
        if inputs.any():
            self.seen = inputs
        return inputs @ self.weights


class ExactXgboost:
    """Hands the inputs to the models as they are."""

    @staticmethod
    def DMatrix(inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give the inputs."""
        return inputs


def exact_effects(namespace: dict[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run upstream's `compute_effects` in float64: predictions, and the inputs of the linear models without slots."""
    namespace["xgb"] = ExactXgboost
    models = [ExactModel(linear) for linear in drawn_linear()]
    found = namespace["compute_effects"](
        namespace["snpEffects"], namespace["dist"], namespace["strand"], models, old_format=True
    )
    inputs = models[0].seen.reshape(len(DISTANCES), N_BLOCKS, N_FEATURES + 1)
    assert not inputs[:, :, 0].any()
    return found, inputs[:, :, 1:]


class MemoryGenome:
    """Gives bases of the drawn genome by 1-based places, as pyfasta does."""

    def __init__(self, bases: str) -> None:
        self.bases = bases

    def sequence(self, place: dict[str, Any]) -> str:
        """Give both ends included."""
        return self.bases[place["start"] - 1 : place["stop"]]


def window_digests(upstream: Path) -> list[list[str]]:
    """Cut windows with upstream's functions: for each allele, ref and alt of each shift."""
    tree = ast.parse((upstream / "chromatin.py").read_text())
    wanted = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name in ("encodeSeqs", "fetchSeqs")
    ]
    namespace: dict[str, Any] = {"np": np, "math": math, "genome": MemoryGenome(drawn_genome())}
    exec(compile(ast.Module(wanted, []), "chromatin.py", "exec"), namespace)
    found = []
    for start, ref, alt in ALLELES:
        digests = []
        for shift in SHIFTS:
            *both, is_right = namespace["fetchSeqs"]("chr1", start + 1, ref, alt, shift=shift)
            assert is_right
            encoded = namespace["encodeSeqs"](both)[:2]  # the other two are their reverse complements
            assert (encoded.sum(1) == 1).all()
            digests += [window_digest("".join("AGCT"[code] for code in window.argmax(0))) for window in encoded]
        found.append(digests)
    return found


def main() -> None:
    """Record everything."""
    import h5py
    import pandas
    import xgboost

    upstream = Path(sys.argv[1]).resolve()
    commit = subprocess.run(
        ["git", "-C", str(upstream), "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    with tempfile.TemporaryDirectory() as name:
        write_models(Path(name))
        write_inputs(Path(name))
        namespace = run_predict(upstream, Path(name))
    predictions = namespace["snpExpEffects"]
    exact, inputs = exact_effects(namespace)
    recorded = {
        "upstream": "github.com/FunctionLab/ExPecto",
        "commit": commit,
        "command": "PYTHONPATH=.:tests python tests/parity/record_expecto.py FOLDER",
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "pandas": pandas.__version__,
            "h5py": h5py.__version__,
            "xgboost": xgboost.__version__,
        },
        "predictions_xgboost": predictions.tolist(),
        "predictions_float64": exact.tolist(),
        "inputs": inputs[:, :, SAMPLED].tolist(),
        "windows": window_digests(upstream),
    }
    DATA.write_text(json.dumps(recorded, indent=None, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
