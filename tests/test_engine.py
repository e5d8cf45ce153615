"""The engine: scores worked out by hand, every status that depends on a model, genes, and what is run how often."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from toys import (
    PointNet,
    binned_model,
    both_strands,
    column,
    gene,
    one,
    point_model,
    point_sum,
    run_toy,
    tss_model,
    write_fasta,
)

from varfm.engine import Engine
from varfm.errors import OptionError
from varfm.genome import Genome
from varfm.plan import make_plan
from varfm.protocols import Model
from varfm.scorers.placement import Centred
from varfm.scorers.tracks import TrackScore, TrackScorer
from varfm.variants import VariantKind

GENOME = "ACGTTGCAACGGATTCAGCT" * 3
MIDDLE = 30  # GENOME[26:35] is CAACGGATT, the window of place 30


def test_an_snv_scores_its_place_in_the_window_on_both_strands() -> None:
    model = point_model()
    assert GENOME[26:35] == "CAACGGATT"
    found = one(run_toy(model, GENOME, [("c", 31, "G", "T")]))
    # G to T is 8 - 4 at place 5 (25), C to A is 1 - 2: (100 - 25) / 2; one G less forward.
    assert found.scores == (37.5, -0.5)
    assert found.status == "OK"


def test_a_deletion_is_scored_against_what_follows_it() -> None:
    found = one(run_toy(point_model(), GENOME, [("c", 33, "AT", "A")]))  # a T of TT at 33, 34 goes
    ref, alt = GENOME[29:38], GENOME[29:33] + GENOME[34:39]
    assert found.scores[0] == both_strands(alt) - both_strands(ref)
    assert found.scores[0] != 0


def test_forward_strand_alone_can_be_asked_for() -> None:
    found = one(run_toy(point_model(strands="forward"), GENOME, [("c", 31, "G", "T")]))
    assert found.scores == (100.0, -1.0)


def test_compensate_averages_the_scores_of_two_pairs() -> None:
    assert GENOME[30:32] == "GG"
    found = one(run_toy(point_model(indel_mode="compensate"), GENOME, [("c", 31, "GG", "G")]))
    left = both_strands(GENOME[26:30] + GENOME[31:36]) - both_strands(GENOME[26:35])
    # Right-fixed: the deleted G is the last of the two, bases 32 to 35 stay, one more comes in on the left.
    right = both_strands(GENOME[26:31] + GENOME[32:36]) - both_strands(GENOME[27:36])
    assert left != right
    assert found.scores[0] == (left + right) / 2


def test_compensate_leaves_equal_lengths_alone() -> None:
    records = [("c", 31, "G", "T"), ("c", 31, "GG", "TC")]
    anchored = run_toy(point_model(), GENOME, records)
    assert run_toy(point_model(indel_mode="compensate"), GENOME, records) == anchored


def test_bins_of_the_other_strand_are_turned_back() -> None:
    found = one(run_toy(binned_model(), GENOME, [("c", 31, "G", "T")]))
    # Window 25..36 in bins of 3: place 30 is the third of bin 1, its neighbours stay.
    assert [value != 0 for value in found.scores] == [True, False, True, False, False]


def test_a_gene_reads_the_window_on_its_strand() -> None:
    genes = [gene(31, "+", "p"), gene(31, "-", "m")]
    found = run_toy(tss_model(), GENOME, [("c", 31, "G", "T")], genes=genes)
    # + reads 24..35, place 30 is its 7th; - reads 38..27, place 30 is its 9th, where C becomes A.
    assert {toy.gene: toy.scores for toy in found} == {"p": (4.0 * 49,), "m": (-1.0 * 81,)}


# --- statuses that depend on the model -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref_bases", "alt", "status"),
    [
        (5, "A", "OK"),  # 4 deleted bases, L - 1 - i = 4
        (6, "A", "TOO_LONG"),
        (1, "A" + "CCCC", "OK"),
        (1, "A" + "CCCCC", "TOO_LONG"),
        (4, "CCGT", "OK"),
        (5, "CCGTC", "TOO_LONG"),
    ],
)
def test_the_longer_trimmed_allele_may_have_all_bases_right_of_the_index_but_one(
    ref_bases: int, alt: str, status: str
) -> None:
    start = 27
    ref = GENOME[start : start + ref_bases]
    assert ref.startswith("AACGGA"[:ref_bases])
    found = one(run_toy(point_model(), GENOME, [("c", start + 1, ref, alt)]))
    assert found.status == status


@pytest.mark.parametrize(
    ("bases", "pos", "status"),
    [
        ("ACGTACGTACGT", 5, "OK"),
        ("ACGTACGTACGT", 4, "PADDED"),
        ("ACGTACGTACGT", 1, "PADDED"),  # 4 of 9 are outside
        ("ACNTACGTACGT", 1, "N_HEAVY"),  # 5 of 9
        ("ACGTACGTACGT", 8, "OK"),
        ("ACGTACGTACGT", 9, "PADDED"),
        ("NNNNACGTNNACG", 5, "N_HEAVY"),  # 4 left and 1 right: 5 of 9
        ("NNNNACGTANACG", 5, "OK"),  # 4 of 9
    ],
)
def test_windows_with_more_n_than_bases_are_not_scored(bases: str, pos: int, status: str) -> None:
    ref = bases[pos - 1]
    found = one(run_toy(point_model(), bases, [("c", pos, ref, "A" if ref != "A" else "C")]))
    assert found.status == status


def test_half_n_is_not_more_than_half() -> None:
    model = point_model(10, 4)
    assert one(run_toy(model, "NNNNACGTANACG", [("c", 5, "A", "G")])).status == "OK"
    assert one(run_toy(model, "NNNNACNTANACG", [("c", 5, "A", "G")])).status == "N_HEAVY"


def test_an_alternate_window_that_leaves_the_contig_is_padded() -> None:
    bases = "ACGTACGTACGT"
    # The reference window of a deletion at 7 ends with the contig; the alternate one needs a base more.
    assert one(run_toy(point_model(), bases, [("c", 7, "GT", "G")])).status == "PADDED"
    assert one(run_toy(point_model(), bases, [("c", 7, "G", "GT")])).status == "OK"


def test_an_alternate_window_with_more_n_than_bases_is_not_scored() -> None:
    bases = "ACGGTCCGA" + "N" * 12
    assert one(run_toy(point_model(), bases, [("c", 6, "C", "T")])).status == "OK"  # 1 of 9
    assert one(run_toy(point_model(), bases, [("c", 5, "TCCG", "T")])).status == "OK"  # 4 of 9
    assert one(run_toy(point_model(), bases, [("c", 5, "TCCGA", "T")])).status == "N_HEAVY"  # 5 of 9


def test_without_a_gene_in_reach_there_is_no_score_whatever_the_length() -> None:
    records = [("c", 31, "G", "T"), ("c", 31, GENOME[30:50], "G")]
    assert [toy.status for toy in run_toy(tss_model(), GENOME, records, genes=[gene(3)])] == ["NO_GENE"] * 2
    assert [toy.status for toy in run_toy(tss_model(), GENOME, records, genes=[gene(31)])] == ["OK", "TOO_LONG"]


@dataclass(frozen=True, slots=True)
class SnvsOnly(TrackScorer):
    """A scorer whose model cannot take indels."""

    supports = frozenset({VariantKind.SNV})


def test_a_kind_that_a_model_cannot_take_has_its_status_before_its_length() -> None:
    scorer = SnvsOnly(Centred(9, 4), (TrackScore(column("sum"), (0,)),))
    model = Model("toy-snv", PointNet(9), scorer, batch_rows=(4, 4))
    records = [("c", 31, "G", "T"), ("c", 31, "GG", "TC"), ("c", 31, "G", "GTTTTTTT"), ("c", 31, "G", "G")]
    found = run_toy(model, GENOME, records)
    assert [toy.status for toy in found] == ["OK", "UNSUPPORTED_KIND", "UNSUPPORTED_KIND", "OK"]


class Broken(PointNet):
    """Gives NaN or inf where the first base of the window is T."""

    def __init__(self, *wrong: float) -> None:
        super().__init__(9)
        self.wrong = wrong

    def forward(self, batch: Tensor) -> Tensor:
        answers = super().forward(batch)
        return torch.where((batch[:, :1] == 3), torch.tensor([self.wrong]), answers)


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        ((float("nan"), 1.0), "NAN"),
        ((float("nan"), float("nan")), "NAN"),
        ((float("inf"), float("inf")), "NAN"),
        ((float("inf"), 1.0), "OK"),
    ],
)
def test_nan_in_an_answer_or_no_finite_column_is_no_score(wrong: tuple[float, ...], status: str) -> None:
    scores = (TrackScore(column("sum"), (0,)), TrackScore(column("n_g"), (1,)))
    scorer = TrackScorer(Centred(9, 4, "forward"), scores)
    model = Model("broken", Broken(*wrong), scorer, batch_rows=(4, 4))
    bases = "GGGG" + "TACGTACGTA" + "GGGG"
    found = run_toy(model, bases, [("c", 9, bases[8], "G"), ("c", 10, bases[9], "G")])
    assert [toy.status for toy in found] == [status, "OK"]


# --- genes ---------------------------------------------------------------------------------------------------------


def test_sites_of_an_allele_come_in_order_of_tss_and_info_shows_the_largest(tmp_path: Path) -> None:
    genes = [gene(33, "-", "c"), gene(29, "+", "a"), gene(31, "+", "b")]
    found = run_toy(tss_model(), GENOME, [("c", 31, "G", "T")], genes=genes)
    assert [toy.gene for toy in found] == ["a", "b", "c"]
    sizes = [abs(toy.scores[0]) for toy in found]
    assert sizes[0] > sizes[1] > sizes[2]


def test_a_model_that_needs_genes_says_so(tmp_path: Path) -> None:
    model = tss_model()
    with (
        Genome(write_fasta(tmp_path, {"c": GENOME}), tmp_path / "cache") as genome,
        pytest.raises(OptionError, match="--genes"),
    ):
        Engine(model, make_plan([model], device="cpu"), genome)


def test_a_zero_for_no_change_stands_in_its_place_among_scores() -> None:
    records = [("c", 31, "G", "T"), ("c", 31, "G", "G"), ("c", 31, "G", "T,G,A")]
    found = run_toy(point_model(), GENOME, records)
    assert [(toy.record, toy.number) for toy in found] == [(0, 0), (1, 0), (2, 0), (2, 1), (2, 2)]
    assert [toy.scores == (0.0, 0.0) for toy in found] == [False, True, False, True, False]


def test_many_waves_keep_the_order() -> None:
    records = [("c", pos, GENOME[pos - 1], "A" if GENOME[pos - 1] != "A" else "C") for pos in range(1, 61)] * 3
    model = point_model(rows=1)
    found = run_toy(model, GENOME, records)
    assert [toy.record for toy in found] == list(range(180))
    assert found[60][2:] == found[0][2:]
    window = GENOME[9:18]
    changed = window[:4] + ("A" if window[4] != "A" else "C") + window[5:]
    assert found[13].scores[0] == both_strands(changed) - both_strands(window)
    assert point_sum("A") == 1.0
