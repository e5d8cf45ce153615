"""Bases to four-channel floats, inside the traced network."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, dtype

N = b"\x04"
"""The code of any base."""


def onehot(codes: Tensor, n_value: float = 0.0, dtype: dtype | None = None) -> Tensor:
    """Turn base codes into one channel per base, in the order A, C, G, T.

    Args:
        codes: (n, length) uint8; 0-3 are A, C, G, T and 4 is N.
        n_value: What all four channels hold at an N.
        dtype: Of the result; None: float32.

    Returns:
        (n, 4, length) floats on the device of `codes`.
    """
    import torch

    if dtype is None:  # not `or`: a traced dtype has no truth value
        dtype = torch.float32

    bases = torch.arange(4, dtype=torch.uint8, device=codes.device)
    channels = (codes[:, None, :] == bases[None, :, None]).to(dtype)
    if n_value == 0.0:
        return channels
    return channels + n_value * (codes == 4).to(dtype)[:, None, :]
