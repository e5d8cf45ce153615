"""Whole numbers in text that others wrote."""

from __future__ import annotations

_MOST = 18


def is_whole(text: str) -> bool:
    """Say whether a text is a whole number from 0 on of at most 18 digits.

    `int` alone would also take blanks, signs, underscores and digits of other scripts, and refuses some thousand digits
    with a ValueError; 64 bits hold all that passes here.
    """
    return text.isascii() and text.isdecimal() and len(text) <= _MOST
