"""Tests of varfm.readers.torch_pickle: state dicts in both formats of PyTorch, and files that would run code."""

from __future__ import annotations

import os
import re
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from varfm.errors import ModelError
from varfm.readers import read_tensors

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(5)}
both_formats = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])


def saved(folder: Path, value: Any, is_zip: bool = True) -> Path:
    torch.save(value, folder / "w.pth", _use_new_zipfile_serialization=is_zip)
    return folder / "w.pth"


@both_formats
@pytest.mark.parametrize(
    "value",
    [
        STATE,
        OrderedDict(STATE),
        {"state_dict": STATE, "epoch": 3, "arch": "sei", "optimizer": {"state": {0: {"m": torch.zeros(3)}}}},
        {"model": STATE, "lr": 1e-3},
    ],
    ids=["plain", "ordered", "state_dict", "model"],
)
def test_state_dict_is_found_at_the_top_or_under_its_usual_names(tmp_path: Path, value: Any, is_zip: bool) -> None:
    tensors = read_tensors(saved(tmp_path, value, is_zip))
    assert {key: array.tolist() for key, array in tensors.items()} == {"a.weight": [[0, 1, 2], [3, 4, 5]], "n": 5}
    assert tensors["a.weight"].dtype == np.float32 and tensors["n"].dtype == np.int64


@both_formats
def test_state_dict_of_a_module_with_views_and_parameters_is_read(tmp_path: Path, is_zip: bool) -> None:
    flat = torch.arange(10.0)
    state = {"parameter": torch.nn.Parameter(flat[2:4]), "turned": flat.reshape(2, 5).T, "norm": torch.zeros(0, 3)}
    tensors = read_tensors(saved(tmp_path, state, is_zip))
    assert tensors["parameter"].tolist() == [2, 3]
    assert tensors["turned"].tolist() == [[0, 5], [1, 6], [2, 7], [3, 8], [4, 9]]
    assert tensors["norm"].shape == (0, 3)


@both_formats
def test_bfloat16_becomes_float32_and_booleans_become_bytes(tmp_path: Path, is_zip: bool) -> None:
    state = {"b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16), "m": torch.tensor([True, False])}
    tensors = read_tensors(saved(tmp_path, state, is_zip))
    assert tensors["b"].dtype == np.float32 and tensors["b"].tolist() == [1.5, -2.0]
    assert tensors["m"].dtype == np.uint8 and tensors["m"].tolist() == [1, 0]


@both_formats
def test_tensors_may_be_written_to_and_the_file_stays(tmp_path: Path, is_zip: bool) -> None:
    path = saved(tmp_path, STATE, is_zip)
    before = path.read_bytes()
    read_tensors(path)["a.weight"][...] = 9
    assert path.read_bytes() == before


def test_tensors_of_a_zip_file_are_mapped_and_not_copied(tmp_path: Path) -> None:
    path = saved(tmp_path, STATE)
    array = read_tensors(path)["a.weight"]
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("needs the map of memory of Linux")
    address = array.__array_interface__["data"][0]
    ranges = [line.split() for line in maps.read_text().splitlines() if line.endswith(path.name)]
    assert any(int(low, 16) <= address < int(high, 16) for low, high in (line[0].split("-") for line in ranges))


@both_formats
def test_file_that_was_saved_on_a_gpu_is_read(tmp_path: Path, is_zip: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.serialization, "location_tag", lambda _: "cuda:0")
    path = saved(tmp_path, STATE, is_zip)
    assert b"cuda:0" in path.read_bytes()
    assert read_tensors(path)["a.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_file_that_python_2_wrote_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, STATE, is_zip=False)
    content, n_texts = re.subn(rb"X(.)\0\0\0(?=[ -~])", rb"U\1", path.read_bytes())  # its texts were of another kind
    assert n_texts > 8
    path.write_bytes(content)
    assert read_tensors(path)["a.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


class _Explodes:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("executed",)


@both_formats
@pytest.mark.parametrize("name", ["a.weight", "state_dict", "epoch"])
def test_code_in_a_file_is_named_and_never_run(
    tmp_path: Path, name: str, is_zip: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, {**STATE, name: _Explodes()}, is_zip)
    with pytest.raises(
        ModelError, match=r"holds the Python object (posix|nt|os)\.mkdir; only tensors are read"
    ) as caught:
        read_tensors(path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()
    torch.load(path, weights_only=False)
    assert (tmp_path / "executed").exists(), "the bomb must be one"


@both_formats
def test_whole_module_is_refused(tmp_path: Path, is_zip: bool) -> None:
    with pytest.raises(ModelError, match=r"holds the Python object torch\.nn\.modules\.linear\.Linear"):
        read_tensors(saved(tmp_path, torch.nn.Linear(2, 3), is_zip))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "holds an empty dict, expected a dict of tensors"),
        ([torch.zeros(2)], "holds a value of type list, expected a dict of tensors"),
        (torch.zeros(2), "holds a value of type Tensor, expected a dict of tensors"),
        ({"state_dict": {}}, "holds an empty dict, expected a dict of tensors"),
        ({"a": torch.zeros(2), "epoch": 3}, "a value of type int under 'epoch', expected nothing but tensors"),
        ({"state_dict": {"a": {"b": torch.zeros(2)}}}, "a value of type dict under 'a', expected nothing but tensors"),
        ({1: torch.zeros(2)}, "a value of type Tensor under '1', expected nothing but tensors"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "tensor 'a' holds complex64, expected integers or floats"),
        ({"a": torch.zeros(2).to_sparse()}, "tensor 'a' is not an ordinary one"),
        ({"a": torch.zeros(2, device="meta")}, "tensor 'a' is not an ordinary one"),
        ({"a": torch.zeros(1).expand(10**9)}, "tensor 'a' is larger than its 4 bytes"),
        (
            {str(n): torch.ones(900) for n in range(200)} | {"a": torch.tensor(float("inf"))},
            "'a' holds NaN or infinity",
        ),
    ],
    ids=[*"abcdefghijkl"],
)
def test_file_with_anything_but_ordinary_tensors_is_refused(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        read_tensors(saved(tmp_path, value))
    assert "\n" not in str(caught.value)


def test_one_tensor_under_very_many_names_is_refused(tmp_path: Path) -> None:
    shared = torch.zeros(100_000)
    with pytest.raises(ModelError, match="claim to hold 400000000 bytes of weights"):
        read_tensors(saved(tmp_path, {str(n): shared for n in range(1000)}))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_script_of_torch_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 3), torch.zeros(1, 2)), tmp_path / "w.pt")
    with pytest.raises(ModelError, match="a TorchScript program, not a state dict"):
        read_tensors(tmp_path / "w.pt")


def test_zip_archive_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w") as archive:
        archive.writestr("sei.pth", b"content")
    with pytest.raises(ModelError, match="a zip archive, but not one of PyTorch"):
        read_tensors(tmp_path / "w.pth")


def test_packed_archive_is_refused_unread(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", bytes(10_000_000))
    with pytest.raises(ModelError, match="a packed zip archive"):
        read_tensors(tmp_path / "w.pth")


def test_every_flipped_bit_of_the_content_of_a_zip_file_is_caught(tmp_path: Path) -> None:
    path = saved(tmp_path, STATE)
    content = path.read_bytes()
    start = content.index(STATE["a.weight"].numpy().tobytes())
    pickled = content.index(b"a.weight")
    for place in (*range(start, start + 24), *range(pickled - 10, pickled + 60)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"the checksum of its member w/data.* is wrong"):
            read_tensors(path)
