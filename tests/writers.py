"""Writers of the formats in which authors published weights, so that tests need no file of theirs."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from varfm.readers.crc32c import crc32c, masked

Array = NDArray[Any]

_TF_TYPES = {"f4": 1, "f8": 2, "i4": 3, "u1": 4, "i8": 9, "f2": 19}
_TORCH7_NAMES = {"f4": "Float", "f8": "Double", "i8": "Long", "i4": "Int", "u1": "Byte"}


@dataclass(eq=False)
class Module:
    """An object of Torch7, e.g. `Module("nn.Linear", {"weight": ..., "bias": ...})`."""

    name: str
    fields: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False)
class Function:
    """A Lua function with its dumped code and the values that it closes over."""

    code: bytes
    upvalues: Any = None
    tag: int = 8


def sequential(*modules: Module) -> Module:
    """Give an `nn.Sequential` of modules, which Torch7 counts from 1."""
    return Module("nn.Sequential", {"modules": list(modules), "train": False})


def write_torch7(path: Path, value: Any) -> None:
    """Write a value as `torch.save` of Torch7 does.

    Args:
        value: None, bool, int or float (a double), str, list (a table counted from 1), dict (a table), `Module`,
            `Function`, or a NumPy array (a tensor of its type). An object that occurs twice is written once.
    """
    with open(path, "wb") as file:
        _Torch7(file).value(value)


class _Torch7:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._numbers: dict[int, int] = {}
        self._n_objects = 0
        self._kept: list[Any] = []  # so that no id is used twice

    def value(self, value: Any) -> None:
        if value is None:
            self._pack("i", 0)
        elif isinstance(value, bool):
            self._pack("ii", 5, value)
        elif isinstance(value, int | float):
            self._pack("id", 1, value)
        elif isinstance(value, str):
            self._pack("i", 2)
            self._string(value)
        elif isinstance(value, list):
            self._table(value, {number: item for number, item in enumerate(value, 1)})
        elif isinstance(value, dict):
            self._table(value, value)
        elif isinstance(value, Module):
            if self._is_new(4, value):
                self._names(value.name)
                self._table(value.fields, value.fields)
        elif isinstance(value, Function):
            self._function(value)
        else:
            self._tensor(value)

    def _table(self, identity: Any, items: Mapping[Any, Any]) -> None:
        if self._is_new(3, identity):
            self._pack("i", len(items))
            for key, item in items.items():
                self.value(key)
                self.value(item)

    def _function(self, function: Function) -> None:
        if function.tag == 6:
            self._pack("i", 6)
        elif not self._is_new(function.tag, function):
            return
        self._pack("i", len(function.code))
        self._file.write(function.code)
        self.value(function.upvalues)

    def _tensor(self, array: Array) -> None:
        """Write the tensor with the array's own strides, and its base as the storage."""
        if not self._is_new(4, array):
            return
        name = _TORCH7_NAMES[array.dtype.str[1:]]
        self._names(f"torch.{name}Tensor")
        base = array.base if isinstance(array.base, np.ndarray) and array.base.dtype == array.dtype else array
        if not base.flags.c_contiguous:
            array = base = np.ascontiguousarray(array)
        offset = (array.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // array.itemsize
        strides = [stride // array.itemsize for stride in array.strides]
        self._pack("i", array.ndim)
        self._pack(f"{2 * array.ndim}q", *array.shape, *strides)
        self._pack("q", offset + 1)
        if not base.size:
            self._pack("i", 0)
        elif self._is_new(4, base, "storage"):
            self._names(f"torch.{name}Storage")
            self._pack("q", base.size)
            self._file.write(memoryview(base.reshape(-1)).cast("B"))

    def _is_new(self, tag: int, value: Any, role: str = "") -> bool:
        """Write tag and number of an object; say whether its content must follow."""
        key = hash((id(value), role))
        is_new = key not in self._numbers
        if is_new:
            self._n_objects += 1
            self._numbers[key] = self._n_objects
            self._kept.append(value)
        self._pack("ii", tag, self._numbers[key])
        return is_new

    def _names(self, name: str) -> None:
        self._string("V 1")
        self._string(name)

    def _string(self, text: str) -> None:
        self._pack("i", len(text))
        self._file.write(text.encode("latin-1"))

    def _pack(self, layout: str, *values: Any) -> None:
        self._file.write(struct.pack("<" + layout, *values))


def write_tf_bundle(prefix: Path, arrays: Mapping[str, Array]) -> None:
    """Write a TensorFlow checkpoint: `PREFIX.index` and `PREFIX.data-00000-of-00001`.

    Args:
        prefix: As TensorFlow calls it, e.g. `folder/model.ckpt`.
        arrays: Integers and floats by key, in any order. The large ones are not copied.
    """
    entries = {b"": _field(1, 1) + _field(3, _field(1, 1))}  # one data file, little-endian, version 1
    offset = 0
    with open(prefix.with_name(prefix.name + ".data-00000-of-00001"), "wb") as file:
        for key in sorted(arrays):
            content = np.ascontiguousarray(arrays[key]).reshape(-1).view(np.uint8)
            file.write(memoryview(content))
            shape = b"".join(_field(2, _field(1, size)) for size in arrays[key].shape)
            entry = _field(1, _TF_TYPES[arrays[key].dtype.str[1:]]) + _field(2, shape)
            entry += _field(4, offset) + _field(5, len(content))
            entries[key.encode()] = entry + b"\x35" + struct.pack("<I", masked(crc32c(content)))
            offset += len(content)
    _write_table(prefix.with_name(prefix.name + ".index"), entries)


def _field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value) if value else b""
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    content = bytearray()
    while value >= 0x80:
        content.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*content, value])


def _write_table(path: Path, entries: Mapping[bytes, bytes]) -> None:
    """Write sorted keys and values as a table of LevelDB, 20 entries to a block."""
    keys = sorted(entries)
    with open(path, "wb") as file:
        handles = {}
        for start in range(0, len(keys), 20):
            part = keys[start : start + 20]
            handles[part[-1]] = _write_block(file, {key: entries[key] for key in part})
        metaindex, index = _write_block(file, {}), _write_block(file, handles)
        file.write((metaindex + index).ljust(40, b"\0") + (0xDB4775248B80FB57).to_bytes(8, "little"))


def _write_block(file: BinaryIO, entries: Mapping[bytes, bytes]) -> bytes:
    """Write one block, every key shortened by what it shares with the one before; give where it lies."""
    content, last = b"", b""
    for key, value in entries.items():
        shared = next((n for n, pair in enumerate(zip(key, last, strict=False)) if pair[0] != pair[1]), len(last))
        content += _varint(shared) + _varint(len(key) - shared) + _varint(len(value)) + key[shared:] + value
        last = key
    content += struct.pack("<II", 0, 1)  # one restart point, at the beginning
    offset = file.tell()
    file.write(content + b"\0" + struct.pack("<I", masked(crc32c(content + b"\0"))))
    return _varint(offset) + _varint(len(content))


def write_xgboost_linear(path: Path, weights: Array, bias: float, base_score: float) -> None:
    """Write a linear regression as xgboost 0.7 does, e.g. 20,030 weights for ExPecto."""
    n = len(weights)
    head = struct.pack("<4s fIi 124x Q10s Q8s", b"binf", base_score, n, 0, 10, b"reg:linear", 8, b"gblinear")
    head += struct.pack("<Ii 128x Q", n, 1, n + 1)
    path.write_bytes(head + np.append(np.asarray(weights, "<f4"), np.float32(bias)).astype("<f4").tobytes())
