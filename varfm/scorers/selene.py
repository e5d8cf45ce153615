"""The windows of Selene, for comparisons with scores that were made with it (`--compat selene`).

Code: github.com/FunctionLab/selene, selene_sdk/predict/_variant_effect_prediction.py and model_predict.py, commit
9f8c441. Selene takes records as they are written. An allele is given to its rules as a normalised record would write
it: pure indels left-aligned with the base before them, others without shared bases.
"""

from __future__ import annotations

from dataclasses import dataclass

from varfm.scorers.placement import Centred
from varfm.variants import Variant
from varfm.windows import Haplotype, Pair, Site, Window

_COPIED = "N"
_STEPS_TO_COPY = 2


@dataclass(frozen=True, slots=True)
class SeleneWindows(Centred):
    """Windows centred in units of REF's length, insertions trimmed on both sides, and the wrong bases deleted.

    The bases that Selene takes away for a deletion lie two to the right of the deleted ones.
    """

    def pairs(self, site: Site, shift: int) -> list[Pair]:
        """Give the one comparison; both haplotypes have `length` bases."""
        return [selene_pair(site.left, self.length)]


def selene_pair(variant: Variant, length: int) -> Pair:
    """Place both haplotypes as Selene does.

    Args:
        variant: Trimmed, left-aligned, at most half as long as the window.
        length: Bases that the model reads, even.

    Returns:
        Two haplotypes of `length` bases. The alternate one of a deletion carries what Selene puts there, not the
        allele; where that is the base before the deletion, which the allele does not tell, it holds an N: see `copied`.
    """
    contig = variant.contig
    anchor = 0 if variant.ref and variant.alt else 1
    n_ref, n_alt = len(variant.ref) + anchor, len(variant.alt) + anchor
    pos = variant.start - anchor + 1  # POS of the record, which Selene takes for a 0-based place
    start = pos + n_ref // 2 - length // 2
    ref = Haplotype(Window(contig, start, start + length), None)
    if n_alt >= n_ref:
        n_left = (n_alt - n_ref) // 2
        window = Window(contig, start + n_left, start + length - (n_alt - n_ref - n_left))
        return Pair(ref, Haplotype(window, variant))
    window = Window(contig, start - n_ref // 2 + n_alt // 2, start + length + (n_ref + 1) // 2 - (n_alt + 1) // 2)
    wrong = Variant(contig, pos + 1, _COPIED * n_ref, variant.alt or _COPIED)
    return Pair(ref, Haplotype(window, wrong))


def copied(sequence: bytes, haplotype: Haplotype) -> bytes:
    """Fill in the base that Selene writes again behind a deletion; other sequences are given back as they are.

    Args:
        sequence: Base codes of the haplotype, on its strand.
        haplotype: As `selene_pair` made it, or any other.
    """
    if haplotype.variant is None or haplotype.variant.alt != _COPIED:
        return sequence
    place, step = haplotype.variant.start - haplotype.window.start, -_STEPS_TO_COPY
    if haplotype.strand == "-":
        place, step = len(sequence) - 1 - place, _STEPS_TO_COPY
    base = sequence[place + step : place + step + 1]
    return sequence[:place] + base + sequence[place + 1 :]
