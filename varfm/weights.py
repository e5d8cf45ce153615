"""Published weights: what a checkpoint is, where its files lie here, and whether they are the published ones."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from varfm.cache import cache_root
from varfm.download import RemoteFile, fetch, sha256_of
from varfm.errors import DiskError, ModelError
from varfm.https import Transport

logger = logging.getLogger(__name__)

AUTOMATIC_BYTES = 50_000_000
"""A run fetches at most this much by itself; more is fetched only when asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """One published set of weights.

    Attributes:
        name: The published name in lower case.
        module: The module of `varfm.models` that holds `build`.
        files: What is fetched; empty where the weights are packaged or there are none.
        licence: Of the weights, an SPDX identifier where there is one.
        commercial: False where the licence forbids commercial use.
        paper: Citation with DOI.
        source: Address of the authors' code.
        assembly: Whose sequence trained the model (`hg19`, `GRCh38`, `mm10`); empty where it does not matter.
        window: Bases that the model reads.
        index: 0-based position in the window of the first changed base, or of the TSS for models placed on genes.
        reads: What the network answers, in a phrase.
        scores: The default scores, in a phrase.
        strands: How the two strands enter, in a phrase.
        needs_genes: True if scores belong to genes, so that a run needs an annotation.
        hidden: Only for tests of varfm: not listed, and refused without VARFM_TESTING=1.
        packaged: Path of the weights inside the package `varfm`, with its sha256 in `packaged_sha256`.
    """

    name: str
    module: str
    licence: str
    commercial: bool
    paper: str
    source: str
    assembly: str
    window: int
    index: int
    reads: str
    scores: str
    strands: str
    files: tuple[RemoteFile, ...] = ()
    needs_genes: bool = False
    hidden: bool = False
    packaged: str | None = None
    packaged_sha256: str | None = None

    @property
    def needs_weights(self) -> bool:
        """True unless the model has no parameters at all."""
        return bool(self.files or self.packaged)

    @property
    def size(self) -> int | None:
        """Bytes of all files; None where one of them is not known."""
        if self.packaged:
            path = packaged_path(self)
            return path.stat().st_size if path.is_file() else None
        sizes = [file.size for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def licence_line(self) -> str:
        """The licence in one line, stamped where commercial use is forbidden."""
        stamp = "" if self.commercial else " - NOT FOR COMMERCIAL USE"
        return f"{self.name}: licence {self.licence}{stamp}; please cite {self.paper}"


@dataclass(frozen=True, slots=True)
class LocalWeights:
    """Weights on this machine, hashed just now.

    Attributes:
        path: The file; the folder where the checkpoint has several; the null device where the model has no weights.
        sha256: Of the file; of the lines `sha256  name` of all files where there are several; empty for none.
        published: False where a file is not the one in the catalogue.
    """

    path: Path
    sha256: str
    published: bool


@dataclass(frozen=True, slots=True)
class FileStatus:
    """What `verify` found of one file. `unknown`: it is here, but no digest was published for it."""

    path: Path
    state: Literal["ok", "missing", "wrong", "unknown"]
    sha256: str | None


def readable_size(n_bytes: int | None) -> str:
    """Give a size for people, e.g. `1.4 MB` (10^6 bytes); `unknown size` for None."""
    if n_bytes is None:
        return "unknown size"
    if n_bytes < 1000:
        return f"{n_bytes} bytes"
    value = float(n_bytes)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 999.5 or unit == "GB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"


def cache_folder(checkpoint: Checkpoint) -> Path:
    """Give the folder of a checkpoint in the cache, below VARFM_CACHE or the user's cache folder; it need not exist."""
    return cache_root() / "weights" / checkpoint.name


def packaged_path(checkpoint: Checkpoint) -> Path:
    """Give the path of weights that ship with varfm.

    Raises:
        ModelError: If the checkpoint does not ship with varfm.
    """
    if checkpoint.packaged is None:
        raise ModelError(f"{checkpoint.name} does not ship with varfm; see varfm models info {checkpoint.name}.")
    return Path(str(resources.files("varfm").joinpath(checkpoint.packaged)))


def presence(checkpoint: Checkpoint) -> Literal["packaged", "yes", "no", "none needed"]:
    """Say whether the weights are on this machine, by name and size alone: nothing is hashed."""
    if checkpoint.packaged:
        return "packaged" if packaged_path(checkpoint).is_file() else "no"
    if not checkpoint.files:
        return "none needed"
    return "yes" if all(_is_here(checkpoint, file) for file in checkpoint.files) else "no"


def path(checkpoint: Checkpoint) -> Path:
    """Give the file of a checkpoint on this machine, or the folder where it has several.

    Raises:
        ModelError: If it is not here.
    """
    if presence(checkpoint) in ("no", "none needed"):
        raise _not_here(checkpoint, "are not on this machine")
    return _local_path(checkpoint)


def verify(checkpoint: Checkpoint) -> tuple[FileStatus, ...]:
    """Hash every file of a checkpoint that is on this machine and compare it with the catalogue."""
    if checkpoint.packaged:
        return (_file_status(packaged_path(checkpoint), checkpoint.packaged_sha256),)
    folder = cache_folder(checkpoint)
    return tuple(_file_status(folder / file.name, file.sha256) for file in checkpoint.files)


def locate(
    checkpoint: Checkpoint,
    *,
    override: Path | None = None,
    offline: bool = False,
    allow_download: bool = False,
    require_published: bool = False,
    transport: Transport | None = None,
) -> LocalWeights:
    """Find the weights of a checkpoint, fetch them if that is allowed, and hash them: each time, no result is kept.

    Args:
        override: A local copy to use instead (`--weights`).
        offline: Open no connection.
        allow_download: Fetch whatever its size. Without it only checkpoints of known size up to 50 MB are fetched.
        require_published: Refuse a file that is not the published one.

    Raises:
        ModelError: If the weights are not here and may not be fetched, are damaged, or are not the published ones
            where that is required.
    """
    if not checkpoint.needs_weights:
        return _no_weights(checkpoint, override)
    if override is not None:
        return _from_override(checkpoint, override, require_published)
    if presence(checkpoint) == "no":
        _fetch_or_explain(checkpoint, offline, allow_download, transport)
    return _from_statuses(checkpoint)


def download(
    checkpoint: Checkpoint, *, transport: Transport | None = None, announce: Callable[[str], None] = logger.warning
) -> None:
    """Bring the files of a checkpoint into the cache: each to a temporary name, hashed, then renamed.

    Files that are already there and right are kept; wrong ones are replaced.

    Args:
        announce: Told the licence before the first connection.

    Raises:
        ModelError: If a file cannot be had from any of its addresses.
        DiskError: If the cache cannot be written.
    """
    announce(checkpoint.licence_line)
    folder = cache_folder(checkpoint)
    for file in checkpoint.files:
        fetch(file, folder, owner=checkpoint.name, transport=transport or Transport())


def _no_weights(checkpoint: Checkpoint, override: Path | None) -> LocalWeights:
    if override is not None:
        raise ModelError(f"{override}: {checkpoint.name} has no weights to replace. Leave out --weights.")
    return LocalWeights(Path(os.devnull), "", published=True)


def _local_path(checkpoint: Checkpoint) -> Path:
    if checkpoint.packaged:
        return packaged_path(checkpoint)
    folder = cache_folder(checkpoint)
    return folder / checkpoint.files[0].name if len(checkpoint.files) == 1 else folder


def _is_here(checkpoint: Checkpoint, file: RemoteFile) -> bool:
    try:
        found = (cache_folder(checkpoint) / file.name).stat().st_size
    except OSError:
        return False
    return file.size is None or found == file.size


def _not_here(checkpoint: Checkpoint, why: str) -> ModelError:
    if not checkpoint.needs_weights:
        return ModelError(f"{checkpoint.name} has no weights; there is nothing to find.")
    if not checkpoint.files:
        return ModelError(f"The weights of {checkpoint.name} {why}: reinstall varfm, they are part of the package.")
    stamp = "" if checkpoint.commercial else ", not for commercial use"
    about = f"{readable_size(checkpoint.size)}, licence {checkpoint.licence}{stamp}"
    return ModelError(
        f"The weights of {checkpoint.name} ({about}) {why}. Fetch them with: varfm models download {checkpoint.name}"
    )


def _fetch_or_explain(checkpoint: Checkpoint, offline: bool, allow_download: bool, transport: Transport | None) -> None:
    if offline:
        raise _not_here(checkpoint, "are not on this machine, and --offline forbids to fetch them")
    size = checkpoint.size
    if not checkpoint.files or not (allow_download or (size is not None and size <= AUTOMATIC_BYTES)):
        raise _not_here(checkpoint, "are not on this machine")
    download(checkpoint, transport=transport)


def _from_statuses(checkpoint: Checkpoint) -> LocalWeights:
    statuses = verify(checkpoint)
    for status in statuses:
        if status.state == "missing":
            raise _not_here(checkpoint, "are not on this machine")
        if status.state == "wrong":
            raise _not_here(checkpoint, f"are damaged: {status.path} is not the published file")
    return LocalWeights(_local_path(checkpoint), _digest(statuses), published=True)


def _from_override(checkpoint: Checkpoint, override: Path, require_published: bool) -> LocalWeights:
    expected = _expected_files(checkpoint)
    if len(expected) == 1:
        statuses = [_file_status(override, expected[0][1])]
    else:
        statuses = [_file_status(override / name, sha256) for name, sha256 in expected]
    for status in statuses:
        if status.state == "missing":
            raise ModelError(
                f"{status.path}: there is no such file. --weights wants a local copy of {checkpoint.name}."
            )
    wrong = [status for status in statuses if status.state != "ok"]
    if wrong and require_published:
        raise ModelError(
            f"{wrong[0].path}: not the published file of {checkpoint.name} (sha256 {wrong[0].sha256}). "
            "Give the published file, or leave out --require-published."
        )
    if wrong:
        logger.warning("%s: not the published file of %s; its scores are its own.", wrong[0].path, checkpoint.name)
    return LocalWeights(override, _digest(statuses), published=not wrong)


def _expected_files(checkpoint: Checkpoint) -> list[tuple[str, str | None]]:
    if checkpoint.packaged:
        return [(checkpoint.packaged, checkpoint.packaged_sha256)]
    return [(file.name, file.sha256) for file in checkpoint.files]


def _file_status(file: Path, expected: str | None) -> FileStatus:
    try:
        found = sha256_of(file)
    except FileNotFoundError:
        return FileStatus(file, "missing", None)
    except OSError as error:
        if error.errno == errno.EIO:
            raise DiskError(f"{file}: the disk cannot read it ({error.strerror}).") from error
        raise ModelError(f"{file}: cannot be read ({error.strerror}). Give a file that you may read.") from error
    if expected is None:
        return FileStatus(file, "unknown", found)
    return FileStatus(file, "ok" if found == expected else "wrong", found)


def _digest(statuses: tuple[FileStatus, ...] | list[FileStatus]) -> str:
    if len(statuses) == 1:
        return statuses[0].sha256 or ""
    lines = (f"{status.sha256}  {status.path.name}\n" for status in statuses)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
