"""Tokens of DNAGPT: ids, places, and what is left at the end."""

from __future__ import annotations

import numpy as np
import pytest

from varfm.encoding.chunks import Chunks
from varfm.errors import ModelError
from varfm.genome import encode

HUMAN, MANY = Chunks(), Chunks(shortest=1)


@pytest.mark.parametrize(
    ("letters", "human", "many"),
    [
        ("AGAGAAAAGAGT", [21, 4590, 4073], [21, 8495, 7978]),
        ("agagaaaagagt", [21, 4590, 4073], [21, 8495, 7978]),
        ("ACGTNACGTAC", [21, 5385, 0], [21, 9290, 3047]),
        ("NNNNNN", [21, 34], [21, 3939]),
        ("TTTTTT", [21, 15_658], [21, 19_563]),
        ("N", [21, 0], [21, 34]),
        ("T", [21, 0], [21, 38]),
        ("NN", [21, 0], [21, 39]),
        ("", [21], [21]),
    ],
)
def test_tokens_have_the_ids_of_both_published_vocabularies(letters: str, human: list[int], many: list[int]) -> None:
    assert HUMAN.encode(encode(letters)).ids.tolist() == human
    assert MANY.encode(encode(letters)).ids.tolist() == many


@pytest.mark.parametrize("tokenizer", [HUMAN, MANY], ids=["whole", "any"])
def test_the_species_has_no_bases_and_tokens_have_six_each_but_the_last(tokenizer: Chunks) -> None:
    tokens = tokenizer.encode(encode("ACGTACGTACGTAC"))
    assert tokens.starts.tolist() == [0, 0, 6, 12]
    assert tokens.ends.tolist() == [0, 6, 12, 14]
    assert tokens.touching(5, 7).tolist() == [1, 2] and tokens.touching(0, 1).tolist() == [1]
    assert tokens.ids.dtype == tokens.starts.dtype == tokens.ends.dtype == np.int32


def test_vocabularies_have_as_many_tokens_as_published() -> None:
    assert (HUMAN.n_vocabulary, MANY.n_vocabulary) == (15_659, 19_564)
    assert (HUMAN.unknown_id, HUMAN.mask_id) == (0, None)


@pytest.mark.parametrize(("k", "shortest"), [(0, 0), (6, 7), (9, 1), (6, 0)])
def test_other_lengths_of_tokens_are_refused(k: int, shortest: int) -> None:
    with pytest.raises(ModelError, match="1 to 8 bases"):
        Chunks(k, shortest)
