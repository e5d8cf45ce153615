"""DNAGPT: sizes, causality, loading, scores. That its answers are upstream's is for `tests/parity`."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from toys import one, run_toy

from varfm.checkpoints import Checkpoint, LocalWeights
from varfm.errors import ModelError, OptionError
from varfm.genome import encode, reverse_complement
from varfm.models import ModelOptions
from varfm.models.dnagpt import DnaGpt, DnaGptConfig, build, config_of, convert, network_of, tokenizer_of
from varfm.models.loading import loaded
from varfm.protocols import Model
from varfm.readers import Tensors

SMALL = DnaGptConfig(max_tokens=40, width=12, n_layers=2, n_heads=3, k=3, shortest=3)
WIDE = DnaGptConfig(max_tokens=40, n_layers=1, k=4, shortest=4)
HUMAN = Checkpoint(
    name="dna_gpt0.1b_h",
    module="dnagpt",
    variant="0.1b_h",
    licence="PolyForm-Noncommercial-1.0.0",
    commercial=False,
    paper="",
    source="",
    assembly="",
    window=3_060,
    index=1_530,
    reads="",
    scores="",
    strands="",
    likelihood="causal",
)
PATH = Path("weights.pth")
_RANDOM = "".join(np.random.RandomState(3).choice(list("ACGT"), 240))
BASES = f"{_RANDOM[:120]}CTAGC{_RANDOM[125:]}"
"""Alleles at base 120 can be written in one way only."""


def tensors_of(config: DnaGptConfig) -> dict[str, NDArray[Any]]:
    """Give what an authors' file holds."""
    torch.manual_seed(0)
    width = config.width
    numbers = {
        "number_embedding.0.weight": np.ones((width, 1), np.float32),
        "num_regression.3.weight": np.ones((1, width), np.float32),
    }
    return {name: value.numpy().copy() for name, value in DnaGpt(config).state_dict().items()} | numbers


def written(config: DnaGptConfig, folder: Path) -> LocalWeights:
    """Write an authors' file, and the sizes beside it."""
    path, sizes = folder / "weights.pth", folder / "config.json"
    torch.save({"model": {name: torch.from_numpy(value) for name, value in tensors_of(config).items()}}, path)
    sizes.write_text(json.dumps(asdict(config)))
    return LocalWeights(path, "", published=False, config=sizes)


@pytest.fixture(params=[SMALL, WIDE], ids=["small", "published_width"])
def network(request: pytest.FixtureRequest, tmp_path: Path) -> DnaGpt:
    config = request.param
    weights = written(config, tmp_path)
    return loaded(lambda: network_of(config), weights, lambda tensors, path: convert(tensors, config, path))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return build(HUMAN, written(SMALL, tmp_path), ModelOptions(window=96))


def ids(n: int, n_tokens: int) -> Tensor:
    return torch.randint(34, 150, (n, n_tokens), generator=torch.Generator().manual_seed(n_tokens))


@pytest.mark.parametrize(
    ("variant", "millions"), [("0.1b_h", "113.925120"), ("0.1b_m", "117.170688"), ("3b_m", "3113.9")]
)
def test_published_networks_have_as_many_parameters_as_upstream(variant: str, millions: str) -> None:
    config = config_of(replace(HUMAN, variant=variant))
    with torch.device("meta"):
        found = sum(value.numel() for value in network_of(config).parameters())
    for_numbers = 2 * (config.width * config.width + 2 * config.width)
    assert f"{(found + for_numbers) / 1e6:.6f}".startswith(millions)


def test_tensors_have_the_published_names_and_shapes() -> None:
    with torch.device("meta"):
        shapes = {name: tuple(value.shape) for name, value in DnaGpt(DnaGptConfig()).state_dict().items()}
    expected = {
        "transformer.wte.weight": (15_659, 768),
        "transformer.wpe.weight": (4_096, 768),
        "transformer.h.11.attn.c_attn.weight": (2_304, 768),
        "transformer.h.11.attn.c_proj.weight": (768, 768),
        "transformer.h.11.mlp.c_fc.weight": (3_072, 768),
        "transformer.h.11.mlp.c_proj.weight": (768, 3_072),
        "transformer.h.11.ln_1.weight": (768,),
        "transformer.h.11.ln_2.weight": (768,),
        "transformer.ln_f.weight": (768,),
        "mlm_head.0.weight": (768, 768),
        "mlm_head.2.weight": (768,),
        "mlm_head.3.weight": (15_659, 768),
    }
    assert {name: shapes[name] for name in expected} == expected
    assert len(shapes) == 2 + 12 * 6 + 4


def test_later_tokens_do_not_change_earlier_states(network: DnaGpt) -> None:
    given = ids(1, 30)
    other = given.clone()
    other[:, 20:] = 34 + (given[:, 20:] - 33) % 100
    found, changed = network.hidden(given), network.hidden(other)
    torch.testing.assert_close(found[:, :20], changed[:, :20], rtol=1e-5, atol=1e-5)
    assert ((found - changed)[:, 20:].abs().amax(-1) > 1e-3).all()


