"""The index of a FASTA file: taken from beside it if it tells the truth, else made in varfm's cache. Holds no bases."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import pysam
from pysam.utils import SamtoolsError

from varfm.bgzf import BgzfText, PlainText, StaleIndex, Text
from varfm.cache import cache_root
from varfm.errors import DiskError, InputError
from varfm.io.inflate import BGZF_EOF, is_bgzf

_log = logging.getLogger(__name__)

# More bytes than this between two records are no header line: the index is another file's.
_MAX_GAP = 1 << 20
_MAX_LINE = 1 << 30  # longer than any chromosome
_HEAD_BYTES = 1 << 16
_GRAPHIC = bytes(range(33, 127))  # what htslib counts as bases


class Record(NamedTuple):
    """Where one contig lies in the (decompressed) file: a line of a `.fai`.

    Attributes:
        name: First word of the header line.
        length: Bases.
        offset: Byte of the first base.
        line_bases: Bases per line.
        line_width: Bytes per line, its end included.
    """

    name: str
    length: int
    offset: int
    line_bases: int
    line_width: int

    @property
    def end(self) -> int:
        """Byte after the last base."""
        if not self.length or not self.line_bases:
            return self.offset
        n_full, n_rest = divmod(self.length - 1, self.line_bases)
        return self.offset + n_full * self.line_width + n_rest + 1


class Index(NamedTuple):
    """An index that was held against its file.

    Attributes:
        fai: The `.fai`.
        gzi: The `.gzi`, None for a FASTA that is not compressed.
        records: The contigs, in file order.
    """

    fai: Path
    gzi: Path | None
    records: tuple[Record, ...]


def find_index(path: Path, cache: Path | None = None) -> Index:
    """Give an index that describes the FASTA as it is now; never write beside the FASTA.

    An index beside the file is used if every contig's header line, first and last line stand where it says; its age
    does not count. Otherwise one is made in the cache, under a name that holds the file's real path, size and time.

    Args:
        path: FASTA, plain or BGZF.
        cache: varfm's cache folder. Default: `VARFM_CACHE`, else the platform's folder for caches.

    Raises:
        InputError: If the file is missing, unreadable, no FASTA, gzipped without BGZF, malformed, or cut short.
        DiskError: If the cache cannot be written.
    """
    _check_is_fasta(path)
    suffixes = (".fai", ".gzi") if _is_bgzf(path) else (".fai",)
    beside = [Path(f"{path}{suffix}") for suffix in suffixes]
    if all(os.path.lexists(file) for file in beside):
        try:
            return _checked(path, beside)
        except StaleIndex as reason:
            _log.warning("%s does not describe %s (%s); varfm uses an index of its own.", beside[0], path.name, reason)
    folder = _cache_folder(path, cache)
    cached = [folder / f"index{suffix}" for suffix in suffixes]
    try:
        return _checked(path, cached)
    except StaleIndex:
        _build(path, cached)
    try:
        return _checked(path, cached)
    except StaleIndex as reason:
        raise _malformed(path, _explain(path) or str(reason)) from None


def _check_is_fasta(path: Path) -> None:
    try:
        if not path.is_file():
            what = "is not a regular file" if path.exists() else "does not exist"
            raise InputError(f"FASTA {path} {what}. Give the reference genome the VCF was called on with --fasta.")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise InputError(f"FASTA {path} cannot be read: {error.strerror}. Check its permissions.") from None
    if head[:2] == b"\x1f\x8b":
        _check_compression(path)
        with gzip.open(path) as unpacked:
            try:
                head = unpacked.read(_HEAD_BYTES)
            except (OSError, EOFError, zlib.error):
                raise _malformed(path, "its compressed data are damaged") from None
    if not head:
        raise InputError(f"FASTA {path} is empty. Copy or download it again.")
    if head.lstrip()[:1] != b">":
        raise InputError(
            f"{path} is not a FASTA file: it begins with {head.lstrip()[:12]!r}, not with a line '>name'. "
            "Give the reference genome as FASTA, plain or compressed with bgzip."
        )


def _is_bgzf(path: Path) -> bool:
    with path.open("rb") as file:
        return is_bgzf(file.read(_HEAD_BYTES))


def _check_compression(path: Path) -> None:
    if not _is_bgzf(path):
        raise InputError(
            f"FASTA {path} is compressed with gzip, in which contigs cannot be found. "
            f"Compress it with bgzip instead: gunzip -c {path.name} | bgzip > {path.stem}.bgz"
        )
    with path.open("rb") as file:
        file.seek(-min(len(BGZF_EOF), path.stat().st_size), os.SEEK_END)
        if file.read() != BGZF_EOF:
            raise InputError(f"FASTA {path} is cut short: the end mark of BGZF is missing. Copy or download it again.")


def _malformed(path: Path, reason: str) -> InputError:
    return InputError(f"FASTA {path} cannot be indexed: {reason}. Repair the file or download it again.")


def _checked(path: Path, files: Sequence[Path]) -> Index:
    """Hold an index against its file. Raises `StaleIndex`, or `InputError` if the file itself was cut."""
    try:
        records = _read_fai(files[0])
        with BgzfText(path, files[1]) if len(files) > 1 else PlainText(path) as text:
            _check_records(path, records, text)
    except OSError as error:
        raise StaleIndex(error.strerror or "it cannot be read") from None
    return Index(files[0], files[1] if len(files) > 1 else None, tuple(records))


def _read_fai(path: Path) -> list[Record]:
    records = []
    try:
        for line in path.read_text("utf-8").splitlines():
            name, *numbers = line.split("\t")
            records.append(Record(name, *map(int, numbers)))
    except (ValueError, TypeError):
        raise StaleIndex("it is not an index") from None
    if not records:
        raise StaleIndex("it is empty")
    for record in records:
        # As many bytes as end a line are read.
        n_end = record.line_width - record.line_bases
        if not record.name or min(record[1:]) < 0 or record.end >> 62 or not 0 <= n_end <= _MAX_GAP:
            raise StaleIndex(f"it has no meaning for {record.name!r}")
        if bool(record.length) != bool(record.line_bases):
            raise StaleIndex(f"it gives no line length for {record.name!r}")
    if len({record.name for record in records}) < len(records):
        raise StaleIndex("it names a contig twice")
    return records


def _check_records(path: Path, records: Sequence[Record], text: Text) -> None:
    size = text.size
    previous_end = 0
    for record in records:
        if previous_end and record.offset >= size:
            break
        _check_header(record, text, previous_end)
        _check_lines(record, text)
        previous_end = record.end
    last = records[-1]
    if last.end > size:
        raise InputError(
            f"FASTA {path} is cut short: its index speaks of {last.end:,} bytes of sequence, the file has {size:,}. "
            "Copy or download it again, or delete the index if the file is meant to be so."
        )
    tail = text.read(last.end, _MAX_GAP + 1)
    if len(tail) > _MAX_GAP or not all(_is_blank_or_header(line) for line in tail.split(b"\n")):
        raise StaleIndex(f"there is more in the file after {last.name!r}")


def _is_blank_or_header(line: bytes) -> bool:
    # A header without bases is no contig: samtools leaves it out of the index.
    return not line.strip() or line.startswith(b">")


def _check_header(record: Record, text: Text, previous_end: int) -> None:
    n_bytes = record.offset - previous_end
    if not 0 < n_bytes <= _MAX_GAP:
        raise StaleIndex(f"{record.name!r} does not follow the contig before it")
    gap = text.read(previous_end, n_bytes)
    lines = gap.split(b"\n")
    headers = [line for line in lines if line.startswith(b">")]
    if len(gap) < n_bytes or lines[-1] or not headers or not all(map(_is_blank_or_header, lines)):
        raise StaleIndex(f"no header line stands before {record.name!r}")
    if headers[-1][1:].split()[:1] != [record.name.encode()]:
        raise StaleIndex(f"another contig stands where {record.name!r} should be")


def _check_lines(record: Record, text: Text) -> None:
    """Check that the first and the last line of a contig end where the index says."""
    n_end = record.line_width - record.line_bases
    if record.length > record.line_bases:
        last_line = record.end - (record.length - 1) % record.line_bases - 1
        for line_end in (record.offset + record.line_bases, last_line - n_end):
            found = text.read(line_end - 1, n_end + 1)
            if len(found) == n_end + 1 and (found[:1].isspace() or found[1:].strip() or not found.endswith(b"\n")):
                raise StaleIndex(f"the lines of {record.name!r} have another length")
    last = text.read(record.end - 1, 2) if record.length else b""
    if last and (last[:1].isspace() or last[:1] == b">" or last[1:].strip()):
        raise StaleIndex(f"{record.name!r} has another length")


def _cache_folder(path: Path, cache: Path | None) -> Path:
    if cache is None:
        cache = cache_root()
    state = path.stat()
    key = f"{os.path.realpath(path)}\0{state.st_size}\0{state.st_mtime_ns}"
    return cache / "fasta" / hashlib.sha256(os.fsencode(key)).hexdigest()[:32]


def _build(path: Path, files: Sequence[Path]) -> None:
    """Index with samtools' faidx under names of our own, then rename: many processes may do this at once."""
    folder = files[0].parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix="tmp-", dir=folder))
    except OSError as error:
        raise DiskError(
            f"The index of {path.name} cannot be written to {folder}: {error.strerror}. "
            "Name a folder that can be written in VARFM_CACHE, or index the FASTA with samtools faidx."
        ) from None
    try:
        made = [scratch / file.name for file in files]
        _run_faidx(path, made)
        for source, target in reversed(list(zip(made, files, strict=True))):
            source.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run_faidx(path: Path, made: Sequence[Path]) -> None:
    options = [word for option, file in zip(("--fai-idx", "--gzi-idx"), made, strict=False) for word in (option, file)]
    verbosity = pysam.set_verbosity(0)  # htslib writes to stderr by itself; the reason is found below
    try:
        pysam.faidx(os.path.realpath(path), *map(str, options))
    except SamtoolsError:
        folder = made[0].parent.parent
        raise _malformed(path, _explain(path) or f"samtools faidx refuses it, or {folder} is full") from None
    finally:
        pysam.set_verbosity(verbosity)


