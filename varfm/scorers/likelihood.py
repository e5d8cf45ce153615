"""Scores of language models: how much less, or more, likely the alternate allele is than the reference allele."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from varfm.protocols import Column, Field, GeneIndex, Value
from varfm.scorers.embedding import FINETUNED, Head, by_allele, distance_columns, distances, embedded
from varfm.scorers.placement import Strands
from varfm.scorers.tracks import EVERY_KIND
from varfm.variants import Status, Variant, VariantKind
from varfm.windows import Gene, Haplotype, Pair, Site, Window, left_fixed, reversed_strand, right_fixed

if TYPE_CHECKING:
    from torch import Tensor

Method = Literal["masked", "seen", "tokens", "causal"]

FLANK = 16
"""Bases read on either side of an allele of unequal length."""

_FORMULAS = {
    "LLR": "sum over the hidden tokens of ln p(alt) - ln p(ref), all of them hidden at once; strands averaged",
    "LLR_INDEL": "sum of ln p over equally many bases of alt, hidden one by one, minus that of ref; strands averaged",
    "PLL": "sum of ln p over the tokens that differ, hidden one by one, of alt minus that of ref; strands averaged",
    "LL": "sum of ln p of every token given those before it, of alt minus that of ref; strands averaged",
    "INFILL": "sum of ln p over the changed tokens, all of them hidden, then filled in one by one from the left of the "
    "strand, of alt minus that of ref; strands averaged",
    "INFILL_INDEL": "sum of ln p over equally many bases of alt, all of them hidden, then filled in one by one from "
    "the left of the strand, minus that of ref; strands averaged",
}
_MEANINGS = {
    "LLR": "Log-likelihood ratio of the alternate allele, of the reference's length.",
    "LLR_INDEL": "Log-likelihood ratio of the alternate allele, of another length than the reference.",
    "PLL": "Pseudo-log-likelihood ratio of the alternate allele.",
    "LL": "Log-likelihood ratio of the window with the alternate allele.",
    "INFILL": "Log-likelihood ratio of the alternate allele as a blank that is filled in token by token.",
    "INFILL_INDEL": "Log-likelihood ratio of the alternate allele, of another length than the reference, as a blank "
    "that is filled in base by base.",
}
_SEEN = "sum over the changed bases of ln p(alt) - ln p(ref), in the sequence with ref; strands averaged"
"""The alternate sequence is not read: swapped roles do not give minus the score."""
_MAIN = {"masked": "LLR", "seen": "LLR", "tokens": "PLL", "causal": "LL"}
_MASKED = {"LLR": "LLR_INDEL", "INFILL": "INFILL_INDEL"}
"""Scores of alleles of the reference's length, and what they are called for others, where bases are hidden."""


class _Strand(NamedTuple):
    """What is read on one strand: of ref, and of alt; None where one reading serves both."""

    ref: Haplotype
    alt: Haplotype | None


