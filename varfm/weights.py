"""Where the files of a checkpoint lie here, how they come here, and whether they are the published ones."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from varfm.checkpoints import (
    Checkpoint,
    FileStatus,
    LocalWeights,
    cache_folder,
    is_here,
    joint_digest,
    packaged_path,
    readable_size,
    status_of,
    total_size,
)
from varfm.converted import converted_path, has_conversion, source_statuses, status_of_conversion
from varfm.download import RemoteFile, fetch, fetch_members
from varfm.errors import ModelError
from varfm.https import Transport
from varfm.overrides import judge, local_copy, needed_beside

__all__ = [
    "AUTOMATIC_BYTES",
    "Checkpoint",
    "FileStatus",
    "LocalWeights",
    "cache_folder",
    "download",
    "fetch_small",
    "locate",
    "packaged_path",
    "path",
    "presence",
    "readable_size",
    "verify",
]

logger = logging.getLogger(__name__)

AUTOMATIC_BYTES = 50_000_000
"""A run fetches at most this much by itself; more is fetched only when asked for."""


def presence(checkpoint: Checkpoint) -> Literal["packaged", "yes", "no", "none needed"]:
    """Say whether the weights are on this machine, by name and size alone: nothing is hashed."""
    if checkpoint.packaged:
        return "packaged" if packaged_path(checkpoint).is_file() else "no"
    if not checkpoint.files:
        return "none needed"
    return "no" if _missing(checkpoint) else "yes"


def path(checkpoint: Checkpoint) -> Path:
    """Give the file with the tensors of a checkpoint on this machine: varfm's conversion of it, where there is one.

    Raises:
        ModelError: If it is not here.
    """
    if presence(checkpoint) in ("no", "none needed"):
        raise _not_here(checkpoint, "are not on this machine")
    if has_conversion(checkpoint):
        return converted_path(checkpoint)
    return _source_path(checkpoint)


def verify(checkpoint: Checkpoint) -> tuple[FileStatus, ...]:
    """Hash every file of a checkpoint that is on this machine and compare it with the catalogue.

    varfm's own conversion in the cache is compared with what was noted when it was made; where it is there, the files
    that it was made from may be gone.
    """
    if checkpoint.packaged:
        return (_packaged_status(checkpoint),)
    folder = cache_folder(checkpoint)
    converted = _conversion_status(checkpoint)
    spared = checkpoint.sources if converted and converted.state == "ok" else ()
    files = [file for file in checkpoint.files if file not in spared or (folder / file.name).exists()]
    statuses = tuple(status_of(folder / file.name, [file]) for file in files)
    return (*statuses, converted) if converted else statuses


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
        override: A local copy to use instead (`--weights`): a file, or a folder with all files.
        offline: Open no connection.
        allow_download: Fetch whatever its size. Without it only files of known size up to 50 MB in all are fetched.
        require_published: Refuse a file that is not the published one.

    Raises:
        ModelError: If the weights are not here and may not be fetched, are damaged, or are not the published ones
            where that is required.
    """
    if not checkpoint.needs_weights:
        return _no_weights(checkpoint, override)
    if override is not None:
        copy = local_copy(checkpoint, override)
        absent = [file for file in needed_beside(checkpoint, copy) if file.name not in copy.auxiliaries]
        fetch_small(checkpoint, absent, offline=offline, beside=override, transport=transport)
        cached = {file.name: cache_folder(checkpoint) / file.name for file in absent}
        return judge(checkpoint, copy, {**copy.auxiliaries, **cached}, require_published)
    missing = _missing(checkpoint)
    if missing:
        _fetch_or_explain(checkpoint, missing, offline, allow_download, transport)
    return _from_package(checkpoint) if checkpoint.packaged else _from_cache(checkpoint)


def download(
    checkpoint: Checkpoint,
    *,
    files: Sequence[RemoteFile] | None = None,
    transport: Transport | None = None,
    announce: Callable[[str], None] = logger.warning,
) -> None:
    """Bring the files of a checkpoint into the cache: each to a temporary name, hashed, then renamed.

    Files that are already there and right are kept; wrong ones are replaced. What varfm's conversion was made from is
    not fetched again.

    Args:
        files: Only these; None: all.
        announce: Told the licence before the first connection.

    Raises:
        ModelError: If a file cannot be had from any of its addresses.
        DiskError: If the cache cannot be written.
    """
    announce(checkpoint.licence_line)
    if _is_handed_out(checkpoint):
        raise _not_here(checkpoint, "are not on this machine")
    if files is None:
        files = [*([] if _has_right_conversion(checkpoint) else checkpoint.sources), *checkpoint.auxiliaries]
    folder = cache_folder(checkpoint)
    transport = transport or Transport()
    archives: dict[tuple[str, ...], list[RemoteFile]] = {}
    for file in files:
        if file.member:
            archives.setdefault(file.urls, []).append(file)
        else:
            fetch(file, folder, owner=checkpoint.name, transport=transport)
    for members in archives.values():
        fetch_members(members, folder, owner=checkpoint.name, transport=transport)


