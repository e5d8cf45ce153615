"""Whether a record says the same after htslib printed it: numbers may be spelled otherwise, nothing may be lost."""

from __future__ import annotations

import math
from itertools import zip_longest

_COLUMNS = ("CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO", "FORMAT")
_TOLERANCE = 1e-5  # htslib stores float32 and prints six digits

Difference = tuple[str, bytes, bytes]
"""Name of the column or key, what it was, what it becomes."""


def first_difference(before: bytes, after: bytes) -> Difference | None:
    """Compare two spellings of a record.

    Args:
        before: A line of VCF without its terminator.
        after: The same record as htslib prints it.

    Returns:
        The first column, INFO key or FORMAT key that lost or changed something; None if there is none.
    """
    old, new = before.split(b"\t"), after.split(b"\t")
    if len(old) != len(new):
        return "the number of columns", b"%d" % len(old), b"%d" % len(new)
    for name, was, becomes in zip(_COLUMNS, old, new, strict=False):
        if name == "INFO":
            if (difference := _info_difference(was, becomes)) is not None:
                return difference
        elif was != becomes and not (name == "QUAL" and _same_value(was, becomes)):
            return name, was, becomes
    return _samples_difference(old[8:], new[8:])


def _info_difference(before: bytes, after: bytes) -> Difference | None:
    if before == after:
        return None
    old = [entry for entry in before.split(b";") if entry not in (b"", b".")]
    new = [entry for entry in after.split(b";") if entry not in (b"", b".")]
    for was, becomes in zip_longest(old, new, fillvalue=b""):
        key, equals, value = was.partition(b"=")
        new_key, new_equals, new_value = becomes.partition(b"=")
        if (key, equals) != (new_key, new_equals) or not _same_values(value, new_value):
            return f"INFO {(key or new_key).decode('utf-8', 'backslashreplace')}", was, becomes
    return None


def _samples_difference(old: list[bytes], new: list[bytes]) -> Difference | None:
    if old == new:
        return None
    keys = old[0].split(b":")
    for was, becomes in zip(old[1:], new[1:], strict=True):
        if was == becomes:
            continue
        # Fields left out at the end of a sample come back as `.`.
        for key, a, b in zip_longest(keys, was.split(b":"), becomes.split(b":"), fillvalue=b"."):
            if not _same_values(a, b):
                return f"FORMAT {key.decode('utf-8', 'backslashreplace')}", a, b
    return None


def _same_values(before: bytes, after: bytes) -> bool:
    if before == after:
        return True
    old, new = before.split(b","), after.split(b",")
    if all(value == b"." for value in old + new):
        return True
    return len(old) == len(new) and all(map(_same_value, old, new))


def _same_value(before: bytes, after: bytes) -> bool:
    if before == after:
        return True
    try:
        old, new = float(before), float(after)
    except ValueError:
        return False
    if math.isnan(old):
        return math.isnan(new)
    return math.isclose(old, new, rel_tol=_TOLERANCE)
