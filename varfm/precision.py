"""Half precision: a network in bfloat16, and how far differences between alleles are off because of it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from varfm.errors import DeviceError

BOUND = 0.1
"""Largest error of differences at which a run in mixed precision goes on, as a part of their size."""

KEPT = "stays_in_float32"
"""The mark of a module that `in_bfloat16` leaves as it is: an attribute of this name."""

Net = TypeVar("Net", bound=nn.Module)


class Effect(NamedTuple):
    """What a change does to a network's answer, alt - ref, in two ways.

    Attributes:
        found: In the precision of the run, any shape.
        exact: In float32, the same shape.
    """

    found: Tensor
    exact: Tensor


def in_bfloat16(network: Net) -> Net:
    """Copy a network with its parameters and buffers in bfloat16, except whole numbers and marked modules."""
    kept = {id(value) for module in network.modules() if hasattr(module, KEPT) for value in _tensors(module)}
    halved = [value for value in _tensors(network) if value.is_floating_point() and id(value) not in kept]
    # What is in the memo is taken for its copy: there is no second one in float32.
    return copy.deepcopy(network, {id(value): _halved(value) for value in halved})


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


def _halved(value: Tensor) -> Tensor:
    halved = value.detach().to(torch.bfloat16)
    return nn.Parameter(halved, requires_grad=False) if isinstance(value, nn.Parameter) else halved


def widened(value: Tensor) -> Tensor:
    """Give bfloat16 as float32, and everything else as it is."""
    return value.float() if value.dtype is torch.bfloat16 else value


def relative_error(effects: Iterable[Effect]) -> float | None:
    """Give the root mean square of the error of differences over that of the differences, all windows together.

    Returns:
        None where float32 sees no difference, or has no answer. Infinity where only the other way has none.
    """
    error = size = 0.0
    for found, exact in effects:
        if bool(exact.isfinite().all()):
            error += float((found.double() - exact.double()).square().sum())
            size += float(exact.double().square().sum())
    if size == 0.0:
        return None
    return (error / size) ** 0.5 if error < torch.inf else torch.inf


def check(model: str, error: float) -> None:
    """Refuse to go on where differences are too far off.

    Raises:
        DeviceError: If the error is not within `BOUND`.
    """
    if not error <= BOUND:
        raise DeviceError(
            f"{model}: with --precision mixed, differences between alleles are off by {error:.1%} (relative rms over "
            f"the first batch, against float32); at most {BOUND:.0%} is allowed. Use --precision float32."
        )
