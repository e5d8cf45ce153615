"""Readers of foreign weight files. They build tensors and nothing else, and run no code from the file."""

from __future__ import annotations

import os
from pathlib import Path

from varfm.errors import ModelError
from varfm.readers import folder, keras_h5, safetensors, tf_bundle, torch7, torch_pickle, xgboost_linear
from varfm.readers.tensors import Tensors

__all__ = ["Tensors", "read_tensors"]

_HEAD_BYTES = 4096
_TAIL_BYTES = 8
_READERS = (keras_h5, torch_pickle, xgboost_linear, torch7)
_EXPECTED = (
    "a weight file: Keras (HDF5), PyTorch (a state dict), safetensors, Torch7, the .index of a TensorFlow checkpoint, "
    "a linear xgboost model, or a folder of Hugging Face"
)


def read_tensors(path: Path) -> Tensors:
    """Read every tensor of a weight file. The content says what the file is; its name does not matter.

    Args:
        path: The file; of a TensorFlow checkpoint the `.index` or the prefix; or a folder that holds
            `model.safetensors`, `pytorch_model.bin`, the index of their shards, or one TensorFlow checkpoint.

    Raises:
        ModelError: If the file cannot be read, is damaged, holds NaN or infinity, or is of no known format.
    """
    path = folder.checkpoint_of(path)
    return folder.read_shards(path, _read_file) if folder.names_shards(path) else _read_file(path)


def _read_file(path: Path) -> Tensors:
    try:
        if path.exists() and not path.is_file():
            raise ModelError(f"{path}: not a file but a device or a pipe. Give a weight file.")
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
            file.seek(-min(_TAIL_BYTES, len(head)), os.SEEK_END)
            tail = file.read(_TAIL_BYTES)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}). Give a weight file that you may read.") from error
    if safetensors.recognises(head):
        return safetensors.read(path)
    tensors = tf_bundle.read(path) if tf_bundle.recognises_end(tail) else _read_whole(path, head)
    tensors.check_finite()
    return tensors


def _read_whole(path: Path, head: bytes) -> Tensors:
    for reader in _READERS:
        if reader.recognises(head):
            tensors: Tensors = reader.read(path)
            return tensors
    raise ModelError(f"{path}: {_what_it_is(head)}. Expected {_EXPECTED}.")


def _what_it_is(head: bytes) -> str:
    text = head.lstrip().lower()
    if not head:
        return "the file is empty"
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the file itself (run git lfs pull where it was cloned)"
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        return "a web page, not a weight file (download it again)"
    if not head.strip(b"\0"):
        return "starts with nothing but zeros, as a broken copy does (download it again)"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "a Python pickle, which varfm never runs"
    if head.startswith(b"\x1f\x8b"):
        return "a gzip file (decompress it first)"
    if head[257:262] == b"ustar":
        return "a tar archive (unpack it first)"
    if head.startswith((b"4\n1\n", b"3\n1\n")):
        return "a Torch7 file written as text (save it in Torch7's binary format)"
    return "no format that varfm knows, or only a part of a file"