def test_a_sequence_that_is_too_long_is_refused(network: DnaGpt) -> None:
    assert network.hidden(ids(1, 40)).shape == (1, 40, network.config.width)
    with pytest.raises(ModelError, match="41 tokens"):
        network.hidden(ids(1, 41))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_a_row_has_the_same_answer_in_any_place_and_company(network: DnaGpt, n_threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        row, others = ids(1, 33), ids(6, 33)
        answers = []
        for place in range(4):
            hidden = network.hidden(torch.cat([others[place : place + place], row, others[: 3 - place]]))
            answers.append((hidden[place], network.logits(hidden[:, 15:32])[place]))
        for hidden, logits in answers[1:]:
            assert torch.equal(hidden, answers[0][0]) and torch.equal(logits, answers[0][1])
    finally:
        torch.set_num_threads(before)


def test_after_loading_nothing_is_on_meta(network: DnaGpt) -> None:
    for name, value in [*network.named_parameters(), *network.named_buffers()]:
        assert value.device.type == "cpu" and value.dtype == torch.float32, name


def taken(tensors: dict[str, NDArray[Any]], config: DnaGptConfig = SMALL) -> set[str]:
    return set(convert(Tensors(PATH, tensors), config, PATH))


def test_parts_for_numbers_may_be_there_or_not() -> None:
    tensors = tensors_of(SMALL)
    without = {name: value for name, value in tensors.items() if not name.startswith("num")}
    assert len(tensors) == len(without) + 2
    assert taken(tensors) == taken(without) == set(without)


def test_a_tensor_that_belongs_to_nothing_is_named() -> None:
    with pytest.raises(ModelError, match=r"lm_head\.weight"):
        taken(tensors_of(SMALL) | {"lm_head.weight": np.zeros(3, np.float32)})


def test_a_tensor_that_is_missing_is_named() -> None:
    tensors = tensors_of(SMALL)
    del tensors["mlm_head.2.weight"]
    with pytest.raises(ModelError, match=r"mlm_head\.2\.weight"):
        taken(tensors)


def test_the_file_of_another_vocabulary_is_refused() -> None:
    with pytest.raises(ModelError, match=r"transformer\.wte\.weight.*shape \(159, 12\), expected \(189, 12\)"):
        taken(tensors_of(SMALL), replace(SMALL, shortest=1))


@pytest.mark.parametrize(("name", "value"), [("width", 0), ("n_heads", 5), ("shortest", 4), ("k", 9)])
def test_sizes_that_cannot_be_are_refused(name: str, value: int) -> None:
    with pytest.raises(ModelError):
        replace(SMALL, **{name: value})


def log_probability(network: DnaGpt, letters: str) -> float:
    """Sum over all tokens of the window, as the score is defined."""
    given = torch.from_numpy(tokenizer_of(network.config).encode(encode(letters)).ids).long()[None]
    logits = network(given).double()[0, :-1]
    return float(logits.log_softmax(-1).gather(1, given[0, 1:, None]).sum())


def reversed_letters(letters: str) -> str:
    return "".join("ACGTN"[code] for code in reverse_complement(encode(letters)))


@pytest.mark.parametrize(("ref_length", "alt"), [(1, "?"), (1, "?GA"), (4, "?")])
def test_scores_are_the_mean_difference_of_log_probabilities_of_windows(
    model: Model, ref_length: int, alt: str
) -> None:
    at = 120
    if len(alt) == ref_length:
        alt, n_kept = "ACGT"[BASES[at] == "A"], 0
    else:  # the base before an insertion or a deletion stays
        alt, n_kept = alt.replace("?", BASES[at]), 1
    ref = BASES[at : at + ref_length]
    found = one(run_toy(model, BASES, [("c", at + 1, ref, alt)]))
    changed = BASES[:at] + alt + BASES[at + ref_length :]
    expected = []
    for one_strand, other, start in (
        (BASES, changed, at + n_kept),
        (reversed_letters(BASES), reversed_letters(changed), len(BASES) - at - ref_length),
    ):
        windows = (letters[start - 48 : start + 48] for letters in (one_strand, other))
        before, after = (log_probability(model.network.network, window) for window in windows)  # type: ignore
        expected.append(after - before)
    names = [column.name for column in model.scorer.columns]
    scores = dict(zip(names, found.scores, strict=True))
    assert [scores["FORWARD"], scores["REVERSE"]] == pytest.approx(expected, abs=1e-4)
    assert scores["LL"] == pytest.approx(np.mean(expected), abs=1e-4) and abs(scores["LL"]) > 1e-3
    assert scores["N_TOKENS_REF"] == scores["N_TOKENS_ALT"] == 16


@pytest.mark.parametrize(("window", "is_read"), [(96, True), (114, True), (120, False), (99, False), (97, False)])
def test_windows_have_whole_tokens_on_both_sides_of_the_allele(window: int, is_read: bool, tmp_path: Path) -> None:
    weights, options = written(SMALL, tmp_path), ModelOptions(window=window)
    if is_read:
        model = build(HUMAN, weights, options)
        assert model.scorer.index == window // 2  # type: ignore[attr-defined]
        return
    with pytest.raises(OptionError, match="up to 117 bases, a multiple of 6"):
        build(HUMAN, weights, options)
