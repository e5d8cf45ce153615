"""Whole numbers in text: those that others wrote, and those that people read."""

from __future__ import annotations

_MOST = 18


def is_whole(text: str) -> bool:
    """Say whether a text is a whole number from 0 on of at most 18 digits.

    `int` alone would also take blanks, signs, underscores and digits of other scripts, and refuses some thousand digits
    with a ValueError; 64 bits hold all that passes here.
    """
    return text.isascii() and text.isdecimal() and len(text) <= _MOST


def counted(n: int, noun: str) -> str:
    """Give `1 allele` or `1,204 alleles`.

    Args:
        n: How many.
        noun: What, in the singular; its plural ends with s.
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
