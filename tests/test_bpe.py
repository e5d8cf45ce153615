"""Byte-pair tokens: the same ids as the package tokenizers gives, and places in bases."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from varfm.encoding.bpe import Bpe, read_bpe
from varfm.errors import ModelError
from varfm.genome import decode, encode

CUT = Path(__file__).parent / "parity" / "data" / "gena_lm_tokenizers.json"
PUBLISHED = {
    "dnabert2": "5d178e8ce2ba55df97fff197f4b30f40133b95d7096be398c2df6b526c5d8cd3",
    "gena_t2t": "440cec76fcec5288d10f70b64f3f59289fe313dd1b6fc42bcf0fac319297dc3d",
    "gena_v1": "2fdbfdf74f08e8b98acc63e5a36c36d2ef44cf688f9485d95dde76acb6bd3034",
}
EXAMPLES = {
    "dnabert2": {
        "ACGTAGCATCGGATCTATCTATCGACACTTGGTTATCGATCTACGAGCATCTCGTTAGC": (
            "1 5 194 32 757 1239 2092 294 24 359 88 93 32 75 77 19 2"
        ),
        "ATTCCGATTCCGATTCCG": "1 2061 2813 2813 13 7 2",
    },
    "gena_t2t": {
        "ATTCCGATTCCGATTCCG": "1 1717 1717 1717 2",
        "ACGTAGCATCGGATCTATCTATCGACACTTGG": "1 16127 1564 36 1188 9 12126 2",
        "ACGTNNACGT": "1 120 5428 12 120 15 2",
        "ACGTNNNNNNNNNNNNACGT": "1 120 15 5 120 15 2",
        "ACGTNACGTNACGTN": "1 120 5428 120 5428 120 5428 2",
        "ACGTNNNNNNNNNN": "1 120 15 5 2",
    },
    "gena_v1": {"ATTCCGATTCCGATTCCG": "1 3047 3047 3047 2"},
}  # fmt: skip
"""Published with the models, or found with the package tokenizers on the published files."""

SPECIAL = ("[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]")
MERGES = ("A A", "AA A", "C G", "T A", "A CG", "AA AA", "G T")


def toy(merges: tuple[str, ...] = MERGES, *, letters: str = "ACGT") -> dict[str, Any]:
    """Make the content of a tokenizer.json of the kind of DNABERT-2; the merges make the ids from 9 on, in order."""
    tokens = [*SPECIAL, *letters, *(merge.replace(" ", "") for merge in merges)]
    template = [{"SpecialToken": {"id": "[CLS]"}}, {"Sequence": {"id": "A"}}, {"SpecialToken": {"id": "[SEP]"}}]
    return {
        "added_tokens": [{"id": number, "content": token} for number, token in enumerate(SPECIAL)],
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {"type": "TemplateProcessing", "single": template},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "[UNK]",
            "fuse_unk": False,
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": list(merges),
        },
    }


def with_long_runs() -> dict[str, Any]:
    """Make one of the kind of GENA-LM: N is a letter, and 10 or more of them are one token."""
    content = toy(("A A", "T N", "N N"), letters="ACGTN-")
    content["normalizer"] = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Strip", "strip_left": True, "strip_right": True},
            {"type": "Replace", "pattern": {"Regex": "N{10,}"}, "content": "-"},
        ],
    }
    content["pre_tokenizer"] = {"type": "Split", "pattern": {"String": "-"}, "behavior": "Isolated", "invert": False}
    content["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}
    return content


def written(content: object, folder: Path) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(content))
    return path


def cut(tokenizer: Bpe, letters: str) -> list[str]:
    """Give the bases of each token."""
    tokens = tokenizer.encode(encode(letters))
    return [letters[start:end] for start, end in zip(tokens.starts.tolist(), tokens.ends.tolist(), strict=True)]


def test_pairs_are_joined_in_the_order_they_were_learned_and_from_the_left(tmp_path: Path) -> None:
    tokenizer = read_bpe(written(toy(), tmp_path))
    # AA first, from the left; then AA + A, so that AA + AA, learned later, finds nothing.
    assert cut(tokenizer, "AAAAA") == ["", "AA", "AAA", ""]
    assert cut(tokenizer, "AAAA") == ["", "AAAA", ""]
    assert cut(tokenizer, "TACGT") == ["", "TA", "CG", "T", ""]
    assert tokenizer.encode(encode("TACGT")).ids.tolist() == [1, 12, 11, 8, 2]


def test_tokens_that_are_no_bases_have_empty_places(tmp_path: Path) -> None:
    tokens = read_bpe(written(toy(), tmp_path)).encode(encode("ACGTT"))
    assert tokens.starts.tolist() == [0, 0, 3, 4, 5]
    assert tokens.ends.tolist() == [0, 3, 4, 5, 5]
    assert tokens.touching(0, 5).tolist() == [1, 2, 3]
    assert [array.dtype for array in tokens] == [np.int32] * 3


def test_an_empty_sequence_has_only_the_tokens_at_the_ends(tmp_path: Path) -> None:
    tokens = read_bpe(written(toy(), tmp_path)).encode(b"")
    assert [array.tolist() for array in tokens] == [[1, 2], [0, 0], [0, 0]]


def test_each_n_is_unknown_where_it_has_no_token(tmp_path: Path) -> None:
    tokenizer = read_bpe(written(toy(), tmp_path))
    assert tokenizer.encode(encode("ANNNA")).ids.tolist() == [1, 5, 0, 0, 0, 5, 2]
    assert tokenizer.unknown_id == 0


def test_ten_n_are_one_token_and_nine_are_letters(tmp_path: Path) -> None:
    tokenizer = read_bpe(written(with_long_runs(), tmp_path))
    assert cut(tokenizer, "AT" + "N" * 11 + "AA") == ["", "A", "T", "N" * 11, "AA", ""]
    assert tokenizer.encode(encode("AT" + "N" * 10)).ids.tolist() == [1, 5, 8, 10, 2]
    assert cut(tokenizer, "AT" + "N" * 9) == ["", "A", "TN", "NN", "NN", "NN", "NN", ""]
    assert cut(tokenizer, "N" * 10) == ["", "N" * 10, ""]


def test_a_folder_and_merges_in_two_parts_are_read(tmp_path: Path) -> None:
    content = toy()
    expected = read_bpe(written(content, tmp_path))
    content["model"]["merges"] = [merge.split(" ") for merge in MERGES]
    written(content, tmp_path)
    assert read_bpe(tmp_path) == expected
    assert (expected.mask_id, expected.n_vocabulary) == (4, 16)


def test_what_is_kept_for_the_next_time_cannot_be_changed(tmp_path: Path) -> None:
    tokenizer = read_bpe(written(toy(), tmp_path))
    with pytest.raises(ValueError, match="read-only"):
        tokenizer.encode(encode("ACGT")).ids[0] = 7
    assert tokenizer.encode(encode("ACGT")) is tokenizer.encode(encode("ACGT"))


def joined_slowly(letters: str, merges: tuple[str, ...]) -> list[str]:
    """Join the earliest learned pair, the leftmost of it, until there is none."""
    ranks = {tuple(merge.split(" ")): rank for rank, merge in enumerate(merges)}
    tokens = list(letters)
    while found := [(ranks[pair], place) for place, pair in enumerate(pairwise(tokens)) if pair in ranks]:
        place = min(found)[1]
        tokens[place : place + 2] = ["".join(tokens[place : place + 2])]
    return tokens


@given(letters=st.text("AACGTTN", max_size=60))
def test_tokens_are_those_of_the_slow_way_and_cover_every_base(
    letters: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tokenizer = read_bpe(written(toy(), tmp_path_factory.getbasetemp()))
    assert cut(tokenizer, letters)[1:-1] == joined_slowly(letters, MERGES)


@pytest.mark.parametrize("kind", ["cut_t2t", "cut_v1", "long_runs", "toy"])
def test_ids_equal_those_of_the_package_tokenizers(kind: str, tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    content = {"long_runs": with_long_runs, "toy": toy}.get(kind, lambda: real(kind.replace("cut", "gena")))()
    for entry in content["added_tokens"]:
        entry |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False) | {"special": True}
    for step in content["post_processor"].get("single", []):
        next(iter(step.values()))["type_id"] = 0
    if content["post_processor"]["type"] == "TemplateProcessing":
        names = {name: {"id": name, "ids": [SPECIAL.index(name)], "tokens": [name]} for name in ("[CLS]", "[SEP]")}
        content["post_processor"] |= {"pair": [], "special_tokens": names}
        content["post_processor"]["pair"] = content["post_processor"]["single"]
    path = written({"version": "1.0", "truncation": None, "padding": None, "decoder": None} | content, tmp_path)
    package, ours = tokenizers.Tokenizer.from_file(str(path)), read_bpe(path)
    generator = np.random.RandomState(0)
    for number in range(200):
        sequence = generator.choice(5, number, p=(0.3, 0.2, 0.2, 0.2, 0.1)).astype(np.uint8)
        sequence[number // 2 : number // 2 + number % 14] = 4
        found = package.encode(decode(sequence.tobytes()))
        assert ours.encode(sequence.tobytes()).ids.tolist() == found.ids


def real(name: str) -> dict[str, Any]:
    """Give what a published tokenizer needs for the examples."""
    found: dict[str, Any] = json.loads(CUT.read_text())[name]
    return found


@pytest.mark.parametrize("name", ["gena_t2t", "gena_v1"])
def test_published_examples_come_out_with_the_merges_that_they_need(name: str, tmp_path: Path) -> None:
    tokenizer = read_bpe(written(real(name), tmp_path))
    for letters, ids in EXAMPLES[name].items():
        assert tokenizer.encode(encode(letters)).ids.tolist() == [int(number) for number in ids.split()]


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_examples_come_out_with_the_published_file(name: str) -> None:
    folder = os.environ.get("VARFM_TOKENIZERS")
    if not folder:
        pytest.skip("VARFM_TOKENIZERS names no folder with dnabert2.json, gena_t2t.json and gena_v1.json")
    path = Path(folder, f"{name}.json")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == PUBLISHED[name]
    tokenizer = read_bpe(path)
    assert tokenizer.n_vocabulary == {"dnabert2": 4096}.get(name, 32_000)
    for letters, ids in EXAMPLES[name].items():
        assert tokenizer.encode(encode(letters.lower())).ids.tolist() == [int(number) for number in ids.split()]
    if name == "dnabert2":
        first = next(iter(EXAMPLES[name]))
        words = "A CGTA GCA TCGGA TCTATCTA TCGACA CTTGG TTA TCGA TCTA CGA GCA TCTC GTTA GC"
        assert cut(tokenizer, first)[1:-1] == words.split()


def changed(content: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    """Give a copy with another value at a path of keys."""
    content = copy.deepcopy(content)
    *parents, last = path.split("/")
    inner = content
    for key in parents:
        inner = inner[int(key)] if isinstance(inner, list) else inner[key]
    inner[last] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model", None, "does not hold byte-pair tokens"),
        ("model/type", "WordPiece", "does not hold byte-pair tokens"),
        ("model/vocab", [], "does not hold byte-pair tokens"),
        ("model/fuse_unk", True, "fuse_unk is set"),
        ("model/ignore_merges", True, "ignore_merges is set"),
        ("model/dropout", 0.1, "dropout is set"),
        ("model/end_of_word_suffix", "</w>", "end_of_word_suffix is set"),
        ("model/unk_token", None, "lacks a token for"),
        ("model/vocab/A", 6, "the same id"),
        ("model/vocab/A", -1, "none that fits"),
        ("model/vocab/A", "5", "whole numbers"),
        ("model/merges", None, "no list of merges"),
        ("model/merges", ["A"], "merge 0 is not a pair"),
        ("model/merges", ["A A", "C C"], "merge 1 names a token"),
        ("added_tokens", [{"id": 40, "content": "ACG"}], "made of bases"),
        ("post_processor", None, "before and after"),
        ("post_processor/single", [], "before and after"),
        ("post_processor/type", "ByteLevel", "before and after"),
        ("normalizer", {"type": "Lowercase"}, "changes sequences"),
        ("normalizer", {"type": "Replace", "pattern": {"Regex": "N{10,}"}, "content": "Z"}, "changes sequences"),
        ("pre_tokenizer", {"type": "ByteLevel"}, "splits sequences"),
    ],
)
def test_files_that_cut_in_another_way_are_refused(path: str, value: object, message: str, tmp_path: Path) -> None:
    file = written(changed(toy(), path, value), tmp_path)
    with pytest.raises(ModelError, match=message) as error:
        read_bpe(file)
    assert str(file) in str(error.value)


def test_a_long_run_that_is_not_set_apart_is_refused(tmp_path: Path) -> None:
    for splitter in (
        None,
        {"type": "Whitespace"},
        {"type": "Split", "pattern": {"String": "-"}, "behavior": "Removed"},
    ):
        with pytest.raises(ModelError, match="splits sequences"):
            read_bpe(written(changed(with_long_runs(), "pre_tokenizer", splitter), tmp_path))


def test_a_vocabulary_without_the_mask_is_refused(tmp_path: Path) -> None:
    content = changed(toy(), "added_tokens", [])
    del content["model"]["vocab"]["[MASK]"]
    with pytest.raises(ModelError, match=r"or \[MASK\]"):
        read_bpe(written(content, tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_a_file_that_is_no_tokenizer_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(ModelError, match="tokenizer"):
        read_bpe(path)


def test_a_folder_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        read_bpe(tmp_path)
