"""Fetch one published file: resumed where it broke, bounded, hashed, and only then given its name."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal
from urllib.parse import urlsplit

from varfm.errors import DiskError, ModelError
from varfm.https import Body, BrokenOff, Progress, RangeRefused, Refused, Transport, open_body
from varfm.partial import claim, clear, fresh, leave

logger = logging.getLogger(__name__)

_PIECE = 1 << 18
_PROGRESS_THAT_COUNTS = 1 << 20
_WEB_PAGE = (b"<!doctype html", b"<html", b"<head")
_MOST_OF_A_TABLE = 50_000_000


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a checkpoint.

    Attributes:
        name: Its name in the cache, relative; may hold folders.
        urls: Addresses, https, best first; of the archive, where the file is the member of one.
        sha256: None where none was published.
        size: Bytes; None where it is not known.
        md5: Taken where no sha256 was published; without either, nothing but the length is checked.
        member: Path inside the archive; empty where the address gives the file itself. A gzip file has one member,
            whose path is the name without `.gz`.
        archive_sha256: Of the archive; None where none was published.
        role: `weights` holds the tensors (`shard`: a further piece of that file), `table` names the outputs and is
            small, `data` is anything else that the model needs, and so is `listed`, unless a local table lists others.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str | None
    size: int | None
    md5: str | None = None
    member: str = ""
    archive_sha256: str | None = None
    role: Literal["weights", "shard", "table", "data", "listed"] = "weights"

    @property
    def digest(self) -> str | None:
        """The published digest: the sha256, else the md5, else None."""
        return self.sha256 or self.md5

    @property
    def archive(self) -> RemoteFile:
        """The archive that holds the file, named like the last part of its address."""
        name = urlsplit(self.urls[0]).path.rpartition("/")[2]
        return RemoteFile(name, self.urls, self.archive_sha256, None)


def sha256_of(path: Path) -> str:
    """Give the sha256 of a file as hexadecimal digits, reading it in pieces.

    Raises:
        OSError: If it cannot be read.
    """
    return digests_of(path, md5=False)[0]


def digests_of(path: Path, *, md5: bool) -> tuple[str, str]:
    """Give the sha256 of a file and, if asked for, its md5 (else ""), reading it once, in pieces.

    Raises:
        OSError: If it cannot be read.
    """
    if not md5:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), ""
    both = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:
        while piece := file.read(_PIECE):
            for one in both:
                one.update(piece)
    return both[0].hexdigest(), both[1].hexdigest()


def fetch(file: RemoteFile, folder: Path, *, owner: str, transport: Transport) -> None:
    """Bring a file into a folder; one that is there and right is kept.

    Processes wait for each other where the file system can lock, so that one fetches for all. Nothing depends on
    that: each writes a temporary file of its own, and the rename at the end is atomic.

    Args:
        owner: The checkpoint, for messages.

    Raises:
        ModelError: If no address gives the file with the published length and digest.
        DiskError: If the folder cannot be written.
    """
    target = folder / file.name
    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _lock(target.parent, transport.lock_wait_s):
        if not _is_right(file, target):
            _fetch_alone(file, target, owner, transport)
        clear(target)


def _fetch_alone(file: RemoteFile, target: Path, owner: str, transport: Transport) -> None:
    try:
        with _fetched(file, target, owner, transport) as partial, _disk_errors(target):
            os.replace(partial, target)
    except ModelError:
        if not _is_right(file, target):  # without a lock, another process may have been luckier meanwhile
            raise


def fetch_members(files: Sequence[RemoteFile], folder: Path, *, owner: str, transport: Transport) -> None:
    """Bring members of one archive into a folder: the archive is fetched once, hashed, read and removed.

    Members that are there and right are kept; if all are, nothing is fetched. Locks as `fetch` does.

    Args:
        files: All of the same archive.
        owner: The checkpoint, for messages.

    Raises:
        ModelError: If no address gives the archive, or it is damaged, lacks a member or holds another one.
        DiskError: If the folder cannot be written.
    """
    archive = files[0].archive
    target = folder / archive.name
    with _disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder, transport.lock_wait_s):
        wanted = [file for file in files if not _is_right(file, folder / file.name)]
        if not wanted:
            return
        with _fetched(archive, target, owner, transport) as partial:
            for file in wanted:
                _extract(file, partial, folder / file.name, owner)
        clear(target)


@contextmanager
def _fetched(file: RemoteFile, target: Path, owner: str, transport: Transport) -> Iterator[Path]:
    """Fetch to a temporary file that goes away in the end; what is here of a download that breaks off is kept."""
    partial = claim(target)
    try:
        _fetch_from_any(file, partial, owner, transport)
    except BaseException:
        with suppress(OSError):
            leave(partial, target)
        raise
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _extract(file: RemoteFile, archive: Path, target: Path, owner: str) -> None:
    """Write one member under its name, by way of a temporary one."""
    from varfm.readers.archive import extract_member  # numpy comes with it, and few files are members

    with _disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    partial = fresh(target)
    try:
        extract_member(archive, file.member, partial, size=file.size)
        if not _has_digest(file, partial):
            raise ModelError(
                f"{owner}: {file.member} in {file.archive.name} has {_shown_digest(file, partial)}. "
                "The authors may have changed the archive; give a file that you trust by --weights."
            )
        with _disk_errors(target):
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def _is_right(file: RemoteFile, target: Path) -> bool:
    try:
        length = target.stat().st_size
        if file.size is not None and length != file.size:
            return False
        return _has_digest(file, target)
    except OSError:
        return False


def _has_digest(file: RemoteFile, path: Path) -> bool:
    return file.digest is None or _digest_of(file, path) == file.digest


def _digest_of(file: RemoteFile, path: Path) -> str:
    sha256, md5 = digests_of(path, md5=file.sha256 is None)
    return sha256 if file.sha256 else md5


def _shown_digest(file: RemoteFile, path: Path) -> str:
    return f"{'sha256' if file.sha256 else 'md5'} {_digest_of(file, path)} instead of {file.digest}"


@contextmanager
def _lock(folder: Path, wait_s: float) -> Iterator[None]:
    """Lock the folder itself, which leaves no lock file behind; go on without where that cannot be had."""
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
        yield
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
    if resumed and not _has_digest(file, partial):
        partial.unlink()
        _fetch_with_retries(file, url, partial, transport)
    if not _has_digest(file, partial):
        shown = _shown_digest(file, partial)
        partial.unlink()
        raise Refused(f"wrong bytes, {shown}")


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
    if (file.digest is None and etag is None) or (file.size is not None and length > file.size):
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
    if file.role == "table":
        limit = min(limit or _MOST_OF_A_TABLE, _MOST_OF_A_TABLE)
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
