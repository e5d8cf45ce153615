"""Nonlinearities that give a value the same last bit wherever it stands in a tensor.

On a CPU, torch's own `sigmoid`, `softplus` and tanh-approximated `gelu` give values that fill no vector instruction,
at the end of a tensor or of a thread's share of it, to another routine, whose last bit may differ. A row's output would
then depend on its place in the batch. `exp`, `log1p` and `tanh` have one routine for all.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sigmoid(x: Tensor) -> Tensor:
    """Give 1 / (1 + exp(-x))."""
    return 1 / (1 + torch.exp(-x))


def softplus(x: Tensor) -> Tensor:
    """Give ln(1 + exp(x)), without overflow."""
    return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))


def sigmoid_gelu(x: Tensor) -> Tensor:
    """Give x * sigmoid(1.702 x)."""
    return x / (1 + torch.exp(-1.702 * x))


def tanh_gelu(x: Tensor) -> Tensor:
    """Give the approximation by tanh of the Gaussian error linear unit."""
    return 0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))  # the root of 2 / pi
