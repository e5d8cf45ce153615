"""Record what Beluga, as ExPecto's authors wrote it, answers to random weights, and its effects of a few SNVs.

    PYTHONPATH=.:tests python tests/parity/record_beluga.py EXPECTO

EXPECTO is github.com/FunctionLab/ExPecto at 1b89458. Of chromatin.py the classes and the encoding run by themselves,
and then the whole script, unchanged, on a drawn genome; a module is put in the place of pyfasta, which does not run any
more. Wanted: torch, h5py and pandas; 3 GB of memory, and 600 MB on the disk for a moment.
"""

from __future__ import annotations

import ast
import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import deepsea_cases as cases
import h5py
import numpy as np
import pandas
import torch
from deepsea_cases import BELUGA as CASE
from numpy.typing import NDArray

Array = NDArray[Any]
DATA = Path(__file__).parent / "data" / "beluga.npz"
SHIFTS = (0, -200, -400, -600, -800, 200, 400, 600, 800)

PYFASTA = """
class Fasta:
    def __init__(self, path):
        self.contigs = dict(record.split("\\n")[:2] for record in open(path).read().split(">")[1:])

    def sequence(self, span):
        return self.contigs[span["chr"]][span["start"] - 1 : span["stop"]]
"""


def authors(expecto: Path) -> dict[str, Any]:
    """Run the class and function definitions of chromatin.py, and nothing else of it."""
    tree = ast.parse((expecto / "chromatin.py").read_text())
    kept = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    found: dict[str, Any] = {"torch": torch, "nn": torch.nn, "np": np, "math": math}
    exec(compile(ast.Module(kept, []), "chromatin.py", "exec"), found)
    return found


def record_network(code: dict[str, Any], weights: dict[str, Array], rows: list[int], tracks: Array) -> list[Array]:
    """Run the network on both strands: the answers before the sigmoid in float32 and float64."""
    model = code["Beluga"]()
    model.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()}, strict=True)
    logits = model.eval().requires_grad_(False).model[:-1]
    texts = cases.sequences(CASE.length)
    batch = torch.from_numpy(code["encodeSeqs"]([texts[row] for row in rows]).astype(np.float32))[:, :, None]
    single = logits(batch).numpy()[:, tracks]
    return [single, logits.double()(batch.double()).numpy()[:, tracks]]


def record_snvs(expecto: Path, weights: dict[str, Array], tracks: Array) -> Array:
    """Run the script: (shifts, SNVs forward and then reverse, tracks) differences, alt - ref."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "resources").mkdir()
        (folder / "pyfasta.py").write_text(PYFASTA)
        (folder / "resources" / "hg19.fa").write_text(f">{cases.CONTIG}\n{cases.genome()}\n")
        torch.save(
            {key: torch.from_numpy(value) for key, value in weights.items()},
            folder / "resources" / "deepsea.beluga.pth",
        )
        lines = [f"{cases.CONTIG}\t{pos}\t.\t{ref}\t{alt}\n" for pos, ref, alt in cases.snvs()]
        (folder / "in.vcf").write_text("".join(lines))
        command = [sys.executable, str(expecto.resolve() / "chromatin.py"), "in.vcf", "--batchsize", "8"]
        environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        subprocess.run(command, cwd=folder, env=environment, check=True)
        found = []
        for shift in SHIFTS:
            with h5py.File(folder / f"in.vcf.shift_{shift}.diff.h5") as file:
                found.append(np.asarray(file["pred"])[:, tracks])
        return np.stack(found)


def main() -> None:
    """Record everything."""
    expecto = Path(sys.argv[1])
    torch.set_num_threads(1)
    code = authors(expecto)
    small = cases.embedded(CASE, cases.weights(CASE, CASE.small))
    tracks = cases.chosen(CASE.small.n_tracks, CASE.full.n_tracks)
    found = {"snv_diff": record_snvs(expecto, small, tracks)}
    found["small_float32"], found["small_float64"] = record_network(code, small, list(range(8)), tracks)
    del small
    full, tracks = cases.weights(CASE, CASE.full), cases.shown_tracks(CASE)
    found["full_float32"], found["full_float64"] = record_network(code, full, cases.SHOWN_ROWS, tracks)
    about = {
        "network": "github.com/FunctionLab/ExPecto 1b89458691e4dd86192c6ea93ad4bc02910a4df2, chromatin.py",
        "command": "PYTHONPATH=.:tests python tests/parity/record_beluga.py EXPECTO",
        "versions": {module.__name__: str(module.__version__) for module in (torch, np, pandas, h5py)},
    }
    np.savez_compressed(DATA, about=np.array(json.dumps(about)), **found)


if __name__ == "__main__":
    main()
