"""Functions of single values, run over so few channels at a time that what they make in between stays in the cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_BLOCK_BYTES = 512 * 1024
"""Of one piece, for each thread; a few such fit the cache of a core."""

_LARGE = 8
"""Pieces from which on it is worth it."""


def by_channels(function: Callable[..., Tensor], *values: Tensor, into: Tensor | None = None) -> Tensor:
    """Run a function of single values, in pieces where tensors are large and no gradient is wanted.

    Large tensors cost more than the function does: the system has to hand out and clear their memory.

    Args:
        function: Of a slice of channels and the same piece of each value, (n, some channels, positions) -> the same
            shape. It may not depend on where else values stand.
        values: (n, channels, positions) each, the first one contiguous; others of the same shape.
        into: One of them or another tensor of their shape, that may be overwritten.
    """
    first = values[0]
    n_channels, n_positions = first.shape[1:]
    block = _BLOCK_BYTES * torch.get_num_threads() // first.element_size()
    is_large = first.device.type == "cpu" and first.numel() > _LARGE * block and first.is_contiguous()
    if not is_large or torch.is_grad_enabled():
        return function(slice(None), *values)
    found: Tensor | None = None
    for rows in _steps(len(first), block // (n_channels * n_positions)):
        for channels in _steps(n_channels, block // n_positions):
            piece = function(channels, *(value[rows, channels] for value in values))
            if found is None:
                found = piece.new_empty(first.shape) if into is None or into.dtype != piece.dtype else into
            found[rows, channels] = piece
    assert found is not None
    return found


def _steps(n: int, step: int) -> Iterator[slice]:
    for start in range(0, n, max(1, step)):
        yield slice(start, start + max(1, step))
