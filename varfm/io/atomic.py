"""Output files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

from varfm.errors import DiskError, OptionError


class AtomicFile:
    """A file written under a temporary name in its own folder, and renamed when it is complete; a context manager.

    Leaving the context without `publish` removes the temporary file.

    Attributes:
        name: The path as it was given, for errors.
        path: The final path, symbolic links resolved.
        temporary: The path of the temporary file, which ends with the same suffixes as `path`.
        file: The temporary file, open for writing bytes. `disk_errors` turns its OSError into what a user understands.
    """

    def __init__(self, path: str | os.PathLike[str], force: bool, staging: str | None = None) -> None:
        """Check that the file can be written, and create the temporary one.

        Args:
            path: Where the file shall be.
            force: Replace a file that is there.
            staging: The folder of the temporary file, on the same file system; None: that of the file itself.

        Raises:
            OptionError: If the file exists and `force` is False, is a folder or a device, or its folder does not exist.
            DiskError: If nothing can be written in its folder.
        """
        self.path = os.path.realpath(path)
        self._force = force
        self.name = os.fspath(path)
        check_target(path, force)
        folder, name = os.path.split(self.path)
        stem, dot, suffixes = name.partition(".")
        unique = f".{stem[:100]}.{os.getpid()}-{secrets.token_hex(4)}.varfm-tmp"
        self.temporary = os.path.join(staging or folder, f"{unique}{dot}{suffixes}")
        try:
            self.file: BinaryIO = open(self.temporary, "xb")
        except OSError as error:
            raise _cannot_write(self.name, folder, error.strerror or str(error)) from error

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Close and remove the temporary file; nothing happens after `publish`."""
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            os.unlink(self.temporary)

    def close(self) -> None:
        """Flush and close `file`.

        Raises:
            DiskError: If the disk refuses.
        """
        with disk_errors(self.name):
            self.file.close()

    def seal(self) -> None:
        """Close the temporary file and bring it onto the disk; nothing can fail any more but the renaming.

        Raises:
            OptionError: If another program made the file meanwhile, and `force` is False.
            DiskError: If the disk refuses.
        """
        self.close()
        _check_free(self.name, self.path, self._force)
        with disk_errors(self.name):
            _sync(self.temporary)

    def publish(self) -> None:
        """Give a sealed file its final name.

        Raises:
            DiskError: If the disk refuses.
        """
        with disk_errors(self.name):
            os.replace(self.temporary, self.path)
        with contextlib.suppress(OSError):  # some file systems cannot sync a folder
            _sync(os.path.dirname(self.path))


def check_target(path: str | os.PathLike[str], force: bool) -> None:
    """See to it that a file can be written, and make none: a process that is killed here leaves nothing behind.

    Args:
        path: Where the file shall be.
        force: Replace a file that is there.

    Raises:
        OptionError: If the file exists and `force` is False, is a folder or a device, or its folder does not exist.
        DiskError: If its folder may not be written.
    """
    name, real = os.fspath(path), os.path.realpath(path)
    folder = os.path.dirname(real)
    _check_free(name, real, force)
    if not os.path.isdir(folder):
        raise OptionError(f"{name}: the folder {folder} does not exist. Create it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _cannot_write(name, folder, "no permission, or a read-only file system")


def _check_free(name: str, path: str, force: bool) -> None:
    if not os.path.lexists(path):
        return
    if os.path.isdir(path):
        raise OptionError(f"{name} is a folder. Name a file in it.")
    if not os.path.isfile(path):
        raise OptionError(f"{name} is no regular file. Use `-` to write to stdout.")
    if not force:
        raise OptionError(f"{name} exists. Use --force to replace it, or another name.")


def _cannot_write(name: str, folder: str, why: str) -> DiskError:
    return DiskError(f"{name}: cannot write in the folder {folder}: {why}. Choose a folder that you may write in.")


@contextlib.contextmanager
def disk_errors(shown: str) -> Iterator[None]:
    """Turn a failure to write inside into an error that says where and what to do; a broken pipe passes.

    Args:
        shown: The output, as errors call it.

    Raises:
        DiskError: For any OSError but BrokenPipeError.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        nothing = "Nothing incomplete was left under an output's name"
        left = "What came out is not complete" if shown == "<stdout>" else nothing
        raise DiskError(
            f"{shown}: writing failed: {error.strerror or error}. {left}: make room, or write elsewhere."
        ) from error


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
