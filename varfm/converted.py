"""The safetensors copies that varfm makes of published weights: where they lie, and what they say of themselves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from varfm.checkpoints import Checkpoint, FileStatus, cache_folder
from varfm.download import sha256_of

FORMAT = "varfm"
"""What such a file calls itself in its metadata."""

_MAX_HEADER = 100_000_000  # the limit of safetensors itself
_MAX_SIDECAR = 1_000_000


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is kept beside a conversion in the cache.

    Attributes:
        sha256: Of the converted file.
        sources: sha256 of the published files it was made from, by catalogue name; they were the published ones then.
        version: Of the conversion. Another one is not read: names of tensors may have changed.
    """

    sha256: str
    sources: dict[str, str]
    version: int


VERSION = 1
"""Raised whenever the names of tensors of any model change, so that older conversions are made again."""


def converted_path(checkpoint: Checkpoint) -> Path:
    """Give the place of a checkpoint's conversion in the cache; it need not exist."""
    return cache_folder(checkpoint) / f"{checkpoint.name}.varfm.safetensors"


def sidecar_path(checkpoint: Checkpoint) -> Path:
    """Give the place of the small file beside it."""
    return converted_path(checkpoint).with_suffix(".json")


def has_conversion(checkpoint: Checkpoint) -> bool:
    """Say whether a conversion and its sidecar are in the cache, of this version and of these sources; not hashed."""
    return checkpoint.converts and converted_path(checkpoint).is_file() and _sidecar(checkpoint) is not None


def status_of_conversion(checkpoint: Checkpoint) -> FileStatus | None:
    """Hash the conversion in the cache and compare it with its sidecar; None where there is none to be used."""
    sidecar = _sidecar(checkpoint)
    path = converted_path(checkpoint)
    if sidecar is None or not checkpoint.converts:
        return None
    try:
        found = sha256_of(path)
    except OSError:
        return None
    return FileStatus(path, "ok" if found == sidecar.sha256 else "wrong", found)


def source_statuses(checkpoint: Checkpoint) -> list[FileStatus]:
    """Give what the sidecar says of the published files; only to be asked where there is a sidecar."""
    sidecar = _sidecar(checkpoint)
    folder = cache_folder(checkpoint)
    sources = sidecar.sources if sidecar else {}
    return [FileStatus(folder / name, "ok", sha256) for name, sha256 in sources.items()]


def write_sidecar(checkpoint: Checkpoint, sidecar: Sidecar) -> None:
    """Write the sidecar.

    Raises:
        OSError: If it cannot be written.
    """
    sidecar_path(checkpoint).write_text(json.dumps(asdict(sidecar), indent=1) + "\n", "utf-8")


def model_of(path: Path) -> str | None:
    """Give the model that a file was converted for; None if it is no conversion by varfm.

    The header is read here, since varfm.readers needs torch.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if 2 <= length <= _MAX_HEADER else b""
        metadata = json.loads(header).get("__metadata__") if header.startswith(b"{") else None
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        return None
    return str(metadata.get("model", ""))


def _sidecar(checkpoint: Checkpoint) -> Sidecar | None:
    """Read the sidecar; None unless it is whole, of this version, and of the files that the catalogue names."""
    try:
        with open(sidecar_path(checkpoint), "rb") as file:
            content = json.loads(file.read(_MAX_SIDECAR))
        sidecar = Sidecar(str(content["sha256"]), dict(content["sources"]), int(content["version"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    names = [file.name for file in checkpoint.sources]
    fits = sidecar.version == VERSION and list(sidecar.sources) == names
    same = all(file.sha256 in (None, sidecar.sources.get(file.name)) for file in checkpoint.sources)
    return sidecar if fits and same else None
