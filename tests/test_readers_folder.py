"""Tests of varfm.readers.folder: folders of Hugging Face, whole and in shards."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from varfm.errors import ModelError
from varfm.readers import read_tensors
from varfm.readers.safetensors import write_safetensors

ONE, TWO = np.array([1.0], np.float32), np.array([2.0], np.float32)


def shards(folder: Path, weight_map: object, index: str = "model.safetensors.index.json") -> Path:
    """Write two shards, `a` and `b` in the first, and an index."""
    write_safetensors(folder / "1.safetensors", {"a": ONE, "b": ONE})
    write_safetensors(folder / "2.safetensors", {"c": TWO})
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 12}, "weight_map": weight_map}))
    return folder


RIGHT = {"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}


def test_safetensors_come_before_the_pickle(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "model.safetensors", {"a": ONE})
    torch.save({"a": torch.tensor([2.0])}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    assert read_tensors(tmp_path)["a"].tolist() == [1.0]
    (tmp_path / "model.safetensors").unlink()
    assert read_tensors(tmp_path)["a"].tolist() == [2.0]


@pytest.mark.parametrize("given", ["", "model.safetensors.index.json"])
def test_all_shards_of_an_index_are_read(tmp_path: Path, given: str) -> None:
    tensors = read_tensors(shards(tmp_path, RIGHT) / given)
    assert {key: array.tolist() for key, array in tensors.items()} == {"a": [1.0], "b": [1.0], "c": [2.0]}
    assert tensors.path == tmp_path


def test_shards_of_pickles_are_read(tmp_path: Path) -> None:
    torch.save({"a": torch.tensor([2.0])}, tmp_path / "pytorch_model-00001-of-00001.bin")
    index = {"weight_map": {"a": "pytorch_model-00001-of-00001.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    assert read_tensors(tmp_path)["a"].tolist() == [2.0]


@pytest.mark.parametrize(
    ("weight_map", "said"),
    [
        ({"a": "1.safetensors"}, "1.safetensors does not hold the tensors that the index says"),
        ({**RIGHT, "d": "2.safetensors"}, "2.safetensors does not hold the tensors that the index says"),
        ({**RIGHT, "c": "1.safetensors"}, "1.safetensors does not hold the tensors that the index says"),
        ({**RIGHT, "d": "3.safetensors"}, r"3\.safetensors: cannot be read"),
        ({**RIGHT, "c": "../2.safetensors"}, "names a file outside its own folder"),
        ({**RIGHT, "c": "/etc/passwd"}, "names a file outside its own folder"),
        ({**RIGHT, "c": "C:2.safetensors"}, "names a file outside its own folder"),
        ({**RIGHT, "c": "..\\2.safetensors"}, "names a file outside its own folder"),
        ({**RIGHT, "c": ".."}, "names a file outside its own folder"),
        ({**RIGHT, "c": ""}, "names a file outside its own folder"),
        ({**RIGHT, "c": 2}, "names a file outside its own folder"),
        ({str(n): f"{n}.bin" for n in range(1001)}, "or too many"),
        ({}, "it has no weight_map"),
        (["a"], "it has no weight_map"),
    ],
    ids=[*"abcdefghijklmn"],
)
def test_index_that_does_not_fit_is_refused(tmp_path: Path, weight_map: object, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        read_tensors(shards(tmp_path, weight_map))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "<html>", "[" * 100_000, "\x80"])
def test_index_that_is_no_index_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text, "latin-1")
    with pytest.raises(ModelError, match="index of shards") as caught:
        read_tensors(tmp_path)
    assert "\n" not in str(caught.value)


def test_shard_that_is_a_pickle_bomb_of_another_name_is_refused(tmp_path: Path) -> None:
    folder = shards(tmp_path, RIGHT)
    (folder / "2.safetensors").write_bytes(b"\x80\x04cos\nmkdir\n")
    with pytest.raises(ModelError, match=r"2\.safetensors: a Python pickle, which varfm never runs"):
        read_tensors(folder)
