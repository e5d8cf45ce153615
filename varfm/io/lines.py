"""The lines of a text file of any compression, for the small formats: BED, annotation, contig names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from varfm.errors import InputError
from varfm.io.streams import open_stream

MAX_LINE_BYTES = 16 << 20


def read_lines(path: str | Path) -> Iterator[bytes]:
    """Give the lines of a plain, gzipped or BGZF file, without their ends; ends of Windows count as line ends.

    Raises:
        InputError: If the file is missing, unreadable, cut or damaged, or has a line of more than 16 MiB.
    """
    rest = b""
    with open_stream(str(path)) as stream:
        for chunk in stream:
            if len(rest) > MAX_LINE_BYTES:
                raise InputError(f"{path}: a line is longer than {MAX_LINE_BYTES >> 20} MiB. Give a file of lines.")
            text = rest + chunk
            if b"\r" in text:
                text = text.replace(b"\r\n", b"\n")
            *lines, rest = text.split(b"\n")
            yield from lines
    if rest:
        yield rest.removesuffix(b"\r")
