"""Byte-pair tokens with their places, from the `tokenizer.json` of a published folder: DNABERT-2 and GENA-LM.

Reproduces the `tokenizers` library for the kinds of file that these models have, and refuses all others. The library
itself is not used: networks that need nothing but PyTorch should not want another package for sequences of five
letters, and the places of tokens come out in bases, without a detour over characters that a normaliser has changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from varfm.encoding.tokens import Tokens
from varfm.errors import ModelError

_MAX_BYTES = 64 << 20
_LETTERS = "ACGTN"
_KEPT_BASES = 1 << 22
_FETCH = "Give the tokenizer.json that belongs to the weights."


class Merge(NamedTuple):
    """What two neighbouring tokens become; the lowest rank goes first."""

    rank: int
    token: int


class LongRun(NamedTuple):
    """A run of at least so many N stands as one token, which joins no other."""

    length: int
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bpe:
    """Joins neighbouring tokens, the earliest learned pair first. A `varfm.encoding.tokens.Tokenizer`.

    Attributes:
        base_ids: Of A, C, G, T and N; N is unknown where it has no token.
        merges: By the ids of the left and the right token.
        before: Tokens that stand before every sequence and hold no base.
        after: Those after it.
        long_run: How long runs of N are read, where they are not read letter by letter.
        mask_id: The token that hides a position.
        unknown_id: The token for what the vocabulary does not hold.
        n_vocabulary: Ids are below this number.
    """

    base_ids: tuple[int, int, int, int, int]
    merges: Mapping[tuple[int, int], Merge] = field(repr=False)
    before: tuple[int, ...]
    after: tuple[int, ...]
    long_run: LongRun | None
    mask_id: int
    unknown_id: int
    n_vocabulary: int
    _recent: dict[bytes, Tokens] = field(default_factory=dict, init=False, repr=False, compare=False)

    def encode(self, sequence: bytes) -> Tokens:
        """Cut base codes 0-4 into tokens, between those that stand before and after; the arrays are read-only."""
        # A score asks for the same few sequences several times: its own, the partner's, and both again for the answer.
        tokens = self._recent.get(sequence)
        if tokens is None:
            if len(self._recent) * len(sequence) > _KEPT_BASES:
                self._recent.clear()
            tokens = self._recent[sequence] = self._cut(sequence)
        return tokens

    def _cut(self, sequence: bytes) -> Tokens:
        ids: list[int] = list(self.before)
        starts = [0] * len(self.before)
        for start, end, is_run in self._pieces(sequence):
            if is_run and self.long_run is not None:
                ids.append(self.long_run.token)
                starts.append(start)
                continue
            found, places = self._joined(sequence[start:end])
            ids += found
            starts += [start + place for place in places]
        n_tokens, n_after = len(ids), len(self.after)
        edges: NDArray[np.int32] = np.array([*starts, *[len(sequence)] * (n_after + 1)], np.int32)
        ends = edges[1:].copy()
        ends[: len(self.before)] = 0  # what stands before holds no base
        tokens = Tokens(np.array([*ids, *self.after], np.int32), edges[: n_tokens + n_after], ends)
        for array in tokens:
            array.flags.writeable = False
        return tokens

    def _pieces(self, sequence: bytes) -> Iterator[tuple[int, int, bool]]:
        """Give the stretches that no token crosses, and whether each is a long run of N."""
        start = 0
        if self.long_run is not None:
            for run in re.finditer(rb"\x04{%d,}" % self.long_run.length, sequence):
                if start < run.start():
                    yield start, run.start(), False
                yield run.start(), run.end(), True
                start = run.end()
        if start < len(sequence):
            yield start, len(sequence), False

    def _joined(self, piece: bytes) -> tuple[list[int], list[int]]:
        """Join tokens until no neighbours can be joined -> ids, and the places where they begin."""
        merges, n = self.merges, len(piece)
        ids = [self.base_ids[code] for code in piece]
        following, previous = list(range(1, n + 1)), list(range(-1, n - 1))
        found = ((merges.get(pair), place) for place, pair in enumerate(pairwise(ids)))
        queue = [(merge.rank, place, merge.token) for merge, place in found if merge is not None]
        heapify(queue)
        while queue:
            _, left, token = heappop(queue)
            right = following[left]
            merge = merges.get((ids[left], ids[right])) if right < n else None
            # As in the library, what stands here by now counts if it makes the same token.
            if merge is None or merge.token != token:
                continue
            ids[left], ids[right] = token, -1
            after = following[left] = following[right]
            if after < n:
                previous[after] = left
                if merge := merges.get((token, ids[after])):
                    heappush(queue, (merge.rank, left, merge.token))
            before = previous[left]
            if before >= 0 and (merge := merges.get((ids[before], token))):
                heappush(queue, (merge.rank, before, merge.token))
        places = [place for place in range(n) if ids[place] >= 0]
        return [ids[place] for place in places], places


def read_bpe(path: Path) -> Bpe:
    """Read the tokens of a published folder.

    Args:
        path: Its `tokenizer.json`, or the folder.

    Raises:
        ModelError: If the file is missing, damaged, or cuts sequences in a way that varfm does not know.
    """
    path = path / "tokenizer.json" if path.is_dir() else path
    content = _content(path)
    model = content.get("model")
    vocabulary = _vocabulary(content, model, path)
    assert isinstance(model, dict)
    ids = [vocabulary.get(letter) for letter in _LETTERS]
    unknown_id, mask_id = vocabulary.get(str(model.get("unk_token"))), vocabulary.get("[MASK]")
    if unknown_id is None or mask_id is None or None in ids[:4]:
        raise ModelError(f"{path}: lacks a token for A, C, G or T, for the unknown, or [MASK]. {_FETCH}")
    a, c, g, t, n = (unknown_id if number is None else number for number in ids)
    before, after = _ends(content.get("post_processor"), vocabulary, path)
    return Bpe(
        base_ids=(a, c, g, t, n),
        merges=_merges(model.get("merges"), vocabulary, path),
        before=before,
        after=after,
        long_run=_long_run(content, vocabulary, path),
        mask_id=mask_id,
        unknown_id=unknown_id,
        n_vocabulary=max(vocabulary.values()) + 1,
    )


def _content(path: Path) -> Mapping[str, object]:
    try:
        with open(path, "rb") as file:
            text = file.read(_MAX_BYTES + 1)
        found = json.loads(text) if len(text) <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({str(error)[:200]}). {_FETCH}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: not a tokenizer file of Hugging Face. {_FETCH}")
    return found


def _vocabulary(content: Mapping[str, object], model: object, path: Path) -> dict[str, int]:
    """Give the ids of all tokens, and make sure that pairs are joined in the plain way."""
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("vocab"), dict):
        raise ModelError(f"{path}: does not hold byte-pair tokens (BPE). {_FETCH}")
    others = ("dropout", "fuse_unk", "byte_fallback", "ignore_merges")
    wrong = [key for key in (*others, "continuing_subword_prefix", "end_of_word_suffix") if model.get(key)]
    if wrong:
        raise ModelError(f"{path}: {wrong[0]} is set, which varfm does not know of DNA models. {_FETCH}")
    added = content.get("added_tokens") or []
    entries = [entry for entry in added if isinstance(entry, dict)] if isinstance(added, list) else []
    extra = {entry.get("content"): entry.get("id") for entry in entries}
    vocabulary = dict(model["vocab"]) | extra
    ids = list(vocabulary.values())
    if not all(isinstance(token, str) for token in vocabulary) or not all(type(number) is int for number in ids):
        raise ModelError(f"{path}: tokens must be texts, and their ids whole numbers. {_FETCH}")
    if len(set(ids)) != len(ids) or min(ids) < 0 or max(ids) >= 2**31:
        raise ModelError(f"{path}: two tokens have the same id, or one has none that fits. {_FETCH}")
    if any(set(str(token)) <= set(_LETTERS) for token in extra):
        raise ModelError(f"{path}: a token added by hand is made of bases, which varfm does not know. {_FETCH}")
    return vocabulary


def _merges(found: object, vocabulary: Mapping[str, int], path: Path) -> dict[tuple[int, int], Merge]:
    """Give the pairs that are joined; older files write them as one text, newer ones as two."""
    if not isinstance(found, list):
        raise ModelError(f"{path}: holds no list of merges. {_FETCH}")
    merges: dict[tuple[int, int], Merge] = {}
    for rank, entry in enumerate(found):
        pair = entry.split(" ") if isinstance(entry, str) else entry
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise ModelError(f"{path}: merge {rank} is not a pair of tokens. {_FETCH}")
        left, right = pair
        if not {left, right, left + right} <= vocabulary.keys():
            raise ModelError(f"{path}: merge {rank} names a token that the vocabulary lacks. {_FETCH}")
        merges[vocabulary[left], vocabulary[right]] = Merge(rank, vocabulary[left + right])
    return merges


def _ends(found: object, vocabulary: Mapping[str, int], path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give the tokens before and after a sequence."""
    names: tuple[list[str], list[str]] | None = None
    if isinstance(found, dict) and found.get("type") == "BertProcessing":
        names = [_named(found.get("cls"))], [_named(found.get("sep"))]
    elif isinstance(found, dict) and found.get("type") == "TemplateProcessing":
        names = _template(found.get("single"))
    if names is None or not vocabulary.keys() >= {*names[0], *names[1]}:
        raise ModelError(f"{path}: does not say which tokens stand before and after a sequence. {_FETCH}")
    before, after = (tuple(vocabulary[name] for name in side) for side in names)
    return before, after


