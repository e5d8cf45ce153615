"""Tokens with their places, and how a language model's input travels as one row of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


class Tokens(NamedTuple):
    """A sequence cut into tokens.

    Attributes:
        ids: (n_tokens,) int32.
        starts: (n_tokens,) int32, first base of each token in the sequence, 0-based.
        ends: (n_tokens,) int32, the base after its last; equal to the start for tokens that are no bases.
    """

    ids: NDArray[np.int32]
    starts: NDArray[np.int32]
    ends: NDArray[np.int32]

    def touching(self, start: int, end: int) -> NDArray[np.int64]:
        """Give the tokens that hold any base of [start, end), ascending."""
        return np.flatnonzero((self.starts < end) & (self.ends > start) & (self.starts < self.ends))


class Tokenizer(Protocol):
    """Cuts sequences of base codes 0-4 into tokens."""

    @property
    def mask_id(self) -> int | None:
        """The token that hides a position; None for models that have none."""

    @property
    def unknown_id(self) -> int | None:
        """The token for what the vocabulary does not hold."""

    @property
    def n_vocabulary(self) -> int:
        """Ids are below this number."""

    def encode(self, sequence: bytes) -> Tokens:
        """Cut a sequence, as it stands on its strand."""


class Request(NamedTuple):
    """What a language model is to do with one row of tokens.

    Attributes:
        ids: (n_tokens,) ids, masked where they are to be.
        positions: Tokens whose logits are read, or, for an embedding, over which hidden states are averaged.
        embeds: True for an embedding.
    """

    ids: NDArray[np.int32]
    positions: Sequence[int]
    embeds: bool = False

    def pack(self) -> bytes:
        """Write as bytes: whether it embeds, the number of positions, the positions, the ids, four bytes each."""
        head = [int(self.embeds), len(self.positions), *self.positions]
        return np.concatenate([np.array(head, "<i4"), self.ids.astype("<i4")]).tobytes()


def kind_of(row: bytes) -> tuple[int, bytes]:
    """Give what rows must share to be run in one batch: length, task and number of positions."""
    return len(row), row[:8]


def unpack(batch: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Read a batch of packed requests of one kind.

    Args:
        batch: (n, n_bytes) uint8.

    Returns:
        (n, n_tokens) ids and (n, n_positions) positions, int64, and whether they are to be embedded.
    """
    import torch

    numbers = batch.contiguous().view(torch.int32).long()
    embeds, n_positions = numbers[0, :2].tolist()
    return numbers[:, 2 + n_positions :], numbers[:, 2 : 2 + n_positions], bool(embeds)
