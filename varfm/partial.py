"""Temporary files of downloads: each belongs to one call, and what a broken one left is taken up by one other.

Nothing here depends on file locks, which on some network file systems are granted to everybody: a piece changes hands
by a rename, which succeeds once.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from varfm.digits import is_whole

_STALE_S = 3 * 24 * 3600
_NOBODY = 0
"""Stands in the name of a piece instead of a process that works on it."""


def claim(target: Path) -> Path:
    """Name the temporary file of a download: the longest piece that was left for it here, else one that is not there.

    Only pieces of this machine whose process has ended are taken; the caller owns the file alone.
    """
    own = _named(target, os.getpid())
    for piece in sorted(_free(target), key=_rank, reverse=True):
        try:
            piece.rename(own)
        except OSError:  # another process took it
            continue
        os.utime(own)
        break
    return own


def leave(partial: Path, target: Path) -> None:
    """Leave a piece to whoever tries next; of several only the longest stays, so that failures take little room."""
    if not _rank(partial)[0]:
        partial.unlink(missing_ok=True)
        return
    left = _named(target, _NOBODY)
    partial.rename(left)
    for piece in sorted(_free(target), key=_rank)[:-1]:
        piece.unlink(missing_ok=True)


def clear(target: Path) -> None:
    """Remove pieces that nobody needs once the file is there, and those of long ago, of whichever machine."""
    for piece in _free(target):
        piece.unlink(missing_ok=True)
    with suppress(OSError):
        for path in target.parent.iterdir():
            if _is_temporary(path, target) and _age_s(path) > _STALE_S:
                path.unlink(missing_ok=True)


def fresh(target: Path) -> Path:
    """Name a temporary file that belongs to this call alone and is of no use to another one."""
    return target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(8).hex()}.tmp")


def _named(target: Path, process: int) -> Path:
    return target.with_name(f"{_prefix(target)}{process}-{os.urandom(8).hex()}.part")


def _prefix(target: Path) -> str:
    return f".{target.name}.{_machine()}."


def _free(target: Path) -> Iterator[Path]:
    """Give the pieces of this machine on which no process works."""
    prefix = _prefix(target)
    with suppress(OSError):
        for path in list(target.parent.iterdir()):
            if path.name.startswith(prefix) and path.suffix == ".part":
                process = path.name.removeprefix(prefix).partition("-")[0]
                if is_whole(process) and not _is_running(int(process)):
                    yield path


def _is_running(process: int) -> bool:
    if process == _NOBODY:
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no number of a process
        return True
    return True


def _machine() -> str:
    """Name what numbers of processes are good for: this machine until it is restarted, or one container of it."""
    parts = [platform.node()]
    with suppress(OSError):  # each of them is there on Linux only
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]


def _rank(piece: Path) -> tuple[int, str]:
    """Order pieces by length; the name decides between equals, so that two processes never remove each other's."""
    try:
        return piece.stat().st_size, piece.name
    except OSError:
        return 0, piece.name


def _is_temporary(path: Path, target: Path) -> bool:
    of_target = path.name.startswith(f".{target.name}.") and path.suffix in (".part", ".tmp")
    return of_target or (path.name.startswith(".") and ".varfm-tmp" in path.name)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
