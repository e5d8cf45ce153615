"""BCF in and out, through htslib. What it would drop or change on the way out is an error."""

from __future__ import annotations

import os
import re
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from varfm.errors import InputError
from varfm.io.atomic import AtomicFile
from varfm.io.deflate import BgzfWriter
from varfm.io.header import bytes_of, shown
from varfm.io.htslib import HtslibError, bcf_of_text, text_of_records
from varfm.io.recheck import ChunkReader
from varfm.io.same import first_difference
from varfm.io.scan import MAX_LINE_BYTES
from varfm.io.streams import ByteStream

_IDX = re.compile(rb",IDX=\d+>(\r?)$", re.MULTILINE)
_MAX_HEADER_BYTES = 256 << 20
_MAX_POSITION = 2**31 - 1
_CHUNK_BYTES = 8 << 20


def text_of_bcf(stream: ByteStream, records: range | None = None) -> Iterator[bytes]:
    """Give BCF as the text of a VCF: its own header, and the records as htslib prints them.

    Args:
        stream: Uncompressed BCF from its first byte.
        records: Numbers of the records to give, consecutive and counted from 0; None: all.

    Raises:
        InputError: If the input is cut, damaged, or htslib cannot read it.
    """
    reader = ChunkReader(iter(stream))
    try:
        start = reader.take(9)
        size = int.from_bytes(start[5:], "little")
        if size > _MAX_HEADER_BYTES:
            raise InputError(f"its header has {size:,} bytes.")
        header = reader.take(size)
    except InputError as error:
        raise InputError(f"{stream.name}: the BCF header cannot be read: {error}") from error
    text = _IDX.sub(rb">\1", header.rstrip(b"\0"))
    yield text if text.endswith(b"\n") else text + b"\n"
    chosen = range(sys.maxsize) if records is None else records
    n_before = chosen.start
    for n_records, piece in _pieces(stream.name, reader, chosen):
        try:
            yield text_of_records(start + header + piece)
        except HtslibError as error:
            where = f"{stream.name}, records {n_before + 1:,} to {n_before + n_records:,}"
            raise InputError(f"{where}: htslib cannot read this BCF: {error}. {_DAMAGED}") from error
        n_before += n_records


def _pieces(name: str, reader: ChunkReader, chosen: range) -> Iterator[tuple[int, bytes]]:
    """Give whole records, some megabytes at a time, and their number."""
    records: list[bytes] = []
    size = number = 0
    while number < chosen.stop and not reader.at_end():
        number += 1
        try:
            sizes = reader.take(8)
            n_bytes = sum(struct.unpack("<II", sizes))
            if n_bytes > MAX_LINE_BYTES:
                raise InputError(f"it claims to have {n_bytes:,} bytes.")
            if number <= chosen.start:
                reader.skip(n_bytes)
                continue
            records.append(sizes + reader.take(n_bytes))
        except InputError as error:
            raise InputError(f"{name}: BCF record {number:,} cannot be read: {error} {_DAMAGED}") from error
        size += 8 + n_bytes
        if size >= _CHUNK_BYTES:
            yield len(records), b"".join(records)
            records, size = [], 0
    if records:
        yield len(records), b"".join(records)


