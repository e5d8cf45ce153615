"""BCF in and out, through htslib. What it would drop or change on the way out is an error."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from varfm.errors import InputError
from varfm.io.atomic import AtomicFile
from varfm.io.header import bytes_of, shown
from varfm.io.htslib import quiet_htslib, text_of_record
from varfm.io.recheck import ChunkReader
from varfm.io.same import first_difference
from varfm.io.streams import ByteStream

_IDX = re.compile(rb",IDX=\d+>(\r?)$", re.MULTILINE)
_MAX_HEADER_BYTES = 256 << 20
_MAX_POSITION = 2**31 - 1
_TEXT_BYTES = 1 << 20
_CHUNK_BYTES = 8 << 20


def text_of_bcf(stream: ByteStream) -> Iterator[bytes]:
    """Give BCF as the text of a VCF: its own header, and the records as htslib prints them.

    Args:
        stream: Uncompressed BCF from its first byte.

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
    feeder = _Feeder(start + header, reader)
    try:
        yield from _record_texts(stream.name, feeder)
    finally:
        feeder.close()


class _Feeder:
    """Brings bytes into a pipe, from which htslib reads them: it takes nothing but files."""

    def __init__(self, start: bytes, reader: ChunkReader) -> None:
        self.error: BaseException | None = None
        read_end, write_end = os.pipe()
        self.file: BinaryIO = os.fdopen(read_end, "rb", buffering=0)
        self._thread = threading.Thread(target=self._feed, args=(write_end, start, reader), daemon=True)
        self._thread.start()

    def _feed(self, write_end: int, start: bytes, reader: ChunkReader) -> None:
        try:
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(start)
                while not reader.at_end():
                    pipe.write(reader.rest())
        except BrokenPipeError:
            pass
        except BaseException as error:  # raised again by the reading side
            self.error = error

    def join(self) -> None:
        """Wait for the end of the data, and raise what went wrong with them."""
        self._thread.join()
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Let go of the pipe, which ends the thread."""
        self.file.close()
        self._thread.join()


def _record_texts(name: str, feeder: _Feeder) -> Iterator[bytes]:
    import pysam

    count = size = 0
    lines: list[bytes] = []
    with quiet_htslib():
        try:
            with pysam.VariantFile(feeder.file, "r") as records:
                for record in records:
                    lines.append(text_of_record(record))
                    count += 1
                    size += len(lines[-1])
                    if size >= _TEXT_BYTES:
                        yield b"".join(lines)
                        lines, size = [], 0
        except (OSError, ValueError) as error:
            feeder.file.close()
            feeder.join()
            raise InputError(f"{name}: htslib cannot read BCF record {count + 1:,}: {error}.") from error
    feeder.join()
    yield b"".join(lines)


class BcfSink:
    """Takes the text of a VCF and stores it as BCF."""

    def __init__(self, target: AtomicFile, contigs: Mapping[str, int | None]) -> None:
        """Start.

        Args:
            target: What to write.
            contigs: Names and lengths for `##contig` lines that the header lacks.
        """
        self._target = target
        self._contigs = contigs
        self._header = b""
        self._pending: list[bytes] = []
        self._n_pending = 0
        self._n_records = 0
        self._out: Any = None
        self._declared: _Declared | None = None

    def write(self, data: bytes) -> None:
        """Add header or record lines.

        Raises:
            InputError: If htslib would drop or change something.
        """
        if self._out is None:
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
        if self._out is None:
            raise InputError("the header has no #CHROM line.")
        if rest:
            self._store_whole_lines(rest if rest.endswith(b"\n") else rest + b"\n")
        with quiet_htslib():
            self._out.close()

    def abort(self) -> None:
        """Let go of the file."""
        if self._out is not None:
            with contextlib.suppress(OSError, ValueError):
                self._out.close()

    def _take_header(self, data: bytes) -> bytes:
        """Keep header lines until the #CHROM line is whole, then open the output; give what follows."""
        text = self._header + data
        columns = 0 if text.startswith(b"#CHROM") else text.find(b"\n#CHROM") + 1
        end = text.find(b"\n", columns) + 1 if columns or text.startswith(b"#CHROM") else 0
        if not end:
            self._header = text
            return b""
        self._header = self._completed(text[:columns], text[columns:end])
        self._open()
        return text[end:]

    def _completed(self, meta: bytes, columns: bytes) -> bytes:
        if not meta.startswith(b"##fileformat="):
            meta = b"##fileformat=VCFv4.2\n" + meta
        present = set(re.findall(rb"^##contig=<(?:[^\n]*,)?ID=([^,>\r\n]+)", meta, re.MULTILINE))
        added = [
            b"##contig=<ID=%s%s>\n" % (bytes_of(name), b"" if length is None else b",length=%d" % length)
            for name, length in self._contigs.items()
            if bytes_of(name) not in present
        ]
        return b"".join([meta, *added, columns]).replace(b"\r\n", b"\n")

    def _open(self) -> None:
        import pysam

        with quiet_htslib(), self._parsed(b"") as empty:
            self._out = pysam.VariantFile(self._target.temporary, "wb", header=empty.header)
            self._declared = _Declared(self._target.name, empty.header)
        self._declared.check_header(self._header)

    @contextlib.contextmanager
    def _parsed(self, lines: bytes) -> Iterator[Any]:
        """Let htslib read the header and these lines, from a file since it takes nothing else."""
        import pysam

        with tempfile.TemporaryFile(dir=os.path.dirname(self._target.temporary)) as file:
            file.write(self._header + lines)
            file.seek(0)
            try:
                records = pysam.VariantFile(file, "r")
            except (OSError, ValueError) as error:
                raise InputError(f"{self._target.name}: htslib cannot read the header: {error}. {_INSTEAD}") from error
            with records:
                yield records

    def _store_whole_lines(self, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        self._pending, self._n_pending = [data[end:]], len(data) - end
        whole = data[:end].replace(b"\r\n", b"\n")
        self._store(whole, whole.split(b"\n")[:-1])

    def _store(self, data: bytes, lines: Sequence[bytes]) -> None:
        assert self._declared is not None
        for number, line in enumerate(lines, self._n_records + 1):
            self._declared.check(number, line)
        n_stored = 0
        with quiet_htslib(), self._parsed(data) as records:
            iterator = iter(records)
            for line in lines:
                n_stored += 1
                self._store_one(self._n_records + n_stored, line, iterator)
        self._n_records += n_stored

    def _store_one(self, number: int, line: bytes, records: Iterator[Any]) -> None:
        where = _where(self._target.name, number, line)
        try:
            record = next(records)
        except (StopIteration, OSError, ValueError) as error:
            raise InputError(f"{where}: htslib cannot read {shown(line)}. {_INSTEAD}") from error
        printed = text_of_record(record)[:-1]
        if printed != line and (difference := first_difference(line, printed)) is not None:
            key, was, becomes = difference
            raise InputError(f"{where}: in BCF {key} would change from {shown(was)} to {shown(becomes)}. {_INSTEAD}")
        record.translate(self._out.header)
        self._out.write(record)


class _Declared:
    """The names that a header declares, without which BCF cannot hold a record."""

    def __init__(self, shown_path: str, header: Any) -> None:
        self._path = shown_path
        self._text = set(str(header).encode("utf-8", "surrogateescape").splitlines())
        self._contigs = {bytes_of(name) for name in header.contigs}
        self._filters = {bytes_of(name) for name in header.filters} | {b".", b"PASS"}
        self._infos = {bytes_of(name) for name in header.info}
        self._formats = {bytes_of(name) for name in header.formats}
        self._seen: set[tuple[bytes, ...]] = set()

    def check_header(self, header: bytes) -> None:
        """Raise InputError if htslib dropped a line of the header."""
        for line in header.splitlines():
            if b"=<" not in line and line.startswith(b"##") and line not in self._text:
                raise InputError(f"{self._path}: BCF cannot hold the header line {shown(line)}. {_INSTEAD}")

    def check(self, number: int, line: bytes) -> None:
        """Raise InputError if BCF cannot hold a record."""
        fields = line.split(b"\t", 9)
        contig, position, filters, info = fields[0], fields[1], fields[6], fields[7]
        keys = tuple([entry.partition(b"=")[0] for entry in info.split(b";")])
        names = (contig, filters, *fields[8:9], b"", *keys)
        if int(position) > _MAX_POSITION:
            raise InputError(f"{_where(self._path, number, line)}: POS is beyond 2^31, BCF's limit. {_INSTEAD}")
        if names in self._seen:
            return
        self._check_names(_where(self._path, number, line), fields, keys)
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


_INSTEAD = "Write .vcf.gz, which keeps every byte."


def _where(path: str, number: int, line: bytes) -> str:
    place = b":".join(line.split(b"\t", 2)[:2]).decode("utf-8", "backslashreplace")
    return f"{path}, record {number:,} ({place})"
