"""PhyloGPN: sizes, files, strands, scores. That its answers are upstream's is for `tests/parity`."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_languages import SMALL, small_language, write_published
from toys import one, run_toy

from varfm.download import RemoteFile, fetch
from varfm.errors import ModelError, OptionError
from varfm.genome import encode
from varfm.https import Transport
from varfm.models import ModelOptions, catalog, load
from varfm.models.loading import filled
from varfm.models.phylogpn import CHARACTERS, PhyloGpn, PhyloGpnConfig, convert, network_of
from varfm.readers import Tensors, read_tensors

PATH = Path("config.json")
JSON = SMALL["phylogpn"].config
BASES = "GATTACAGGTACCATGCAATTGCCGATAACGTTAGCATGCCTAGGATCCAATGCAAGT" * 8


def language() -> PhyloGpn:
    network: Any = small_language("phylogpn").network
    found: PhyloGpn = network.network
    return found


def some_ids(n: int, length: int) -> torch.Tensor:
    return torch.randint(0, 5, (n, length), generator=torch.Generator().manual_seed(2))


def test_the_published_network_has_its_parameters_and_reads_481_bases() -> None:
    with torch.device("meta"):
        network = network_of(PhyloGpnConfig.from_json({"model_type": "phylogpn"}, PATH))
    assert sum(value.numel() for value in network.parameters()) == catalog.get("phylogpn").parameters == 83_185_924
    assert 2 * network.flank + 1 == 481
    assert [block.conv2.dilation for block in network.blocks][:3] == [(1,), (5,), (1,)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "GPN"}, "model_type is 'GPN'"),
        ({"outer_dim": 15}, "must be even"),
        ({"kernel_size": 4}, "its kernel odd"),
        ({"stack_size": 9}, "dilations 10,000 at most"),
        ({"num_stacks": 0}, "num_stacks is 0"),
        ({"num_stacks": 100_000}, "num_stacks is 100000, expected a whole number from 1 to 1,000"),
        ({"num_stacks": 900, "stack_size": 2}, "blocks of PhyloGPN must be 1,000 at most"),
        ({"n_layers": 3}, "n_layers: not known"),
    ],
    ids=str,
)
def test_a_file_of_another_network_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        PhyloGpnConfig.from_json(JSON | change, PATH)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("_model.output_conv.weight", np.zeros((4, 16, 1), np.float32), "belong to no part"),
        ("_model.output_conv.parametrizations.bias.original", None, "output_conv.parametrizations.bias"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(name: str, values: Any, message: str, tmp_path: Path) -> None:
    tensors = dict(read_tensors(write_published("phylogpn", SMALL["phylogpn"], tmp_path)).items())
    tensors.pop(name, None)
    if values is not None:
        tensors[name] = values
    config = PhyloGpnConfig.from_json(JSON, PATH)
    with pytest.raises(ModelError, match=message):
        convert(Tensors(PATH, tensors), config, PATH)


def test_nothing_is_left_on_meta_after_loading() -> None:
    assert not [key for key, value in language().state_dict().items() if value.is_meta]


def test_both_strands_are_read_alike_where_norms_are() -> None:
    network, ids = copy.deepcopy(language()), some_ids(2, 40)
    for name, value in network.named_parameters():
        if "norm" in name:
            value.copy_((value + value.flip(0)) / 2)
    opposite = torch.tensor([3, 2, 1, 0, 4])[ids.flip(1)]
    torch.testing.assert_close(network(opposite), network(ids).flip(1, 2), rtol=0, atol=1e-5)
    assert (network(ids) - network(ids).flip(1, 2)).abs().max() > 0.1


def test_positions_alone_are_answered_as_in_the_whole() -> None:
    network, ids = language(), some_ids(3, 40)
    positions = torch.arange(17, 20).expand(3, 3)
    expected = network.hidden(ids)[:, 17:20]
    torch.testing.assert_close(network.hidden_at(ids, positions), expected, rtol=0, atol=1e-5)


def test_a_position_sees_its_flanks_and_no_more() -> None:
    network, ids = language(), some_ids(1, 101)
    changed = ids.clone()
    changed[0, 50] = (changed[0, 50] + 1) % 4
    differs = (network(ids) != network(changed)).any(-1)[0].nonzero().flatten().tolist()
    assert (min(differs), max(differs)) == (50 - network.flank, 50 + network.flank)


def test_rows_do_not_change_one_another() -> None:
    network, ids = language(), some_ids(6, 60)
    positions = torch.full((6, 1), 30)
    whole = network.hidden_at(ids, positions)
    order = [3, 1, 5, 0, 2, 4]
    assert torch.equal(network.hidden_at(ids[order], positions), whole[order])


def test_the_score_is_the_difference_of_the_log_rates_where_the_reference_stands() -> None:
    model, at = small_language("phylogpn"), 230
    found = one(run_toy(model, BASES, [("c", at + 1, BASES[at], "ACGT"["ACGT".index(BASES[at]) - 1])]))
    forward = found.scores[[column.name for column in model.scorer.columns].index("FORWARD")]
    ids = torch.from_numpy(CHARACTERS.encode(encode(BASES[at - 32 : at + 32])).ids).long()[None]
    rates = language()(ids)[0, 32]
    ref = "ACGT".index(BASES[at])
    assert forward == pytest.approx(float(rates[ref - 1] - rates[ref]), abs=1e-5) != 0
    assert [column.signed for column in model.scorer.columns[:1]] == [False]


def test_alleles_of_another_length_and_blanks_are_refused(tmp_path: Path) -> None:
    model = small_language("phylogpn")
    assert one(run_toy(model, BASES, [("c", 231, BASES[230], BASES[230] + "GA")])).status == "UNSUPPORTED_KIND"
    folder = write_published("phylogpn", SMALL["phylogpn"], tmp_path)
    with pytest.raises(OptionError, match=r"--scores INFILL.*L2 and COSINE"):
        load("phylogpn", ModelOptions(weights=folder, offline=True, scores=("INFILL",)))


RATES = [
    [1.6576689, 1.1715941, -0.1791951, 4.0944095],
    [4.0177917, 0.4637241, 1.1368530, 1.2592138],
    [1.0111851, 0.9405909, -0.0489903, 3.8542891],
    [3.9505949, 0.4236194, 0.8729535, 1.4166427],
    [3.7107053, 0.8936814, 0.3608846, 1.8472843],
    [3.6846304, 0.7399911, 0.7772030, 1.4588658],
]
"""Of A, C, G, T at TATAAA between pad tokens, as the authors' tests have them for revision 3556db4 of the weights."""


@pytest.mark.network
def test_published_weights_give_the_published_rates(tmp_path: Path) -> None:
    """Take the weights from VARFM_TEST_PHYLOGPN, a folder, or fetch them."""
    folder = Path(os.environ.get("VARFM_TEST_PHYLOGPN") or fetched_folder(tmp_path))
    config = PhyloGpnConfig.from_json(json.loads((folder / "config.json").read_text()), folder)
    with torch.device("meta"):
        network = network_of(config)
    network = filled(network, convert(read_tensors(folder), config, folder), folder)
    ids = torch.from_numpy(CHARACTERS.encode(encode("TATAAA")).ids).long()[None]
    assert network(ids)[0].numpy() == pytest.approx(np.array(RATES), abs=1e-3)


def fetched_folder(folder: Path) -> Path:
    try:
        for file in catalog.get("phylogpn").files:
            fetch(RemoteFile(file.name, file.urls, None, None), folder, owner="phylogpn", transport=Transport())
    except ModelError as error:
        pytest.skip(str(error))
    return folder
