"""The finished chunks of an unfinished run, on the disk: what a later run of the same command need not do again.

A journal is a folder:

    run.json     what decides the output, as a manifest without counts
    part-0 ...   the text of each output so far, without header, not compressed; one file per output
    chunks       one line per finished chunk: a digest of the line, what it counts, and size and digest of its pieces

A chunk counts once its line is on the disk, and its line is written when its pieces are. Whatever the moment at which
the process or the machine dies, all whole chunks are found again; what follows them is cut away.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from varfm.errors import DiskError, InputError
from varfm.io.atomic import disk_errors
from varfm.manifest import Manifest, read_manifest

RUN = "run.json"
FINISHED = "finished.json"
_CHUNKS = "chunks"
_LOCK = "lock"
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one chunk holds; its pieces lie in the part files, each behind those of the chunks before it.

    Attributes:
        n_read: Records of the input (or shard) up to its end.
        n_records: Records written by it.
        status: Model name to status word to alleles.
        halved: Model name to how often memory ran out during it.
        errors: As `account.measured_errors` gives it.
        sizes: Bytes of its piece of each part.
        digests: sha256 of each piece.
    """

    n_read: int
    n_records: int
    status: dict[str, dict[str, int]]
    halved: dict[str, int]
    errors: dict[str, float]
    sizes: list[int]
    digests: list[str]


