"""Random weights that any framework can draw alike: numpy's RandomState, keys in sorted order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # upstreams of 2018 run under Python 3.7
    from collections.abc import Mapping, Sequence
    from typing import Literal

    from numpy.typing import NDArray

_VARIANCES = ("running_var", "moving_variance", "moving_variance/average")
_OFFSETS = ("running_mean", "moving_mean", "moving_mean/average", "bias", "beta", "offset", "/b")


def drawn(
    shapes: Mapping[str, Sequence[int]], seed: int, layout: Literal["torch", "tf"] = "torch", gain: float = 2.0
) -> dict[str, NDArray[np.float32]]:
    """Draw one array per key.

    Variances are uniform in 0.5 to 1.5, offsets normal with a deviation of 0.1, other one-dimensional arrays (the
    scales of norms) uniform in 0.5 to 1.5, and all others normal with variance `gain` / fan-in, so that values neither
    vanish nor grow through the layers.

    Args:
        shapes: Upstream's keys and shapes.
        seed: Of the one generator that draws them all.
        layout: Where the outputs of a kernel stand: first (`torch`) or last (`tf`).
        gain: 2 keeps the variance through rectified layers.
    """
    generator = np.random.RandomState(seed)
    weights = {}
    for key in sorted(shapes):
        shape, name = tuple(shapes[key]), key.split(":")[0]
        if name.endswith(_VARIANCES):
            values = generator.uniform(0.5, 1.5, shape)
        elif name.endswith(_OFFSETS):
            values = generator.normal(0, 0.1, shape)
        elif len(shape) == 1:
            values = generator.uniform(0.5, 1.5, shape)
        else:
            fan_in = np.prod(shape[1:] if layout == "torch" else shape[:-1])
            values = generator.normal(0, np.sqrt(gain / fan_in), shape)
        weights[key] = np.asarray(values, np.float32)
    return weights
