"""K-mers as tokens: ids, places, N, and what a vocabulary file may say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from greedy_kmers import greedy_ids, greedy_words

from varfm.encoding.kmers import KmersInFrame, OverlappingKmers, check_vocabulary
from varfm.encoding.tokens import Tokens
from varfm.errors import ModelError
from varfm.genome import encode

FIRST, SECOND = KmersInFrame(6, 4), KmersInFrame(6, 6)


def places(tokens: Tokens) -> list[tuple[int, int]]:
    return list(zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True))


@pytest.mark.parametrize(
    ("letters", "ids"),
    [
        ("ATTCCGATTC", [2, 368, 1457, 1718, 2762, 2843, 3]),
        ("attccgattc", [2, 368, 1457, 1718, 2762, 2843, 3]),
        ("ATTCNGATTC", [2, 1, 1, 1, 1, 1, 3]),
        ("ATTCC", [2, 3]),
        ("", [2, 3]),
    ],
)
def test_overlapping_kmers_have_the_ids_of_dnabert(letters: str, ids: list[int]) -> None:
    assert OverlappingKmers(6).encode(encode(letters)).ids.tolist() == ids


def test_overlapping_kmers_cover_k_bases_each_and_special_tokens_none() -> None:
    tokens = OverlappingKmers(3).encode(encode("ACGTA"))
    assert places(tokens) == [(0, 0), (0, 3), (1, 4), (2, 5), (5, 5)]
    assert tokens.touching(2, 3).tolist() == [1, 2, 3]
    assert tokens.touching(0, 1).tolist() == [1]
    assert tokens.ids.dtype == tokens.starts.dtype == tokens.ends.dtype == np.int32


def test_one_n_makes_k_overlapping_kmers_unknown() -> None:
    tokens = OverlappingKmers(4).encode(encode("ACGTACNTACGTAC"))
    assert np.flatnonzero(tokens.ids == OverlappingKmers(4).unknown_id).tolist() == [4, 5, 6, 7]


def test_ids_of_single_bases_follow_upstreams_order_of_letters() -> None:
    assert OverlappingKmers(1).encode(encode("ATCG")).ids.tolist() == [2, 5, 6, 7, 8, 3]
    assert OverlappingKmers(3).vocabulary()[5:10] == ["AAA", "AAT", "AAC", "AAG", "ATA"]


@pytest.mark.parametrize("k", [3, 4, 5, 6])
def test_overlapping_kmers_have_the_published_number_of_tokens(k: int) -> None:
    assert OverlappingKmers(k).n_vocabulary == {3: 69, 4: 261, 5: 1029, 6: 4101}[k]
    assert len(OverlappingKmers(k).vocabulary()) == OverlappingKmers(k).n_vocabulary


@pytest.mark.parametrize(
    ("tokenizer", "letters", "ids"),
    [
        (SECOND, "ATTCCGATTCCGATTCCG", [3, 369, 369, 369]),
        (FIRST, "ATTCCGATTCCGATTCCG", [3, 367, 367, 367]),
        (
            SECOND,
            "ACGTGTACNTGCACGGANCGACTAGTCTGA",
            [3, 739, 4102, 4104, 4106, 1937, 4105, 4102, 4106, 2858, 3490],
        ),
        (SECOND, "ATTTCTCTCTCTCTCTGAGATCGATCGATCGAT", [3, 351, 2463, 2466, 3186, 1740, 4105, 4102, 4103]),
        (SECOND, "", [3]),
        (SECOND, "NN", [3, 4106, 4106]),
        # EsmTokenizer joins a run of other letters into one unknown token, upstream's own does not: here they are N.
        (SECOND, "ACGTGTRYACGTGT", [3, 739, 4106, 4106, 739]),
    ],
)
def test_greedy_kmers_have_the_ids_of_upstream(tokenizer: KmersInFrame, letters: str, ids: list[int]) -> None:
    assert greedy_ids(tokenizer, letters) == ids


def test_kmers_in_frame_are_the_greedy_ones_where_there_is_no_n() -> None:
    letters = "ATTTCTCTCTCTCTCTGAGATCGATCGATCGAT"
    tokens = SECOND.encode(encode(letters))
    assert tokens.ids.tolist() == greedy_ids(SECOND, letters)
    assert [letters[start:end] for start, end in places(tokens)[1:]] == greedy_words(letters, 6)[1:]


def test_a_kmer_in_frame_with_an_n_is_one_token_and_keeps_the_frame() -> None:
    tokenizer = KmersInFrame(3, 4)
    tokens = tokenizer.encode(encode("AAAANATTTGN"))
    assert tokens.ids.tolist() == [3, 4, 72, 4 + 21, 68 + 3, 72]
    assert places(tokens) == [(0, 0), (0, 3), (3, 6), (6, 9), (9, 10), (10, 11)]
    assert tokens.touching(4, 5).tolist() == [2]


def test_the_number_of_tokens_in_frame_depends_on_the_length_alone() -> None:
    generator = np.random.default_rng(0)
    numbers = {len(SECOND.encode(generator.integers(0, 5, 41, np.uint8).tobytes()).ids) for _ in range(20)}
    assert numbers == {1 + 6 + 5}


def test_kmers_in_frame_have_the_published_number_of_tokens() -> None:
    assert (FIRST.n_vocabulary, SECOND.n_vocabulary, KmersInFrame(3, 6).n_vocabulary) == (4105, 4107, 75)
    assert SECOND.vocabulary()[4102:] == ["A", "T", "C", "G", "N"]


def test_the_vocabulary_is_the_published_file() -> None:
    content = "\n".join(SECOND.vocabulary())
    assert len(content) == 28_718
    assert hashlib.sha256(content.encode()).hexdigest().startswith("c00e0ad1")


def test_a_vocabulary_file_that_says_the_same_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    check_vocabulary(FIRST.vocabulary(), tmp_path)  # a folder may lack it
    path.write_text("\n".join(FIRST.vocabulary()))
    check_vocabulary(FIRST.vocabulary(), tmp_path)
    path.write_text("\n".join([*FIRST.vocabulary(), "<eos>", "<bos>"]) + "\n")
    check_vocabulary(FIRST.vocabulary(), path)


@pytest.mark.parametrize("order", ["ACGT", "TGCA"])
def test_a_vocabulary_file_in_another_order_is_refused(tmp_path: Path, order: str) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *order]))
    with pytest.raises(ModelError, match=r"token \d is '.', expected '.'"):
        check_vocabulary(OverlappingKmers(1).vocabulary(), tmp_path)


def test_a_vocabulary_file_with_more_or_fewer_tokens_is_refused(tmp_path: Path) -> None:
    path, words = tmp_path / "vocab.txt", OverlappingKmers(1).vocabulary()
    path.write_text("\n".join([*words, "AA"]))
    with pytest.raises(ModelError, match="token 9 is 'AA', expected 'nothing'"):
        check_vocabulary(words, path)
    path.write_text("\n".join(words[:-1]))
    with pytest.raises(ModelError, match="token 8 is 'nothing', expected 'G'"):
        check_vocabulary(words, path)


def test_a_vocabulary_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="cannot be read as text"):
        check_vocabulary(OverlappingKmers(1).vocabulary(), tmp_path)
    (tmp_path / "vocab.txt").write_bytes(b"A" * 3_000_000)
    with pytest.raises(ModelError, match="too long"):
        check_vocabulary(OverlappingKmers(1).vocabulary(), tmp_path)


def test_tokens_of_no_or_of_too_many_bases_are_refused() -> None:
    for make in (OverlappingKmers, KmersInFrame):
        for k in (0, 9):
            with pytest.raises(ModelError, match="k-mers of 1 to 8 bases"):
                make(k)
    with pytest.raises(ModelError, match="4 or 6 special tokens"):
        KmersInFrame(6, 5)
