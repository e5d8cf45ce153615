"""Just enough of the protocol-buffer wire format to read the index of a TensorFlow checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class Damaged(Exception):
    """Bytes that are not what their format says; the reader of the file turns it into an error for users."""


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one message: number and value, in the order of the message."""

    values: tuple[tuple[int, int | bytes], ...]

    def number(self, field: int) -> int:
        """Give the last integer of that field; 0, the default of the format, where there is none."""
        found = self.fixed(field)
        return 0 if found is None else found

    def fixed(self, field: int) -> int | None:
        """Give the last integer of that field; None where there is none."""
        found = [value for number, value in self.values if number == field and isinstance(value, int)]
        return found[-1] if found else None

    def parts(self, field: int) -> list[bytes]:
        """Give every message or text of that field."""
        return [value for number, value in self.values if number == field and isinstance(value, bytes)]


def varint(content: bytes, at: int) -> tuple[int, int]:
    """Give the integer of variable length at a place, and the place after it.

    Raises:
        Damaged: If it has no end.
    """
    value = 0
    for place, byte in enumerate(content[at : at + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value, at + place + 1
    raise Damaged("an integer has no end")


def fields(message: bytes) -> Fields:
    """Take a message apart.

    Raises:
        Damaged: If it is no message.
    """
    found: list[tuple[int, int | bytes]] = []
    at = 0
    while at < len(message):
        tag, at = varint(message, at)
        value: int | bytes
        if tag & 7 == _VARINT:
            value, at = varint(message, at)
        elif tag & 7 == _BYTES:
            length, at = varint(message, at)
            value, at = message[at : at + length], at + length
        elif tag & 7 in (_FIXED32, _FIXED64):
            length = 4 if tag & 7 == _FIXED32 else 8
            value, at = int.from_bytes(message[at : at + length], "little"), at + length
        else:
            raise Damaged(f"a field has the unknown type {tag & 7}")
        if at > len(message):
            raise Damaged("a field is longer than its message")
        found.append((tag >> 3, value))
    return Fields(tuple(found))
