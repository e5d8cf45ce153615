"""Tokens of DNAGPT: k-mers one behind the other over five letters, of which N is one, after the token of a species.

Ids are base-5 numbers behind 34 reserved tokens, with the digits N 0, A 1, G 2, C 3, T 4. No file is needed.

Source: github.com/TencentAILabHealthcare/DNAGPT, dna_gpt/tokenizer.py and test.py, commit 9b6c093.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from varfm.encoding.tokens import Tokens
from varfm.errors import ModelError

_N_LETTERS = 5
_DIGITS = np.array([1, 3, 2, 4, 0], np.int64)
"""Of the base codes A, C, G, T, N."""
_N_RESERVED = 34
_UNKNOWN = 0
_HUMAN = 21
_MAX_K = 8


@dataclass(frozen=True, slots=True)
class Chunks:
    """`<R>`, for human, then k bases a token; the last may have fewer. A `varfm.encoding.tokens.Tokenizer`.

    Attributes:
        k: Bases of a token, 1 to 8.
        shortest: Bases of the shortest token: what is left at the end is a token if it has as many, else unknown.
    """

    k: int = 6
    shortest: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.k <= _MAX_K:
            raise ModelError(f"Tokens of {self.shortest} to {self.k} bases: varfm reads those of 1 to {_MAX_K} bases.")

    @property
    def mask_id(self) -> None:
        """No token hides a position."""
        return None

    @property
    def unknown_id(self) -> int:
        """The first reserved token, as upstream has it; N is a letter like others."""
        return _UNKNOWN

    @property
    def n_vocabulary(self) -> int:
        """Reserved tokens, and all k-mers from the shortest on."""
        return self._first_id(self.k + 1)

    def _first_id(self, n_bases: int) -> int:
        """Give the id of the token that is N, `n_bases` times."""
        n_shorter: int = (_N_LETTERS**n_bases - _N_LETTERS**self.shortest) // (_N_LETTERS - 1)
        return _N_RESERVED + n_shorter

    def encode(self, sequence: bytes) -> Tokens:
        """Cut a sequence of base codes 0-4 in the frame of its first base."""
        digits = _DIGITS[np.frombuffer(sequence, np.uint8)]
        n_whole = len(digits) // self.k
        whole = digits[: n_whole * self.k].reshape(n_whole, self.k)
        parts = [np.array([_HUMAN]), self._first_id(self.k) + _number(whole)]
        left = digits[n_whole * self.k :]
        if len(left) >= self.shortest:
            parts.append(self._first_id(len(left)) + _number(left[None]))
        elif len(left):
            parts.append(np.array([_UNKNOWN]))
        ids = np.concatenate(parts)
        ends = np.minimum(np.arange(len(ids)) * self.k, len(digits))
        starts = np.concatenate([[0], ends[:-1]])
        return Tokens(ids.astype(np.int32), starts.astype(np.int32), ends.astype(np.int32))


def _number(digits: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, k) digits -> (n,) base-5 numbers."""
    powers = _N_LETTERS ** np.arange(digits.shape[1] - 1, -1, -1)
    found: NDArray[np.int64] = digits @ powers
    return found