class BcfSink:
    """Takes the text of a VCF and stores it as BCF: htslib converts it in pieces, which stand under one header."""

    def __init__(self, target: AtomicFile, contigs: Mapping[str, int | None]) -> None:
        """Start.

        Args:
            target: What to write.
            contigs: Names and lengths for `##contig` lines that the header lacks.
        """
        self._name = target.name
        self._folder = os.path.dirname(target.temporary)
        self._contigs = contigs
        self._text_header = b""
        self._binary_header = b""
        self._pending: list[bytes] = []
        self._n_pending = 0
        self._n_records = 0
        self._declared: _Declared | None = None
        self._out = BgzfWriter(target.file)

    def write(self, data: bytes) -> None:
        """Add header or record lines.

        Raises:
            InputError: If htslib would drop or change something.
        """
        if self._declared is None:
            data = self._take_header(data)
        self._pending.append(data)
        self._n_pending += len(data)
        if self._n_pending >= _CHUNK_BYTES:
            self._store_whole_lines(b"".join(self._pending))

    def close(self) -> None:
        """Write what is left.

        Raises:
            InputError: As `write`; or if the header has no end.
        """
        rest = b"".join(self._pending)
        if self._declared is None:
            raise InputError(f"{self._name}: the header has no #CHROM line.")
        if rest:
            self._store_whole_lines(rest if rest.endswith(b"\n") else rest + b"\n")
        self._out.close()

    def abort(self) -> None:
        """Stop without writing more."""
        self._out.abort()

    def _take_header(self, data: bytes) -> bytes:
        """Keep header lines until the #CHROM line is whole, then write the header; give what follows."""
        text = self._text_header + data
        columns = text.find(b"\n#CHROM") + 1
        end = text.find(b"\n", columns) + 1 if columns or text.startswith(b"#CHROM") else 0
        if not end:
            self._text_header = text
            return b""
        self._text_header = self._completed(text[:columns], text[columns:end])
        self._binary_header = self._converted(b"")
        self._declared = _Declared(self._name, self._text_header, self._binary_header)
        self._out.write(self._binary_header)
        return text[end:]

    def _completed(self, meta: bytes, columns: bytes) -> bytes:
        if not meta.startswith(b"##fileformat="):
            meta = b"##fileformat=VCFv4.2\n" + meta
        present = _ids(meta, b"contig")
        added = [
            b"##contig=<ID=%s%s>\n" % (bytes_of(name), b"" if length is None else b",length=%d" % length)
            for name, length in self._contigs.items()
            if bytes_of(name) not in present
        ]
        return b"".join([meta, *added, columns]).replace(b"\r\n", b"\n")

    def _store_whole_lines(self, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        self._pending, self._n_pending = [data[end:]], len(data) - end
        whole = data[:end].replace(b"\r\n", b"\n")
        lines = whole.split(b"\n")[:-1]
        assert self._declared is not None
        for number, line in enumerate(lines, self._n_records + 1):
            self._declared.check(number, line)
        binary = self._converted(whole)
        if not binary.startswith(self._binary_header):
            raise InputError(f"{self._name}: htslib had to declare names that the header lacks. {_INSTEAD}")
        printed = text_of_records(binary, self._folder)
        if printed != whole:
            self._compare(lines, printed.split(b"\n")[:-1])
        self._out.write(binary[len(self._binary_header) :])
        self._n_records += len(lines)

    def _converted(self, lines: bytes) -> bytes:
        try:
            return bcf_of_text(self._text_header + lines, self._folder)
        except HtslibError as error:
            raise InputError(f"{self._name}: htslib cannot make BCF of this: {error}. {_INSTEAD}") from error

    def _compare(self, lines: Sequence[bytes], printed: Sequence[bytes]) -> None:
        for number, (line, after) in enumerate(zip_longest(lines, printed, fillvalue=b""), self._n_records + 1):
            if line != after and (difference := first_difference(line, after)) is not None:
                key, was, becomes = difference
                raise InputError(
                    f"{_where(self._name, number, line)}: in BCF {key} would change from {shown(was)} to "
                    f"{shown(becomes)}. {_INSTEAD}"
                )


class _Declared:
    """The names that a header declares, without which BCF cannot hold a record."""

    def __init__(self, name: str, text_header: bytes, binary_header: bytes) -> None:
        self._name = name
        kept = _IDX.sub(rb">\1", binary_header[9:].rstrip(b"\0"))
        self._contigs = _ids(kept, b"contig")
        self._filters = _ids(kept, b"FILTER") | {b".", b"PASS"}
        self._infos = _ids(kept, b"INFO")
        self._formats = _ids(kept, b"FORMAT")
        self._seen: set[tuple[bytes, ...]] = set()
        self._check_lines(text_header.splitlines(), set(kept.splitlines()))

    def _check_lines(self, lines: Sequence[bytes], kept: set[bytes]) -> None:
        for number, line in enumerate(lines, 1):
            if line not in kept and b"=<" not in line:
                raise InputError(f"{self._name}, header line {number}: BCF would lose {shown(line)}. {_INSTEAD}")

    def check(self, number: int, line: bytes) -> None:
        """Raise InputError if BCF cannot hold a record."""
        fields = line.split(b"\t", 9)
        contig, position, filters, info = fields[0], fields[1], fields[6], fields[7]
        keys = tuple([entry.partition(b"=")[0] for entry in info.split(b";")])
        names = (contig, filters, *fields[8:9], b"", *keys)
        if int(position) > _MAX_POSITION:
            raise InputError(f"{_where(self._name, number, line)}: POS is beyond 2^31, BCF's limit. {_INSTEAD}")
        if names in self._seen:
            return
        self._check_names(_where(self._name, number, line), fields, keys)
        if len(self._seen) < 10_000:
            self._seen.add(names)

    def _check_names(self, where: str, fields: Sequence[bytes], keys: Sequence[bytes]) -> None:
        formats = fields[8].split(b":") if len(fields) > 8 and fields[8] != b"." else []
        for kind, used, declared in (
            ("contig", [fields[0]], self._contigs),
            ("FILTER", fields[6].split(b";"), self._filters),
            ("INFO", [key for key in keys if key not in (b"", b".")], self._infos),
            ("FORMAT", formats, self._formats),
        ):
            for name in used:
                if name not in declared:
                    raise InputError(f"{where}: {kind} {shown(name)} is not declared in the header. {_INSTEAD}")


def _ids(header: bytes, key: bytes) -> set[bytes]:
    return set(re.findall(rb"^##%s=<(?:[^\n\"]*,)?ID=([^,>\r\n]+)" % key, header, re.MULTILINE))


_DAMAGED = "The file is damaged: copy or download it again."
_INSTEAD = "Write .vcf.gz, which keeps every byte."


def _where(path: str, number: int, line: bytes) -> str:
    place = b":".join(line.split(b"\t", 2)[:2]).decode("utf-8", "backslashreplace")
    return f"{path}, record {number:,} ({place})"