def _named(found: object) -> str:
    return str(found[0]) if isinstance(found, list) and found else ""


def _template(found: object) -> tuple[list[str], list[str]] | None:
    steps = [step for step in found if isinstance(step, dict)] if isinstance(found, list) else []
    places = [index for index, step in enumerate(steps) if "Sequence" in step]
    if len(places) != 1:
        return None
    names = [str(step["SpecialToken"].get("id")) if "SpecialToken" in step else "" for step in steps]
    return names[: places[0]], names[places[0] + 1 :]


def _long_run(content: Mapping[str, object], vocabulary: Mapping[str, int], path: Path) -> LongRun | None:
    """Understand what is done to a sequence before it is cut; of five letters without blanks, only runs of N matter."""
    normaliser, splitter = content.get("normalizer"), content.get("pre_tokenizer")
    steps = normaliser.get("normalizers") if isinstance(normaliser, dict) and "normalizers" in normaliser else None
    steps = steps if isinstance(steps, list) else [normaliser] if normaliser is not None else []
    found = None
    for step in steps:
        if isinstance(step, dict) and step.get("type") == "Strip":
            continue
        found = _replacement(step) if found is None else None
        if found is None or found[1] not in vocabulary:
            raise ModelError(
                f"{path}: changes sequences in a way that varfm does not know ({str(step)[:80]}). {_FETCH}"
            )
    isolated = {"type": "Split", "pattern": {"String": found[1] if found else "-"}, "behavior": "Isolated"}
    plain = splitter is None or splitter == {"type": "Whitespace"}
    cuts = isinstance(splitter, dict) and splitter in (isolated, isolated | {"invert": False})
    if not (cuts or (plain and found is None)):
        raise ModelError(f"{path}: splits sequences in a way that varfm does not know ({str(splitter)[:80]}). {_FETCH}")
    return None if found is None else LongRun(found[0], vocabulary[found[1]])


def _replacement(step: object) -> tuple[int, str] | None:
    """Give from which length on N is replaced, and by which letter."""
    pattern = step.get("pattern") if isinstance(step, dict) and step.get("type") == "Replace" else None
    match = re.fullmatch(r"N\{(\d{1,9}),\}", str(pattern.get("Regex"))) if isinstance(pattern, dict) else None
    letter = step.get("content") if isinstance(step, dict) else None
    if match is None or int(match[1]) < 1 or not isinstance(letter, str) or len(letter) != 1 or letter in _LETTERS:
        return None
    return int(match[1]), letter
