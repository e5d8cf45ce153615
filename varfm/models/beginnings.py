"""Causal models: what equal sequences begin with is read once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

State = TypeVar("State")


def continued(
    ids: Tensor, start: int, begin: Callable[[Tensor], State], go_on: Callable[[Tensor, State], Tensor]
) -> Tensor:
    """Run the tokens from `start` on, row by row, after what comes before, which is run once for rows that share it.

    Equal rows, as those that fill a batch up, are run once.

    Ref and alt have it in common, and so have all alleles of a site. A row is always run in these two pieces, alone or
    with others, so that its answer depends on nothing else; it differs from that of one pass in rounding alone.

    Args:
        ids: (n, n_tokens).
        start: From 1 to n_tokens - 1.
        begin: Reads (1, start) ids, and gives what the rest must know of them.
        go_on: Reads (1, n_tokens - start) ids after such a beginning, and gives (1, n_tokens - start, width).

    Returns:
        (n, n_tokens - start, width).
    """
    rows, alike = [row.tobytes() for row in ids.cpu().numpy()], dict[bytes, dict[bytes, int]]()
    for number, row in enumerate(rows):
        alike.setdefault(row[: start * ids.element_size()], {}).setdefault(row, number)
    found: dict[bytes, Tensor] = {}
    for distinct in alike.values():
        numbers = list(distinct.values())
        # Clones lie at aligned addresses, whatever the row's place was.
        state = begin(ids[numbers[:1], :start].clone())
        for number in numbers:
            found[rows[number]] = go_on(ids[number : number + 1, start:].clone(), state)
    return torch.cat([found[row] for row in rows])
