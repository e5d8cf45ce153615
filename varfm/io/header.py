"""The header of a VCF, kept as bytes: what varfm reads of it, and its own lines put in or taken out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from varfm.errors import InputError

FIXED_COLUMNS = (b"#CHROM", b"POS", b"ID", b"REF", b"ALT", b"QUAL", b"FILTER", b"INFO")
OWN_META = b"##varfm_"
OWN_INFO = b"##INFO=<ID=VARFM_"

_PAIR = re.compile(r'([^=,<>\s"]+)=("(?:[^"\\]|\\.)*"|[^,>]*)')
_MARKUP = (b"<!doctype", b"<html", b"<?xml", b"<head")


@dataclass(frozen=True, slots=True)
class VcfHeader:
    """What stands before the records.

    Attributes:
        lines: Whole lines with their terminators; the last one begins with `#CHROM`.
        contigs: Name to length in bases (None where not stated) of the `##contig` lines, in order.
        reference: Text after `##reference=`.
        samples: Number of sample columns.
        n_columns: Number of columns of every record.
        newline: What ends a line: LF, or CR and LF.
        info_keys: Names that `##INFO` lines declare.
        assembly: What `##contig` lines state as their assembly; None unless all that do agree.
    """

    lines: tuple[bytes, ...]
    contigs: Mapping[str, int | None]
    reference: str | None
    samples: int
    n_columns: int
    newline: bytes
    info_keys: frozenset[str]
    assembly: str | None = None


def text_of(value: bytes) -> str:
    """Decode a field so that `bytes_of` gives the same bytes back, whatever they are."""
    return value.decode("utf-8", "surrogateescape")


def bytes_of(value: str) -> bytes:
    """Undo `text_of`."""
    return value.encode("utf-8", "surrogateescape")


def shown(value: bytes) -> str:
    """Quote a value for a message: printable, at most 60 bytes of it."""
    cut = value[:60].decode("utf-8", "backslashreplace")
    return repr(cut) + (f"... ({len(value):,} bytes)" if len(value) > 60 else "")


def parse_header(name: str, lines: Sequence[bytes]) -> VcfHeader:
    """Read a header; lines that make no sense are kept and ignored.

    Args:
        name: As errors call the file.
        lines: Whole lines with their terminators, the last one begins with `#CHROM`.

    Raises:
        InputError: If the columns of the last line are not those of a VCF.
    """
    newline = b"\r\n" if lines[-1].endswith(b"\r\n") else b"\n"
    columns = lines[-1].rstrip(b"\r\n").split(b"\t")
    _check_columns(name, len(lines), columns)
    contigs: dict[str, int | None] = {}
    info_keys: set[str] = set()
    assemblies: set[str] = set()
    reference = None
    for line in lines[:-1]:
        if line.startswith(b"##contig="):
            fields = _structured(line)
            assemblies.add(fields.get("assembly", "").strip('"'))
            if "ID" in fields:
                contigs.setdefault(fields["ID"], _length(fields.get("length", "")))
        elif line.startswith(b"##INFO="):
            info_keys.add(_structured(line).get("ID", ""))
        elif line.startswith(b"##reference=") and reference is None:
            reference = text_of(line.partition(b"=")[2].rstrip(b"\r\n"))
    return VcfHeader(
        lines=tuple(lines),
        contigs=MappingProxyType(contigs),
        reference=reference,
        samples=max(0, len(columns) - 9),
        n_columns=len(columns),
        newline=newline,
        info_keys=frozenset(info_keys - {""}),
        assembly=stated.pop() if len(stated := assemblies - {""}) == 1 else None,
    )


def _check_columns(name: str, line_number: int, columns: Sequence[bytes]) -> None:
    where = f"{name}, line {line_number:,}"
    if tuple(columns[:8]) != FIXED_COLUMNS:
        if tuple(b"\t".join(columns).split()[:8]) == FIXED_COLUMNS:
            raise InputError(f"{where}: the #CHROM line has spaces where tabs belong. Separate columns by single tabs.")
        raise InputError(
            f"{where}: the columns are {shown(b' '.join(columns[:8]))}, "
            "expected '#CHROM POS ID REF ALT QUAL FILTER INFO', separated by tabs."
        )
    if len(columns) > 8 and columns[8] != b"FORMAT":
        raise InputError(f"{where}: column 9 is {shown(columns[8])}, expected 'FORMAT' before the samples.")


def _structured(line: bytes) -> dict[str, str]:
    """Read `##KEY=<name=value,...>`; the first of equal names wins, quotes may hold commas."""
    text = text_of(line.partition(b"=<")[2])
    fields: dict[str, str] = {}
    for name, value in _PAIR.findall(text):
        fields.setdefault(name, value.strip('"').strip())
    return {name: value for name, value in fields.items() if value}


def _length(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def check_start(name: str, start: bytes) -> None:
    """Refuse what is plainly no VCF, in words that say what it is.

    Args:
        name: As errors call the file.
        start: The first bytes of the text, some hundred.

    Raises:
        InputError: If the file is empty, HTML, FASTA, UTF-16, or begins without a header.
    """
    line = start.partition(b"\n")[0]
    if not start:
        raise InputError(f"{name} is empty. A VCF begins with '##fileformat=VCF'.")
    if b"\0" in line:
        raise InputError(f"{name}, line 1: NUL bytes, so no text in UTF-8. Convert UTF-16 with iconv.")
    if start.lstrip().lower().startswith(_MARKUP):
        raise InputError(f"{name} is a web page (HTML or XML), not a VCF. Download the file itself.")
    if line.startswith(b">"):
        raise InputError(f"{name} is a FASTA file, not a VCF. Give the reference with -f, and a VCF here.")
    if not line.startswith(b"#"):
        raise InputError(
            f"{name}, line 1: {shown(line.rstrip())} where a header should begin. A VCF begins with '##fileformat=VCF'."
        )


def missing_columns_line(name: str, line_number: int, line: bytes) -> InputError:
    """Give the error for a header that ends, at `line`, without a #CHROM line."""
    if b"\r" in line.rstrip(b"\r\n"):
        return InputError(f"{name}: lines end with CR alone. Convert it: tr '\\r' '\\n'.")
    seen = shown(line.rstrip(b"\r\n")) if line else "the end of the file"
    return InputError(
        f"{name}, line {line_number:,}: {seen} where the #CHROM line is missing. The header must end with a line that "
        "begins '#CHROM', tab, 'POS'."
    )


def without_varfm(header: VcfHeader) -> VcfHeader:
    """Leave out the header lines that varfm wrote."""
    lines = tuple(line for line in header.lines if not line.startswith((OWN_META, OWN_INFO)))
    return replace(header, lines=lines, info_keys=frozenset(k for k in header.info_keys if not k.startswith("VARFM_")))


def with_lines(header: VcfHeader, added: Iterable[bytes]) -> bytes:
    """Give the whole header with lines put in just before the #CHROM line.

    Args:
        header: As read.
        added: Lines without terminators; the header's own newline is used.
    """
    *before, columns = header.lines
    return b"".join([*before, *(line + header.newline for line in added), columns])
