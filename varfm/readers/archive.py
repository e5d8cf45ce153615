"""One member out of an archive as authors publish it: a tar, packed by gzip or not, or a single file packed by gzip."""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from varfm.errors import ModelError
from varfm.io.atomic import AtomicFile, disk_errors

_GZIP = b"\x1f\x8b"
_PIECE = 1 << 20
_MAX_MEMBERS = 100_000
_MAX_BYTES = 64 << 30
"""No published weights come near; a bomb stops here where the true size is not known."""


def extract_member(archive: Path, member: str, target: Path, *, size: int | None = None) -> None:
    """Write one file of an archive to `target`, which is there whole or not at all; no other member is written.

    Args:
        archive: A tar, a tar packed by gzip, or another file packed by gzip; its content says which.
        member: Path in the tar. A gzip file without a tar has one member, whose name is not looked at.
        target: Replaced if it is there; its folder must exist.
        size: Bytes that the member must have; None where that is not known.

    Raises:
        ModelError: If the archive is damaged, or the member is missing, of another size, a link or a device.
        DiskError: If `target` cannot be written.
    """
    _check_name(archive, member)
    with AtomicFile(target, force=True) as output:
        with _errors(archive), open(archive, "rb") as packed:
            is_gzip = packed.read(len(_GZIP)) == _GZIP
            packed.seek(0)
            content: Any = gzip.GzipFile(fileobj=packed) if is_gzip else packed
            if is_gzip and not _is_tar(content):
                _copy(content, output, archive, size)
            else:
                _copy(_opened(content, archive, member), output, archive, size)
            if is_gzip:
                _drain(content)
        output.seal()
        output.publish()


def _check_name(archive: Path, member: str) -> None:
    parts = PurePosixPath(member).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise ModelError(f"{archive}: {member!r} is not the name of a file inside an archive.")


@contextmanager
def _errors(archive: Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, ValueError) as error:
        raise ModelError(f"{archive}: damaged or cut archive ({error}). Fetch it again.") from error
    except OSError as error:
        raise ModelError(f"{archive}: cannot be read ({error.strerror}). Fetch it again.") from error


def _is_tar(content: IO[bytes]) -> bool:
    is_tar = content.read(512)[257:262] == b"ustar"
    content.seek(0)
    return is_tar


class _Bounded:
    """A file that gives no more at once than a header may take: tarfile reads the long names of members whole."""

    def __init__(self, content: IO[bytes], archive: Path) -> None:
        self._content = content
        self._archive = archive

    def read(self, n_bytes: int = -1) -> bytes:
        if not 0 <= n_bytes <= _PIECE:
            raise ModelError(f"{self._archive}: a header of the archive takes {n_bytes} bytes. Fetch it again.")
        return self._content.read(n_bytes)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()


def _opened(content: IO[bytes], archive: Path, member: str) -> IO[bytes]:
    wanted = PurePosixPath(member)
    tar = tarfile.open(fileobj=_Bounded(content, archive), mode="r:")  # type: ignore[call-overload]
    for number, entry in enumerate(tar):
        if number >= _MAX_MEMBERS:
            break
        if PurePosixPath(entry.name) != wanted:
            continue
        found = tar.extractfile(entry) if entry.isreg() else None
        if found is None:
            raise ModelError(f"{archive}: {member} is a link, a folder or a device in the archive, not a file.")
        opened: IO[bytes] = found
        return opened
    raise ModelError(f"{archive}: the archive has no member {member}. Is it the one that the authors published?")


def _copy(content: IO[bytes], output: AtomicFile, archive: Path, size: int | None) -> None:
    limit = _MAX_BYTES if size is None else size
    n_bytes = 0
    while piece := content.read(_PIECE):
        n_bytes += len(piece)
        if n_bytes > limit:
            raise ModelError(f"{archive}: the member is longer than {limit} bytes. Is it the authors' file?")
        with disk_errors(output.name):
            output.file.write(piece)
    if size is not None and n_bytes != size:
        raise ModelError(f"{archive}: the member has {n_bytes} bytes, expected {size}. Fetch it again.")


def _drain(content: IO[bytes]) -> None:
    """Read what follows: the checksum of a gzip file stands at its end."""
    while content.read(_PIECE):
        pass
