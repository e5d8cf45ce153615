"""Products of a few rows with a matrix of which no row depends on its companions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]


def has_steady_product(x: Tensor, weight: Tensor) -> bool:
    """Tell whether `steady_product` is to be had for these tensors."""
    return _ONEDNN and x.dim() == 2 and x.device.type == "cpu" and x.dtype == torch.float32 and weight.is_contiguous()


def steady_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Multiply rows with a matrix so that a row's last digits do not depend on its companions.

    `functional.linear` adds up in other orders for other numbers of rows and other places in memory. oneDNN's product
    has one order for two rows and more, and reads the weights once for all of them.

    Args:
        x: (n, n_in); see `has_steady_product`.
        weight: (n_out, n_in), contiguous.
        bias: (n_out,), or None.

    Returns:
        (n, n_out).
    """
    rows = x if len(x) > 1 else x.expand(2, -1)
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows.contiguous(), weight, bias, "none", [], "")
    return product[: len(x)]


def products_by_row(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Do the same with a product for each row, where there is no other way."""
    # A clone lies at an aligned address, whatever the row's place was.
    return torch.stack([functional.linear(row.clone(), weight, bias) for row in x.unbind(0)])
