"""One token per base, by a table of ids: GPN, HyenaDNA, Caduceus and their relatives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from varfm.encoding.tokens import Tokens
from varfm.errors import ModelError

_MAX_BYTES = 1 << 20
_FILES = ("tokenizer.json", "vocab.json", "vocab.txt")
_MASKS = ("[MASK]", "<mask>")
_UNKNOWNS = ("[UNK]", "<unk>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Characters:
    """Tokens that are single bases; nothing is added at the ends. A `varfm.encoding.tokens.Tokenizer`.

    Attributes:
        base_ids: Of A, C, G, T and N.
        mask_id: The token that hides a base; None where there is none.
        unknown_id: The token for what the vocabulary does not hold; that of N, where N has none of its own.
        n_vocabulary: Ids are below this number.
    """

    base_ids: tuple[int, int, int, int, int]
    mask_id: int | None
    unknown_id: int | None
    n_vocabulary: int

    def __post_init__(self) -> None:
        ids = [*self.base_ids, *(number for number in (self.mask_id, self.unknown_id) if number is not None)]
        if not 0 <= min(ids) <= max(ids) < self.n_vocabulary:
            raise ModelError(f"{self}: ids of tokens must be 0 or more, and below the number of tokens.")
        if len(set(self.base_ids[:4])) != 4 or self.mask_id in self.base_ids:
            raise ModelError(f"{self}: A, C, G, T and the mask must be different tokens.")

    def encode(self, sequence: bytes) -> Tokens:
        """Give one token per base code 0-4, as the bases stand."""
        ids: NDArray[np.int32] = np.array(self.base_ids, np.int32)[np.frombuffer(sequence, np.uint8)]
        places = np.arange(len(ids) + 1, dtype=np.int32)
        return Tokens(ids, places[:-1], places[1:])


HYENADNA = Characters(base_ids=(7, 8, 9, 10, 11), mask_id=3, unknown_id=6, n_vocabulary=12)
"""Also Caduceus's. `[CLS]` 0, `[SEP]` 1, `[BOS]` 2, `[MASK]` 3, `[PAD]` 4, `[RESERVED]` 5, `[UNK]` 6, then the bases.

Source: github.com/HazyResearch/hyena-dna, commit d553021; github.com/kuleshov-group/caduceus, commit 0060a6d.
"""


def read_characters(path: Path) -> Characters | None:
    """Take the ids from the vocabulary of a published folder.

    Args:
        path: A `tokenizer.json` of Hugging Face, a `vocab.json` (token to id), a `vocab.txt` (one token a line), or the
            folder that holds one of them; the first of them in this order is read.

    Returns:
        None if a folder holds none of them: its tokenizer is code, and its ids are known from elsewhere.

    Raises:
        ModelError: If the file is damaged, or its tokens are not single bases.
    """
    if path.is_dir():
        found = next((path / name for name in _FILES if (path / name).is_file()), None)
        return None if found is None else read_characters(found)
    text = _read(path)
    if path.suffix == ".txt":
        return _characters({token: number for number, token in enumerate(text.splitlines())}, path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({str(error)[:200]}). Fetch it again.") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        return _characters(_single_characters(content, path), path)
    return _characters(content, path)


def _read(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise ModelError(f"{path}: too long for a vocabulary of single bases. Give the file of this model.")
        return content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read as text ({error}). Fetch it again.") from error


def _single_characters(content: Mapping[str, object], path: Path) -> dict[object, object]:
    """Give the vocabulary of a `tokenizer.json`, if every letter becomes one token of it."""
    model = content["model"]
    assert isinstance(model, dict)
    joins = ("merges", "fuse_unk", "continuing_subword_prefix", "end_of_word_suffix")
    wrong = [name for name in joins if model.get(name)]
    if wrong:
        raise ModelError(
            f"{path}: {wrong[0]} is set, so that tokens are not single bases. Give the file of this model."
        )
    added = content.get("added_tokens")
    entries = added if isinstance(added, list) else []
    return _mapping(model.get("vocab"), path) | {
        entry.get("content"): entry.get("id") for entry in entries if isinstance(entry, dict)
    }


def _mapping(found: object, path: Path) -> dict[object, object]:
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds no table of tokens and ids. Give the file that the authors published.")
    return dict(found)


def _characters(found: object, path: Path) -> Characters:
    vocabulary = _mapping(found, path)
    ids = {token: number for token, number in vocabulary.items() if isinstance(token, str) and type(number) is int}
    if len(ids) != len(vocabulary) or sorted(ids.values()) != list(range(len(ids))):
        raise ModelError(f"{path}: tokens must have the ids 0, 1, 2 and so on, each once. Fetch it again.")
    unknown_id = _first(ids, _UNKNOWNS)
    bases = [_first(ids, (letter, letter.lower())) for letter in "ACGT"]
    any_base = _first(ids, ("N", "n"))
    any_base = unknown_id if any_base is None else any_base
    a, c, g, t = bases
    if a is None or c is None or g is None or t is None or any_base is None:
        raise ModelError(
            f"{path}: holds no token for each of A, C, G, T, and for N or the unknown. Give the file of this model."
        )
    return Characters(
        base_ids=(a, c, g, t, any_base),
        mask_id=_first(ids, _MASKS),
        unknown_id=unknown_id,
        n_vocabulary=len(ids),
    )


def _first(ids: Mapping[str, int], tokens: Sequence[str]) -> int | None:
    return next((ids[token] for token in tokens if token in ids), None)
