"""Writers of the formats in which authors published weights, so that tests need no file of theirs."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

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