def fetch_small(
    checkpoint: Checkpoint,
    files: Sequence[RemoteFile],
    *,
    offline: bool,
    beside: Path | None = None,
    transport: Transport | None = None,
) -> None:
    """Make sure that files other than those with the tensors are in the cache; fetch them if they are small.

    Args:
        beside: Where else they were looked for, for the message.

    Raises:
        ModelError: If one is not there and is too large, or `offline` forbids to fetch it.
    """
    missing = [file for file in files if not is_here(checkpoint, file)]
    if not missing:
        return
    size = _bytes_to_fetch(missing)
    if not offline and size is not None and size <= AUTOMATIC_BYTES:
        download(checkpoint, files=missing, transport=transport)
        return
    names = ", ".join(file.name for file in missing[:3]) + (", ..." if len(missing) > 3 else "")
    where = f"neither beside {beside} nor in the cache" if beside else "not in the cache"
    only_tables = " --tables" if all(file.role == "table" for file in missing) else ""
    raise ModelError(
        f"{checkpoint.name} needs {names} ({readable_size(size)}), {where}"
        f"{', and --offline forbids to fetch it' if offline else ''}. "
        f"{'Put it there, or fetch' if beside else 'Fetch'} it with: "
        f"varfm models download {checkpoint.name}{only_tables}"
    )


def _no_weights(checkpoint: Checkpoint, override: Path | None) -> LocalWeights:
    if override is not None:
        raise ModelError(f"{override}: {checkpoint.name} has no weights to replace. Leave out --weights.")
    return LocalWeights(Path(os.devnull), "", published=True)


def _source_path(checkpoint: Checkpoint) -> Path:
    if checkpoint.packaged:
        return packaged_path(checkpoint)
    return cache_folder(checkpoint) / checkpoint.files[0].name


def _missing(checkpoint: Checkpoint) -> list[RemoteFile]:
    spared = checkpoint.sources if has_conversion(checkpoint) else ()
    return [file for file in checkpoint.files if file not in spared and not is_here(checkpoint, file)]


def _bytes_to_fetch(files: Sequence[RemoteFile]) -> int | None:
    """Give what must be fetched for some files; None where nobody knows. Tables are small whatever they are."""
    if any(file.member for file in files):  # the whole archive must come
        return None
    return total_size([file for file in files if file.role != "table" or file.size is not None])


def _not_here(checkpoint: Checkpoint, why: str) -> ModelError:
    if not checkpoint.needs_weights:
        return ModelError(f"{checkpoint.name} has no weights; there is nothing to find.")
    if not checkpoint.files:
        return ModelError(f"The weights of {checkpoint.name} {why}: reinstall varfm, they are part of the package.")
    stamp = "" if checkpoint.commercial else ", not for commercial use"
    about = f"{checkpoint.readable_size}, licence {checkpoint.licence}{stamp}"
    if _is_handed_out(checkpoint):
        return ModelError(
            f"The weights of {checkpoint.name} ({about}) {why}, and their authors give no address that a program could "
            f"use. Get {checkpoint.files[0].name} as {checkpoint.source} says, and give it with --weights."
        )
    return ModelError(
        f"The weights of {checkpoint.name} ({about}) {why}. Fetch them with: varfm models download {checkpoint.name}"
    )


def _is_handed_out(checkpoint: Checkpoint) -> bool:
    """Say whether people, not programs, get a file from its authors."""
    return any(not file.urls for file in checkpoint.files)


def _fetch_or_explain(
    checkpoint: Checkpoint,
    missing: Sequence[RemoteFile],
    offline: bool,
    allow_download: bool,
    transport: Transport | None,
) -> None:
    if all(file.role == "table" for file in missing):
        fetch_small(checkpoint, missing, offline=offline, transport=transport)
        return
    if offline:
        raise _not_here(checkpoint, "are not on this machine, and --offline forbids to fetch them")
    size = _bytes_to_fetch(missing)
    if not (allow_download or (size is not None and size <= AUTOMATIC_BYTES)):
        raise _not_here(checkpoint, "are not on this machine")
    download(checkpoint, transport=transport)


def _packaged_status(checkpoint: Checkpoint) -> FileStatus:
    return status_of(packaged_path(checkpoint), [RemoteFile("", (), checkpoint.packaged_sha256, None)])


def _from_package(checkpoint: Checkpoint) -> LocalWeights:
    status = _packaged_status(checkpoint)
    _refuse_unless_right(checkpoint, [status])
    return LocalWeights(status.path, status.sha256 or "", published=True)


def _from_cache(checkpoint: Checkpoint) -> LocalWeights:
    """Hash the files in the cache; a conversion that is as it was made stands for the files that it was made from."""
    folder = cache_folder(checkpoint)
    converted = status_of_conversion(checkpoint)
    if converted and converted.state == "ok":
        main, sources = converted.path, source_statuses(checkpoint)
    else:
        main, sources = _source_path(checkpoint), [status_of(folder / f.name, [f]) for f in checkpoint.sources]
    others = {file.name: status_of(folder / file.name, [file]) for file in checkpoint.auxiliaries}
    _refuse_unless_right(checkpoint, [*sources, *others.values()])
    files = {name: status.path for name, status in others.items()}
    return LocalWeights(main, joint_digest(sources), published=True, files=files)


def _refuse_unless_right(checkpoint: Checkpoint, statuses: Sequence[FileStatus]) -> None:
    for status in statuses:
        if status.state == "missing":
            raise _not_here(checkpoint, "are not on this machine")
        if status.state == "wrong":
            raise _not_here(checkpoint, f"are damaged: {status.path} is not the published file")


def _has_right_conversion(checkpoint: Checkpoint) -> bool:
    status = status_of_conversion(checkpoint)
    return status is not None and status.state == "ok"


def _conversion_status(checkpoint: Checkpoint) -> FileStatus | None:
    """Judge a conversion that is there; one without a sidecar of its own is wrong."""
    if not checkpoint.converts or not converted_path(checkpoint).is_file():
        return None
    return status_of_conversion(checkpoint) or FileStatus(converted_path(checkpoint), "wrong", None)
