"""Causal models run what sequences begin with once; the answers are those of one pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from small_languages import small_language
from toys import run_toy

from varfm.genome import encode
from varfm.models.language import LanguageNetwork
from varfm.scorers.likelihood import LikelihoodScorer

CAUSAL = ("dnagpt-0.1b-h", "dnagpt-0.1b-m", "hyenadna-tiny-1k-seqlen")
FIRST_LAYERS = {"dnagpt-0.1b-h": "h.0.attn.c_attn", "hyenadna-tiny-1k-seqlen": "layers.0.mixer.in_proj"}
BASES = "GATTACAGGTACCATGCAATTGCCGATAACGTTAGCATGCCTAGGATCCAATGCAAGT" * 6
every = pytest.mark.parametrize("name", CAUSAL)


def language(name: str) -> Any:
    network = small_language(name).network
    assert isinstance(network, LanguageNetwork)
    return network.network


def some_ids(n: int, n_tokens: int) -> torch.Tensor:
    """Give rows of which the first two, and the others, begin alike."""
    ids = torch.randint(7, 11, (n, n_tokens), generator=torch.Generator().manual_seed(3))
    ids[1, : n_tokens // 2] = ids[0, : n_tokens // 2]
    ids[3:, : n_tokens // 2] = ids[2, : n_tokens // 2]
    return ids


@every
@pytest.mark.parametrize("start", [1, 2, 3, 16, 32])
def test_hidden_states_are_those_of_one_pass(name: str, start: int) -> None:
    network, ids = language(name), some_ids(5, 33)
    expected = network.hidden(ids)[:, start:]
    found = network.hidden_from(ids, start)
    assert float((found - expected).abs().max()) <= 2e-5 * float(expected.abs().max())


@every
def test_hidden_states_in_double_precision_are_those_of_one_pass(name: str) -> None:
    ids = some_ids(4, 33)
    network = language(name).double()
    try:
        expected, found = network.hidden(ids)[:, 16:], network.hidden_from(ids, 16)
    finally:
        network.float()
    assert float((found - expected).abs().max()) <= 1e-12 * float(expected.abs().max())


@every
def test_a_row_is_answered_alike_alone_and_among_rows_that_begin_alike(name: str) -> None:
    network, ids = language(name), some_ids(5, 33)
    found = network.hidden_from(ids, 16)
    for number in range(5):
        assert torch.equal(network.hidden_from(ids[number : number + 1], 16)[0], found[number])
    order = [3, 0, 4, 2, 1]
    assert torch.equal(network.hidden_from(ids[order], 16), found[order])


@every
def test_a_first_position_of_0_has_nothing_before_it(name: str) -> None:
    network, ids = language(name), some_ids(4, 12)
    assert torch.equal(network.hidden_from(ids, 0), network.hidden(ids))


@pytest.mark.parametrize("name", sorted(FIRST_LAYERS))
@pytest.mark.parametrize("n_alts", [1, 3])
def test_all_alleles_of_a_site_share_what_stands_before_them(name: str, n_alts: int) -> None:
    model, at = small_language(name), 200
    scorer, network = model.scorer, model.network
    assert isinstance(scorer, LikelihoodScorer) and isinstance(network, LanguageNetwork)
    alts = ",".join([base for base in "ACGT" if base != BASES[at]][:n_alts])

    def n_run(alt: str) -> int:
        record = ("c", at + 1, BASES[at], alt)
        return tokens_through(network, FIRST_LAYERS[name], lambda: run_toy(model, BASES, [record]))

    encoded = network.tokenizer.encode(encode(BASES[: scorer.length]))
    n_tokens = len(encoded.ids)
    # The token before the allele predicts it, and so is read anew.
    n_shared = int(encoded.touching(scorer.index, scorer.index + 1)[0]) - 1
    n_found = n_run(alts) - n_run(BASES[at])  # before the first record, batches are tried
    assert n_found == 2 * (n_shared + (1 + n_alts) * (n_tokens - n_shared))
    assert n_found < (0.8 if n_alts == 1 else 0.7) * 2 * (1 + n_alts) * n_tokens


def tokens_through(network: LanguageNetwork, layer: str, run: Callable[[], object]) -> int:
    """Count the tokens that pass a layer."""
    counts: list[int] = []
    [module] = [module for key, module in network.named_modules() if key.endswith(layer)]
    handle = module.register_forward_hook(lambda _, inputs, output: counts.append(inputs[0].shape[1]))
    try:
        run()
    finally:
        handle.remove()
    return sum(counts)
