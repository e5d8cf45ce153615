"""Tests of the packaged network: its file, what it reads and what it has learnt."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from varfm.models.mini import FACTORS, MiniNet
from varfm.variants import Variant
from varfm.windows import Haplotype, Window

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "varfm" / "models" / "data"
WEIGHTS = DATA / "mini.safetensors"
SHA256 = "68f7c3922ad55658f58cb1fc26555e60679d06fafb7ec32b2ab50b2ec51bbd1e"
SHARED = ROOT.parent / "shared" / "data"
TRAINING = ROOT / "training"

# The most frequent base of each column of JASPAR MA0139.1, and a site with the core of PU.1; FLANK matches neither.
CTCF_SITE = "TGGCCACCAGGGGGCGCTA"
CTCF_SHUFFLED = "TGCGGCCAGGGGGCCACTA"  # the same dinucleotides in another order
PU1_SITE = "AAAAAGAGGAAGTGA"
FLANK = "TCATTGACTTACAGTCATGTTCATATCTGTTCATGACTTACA"


@pytest.fixture(scope="module")
def net() -> MiniNet:
    network = MiniNet()
    network.load_state_dict(load_file(WEIGHTS), strict=True)
    return network.eval()


def codes(*sequences: str) -> torch.Tensor:
    return torch.tensor([["ACGTN".index(base) for base in sequence] for sequence in sequences], dtype=torch.uint8)


def other_strand(sequence: str) -> str:
    return sequence[::-1].translate(str.maketrans("ACGT", "TGCA"))


def centred(site: str) -> str:
    left = (99 - len(site)) // 2
    return (FLANK[:left] + site + FLANK[::-1])[:99].ljust(99, "T")


def strand_mean(network: MiniNet, sequence: str) -> torch.Tensor:
    with torch.no_grad():
        return network(codes(sequence, other_strand(sequence))).mean(dim=0)


def pairs(sequence: str) -> list[str]:
    return sorted(sequence[i : i + 2] for i in range(len(sequence) - 1))


def test_file_is_the_one_that_the_card_and_the_quantiles_describe() -> None:
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() == SHA256
    assert json.loads((DATA / "mini_quantiles.json").read_text())["weights_sha256"] == SHA256
    assert SHA256 in (DATA / "mini_card.md").read_text()


def test_file_is_float32_below_500_kilobytes_and_says_what_it_was_made_from() -> None:
    assert WEIGHTS.stat().st_size < 500_000
    assert {tensor.dtype for tensor in load_file(WEIGHTS).values()} == {torch.float32}
    with safe_open(WEIGHTS, "pt") as file:
        metadata = file.metadata()
    assert metadata["script"] == "training/train_mini.py"
    assert metadata["seed"].isdecimal()
    digest = "29f74f5096f3d6e71125c3b34eabb88d72e422fefeac55c9763b4e588132c4d5"
    assert metadata["sha256 ctcf_100bp.fa.gz"] == digest
    assert not any("chr20" in key for key in metadata)


def test_network_gives_two_finite_logits_per_window_whatever_the_batch(net: MiniNet) -> None:
    batch = torch.from_numpy(np.random.default_rng(3).integers(0, 5, (7, 99), dtype=np.uint8))
    with torch.no_grad():
        together = net(batch)
        apart = torch.cat([net(row[None]) for row in batch])
    assert together.shape == (7, len(FACTORS))
    assert together.dtype == torch.float32
    assert together.isfinite().all()
    assert torch.allclose(together, apart, atol=1e-5)


def test_network_gives_the_same_answer_twice_since_nothing_drops_out(net: MiniNet) -> None:
    batch = codes(centred(CTCF_SITE))
    assert torch.equal(net(batch), net(batch))


def test_window_of_nothing_but_n_is_bound_by_neither_factor(net: MiniNet) -> None:
    logits = strand_mean(net, "N" * 99)
    assert logits.isfinite().all()
    assert (logits < 0).all()


def test_flanks_of_n_leave_a_site_bound(net: MiniNet) -> None:
    whole = centred(CTCF_SITE)
    assert strand_mean(net, "N" * 20 + whole[20:79] + "N" * 20)[0] > 0


def test_consensus_of_ctcf_is_bound_and_its_shuffle_is_not(net: MiniNet) -> None:
    assert pairs(CTCF_SITE) == pairs(CTCF_SHUFFLED)
    site, shuffled = strand_mean(net, centred(CTCF_SITE)), strand_mean(net, centred(CTCF_SHUFFLED))
    assert site[0] > 2
    assert shuffled[0] < 0
    assert site[0] - shuffled[0] > 4
    assert site[1] < 0


def test_consensus_of_pu1_is_bound_by_pu1_alone(net: MiniNet) -> None:
    logits = strand_mean(net, centred(PU1_SITE))
    assert logits[1] > 1
    assert logits[0] < 0


def test_base_that_breaks_the_ctcf_site_costs_more_than_one_beside_it(net: MiniNet) -> None:
    whole = centred(CTCF_SITE)
    site = whole.index(CTCF_SITE)
    core = site + CTCF_SITE.index("GGGGGC") + 1
    broken = whole[:core] + "T" + whole[core + 1 :]
    beside = whole[:5] + ("A" if whole[5] != "A" else "C") + whole[6:]
    reference = strand_mean(net, whole)[0]
    assert strand_mean(net, broken)[0] - reference < -2
    assert abs(strand_mean(net, beside)[0] - reference) < 1


def test_forward_is_traceable_and_the_trace_gives_the_same_logits(net: MiniNet) -> None:
    traced = torch.fx.symbolic_trace(net)
    batch = codes(centred(CTCF_SITE), centred(PU1_SITE), "N" * 99)
    assert torch.equal(traced(batch), net(batch))


def test_rows_are_the_window_itself_and_another_length_is_refused() -> None:
    haplotype = Haplotype(Window("1", 100, 199), Variant("1", 149, b"A", b"C"))
    network = MiniNet()
    assert network.rows(bytes(99), haplotype) == [bytes(99)]
    with pytest.raises(ValueError, match="99 bases"):
        network.rows(bytes(98), haplotype)


def test_quantiles_ascend_and_lie_about_zero() -> None:
    measured = json.loads((DATA / "mini_quantiles.json").read_text())
    assert list(measured["scores"]) == list(FACTORS)
    for values in measured["scores"].values():
        assert list(values) == ["1", "5", "25", "50", "75", "95", "99"]
        ordered = list(values.values())
        assert ordered == sorted(ordered)
        assert ordered[0] < 0 < ordered[-1]


def test_shuffles_keep_every_dinucleotide_and_draw_all_orders_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TRAINING)
    from mini_data import encode, shuffle_dinucleotides

    # ACAGACTA has four A>?A rounds (C, G, CT); its walks from A to A with the same steps are these six.
    walks = {"ACAGACTA", "ACACTAGA", "AGACACTA", "AGACTACA", "ACTACAGA", "ACTAGACA"}
    shuffled = shuffle_dinucleotides(np.repeat(encode("ACAGACTA")[None], 6000, axis=0), np.random.default_rng(0))
    found, counts = np.unique(["".join("ACGT"[code] for code in row) for row in shuffled], return_counts=True)
    assert set(found) == walks
    assert counts.min() > 880  # 1,000 expected, standard deviation 29


def test_best_match_finds_the_site_on_either_strand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TRAINING)
    from mini_data import encode
    from mini_matrix import MATRIX, best_match, read_matrix

    matrix = read_matrix(MATRIX)
    whole = centred(CTCF_SITE)
    assert matrix.shape == (4, 19)
    assert best_match(matrix, encode(whole)) == 40
    assert best_match(matrix, encode(other_strand(whole))) == 99 - 40 - 19


def test_area_under_the_curve_counts_ties_half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TRAINING)
    from mini_scores import auroc

    # Of the six pairs, bound is higher in 3 and equal in 1.
    assert auroc(np.array([2.0, 1.0]), np.array([0.0, 1.0, 3.0])) == pytest.approx(3.5 / 6)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder ../shared/data is not here")
def test_card_holds_on_sequence_that_training_never_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TRAINING)
    from evaluate_mini import measure

    figures = measure(WEIGHTS, SHARED)
    assert figures.auroc["CTCF"].both >= 0.985
    assert figures.auroc["PU1"].both >= 0.98
    assert figures.losses.n_first == 100
    assert figures.losses.inside_of_first >= 90
    assert all(calibration.error < 0.03 for calibration in figures.calibration.values())
    packaged = json.loads((DATA / "mini_quantiles.json").read_text())
    assert figures.effects.n == packaged["n"]
    for name, values in figures.effects.scores.items():
        assert values == pytest.approx(packaged["scores"][name], abs=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder ../shared/data is not here")
def test_strongest_positions_of_mutated_peaks_lie_in_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TRAINING)
    from ism_peaks import RULES, measure

    figures = measure(SHARED)
    assert figures.status.keys() <= {"OK", "PADDED"} and sum(figures.status.values()) == 30_000
    for rule in RULES:
        assert sum(figures.inside[rule].values()) == 100
        assert figures.inside[rule][5] >= 85


def test_strongest_positions_are_those_with_the_tallest_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TRAINING)
    import pandas as pd
    from ism_peaks import RULES, strongest

    scores = {1: (0, 0, 0), 2: (3, 3, 3), 3: (0, 0, -8), 4: (-4, -4, -4), 5: (1, 1, 1), 6: (0, 0, -3), 7: (1, -1, 0)}
    table = pd.DataFrame(
        [(place, score) for place, three in scores.items() for score in three], columns=["pos", "CTCF"]
    )
    found = strongest(table)
    assert found[RULES[0]].tolist() == [3, 1, 2, 4, 5]
    assert found[RULES[1]].tolist() == [2, 3, 5, 6, 0]
