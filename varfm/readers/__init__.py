"""Readers of foreign weight files. They build tensors and nothing else, and run no code from the file."""

from __future__ import annotations

from pathlib import Path

from varfm.errors import ModelError
from varfm.readers import keras_h5, safetensors
from varfm.readers.tensors import Tensors

__all__ = ["Tensors", "read_tensors"]

_HEAD_BYTES = 4096
_NEITHER = "neither HDF5 nor safetensors"


def read_tensors(path: Path) -> Tensors:
    """Read every tensor of a weight file. The content says what the file is; its name does not matter.

    Raises:
        ModelError: If the file cannot be read, is damaged, holds NaN or infinity, or is neither HDF5 nor safetensors.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}). Give a weight file that you may read.") from error
    for reader in (keras_h5, safetensors):
        if reader.recognises(head):
            tensors: Tensors = reader.read(path)
            tensors.check_finite()
            return tensors
    raise ModelError(f"{path}: {_what_it_is(head)}. Expected a weight file, HDF5 (Keras) or safetensors.")


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
    if head.startswith(b"PK\x03\x04"):
        return f"a zip archive, {_NEITHER}"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "a Python pickle, which varfm never runs"
    if head.startswith(b"\x1f\x8b"):
        return f"a gzip file (decompress it first), {_NEITHER}"
    return _NEITHER
