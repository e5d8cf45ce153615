"""Windows and haplotypes, against plain string surgery on the whole contig."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys import flipped, gene, write_fasta

from varfm.genome import Genome, decode, encode
from varfm.normalise import normalise
from varfm.variants import Variant
from varfm.windows import Haplotype, Pair, Site, Window, left_fixed, reversed_strand, right_fixed, touches, tss_fixed
from varfm.windows import tss_window as window_of

PAD = 60
UNITS = st.lists(st.sampled_from(["A", "C", "AC", "ACA", "GT", "GTT", "T", "CG"]), min_size=6, max_size=24)
GENOMES = UNITS.map("".join)


class Case:
    """A genome, an allele aligned both ways, and the genome that carries it."""

    def __init__(self, bases: str, place: int, n_ref: int, alt: str) -> None:
        start = place % (len(bases) + 1)
        ref = bases[start : start + n_ref]
        written = Variant("c", start, ref, alt)
        self.bases = bases
        self.left, self.right = normalise(written, np.frombuffer(encode(bases), np.uint8))
        self.changed = bases[:start] + alt + bases[start + len(ref) :]
        self.is_change = ref != alt


CASES = st.builds(
    Case,
    GENOMES,
    st.integers(0, 200),
    st.integers(0, 4),
    st.text("ACGT", max_size=4),
).filter(lambda case: case.is_change)


@contextmanager
def opened(bases: str) -> Iterator[Genome]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Genome(write_fasta(folder, {"c": bases}), folder / "cache") as genome:
            yield genome


def letters(genome: Genome, haplotype: Haplotype) -> str:
    return decode(genome.sequence(haplotype))


def slice_of(bases: str, start: int, length: int) -> str:
    """Cut a window out of a contig that N continue without end."""
    padded = "N" * PAD + bases + "N" * PAD
    assert 0 <= start + PAD <= len(padded) - length
    return padded[start + PAD : start + PAD + length]


LENGTHS = st.sampled_from([(9, 4), (10, 4), (12, 5), (12, 7), (11, 2)])


@given(case=CASES, shape=LENGTHS)
def test_left_fixed_windows_are_slices_of_the_true_haplotypes(case: Case, shape: tuple[int, int]) -> None:
    length, index = shape
    pair = left_fixed(case.left, length, index)
    start = case.left.start - index
    with opened(case.bases) as genome:
        assert letters(genome, pair.ref) == slice_of(case.bases, start, length)
        assert letters(genome, pair.alt) == slice_of(case.changed, start, length)
    assert pair.ref.length == pair.alt.length == length


@given(case=CASES, shape=LENGTHS)
def test_right_fixed_windows_are_slices_of_the_true_haplotypes(case: Case, shape: tuple[int, int]) -> None:
    length, index = shape
    pair = right_fixed(case.right, length, index)
    with opened(case.bases) as genome:
        assert letters(genome, pair.ref) == slice_of(case.bases, case.right.end + index - length, length)
        end_there = case.right.start + len(case.right.alt)
        assert letters(genome, pair.alt) == slice_of(case.changed, end_there + index - length, length)


@given(case=CASES, shape=LENGTHS)
def test_the_right_fixed_rule_is_the_left_fixed_rule_on_the_other_strand(case: Case, shape: tuple[int, int]) -> None:
    length, index = shape
    mirrored = mirror(case)
    with opened(case.bases) as genome, opened(mirrored.bases) as other:
        ours = [letters(genome, haplotype) for haplotype in right_fixed(case.right, length, index)]
        theirs = [flipped(letters(other, haplotype)) for haplotype in left_fixed(mirrored.left, length, index)]
    assert ours == theirs


def mirror(case: Case) -> Case:
    """Write the genome and the allele on the other strand."""
    variant = case.left
    start = len(case.bases) - variant.end
    return Case(flipped(case.bases), start, len(variant.ref), flipped(variant.alt))


@given(case=CASES, tss=st.integers(0, 60), strand=st.sampled_from("+-"), shape=LENGTHS)
def test_tss_windows_are_slices_of_the_true_haplotypes_and_keep_the_tss(
    case: Case, tss: int, strand: str, shape: tuple[int, int]
) -> None:
    length, index = shape
    tss %= len(case.bases)
    anchor = gene(tss, strand)
    variant = case.left if strand == "+" else case.right
    if not touches(variant, window_of(anchor, length, index)) or _longest(variant) > length - 1 - index:
        return
    with opened(case.bases) as genome:
        ref, alt = (
            letters(genome, haplotype) for haplotype in tss_fixed(Site(case.left, case.right, anchor), length, index)
        )
    assert ref == on_strand(case.bases, tss, strand, length, index)
    assert alt == on_strand(case.changed, _tss_after(variant, tss, strand), strand, length, index)


def _longest(variant: Variant) -> int:
    return max(len(variant.ref), len(variant.alt))


def on_strand(bases: str, tss: int, strand: str, length: int, index: int) -> str:
    """Cut the window with the TSS at `index` of the strand."""
    if strand == "+":
        return slice_of(bases, tss - index, length)
    return slice_of(flipped(bases), len(bases) - 1 - tss - index, length)


def _tss_after(variant: Variant, tss: int, strand: str) -> int:
    """Say where the TSS stands on the genome that carries the allele.

    Where it was deleted or replaced, the transcribed side keeps its distance.
    """
    shift = len(variant.alt) - len(variant.ref)
    if strand == "+":
        return tss + shift if variant.start <= tss else tss
    return tss + shift if variant.end <= tss else tss


@given(case=CASES, tss=st.integers(0, 60), strand=st.sampled_from("+-"), shape=LENGTHS)
def test_tss_windows_do_not_depend_on_the_strand_the_genome_is_written_on(
    case: Case, tss: int, strand: str, shape: tuple[int, int]
) -> None:
    length, index = shape
    tss %= len(case.bases)
    mirrored = mirror(case)
    here, there = gene(tss, strand), gene(len(case.bases) - 1 - tss, "-" if strand == "+" else "+")
    variant, other = (case.left, mirrored.right) if strand == "+" else (case.right, mirrored.left)
    is_site = touches(variant, window_of(here, length, index))
    assert is_site == touches(other, window_of(there, length, index))
    if not is_site or _longest(variant) > length - 1 - index:
        return
    with opened(case.bases) as genome, opened(mirrored.bases) as turned:
        ours = [letters(genome, h) for h in tss_fixed(Site(case.left, case.right, here), length, index)]
        sites = Site(mirrored.left, mirrored.right, there)
        theirs = [letters(turned, h) for h in tss_fixed(sites, length, index)]
    assert ours == theirs


GENOME = "ACGTTGCAACGGATTCAGCT"


@pytest.mark.parametrize(
    ("variant", "ref", "alt"),
    [
        # Window 9, index 4, first changed base at 8.
        (("c", 8, "A", "T"), "TGCAACGGA", "TGCATCGGA"),
        (("c", 8, "AC", ""), "TGCAACGGA", "TGCAGGATT"),
        (("c", 8, "", "TT"), "TGCAACGGA", "TGCATTACG"),
        (("c", 8, "A", "TTT"), "TGCAACGGA", "TGCATTTCG"),
        # At the contig's start and end.
        (("c", 0, "A", ""), "NNNNACGTT", "NNNNCGTTG"),
        (("c", 19, "T", ""), "CAGCTNNNN", "CAGCNNNNN"),
        (("c", 20, "", "GG"), "AGCTNNNNN", "AGCTGGNNN"),
        (("c", 0, "", "GG"), "NNNNACGTT", "NNNNGGACG"),
    ],
)
def test_left_fixed_pairs_by_hand(variant: tuple[str, int, str, str], ref: str, alt: str) -> None:
    with opened(GENOME) as genome:
        assert [letters(genome, h) for h in left_fixed(Variant(*variant), 9, 4)] == [ref, alt]


@pytest.mark.parametrize(
    ("variant", "ref", "alt"),
    [
        (("c", 8, "AC", ""), "GCAACGGAT", "TTGCAGGAT"),
        (("c", 8, "", "TT"), "TTGCAACGG", "GCATTACGG"),
        (("c", 1, "C", ""), "NNNACGTTG", "NNNNAGTTG"),
    ],
)
def test_right_fixed_pairs_end_with_the_same_index_bases(
    variant: tuple[str, int, str, str], ref: str, alt: str
) -> None:
    with opened(GENOME) as genome:
        pair = right_fixed(Variant(*variant), 9, 4)
        found = [letters(genome, haplotype) for haplotype in pair]
    assert found == [ref, alt]


@pytest.mark.parametrize(
    ("variant", "strand", "ref", "alt"),
    [
        # Window 8, TSS (place 10) at index 5: + reads 5..12, - reads 15..8 turned.
        (("c", 7, "A", ""), "+", "GCAACGGA", "TGCACGGA"),
        (("c", 12, "A", ""), "+", "GCAACGGA", "GCAACGGT"),
        (("c", 9, "CGG", ""), "+", "GCAACGGA", "GTTGCAAA"),  # the TSS itself goes: the transcribed A stays last
        (("c", 10, "", "TT"), "+", "GCAACGGA", "AACTTGGA"),
        (("c", 11, "", "TT"), "+", "GCAACGGA", "GCAACGTT"),
        (("c", 12, "A", ""), "-", "GAATCCGT", "TGAACCGT"),
        (("c", 8, "A", ""), "-", "GAATCCGT", "GAATCCGT"),
        (("c", 10, "", "TT"), "-", "GAATCCGT", "GAATCCAA"),
        (("c", 11, "", "TT"), "-", "GAATCCGT", "ATCAACGT"),
    ],
)
def test_tss_fixed_pairs_by_hand(variant: tuple[str, int, str, str], strand: str, ref: str, alt: str) -> None:
    allele = Variant(*variant)
    with opened(GENOME) as genome:
        pair = tss_fixed(Site(allele, allele, gene(10, strand)), 8, 5)
        found = [letters(genome, haplotype) for haplotype in pair]
    assert found[0] == ref
    assert found[1] == alt


@pytest.mark.parametrize("strand", ["+", "-"])
@pytest.mark.parametrize("upstream", [1, 5, 37])
def test_a_five_base_promoter_deletion_keeps_the_tss_at_index_7000(strand: str, upstream: int) -> None:
    rng = np.random.default_rng(5)
    bases = "".join(rng.choice(list("ACGT"), 30_000))
    tss = 15_000
    start = tss - upstream - 4 if strand == "+" else tss + upstream
    deletion = Variant("c", start, bases[start : start + 5], "")
    site = Site(*normalise(deletion, np.frombuffer(encode(bases), np.uint8)), gene(tss, strand))
    with opened(bases) as genome:
        ref, alt = (letters(genome, haplotype) for haplotype in tss_fixed(site, 10_500, 7_000))
    turned = bases if strand == "+" else flipped(bases)
    place = tss if strand == "+" else 29_999 - tss
    gone = place - upstream - 4
    assert ref == turned[place - 7_000 : place + 3_500]
    assert alt == turned[place - 7_005 : gone] + turned[gone + 5 : place + 3_500]
    assert ref[7_000:] == alt[7_000:]
    assert len(alt) == 10_500


def test_a_long_insertion_far_upstream_loses_its_far_part_and_keeps_the_tss() -> None:
    allele = Variant("c", 6, "", "TTTT")
    with opened(GENOME) as genome:
        pair = tss_fixed(Site(allele, allele, gene(10, "+")), 8, 5)
        assert letters(genome, pair.alt) == "TCAACGGA"
        assert pair.alt.length == 8


@pytest.mark.parametrize(
    ("variant", "inside"),
    [
        ((9, "A", "C"), False),
        ((10, "A", "C"), True),
        ((19, "A", "C"), True),
        ((20, "A", "C"), False),
        ((8, "AA", ""), False),
        ((8, "AAA", ""), True),
        ((19, "AAA", ""), True),
        ((10, "", "C"), False),  # between base 9 and 10: at the border, not inside
        ((11, "", "C"), True),
        ((19, "", "C"), True),
        ((20, "", "C"), False),
    ],
)
def test_a_changed_base_or_an_insertion_point_inside_touches(variant: tuple[int, str, str], inside: bool) -> None:
    assert touches(Variant("c", *variant), Window("c", 10, 20)) is inside
    assert not touches(Variant("d", *variant), Window("c", 10, 20))


def test_the_other_strand_of_a_haplotype_turns_its_focus() -> None:
    haplotype = Haplotype(Window("c", 5, 14), Variant("c", 8, "AC", ""), focus=(3, 4))
    turned = reversed_strand(haplotype)
    assert haplotype.length == 7
    assert (turned.strand, turned.focus) == ("-", (3, 4))
    assert reversed_strand(haplotype._replace(focus=(1, 3))).focus == (4, 6)
    assert reversed_strand(turned) == haplotype


def test_pairs_are_haplotypes_on_the_forward_strand() -> None:
    pair = left_fixed(Variant("c", 8, "A", "T"), 9, 4)
    assert isinstance(pair, Pair)
    assert pair.ref == Haplotype(Window("c", 4, 13), None)
    assert pair.alt == Haplotype(Window("c", 4, 13), Variant("c", 8, "A", "T"))
