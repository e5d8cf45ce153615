"""Windows on the reference, the haplotypes cut through them, and where an allele lies in each. No file, no bases."""

from __future__ import annotations

from typing import Literal, NamedTuple

from varfm.variants import Variant

Strand = Literal["+", "-"]


class Window(NamedTuple):
    """A span of one contig, 0-based half-open; it may run past either end of the contig, where bases are N."""

    contig: str
    start: int
    end: int

    @property
    def length(self) -> int:
        """Length in bases."""
        return self.end - self.start


class Gene(NamedTuple):
    """A gene as the models see it: a transcription start site on a strand.

    Attributes:
        name: What tables print: the symbol, or the id where there is none.
        contig: Name in the FASTA.
        tss: 0-based position of the first transcribed base.
        strand: `+` or `-`.
        gene_id: Identifier without version; equal to `name` where the file has none.
    """

    name: str
    contig: str
    tss: int
    strand: Strand
    gene_id: str


class Site(NamedTuple):
    """A place where one model scores one variant: a variant, and a gene if the model is anchored on genes.

    Attributes:
        left: The allele trimmed and left-aligned.
        right: The same allele right-aligned; equal to `left` for alleles of equal length.
        gene: The gene the window is placed on, or None.
    """

    left: Variant
    right: Variant
    gene: Gene | None = None


class Haplotype(NamedTuple):
    """The name of one sequence: `ref[window.start:variant.start] + alt + ref[variant.end:window.end]`. Holds no bases.

    Attributes:
        window: The span of reference that the sequence consumes, forward strand.
        variant: The allele it carries; None for the reference.
        strand: `-`: the sequence is reverse-complemented as a whole.
        focus: The allele's span inside the sequence, in bases, on its own strand; None if the model reads all.
        partner: The compared allele with both its sides, where the reading depends on the other one.
        reading: How it is read, for networks that can read in several ways.
    """

    window: Window
    variant: Variant | None
    strand: Strand = "+"
    focus: tuple[int, int] | None = None
    partner: Variant | None = None
    reading: str = ""

    @property
    def length(self) -> int:
        """Length of the sequence in bases."""
        variant = self.variant
        return self.window.length + (len(variant.alt) - len(variant.ref) if variant else 0)


class Pair(NamedTuple):
    """A reference haplotype and the alternate haplotype that is compared with it, both forward."""

    ref: Haplotype
    alt: Haplotype


def left_fixed(variant: Variant, length: int, index: int) -> Pair:
    """Place both haplotypes so that they begin with the same `index` reference bases.

    Args:
        variant: Trimmed, left-aligned.
        length: Bases that the model reads.
        index: 0-based place of the first changed base (of the first inserted base, for an insertion).

    Returns:
        Two haplotypes of `length` bases; the alternate one gives or takes reference at its right end.
    """
    contig, place, ref, alt = variant
    start = place - index
    end = start + length
    shift = len(alt) - len(ref)
    window = Window(contig, start, end)
    consumed = Window(contig, start, end - shift) if shift else window
    return Pair(Haplotype(window, None), Haplotype(consumed, variant))


def right_fixed(variant: Variant, length: int, index: int) -> Pair:
    """Apply `left_fixed` to the reverse complement of genome and allele, and name the result on the forward strand.

    Args:
        variant: Trimmed, right-aligned.
        length: Bases that the model reads.
        index: As for `left_fixed`, counted from the right end.

    Returns:
        Two haplotypes of `length` bases that end with the same `index` reference bases.
    """
    end = variant.end + index
    start = end - length
    shift = len(variant.alt) - len(variant.ref)
    contig = variant.contig
    return Pair(Haplotype(Window(contig, start, end), None), Haplotype(Window(contig, start + shift, end), variant))


def tss_window(gene: Gene, length: int, index: int) -> Window:
    """Place a window of `length` bases so that the TSS is base `index` of it, read on the gene's strand."""
    if gene.strand == "+":
        return Window(gene.contig, gene.tss - index, gene.tss - index + length)
    return Window(gene.contig, gene.tss + index + 1 - length, gene.tss + index + 1)


def touches(variant: Variant, window: Window) -> bool:
    """Tell whether a changed base, or the insertion point, lies inside the window."""
    if variant.contig != window.contig:
        return False
    if variant.ref:
        return variant.start < window.end and variant.end > window.start
    return window.start < variant.start < window.end


def tss_fixed(site: Site, length: int, index: int) -> Pair:
    """Keep the TSS at `index` in both haplotypes: the flank that holds it is fixed, the far end gives or takes.

    A deletion that covers the TSS fixes the transcribed side. In a repeat that spans the TSS the allele is taken as far
    upstream as it goes, which is the same place whichever strand the genome is written on.

    Args:
        site: Must have a gene, and the allele must touch its window.
        length: Bases that the model reads.
        index: Place of the TSS, read on the gene's strand.

    Returns:
        Two haplotypes of `length` bases on the gene's strand.
    """
    gene = site.gene
    assert gene is not None
    variant = site.left if gene.strand == "+" else site.right
    window = tss_window(gene, length, index)
    if _fixes_right_flank(variant, gene):
        alt = _grown_left(variant, window.end, length)
    else:
        alt = grown_right(variant, window.start, length)
    return Pair(Haplotype(window, None, gene.strand), alt._replace(strand=gene.strand))


def _fixes_right_flank(variant: Variant, gene: Gene) -> bool:
    # An allele upstream of the TSS, or over it, leaves the transcribed side in place.
    if gene.strand == "+":
        return variant.start <= gene.tss
    return variant.end <= gene.tss


def _grown_left(variant: Variant, end: int, length: int) -> Haplotype:
    # Bases that must stand left of the allele; negative where the far part of a long insertion falls out of the window.
    n_left = length - (end - variant.end) - len(variant.alt)
    if n_left < 0:
        variant = variant._replace(alt=variant.alt[-n_left:])
        n_left = 0
    return Haplotype(Window(variant.contig, variant.start - n_left, end), variant)


def grown_right(variant: Variant, start: int, length: int) -> Haplotype:
    """Give the haplotype of `length` bases that begins at a place of the reference and carries an allele right of it.

    The far part of an insertion that falls out of the window is left out.
    """
    n_right = length - (variant.start - start) - len(variant.alt)
    if n_right < 0:
        variant = variant._replace(alt=variant.alt[:n_right])
        n_right = 0
    return Haplotype(Window(variant.contig, start, variant.end + n_right), variant)


def reversed_strand(haplotype: Haplotype) -> Haplotype:
    """Give the same sequence read on the other strand, its focus with it."""
    window, variant, strand, focus, partner, reading = haplotype
    if focus is not None:
        focus = (haplotype.length - focus[1], haplotype.length - focus[0])
    return Haplotype(window, variant, "-" if strand == "+" else "+", focus, partner, reading)
