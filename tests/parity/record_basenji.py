"""Record what the authors' own Basenji of 2018 answers, by TensorFlow 1, to random weights and to a few SNVs.

    python tests/parity/record_basenji.py 0.1 CHECKOUT
    python tests/parity/record_basenji.py tf1 CHECKOUT

CHECKOUT is github.com/calico/basenji at tag 0.1 (344e02a) or at the end of branch tf1 (2668aee), unchanged. Wants
Python 3.7, tensorflow 1.15.5, numpy<1.19, protobuf<3.21, gast 0.2.2 and what the authors import: scipy, matplotlib,
seaborn, scikit-learn, pandas, h5py, pysam, joblib, pyBigWig. Keeps the checkpoint that TensorFlow's Saver writes of
either graph, and of branch tf1 the scores of the functions of bin/basenji_sad.py. The script itself would round
predictions to float16 before it compares them, as that of tag 0.1 does.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from basenji_inputs import contig, snvs, windows
from drawing import drawn

SEED = 18
DATA = Path(__file__).parent / "data"
COMMITS = {"0.1": "344e02ac8c29499c55073dbf3038201eeb34f2c3", "tf1": "2668aee81e07484541008eccec5d42570ac46fd7"}
NAMES = {"0.1": "basenji_v01", "tf1": "basenji_tf1"}
SIZES = {
    "length": 8192,
    "n_tracks": 5,
    "channels": (10, 9, 8, 8, 8, 9, 4, 4, 4, 4, 12),
    "widths": (22, 1, 6, 6, 6, 3, 3, 3, 3, 3, 1),
    "dilations": (1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 1),
    "pools": (1, 2, 4, 4, 4, 1, 1, 1, 1, 1, 1),
    "dense": (0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 0),
    "crop_bins": 4,
}
STATS = ("SAD", "SAR", "geoSAD")


def job() -> dict:
    """Give the authors' parameters of the small network; lengths go under the names of both versions."""
    return {
        "batch_size": 2,
        "batch_length": SIZES["length"],
        "seq_length": SIZES["length"],
        "batch_buffer": SIZES["crop_bins"] * 128,
        "num_targets": SIZES["n_tracks"],
        "target_pool": 128,
        "link": "exp_linear",
        "loss": "poisson",
        "cnn_filters": list(SIZES["channels"]),
        "cnn_filter_sizes": list(SIZES["widths"]),
        "cnn_dilation": list(SIZES["dilations"]),
        "cnn_pool": list(SIZES["pools"]),
        "cnn_dense": list(SIZES["dense"]),
        "cnn_dropout": [0.05] * len(SIZES["channels"]),
    }


def fill(session) -> dict:
    """Draw the weights of the graph's variables; the optimiser's keep what they start with."""
    import tensorflow as tf

    session.run(tf.global_variables_initializer())
    variables = {v.op.name: v for v in tf.global_variables()}
    kept = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")
    shapes = {name: v.shape.as_list() for name, v in variables.items() if name.split("/")[-1] in kept}
    for name, values in drawn(shapes, SEED, "tf").items():
        variables[name].load(values, session)
    return {name: v.shape.as_list() for name, v in variables.items()}


def answers_v01(session, inputs):
    """Give (strands, windows, bins, tracks) by tag 0.1, the bins of the reverse strand turned back by it."""
    import basenji.seqnn

    model = basenji.seqnn.SeqNN()
    model.build(job())
    shapes = fill(session)
    feed = model.set_mode("test")

    def predict(forward):
        batches = [model._predict_ensemble(session, feed, inputs[i : i + 2], [forward], [0], 1)[0] for i in (0, 2, 4)]
        return np.concatenate(batches)

    return model, shapes, np.stack([predict(True), predict(False)])


def answers_tf1(session, inputs):
    """Give (strands, windows, bins, tracks) by the code of branch tf1, the bins of the reverse strand turned back."""
    from basenji import seqnn

    model = seqnn.SeqNN()
    model.build_feed_sad(job(), ensemble_rc=True)
    shapes = fill(session)
    return model, shapes, session.run(model.preds_ensemble, {model.inputs_ph: inputs, model.is_training: False})


def variant_scores(session, model, checkout: Path, folder: Path) -> dict:
    """Score the SNVs by the functions of the authors' basenji_sad.py, on the forward strand and on both."""
    sys.path.insert(0, str(checkout / "bin"))
    os.environ["BASENJIDIR"] = str(folder)
    import basenji_sad
    import pysam

    fasta, vcf = folder / "c.fa", folder / "s.vcf"
    fasta.write_text(f">chr1\n{contig()}\n")
    rows = [f"chr1\t{pos}\ts{pos}\t{ref}\t{alt}\n" for pos, ref, alt in snvs()]
    vcf.write_text("##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n" + "".join(rows))
    genome = pysam.Fastafile(str(fasta))
    changes = basenji_sad.bvcf.vcf_snps(str(vcf))
    pairs = np.stack([p for snp in changes for p in basenji_sad.bvcf.snp_seq1(snp, SIZES["length"], genome)])
    feed = {model.inputs_ph: pairs, model.is_training: False}
    strands, means = session.run([model.preds_ensemble, model.preds_eval], feed)
    scores = {}
    for name, predictions in (("forward", strands[0]), ("both", means)):
        out = {stat: np.zeros((len(changes), SIZES["n_tracks"])) for stat in STATS}
        basenji_sad.summarize_write(predictions, out, 0, STATS, 1)
        scores.update({f"{stat}_{name}": values for stat, values in out.items()})
    return scores


def main() -> None:
    """Write the checkpoint and the answers of one version."""
    version, checkout = sys.argv[1], Path(sys.argv[2]).resolve()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    sys.path.insert(0, str(checkout))
    import tensorflow as tf
    from basenji.dna_io import dna_1hot

    inputs = np.stack([dna_1hot(window) for window in windows(SIZES["length"])]).astype("float32")
    arrays = {}
    with tf.Session() as session, tempfile.TemporaryDirectory() as folder:
        model, shapes, arrays["answers"] = (answers_v01 if version == "0.1" else answers_tf1)(session, inputs)
        tf.train.Saver().save(session, str(DATA / (NAMES[version] + ".tf")), write_meta_graph=False)
        if version == "tf1":
            arrays.update(variant_scores(session, model, checkout, Path(folder)))
    (DATA / "checkpoint").unlink()
    about = {
        "repository": "github.com/calico/basenji",
        "commit": COMMITS[version],
        "command": f"python tests/parity/record_basenji.py {version} CHECKOUT",
        "versions": {"python": sys.version.split()[0], "tensorflow": tf.__version__, "numpy": np.__version__},
        "shapes": shapes,
    }
    np.savez_compressed(str(DATA / (NAMES[version] + ".npz")), about=json.dumps(about), **arrays)


if __name__ == "__main__":
    main()