def _explain(path: Path) -> str | None:
    """Find the line that makes a FASTA unfit for an index; None if there is none. Slow: reads the file line by line."""
    if not _is_bgzf(path):
        with path.open("rb") as file:
            return _first_fault(_bounded_lines(file))
    try:
        with gzip.open(path) as unpacked:  # all of it first: damaged data look like ragged lines
            while unpacked.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error):
        return "its compressed data are damaged"
    with gzip.open(path) as unpacked:
        return _first_fault(_bounded_lines(unpacked))


def _bounded_lines(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes]:
    """Give the lines; a file without line ends comes in pieces, for it may be a bomb."""
    while line := file.readline(_MAX_LINE):
        yield line


def _first_fault(lines: Iterable[bytes]) -> str | None:
    names: set[bytes] = set()
    name, widths, has_ended, has_bases = b"", (0, 0), False, False
    for number, line in enumerate(lines, 1):
        bases = len(line.rstrip())
        if line.startswith(b">"):
            name = (line[1:].split() or [b""])[0]
            fault = _name_fault(name, names)
            if fault:
                return f"line {number:,}: {fault}"
            names.add(name)
            widths, has_ended = (0, 0), False
        elif line.strip(b"\r\n") and (not bases or line.rstrip().translate(None, _GRAPHIC)):
            return f"line {number:,}: there are blanks or other bytes that are no letters"
        elif bases and (has_ended or (widths[0] and bases > widths[0])):
            return f"line {number:,}: the lines of {name.decode()!r} differ in length, or one is blank"
        elif widths[0] and line.endswith(b"\n") and len(line) - bases != widths[1] - widths[0] and bases == widths[0]:
            return f"line {number:,}: the line ends of {name.decode()!r} differ (some are of Windows)"
        else:
            widths = widths if widths[0] else (bases, len(line))
            has_bases = has_bases or bases > 0
            has_ended = bases < widths[0] or not bases
    if not has_bases:
        return "no line of bases follows a line '>name'"
    return None if widths[0] else f"it ends after the header of {name.decode()!r}; it may be cut"


def _name_fault(name: bytes, names: set[bytes]) -> str | None:
    if not name:
        return "the header has no name"
    try:
        text = name.decode()
    except UnicodeDecodeError:
        return f"the name {name!r} is not UTF-8"
    return f"the name {text!r} stands there a second time" if name in names else None
