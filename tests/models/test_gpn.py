"""GPN's sizes, what its published folders may say and hold, and that no row of a batch changes another."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import Tensor

from varfm.download import RemoteFile, fetch
from varfm.encoding.characters import Characters
from varfm.errors import ModelError
from varfm.genome import Genome, decode, encode
from varfm.https import Transport
from varfm.models.gpn import CHARACTERS, Gpn, GpnConfig, convert, network_of, tokenizer_of
from varfm.models.loading import filled
from varfm.readers import read_tensors

Array = NDArray[Any]

PATH = Path("config.json")
SMALL = {"vocab_size": 7, "hidden_size": 8}
LEGACY = {"model_type": "ConvNet", "architectures": ["ConvNetForMaskedLM"], "n_layers": 2} | SMALL
NEWER = {"model_type": "GPN", "architectures": ["GPNForMaskedLM"], "num_hidden_layers": 2} | SMALL
BYTENET = NEWER | {"encoder": "bytenet", "embedding": "embedding", "mlm_head_transform": False, "slim": True}
KINDS = {"legacy": LEGACY, "convnet": NEWER, "bytenet": BYTENET}


def config_in(mapping: dict[str, Any]) -> GpnConfig:
    return GpnConfig.from_json(mapping, PATH)


def shapes_of(config: GpnConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        network = network_of(config)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def n_parameters(config: GpnConfig) -> int:
    return sum(int(np.prod(shape)) for shape in shapes_of(config).values())


def random_network(config: GpnConfig) -> Gpn:
    torch.manual_seed(1)
    network = network_of(config).requires_grad_(False).eval()
    if config.learned_embedding:
        network.get_parameter("model.embeddings.word_embeddings.weight").normal_()
    return network


def random_ids(n: int, length: int) -> Tensor:
    return torch.randint(1, 7, (n, length), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def weights() -> dict[str, Array]:
    generator = np.random.default_rng(3)
    return {key: generator.normal(0, 1, shape).astype(np.float32) for key, shape in shapes_of(config_in(NEWER)).items()}


def converted(weights: dict[str, Array], folder: Path) -> dict[str, Array]:
    save_file(weights, folder / "model.safetensors")
    return convert(read_tensors(folder), config_in(NEWER), folder)


def test_the_network_of_the_paper_has_its_published_parameters() -> None:
    shapes = shapes_of(GpnConfig())
    assert n_parameters(GpnConfig()) == 65_880_071
    assert len(shapes) == 206
    assert shapes["model.encoder.24.conv.1.weight"] == (512, 512, 9)
    assert shapes["model.encoder.0.conv.4.bias"] == shapes["model.encoder.0.ffn.2.bias"] == (512,)
    assert shapes["model.encoder.0.ffn.0.weight"] == shapes["cls.decoder.0.weight"] == (512, 512)
    assert shapes["cls.decoder.2.weight"] == (512,)
    assert shapes["cls.decoder.3.weight"] == (7, 512)


def test_the_newer_network_has_its_published_parameters() -> None:
    config = config_in({"model_type": "GPN"})
    shapes = shapes_of(config)
    assert n_parameters(config) == 93_091_328
    assert shapes["model.encoder.layer.0.conv.2.weight"] == (512, 512, 9)
    assert shapes["model.encoder.layer.1.conv.2.weight"] == (512, 512, 5)
    assert shapes["model.encoder.layer.24.ffn.1.weight"] == (2048, 512)
    assert shapes["model.encoder.layer.24.ffn.3.weight"] == (512, 2048)
    assert shapes["model.ln_f.weight"] == shapes["cls.transform.2.weight"] == (512,)
    assert not [key for key in shapes if key.endswith("bias") or "embeddings" in key]


def test_the_promoter_network_has_the_size_of_its_published_file() -> None:
    given = {"hidden_size": 1024, "num_hidden_layers": 64}
    config = config_in(BYTENET | given)
    shapes = shapes_of(config)
    assert round(4 * n_parameters(config) / 1e6) == 609
    assert shapes["model.embeddings.word_embeddings.weight"] == shapes["cls.decoder.weight"] == (7, 1024)
    assert shapes["model.encoder.layer.0.layer.6.weight"] == (512, 512, 9)
    assert shapes["model.encoder.layer.63.layer.6.weight"] == (512, 512, 5)
    assert shapes["model.encoder.layer.63.layer.10.weight"] == (1024, 512)


def test_missing_keys_take_upstream_defaults() -> None:
    assert config_in({"model_type": "ConvNet"}) == GpnConfig()
    dilations = (*(1, 2, 4, 8, 16, 32, 64, 128) * 3, 1)
    newer = GpnConfig(encoder="convnet", n_inner=2048, kernels=(9, 5), dilations=dilations, bias=False)
    assert config_in({"model_type": "GPN"}) == newer


def test_the_published_file_of_the_paper_describes_the_default_network() -> None:
    # As songlab/gpn-brassicales has it, but for the folder of its checkpoint.
    published = {
        "_name_or_path": "checkpoint-30000",
        "architectures": ["ConvNetForMaskedLM"],
        "dilation_cycle": 6,
        "dilation_double_every": 1,
        "dilation_max": 32,
        "hidden_size": 512,
        "initializer_range": 0.02,
        "kernel_size": 9,
        "model_type": "ConvNet",
        "n_layers": 25,
        "torch_dtype": "float32",
        "transformers_version": "4.26.0.dev0",
        "vocab_size": 7,
    }
    assert config_in(published) == GpnConfig()


def test_dilations_follow_the_file() -> None:
    given = {"n_layers": 9, "dilation_base": 3, "dilation_double_every": 2, "dilation_cycle": 7, "dilation_max": 20}
    assert config_in(LEGACY | given).dilations == (1, 1, 3, 3, 9, 9, 20, 1, 1)
    assert config_in(LEGACY | {"dilation_base": 1}).dilations == (1, 1)


def test_keys_that_change_nothing_are_passed_over() -> None:
    more = {"layer_norm_eps": 1e-12, "hidden_act": "gelu", "pad_token_id": None, "transformers_version": "4.46.2"}
    assert config_in(NEWER | more | {"torch_dtype": "float32"}) == config_in(NEWER)
    assert config_in(LEGACY | {"tie_word_embeddings": True, "regression_softplus": False}) == config_in(LEGACY)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "model_type is None"),
        (NEWER | {"model_type": "roformer"}, "expected ConvNet or GPN"),
        (NEWER | {"model_type": "GPNRoFormer"}, "alignment"),
        (LEGACY | {"architectures": ["ConvNetForSequenceClassification"]}, "architectures is"),
        (LEGACY | {"architectures": ["GPNForMaskedLM"]}, "architectures is"),
        (LEGACY | {"n_aux_features": 5}, "n_aux_features is 5"),
        (LEGACY | {"encoder": "convnet"}, "encoder: not known"),
        (NEWER | {"n_layers": 30}, "n_layers: not known"),
        (NEWER | {"encoder": "roformer"}, "encoder is 'roformer'"),
        (NEWER | {"embedding": "hash"}, "embedding is 'hash'"),
        (BYTENET | {"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        (NEWER | {"hidden_size": "8"}, "hidden_size is '8'"),
        (NEWER | {"slim": 1}, "slim is 1"),
        (NEWER | {"hidden_size": 6}, "cannot hold 7"),
        (LEGACY | {"kernel_size": 4}, "odd number"),
        (NEWER | {"hidden_size": 200_000}, "from 1 to 100,000"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-",
)
def test_a_file_of_another_network_is_refused(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        config_in(mapping)


@pytest.mark.parametrize("wrong", [{"encoder": "roformer"}, {"dilations": ()}, {"kernels": (9,)}], ids=str)
def test_sizes_that_make_no_network_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        GpnConfig(**wrong)


def test_nothing_is_left_on_meta_after_loading(weights: dict[str, Array], tmp_path: Path) -> None:
    with torch.device("meta"):
        network = network_of(config_in(NEWER))
    network = filled(network, converted(weights, tmp_path), tmp_path)
    tensors = [*network.parameters(), *network.buffers()]
    assert len(tensors) == len(weights)
    assert not any(value.is_meta for value in tensors)
    assert network(random_ids(1, 9)).isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.ln_f.bias": np.zeros(8, np.float32)}, "belong to no part of the model"),
        ({"cls.decoder.weight": np.zeros((5, 8), np.float32)}, r"shape \(5, 8\), expected \(7, 8\)"),
        ({"model.encoder.layer.1.conv.2.weight": None}, "no tensor"),
    ],
    ids=["left over", "shape", "missing"],
)
def test_a_file_that_does_not_fit_is_refused(
    weights: dict[str, Array], change: dict[str, Array | None], message: str, tmp_path: Path
) -> None:
    changed = {key: value for key, value in (weights | change).items() if value is not None}
    with pytest.raises(ModelError, match=message):
        converted(changed, tmp_path)


def test_the_tokenizer_of_a_folder_is_read_where_there_is_one(tmp_path: Path) -> None:
    config = config_in(LEGACY)
    assert tokenizer_of(config) == tokenizer_of(config, tmp_path) == CHARACTERS
    (tmp_path / "vocab.json").write_text(json.dumps({"t": 0, "g": 1, "c": 2, "a": 3, "[UNK]": 4, "[MASK]": 5}))
    expected = Characters(base_ids=(3, 2, 1, 0, 4), mask_id=5, unknown_id=4, n_vocabulary=6)
    assert tokenizer_of(config, tmp_path) == expected
    with pytest.raises(ModelError, match="6 tokens, but the network knows 5"):
        tokenizer_of(replace(config, n_vocabulary=5), tmp_path)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_position_sees_what_its_receptive_field_holds(kind: str) -> None:
    network, ids = random_network(config_in(KINDS[kind])), random_ids(1, 41)
    # Kernels of 9 and 9 or 5 positions, 1 and 2 apart.
    reach = 4 + 2 * (4 if kind == "legacy" else 2)
    changed = ids.clone()
    changed[0, 20] = 7 - changed[0, 20]
    differs = (network(ids) != network(changed)).any(-1)[0]
    assert differs.nonzero().flatten().tolist() == list(range(20 - reach, 20 + reach + 1))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_logits_are_those_of_the_hidden_states_that_are_read(kind: str) -> None:
    network, ids = random_network(config_in(KINDS[kind])), random_ids(2, 12)
    hidden = network.hidden(ids)
    assert hidden.shape == (2, 12, 8)
    assert torch.allclose(network.logits(hidden[:, [3]])[:, 0], network(ids)[:, 3], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_network_can_be_traced(kind: str) -> None:
    network, ids = random_network(config_in(KINDS[kind])), random_ids(2, 12)
    assert torch.equal(torch.fx.symbolic_trace(network)(ids), network(ids))


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def real_widths() -> dict[str, GpnConfig]:
    dilations = (1, 4)
    legacy = GpnConfig(dilations=dilations)
    convnet = replace(legacy, encoder="convnet", n_inner=2048, kernels=(9, 5), bias=False)
    bytenet = replace(convnet, encoder="bytenet", width=1024, n_inner=512, learned_embedding=True, head_transform=False)
    return {"legacy": legacy, "convnet": convnet, "bytenet": bytenet}


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_no_row_changes_another_at_real_widths(kind: str, n_threads: int, threads: None) -> None:
    torch.set_num_threads(n_threads)
    network, ids = random_network(real_widths()[kind]), random_ids(8, 40)

    def answers(batch: Tensor) -> tuple[Tensor, Tensor]:
        hidden = network.hidden(batch)
        return hidden, network.logits(hidden[:, 20:21])

    expected = answers(ids)
    order = [5, 0, 7, 2, 1, 4, 6, 3]
    others = random_ids(9, 40)[1:].clone()
    others[3] = ids[0]
    for found, whole in zip(answers(ids[order]), expected, strict=True):
        assert torch.equal(found, whole[order])
    for found, whole in zip(answers(others), expected, strict=True):
        assert torch.equal(found[3], whole[0])


LOGITS = (4.8509, -2.3441, -1.7025, -1.5116)
"""Of a, c, g, t, as the authors' examples/ss/basic_example.ipynb prints them."""

