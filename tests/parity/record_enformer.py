"""Record what the authors' Enformer answers with drawn weights.

    PYTHONPATH=tests/parity python tests/parity/record_enformer.py UPSTREAM [--full]

UPSTREAM is a checkout of github.com/google-deepmind/deepmind-research at the commit below. Needs tensorflow-cpu 2.12.1,
dm-sonnet 2.0.0 (the version that upstream names) and numpy 1.23.5. Writes tests/parity/data/enformer.npz, with --full
enformer_full.npz.

Upstream's code runs as it is, but for two things. `collections.Sequence`, which Sonnet 2.0.0 asks for and Python 3.10
dropped, is put back. For short windows the constant TARGET_LENGTH, the number of bins kept, is set before the network
is built; with --full it keeps its value and the window its 196,608 bases.
"""

from __future__ import annotations

import argparse
import collections
import collections.abc
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from drawing import drawn
from enformer_cases import FULL, SEED, SHORT

collections.Sequence = collections.abc.Sequence

import sonnet  # noqa: E402
import tensorflow as tf  # noqa: E402

DATA = Path(__file__).parent / "data"
COMMIT = "f5de0ede8430809180254ee957abf36ed62579ef"
SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def main() -> None:
    """Build, fill, run, record."""
    parser = argparse.ArgumentParser()
    parser.add_argument("upstream", type=Path)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    sys.path.insert(0, str(options.upstream / "enformer"))
    import attention_module
    import enformer

    case = FULL if options.full else SHORT
    if case.n_bins != enformer.TARGET_LENGTH:
        enformer.TARGET_LENGTH = case.n_bins
    model = enformer.Enformer(case.channels, case.n_layers, case.n_heads)
    inputs = np.stack([enformer.one_hot_encode(bases.upper()) for bases in case.sequences()])
    model(inputs[:1], is_training=False)  # Sonnet makes its variables in the first call
    keys = filled(model)
    outputs = model(inputs, is_training=False)
    features = attention_module.positional_features_all(
        tf.range(-case.n_tokens + 1, case.n_tokens, dtype=tf.float32)[tf.newaxis],
        case.channels // case.n_heads,
        case.n_tokens,
        feature_functions=[f"positional_features_{name}" for name in ("exponential", "central_mask", "gamma")],
    )[0].numpy()
    n_basis = case.channels // case.n_heads // 6
    published = attention_module.positional_features_gamma(tf.range(0, 1536, dtype=tf.float32)[tf.newaxis], 32, 1536)[
        0
    ].numpy()
    path = DATA / f"enformer{'_full' if options.full else ''}.npz"
    np.savez_compressed(
        path,
        source=json.dumps(source(options.upstream)),
        keys=np.array(sorted(keys)),
        shapes=json.dumps([keys[key] for key in sorted(keys)]),
        human=outputs["human"].numpy()[:, :, case.tracks(5313)],
        mouse=outputs["mouse"].numpy()[:, :, case.tracks(1643)],
        gamma=features[case.n_tokens - 1 :, 2 * n_basis : 3 * n_basis],
        published_gamma=published[::24],
    )
    print(path, path.stat().st_size)


def filled(model: tf.Module) -> dict[str, list[int]]:
    """Give every variable drawn values; return keys and shapes of the checkpoint that TensorFlow itself saves."""
    with tempfile.TemporaryDirectory() as folder:
        prefix = tf.train.Checkpoint(module=model).save(f"{folder}/enformer")
        keys = {key: shape for key, shape in tf.train.list_variables(prefix) if key.endswith(SUFFIX)}
        reader = tf.train.load_checkpoint(prefix)
        dtypes = reader.get_variable_to_dtype_map()
        floats = {inner(key): shape for key, shape in keys.items() if dtypes[key] == tf.float32}
        weights = drawn({key: shape for key, shape in floats.items() if not key.endswith("_hidden")}, SEED, "tf")
        assign(model, weights)
        saved = tf.train.Checkpoint(module=model).save(f"{folder}/drawn")
        reader = tf.train.load_checkpoint(saved)
        for key, values in weights.items():
            assert np.array_equal(reader.get_tensor(f"module/{key}{SUFFIX}"), values), key
    return keys


def inner(key: str) -> str:
    """Give the path from `_trunk` or `_heads` on."""
    return key.removeprefix("module/").removesuffix(SUFFIX)


def assign(model: tf.Module, weights: dict[str, np.ndarray]) -> None:
    """Put values into the variables at their object paths."""
    for path, values in weights.items():
        place: object = model
        for part in path.split("/"):
            if isinstance(place, list | tuple | collections.abc.Sequence):
                place = place[int(part)]
            elif isinstance(place, collections.abc.Mapping):
                place = place[part]
            else:
                place = getattr(place, part)
        place.assign(values)


def source(upstream: Path) -> dict[str, str]:
    """Say what was run."""
    files = [upstream / "enformer" / name for name in ("enformer.py", "attention_module.py")]
    return {
        "repository": "github.com/google-deepmind/deepmind-research",
        "commit": COMMIT,
        **{f"sha256 of {file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files},
        "command": " ".join(("record_enformer.py", "UPSTREAM", *sys.argv[2:])),
        "tensorflow": tf.__version__,
        "sonnet": sonnet.__version__,
        "numpy": np.__version__,
    }


if __name__ == "__main__":
    main()
