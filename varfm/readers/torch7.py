"""Torch7 binary files (`.t7`, `.th`, `.net`, `.cpu`): a tree of Lua values, of which tensors and plain values are kept.

Nothing of a file is run: functions are stepped over, and objects are built for the classes listed here alone. The file
is memory-mapped, so that a storage nobody asks for (optimiser states, activations) is never read from the disk.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from varfm.errors import ModelError
from varfm.readers.tensors import Array, Fact, Tensors

_NIL, _NUMBER, _STRING, _TABLE, _TORCH, _BOOLEAN, _FUNCTION, _OLD_CLOSURE, _CLOSURE = range(9)
_ELEMENTS: dict[str, np.dtype[Any]] = {
    "Byte": np.dtype("u1"),
    "Char": np.dtype("i1"),
    "Short": np.dtype("<i2"),
    "Int": np.dtype("<i4"),
    "Long": np.dtype("<i8"),
    "Half": np.dtype("<f2"),
    "Float": np.dtype("<f4"),
    "Double": np.dtype("<f8"),
    "Cuda": np.dtype("<f4"),
    "CudaDouble": np.dtype("<f8"),
}
_STORAGES = {f"torch.{name}Storage": dtype for name, dtype in _ELEMENTS.items()}
_TENSORS = {f"torch.{name}Tensor": dtype for name, dtype in _ELEMENTS.items()}
_MODULES = frozenset(
    "nn." + name
    for name in (
        "Sequential SpatialConvolution SpatialConvolutionMM SpatialMaxPooling SpatialBatchNormalization "
        "BatchNormalization Threshold ReLU Sigmoid Dropout Reshape View Linear BCECriterion MSECriterion"
    ).split()
)
_PARAMETERS = frozenset({"weight", "bias", "running_mean", "running_var", "running_std"})
"""The tensors of a module that are part of the network; all others are gradients, activations and buffers."""
_TRAINING = frozenset({"optim_state", "parameters", "gradParameters"})
"""Fields of a table that only training needs; `parameters` repeats the weights in one flat tensor."""
_MAX_VALUES = 1_000_000
_MAX_PATHS = 100_000
_MAX_DEPTH = 60
_MAX_DIMENSIONS = 16


@dataclass(frozen=True, slots=True)
class _Storage:
    offset: int
    size: int
    dtype: np.dtype[Any]


@dataclass(slots=True, eq=False)
class _Tensor:
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    first: int
    dtype: np.dtype[Any]
    storage: _Storage | None = None


@dataclass(slots=True, eq=False)
class _Node:
    """A table, or the fields of a module."""

    kind: str
    fields: dict[Fact, _Value]


class _Skipped:
    """Stands for nil and for functions."""


_SKIPPED = _Skipped()
_Value = Fact | _Storage | _Tensor | _Node | _Skipped


def recognises(head: bytes) -> bool:
    """Say whether a file with this beginning is Torch7: a table, or a class with its version, as object number one."""
    if len(head) < 12 or head[4:8] != b"\1\0\0\0" or head[1:4] != b"\0\0\0":
        return False
    return head[0] == _TABLE or (head[0] == _TORCH and head[12:14] in (b"V ", b"nn", b"to"))


def read(path: Path) -> Tensors:
    """Read the parameters of the modules, and the tensors of plain tables.

    Keys are paths through tables and fields of modules, counted from 1 as Lua does: `modules.1.weight` where the file
    holds a network, `model.modules.1.weight` where it holds a table with a network in it. Left out: `optim_state`,
    `parameters` and `gradParameters` of tables; of modules all tensors but weight, bias and running statistics.

    `facts` has the numbers, strings and booleans under the same kind of path (`modules.2.threshold` -> 1e-06), and the
    class of each module under the module's own path (`modules.2` -> `nn.Threshold`; `` -> `nn.Sequential` at the top).

    Raises:
        ModelError: If the file is damaged, cut, or holds a class that is not known.
    """
    try:
        with open(path, "rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        top = _Parser(content, path).value(0)
        arrays: dict[str, Array] = {}
        facts: dict[str, Fact] = {}
        for key, found in _walk(top, path):
            if key in arrays or key in facts:
                raise ModelError(f"{path}: two values of the Torch7 file have the path {key[:200]!r}. Fetch it again.")
            if isinstance(found, _Tensor):
                arrays[key] = _array(found, content, key, path)
            else:
                facts[key] = found
    except (struct.error, ValueError, OverflowError) as error:
        raise ModelError(f"{path}: damaged or cut Torch7 file ({error}). Fetch it again.") from error
    if not arrays:
        raise ModelError(f"{path}: a Torch7 file without weights. Expected an nn.Sequential with its modules.")
    return Tensors(path, arrays, facts)


class _Parser:
    """Reads values one after the other; every count and length is held against the bytes that are left."""

    def __init__(self, content: mmap.mmap, path: Path) -> None:
        self._content = content
        self._path = path
        self._at = 0
        self._objects: dict[int, _Value] = {}
        self._n_values = 0

    def value(self, depth: int) -> _Value:
        self._n_values += 1
        if self._n_values > _MAX_VALUES or depth > _MAX_DEPTH:
            self._refuse("too many or too deeply nested values")
        tag = self._int()
        if tag == _NIL:
            return _SKIPPED
        if tag == _NUMBER:
            return self._double()
        if tag == _STRING:
            return self._string()
        if tag == _BOOLEAN:
            return self._int() != 0
        if tag == _FUNCTION:
            return self._function(depth)
        if tag in (_TABLE, _TORCH, _CLOSURE, _OLD_CLOSURE):
            return self._object(tag, depth)
        self._refuse(f"a value of the unknown type {tag}")

    def _object(self, tag: int, depth: int) -> _Value:
        index = self._int()
        if index in self._objects:
            return self._objects[index]
        if tag == _TABLE:
            node = _Node("table", {})
            self._objects[index] = node
            self._fill(node, depth)
            return node
        if tag == _TORCH:
            return self._instance(index, depth)
        self._objects[index] = _SKIPPED
        return self._function(depth)

    def _fill(self, node: _Node, depth: int) -> None:
        count = self._int()
        if count < 0:
            self._refuse(f"a table of {count} fields")
        for _ in range(count):
            key = self.value(depth + 1)
            value = self.value(depth + 1)
            if not isinstance(key, float | str | bool):
                self._refuse("a table with keys that are neither numbers nor text")
            node.fields[key] = value

    def _instance(self, index: int, depth: int) -> _Value:
        name = self._string()
        if name.startswith("V "):
            name = self._string()
        if name in _STORAGES:
            storage = self._storage(_STORAGES[name])
            self._objects[index] = storage
            return storage
        if name in _TENSORS:
            return self._tensor(index, _TENSORS[name], depth)
        if name not in _MODULES:
            self._refuse(f"an object of the class {name[:60]!r}, which is not among those that are read")
        module = _Node(name, {})
        self._objects[index] = module
        fields = self.value(depth + 1)
        if not isinstance(fields, _Node):
            self._refuse(f"an {name} without fields")
        module.fields = fields.fields
        return module

    def _storage(self, dtype: np.dtype[Any]) -> _Storage:
        size = self._long()
        storage = _Storage(self._at, size, dtype)
        self._skip(size * dtype.itemsize)
        return storage

    def _tensor(self, index: int, dtype: np.dtype[Any], depth: int) -> _Tensor:
        n_dimensions = self._int()
        if not 0 <= n_dimensions <= _MAX_DIMENSIONS:
            self._refuse(f"a tensor of {n_dimensions} dimensions")
        sizes = tuple(self._long() for _ in range(n_dimensions))
        strides = tuple(self._long() for _ in range(n_dimensions))
        tensor = _Tensor(sizes, strides, self._long() - 1, dtype)
        self._objects[index] = tensor
        storage = self.value(depth + 1)
        if isinstance(storage, _Storage) and storage.dtype == dtype:
            tensor.storage = storage
        elif storage is not _SKIPPED:
            self._refuse("a tensor without a storage of its own type")
        return tensor

    def _function(self, depth: int) -> _Value:
        self._skip(self._int())
        self.value(depth + 1)  # the variables that it closes over
        return _SKIPPED

    def _int(self) -> int:
        value: int = struct.unpack_from("<i", self._content, self._at)[0]
        self._at += 4
        return value

    def _long(self) -> int:
        value: int = struct.unpack_from("<q", self._content, self._at)[0]
        self._at += 8
        return value

    def _double(self) -> float:
        value: float = struct.unpack_from("<d", self._content, self._at)[0]
        self._at += 8
        return value

    def _string(self) -> str:
        length = self._int()
        start = self._at
        self._skip(length)
        return self._content[start : self._at].decode("latin-1")

    def _skip(self, n_bytes: int) -> None:
        if not 0 <= n_bytes <= len(self._content) - self._at:
            self._refuse("a value longer than the file")
        self._at += n_bytes

    def _refuse(self, what: str) -> NoReturn:
        raise ModelError(
            f"{self._path}: the Torch7 file has {what} (near byte {self._at}). "
            "Is it complete, and the file that the authors published?"
        )


def _walk(top: _Value, path: Path) -> Iterator[tuple[str, _Tensor | Fact]]:
    """Give every tensor and plain value with its path; an object that holds itself is followed once."""
    waiting: list[tuple[str, _Value, tuple[int, ...]]] = [("", top, ())]
    n_paths = 0
    while waiting:
        prefix, value, parents = waiting.pop()
        n_paths += 1
        if n_paths > _MAX_PATHS or len(parents) > _MAX_DEPTH:
            raise ModelError(f"{path}: the Torch7 file has too many values, as at {prefix[:80]!r}. Fetch it again.")
        if isinstance(value, _Tensor | float | str | bool):
            yield prefix, value
        elif isinstance(value, _Node) and id(value.fields) not in parents:
            if value.kind != "table":
                yield prefix, value.kind
            inside = (*parents, id(value.fields))
            fields = [(_joined(prefix, key), field, inside) for key, field in _wanted(value).items()]
            waiting.extend(reversed(fields))


def _wanted(node: _Node) -> Mapping[Fact, _Value]:
    if node.kind == "table":
        return {key: value for key, value in node.fields.items() if key not in _TRAINING}
    return {key: value for key, value in node.fields.items() if key in _PARAMETERS or not isinstance(value, _Tensor)}


def _joined(prefix: str, key: Fact) -> str:
    name = str(int(key)) if isinstance(key, float) and key.is_integer() else str(key)
    return f"{prefix}.{name}" if prefix else name


def _array(tensor: _Tensor, content: mmap.mmap, key: str, path: Path) -> Array:
    """Give the tensor as a view of the mapped file; as a copy where its bytes are not aligned."""
    shape, strides, dtype = tensor.sizes, tensor.strides, tensor.dtype
    n_elements = int(np.prod([float(size) for size in shape])) if shape else 0
    if not n_elements or tensor.storage is None:
        return np.zeros(shape if shape and not n_elements else (0,), dtype)
    last = tensor.first + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    size = tensor.storage.size
    if min(*shape, *strides, tensor.first) < 0 or last >= size or n_elements > size:
        raise ModelError(f"{path}: tensor {key!r} of the Torch7 file reaches beyond its storage. Fetch it again.")
    flat = np.frombuffer(content, dtype, size, tensor.storage.offset)
    steps = [stride * dtype.itemsize for stride in strides]
    view: Array = np.lib.stride_tricks.as_strided(flat[tensor.first :], shape, steps)
    return np.require(view, requirements="A")