REGION = ("chr5", 3_566_900, 3_567_600)
REGION_SHA256 = "eb41e193f0b8902b991c5ff9b5d92023a52a918fdf53977c0f70bcfacf3c6c78"
START_CODON = 489


@pytest.mark.network
def test_published_weights_give_the_published_logits(tmp_path: Path) -> None:
    """Take the weights from VARFM_TEST_GPN, a folder, and the TAIR10 genome from VARFM_TEST_TAIR10, or fetch them."""
    folder = Path(os.environ.get("VARFM_TEST_GPN") or fetched_folder(tmp_path))
    sequence = arabidopsis_region(tmp_path)
    config = GpnConfig.from_json(json.loads((folder / "config.json").read_text()), folder / "config.json")
    with torch.device("meta"):
        network = network_of(config)
    network = filled(network, convert(read_tensors(folder), config, folder), folder)
    tokenizer = tokenizer_of(config, folder)
    assert tokenizer == CHARACTERS
    ids = torch.from_numpy(tokenizer.encode(encode(sequence)).ids.astype(np.int64))[None]
    assert sequence[START_CODON : START_CODON + 3] == "ATG"
    ids[0, START_CODON] = tokenizer.mask_id
    found = network.logits(network.hidden(ids)[0, START_CODON])[list(tokenizer.base_ids[:4])]
    assert found.numpy() == pytest.approx(LOGITS, abs=1e-3)


def fetched_folder(folder: Path) -> Path:
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        fetched(name, f"https://huggingface.co/songlab/gpn-brassicales/resolve/main/{name}", folder)
    return folder


def arabidopsis_region(folder: Path) -> str:
    contig, start, end = REGION
    if genome := os.environ.get("VARFM_TEST_TAIR10"):
        with Genome(genome) as fasta:
            found = next(name for name in (contig, contig[3:], contig.title()) if name in fasta.contigs)
            letters = decode(fasta.codes(found)[start:end].tobytes())
    else:
        address = f"https://rest.ensembl.org/sequence/region/arabidopsis_thaliana/{contig[3:]}:{start + 1}..{end}"
        fetched("region.txt", address + "?content-type=text/plain", folder)
        letters = (folder / "region.txt").read_text().strip()
    assert hashlib.sha256(letters.encode()).hexdigest() == REGION_SHA256
    return letters


def fetched(name: str, address: str, folder: Path) -> None:
    try:
        fetch(RemoteFile(name, (address,), None, None), folder, owner="gpn-brassicales", transport=Transport())
    except ModelError as error:
        pytest.skip(str(error))
