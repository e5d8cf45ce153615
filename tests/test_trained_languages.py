"""Networks trained on real sequence find bases they have not seen likelier than others: sign and place are right."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from toys import needs_shared, run_toy
from trained_languages import held_out, model_of, trained_gpn, trained_hyenadna

SIGNIFICANT = 1e-6
N_PER_BASE = 75


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def p_of(name: str, folder: Path, moved_by: int = 0) -> float:
    """Test through the scores of the model whether true bases are likelier than the mean of the three others."""
    bases, places = held_out(N_PER_BASE)
    records = [("c", at + 1, bases[at], ",".join(base for base in "ACGT" if base != bases[at])) for at in places]
    found = run_toy(model_of(name, folder, moved_by), bases, records)
    assert all(toy.status == "OK" for toy in found) and len(found) == 3 * len(places)
    gains = -np.array([toy.scores[0] for toy in found]).reshape(-1, 3).mean(1)
    t = gains.mean() / gains.std(ddof=1) * math.sqrt(len(gains))
    return math.erfc(t / math.sqrt(2)) / 2


def holds(name: str, train: Callable[[Path, int], Path], folder: Path, n_steps: int) -> None:
    train(folder, n_steps)
    assert p_of(name, folder) < SIGNIFICANT
    for by in (1, -1):
        assert p_of(name, folder, by) > SIGNIFICANT


@needs_shared
def test_a_gpn_trained_for_seconds_finds_true_bases_likelier_at_their_own_place(
    tmp_path: Path, one_thread: None
) -> None:
    holds("gpn-brassicales", trained_gpn, tmp_path, 60)


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize(
    ("name", "train"), [("gpn-brassicales", trained_gpn), ("hyenadna-tiny-1k-seqlen", trained_hyenadna)]
)
def test_networks_trained_for_minutes_find_true_bases_likelier_at_their_own_place(
    name: str, train: Callable[[Path, int], Path], tmp_path: Path, one_thread: None
) -> None:
    holds(name, train, tmp_path, 600)
