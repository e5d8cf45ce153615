"""Likelihood scores: toy language models whose answers can be worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from varfm.encoding.tokens import Request, Tokens, kind_of, unpack
from varfm.genome import encode, reverse_complement
from varfm.models.language import LanguageNetwork
from varfm.normalise import normalise
from varfm.scorers.likelihood import LikelihoodScorer
from varfm.variants import Variant, VariantKind
from varfm.windows import Haplotype, Site

GENOME = "GATTACAGGTACCATGCAATTGCCGATAACGTTAGCATGCCTAGGATCCAATGCAAGT"
MASK, N_IDS = 5, 6


class Bases:
    """One token per base: 0-3 the bases, 4 N, 5 the mask."""

    mask_id = MASK
    unknown_id = 4
    n_vocabulary = N_IDS

    def encode(self, sequence: bytes) -> Tokens:
        """Cut into single bases."""
        places = np.arange(len(sequence), dtype=np.int32)
        return Tokens(np.frombuffer(sequence, np.uint8).astype(np.int32), places, places + 1)


class Pairs:
    """Tokens of up to two bases, longest first: AT and GC are one token; a token [CLS] stands before."""

    mask_id = MASK
    unknown_id = 4
    n_vocabulary = 9

    def encode(self, sequence: bytes) -> Tokens:
        """Cut greedily from the left."""
        ids, starts = [8], [0]
        at = 0
        while at < len(sequence):
            joined = {(0, 3): 6, (2, 1): 7}.get((sequence[at], sequence[at + 1]) if at + 1 < len(sequence) else (9, 9))
            ids.append(sequence[at] if joined is None else joined)
            starts.append(at)
            at += 1 if joined is None else 2
        ends = [0, *starts[2:], len(sequence)]
        return Tokens(*(np.array(values, np.int32) for values in (ids, starts, ends)))


class LeftNeighbour(nn.Module):
    """Hidden state: the own and the left token; logits: twice as much for a token equal to the one on the left."""

    def __init__(self, n_ids: int) -> None:
        super().__init__()
        self.n_ids = n_ids

    def hidden(self, ids: Tensor) -> Tensor:
        """(n, n_tokens) -> (n, n_tokens, 2)."""
        left = torch.cat([torch.full_like(ids[:, :1], -1), ids[:, :-1]], 1)
        return torch.stack([ids, left], 2).float()

    def logits(self, hidden: Tensor) -> Tensor:
        """ln 2 at the id of the left token, 0 elsewhere."""
        return (hidden[..., 1:] == torch.arange(self.n_ids)).float() * math.log(2)


class OwnToken(LeftNeighbour):
    """A causal model: what follows is likely to be the same again."""

    def logits(self, hidden: Tensor) -> Tensor:
        """ln 2 at the own id, 0 elsewhere."""
        return (hidden[..., :1] == torch.arange(self.n_ids)).float() * math.log(2)


def bases(network: type[LeftNeighbour] = LeftNeighbour, length: int = 50) -> LanguageNetwork:
    return LanguageNetwork(network(N_IDS), Bases(), length)


def sequence_of(haplotype: Haplotype, genome: str = GENOME) -> bytes:
    """Cut a haplotype as its definition says, with N outside."""
    window, variant = haplotype.window, haplotype.variant
    padded = "N" * 100 + genome + "N" * 100
    cut = [window.start, window.end] if variant is None else [window.start, variant.start, variant.end, window.end]
    pieces = [padded[100 + a : 100 + b] for a, b in zip(cut[::2], cut[1::2], strict=True)]
    forward = encode((variant.alt if variant else "").join(pieces))
    return forward if haplotype.strand == "+" else reverse_complement(forward)


def scored(
    scorer: LikelihoodScorer, network: LanguageNetwork, variant: Variant, genome: str = GENOME
) -> dict[str, float]:
    """Run what the scorer asks for, row by row."""
    left, right = normalise(variant, np.frombuffer(encode(genome), np.uint8))
    site = Site(left, right)
    answers = []
    for haplotype in scorer.haplotypes(site):
        sequence = sequence_of(haplotype, genome)
        rows = network.rows(sequence, haplotype)
        outputs = [network.forward(torch.tensor([list(row)], dtype=torch.uint8))[0] for row in rows]
        answers.append(network.reduce(haplotype, sequence, outputs))
    names = [column.name for column in scorer.columns]
    return dict(zip(names, scorer.score(site, answers).tolist(), strict=True))


def test_a_row_says_what_is_read_of_it() -> None:
    row = Request(np.array([3, 300, 70_000], np.int32), [2, 0]).pack()
    ids, positions, embeds = unpack(torch.tensor([list(row)] * 2, dtype=torch.uint8))
    assert ids.tolist() == [[3, 300, 70_000]] * 2
    assert positions.tolist() == [[2, 0]] * 2
    assert not embeds
    assert kind_of(row) != kind_of(Request(np.array([3, 300], np.int32), [2, 0, 1]).pack())


def test_a_snv_is_hidden_and_both_bases_are_read_in_one_row_per_strand() -> None:
    scorer, network = LikelihoodScorer(50, 25, "masked"), bases()
    # Position 29, 0-based, is C between G and A... the model likes a base that repeats the one on its left.
    at = GENOME.index("CCGATAACG") + 2
    variant = Variant("c", at, "G", "C")
    haplotypes = scorer.haplotypes(Site(variant, variant))
    assert [(h.strand, h.focus) for h in haplotypes] == [("+", (25, 26)), ("-", (24, 25))]
    found = scored(scorer, network, variant)
    # Forward: left of it stands C: ln 2. Reverse: left of it stands T (of A), neither C nor G: 0.
    assert found["FORWARD"] == pytest.approx(math.log(2))
    assert found["REVERSE"] == pytest.approx(0)
    assert found["LLR"] == pytest.approx(math.log(2) / 2)
    assert math.isnan(found["LLR_INDEL"])
    assert found["N_TOKENS_REF"] == found["N_TOKENS_ALT"] == 1


def test_alleles_of_one_site_ask_for_the_same_rows() -> None:
    scorer, network = LikelihoodScorer(50, 25, "masked"), bases()
    rows = set()
    for alt in "ACT":
        variant = Variant("c", 27, GENOME[27], alt)
        for haplotype in scorer.haplotypes(Site(variant, variant)):
            rows.update(network.rows(sequence_of(haplotype), haplotype))
    assert len(rows) == 2


def test_all_bases_of_an_mnv_are_hidden_at_once() -> None:
    network = bases()
    variant = Variant("c", 26, GENOME[26:29], "TTT")
    haplotype = LikelihoodScorer(50, 25, "masked").haplotypes(Site(variant, variant))[0]
    [row] = network.rows(sequence_of(haplotype), haplotype)
    ids, positions, _ = unpack(torch.tensor([list(row)], dtype=torch.uint8))
    assert positions.tolist() == [[25, 26, 27]]
    assert (ids[0] == MASK).nonzero().flatten().tolist() == [25, 26, 27]


def test_an_indel_is_read_base_by_base_over_equally_many_bases() -> None:
    scorer, network = LikelihoodScorer(50, 20, "masked"), bases()
    variant = Variant("c", 27, "", "GG")
    site = Site(variant, variant)
    ref, alt, *_ = scorer.haplotypes(site)
    assert (ref.focus, alt.focus) == ((4, 38), (4, 38))
    assert len(network.rows(sequence_of(alt), alt)) == 34
    found = scored(scorer, network, variant)
    assert math.isnan(found["LLR"])
    assert found["N_TOKENS_REF"] == found["N_TOKENS_ALT"] == 34
    forward, reverse = (count_repeats(GENOME, variant, 20, 50, strand) for strand in "+-")
    assert found["FORWARD"] == pytest.approx(forward)
    assert found["LLR_INDEL"] == pytest.approx((forward + reverse) / 2)


def count_repeats(genome: str, variant: Variant, index: int, length: int, strand: str) -> float:
    """Work out the score of `LeftNeighbour` with strings: ln 2 for each base read that repeats the one before it."""
    start = variant.start - index
    n = max(len(variant.ref), len(variant.alt)) + 32
    totals = []
    for allele in (variant.ref, variant.alt):
        window = genome[start : variant.start] + allele + genome[variant.end :]
        window = window[:length]
        read = range(index - 16, index - 16 + n)
        if strand == "-":
            window = window.translate(str.maketrans("ACGT", "TGCA"))[::-1]
            read = range(length - read.stop, length - read.start)
        norm = math.log(N_IDS + 1)  # one id counts twice
        totals.append(sum(math.log(2) * (window[at] == window[at - 1]) - norm for at in read))
    return totals[1] - totals[0]


def test_swapped_roles_give_minus_the_score() -> None:
    for method, network in (("masked", bases()), ("causal", bases(OwnToken))):
        scorer = LikelihoodScorer(50, 25, method)  # type: ignore[arg-type]
        for variant in (
            Variant("c", 27, GENOME[27], "T"),
            Variant("c", 27, "", "CC"),
            Variant("c", 27, GENOME[27:29], ""),
        ):
            changed = GENOME[:27] + variant.alt + GENOME[variant.end :]
            there = scored(scorer, network, variant)
            back = scored(scorer, network, Variant("c", 27, variant.alt, variant.ref), changed)
            for name in ("LLR", "LLR_INDEL", "LL"):
                if name in there and not math.isnan(there[name]):
                    assert back[name] == pytest.approx(-there[name], abs=1e-12)


def test_a_causal_model_reads_both_strands_with_the_allele_at_one_place() -> None:
    scorer, network = LikelihoodScorer(20, 15, "causal"), bases(OwnToken, 20)
    variant = Variant("c", 27, GENOME[27], "T")
    haplotypes = scorer.haplotypes(Site(variant, variant))
    assert [(h.window.start, h.strand, h.focus) for h in haplotypes] == [
        (12, "+", (15, 16)), (12, "+", (15, 16)), (23, "-", (15, 16)), (23, "-", (15, 16)),
    ]  # fmt: skip
    found = scored(scorer, network, variant)
    expected = []
    for text, allele in ((GENOME[12:32], "T"), (flipped(GENOME[23:43]), "A")):
        alt = text[:15] + allele + text[16:]
        expected.append(repeats(alt[14:]) - repeats(text[14:]))
    assert found["FORWARD"] == pytest.approx(expected[0] * math.log(2))
    assert found["LL"] == pytest.approx(sum(expected) / 2 * math.log(2))
    assert found["N_TOKENS_REF"] == 5


def test_a_causal_model_reads_as_many_bases_of_an_allele_that_is_empty() -> None:
    scorer, network = LikelihoodScorer(20, 15, "causal"), bases(OwnToken, 20)
    for ref, alt in (("", "TT"), (GENOME[27:29], "")):
        left, right = normalise(Variant("c", 27, ref, alt), np.frombuffer(encode(GENOME), np.uint8))
        starts = [h.focus[0] for h in scorer.haplotypes(Site(left, right)) if h.focus]
        assert starts == [15, 15, 15, 15]
        found = scored(scorer, network, Variant("c", 27, ref, alt))
        assert found["N_TOKENS_REF"] == found["N_TOKENS_ALT"] == 5


def repeats(text: str) -> int:
    return sum(a == b for a, b in pairwise(text))


def flipped(text: str) -> str:
    return text.translate(str.maketrans("ACGT", "TGCA"))[::-1]


def test_only_tokens_that_differ_are_read_where_tokens_have_many_lengths() -> None:
    scorer = LikelihoodScorer(20, 10, "tokens", strands="forward")
    network = LanguageNetwork(LeftNeighbour(9), Pairs(), 20)
    genome = "C" * 25 + "ACG" + "C" * 25
    variant = Variant("c", 26, "C", "T")  # A C -> AT, one token
    ref, alt = scorer.haplotypes(Site(variant, variant))
    assert ref.window == alt.window
    n_read = [len(network.rows(sequence_of(h, genome), h)) for h in (ref, alt)]
    assert n_read == [2, 1]
    found = scored(scorer, network, variant, genome)
    assert (found["N_TOKENS_REF"], found["N_TOKENS_ALT"]) == (2, 1)
    # None of the three repeats the token on its left: each has ln 1/9... the left token takes 2 of 10 parts.
    assert found["PLL"] == pytest.approx(-math.log(1 / 10))


def test_embeddings_are_averaged_near_the_allele_and_compared() -> None:
    scorer = LikelihoodScorer(50, 25, "masked", strands="forward", embeds=True)
    found = scored(scorer, bases(), Variant("c", 27, GENOME[27], "T"))
    changed = encode("T")[0] - encode(GENOME[27])[0]
    # The own token, and the left one of its neighbour, over 50 tokens.
    assert found["L2"] == pytest.approx(abs(changed) / 50 * math.sqrt(2), rel=1e-5)
    assert 0 < found["COSINE"] < 0.1


def test_a_blank_is_filled_in_from_the_left_of_each_strand() -> None:
    scorer, network = LikelihoodScorer(50, 25, "masked", infills="both"), bases()
    variant = Variant("c", 26, GENOME[26:29], "CCC")
    alt = next(h for h in scorer.haplotypes(Site(variant, variant)) if h.reading == "filled" and h.variant)
    hidden = []
    for row in network.rows(sequence_of(alt), alt):
        ids, positions, _ = unpack(torch.tensor([list(row)], dtype=torch.uint8))
        hidden.append((positions.tolist()[0], (ids[0] == MASK).nonzero().flatten().tolist()))
    assert hidden == [([25], [25, 26, 27]), ([26], [26, 27]), ([27], [27])]
    found = scored(scorer, network, variant)
    # Every base is read after its left neighbour, own or not; where all are hidden at once, only the first one is.
    forward = repeats(GENOME[25] + "CCC") - repeats(GENOME[25:29])
    reverse = repeats("CCC" + GENOME[29]) - repeats(GENOME[26:30])
    assert (forward, reverse) == (1, 2)
    assert found["INFILL_FORWARD"] == pytest.approx(forward * math.log(2))
    assert found["INFILL_REVERSE"] == pytest.approx(reverse * math.log(2))
    assert found["INFILL"] == pytest.approx(1.5 * math.log(2))
    assert found["LLR"] == pytest.approx(0.5 * math.log(2))
    assert math.isnan(found["INFILL_INDEL"])


def test_a_blank_of_one_base_asks_for_the_rows_of_the_masked_score() -> None:
    scorer, network = LikelihoodScorer(50, 25, "masked", infills="both"), bases()
    variant = Variant("c", 27, GENOME[27], "T")
    rows = [row for h in scorer.haplotypes(Site(variant, variant)) for row in network.rows(sequence_of(h), h)]
    assert (len(rows), len(set(rows))) == (6, 2)
    found = scored(scorer, network, variant)
    assert [found[f"INFILL{end}"] for end in ("", "_FORWARD", "_REVERSE")] == [
        found[name] for name in ("LLR", "FORWARD", "REVERSE")
    ]


def test_an_indel_is_filled_in_over_the_bases_that_its_other_score_reads() -> None:
    scorer, network = LikelihoodScorer(50, 20, "masked", infills="both"), bases()
    variant = Variant("c", 27, "", "GG")
    alt = next(h for h in scorer.haplotypes(Site(variant, variant)) if h.reading == "filled" and h.variant)
    rows = network.rows(sequence_of(alt), alt)
    n_hidden = [
        int((unpack(torch.tensor([list(row)], dtype=torch.uint8))[0] == MASK).sum()) for row in (rows[0], rows[-1])
    ]
    assert (len(rows), n_hidden) == (34, [34, 1])
    found = scored(scorer, network, variant)
    # The left neighbour is there in either order.
    assert found["INFILL_INDEL"] == pytest.approx(found["LLR_INDEL"])
    assert math.isnan(found["INFILL"])


def test_only_tokens_that_differ_are_filled_in_where_tokens_have_many_lengths() -> None:
    scorer = LikelihoodScorer(20, 10, "tokens", strands="forward", infills="forward")
    network = LanguageNetwork(LeftNeighbour(9), Pairs(), 20)
    genome = "C" * 25 + "CAA" + "C" * 25
    variant = Variant("c", 27, "A", "T")  # C A A -> C AT
    filled = [h for h in scorer.haplotypes(Site(variant, variant)) if h.reading == "filled tokens"]
    assert [len(network.rows(sequence_of(h, genome), h)) for h in filled] == [2, 1]
    found = scored(scorer, network, variant, genome)
    # The second A stands right of the first, which is uncovered by then, as it is when they are hidden one by one.
    assert found["INFILL"] == pytest.approx(math.log(1 / 10) - math.log(1 / 10) - math.log(2 / 10))
    assert math.isnan(found["INFILL_REVERSE"])


def test_overlapping_tokens_are_filled_in_by_the_chain_rule() -> None:
    class Triplets(Bases):
        n_vocabulary = 125 + 1
        mask_id = 125

        def encode(self, sequence: bytes) -> Tokens:
            """Cut into all triplets."""
            codes = np.frombuffer(sequence, np.uint8).astype(np.int32)
            ids = codes[:-2] * 25 + codes[1:-1] * 5 + codes[2:]
            places = np.arange(len(ids), dtype=np.int32)
            return Tokens(ids, places, places + 3)

    class Overlapping(LeftNeighbour):
        def logits(self, hidden: Tensor) -> Tensor:
            """Likely are the triplets that agree with the one on the left, if it is not hidden."""
            left, number = hidden[..., 1:].long(), torch.arange(self.n_ids)
            agrees = (number // 5 == left % 25) & (number < 125) & (left < 125)
            return agrees.float() * 40

    network = LanguageNetwork(Overlapping(126), Triplets(), 50, block=3)
    scorer = LikelihoodScorer(50, 25, "masked", strands="forward", infills="forward")
    found = scored(scorer, network, Variant("c", 27, GENOME[27], "T"))
    # Once a triplet with the base stands, the other two have five choices each, as for the reference: nothing is left
    # of the difference, where hidden tokens all had the same chance.
    assert found["INFILL"] == pytest.approx(0, abs=1e-9)
    rows = [h for h in scorer.haplotypes(Site(*[Variant("c", 27, GENOME[27], "T")] * 2)) if h.reading == "filled"]
    assert len(network.rows(sequence_of(rows[0]), rows[0])) == 3


def test_a_model_of_fixed_frames_takes_no_indels() -> None:
    scorer = LikelihoodScorer(50, 25, "masked", takes_indels=False)
    assert scorer.supports == {VariantKind.SNV, VariantKind.MNV}
    assert "LLR_INDEL" not in [column.name for column in scorer.columns]


def test_unknown_tokens_are_counted() -> None:
    network = bases()
    variant = Variant("c", 2, GENOME[2], "C")
    for haplotype in LikelihoodScorer(50, 25, "masked").haplotypes(Site(variant, variant)):
        network.rows(sequence_of(haplotype), haplotype)
    assert (network.n_tokens, network.n_unknown) == (100, 46)
