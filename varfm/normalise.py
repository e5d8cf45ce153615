"""Where an indel lies: trimming, left and right alignment on the reference."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from varfm.genome import encode
from varfm.variants import Variant, trim

_N = 4
_NEAR = 8  # bases of the flank compared one by one; few indels move further
_STEP = 1024  # bases compared at once beyond them


def normalise(variant: Variant, codes: NDArray[np.uint8]) -> tuple[Variant, Variant]:
    """Trim shared bases, suffix first, and give the allele at its leftmost and at its rightmost place.

    Alignment never crosses N or the end of a contig. Only pure insertions and deletions move; the result equals
    `bcftools norm -m-` up to the anchor base that a VCF must write and we do not.

    Args:
        variant: As written, upper case, REF already found equal to the reference.
        codes: The whole contig, (length,) uint8 base codes.

    Returns:
        The left-aligned and the right-aligned allele; the same one twice where both alleles have bases.
    """
    trimmed = trim(variant)
    if bool(trimmed.ref) == bool(trimmed.alt):
        return trimmed, trimmed
    bases = encode(trimmed.ref or trimmed.alt)
    n_left = _n_steps(codes[: trimmed.start][::-1], bases[::-1])
    n_right = _n_steps(codes[trimmed.end :], bases)
    return _moved(trimmed, -n_left), _moved(trimmed, n_right)


def _n_steps(flank: NDArray[np.uint8], bases: bytes) -> int:
    """Count how far the flank, read away from the allele, repeats the allele's bases cyclically."""
    period = len(bases)
    near = flank[:_NEAR].tobytes()
    for step, code in enumerate(near):
        if code != bases[step % period] or code == _N:
            return step
    done, cycle = len(near), np.frombuffer(bases, np.uint8)
    while done < len(flank):
        piece = flank[done : done + _STEP]
        wanted = cycle[(done + np.arange(len(piece))) % period]
        differs = np.flatnonzero((piece != wanted) | (piece == _N))
        if len(differs):
            return done + int(differs[0])
        done += len(piece)
    return done


def _moved(variant: Variant, n_bases: int) -> Variant:
    """Move a pure indel by `n_bases` (negative: left) along a flank that repeats it."""
    if n_bases == 0:
        return variant
    bases = variant.ref or variant.alt
    turn = n_bases % len(bases)
    turned = bases[turn:] + bases[:turn]
    ref, alt = (turned, "") if variant.ref else ("", turned)
    return Variant(variant.contig, variant.start + n_bases, ref, alt)
