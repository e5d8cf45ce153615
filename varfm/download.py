"""Fetch one published file: resumed where it broke, bounded, hashed, and only then given its name."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from varfm.errors import DiskError, ModelError
from varfm.https import Body, BrokenOff, Progress, RangeRefused, Refused, Transport, open_body

logger = logging.getLogger(__name__)

_PIECE = 1 << 18
_PROGRESS_THAT_COUNTS = 1 << 20
_STALE_S = 3 * 24 * 3600
_WEB_PAGE = (b"<!doctype html", b"<html", b"<head")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a checkpoint.

    Attributes:
        name: Its name in the cache, relative; may hold folders.
        urls: Addresses, https, best first.
        sha256: None where none was published; then nothing but the length is checked.
        size: Bytes; None where it is not known.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None
    size: int | None


def sha256_of(path: Path) -> str:
    """Give the sha256 of a file as hexadecimal digits, reading it in pieces.

    Raises:
        OSError: If it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(file: RemoteFile, folder: Path, *, owner: str, transport: Transport) -> None:
    """Bring a file into a folder; one that is there and right is kept.

    Processes wait for each other where the file system can lock, so that one fetches for all. Nothing depends on
    that: without the lock each writes a temporary file of its own, and the rename at the end is atomic.

    Args:
        owner: The checkpoint, for messages.

    Raises:
        ModelError: If no address gives the file with the published length and sha256.
        DiskError: If the folder cannot be written.
    """
    target = folder / file.name
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.parent, transport.lock_wait_s) as locked:
        if _is_right(file, target):
            return
        _remove_stale(target)
        partial = _partial_of(target, locked)
        try:
            _fetch_from_any(file, partial, owner, transport)
            with _disk_errors(target):
                os.replace(partial, target)
        finally:
            if not locked:
                partial.unlink(missing_ok=True)


def _is_right(file: RemoteFile, target: Path) -> bool:
    try:
        length = target.stat().st_size
        if file.size is not None and length != file.size:
            return False
        return _has_sha256(file, target)
    except OSError:
        return False


def _has_sha256(file: RemoteFile, path: Path) -> bool:
    return file.sha256 is None or sha256_of(path) == file.sha256


def _partial_of(target: Path, locked: bool) -> Path:
    """Name the temporary file: the holder of the lock may resume an earlier one of this machine, others may not."""
    if locked:
        return target.with_name(f".{target.name}.{_machine()}.part")
    return target.with_name(f".{target.name}.{os.getpid()}-{os.urandom(8).hex()}.tmp")


def _machine() -> str:
    """Name this machine until it is restarted: on some network file systems a lock holds on one machine only."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        boot = ""
    return hashlib.sha256(f"{platform.node()} {boot}".encode()).hexdigest()[:12]


def _remove_stale(target: Path) -> None:
    """Remove what broken downloads of long ago left, whichever machine they ran on."""
    for path in target.parent.iterdir():
        if path.name.startswith(f".{target.name}.") and path.suffix in (".part", ".tmp"):
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_S:
                    path.unlink()


@contextmanager
def _lock(folder: Path, wait_s: float) -> Iterator[bool]:
    """Lock the folder itself, which leaves no lock file behind; False where that cannot be had."""
    import fcntl

    with _disk_errors(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        deadline = time.monotonic() + wait_s
        locked = False
        while not locked and time.monotonic() < deadline:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                locked = True
            except BlockingIOError:
                time.sleep(0.1)
            except OSError:  # a file system without locks
                break
        yield locked
    finally:
        os.close(handle)


@contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"{path}: cannot be written ({error.strerror}). "
            "Free some space, or set VARFM_CACHE to a folder that you may write."
        ) from error


def _fetch_from_any(file: RemoteFile, partial: Path, owner: str, transport: Transport) -> None:
    failures: list[str] = []
    for url in file.urls:
        try:
            _fetch_and_check(file, url, partial, transport)
            return
        except (Refused, BrokenOff) as failure:
            failures.append(f"{url}: {failure}")
    raise ModelError(
        f"{owner}: {file.name} could not be fetched. {'; '.join(failures)}. "
        "Try again later, or fetch the file elsewhere and give it by --weights."
    )


def _fetch_and_check(file: RemoteFile, url: str, partial: Path, transport: Transport) -> None:
    """Fetch from one address; once more, from the start, if bytes of different tries make a wrong file."""
    resumed = _fetch_with_retries(file, url, partial, transport)
    if resumed and not _has_sha256(file, partial):
        partial.unlink()
        _fetch_with_retries(file, url, partial, transport)
    if not _has_sha256(file, partial):
        found = sha256_of(partial)
        partial.unlink()
        raise Refused(f"wrong bytes, sha256 {found} instead of {file.sha256}")


def _fetch_with_retries(file: RemoteFile, url: str, partial: Path, transport: Transport) -> bool:
    """Fetch until the length is right; tell whether pieces of different tries were joined."""
    etag: str | None = None
    failed = 0
    resumed = False
    while True:
        offset = _offset(file, partial, etag)
        if offset and offset == file.size:
            return True
        try:
            with open_body(url, offset, etag, transport) as body:
                etag = body.etag
                resumed = body.start > 0
                _receive(file, body, partial, transport)
            return resumed
        except BrokenOff as failure:
            if isinstance(failure, RangeRefused):
                partial.unlink(missing_ok=True)
            came = _length(partial) - offset
            failed = 1 if came >= _PROGRESS_THAT_COUNTS else failed + 1  # bounded: the file's length is
            if failed >= transport.attempts:
                raise
            logger.info("%s: %s; trying again", url, failure)
            time.sleep(min(60.0, transport.pause_s * 2 ** (failed - 1)))


def _offset(file: RemoteFile, partial: Path, etag: str | None) -> int:
    """Give the length of what is here and may be continued: without digest or version, bytes of two files could mix."""
    length = _length(partial)
    if (file.sha256 is None and etag is None) or (file.size is not None and length > file.size):
        return 0
    return length


def _length(partial: Path) -> int:
    try:
        return partial.stat().st_size
    except FileNotFoundError:
        return 0


def _receive(file: RemoteFile, body: Body, partial: Path, transport: Transport) -> None:
    """Write the body behind what is here, or from the start; never more than the length that was announced."""
    first = body.read(_PIECE)
    if body.start == 0 and (body.is_html or first.lstrip().lower().startswith(_WEB_PAGE)):
        raise Refused("got a web page instead of the file (is there a login page or a proxy in the way?)")
    if file.size is not None and body.total not in (None, file.size):
        raise Refused(f"the server offers {body.total} bytes, the published file has {file.size}")
    with _disk_errors(partial):
        out = open(partial, "ab" if body.start else "wb")
    with out:
        done = _copy(file, body, first, out, transport)
    if done < (file.size or body.total or 0):
        raise BrokenOff(f"the file ended after {done} of {file.size or body.total} bytes")


def _copy(file: RemoteFile, body: Body, piece: bytes, out: BinaryIO, transport: Transport) -> int:
    limit = file.size if file.size is not None else body.total
    done = body.start
    while piece:
        done += len(piece)
        if limit is not None and done > limit:
            Path(out.name).unlink(missing_ok=True)
            raise Refused(f"the server sends more than the {limit} bytes of the file")
        with _disk_errors(Path(out.name)):
            out.write(piece)
            out.flush()
        if transport.progress is not None:
            transport.progress(Progress(file.name, done, limit))
        piece = body.read(_PIECE)
    with _disk_errors(Path(out.name)):
        os.fsync(out.fileno())
    return done
