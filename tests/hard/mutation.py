"""Damage to files, drawn: what broken disks, cut transfers and hostile hands do to bytes and to text."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence

MOST_BYTES = 1 << 20
"""Lines that make more together are not repeated 300 times: a file of one line would grow so with every change."""

EDGES = (b"\xff" * 8, bytes(8), b"\xff" * 7 + b"\x7f", bytes(7) + b"\x80", b"\xff" * 4, bytes(4), b"\xff\xff\xff\x7f")
NUMBERS = (
    b"0",
    b"-1",
    b"1",
    b"2147483647",
    b"2147483648",
    b"4294967296",
    b"9223372036854775807",
    b"1" * 30,
    b"1e309",
    b"100000",
    b"9999999",
    b"1.5",
)
WORDS = (
    b"\x1b]0;owned\x07", b"\x1b[31m", b"\0", b"\xff\xfe", b"\r", b"\n", b"\t", b"\r\n", b"\n\n", b" ", b"", b"=", b";",
    b",", b":", b'"', b"\\", b"%", b"%n%s", b"{}", b"../../etc/passwd", b"=cmd|' /C calc'!A0", b"<DEL>", b"*", b".",
    "\u202e".encode(), "\u2028".encode(), "é".encode(), "\U0001f600".encode(), "\u0661".encode(), b"nan", b"-inf",
    b"null", b"true", b"[]", b"A" * 5000, b"[" * 3000, b"{\"a\":" * 2000, b"\t." * 3000, b"__proto__", b"GT", b"END=9",
)  # fmt: skip


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Flip a bit, set bytes, cut, take out, put in, or write the largest and smallest of integers."""
    changed, place = bytearray(content), draw.randrange(len(content))
    kind = draw.randrange(6)
    if kind == 0:
        changed[place] ^= 1 << draw.randrange(8)
    elif kind == 1:
        for _ in range(draw.randrange(1, 9)):
            changed[draw.randrange(len(content))] = draw.randrange(256)
    elif kind == 2:
        del changed[place:]
    elif kind == 3:
        del changed[place : place + draw.randrange(1, 20)]
    elif kind == 4:
        changed[place:place] = draw.randbytes(draw.randrange(1, 20))
    else:
        edge = draw.choice(EDGES)
        changed[place : place + len(edge)] = edge
    return bytes(changed)


def mutated_text(content: bytes, draw: random.Random) -> bytes:
    """Change what a text is made of: numbers, fields, lines; or put in what no such text should hold."""
    return draw.choice(_TEXT_CHANGES)(content, draw)


def fuzzed(contents: Sequence[bytes], draw: random.Random, *, text: bool) -> bytes:
    """Give one of some files with one to four changes, or two of them joined in the middle."""
    content = draw.choice(contents)
    if draw.random() < 0.1:
        other = draw.choice(contents)
        content = content[: draw.randrange(len(content) + 1)] + other[draw.randrange(len(other) + 1) :]
    for _ in range(draw.choice((1, 1, 1, 2, 3, 4))):
        if content:
            change = mutated_text if text and draw.random() < 0.7 else mutated
            content = change(content, draw)
    return content


def _number(content: bytes, draw: random.Random) -> bytes:
    numbers = list(re.finditer(rb"\d+", content))
    return _replaced(content, draw, numbers, draw.choice(NUMBERS))


def _word(content: bytes, draw: random.Random) -> bytes:
    words = list(re.finditer(rb"[^\t\n;,=:{}\" ]+", content))
    return _replaced(content, draw, words, draw.choice(WORDS))


def _replaced(content: bytes, draw: random.Random, found: Sequence[re.Match[bytes]], new: bytes) -> bytes:
    if not found:
        return content + new
    match = draw.choice(found)
    return content[: match.start()] + new + content[match.end() :]


def _put_in(content: bytes, draw: random.Random) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.choice(WORDS) + content[place:]


def _line_twice(content: bytes, draw: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    number = draw.randrange(len(lines))
    times = draw.choice((0, 2, 2, 300))
    lines[number : number + 1] = [lines[number]] * (times if times * len(lines[number]) <= MOST_BYTES else 2)
    return b"".join(lines)


def _lines_swapped(content: bytes, draw: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    one, other = draw.randrange(len(lines)), draw.randrange(len(lines))
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def _fields_changed(content: bytes, draw: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    number = draw.randrange(len(lines))
    fields = lines[number].split(b"\t")
    place = draw.randrange(len(fields))
    fields[place : place + 1] = [fields[draw.randrange(len(fields))]] * draw.choice((0, 1, 2))
    lines[number] = b"\t".join(fields)
    return b"".join(lines)


_TEXT_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _number,
    _number,
    _word,
    _word,
    _put_in,
    _line_twice,
    _lines_swapped,
    _fields_changed,
)
