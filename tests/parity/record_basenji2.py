"""Record what the authors' own Basenji2 answers, by Keras, to random weights and to a few SNVs.

    python tests/parity/record_basenji2.py 0.5 CHECKOUT
    python tests/parity/record_basenji2.py master CHECKOUT

CHECKOUT is github.com/calico/basenji at tag 0.5 (7c6aa70), whose GELU is x * sigmoid(1.702 x), or at the last commit
(74b8671), whose GELU is the approximation by tanh; unchanged. Wants tensorflow-cpu 2.15.1, numpy<2, h5py, pandas,
pysam, intervaltree, natsort, tqdm, and the last commit pybedtools and scikit-learn. Keeps the file that Keras saves,
packed, and the scores of bin/basenji_sad.py. The network has the depth of manuscripts/cross2020/params_human.json, with
few channels.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from basenji_inputs import contig, snvs, windows
from drawing import drawn

SEED = 20
GAIN = 1.5
DATA = Path(__file__).parent / "data"
COMMITS = {"0.5": "7c6aa70dad95f1877e24d961d9aa3574d7a816ec", "master": "74b867105a235a3e0eb663022cee2fbf430deaf0"}
NAMES = {"0.5": "basenji2_v05", "master": "basenji2_master"}
SIZES: dict[str, Any] = {
    "length": 16_384,
    "n_tracks": 4,
    "stem_channels": 6,
    "tower_channels": (7, 8, 10, 11, 13, 16),
    "residual_channels": 8,
    "crop_bins": 8,
    "head_channels": 12,
}
STATS = {"0.5": ("SAD", "SADR", "SAR"), "master": ("D1", "D2")}


def params(checkout: Path) -> dict[str, Any]:
    """Give the authors' parameters of the human network with the small sizes put in."""
    found: dict[str, Any] = json.loads((checkout / "manuscripts/cross2020/params_human.json").read_text())
    model = found["model"]
    model.update(seq_length=SIZES["length"], target_length=SIZES["length"] // 128)
    stem, tower, residual, crop, head = model["trunk"]
    stem["filters"], head["filters"] = SIZES["stem_channels"], SIZES["head_channels"]
    tower["filters_init"] = SIZES["tower_channels"][0]
    residual["filters"], crop["cropping"] = SIZES["residual_channels"], SIZES["crop_bins"]
    model["head_human"]["units"] = SIZES["n_tracks"]
    return found


def variant_scores(version: str, checkout: Path, weights: Path, options: list[str]) -> dict[str, Any]:
    """Run the authors' basenji_sad.py on the SNVs."""
    import h5py

    folder = weights.parent
    fasta, vcf, settings, out = (
        folder / "c.fa",
        folder / "s.vcf",
        folder / "params.json",
        folder / "-".join(["o", *options]),
    )
    fasta.write_text(f">chr1\n{contig()}\n")
    rows = [f"chr1\t{pos}\ts{pos}\t{ref}\t{alt}\n" for pos, ref, alt in snvs()]
    vcf.write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n" + "".join(rows))
    settings.write_text(json.dumps(params(checkout)))
    command = [sys.executable, str(checkout / "bin/basenji_sad.py"), "-f", str(fasta), "-o", str(out), *options]
    command += ["--stats", ",".join(STATS[version]), str(settings), str(weights), str(vcf)]
    environment = dict(os.environ, BASENJIDIR=str(folder), PYTHONPATH=str(checkout))
    subprocess.run(command, check=True, env=environment)
    with h5py.File(out / "sad.h5") as file:
        return {stat: file[stat][:] for stat in STATS[version]}


def main() -> None:
    """Write the Keras file and the answers of one version."""
    version, checkout = sys.argv[1], Path(sys.argv[2]).resolve()
    sys.path.insert(0, str(checkout))
    import tensorflow as tf
    from basenji.dna_io import dna_1hot
    from basenji.seqnn import SeqNN

    model = SeqNN(params(checkout)["model"])
    weights = drawn({v.name: v.shape for v in model.model.weights}, SEED, "tf", GAIN)
    model.model.set_weights([weights[v.name] for v in model.model.weights])
    inputs = np.stack([dna_1hot(window, n_uniform=True) for window in windows(SIZES["length"])]).astype("float32")
    turned = inputs[:, ::-1, ::-1]
    answers = np.stack([model.predict(inputs), model.predict(turned)[:, ::-1]])
    about = {
        "repository": "github.com/calico/basenji",
        "commit": COMMITS[version],
        "command": f"python tests/parity/record_basenji2.py {version} CHECKOUT",
        "versions": {"python": sys.version.split()[0], "tensorflow": tf.__version__, "numpy": np.__version__},
        "shapes": {v.name: v.shape.as_list() for v in model.model.weights},
    }
    arrays = {"about": json.dumps(about), "answers": answers}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save(str(folder / "model.h5"))
        (DATA / f"{NAMES[version]}.h5.gz").write_bytes(gzip.compress((folder / "model.h5").read_bytes(), 9, mtime=0))
        for strands, options in (("forward", []), ("both", ["--rc"])):
            scores = variant_scores(version, checkout, folder / "model.h5", options)
            arrays |= {f"{stat}_{strands}": values for stat, values in scores.items()}
    np.savez_compressed(DATA / f"{NAMES[version]}.npz", **arrays)


if __name__ == "__main__":
    main()
