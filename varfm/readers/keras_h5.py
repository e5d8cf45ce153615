"""Keras weights in HDF5: every data set below `model_weights`, or below the root where a file holds weights alone."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varfm.errors import ModelError
from varfm.readers.tensors import Array, Tensors, is_number

if TYPE_CHECKING:
    import h5py

_MAGIC = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01\0\0\0"
_PIECE = struct.Struct("<H6xQ")
"""What stands before each piece of a heap: its index, 0 for free space, and its size."""
_NOT_WEIGHTS = frozenset({"optimizer", "optimizer_weights"})
_MAX_DEPTH = 12
_MAX_OBJECTS = 100_000
_MAX_EXPANSION = 64
"""Tensors may take this many times the bytes of the file; real weights hardly compress, a bomb does."""
_MAX_FACT_BYTES = 1 << 24
_FILTERS = frozenset({1, 2, 3})  # deflate, shuffle, fletcher32; any other would load a plug-in from the environment


def recognises(head: bytes) -> bool:
    """Say whether a file with this beginning is HDF5."""
    return head.startswith(_MAGIC)


def read(path: Path) -> Tensors:
    """Read the weights. Keys are paths below `model_weights` or the root, e.g. `conv1d_1/conv1d_1/kernel:0`.

    The facts hold the attributes `layer_names` (one a line) and `model_config` (JSON), where they are there.
    Optimizer states are left out. Nothing outside the file is read: soft and external links, external storage and
    virtual data sets are refused.

    Raises:
        ModelError: If the file is damaged, or holds anything but numbers.
    """
    import h5py

    _check_heaps(path)
    try:
        # Without locking: a read-only folder and 100 jobs on one network file system must both work.
        with h5py.File(path, "r", locking=False) as file:
            return Tensors(path, _read_all(file, path), _facts(file))
    except ModelError:
        raise
    except Exception as error:  # h5py reports damage as OSError, KeyError, RuntimeError, ValueError, TypeError and more
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ModelError:
    said = " ".join(str(error).split())
    return ModelError(f"{path}: damaged or cut HDF5 file ({said[:200]}). Fetch it again.")


def _check_heaps(path: Path) -> None:
    """Walk the heaps of texts: libhdf5 1.14 never comes back from one with an empty piece of free space.

    Raises:
        ModelError: If the pieces of a heap do not fill it.
    """
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        place = content.find(_HEAP)
        while place >= 0:
            end = place + int.from_bytes(content[place + 8 : place + 16], "little")
            if end <= len(content) and not _is_filled(content, place + 16, end):
                raise _damaged(path, ValueError(f"the heap at byte {place:,} is corrupt"))
            place = content.find(_HEAP, place + 1)


def _is_filled(content: mmap.mmap, place: int, end: int) -> bool:
    while place + _PIECE.size <= end:
        index, size = _PIECE.unpack_from(content, place)
        step = size if index == 0 else _PIECE.size + -(-size // 8) * 8
        if step <= 0:
            return False
        place += step
    return place <= end


def _read_all(file: h5py.File, path: Path) -> dict[str, Array]:
    _check_link(file, "model_weights", path, optional=True)
    root = file["model_weights"] if "model_weights" in file else file
    datasets = dict(_datasets(root, path))
    if not datasets:
        raise ModelError(f"{path}: an HDF5 file without weights. Expected groups such as conv1d_1/conv1d_1.")
    _check_total(datasets, path)
    return {key: _values(dataset) for key, dataset in datasets.items()}


def _facts(file: h5py.File) -> dict[str, str]:
    root = file["model_weights"] if "model_weights" in file else file
    places = {"model_config": file, "layer_names": root}
    return {
        name: "\n".join(_texts(group.attrs[name]))
        for name, group in places.items()
        if name in group.attrs and group.attrs.get_id(name).get_storage_size() <= _MAX_FACT_BYTES
    }


def _texts(value: object) -> Iterator[str]:
    """Give the texts of an attribute, which h5py reads as str or bytes, alone or in arrays."""
    import numpy as np

    for item in np.ravel(np.asarray(value)).tolist():
        if isinstance(item, str | bytes):
            yield item if isinstance(item, str) else item.decode("utf-8", "replace")


def _datasets(root: h5py.Group, path: Path) -> Iterator[tuple[str, h5py.Dataset]]:
    """Walk hard links only; a cycle of them ends at the depth or at the number of objects."""
    import h5py

    open_groups: list[tuple[str, h5py.Group]] = [("", root)]
    n_objects = 0
    while open_groups:
        prefix, group = open_groups.pop()
        for name in group:
            key = f"{prefix}{name}"
            n_objects += 1
            if n_objects > _MAX_OBJECTS or key.count("/") > _MAX_DEPTH:
                raise ModelError(f"{path}: too many or too deeply nested groups at {key[:80]!r}. These are no weights.")
            if key in _NOT_WEIGHTS:
                continue
            _check_link(group, name, path)
            member = group[name]
            if isinstance(member, h5py.Dataset):
                yield key, _checked(member, key, path)
            elif isinstance(member, h5py.Group):
                open_groups.append((f"{key}/", member))


def _check_link(group: h5py.Group, name: str, path: Path, optional: bool = False) -> None:
    """Refuse links by name: one could point at any file that the user may read."""
    import h5py

    link = group.get(name, getlink=True)
    if link is None and optional:
        return
    if not isinstance(link, h5py.HardLink):
        raise ModelError(f"{path}: {name!r} is a link to another place. Only files that hold their own data are read.")


def _checked(dataset: h5py.Dataset, key: str, path: Path) -> h5py.Dataset:
    creation = dataset.id.get_create_plist()
    if dataset.is_virtual or creation.get_external_count():
        raise ModelError(
            f"{path}: {key!r} keeps its data in another file. Only files that hold their own data are read."
        )
    if dataset.shape is None or not is_number(dataset.dtype):
        raise ModelError(
            f"{path}: {key!r} holds {dataset.dtype}, expected numbers. Are these the weights of a network?"
        )
    filters = {creation.get_filter(i)[0] for i in range(creation.get_nfilters())}
    if not filters <= _FILTERS:
        raise ModelError(
            f"{path}: {key!r} is packed by an unusual filter ({sorted(filters - _FILTERS)}). Save it again with gzip."
        )
    if dataset.nbytes and not dataset.id.get_storage_size():
        raise ModelError(f"{path}: {key!r} was never written, the file holds no values for it. Fetch it again.")
    return dataset


def _check_total(datasets: dict[str, h5py.Dataset], path: Path) -> None:
    total = sum(dataset.nbytes for dataset in datasets.values())
    size = path.stat().st_size
    if total > _MAX_EXPANSION * size:
        raise ModelError(
            f"{path}: {size} bytes claim to hold {total} bytes of weights. The file is damaged; fetch it again."
        )


def _values(dataset: h5py.Dataset) -> Array:
    values: Any = dataset[()]
    import numpy as np

    array: Array = np.asarray(values)
    return array.astype(array.dtype.newbyteorder("="))
