"""A table's file: written under a temporary name, its rows counted again, then renamed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from varfm.digits import counted
from varfm.errors import DiskError
from varfm.io.atomic import AtomicFile, disk_errors
from varfm.io.writer import PlainSink, open_stdout


class TableFile(Protocol):
    """Where a table is written to."""

    @property
    def file(self) -> Writable:
        """What to write to, under `errors`."""

    def errors(self) -> AbstractContextManager[None]:
        """Turn failures of the disk into `DiskError`."""

    @property
    def temporary(self) -> Path | None:
        """Where the table lies until it is published; None where it has no name."""

    def seal(self, n_rows: int, count: Callable[[str], int]) -> None:
        """Complete it but for its name."""

    def publish(self) -> None:
        """Give it its name."""

    def discard(self) -> None:
        """Remove what was written; nothing happens after `publish`."""


class Writable(Protocol):
    """Takes bytes."""

    def write(self, data: bytes, /) -> object:
        """Add them all."""


class StdoutFile:
    """stdout in place of a file: nothing is there to be read back or renamed.

    Attributes:
        file: What to write to, under `errors`.

    Raises:
        DiskError: If stdout is closed.
    """

    temporary = None

    def __init__(self) -> None:
        self.file = PlainSink(open_stdout())

    def errors(self) -> AbstractContextManager[None]:
        """Turn failures into `DiskError`."""
        return disk_errors("<stdout>")

    def seal(self, n_rows: int, count: Callable[[str], int]) -> None:
        """Write what is left."""
        with self.errors():
            self.file.close()

    def publish(self) -> None:
        """Do nothing."""

    def discard(self) -> None:
        """Do nothing: what the reader has cannot be taken back."""


class CountedFile:
    """A binary file that gets its name only if it holds the rows that were written.

    Args:
        path: The final name.
        force: Replace a file that is there.
        staging: The folder of the temporary file; see `AtomicFile`.

    Attributes:
        file: What to write to, under `errors`.

    Raises:
        OptionError: If the file exists and `force` is False, or its folder is missing.
        DiskError: If nothing can be written there.
    """

    def __init__(self, path: Path, *, force: bool, staging: str | None = None) -> None:
        self._shown = str(path)
        self._target = AtomicFile(path, force, staging)
        self.file = self._target.file

    def errors(self) -> AbstractContextManager[None]:
        """Turn failures of the disk into `DiskError`, naming the file."""
        return disk_errors(self._shown)

    @property
    def temporary(self) -> Path:
        """Where the file lies until it is published."""
        return Path(self._target.temporary)

    def seal(self, n_rows: int, count: Callable[[str], int]) -> None:
        """Close the file and count its rows.

        Args:
            n_rows: How many were written.
            count: Opens a path and counts the rows in it.

        Raises:
            DiskError: If the disk fails, or the file holds another number of rows.
        """
        self._target.close()
        with self.errors():
            n_found = count(self._target.temporary)
        if n_found != n_rows:
            raise DiskError(
                f"{self._shown}: of {counted(n_rows, 'row')} written, {n_found:,} came back. "
                "The disk or file system is not reliable: write elsewhere."
            )
        self._target.seal()

    def publish(self) -> None:
        """Give a sealed file its name."""
        self._target.publish()

    def discard(self) -> None:
        """Remove what was written; nothing happens after `publish`."""
        self._target.discard()
