"""The lines of a text file of any compression, for the small formats: BED, annotation, contig names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from varfm.io.streams import open_stream


def read_lines(path: str | Path) -> Iterator[bytes]:
    """Give the lines of a plain, gzipped or BGZF file, without their ends; ends of Windows count as line ends.

    Raises:
        InputError: If the file is missing, unreadable, cut or damaged.
    """
    rest = b""
    with open_stream(str(path)) as stream:
        for chunk in stream:
            text = rest + chunk
            if b"\r" in text:
                text = text.replace(b"\r\n", b"\n")
            *lines, rest = text.split(b"\n")
            yield from lines
    if rest:
        yield rest.removesuffix(b"\r")