@dataclass(frozen=True)
class LikelihoodScorer:
    """Compares what a language model thinks of two alleles, strand by strand, and averages over strands.

    Attributes:
        length: Bases of a window.
        index: 0-based place of the first changed base. Causal models read each strand with the allele there.
        method: `masked`: alleles of one length are hidden and compared in one pass. `seen`: the same with nothing
            hidden, for networks that say of a base they read how likely others are in its place. `tokens`: the tokens
            that differ are hidden one by one. `causal`: each token is read from those before it.
        takes_indels: False where a change of length would move every token.
        strands: `both`: the score is the mean of two; `forward`: one, as for networks that read both strands alike.
        embeds: True: also the distance between the mean hidden states near the allele.
        infills: Strands from whose left also blanks are filled in, which is another score; None: neither. It matters
            for networks that read both strands alike, too: the order of filling turns around.
        head: What was trained on these states, for its prediction; None: no such score.
    """

    length: int
    index: int
    method: Method
    takes_indels: bool = True
    strands: Strands = "both"
    embeds: bool = False
    infills: Strands | None = None
    head: Head | None = None

    needs_genes = False

    @property
    def supports(self) -> frozenset[VariantKind]:
        """Without indels, what leaves the length as it is."""
        return EVERY_KIND if self.takes_indels else frozenset({VariantKind.SNV, VariantKind.MNV})

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The scores, what they were on each strand, and how many tokens they are made of."""
        scores = self._by_strand(_MAIN[self.method], "")
        if self.method == "seen":
            scores[0] = replace(scores[0], formula=_SEEN)
            scores = [replace(column, signed=False) for column in scores]
        for allele in ("REF", "ALT"):
            text = f"Tokens that the score reads of {allele}, strands averaged."
            scores.append(Column(f"N_TOKENS_{allele}", text, "tokens", "count", signed=False))
        if self.infills is not None:
            scores += self._by_strand("INFILL", "INFILL_")
        if self.embeds:
            scores += distance_columns()
        if self.head is not None:
            scores.append(self.head.column)
        return tuple(scores)

    def _by_strand(self, name: str, prefix: str) -> list[Column]:
        """Give the columns of a score: for each length of allele, then strand by strand."""
        has_other = self.method == "masked" and self.takes_indels
        names = [name, _MASKED[name]] if has_other else [name]
        unit, what = "natural log", name if prefix else "The score"
        columns = [Column(one, _MEANINGS[one], unit, _FORMULAS[one]) for one in names]
        for strand in ("forward", "reverse"):
            text = f"{what} on the {strand} strand alone."
            columns.append(Column(prefix + strand.upper(), text, unit, f"as above, {strand} strand"))
        return columns

    @cached_property
    def fields(self) -> tuple[Field, ...]:
        """The scores, without strands and counts."""
        return tuple(Field(column.name, "Float", column.description) for column in self._shown.values())

    @property
    def plain_fields(self) -> tuple[int, ...]:
        """Fields are columns."""
        return tuple(self._shown)

    @cached_property
    def _shown(self) -> dict[int, Column]:
        hidden = ("FORWARD", "REVERSE", "N_TOKENS_REF", "N_TOKENS_ALT")
        return {index: column for index, column in enumerate(self.columns) if not column.name.endswith(hidden)}

    @property
    def n_values(self) -> int:
        """Nothing is hidden."""
        return len(self.columns)

    @property
    def max_allele(self) -> int:
        """At least one reference base must be left on the right, and the flank that is read with an indel."""
        return max(0, self.length - 1 - self.index - (FLANK if self.method == "masked" else 0))

    def sites(self, left: Variant, right: Variant, genes: GeneIndex | None) -> list[Site] | Status:
        """Give one site: the allele itself."""
        return [Site(left, right)]

    def haplotypes(self, site: Site) -> list[Haplotype]:
        """Give, strand by strand, what is read for the score; then what is embedded."""
        found = []
        for strand in self._strands(site):
            found += [strand.ref] if strand.alt is None else [strand.ref, strand.alt]
        found += self._infilled(site)
        if self.embeds or self.head is not None:
            found += embedded(site, self.length, self.index, self.strands)
        return found

    def _strands(self, site: Site) -> list[_Strand]:
        forward = self._on_strand(site, "+")
        return [forward] if self.strands == "forward" else [forward, self._on_strand(site, "-")]

    def _on_strand(self, site: Site, strand: Literal["+", "-"]) -> _Strand:
        same_length = len(site.left.ref) == len(site.left.alt)
        if self.method in ("masked", "seen") and same_length:
            ref, _ = left_fixed(site.left, self.length, self.index)
            return _Strand(_read(ref, site.left, self.method, self._focus(site.left, ref), strand), None)
        pair, variant = self._pair(site, strand)
        reading = "each" if self.method == "masked" else self.method
        ref, alt = (_read(own, variant, reading, self._focus(variant, own, strand), strand) for own in pair)
        return _Strand(ref, alt)

    def _pair(self, site: Site, strand: Literal["+", "-"]) -> tuple[Pair, Variant]:
        """Place the windows of both alleles."""
        if self.method == "causal" and strand == "-":  # the rule of the forward strand, on the reverse complement
            return right_fixed(site.right, self.length, self.index), site.right
        if self.method == "tokens":
            left, n_right = site.left, self.length - self.index - 1
            # As many reference bases on either side whichever allele is called REF: the haplotypes differ in length.
            window = Window(left.contig, left.start - self.index, left.end + n_right)
            return Pair(Haplotype(window, None), Haplotype(window, left)), left
        return left_fixed(site.left, self.length, self.index), site.left

    def _focus(self, variant: Variant, own: Haplotype, strand: Literal["+", "-"] = "+") -> tuple[int, int]:
        """Give the bases that are read, on the forward strand of the haplotype's sequence."""
        start = variant.start - own.window.start
        same_length = len(variant.ref) == len(variant.alt)
        if self.method == "masked" and not same_length:
            longest = max(len(variant.ref), len(variant.alt))
            return start - FLANK, start + longest + FLANK
        n_own = len(variant.ref if own.variant is None else variant.alt)
        if n_own == 0:
            # It lies between two bases: the one after it, on the strand that is read, is the first that differs.
            start -= strand == "-"
        return start, start + max(1, n_own)

    def _infilled(self, site: Site) -> list[Haplotype]:
        """Give ref and alt, strand by strand, to be filled in over the same bases as the other score reads."""
        if self.infills is None:
            return []
        reading = "filled tokens" if self.method == "tokens" else "filled"
        pair, variant = self._pair(site, "+")
        strands: tuple[Literal["+", "-"], ...] = ("+",) if self.infills == "forward" else ("+", "-")
        return [
            _read(own, variant, reading, self._focus(variant, own, strand), strand)
            for strand in strands
            for own in pair
        ]

    def score(self, site: Site, answers: Sequence[Tensor]) -> Tensor:
        """Compare answers, (2,) each, then embeddings (width,) -> (n_values,) float64."""
        import torch

        values: list[tuple[float, float, float]] = []
        rest = list(answers)
        for strand in self._strands(site):
            ref = rest.pop(0)
            if strand.alt is None:
                values.append((float(ref[0]), float(ref[1]), float(ref[1])))
            else:
                alt = rest.pop(0)
                values.append((float(alt[0] - ref[0]), float(ref[1]), float(alt[1])))
        by_name = self._named(site, np.array(values))
        if self.infills is not None:
            n_read = 4 if self.infills == "both" else 2
            filled = [float(alt[0] - ref[0]) for ref, alt in zip(rest[:n_read:2], rest[1:n_read:2], strict=True)]
            rest = rest[n_read:]
            by_name |= self._by_name(site, "INFILL", "INFILL_", filled)
        if rest:
            by_name |= self._of_embeddings(rest)
        numbers = [by_name.get(column.name, float("nan")) for column in self.columns]
        return torch.tensor(numbers, dtype=torch.float64)

    def _of_embeddings(self, answers: Sequence[Tensor]) -> dict[str, float]:
        ref, alt = by_allele(answers)
        found = distances(ref, alt) if self.embeds else {}
        if self.head is not None:
            found[FINETUNED] = float(self.head.predict(*(part.mean(0).cpu().numpy() for part in (ref, alt))))
        return found

    def _named(self, site: Site, values: NDArray[np.float64]) -> dict[str, float]:
        _, n_ref, n_alt = values.mean(0).tolist()
        counts = {"N_TOKENS_REF": n_ref, "N_TOKENS_ALT": n_alt}
        return counts | self._by_name(site, _MAIN[self.method], "", values[:, 0].tolist())

    def _by_name(self, site: Site, name: str, prefix: str, by_strand: Sequence[float]) -> dict[str, float]:
        """Name the mean over strands by the length of the allele, and each strand's own value."""
        if self.method == "masked" and len(site.left.ref) != len(site.left.alt):
            name = _MASKED[name]
        strands = zip((f"{prefix}FORWARD", f"{prefix}REVERSE"), by_strand, strict=False)
        return {name: sum(by_strand) / len(by_strand), **dict(strands)}

    def unchanged(self) -> NDArray[np.float64]:
        """Give zeros; nothing was read, so there is no count, and no prediction, which compares nothing."""
        values = np.zeros(self.n_values)
        values[[column.name.startswith(("N_TOKENS", FINETUNED)) for column in self.columns]] = np.nan
        return values

    def headline(self, scores: NDArray[np.float64], gene: Gene | None) -> tuple[Value, ...]:
        """Give the scores, without strands and counts."""
        return tuple(float(scores[index]) for index in self.plain_fields)


def scorer_of(
    kind: str,
    length: int,
    index: int,
    strands: Strands = "both",
    embeds: bool = False,
    infills: Strands | None = None,
) -> LikelihoodScorer:
    """Make the scorer of a checkpoint's `likelihood`: a method, or `frames`, which is `masked` without indels.

    Where nothing is hidden, only alleles of one length can be compared.

    Causal models fill in from left to right as it is, others hide nothing: these have no score of that name.
    """
    method = cast(Method, "masked" if kind == "frames" else kind)
    infills = None if kind in ("causal", "seen") else infills
    return LikelihoodScorer(length, index, method, kind not in ("frames", "seen"), strands, embeds, infills)


def _read(
    own: Haplotype, variant: Variant, reading: str, focus: tuple[int, int], strand: Literal["+", "-"]
) -> Haplotype:
    forward = own._replace(reading=reading, focus=focus, partner=variant)
    return forward if strand == "+" else reversed_strand(forward)
