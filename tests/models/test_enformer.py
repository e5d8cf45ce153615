"""Enformer's sizes and layers, what its files may hold, and that each head becomes a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from enformer_files import SMALL, SUFFIX, Shape, bundle, bundle_shapes, port_shapes, random_arrays, write_folder
from numpy.typing import NDArray
from torch import Tensor
from toys import flipped, run_files, vcf_text, write_fasta

from varfm.errors import ModelError
from varfm.genome import encode
from varfm.models import ModelOptions, load
from varfm.models.enformer import Enformer, EnformerConfig, convert, network_of
from varfm.models.enformer_layers import Attention, AttentionPool, Gelu, position_features
from varfm.models.loading import filled
from varfm.readers import Tensors
from varfm.windows import Haplotype, Window

Array = NDArray[Any]

PATH = Path("enformer.index")
BOTH = {"human": 5313, "mouse": 1643}
HUMAN = EnformerConfig()
MOUSE = EnformerConfig(head="mouse", n_tracks=1643)


def on_meta(config: EnformerConfig) -> Enformer:
    with torch.device("meta"):
        return network_of(config)


def zeros(shapes: dict[str, Shape]) -> dict[str, Array]:
    """Give arrays whose memory is never touched."""
    return {key: np.zeros(shape, np.float32) for key, shape in shapes.items()}


def shapes_of(arrays: Any) -> dict[str, Shape]:
    return {key: tuple(value.shape) for key, value in arrays.items()}


def random_network(config: EnformerConfig = SMALL) -> Enformer:
    arrays = bundle(random_arrays(bundle_shapes(config, {config.head: config.n_tracks})))
    return filled(on_meta(config), convert(Tensors(PATH, arrays), config, PATH), PATH)


def random_codes(n: int, length: int = 64) -> Tensor:
    return torch.randint(0, 5, (n, length), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def test_trunk_and_both_heads_have_the_published_parameters() -> None:
    human, mouse = (sum(value.numel() for value in on_meta(config).parameters()) for config in (HUMAN, MOUSE))
    head, other_head = (3072 + 1) * 5313, (3072 + 1) * 1643
    assert human - head == mouse - other_head == 229_845_504
    assert human + other_head == 251_221_292


def test_published_shapes_are_those_of_the_paper() -> None:
    shapes = shapes_of(on_meta(HUMAN).state_dict())
    assert shapes["stem.first.weight"] == (768, 4, 15)
    assert [shapes[f"tower.{i}.first.conv.weight"] for i in (0, 5)] == [(768, 768, 5), (1536, 1280, 5)]
    assert shapes["tower.3.pool.logits.weight"] == (1152, 1152, 1)
    assert shapes["transformer.10.attention.relative_key.weight"] == (512, 192)
    assert shapes["transformer.0.wide.weight"] == (3072, 1536)
    assert shapes["head.weight"] == (5313, 3072)
    assert "positions" not in shapes


def test_896_bins_of_128_bases_begin_at_base_40960() -> None:
    network = on_meta(HUMAN)
    assert (network.length, network.first_base, network.bin_width, network.n_bins) == (196_608, 40_960, 128, 896)
    assert HUMAN.n_tokens == 1536


@pytest.mark.parametrize("config", [HUMAN, MOUSE], ids=["human", "mouse"])
def test_the_329_variables_of_the_published_checkpoint_fill_the_network(config: EnformerConfig) -> None:
    shapes = bundle_shapes(config, BOTH)
    assert sum("average" not in key for key in shapes) == 245
    arrays = bundle(zeros(shapes))
    assert len(arrays) == 329 + 1  # and the counter of saves
    state = convert(Tensors(PATH, arrays), config, PATH)
    assert shapes_of(state) == shapes_of(on_meta(config).state_dict())


@pytest.mark.parametrize("config", [HUMAN, MOUSE], ids=["human", "mouse"])
def test_the_570_keys_of_the_port_fill_the_network(config: EnformerConfig) -> None:
    shapes = dict(port_shapes(config, BOTH))
    assert len(shapes) == 287
    again = {f"_trunk.{key}": (1,) for key in shapes if not key.startswith("_heads")}
    assert len(shapes | again) == 570
    state = convert(Tensors(PATH, zeros(shapes | again)), config, PATH)
    assert shapes_of(state) == shapes_of(on_meta(config).state_dict())


def test_both_formats_give_the_same_state() -> None:
    arrays = random_arrays(bundle_shapes(SMALL, {"human": 3}))
    from_bundle = convert(Tensors(PATH, bundle(arrays)), SMALL, PATH)
    tower, layer = "_trunk/_layers/1/_layers/1/_layers", "_trunk/_layers/2/_layers/1/_layers/0/_module/_layers/1"
    averages = [arrays[f"{tower}/0/_layers/0/moving_{name}/average"].reshape(-1) for name in ("mean", "variance")]
    known = {
        "conv_tower.1.0.0.running_mean": averages[0],
        "conv_tower.1.0.0.running_var": averages[1],
        "conv_tower.1.0.2.weight": arrays[f"{tower}/0/_layers/2/w"].transpose(2, 1, 0),
        "conv_tower.1.2.to_attn_logits.weight": arrays[f"{tower}/2/_logit_linear/w"].T[:, :, None, None],
        "transformer.1.0.fn.1.to_rel_k.weight": arrays[f"{layer}/_r_k_layer/w"].T,
        "transformer.1.0.fn.1.rel_content_bias": arrays[f"{layer}/_r_w_bias"],
        "transformer.1.0.fn.1.rel_pos_bias": arrays[f"{layer}/_r_r_bias"],
        "_heads.human.0.weight": arrays["_heads/human/_layers/0/w"].T,
    }
    port = zeros(dict(port_shapes(SMALL, {"human": 3}))) | known
    from_port = convert(Tensors(PATH, port), SMALL, PATH)
    same = [
        "tower.1.first.norm.running_mean",
        "tower.1.first.norm.running_var",
        "tower.1.first.conv.weight",
        "tower.1.pool.logits.weight",
        "transformer.1.attention.relative_key.weight",
        "transformer.1.attention.content_bias",
        "transformer.1.attention.position_bias",
        "head.weight",
    ]
    for name in same:
        np.testing.assert_array_equal(from_port[name], from_bundle[name])
        assert np.any(from_bundle[name])


def test_keys_of_a_saved_model_may_begin_otherwise() -> None:
    arrays = random_arrays(bundle_shapes(SMALL, {"human": 3}))
    usual, other = (convert(Tensors(PATH, bundle(arrays, root)), SMALL, PATH) for root in ("module/", "model/net/"))
    assert all(np.array_equal(usual[name], other[name]) for name in usual)


def test_no_view_holds_the_mapped_file() -> None:
    arrays = bundle(random_arrays(bundle_shapes(SMALL, {"human": 3})))
    network = filled(on_meta(SMALL), convert(Tensors(PATH, arrays), SMALL, PATH), PATH)
    for values in arrays.values():
        values[...] = 0
    assert all(value.any() for value in network.parameters())


def without_one(arrays: dict[str, Array]) -> dict[str, Array]:
    return {key: value for key, value in arrays.items() if "_r_k_layer" not in key}


def with_one_more(arrays: dict[str, Array]) -> dict[str, Array]:
    return arrays | {f"module/_trunk/_layers/5/w{SUFFIX}": np.zeros(3, np.float32)}


def with_an_optimizer(arrays: dict[str, Array]) -> dict[str, Array]:
    return arrays | {f"optimizer/momentum{SUFFIX}": np.zeros(3, np.float32)}


def with_two_roots(arrays: dict[str, Array]) -> dict[str, Array]:
    return arrays | {f"other/_heads/human/_layers/0/b{SUFFIX}": np.zeros(3, np.float32)}


def with_another_shape(arrays: dict[str, Array]) -> dict[str, Array]:
    return arrays | {f"module/_heads/human/_layers/0/w{SUFFIX}": np.zeros((3, 24), np.float32)}


def of_the_other_head(arrays: dict[str, Array]) -> dict[str, Array]:
    return {key.replace("human", "mouse"): value for key, value in arrays.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_one, r"no tensor '_trunk/_layers/2/_layers/0/_layers/0/_module/_layers/1/_r_k_layer/w'"),
        (with_one_more, r"_trunk/_layers/5/w"),
        (with_an_optimizer, r"optimizer/momentum"),
        (with_two_roots, r"one variable _heads/human/_layers/0/b"),
        (with_another_shape, r"\(3, 24\), expected \(24, 3\)"),
        (of_the_other_head, r"no tensor '_heads/human/_layers/0/"),
    ],
    ids=["missing", "left over", "training state", "twice", "shape", "head"],
)
def test_another_checkpoint_is_refused(change: Callable[[dict[str, Array]], dict[str, Array]], message: str) -> None:
    arrays = change(bundle(random_arrays(bundle_shapes(SMALL, {"human": 3}))))
    with pytest.raises(ModelError, match=message):
        convert(Tensors(PATH, arrays), SMALL, PATH)


def test_a_port_with_more_layers_is_refused_and_unknown_buffers_are_not() -> None:
    deeper = zeros(dict(port_shapes(replace(SMALL, n_layers=3), {"human": 3})))
    with pytest.raises(ModelError, match=r"transformer\.2\."):
        convert(Tensors(PATH, deeper), SMALL, PATH)
    port = zeros(dict(port_shapes(SMALL, {"human": 3}))) | {"transformer.0.0.fn.1.gammas": np.zeros(3, np.float32)}
    assert "head.weight" in convert(Tensors(PATH, port), SMALL, PATH)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"length": 60}, "no multiple"),
        ({"length": 8, "n_bins": 1}, "at least two"),
        ({"n_bins": 3}, "3 bins are not the middle of 8"),
        ({"n_bins": 10}, "10 bins are not the middle of 8"),
        ({"stem_width": 4}, "must be odd"),
        ({"n_heads": 4}, "12 channels are no multiple of 24"),
        ({"n_tracks": 0}, "above 0"),
    ],
    ids=["length", "one position", "off the middle", "too many", "even width", "heads", "zero"],
)
def test_sizes_that_make_no_network_are_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        replace(SMALL, **sizes)


def test_nothing_is_left_on_meta_after_loading() -> None:
    network = random_network()
    assert not any(value.is_meta for value in (*network.parameters(), *network.buffers()))
    assert torch.equal(network.positions, torch.from_numpy(position_features(8, 6)))
    assert network(random_codes(2)).shape == (2, 4, 3)


def test_position_features_are_worked_out_by_hand() -> None:
    table = position_features(16, 12)  # two features of each kind; half-lives 8 and 16, means 8 and 16, deviation 4
    zero = 15
    assert table.shape == (31, 12) and table.dtype == np.float32
    assert table[zero + 8, :2].tolist() == pytest.approx([0.5, 2**-0.5])
    assert table[zero : zero + 4, 2].tolist() == [1, 0, 0, 0]
    assert table[zero : zero + 4, 3].tolist() == [1, 1, 1, 0]
    # Gamma with concentration 4 and rate 1/2 peaks at (4 - 1) / (1/2) = 6.
    density = [a**3 * np.exp(-a / 2) / 96 + 1e-8 for a in range(16)]
    assert table[zero:, 4].tolist() == pytest.approx([value / density[6] for value in density], rel=1e-6)
    assert np.array_equal(table[zero:, 6:], table[zero:, :6] * (np.arange(16) > 0)[:, None])
    assert np.array_equal(table[:zero, :6], table[:zero:-1, :6])
    assert np.array_equal(table[:zero, 6:], -table[:zero:-1, 6:])


def test_attention_is_what_its_sums_say() -> None:
    torch.manual_seed(1)
    attention = Attention(12, 2, 4).double()
    for value in attention.parameters():
        torch.nn.init.normal_(value, std=0.5)
    x, positions = torch.randn(1, 5, 12).double(), torch.from_numpy(position_features(5, 6)).double()
    with torch.no_grad():
        found = attention(x, positions)[0].numpy()
    q, k, v, r, w, b = (
        value.detach().numpy()
        for value in (
            attention.query.weight @ x[0].T, attention.key.weight @ x[0].T, attention.value.weight @ x[0].T,
            attention.relative_key.weight @ positions.T, attention.output.weight, attention.output.bias,
        )
    )  # fmt: skip
    content, position = (bias.detach().numpy()[0, :, 0] for bias in (attention.content_bias, attention.position_bias))
    heads = []
    for head in range(2):
        rows = slice(4 * head, 4 * head + 4)
        logits = np.empty((5, 5))
        for i in range(5):
            for j in range(5):
                query = q[rows, i] / 2
                logits[i, j] = (query + content[head]) @ k[rows, j] + (query + position[head]) @ r[rows, 4 + j - i]
        weights = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        heads.append(weights @ v[6 * head : 6 * head + 6].T)
    assert found == pytest.approx(np.concatenate(heads, 1) @ w.T + b, abs=1e-12)


def test_the_pool_is_a_softmax_over_pairs() -> None:
    torch.manual_seed(1)
    pool = AttentionPool(3).double()
    x = torch.randn(2, 3, 8).double()
    pairs = x.unflatten(2, (4, 2))
    weights = torch.softmax(torch.einsum("dc,nclp->ndlp", pool.logits.weight[:, :, 0], pairs), 3)
    assert torch.allclose(pool(x), (weights * pairs).sum(3), rtol=0, atol=1e-14)


def test_gelu_is_the_sigmoid_approximation() -> None:
    found = Gelu()(torch.tensor([-1.0, 0.0, 2.0]))
    assert found.tolist() == pytest.approx([-1 / (1 + np.exp(1.702)), 0, 2 / (1 + np.exp(-3.404))])


def test_a_bin_reads_its_own_bases_where_nothing_reaches_further() -> None:
    network = random_network(replace(SMALL, stem_width=1, tower_width=1, n_layers=0))
    batch = random_codes(1).expand(64, -1).clone()
    batch[torch.arange(64), torch.arange(64)] = (batch[0] + 1) % 4
    changed = ((network(batch) - network(random_codes(1))).abs() > 1e-6).any(2)
    assert network.first_base == 16
    for base in range(64):
        expected = [base // 8 == 2 + number for number in range(4)]
        assert changed[base].tolist() == expected


def test_n_is_zero_in_every_channel() -> None:
    network = random_network()
    stem = network.stem.first
    with torch.no_grad():
        stem.weight[:, 3] = 0  # T then counts as nothing, as N does
    some = random_codes(2)
    assert torch.equal(network(some.where(some != 4, 3)), network(some.where(some != 3, 4)))


def test_bins_of_the_other_strand_are_turned() -> None:
    network, answer = random_network(), torch.arange(12.0).reshape(4, 3)
    forward = Haplotype(Window("c", 0, 64), None)
    assert network.rows(b"\0" * 64, forward) == [b"\0" * 64]
    assert network.reduce(forward, b"", [answer]).tolist() == answer.tolist()
    assert network.reduce(forward._replace(strand="-"), b"", [answer])[0].tolist() == [9, 10, 11]


def test_the_traced_network_answers_the_same() -> None:
    network, batch = random_network(), random_codes(3)
    assert torch.equal(torch.fx.symbolic_trace(network)(batch), network(batch))


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def places_hold(network: Enformer, n: int) -> bool:
    """Say whether rows answer alike to the bit wherever they stand among whatever others."""
    batch = random_codes(2 * n, network.length)
    with torch.inference_mode():
        answers, others = network(batch[:n]), network(torch.cat((batch[n:-1], batch[:1])))
        assert len(torch.unique(answers, dim=0)) == n
        return torch.equal(network(batch[:n].roll(1, 0)).roll(-1, 0), answers) and torch.equal(others[-1], answers[0])


def test_a_row_is_the_same_to_the_bit_wherever_it_stands(threads: int) -> None:
    # 4 bins x 8 tracks: torch's softplus takes 32 numbers at once and rounds a remainder in another way.
    assert places_hold(random_network(replace(SMALL, n_tracks=8)), 4)


@pytest.mark.slow
def test_a_row_of_the_published_widths_is_the_same_to_the_bit_wherever_it_stands(threads: int) -> None:
    config = replace(HUMAN, length=128 * 48, n_bins=28, n_layers=1)
    assert places_hold(random_network(config), 4)


@pytest.mark.parametrize(
    ("name", "head", "n_tracks"), [("enformer", "human", 3), ("enformer-mouse", "mouse", 2)], ids=["human", "mouse"]
)
def test_each_head_is_a_model_whose_scores_are_sums_over_bins(
    tmp_path: Path, name: str, head: str, n_tracks: int
) -> None:
    sizes = {key: value for key, value in asdict(SMALL).items() if key not in ("head", "n_tracks")}
    config = replace(SMALL, head=head, n_tracks=n_tracks)
    folder = write_folder(tmp_path, config, json.dumps(sizes | {"n_tracks": n_tracks}))
    model = load(name, ModelOptions(weights=folder))
    network = model.network
    assert isinstance(network, Enformer)
    assert (network.config.head, network.config.n_tracks) == (head, n_tracks)
    contig = "".join("ACGT"[code] for code in np.random.default_rng(3).integers(0, 4, 200))
    ref, alt = contig[100], "G" if contig[100] != "G" else "A"
    (tmp_path / "v.vcf").write_text(vcf_text([("c", 101, ref, alt)]))
    [found] = run_files(model, write_fasta(tmp_path, {"c": contig}), tmp_path / "v.vcf")
    window = contig[100 - 31 : 100 - 31 + 64]
    forward = [answer(network, bases) for bases in (window, window[:31] + alt + window[32:])]
    turned = [answer(network, flipped(bases))[::-1] for bases in (window, window[:31] + alt + window[32:])]
    before, after = ((a + b) / 2 for a, b in zip(forward, turned, strict=True))
    by_column = dict(zip((column.name for column in model.scorer.columns), found.scores, strict=True))
    for track in range(n_tracks):
        assert by_column[f"SAD_T{track}"] == pytest.approx((after - before).sum(0)[track], rel=1e-4, abs=1e-6)
        change = np.log2(after + 1) - np.log2(before + 1)
        assert by_column[f"SAR_T{track}"] == pytest.approx(change.sum(0)[track], rel=1e-4, abs=1e-6)


def answer(network: Enformer, bases: str) -> Array:
    with torch.inference_mode():
        return network(torch.tensor(list(encode(bases)), dtype=torch.uint8)[None])[0].double().numpy()
