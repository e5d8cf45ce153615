"""Trimming, kinds and status words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varfm.variants import Status, Variant, VariantKind, trim

BASES = st.text("ACGT", max_size=6)

WORDS = [
    "NO_ALT", "STAR", "SYMBOLIC", "BREAKEND", "NON_ACGT", "NO_CONTIG", "OUT_OF_CONTIG", "REF_MISMATCH",
    "UNSUPPORTED_KIND", "NO_GENE", "TOO_LONG", "N_HEAVY", "NAN", "PADDED", "OK",
]  # fmt: skip


def test_the_fifteen_status_words_stand_in_the_order_of_the_contract() -> None:
    assert [status.name for status in sorted(Status)] == WORDS


def test_only_padded_and_ok_carry_scores() -> None:
    assert {status.name for status in Status if status.is_scored} == {"PADDED", "OK"}


@pytest.mark.parametrize(
    ("written", "trimmed"),
    [
        (("c", 4, "A", "G"), ("c", 4, "A", "G")),
        (("c", 4, "CAT", "CGT"), ("c", 5, "A", "G")),
        (("c", 4, "CA", "C"), ("c", 5, "A", "")),
        (("c", 4, "C", "CA"), ("c", 5, "", "A")),
        (("c", 4, "AAA", "A"), ("c", 4, "AA", "")),
        (("c", 4, "AA", "AAAA"), ("c", 4, "", "AA")),
        (("c", 4, "GCACT", "GCT"), ("c", 5, "CA", "")),
        (("c", 4, "GAT", "GCCT"), ("c", 5, "A", "CC")),
        (("c", 4, "TACGA", "TGCAA"), ("c", 5, "ACG", "GCA")),
        (("c", 4, "ACGT", "ACGT"), ("c", 4, "", "")),
    ],
)
def test_shared_bases_go_suffix_first(written: tuple[str, int, str, str], trimmed: tuple[str, int, str, str]) -> None:
    assert trim(Variant(*written)) == trimmed


@pytest.mark.parametrize(
    ("ref", "alt", "kind"),
    [
        ("A", "C", "SNV"),
        ("AG", "CT", "MNV"),
        ("", "C", "INSERTION"),
        ("AG", "", "DELETION"),
        ("A", "CC", "DELINS"),
        ("AGT", "CC", "DELINS"),
        ("", "", "NONE"),
    ],
)
def test_kind_says_what_a_trimmed_allele_does(ref: str, alt: str, kind: str) -> None:
    assert Variant("c", 0, ref, alt).kind is VariantKind(kind)


def test_an_allele_is_printed_with_its_one_based_place() -> None:
    assert str(Variant("chr1", 1_000_000, "A", "")) == "chr1:1,000,001 A>-"


@given(left=BASES, right=BASES, ref=BASES, alt=BASES)
def test_trimming_keeps_the_haplotype_and_leaves_nothing_shared(left: str, right: str, ref: str, alt: str) -> None:
    written = Variant("c", 7, left + ref + right, left + alt + right)
    contig, start, short_ref, short_alt = trim(written)
    before = written.ref[: start - 7]
    after = written.ref[start - 7 + len(short_ref) :]
    assert contig == "c"
    assert before + short_ref + after == written.ref
    assert before + short_alt + after == written.alt
    if short_ref and short_alt:
        assert short_ref[0] != short_alt[0]
        assert short_ref[-1] != short_alt[-1]


@given(pad=BASES, ref=BASES, alt=BASES)
def test_padding_of_a_delins_does_not_move_it(pad: str, ref: str, alt: str) -> None:
    bare = trim(Variant("c", 20, ref, alt))
    if bare.ref and bare.alt:
        assert trim(Variant("c", 20 - len(pad), pad + ref + pad, pad + alt + pad)) == bare
