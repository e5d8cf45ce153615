"""The safetensors copies that varfm makes of published weights: where they lie, and what they say of themselves."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from varfm.checkpoints import Checkpoint, FileStatus, cache_folder
from varfm.digits import is_whole
from varfm.download import sha256_of
from varfm.io.atomic import AtomicFile, disk_errors

FORMAT = "varfm"
"""What such a file calls itself in its metadata."""

_MAX_HEADER = 100_000_000  # the limit of safetensors itself
_MAX_SIDECAR = 1_000_000


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is kept beside a conversion in the cache: the only ground on which it is called published.

    Whoever can write the cache can forge it, as they can replace varfm's other files; it guards against damage.

    Attributes:
        sha256: Of the converted file.
        sources: sha256 of the published files it was made from, by catalogue name; they were the published ones then.
        version: Of the conversion. Another one is not read: names of tensors may have changed.
    """

    sha256: str
    sources: dict[str, str]
    version: int


VERSION = 2
"""Raised whenever the names of tensors of any model change, or the order of their values, so that older conversions are
made again."""


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
    """Write the sidecar under its name at once.

    Raises:
        DiskError: If it cannot be written.
    """
    path = sidecar_path(checkpoint)
    with AtomicFile(path, force=True) as output:
        with disk_errors(output.name):
            output.file.write(json.dumps(asdict(sidecar), indent=1).encode() + b"\n")
        output.seal()
        output.publish()


def model_of(path: Path) -> str | None:
    """Give the model that a file was converted for; None if it is no conversion by varfm."""
    metadata = _metadata(path)
    return None if metadata is None else str(metadata.get("model", ""))


def version_of(path: Path) -> int | None:
    """Give the version of the conversion that made a file; None if it is none, or does not say."""
    text = str((_metadata(path) or {}).get("conversion", ""))
    return int(text) if is_whole(text) else None


def converted_config(path: Path) -> str | None:
    """Give the sizes of the network that a file was converted for, a JSON object; None if it is no conversion."""
    metadata = _metadata(path)
    return None if metadata is None else str(metadata.get("config", "{}"))


def _metadata(path: Path) -> dict[str, object] | None:
    """Read what a conversion says of itself; here and not by varfm.readers, which need torch."""
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(length) if 2 <= length <= _MAX_HEADER else b""
        found = json.loads(header).get("__metadata__") if header.startswith(b"{") else None
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


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
