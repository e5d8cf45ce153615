"""PyTorch files (`.pth`, `.pt`, `.bin`), zip archives and the older plain format, loaded with `weights_only=True`."""

from __future__ import annotations

import re
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varfm.errors import ModelError, printable
from varfm.readers.tensors import Array, Tensors, is_number

if TYPE_CHECKING:
    import torch

_ZIP = b"PK\x03\x04"
_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number 0x1950a86a20f9469cfc6c, pickled by protocol 2: how every file of torch before 1.6 begins."""
_STATE = ("state_dict", "model")
"""Where training scripts put the state dict among other things."""
_MAX_EXPANSION = 64
"""Tensors may take this many times the bytes of the file: some share their values, a bomb repeats one for ever."""


def recognises(head: bytes) -> bool:
    """Say whether a file with this beginning may be PyTorch's: a zip archive, or the older format."""
    return head.startswith((_ZIP, _LEGACY))


def read(path: Path) -> Tensors:
    """Read a state dict: at the top of the file, or under `state_dict` or `model`, whose neighbours are left out.

    Keys are those of the state dict. Tensors of a zip file are memory-mapped. bfloat16 becomes float32, booleans
    become 0 and 1 of type uint8.

    Raises:
        ModelError: If the file is damaged, or holds anything but tensors, text, numbers and plain containers.
    """
    with open(path, "rb") as file:
        is_zip = file.read(len(_ZIP)) == _ZIP
    if is_zip:
        _check_archive(path)
    state = _state(_load(path, is_zip), path)
    arrays = {key: _array(value, key, path) for key, value in state.items()}
    total, size = sum(array.nbytes for array in arrays.values()), path.stat().st_size
    if total > _MAX_EXPANSION * size:
        raise ModelError(
            f"{path}: {size} bytes claim to hold {total} bytes of weights. The file is damaged; fetch it again."
        )
    return Tensors(path, arrays)


def _check_archive(path: Path) -> None:
    """Hold the members against their checksums, which torch itself does not look at when it maps a file."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = {member.filename.rpartition("/")[2] for member in members}
            if "data.pkl" not in names:
                raise ModelError(f"{path}: a zip archive, but not one of PyTorch. Unpack it, and give the file inside.")
            if "constants.pkl" in names:
                raise ModelError(f"{path}: a TorchScript program, not a state dict. Give the file with the state dict.")
            packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
            if packed or sum(member.file_size for member in members) > path.stat().st_size:
                raise ModelError(f"{path}: a packed zip archive; PyTorch writes plain ones. Fetch it again.")
            damaged = archive.testzip()
    except ModelError:
        raise
    except Exception as error:  # zipfile reports damage as BadZipFile, NotImplementedError, struct.error and more
        raise _damaged(path, "zip archive", str(error)) from error
    if damaged is not None:
        raise _damaged(path, "PyTorch file", f"the checksum of its member {damaged} is wrong")


def _load(path: Path, is_zip: bool) -> object:
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about storages and scripts of old versions; what matters raises
            found: object = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except Exception as error:  # whatever an unpickler meets in a damaged file
        if blocked := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ModelError(
                f"{path}: it holds the Python object {blocked[1]}; only tensors are read, nothing is run. "
                "Give a file with the state dict alone."
            ) from error
        raise _damaged(path, "PyTorch file", _reason(error)) from error
    return found


def _reason(error: Exception) -> str:
    """Give the part of a message of torch that says something of the file."""
    parts = [part for part in str(error).split("\n\n") if part.strip() and not part.startswith("Weights only load")]
    return parts[0] if parts else type(error).__name__


def _damaged(path: Path, kind: str, reason: str) -> ModelError:
    said = printable(" ".join(reason.split()))
    return ModelError(f"{path}: damaged, cut or unusual {kind} ({said[:200]}). Fetch it again.")


def _state(found: object, path: Path) -> dict[str, Any]:
    import torch

    if isinstance(found, dict):
        for inner in (found.get(name) for name in _STATE):
            if isinstance(inner, dict):
                found = inner
                break
    if not isinstance(found, dict) or not found:
        raise ModelError(f"{path}: the PyTorch file holds {_kind(found)}, expected a dict of tensors (a state dict).")
    for key, value in found.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ModelError(
                f"{path}: the PyTorch file holds {_kind(value)} under {str(key)[:80]!r}, expected nothing but tensors. "
                "Give a file with the state dict alone."
            )
    return found


def _kind(value: object) -> str:
    return f"an empty {type(value).__name__}" if value in ({}, []) else f"a value of type {type(value).__name__}"


def _array(tensor: torch.Tensor, key: str, path: Path) -> Array:
    """Give the tensor as an array over the same memory."""
    import torch

    widened = {torch.bfloat16: torch.float32, torch.bool: torch.uint8}
    try:
        tensor = tensor.detach()
        held = tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.element_size() > held:
            raise ModelError(f"{path}: tensor {key!r} is larger than its {held} bytes. Fetch the file again.")
        array: Array = tensor.to(widened.get(tensor.dtype, tensor.dtype)).numpy()
    except (RuntimeError, TypeError, NotImplementedError) as error:  # sparse, quantised, on no device, without memory
        raise ModelError(f"{path}: tensor {key!r} is not an ordinary one ({_reason(error)[:80]}).") from error
    if not is_number(array.dtype):
        raise ModelError(f"{path}: tensor {key!r} holds {array.dtype}, expected integers or floats.")
    return array
