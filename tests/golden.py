"""Compare an annotated VCF with the expected one: scores within a tolerance, everything else as text.

    python tests/golden.py EXPECTED FOUND

Another processor rounds otherwise, so scores may differ by 1e-5 of the largest score under the same key.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

TOLERANCE = 1e-5
_SCORE = re.compile(r"##INFO=<ID=(VARFM_\w+),Number=A,Type=Float,")


def differences(expected: str, found: str) -> Iterator[str]:
    """Say where `found` differs from `expected`, both whole VCF texts, one sentence per place."""
    keys = set(_SCORE.findall(expected))
    scales = _scales(expected, keys)
    for number, (left, right) in enumerate(zip_longest(expected.splitlines(), found.splitlines()), 1):
        if left != right:
            yield from (f"line {number}: {text}" for text in _line_differences(left, right, scales))


def _scales(text: str, keys: set[str]) -> dict[str, float]:
    # The largest size of any score under each key.
    scales = dict.fromkeys(keys, 0.0)
    for line in text.splitlines():
        if not line.startswith("#"):
            for key, value in _entries(line.split("\t")[7]):
                if key in keys:
                    scales[key] = max([scales[key], *(abs(float(item)) for item in value.split(",") if item != ".")])
    return scales


def _entries(info: str) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (entry.partition("=") for entry in info.split(";"))]


def _line_differences(expected: str | None, found: str | None, scales: dict[str, float]) -> Iterator[str]:
    if expected is None or found is None or expected.startswith("#") or found.startswith("#"):
        yield f"expected {expected!r}, found {found!r}"
        return
    left, right = expected.split("\t"), found.split("\t")
    if left[:7] + left[8:] != right[:7] + right[8:]:
        yield f"expected {left[:7] + left[8:]}, found {right[:7] + right[8:]}"
        return
    yield from _info_differences(_entries(left[7]), _entries(right[7]), scales)


def _info_differences(
    expected: Sequence[tuple[str, str]], found: Sequence[tuple[str, str]], scales: dict[str, float]
) -> Iterator[str]:
    if [key for key, _ in expected] != [key for key, _ in found]:
        yield f"expected the keys {[key for key, _ in expected]}, found {[key for key, _ in found]}"
        return
    for (key, left), (_, right) in zip(expected, found, strict=True):
        if left != right and not (key in scales and _is_close(left.split(","), right.split(","), scales[key])):
            yield f"expected {key}={left}, found {right}"


def _is_close(expected: Sequence[str], found: Sequence[str], scale: float) -> bool:
    if len(expected) != len(found):
        return False
    for left, right in zip(expected, found, strict=True):
        if left == right:
            continue
        if "." in (left, right):
            return False
        # Both were rounded to 6 digits, each by up to 5e-6 of itself.
        rounding = 5e-6 * (abs(float(left)) + abs(float(right)))
        if abs(float(left) - float(right)) > TOLERANCE * scale + rounding:
            return False
    return True


def main(expected: Path, found: Path) -> int:
    """Print the differences; 0 if there are none."""
    lines = list(differences(expected.read_text(), found.read_text()))
    print("\n".join(lines) or f"{found.name}: {len(expected.read_text().splitlines())} lines as expected")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
