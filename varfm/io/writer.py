"""VCF out: text, BGZF or BCF by suffix, or text on stdout; a file is whole, counted and indexed, or not there."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol

from varfm.digits import counted
from varfm.errors import DiskError, OptionError
from varfm.io.atomic import AtomicFile, disk_errors
from varfm.io.deflate import BgzfWriter
from varfm.io.recheck import RecordCount, count_records, make_index
from varfm.io.terminal import TerminalFile

__all__ = ["AtomicFile", "BgzfWriter", "PlainSink", "VcfWriter", "disk_errors"]

STDOUT = "-"
SUFFIXES = (".vcf", ".vcf.gz", ".bcf")
INDEX_SUFFIXES = (".tbi", ".csi")


class Sink(Protocol):
    """Takes the text of a VCF and stores it."""

    def write(self, data: bytes) -> None:
        """Add header or record lines."""

    def close(self) -> None:
        """Write what is left."""

    def abort(self) -> None:
        """Stop, and let go of everything."""


class VcfWriter:
    """Write the text of a VCF; a context manager.

    Leaving the context without `publish` leaves no file behind.
    """

    def __init__(
        self,
        output: str,
        *,
        force: bool,
        contigs: Mapping[str, int | None] | None = None,
        staging: str | None = None,
    ) -> None:
        """Check that the output can be written, and start.

        Args:
            output: A path that ends with `.vcf`, `.vcf.gz` or `.bcf`, or `-` for text on stdout.
            force: Replace a file that is there.
            contigs: Names and lengths for the `##contig` lines that BCF needs and the header lacks; unused for text.
            staging: The folder of the temporary file; see `AtomicFile`.

        Raises:
            OptionError: If the suffix is none of these, the file exists and `force` is False, or its folder is missing.
            DiskError: If nothing can be written there.
        """
        self._shown = output
        self._atomic: AtomicFile | None = None
        self._index: str | None = None
        self._written = RecordCount()
        if output == STDOUT:
            self._shown = "<stdout>"
            self._sink: Sink = PlainSink(open_stdout())
            return
        suffix = _suffix_of(output)
        self._has_index = suffix != ".vcf"
        self._atomic = AtomicFile(output, force, staging)
        try:
            self._sink = _sink_of(suffix, self._atomic, contigs or {})
        except BaseException:
            self._atomic.discard()
            raise

    def __enter__(self) -> VcfWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sink.abort()
        if self._atomic is not None:
            self._atomic.discard()
            for suffix in INDEX_SUFFIXES:
                _remove(self._atomic.temporary + suffix)

    def write(self, data: bytes) -> None:
        """Add the header or records as text.

        Args:
            data: The header first, in one call or several; then records. Only the last record may lack its line end.

        Raises:
            DiskError: If the disk is full or fails.
            InputError: For BCF, if a record cannot be kept as it is.
            BrokenPipeError: If the reader of stdout went away.
        """
        self._written.add(data)
        with disk_errors(self._shown):
            self._sink.write(data)

    def write_tail(self, tail: bytes) -> None:
        """Add the blank lines that end the input; BCF has no place for them.

        Raises:
            DiskError: If the disk is full or fails.
        """
        if tail and not self._shown.endswith(".bcf"):
            self.write(tail)

    def seal(self, n_records: int) -> None:
        """Complete the output but for its name: flush, read it back and count, index.

        Args:
            n_records: Records that were to be written.

        Raises:
            DiskError: If the disk fails, or the file does not hold that many records.
            InputError: For BCF, if a record cannot be kept as it is.
            BrokenPipeError: If the reader of stdout went away.
        """
        with disk_errors(self._shown):
            self._sink.close()
        if self._atomic is None:
            self._check_count(n_records, self._written.n_records)
            return
        self._atomic.seal()
        with ThreadPoolExecutor(1) as pool:  # htslib needs no lock of ours, so index and count run side by side
            index = pool.submit(make_index, self._atomic.temporary) if self._has_index else None
            self._check_count(n_records, count_records(self._atomic.temporary, self._shown))
        self._index = index.result() if index else None

    @property
    def sealed(self) -> list[tuple[str, Path, Path]]:
        """What a sealed output consists of: role, temporary path, final path as given."""
        if self._atomic is None:
            return []
        parts = [("vcf", Path(self._atomic.temporary), Path(self._shown))]
        if self._index:
            parts.insert(0, ("index", Path(self._index), Path(self._shown + self._index_suffix)))
        return parts

    @property
    def _index_suffix(self) -> str:
        return os.path.splitext(self._index or "")[1]

    def publish(self) -> None:
        """Rename index and output, in this order, so that an output that is there has its index, and no old one.

        Raises:
            DiskError: If the disk refuses.
        """
        if self._atomic is None:
            return
        with disk_errors(self._shown):
            for suffix in INDEX_SUFFIXES:
                _remove(self._atomic.path + suffix)
            if self._index:
                os.replace(self._index, self._atomic.path + self._index_suffix)
        self._atomic.publish()

    def _check_count(self, expected: int, found: int) -> None:
        if expected != found:
            raise DiskError(
                f"{self._shown}: of {counted(expected, 'record')} written, {found:,} came back. The disk or file "
                "system is not reliable: write elsewhere."
            )


def index_again(output: str) -> None:
    """Make the index of an output that lies there complete; the index is there whole or not at all.

    Raises:
        DiskError: If it cannot be made or written.
    """
    path = os.path.realpath(output)
    folder, name = os.path.split(path)
    with disk_errors(output), tempfile.TemporaryDirectory(".varfm-tmp", ".", folder) as staging:
        linked = os.path.join(staging, name)  # htslib puts the index beside the name that it is given
        os.symlink(path, linked)
        index = make_index(linked)
        if index is None:
            raise DiskError(f"{output}: its index is missing, and cannot be made. Is there room in {folder}?")
        os.replace(index, path + os.path.splitext(index)[1])


def open_stdout() -> BinaryIO | TerminalFile:
    """Give stdout for bytes; a terminal shows them escaped.

    Raises:
        DiskError: If it is closed.
    """
    if sys.stdout is None:
        raise DiskError("stdout is closed. Open it, or name a file with --output.")
    return TerminalFile(sys.stdout.buffer) if sys.stdout.isatty() else sys.stdout.buffer


class PlainSink:
    """Text as it comes."""

    def __init__(self, file: BinaryIO | TerminalFile) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        """Add all of it."""
        view = memoryview(data)
        while view:  # a raw file may take a part only
            written = self._file.write(view)
            if not written:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            view = view[written:]

    def close(self) -> None:
        """Write what is left; the file stays open."""
        self._file.flush()

    def abort(self) -> None:
        """Do nothing: the file belongs to the caller."""


def _sink_of(suffix: str, target: AtomicFile, contigs: Mapping[str, int | None]) -> Sink:
    if suffix == ".bcf":
        from varfm.io.bcf import BcfSink

        return BcfSink(target, contigs)
    return BgzfWriter(target.file) if suffix == ".vcf.gz" else PlainSink(target.file)


def _suffix_of(output: str) -> str:
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if output.endswith(suffix):
            return suffix
    raise OptionError(f"{output}: the suffix names no format known here. Use .vcf, .vcf.gz, .bcf, or - for stdout.")


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
