"""One alternate allele, its status, and the trimming of shared bases. Knows no file and no genome."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import NamedTuple


class Status(IntEnum):
    """The word that stands in `VARFM_STATUS`, in the order in which reasons are looked for.

    The numbers are what status arrays hold (uint8). Only `PADDED` and `OK` carry scores.
    """

    NO_ALT = 0
    STAR = 1
    SYMBOLIC = 2
    BREAKEND = 3
    NON_ACGT = 4
    NO_CONTIG = 5
    OUT_OF_CONTIG = 6
    REF_MISMATCH = 7
    UNSUPPORTED_KIND = 8
    NO_GENE = 9
    TOO_LONG = 10
    N_HEAVY = 11
    NAN = 12
    PADDED = 13
    OK = 14

    @property
    def is_scored(self) -> bool:
        """True where the allele carries a score."""
        return self >= Status.PADDED


class VariantKind(StrEnum):
    """What an allele does to the sequence, after shared bases are trimmed."""

    SNV = "SNV"
    MNV = "MNV"
    INSERTION = "INSERTION"
    DELETION = "DELETION"
    DELINS = "DELINS"
    NONE = "NONE"


class Variant(NamedTuple):
    """One alternate allele on the forward strand: `ref` at `start` is replaced by `alt`.

    A tuple and not a dataclass, because tens of millions are made in one run.

    Attributes:
        contig: Name in the FASTA, not in the VCF.
        start: 0-based position of the first base of `ref`; for an empty `ref`, the insertion point before that base.
        ref: Upper-case A, C, G, T; empty for an insertion once trimmed.
        alt: Upper-case A, C, G, T; empty for a deletion once trimmed.
    """

    contig: str
    start: int
    ref: str
    alt: str

    @property
    def end(self) -> int:
        """0-based position after the last base of `ref`."""
        return self.start + len(self.ref)

    @property
    def kind(self) -> VariantKind:
        """What the allele does; meaningful for trimmed alleles only."""
        if len(self.ref) == len(self.alt):
            return (VariantKind.NONE, VariantKind.SNV)[len(self.ref)] if len(self.ref) < 2 else VariantKind.MNV
        if not self.ref:
            return VariantKind.INSERTION
        return VariantKind.DELINS if self.alt else VariantKind.DELETION

    def __str__(self) -> str:
        """Give `contig:position REF>ALT`, 1-based, with `-` for no bases."""
        return f"{self.contig}:{self.start + 1:,} {self.ref or '-'}>{self.alt or '-'}"


def trim(variant: Variant) -> Variant:
    """Drop the bases that both alleles share: the suffix first, then the prefix.

    Args:
        variant: Any alleles, upper case.

    Returns:
        The allele without shared bases at its ends; `ref` or `alt` is empty for a pure indel. Equal alleles become two
        empty ones at the written start.
    """
    contig, start, ref, alt = variant
    if ref == alt:
        return Variant(contig, start, "", "")
    if len(ref) == 1 == len(alt):
        return variant
    n_suffix = _n_shared(ref[::-1], alt[::-1])
    ref, alt = ref[: len(ref) - n_suffix], alt[: len(alt) - n_suffix]
    n_prefix = _n_shared(ref, alt)
    return Variant(contig, start + n_prefix, ref[n_prefix:], alt[n_prefix:])


def _n_shared(left: str, right: str) -> int:
    if left[:1] != right[:1]:  # nearly always so on one side, and quickly found
        return 0
    for index, (a, b) in enumerate(zip(left, right, strict=False)):
        if a != b:
            return index
    return min(len(left), len(right))
