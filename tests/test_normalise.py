"""Left- and right-alignment: by hand, by plain string surgery, and against bcftools norm."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pysam
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tools import require_tool

from varfm.genome import decode, encode
from varfm.normalise import normalise
from varfm.variants import Variant

SOURCE = os.environ.get("VARFM_BCFTOOLS_SOURCE", "")


def aligned(bases: str, start: int, ref: str, alt: str) -> tuple[tuple[int, str, str], tuple[int, str, str]]:
    assert bases[start : start + len(ref)].upper() == ref
    left, right = normalise(Variant("c", start, ref, alt), np.frombuffer(encode(bases), np.uint8))
    return tuple(left[1:]), tuple(right[1:])  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("bases", "start", "ref", "alt", "left", "right"),
    [
        # A homopolymer: any one of the four may go.
        ("CAAAAG", 3, "A", "", (1, "A", ""), (4, "A", "")),
        ("CAAAAG", 3, "", "AA", (1, "", "AA"), (5, "", "AA")),
        # A repeat of three; the deleted unit is read in turn.
        ("TCAGCAGCAGT", 5, "AGC", "", (1, "CAG", ""), (7, "CAG", "")),
        ("TCAGCAGCAGT", 10, "", "CAG", (1, "", "CAG"), (10, "", "CAG")),
        # One base shared with the flank moves one step.
        ("GATTC", 2, "T", "", (2, "T", ""), (3, "T", "")),
        ("GACTAGG", 2, "CTA", "", (1, "ACT", ""), (2, "CTA", "")),
        # At the ends of the contig nothing goes further.
        ("AAAA", 2, "A", "", (0, "A", ""), (3, "A", "")),
        ("AAAA", 4, "", "A", (0, "", "A"), (4, "", "A")),
        # Padding on both sides.
        ("CAAAAG", 0, "CAAAAG", "CAAAG", (1, "A", ""), (4, "A", "")),
        # N and whatever else is no base stops.
        ("CAANAAG", 5, "A", "", (4, "A", ""), (5, "A", "")),
        ("CAARAAG", 5, "A", "", (4, "A", ""), (5, "A", "")),
        ("NNAANN", 3, "", "A", (2, "", "A"), (4, "", "A")),
        # Soft-masked bases are bases.
        ("CaAaAG", 3, "A", "", (1, "A", ""), (4, "A", "")),
    ],
)
def test_indels_move_to_both_ends_of_their_repeat(
    bases: str, start: int, ref: str, alt: str, left: tuple[int, str, str], right: tuple[int, str, str]
) -> None:
    assert aligned(bases, start, ref, alt) == (left, right)


def test_alleles_with_bases_on_both_sides_stay_where_they_are() -> None:
    assert aligned("CAAAAG", 2, "A", "TT") == ((2, "A", "TT"), (2, "A", "TT"))
    assert aligned("CAAAAG", 2, "AA", "TT") == ((2, "AA", "TT"), (2, "AA", "TT"))


def test_a_repeat_longer_than_the_step_of_comparison_is_crossed_whole() -> None:
    bases = "C" + "GA" * 3000 + "T"
    assert aligned(bases, 3001, "GA", "") == ((1, "GA", ""), (5999, "GA", ""))
    n_at = 1 + 2 * 700
    broken = bases[:n_at] + "N" + bases[n_at + 1 :]
    assert aligned(broken, 3001, "GA", "")[0] == (n_at + 1, "AG", "")


REPEATS = st.lists(st.sampled_from(["A", "C", "AC", "ACA", "GT", "GTT", "T", "N"]), min_size=4, max_size=16).map(
    "".join
)


@given(
    bases=REPEATS, place=st.integers(0, 60), size=st.integers(1, 5), inserted=st.text("ACGT", min_size=1, max_size=5)
)
@example(bases="AAAA", place=0, size=4, inserted="A")
def test_every_place_that_spells_the_same_haplotype_gives_the_same_two_ends(
    bases: str, place: int, size: int, inserted: str
) -> None:
    place %= len(bases)
    deleted = bases[place : place + size]
    options = [(place, "", inserted)] + ([(place, deleted, "")] if "N" not in deleted else [])
    for start, ref, alt in options:
        changed = bases[:start] + alt + bases[start + len(ref) :]
        same = sorted(_spellings(bases, changed, max(len(ref), len(alt)), insertion=not ref))
        reached = _run_of(same, start)
        left, right = aligned(bases, start, ref, alt)
        assert left == (reached[0], *_spelled(bases, changed, reached[0], len(ref), len(alt)))
        assert right == (reached[-1], *_spelled(bases, changed, reached[-1], len(ref), len(alt)))


def _spelled(bases: str, changed: str, start: int, n_ref: int, n_alt: int) -> tuple[str, str]:
    return bases[start : start + n_ref], changed[start : start + n_alt]


def _spellings(bases: str, changed: str, size: int, *, insertion: bool) -> Iterator[int]:
    """Try every place in turn, by string surgery alone."""
    longer, shorter = (changed, bases) if insertion else (bases, changed)
    for start in range(len(shorter) + 1):
        piece = longer[start : start + size]
        if longer[:start] + longer[start + size :] == shorter and "N" not in piece:
            yield start


def _run_of(places: list[int], start: int) -> list[int]:
    run = [start]
    while run[0] - 1 in places:
        run.insert(0, run[0] - 1)
    while run[-1] + 1 in places:
        run.append(run[-1] + 1)
    return run


# --- bcftools ------------------------------------------------------------------------------------------------------


def as_vcf(left: Variant, bases: str) -> tuple[int, str, str]:
    """Give 1-based POS, REF and ALT with the anchor base that a VCF must write: before it, or behind at the start."""
    if left.ref and left.alt:
        return left.start + 1, left.ref, left.alt
    if left.start == 0:
        after = bases[left.end].upper() if left.end < len(bases) else ""
        return 1, left.ref + after, left.alt + after
    anchor = bases[left.start - 1].upper()
    return left.start, anchor + left.ref, anchor + left.alt


def repeat_rich(rng: np.random.Generator, n_bases: int, *, with_n: bool) -> str:
    pieces: list[str] = []
    size = 0
    while size < n_bases:
        unit = "".join(rng.choice(list("ACGT"), rng.integers(1, 7)))
        piece = unit * int(rng.integers(1, 12))
        if with_n and rng.random() < 0.1:
            piece = "N" * int(rng.integers(1, 5))
        if rng.random() < 0.3:
            piece = piece.lower()
        pieces.append(piece)
        size += len(piece)
    return "".join(pieces)


def random_indels(rng: np.random.Generator, bases: str, n_indels: int) -> list[tuple[int, str, str]]:
    """Write indels with random padding on both sides; nothing written touches an N."""
    upper = bases.upper()
    found: list[tuple[int, str, str]] = []
    while len(found) < n_indels:
        start = int(rng.integers(1, len(bases) - 40))
        size, before, after = (int(n) for n in rng.integers((1, 1, 0), (13, 6, 6)))
        first, last = max(0, start - before), start + size + after
        if "N" in upper[first:last]:
            continue
        kept, tail = upper[first:start], upper[start + size : last]
        middle = upper[start : start + size]
        if rng.random() < 0.5:
            found.append((first + 1, kept + middle + tail, kept + tail))
        else:
            added = middle if rng.random() < 0.7 else "".join(rng.choice(list("ACGT"), size))
            found.append((first + 1, kept + middle + tail, kept + added + middle + tail))
    return found


def bcftools_norm(folder: Path, bases: str, indels: list[tuple[int, str, str]]) -> list[tuple[int, str, str]]:
    fasta = folder / "g.fa"
    fasta.write_text(">c\n" + "\n".join(bases[i : i + 60] for i in range(0, len(bases), 60)) + "\n")
    pysam.faidx(str(fasta))
    lines = ["##fileformat=VCFv4.2", f"##contig=<ID=c,length={len(bases)}>"]
    lines.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    lines += [f"c\t{pos}\t{n}\t{ref}\t{alt}\t.\t.\t." for n, (pos, ref, alt) in enumerate(indels)]
    (folder / "in.vcf").write_text("\n".join(lines) + "\n")
    command = [require_tool("bcftools"), "norm", "-m-", "-f", str(fasta), "-Ov", str(folder / "in.vcf")]
    text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    found: dict[int, tuple[int, str, str]] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            _, pos, number, ref, alt, *_ = line.split("\t")
            found[int(number)] = (int(pos), ref.upper(), alt.upper())
    assert len(found) == len(indels)
    return [found[number] for number in range(len(indels))]


def differences(folder: Path, seed: int, n_indels: int, *, with_n: bool) -> list[str]:
    rng = np.random.default_rng(seed)
    bases = repeat_rich(rng, 40_000, with_n=with_n)
    codes = np.frombuffer(encode(bases), np.uint8)
    indels = random_indels(rng, bases, n_indels)
    theirs = bcftools_norm(folder, bases, indels)
    wrong = []
    for (pos, ref, alt), expected in zip(indels, theirs, strict=True):
        left, _ = normalise(Variant("c", pos - 1, ref, alt), codes)
        found = as_vcf(left, bases)
        if found != expected:
            wrong.append(f"{pos} {ref}>{alt}: bcftools {expected}, varfm {found}")
    return wrong


def test_left_alignment_of_five_thousand_indels_equals_bcftools(tmp_path: Path) -> None:
    assert differences(tmp_path, 1, 5_000, with_n=False) == []


@pytest.mark.slow
def test_left_alignment_of_a_hundred_thousand_indels_equals_bcftools(tmp_path: Path) -> None:
    assert differences(tmp_path, 2, 100_000, with_n=False) == []


def test_beside_runs_of_n_left_alignment_equals_bcftools_and_never_crosses(tmp_path: Path) -> None:
    assert differences(tmp_path, 3, 5_000, with_n=True) == []


# The others hold N or places beyond their FASTA, which are no alleles to us.
FIXTURES = [("norm.vcf", "norm.fa"), ("norm.2.vcf", "norm.2.fa"), ("norm.split.vcf", "norm.fa")]
FIXTURES += [("norm.merge.vcf", "norm.fa")]


@pytest.mark.skipif(not SOURCE, reason="VARFM_BCFTOOLS_SOURCE does not name the source folder of bcftools")
@pytest.mark.parametrize(("vcf", "fasta"), FIXTURES)
def test_the_fixtures_of_bcftools_are_aligned_as_it_aligns_them(vcf: str, fasta: str, tmp_path: Path) -> None:
    folder = Path(SOURCE) / "test"
    contigs = _read_fasta(folder / fasta)
    n_compared = 0
    for contig, pos, ref, alt, expected in _normalised_fixture(folder / vcf, folder / fasta, tmp_path):
        bases = contigs[contig]
        codes = np.frombuffer(encode(bases), np.uint8)
        start = pos - 1
        if decode(codes[start : start + len(ref)].tobytes()) != ref or set(ref + alt) - set("ACGT") or ref == alt:
            continue
        left, _ = normalise(Variant(contig, start, ref, alt), codes)
        assert as_vcf(left, bases) == expected, (contig, pos, ref, alt)
        n_compared += 1
    assert n_compared > 0


def _read_fasta(path: Path) -> dict[str, str]:
    with pysam.FastxFile(str(path)) as records:
        return {str(record.name): record.sequence or "" for record in records}


def _normalised_fixture(
    vcf: Path, fasta: Path, folder: Path
) -> Iterator[tuple[str, int, str, str, tuple[int, str, str]]]:
    """Number the alleles of a fixture, split and normalise them with bcftools, and pair what is left of each."""
    copy = folder / "f.fa"
    copy.write_bytes(fasta.read_bytes())
    pysam.faidx(str(copy))
    lines: list[str] = []
    contigs: list[str] = []
    written: list[tuple[str, int, str, str]] = []
    for line in vcf.read_text().splitlines():
        if line.startswith("##contig"):
            contigs.append(line)
        if line.startswith("#"):
            continue
        contig, pos, _, ref, alts, *_ = line.split("\t")
        for alt in alts.split(","):
            if not set(alt.upper()) - set("ACGTN"):
                lines.append(f"{contig}\t{pos}\t{len(written)}\t{ref}\t{alt}\t.\t.\t.")
                written.append((contig, int(pos), ref.upper(), alt.upper()))
    header = ["##fileformat=VCFv4.2", *contigs, "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    (folder / "f.vcf").write_text("\n".join([*header, *lines]) + "\n")
    command = [require_tool("bcftools"), "norm", "-m-", "-cx", "-f", str(copy), str(folder / "f.vcf")]
    text = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    for line in text.splitlines():
        if not line.startswith("#"):
            _, pos, number, ref, alt, *_ = line.split("\t")
            yield *written[int(number)], (int(pos), ref.upper(), alt.upper())
