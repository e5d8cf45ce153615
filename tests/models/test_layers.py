"""Nonlinearities: the numbers of torch's own, and the same bits wherever a value stands."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from varfm.models.layers import sigmoid, sigmoid_gelu, softplus, tanh_gelu

OURS_AND_TORCHS: list[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = [
    (sigmoid, torch.sigmoid),
    (softplus, functional.softplus),
    (sigmoid_gelu, lambda x: x * torch.sigmoid(1.702 * x)),
    (tanh_gelu, lambda x: functional.gelu(x, approximate="tanh")),
]
NAMES = ["sigmoid", "softplus", "sigmoid_gelu", "tanh_gelu"]


@pytest.mark.parametrize(("ours", "torchs"), OURS_AND_TORCHS, ids=NAMES)
def test_values_are_those_of_torch(ours: Callable[[Tensor], Tensor], torchs: Callable[[Tensor], Tensor]) -> None:
    x = torch.cat([torch.linspace(-15, 15, 3001), torch.tensor([-200.0, -90.0, 90.0, 200.0])])
    torch.testing.assert_close(ours(x), torchs(x), rtol=1e-6, atol=2e-7)
    torch.testing.assert_close(ours(x.double()), torchs(x.double()), rtol=1e-8, atol=3e-9)


@pytest.mark.parametrize("ours", [ours for ours, _ in OURS_AND_TORCHS], ids=NAMES)
def test_a_value_gets_the_same_bits_wherever_it_stands(ours: Callable[[Tensor], Tensor]) -> None:
    draw = torch.Generator().manual_seed(1)
    n_threads = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            for n_values in (1, 31, 919, 2_345, 99_991):
                x, others = torch.randn(n_values, generator=draw), torch.randn(77, generator=draw)
                assert torch.equal(ours(torch.cat([others, x, others]))[77:-77], ours(x))
    finally:
        torch.set_num_threads(n_threads)
