"""A terminal as output: text for eyes, in which nothing of an input can act on the terminal."""

from __future__ import annotations

import re
from typing import BinaryIO

from varfm.errors import printable

_ACTING = re.compile(r"[^\t\n\r -~]|\r(?!\n)")


class TerminalFile:
    """Takes the bytes of an output and shows them; what is not printable is escaped.

    Args:
        file: The terminal.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes | memoryview, /) -> int:
        """Show all of it; gives the number of bytes that were taken."""
        text = bytes(data).decode("utf-8", "surrogateescape")
        self._file.write(_ACTING.sub(lambda found: printable(found[0]), text).encode())
        return len(data)

    def flush(self) -> None:
        """Show what is still waiting."""
        self._file.flush()
