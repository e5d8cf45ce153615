"""What the files of Enformer hold: keys and shapes of the Sonnet checkpoint and of the port to PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from writers import write_tf_bundle

from varfm.models.enformer import EnformerConfig

Shape = tuple[int, ...]

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
SMALL = EnformerConfig(
    n_tracks=3, length=64, n_bins=4, stem=6, tower=(8, 12), stem_width=5, tower_width=3, n_layers=2, n_heads=2,
    key_size=4,
)  # fmt: skip
"""Eight positions of 8 bases, of which the middle four are kept."""


def bundle_shapes(config: EnformerConfig, heads: dict[str, int]) -> dict[str, Shape]:
    """Give the variables that are read, by their path from `_trunk` or `_heads`."""
    found: dict[str, Shape] = {}

    def norm(path: str, n: int) -> None:
        found.update({f"{path}/scale": (n,), f"{path}/offset": (n,)})

    def batch_norm(path: str, n: int) -> None:
        norm(path, n)
        found.update({f"{path}/moving_{name}/average": (1, 1, n) for name in ("mean", "variance")})

    def layer(path: str, *shape: int) -> None:
        found.update({f"{path}/w": shape, f"{path}/b": shape[-1:]})

    def stage_end(path: str, n: int) -> None:
        batch_norm(f"{path}/_layers/1/_module/_layers/0", n)
        layer(f"{path}/_layers/1/_module/_layers/2", 1, n, n)
        found[f"{path}/_layers/2/_logit_linear/w"] = (n, n)

    layer("_trunk/_layers/0/_layers/0", config.stem_width, 4, config.stem)
    stage_end("_trunk/_layers/0", config.stem)
    for i, (n_in, n_out) in enumerate(zip((config.stem, *config.tower), config.tower, strict=False)):
        path = f"_trunk/_layers/1/_layers/{i}"
        batch_norm(f"{path}/_layers/0/_layers/0", n_in)
        layer(f"{path}/_layers/0/_layers/2", config.tower_width, n_in, n_out)
        stage_end(path, n_out)
    n, keys = config.channels, config.n_heads * config.key_size
    for j in range(config.n_layers):
        path = f"_trunk/_layers/2/_layers/{j}/_layers"
        norm(f"{path}/0/_module/_layers/0", n)
        attention = f"{path}/0/_module/_layers/1"
        for name, shape in (("q", (n, keys)), ("k", (n, keys)), ("v", (n, n)), ("r_k", (n // config.n_heads, keys))):
            found[f"{attention}/_{name}_layer/w"] = shape
        layer(f"{attention}/_embedding_layer", n, n)
        found.update({f"{attention}/_r_{name}_bias": (1, config.n_heads, 1, config.key_size) for name in "wr"})
        norm(f"{path}/1/_module/_layers/0", n)
        layer(f"{path}/1/_module/_layers/1", n, 2 * n)
        layer(f"{path}/1/_module/_layers/4", 2 * n, n)
    batch_norm("_trunk/_layers/4/_layers/0/_layers/0", n)
    layer("_trunk/_layers/4/_layers/0/_layers/2", 1, n, 2 * n)
    for name, n_tracks in heads.items():
        layer(f"_heads/{name}/_layers/0", 2 * n, n_tracks)
    return found


def bundle(arrays: dict[str, NDArray[Any]], root: str = "module/") -> dict[str, NDArray[Any]]:
    """Add what else TensorFlow saves, and give all of it under whole keys."""
    whole = dict(arrays)
    for path, values in arrays.items():
        if path.endswith("/average"):
            whole[path.removesuffix("average") + "_hidden"] = np.zeros_like(values)
            whole[path.removesuffix("average") + "_counter"] = np.zeros((), np.int64)
    keyed = {f"{root}{path}{SUFFIX}": values for path, values in whole.items()}
    return keyed | {f"save_counter{SUFFIX}": np.ones((), np.int64)}


def port_shapes(config: EnformerConfig, heads: dict[str, int]) -> Iterator[tuple[str, Shape]]:
    """Give the canonical keys of the port."""

    def both(key: str, *shape: int) -> Iterator[tuple[str, Shape]]:
        yield f"{key}.weight", shape
        yield f"{key}.bias", shape[:1]

    def batch_norm(key: str, n: int) -> Iterator[tuple[str, Shape]]:
        yield from both(key, n)
        yield from ((f"{key}.running_mean", (n,)), (f"{key}.running_var", (n,)), (f"{key}.num_batches_tracked", ()))

    def stage_end(key: str, n: int) -> Iterator[tuple[str, Shape]]:
        yield from batch_norm(f"{key}.1.fn.0", n)
        yield from both(f"{key}.1.fn.2", n, n, 1)
        yield f"{key}.2.to_attn_logits.weight", (n, n, 1, 1)

    yield from both("stem.0", config.stem, 4, config.stem_width)
    yield from stage_end("stem", config.stem)
    for i, (n_in, n_out) in enumerate(zip((config.stem, *config.tower), config.tower, strict=False)):
        yield from batch_norm(f"conv_tower.{i}.0.0", n_in)
        yield from both(f"conv_tower.{i}.0.2", n_out, n_in, config.tower_width)
        yield from stage_end(f"conv_tower.{i}", n_out)
    n, keys = config.channels, config.n_heads * config.key_size
    for j in range(config.n_layers):
        attention = f"transformer.{j}.0.fn"
        yield from both(f"{attention}.0", n)
        yield from (
            (f"{attention}.1.rel_{name}_bias", (1, config.n_heads, 1, config.key_size)) for name in ("content", "pos")
        )
        for name, shape in (("q", (keys, n)), ("k", (keys, n)), ("v", (n, n)), ("rel_k", (keys, n // config.n_heads))):
            yield f"{attention}.1.to_{name}.weight", shape
        yield from both(f"{attention}.1.to_out", n, n)
        yield from both(f"transformer.{j}.1.fn.0", n)
        yield from both(f"transformer.{j}.1.fn.1", 2 * n, n)
        yield from both(f"transformer.{j}.1.fn.4", n, 2 * n)
    yield from batch_norm("final_pointwise.1.0", n)
    yield from both("final_pointwise.1.2", 2 * n, n, 1)
    for name, n_tracks in heads.items():
        yield from both(f"_heads.{name}.0", n_tracks, 2 * n)


def random_arrays(shapes: dict[str, Shape], seed: int = 1) -> dict[str, NDArray[Any]]:
    """Draw positive variances and all else around 0."""
    generator = np.random.default_rng(seed)
    is_positive = {key: "variance" in key or "running_var" in key for key in shapes}
    return {
        key: (generator.uniform(0.5, 1.5, shape) if is_positive[key] else generator.normal(0, 0.4, shape)).astype("f4")
        for key, shape in shapes.items()
    }


def write_folder(folder: Path, config: EnformerConfig, sizes: str) -> Path:
    """Write a folder as `--weights` takes it: both heads, a table of the tracks of one, and the sizes as JSON."""
    heads = {"human": 3, "mouse": 2} | {config.head: config.n_tracks}
    write_tf_bundle(folder / "enformer-fine-tuned-human-1", bundle(random_arrays(bundle_shapes(config, heads))))
    header = "index\tgenome\tidentifier\tfile\tclip\tscale\tsum_stat\tdescription\n"
    first, genome = (0, 0) if config.head == "human" else (5313, 1)
    rows = (f"{first + i}\t{genome}\tID{i}\tpath\t32\t2\tmean\tDNASE:cell {i}\n" for i in range(config.n_tracks))
    (folder / f"targets_{config.head}.txt").write_text(header + "".join(rows))
    (folder / "config.json").write_text(sizes)
    return folder
