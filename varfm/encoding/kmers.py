"""Tokens of several bases: k-mers that overlap (DNABERT), and k-mers one behind the other (Nucleotide Transformer).

Ids are base-4 numbers behind the special tokens, with the digits A 0, T 1, C 2, G 3, in both. No file is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from varfm.encoding.tokens import Tokens
from varfm.errors import ModelError

_LETTERS = "ATCG"
_DIGITS = np.array([0, 2, 3, 1, 4], np.int64)
"""Of the base codes A, C, G, T, N in upstream's order of letters; N comes last."""
_N = 4
_MAX_K = 8
_MAX_BYTES = 1 << 21

_BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ESM_SPECIAL = ("<unk>", "<pad>", "<mask>", "<cls>", "<eos>", "<bos>")


def _spelled(k: int) -> Iterator[str]:
    return ("".join(letters) for letters in product(_LETTERS, repeat=k))


@dataclass(frozen=True, slots=True)
class OverlappingKmers:
    """Every window of k bases is a token; `[CLS]` stands before them, `[SEP]` after.

    A `varfm.encoding.tokens.Tokenizer`. A k-mer with an N is `[UNK]`, so that one N makes k of them.

    Source: github.com/jerryji1993/DNABERT, src/transformers/tokenization_dna.py, commit b6da04e. It splits 510 and more
    k-mers into pieces; here there is one piece of any length.

    Attributes:
        k: Bases of a token, 1 to 8.
    """

    k: int

    def __post_init__(self) -> None:
        _check(self.k)

    @property
    def mask_id(self) -> int:
        """`[MASK]`."""
        return 4

    @property
    def unknown_id(self) -> int:
        """`[UNK]`."""
        return 1

    @property
    def n_vocabulary(self) -> int:
        """Five special tokens and all k-mers."""
        return len(_BERT_SPECIAL) + (1 << 2 * self.k)

    def vocabulary(self) -> list[str]:
        """Give the tokens in the order of their ids."""
        return [*_BERT_SPECIAL, *_spelled(self.k)]

    def encode(self, sequence: bytes) -> Tokens:
        """Cut a sequence of base codes 0-4; one that is shorter than k has special tokens alone."""
        codes = np.frombuffer(sequence, np.uint8)
        n_kmers = max(0, len(codes) - self.k + 1)
        windows = np.lib.stride_tricks.sliding_window_view(codes, self.k) if n_kmers else codes[:0].reshape(0, self.k)
        kmers = _numbers(windows, len(_BERT_SPECIAL), self.unknown_id)
        starts = np.arange(-1, n_kmers + 1)
        ends = starts + self.k
        starts[0] = ends[0] = 0
        starts[-1] = ends[-1] = len(codes)
        ids = np.concatenate([[2], kmers, [3]])
        return Tokens(ids.astype(np.int32), starts.astype(np.int32), ends.astype(np.int32))


@dataclass(frozen=True, slots=True)
class KmersInFrame:
    """K-mers one behind the other, from the first base on, after `<cls>`. A `varfm.encoding.tokens.Tokenizer`.

    `encode` reads in a fixed frame, so that the number of tokens depends on the length alone: a k-mer with an N is one
    token `N`. What is left at the end is read base by base.

    Source: github.com/instadeepai/nucleotide-transformer, nucleotide_transformer/tokenizers.py, commit 2dc37b8. The
    fixed frame is that of the benchmark of GPN-Star (github.com/songlab-cal/gpn).

    Attributes:
        k: Bases of a token, 1 to 8.
        n_special: 4 in the first generation, 6 in the second, which has `<eos>` and `<bos>` too.
    """

    k: int = 6
    n_special: int = 6

    def __post_init__(self) -> None:
        _check(self.k)
        if self.n_special not in (4, 6):
            raise ModelError(f"{self}: Nucleotide Transformers have 4 or 6 special tokens.")

    @property
    def mask_id(self) -> int:
        """`<mask>`."""
        return 2

    @property
    def unknown_id(self) -> int:
        """`<unk>`, which no sequence gives: N has a token of its own."""
        return 0

    @property
    def n_vocabulary(self) -> int:
        """Special tokens, all k-mers, and A, T, C, G and N."""
        return self._base_id + 5

    @property
    def _base_id(self) -> int:
        return self.n_special + (1 << 2 * self.k)

    def vocabulary(self) -> list[str]:
        """Give the tokens in the order of their ids."""
        return [*_ESM_SPECIAL[: self.n_special], *_spelled(self.k), *_LETTERS, "N"]

    def encode(self, sequence: bytes) -> Tokens:
        """Cut a sequence of base codes 0-4 in the frame of its first base."""
        codes = np.frombuffer(sequence, np.uint8)
        n_kmers = len(codes) // self.k
        in_frame = codes[: n_kmers * self.k].reshape(n_kmers, self.k)
        kmers = _numbers(in_frame, self.n_special, self._base_id + _N)
        rest = self._base_id + _DIGITS[codes[n_kmers * self.k :]]
        ends = np.concatenate([np.arange(n_kmers + 1) * self.k, np.arange(n_kmers * self.k, len(codes)) + 1])
        starts = np.concatenate([[0], ends[:-1]])
        ids = np.concatenate([[3], kmers, rest])
        return Tokens(ids.astype(np.int32), starts.astype(np.int32), ends.astype(np.int32))


def _check(k: int) -> None:
    if not 1 <= k <= _MAX_K:
        raise ModelError(f"Tokens of {k} bases: varfm reads k-mers of 1 to {_MAX_K} bases.")


def _numbers(kmers: NDArray[np.uint8], first: int, without: int) -> NDArray[np.int64]:
    """Give the ids of (n, k) base codes.

    Args:
        kmers: One k-mer a row.
        first: Id of the k-mer of A alone.
        without: Id of k-mers with an N.
    """
    powers = 4 ** np.arange(kmers.shape[1] - 1, -1, -1)
    ids: NDArray[np.int64] = np.where((kmers == _N).any(1), without, first + _DIGITS[kmers] @ powers)
    return ids


def check_vocabulary(vocabulary: Sequence[str], path: Path) -> None:
    """Make sure that the tokens of a published folder have the ids that varfm computes.

    Args:
        vocabulary: Tokens in the order of their ids.
        path: A `vocab.txt`, one token a line, or a folder, which may lack it. Special tokens may follow at its end
            (AgroNT's has two that the network has no rows for).

    Raises:
        ModelError: If it cannot be read, or says something else.
    """
    path = path / "vocab.txt" if path.is_dir() else path
    if not path.exists() and path.name == "vocab.txt":
        return
    found = _lines(path)
    extra = [token for token in found[len(vocabulary) :] if not token.startswith(("<", "["))]
    if found[: len(vocabulary)] == list(vocabulary) and not extra:
        return
    pairs = zip(found, vocabulary, strict=False)
    where = next(
        (number for number, (one, other) in enumerate(pairs) if one != other), min(len(found), len(vocabulary))
    )
    shown, wanted = ((*tokens, "nothing")[min(where, len(tokens))] for tokens in (found, vocabulary))
    raise ModelError(
        f"{path}: token {where} is {shown[:20]!r}, expected {wanted!r}. "
        "Are these the files of this model? Give the folder that the authors published."
    )


def _lines(path: Path) -> list[str]:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ModelError(f"{path}: too long for a vocabulary of k-mers. Give the file of this model.")
        return content.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as text ({error}). Fetch it again.") from error