class Journal:
    """The folder of an unfinished run; a context manager.

    Attributes:
        folder: Where it lies.
        chunks: The finished chunks, in order.
    """

    def __init__(self, folder: Path, n_parts: int) -> None:
        """Open the folder, or make it, and keep other processes out of it.

        Args:
            folder: Where it lies.
            n_parts: Number of outputs.

        Raises:
            DiskError: If it cannot be made or written, or another process writes in it.
        """
        self.folder = folder
        self.chunks: list[Chunk] = []
        self._n_parts = n_parts
        self._sizes = [0] * n_parts
        self._files: list[int] = []
        self._log = -1
        self._log_size = 0
        with disk_errors(str(folder)):
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)
            self._lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            self._take_lock()
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
        os.close(self._lock)

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DiskError(
                f"{self.folder}: another process is at work on this output. Wait for its end, or stop it."
            ) from None
        except OSError:
            pass  # a file system without locks; two processes would write the same bytes to the same places

    def read_run(self) -> Manifest | None:
        """Give what the unfinished run said of itself; None if there is none that could go on."""
        try:
            return read_manifest(self.folder / RUN)
        except InputError:
            return None

    def begin(self, run: Manifest) -> None:
        """Forget whatever there was, and start afresh.

        Raises:
            DiskError: If the disk is full or fails.
        """
        self._clean(keep=())
        with disk_errors(str(self.folder)):
            run.write(self.folder / RUN, force=True)
        self._open()

    def go_on(self) -> None:
        """Read the chunks that are whole; cut away what follows them.

        Raises:
            DiskError: If the disk fails.
        """
        self._clean(keep=(RUN, FINISHED, _CHUNKS, *self._part_names()))
        self._open()
        with disk_errors(str(self.folder)):
            for chunk, end in self._read_lines():
                if not self._is_whole(chunk):
                    break
                self._count(chunk)
                self._log_size = end
            self._cut()

    def append(self, chunk: Chunk, pieces: Sequence[bytes]) -> None:
        """Bring a chunk onto the disk.

        Args:
            chunk: Sizes and digests of the pieces are filled in.
            pieces: One per part.

        Raises:
            DiskError: If the disk is full or fails; the chunks before it stay.
        """
        chunk.sizes[:] = [len(piece) for piece in pieces]
        chunk.digests[:] = [hashlib.sha256(piece).hexdigest() for piece in pieces]
        line = _line(chunk)
        try:
            with disk_errors(str(self.folder)):
                for file, size, piece in zip(self._files, self._sizes, pieces, strict=True):
                    _write(file, piece, size)
                    os.fsync(file)
                _write(self._log, line, self._log_size)
                os.fsync(self._log)
        except DiskError:
            with contextlib.suppress(OSError):  # gives room back
                self._cut()
            raise
        self._count(chunk)
        self._log_size += len(line)

    def pieces(self, part: int) -> Iterator[bytes]:
        """Give the pieces of a part in order, each held against its digest.

        Raises:
            DiskError: If the disk fails, or does not give back what was written.
        """
        place = 0
        for chunk in self.chunks:
            with disk_errors(str(self.folder)):
                piece = b"".join(_read(self._files[part], place, chunk.sizes[part]))
            if hashlib.sha256(piece).hexdigest() != chunk.digests[part]:
                raise DiskError(
                    f"{self.folder}: a chunk does not come back as it was written. The disk or file system is not "
                    "reliable, or another process writes there: run again."
                )
            place += len(piece)
            yield piece

    def remove(self) -> None:
        """Remove the folder; the run is finished."""
        self._close()
        remove_folder(self.folder)

    def _part_names(self) -> list[str]:
        return [f"part-{number}" for number in range(self._n_parts)]

    def _clean(self, keep: Sequence[str]) -> None:
        """Remove what is not to be kept, such as outputs that were being put together."""
        with disk_errors(str(self.folder)):
            for path in self.folder.iterdir():
                if path.name not in (_LOCK, *keep):
                    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def _open(self) -> None:
        with disk_errors(str(self.folder)):
            flags = os.O_RDWR | os.O_CREAT
            for name in self._part_names():
                self._files.append(os.open(self.folder / name, flags, 0o666))
            self._log = os.open(self.folder / _CHUNKS, flags, 0o666)
            _sync_folder(self.folder)

    def _close(self) -> None:
        for file in [*self._files, *([self._log] if self._log >= 0 else [])]:
            os.close(file)
        self._files, self._log = [], -1

    def _read_lines(self) -> Iterator[tuple[Chunk, int]]:
        """Give the chunks whose lines are whole, and where each line ends."""
        text = b"".join(_read(self._log, 0, os.fstat(self._log).st_size))
        end = 0
        for line in text.splitlines(keepends=True):
            chunk = _chunk_of(line)
            if chunk is None or len(chunk.sizes) != self._n_parts:
                return
            end += len(line)
            yield chunk, end

    def _is_whole(self, chunk: Chunk) -> bool:
        for file, place, size, digest in zip(self._files, self._sizes, chunk.sizes, chunk.digests, strict=True):
            found = hashlib.sha256()
            for data in _read(file, place, size):
                found.update(data)
            if found.hexdigest() != digest:
                return False
        return True

    def _count(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)
        self._sizes = [place + size for place, size in zip(self._sizes, chunk.sizes, strict=True)]

    def _cut(self) -> None:
        for file, size in zip([*self._files, self._log], [*self._sizes, self._log_size], strict=True):
            os.ftruncate(file, size)


def remove_folder(folder: Path) -> None:
    """Remove a journal that is of no use any more; what cannot be removed stays."""
    shutil.rmtree(folder, ignore_errors=True)


def _line(chunk: Chunk) -> bytes:
    text = json.dumps(asdict(chunk), separators=(",", ":")).encode()
    return hashlib.sha256(text).hexdigest().encode() + b" " + text + b"\n"


def _chunk_of(line: bytes) -> Chunk | None:
    """Undo `_line`; None for a line that was not written to its end."""
    digest, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or hashlib.sha256(text).hexdigest().encode() != digest:
        return None
    return Chunk(**json.loads(text))


def _write(file: int, data: bytes, place: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, place)
        view, place = view[written:], place + written


def _read(file: int, place: int, size: int) -> Iterator[bytes]:
    while size > 0 and (data := os.pread(file, min(size, _READ_BYTES), place)):
        place, size = place + len(data), size - len(data)
        yield data


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
