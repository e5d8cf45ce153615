"""One token per base: worked examples of every published vocabulary, and files that say something else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from varfm.encoding.characters import HYENADNA, Characters, read_characters
from varfm.errors import ModelError
from varfm.genome import encode, reverse_complement
from varfm.models.gpn import CHARACTERS as GPN

BASES = {"[PAD]": 0, "[MASK]": 1, "[UNK]": 2, "a": 3, "c": 4, "g": 5, "t": 6}


def ids(tokens: Characters, letters: str) -> list[int]:
    return tokens.encode(encode(letters)).ids.tolist()


def fast(vocabulary: dict[str, Any], **others: Any) -> dict[str, Any]:
    """Give a `tokenizer.json` as the authors of GPN made theirs."""
    model = {"type": "BPE", "unk_token": "[UNK]", "fuse_unk": False, "vocab": vocabulary, "merges": []} | others
    special = [{"id": number, "content": token} for token, number in vocabulary.items() if token.startswith("[")]
    return {"version": "1.0", "added_tokens": special, "normalizer": {"type": "Lowercase"}, "model": model}


def written(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_gpn_reads_bases_as_its_authors_show() -> None:
    assert ids(GPN, "CGGGTTAAAA") == [4, 5, 5, 5, 6, 6, 3, 3, 3, 3]
    assert ids(GPN, "cgggttaaaa") == ids(GPN, "CGGGTTAAAA")
    assert ids(GPN, "ACGNT") == [3, 4, 5, 2, 6]
    hidden = GPN.encode(encode("ACGNT")).ids.copy()
    hidden[2] = GPN.mask_id
    assert hidden.tolist() == [3, 4, 1, 2, 6]


def test_hyenadna_and_caduceus_read_bases_as_their_authors_show() -> None:
    assert ids(HYENADNA, "ACGTN") == [7, 8, 9, 10, 11]
    assert ids(HYENADNA, "GATTACA") == [9, 7, 10, 10, 7, 8, 7]
    assert HYENADNA.encode(reverse_complement(encode("GATTACA"))).ids.tolist() == [10, 9, 10, 7, 7, 10, 8]


def test_every_letter_that_is_no_base_reads_as_n() -> None:
    assert ids(HYENADNA, "RYKMn-") == [11] * 6
    assert ids(GPN, "RYKMn-") == [2] * 6


def test_every_token_holds_its_own_base() -> None:
    tokens = GPN.encode(encode("ACGT"))
    assert tokens.starts.tolist() == [0, 1, 2, 3]
    assert tokens.ends.tolist() == [1, 2, 3, 4]
    assert tokens.touching(1, 3).tolist() == [1, 2]
    assert {array.dtype for array in tokens} == {np.dtype(np.int32)}


def test_an_empty_sequence_has_no_tokens() -> None:
    tokens = GPN.encode(b"")
    assert [len(array) for array in tokens] == [0, 0, 0]


def test_the_ids_of_a_tokenizer_file_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "tokenizer.json", fast(BASES))
    assert read_characters(path) == GPN
    assert read_characters(tmp_path) == GPN


def test_tokens_that_were_added_later_count_too(tmp_path: Path) -> None:
    content = fast({"a": 0, "c": 1, "g": 2, "t": 3, "[UNK]": 4})
    content["added_tokens"].append({"id": 5, "content": "<mask>"})
    path = written(tmp_path / "tokenizer.json", content)
    assert read_characters(path) == Characters(base_ids=(0, 1, 2, 3, 4), mask_id=5, unknown_id=4, n_vocabulary=6)


def test_a_plain_vocabulary_is_read_with_its_own_order_of_bases(tmp_path: Path) -> None:
    path = written(tmp_path / "vocab.json", {"<unk>": 0, "T": 1, "G": 2, "C": 3, "A": 4, "N": 5, "a": 6})
    expected = Characters(base_ids=(4, 3, 2, 1, 5), mask_id=None, unknown_id=0, n_vocabulary=7)
    assert read_characters(path) == read_characters(tmp_path) == expected


def test_a_vocabulary_of_lines_is_read(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n[MASK]\nA\nC\nG\nT\n")
    expected = Characters(base_ids=(2, 3, 4, 5, 0), mask_id=1, unknown_id=0, n_vocabulary=6)
    assert read_characters(tmp_path) == expected


def test_a_folder_without_a_vocabulary_gives_none(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert read_characters(tmp_path) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (fast(BASES | {"ac": 7}, merges=["a c"]), "merges is set"),
        (fast(BASES, fuse_unk=True), "fuse_unk is set"),
        (fast(BASES, continuing_subword_prefix="##"), "continuing_subword_prefix is set"),
        (fast(BASES | {"t": 9}), "ids 0, 1, 2"),
        (fast(BASES | {"t": 5}), "ids 0, 1, 2"),
        (fast(BASES | {"t": "6"}), "ids 0, 1, 2"),
        ({"model": {"vocab": [["a", 0.5]]}}, "no table of tokens"),
        (["a", "c"], "no table of tokens"),
        ({"A": 0, "C": 1, "G": 2, "N": 3}, "no token for each of"),
        ({"A": 0, "C": 1, "G": 2, "T": 3}, "and for N or the unknown"),
    ],
    ids=[*("merges", "fused", "prefix", "gap", "twice", "text"), *("pairs", "list", "no T", "no N")],
)
def test_a_vocabulary_that_is_not_of_single_bases_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = written(tmp_path / "tokenizer.json", content)
    with pytest.raises(ModelError, match=message) as caught:
        read_characters(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b'{"a": ', b"\xff\xfe{}", b" " * 2_000_000], ids=["cut", "bytes", "long"])
def test_a_damaged_vocabulary_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "vocab.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"vocab\.json"):
        read_characters(path)


@pytest.mark.parametrize(
    "wrong",
    [{"n_vocabulary": 6}, {"base_ids": (3, 3, 5, 6, 2)}, {"base_ids": (-1, 4, 5, 6, 2)}, {"mask_id": 2}],
    ids=["too few", "same", "negative", "mask is N"],
)
def test_tokens_that_cannot_be_told_apart_are_refused(wrong: dict[str, Any]) -> None:
    given = {"base_ids": (3, 4, 5, 6, 2), "mask_id": 1, "unknown_id": 2, "n_vocabulary": 7} | wrong
    with pytest.raises(ModelError):
        Characters(**given)
