"""Tests of varfm.readers.torch7: trees of Lua values, what is kept of them, and what is refused."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from writers import Function, Module, sequential, write_torch7

from varfm.errors import ModelError
from varfm.readers import Tensors, read_tensors, torch7

WEIGHT = np.arange(6, dtype=np.float32).reshape(2, 3)
BIAS = np.array([0.5, -0.5])
STATM = Path("/proc/self/statm")


def linear(**fields: Any) -> Module:
    return Module("nn.Linear", {"weight": WEIGHT, "bias": BIAS, **fields})


def read(folder: Path, value: Any) -> Tensors:
    write_torch7(folder / "w.t7", value)
    return read_tensors(folder / "w.t7")


def refused(folder: Path, content: bytes) -> str:
    (folder / "w.t7").write_bytes(content)
    with pytest.raises(ModelError) as caught:
        torch7.read(folder / "w.t7")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_network_gives_parameters_by_path_counted_from_one(tmp_path: Path) -> None:
    tensors = read(tmp_path, sequential(linear(), Module("nn.Threshold", {"threshold": 0, "val": 1e-6}), linear()))
    assert sorted(tensors) == ["modules.1.bias", "modules.1.weight", "modules.3.bias", "modules.3.weight"]
    assert tensors["modules.1.weight"].dtype == np.float32 and tensors["modules.1.weight"].tolist() == WEIGHT.tolist()
    assert tensors["modules.3.bias"].dtype == np.float64 and tensors["modules.3.bias"].tolist() == [0.5, -0.5]


def test_numbers_texts_and_classes_are_facts_by_path(tmp_path: Path) -> None:
    network = sequential(Module("nn.Threshold", {"val": 1e-6, "inplace": True}), linear(kW=8))
    facts = read(tmp_path, {"model": network, "target_type": "binary"}).facts
    assert facts == {
        "model": "nn.Sequential",
        "model.modules.1": "nn.Threshold",
        "model.modules.1.val": 1e-6,
        "model.modules.1.inplace": True,
        "model.modules.2": "nn.Linear",
        "model.modules.2.kW": 8.0,
        "model.train": False,
        "target_type": "binary",
    }


def test_what_only_training_needs_is_left_out(tmp_path: Path) -> None:
    network = sequential(linear(gradWeight=WEIGHT, output=BIAS, running_std=BIAS, buffers=[BIAS]))
    value = {"model": network, "optim_state": {"m": BIAS}, "parameters": BIAS, "gradParameters": BIAS, "means": BIAS}
    assert sorted(read(tmp_path, value)) == [
        "means",
        "model.modules.1.bias",
        "model.modules.1.buffers.1",
        "model.modules.1.running_std",
        "model.modules.1.weight",
    ]


def test_values_that_nobody_needs_may_be_nan(tmp_path: Path) -> None:
    bad = np.array([np.nan])
    tensors = read(tmp_path, {"model": sequential(linear(gradBias=bad)), "optim_state": bad})
    assert len(tensors) == 2


def test_views_of_one_storage_and_transposed_tensors_come_out_right(tmp_path: Path) -> None:
    flat = np.arange(10.0)
    tensors = read(tmp_path, {"a": flat[2:8].reshape(2, 3), "b": flat[::3], "c": flat.reshape(2, 5).T, "d": flat[9:]})
    assert (tmp_path / "w.t7").read_bytes().count(flat.tobytes()) == 1
    assert {key: array.tolist() for key, array in tensors.items()} == {
        "a": [[2, 3, 4], [5, 6, 7]],
        "b": [0, 3, 6, 9],
        "c": [[0, 5], [1, 6], [2, 7], [3, 8], [4, 9]],
        "d": [9],
    }


def test_tensors_may_be_written_to_and_the_file_stays(tmp_path: Path) -> None:
    for shift in range(8):  # each makes the storage begin at another remainder of 8
        value = {"a" * (shift + 1): WEIGHT.astype(np.float64)}
        (array,) = read(tmp_path, value).values()
        before = (tmp_path / "w.t7").read_bytes()
        assert array.flags.aligned
        array[0, 0] = 7
        assert (tmp_path / "w.t7").read_bytes() == before


def test_object_that_occurs_twice_has_both_paths(tmp_path: Path) -> None:
    module = linear()
    tensors = read(tmp_path, {"model": sequential(module), "layers": [module]})
    assert {"model.modules.1.weight", "layers.1.weight"} <= tensors.keys()


def test_table_that_holds_itself_is_followed_once(tmp_path: Path) -> None:
    table: dict[str, Any] = {"weights": WEIGHT}
    table["again"] = table
    assert list(read(tmp_path, table)) == ["weights"]


@pytest.mark.parametrize("tag", [6, 7, 8])
def test_functions_are_stepped_over(tmp_path: Path, tag: int) -> None:
    value = {"f": Function(b"\x1bLuaQ os.execute", {"upvalue": BIAS}, tag), "weights": WEIGHT}
    tensors = read(tmp_path, value)
    assert list(tensors) == ["weights"] and tensors.facts == {}


def test_empty_tensors_and_single_values_are_read(tmp_path: Path) -> None:
    tensors = read(tmp_path, {"empty": np.zeros(0), "one": np.array([3.0])})
    assert tensors["empty"].shape == (0,) and tensors["one"].tolist() == [3.0]


def test_file_of_one_tensor_has_it_under_the_empty_path(tmp_path: Path) -> None:
    assert read(tmp_path, WEIGHT)[""].tolist() == WEIGHT.tolist()


def test_class_name_without_a_version_is_understood(tmp_path: Path) -> None:
    write_torch7(tmp_path / "w.t7", sequential(linear()))
    content = (tmp_path / "w.t7").read_bytes().replace(struct.pack("<i", 3) + b"V 1", b"")
    (tmp_path / "w.t7").write_bytes(content)
    assert len(read_tensors(tmp_path / "w.t7")) == 2


@pytest.mark.parametrize("name", ["nn.gModule", "tds.Hash", "torch.Generator", "Blah", "os.execute", "nn.\x1b[31m\n"])
def test_class_that_is_not_known_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"an object of the class .*not among those that are read") as caught:
        read(tmp_path, sequential(Module(name, {"weight": WEIGHT})))
    assert str(caught.value).isprintable()


def test_file_without_tensors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a Torch7 file without weights"):
        read(tmp_path, {"train": True})


def test_two_values_of_one_path_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"two values .* have the path 'a\.b'"):
        read(tmp_path, {"a.b": WEIGHT, "a": {"b": WEIGHT}})


def test_table_whose_key_is_a_table_is_refused(tmp_path: Path) -> None:
    content = struct.pack("<iii iii", 3, 1, 1, 3, 2, 0) + struct.pack("<i", 0)
    assert "keys that are neither numbers nor text" in refused(tmp_path, content)


def tensor_bytes(
    shape: list[int], strides: list[int], offset: int = 1, size: int = 6, name: bytes = b"Double"
) -> bytes:
    head = struct.pack("<iii", 4, 1, len(name) + 12) + b"torch." + name + b"Tensor"
    head += struct.pack(f"<i{2 * len(shape)}qq", len(shape), *shape, *strides, offset)
    return (
        head
        + struct.pack("<iii", 4, 2, 19)
        + b"torch.DoubleStorage"
        + struct.pack("<q", size)
        + np.arange(6.0).tobytes()
    )


def test_tensor_written_by_hand_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.t7").write_bytes(tensor_bytes([2, 2], [3, 1], 2))
    assert read_tensors(tmp_path / "w.t7")[""].tolist() == [[1, 2], [4, 5]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (tensor_bytes([2, 3], [3, 1], 2), "reaches beyond its storage"),
        (tensor_bytes([2, 3], [3, 1], 0), "reaches beyond its storage"),
        (tensor_bytes([2, 3], [3, 1], -(2**62)), "reaches beyond its storage"),
        (tensor_bytes([2, -3], [3, 1]), "reaches beyond its storage"),
        (tensor_bytes([2, 3], [3, -1], 3), "reaches beyond its storage"),
        (tensor_bytes([10**6, 10**6], [0, 0]), "reaches beyond its storage"),
        (tensor_bytes([2**62, 2**62], [2**62, 1]), "reaches beyond its storage"),
        (tensor_bytes([1] * 17, [1] * 17), "a tensor of 17 dimensions"),
        (tensor_bytes([2, 3], [3, 1], size=7), "a value longer than the file"),
        (tensor_bytes([2, 3], [3, 1], size=-1), "a value longer than the file"),
        (tensor_bytes([2, 3], [3, 1], size=2**62), "a value longer than the file"),
        (tensor_bytes([2, 3], [3, 1], name=b"Float"), "without a storage of its own type"),
        (struct.pack("<iii", 3, 1, -1), "a table of -1 fields"),
        (struct.pack("<iii", 3, 1, 2**31 - 1), "damaged or cut"),
        (struct.pack("<ii", 2, 2**31 - 1), "a value longer than the file"),
        (struct.pack("<i", 9), "unknown type 9"),
        (b"".join(struct.pack("<iiiid", 3, n, 1, 1, 1.0) for n in range(1, 5000)), "too deeply nested"),
    ],
    ids=[*"abcdefghijklmnopq"],
)
def test_impossible_sizes_are_refused_before_anything_is_made_of_them(
    tmp_path: Path, content: bytes, said: str
) -> None:
    assert said in refused(tmp_path, content)


def test_a_million_values_are_too_many(tmp_path: Path) -> None:
    fields = struct.pack("<id ii", 1, 1.0, 5, 1) * 500_001
    assert "too many" in refused(tmp_path, struct.pack("<iii", 3, 1, 500_001) + fields)


def test_tables_that_multiply_are_too_many_paths(tmp_path: Path) -> None:
    table: Any = {"weights": WEIGHT}
    for _ in range(30):
        table = {"a": table, "b": table}
    with pytest.raises(ModelError, match="too many values"):
        read(tmp_path, table)


@pytest.mark.skipif(not STATM.exists(), reason="needs the memory figures of Linux")
def test_optimiser_state_is_never_read(tmp_path: Path) -> None:
    path = tmp_path / "w.t7"
    write_torch7(path, {"optim_state": np.zeros(1), "model": sequential(linear())})
    content = path.read_bytes()
    storage = struct.pack("<q", 1) + bytes(8)
    start = content.index(b"torch.DoubleStorage" + storage) + 19
    with open(path, "wb") as file:
        file.write(content[:start] + struct.pack("<q", 1 << 27))
        file.seek(1 << 30, os.SEEK_CUR)  # a hole, which takes no room on the disk
        file.write(content[start + len(storage) :])
    before = n_resident_pages()
    tensors = read_tensors(path)
    assert (n_resident_pages() - before) * os.sysconf("SC_PAGE_SIZE") < 100_000_000
    assert tensors["model.modules.1.weight"].tolist() == WEIGHT.tolist()


def n_resident_pages() -> int:
    return int(STATM.read_text().split()[1])
