"""Incremental evaluation equals the whole pass, wherever and however a window changes, and does the work it should."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from delta_networks import SUPERVISED, TOYS, drawn, executor_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from varfm.delta import pieces
from varfm.delta.chains import chains_of, sums_in_place
from varfm.delta.executor import Executor, joined
from varfm.delta.fusion import Fused
from varfm.delta.grid import STEP, changed_span, is_narrow, on_grid
from varfm.delta.rules import Span, Window
from varfm.models import catalog

every = pytest.mark.parametrize("name", [*SUPERVISED, *TOYS])
TOLERANCE = 1e-10
FUSED = ("sei", "pairs")
"""Networks of which some convolutions are computed two at a time in whole windows."""


@pytest.fixture(scope="module", autouse=True)
def small_pieces() -> Iterator[None]:
    """Small networks are run in pieces, too, and as the command runs them: nobody wants gradients."""
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(pieces, "_BLOCK_BYTES", 256)
        patch.setattr(pieces, "_LARGE", 1)
        yield


def codes_of(rows: list[bytes]) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1).copy())


def window(length: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 5, length).astype(np.uint8).tobytes()


@st.composite
def changes(draw: st.DrawFn, length: int) -> tuple[bytes, bytes]:
    """A window, and the same with substitutions in up to three places, an insertion or a deletion."""
    base = window(length, draw(st.integers(0, 99)))
    edges = st.sampled_from([0, 1, 2, length // 2 - 1, length // 2, length - 2, length - 1])
    row, kind = base, draw(st.sampled_from(["substitution", "substitution", "insertion", "deletion"]))
    for _ in range(draw(st.integers(1, 3)) if kind == "substitution" else 1):
        place = draw(edges | st.integers(0, length - 1))
        bases = bytes(draw(st.lists(st.integers(0, 4), min_size=1, max_size=6)))
        if kind == "substitution":
            row = (row[:place] + bases + row[place + len(bases) :])[:length]
        elif kind == "insertion":
            row = (row[:place] + bases + row[place:])[:length]
        else:
            row = row[:place] + row[place + len(bases) :] + bases[: max(0, min(len(bases), length - place))]
    assert len(row) == length
    return base, row


def incremental(executor: Executor, pairs: list[tuple[bytes, bytes]], span: Span) -> torch.Tensor:
    """Run pairs that change inside a span, in one batch."""
    route = executor.route(span)
    _, (context,) = executor.reference(codes_of([base for base, _ in pairs]), [route])
    return executor.alternate(codes_of([row[span.start : span.stop] for _, row in pairs]), context)


@settings(max_examples=10)
@every
@given(data=st.data())
def test_a_changed_window_has_the_outputs_of_a_whole_pass(name: str, data: st.DataObject) -> None:
    network, length = drawn(name)
    pairs = [data.draw(changes(length)) for _ in range(2)]
    spans = [changed_span(*pair) for pair in pairs]
    real = [span for span in spans if span.width] or [Span(0, 1)]
    span = Span(min(one.start for one in real), max(one.stop for one in real))
    if data.draw(st.booleans()):
        span = on_grid(span, length)
    found = incremental(executor_of(name), pairs, span)
    expected = network(codes_of([row for _, row in pairs]))
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max()))


@every
def test_every_place_of_one_window_can_change(name: str) -> None:
    network, length = drawn(name)
    base = window(length, 1)
    step = max(1, length // 12)
    for place in {*range(0, length, step), 1, length - 2, length - 1}:
        row = base[:place] + bytes([(base[place] + 1) % 4]) + base[place + 1 :]
        span = on_grid(changed_span(base, row), length)
        assert is_narrow(span) and span.start <= place < span.stop
        found, expected = incremental(executor_of(name), [(base, row)], span), network(codes_of([row]))
        assert float((found - expected).abs().max()) <= TOLERANCE


@every
def test_the_reference_pass_is_the_networks_own(name: str) -> None:
    network, length = drawn(name)
    codes = codes_of([window(length, n) for n in range(2)])
    executor = executor_of(name)
    outputs, contexts = executor.reference(codes, [executor.route(Span(0, 3)), executor.route(Span(5, 9))])
    assert float((outputs - network(codes)).abs().max()) <= (1e-12 if name in FUSED else 0)
    assert len(contexts) == 2
    bare, none = executor.reference(codes, [])
    assert torch.equal(bare, outputs)
    assert none == []


@pytest.mark.parametrize("name", ["deepsea", "basenji2", "enformer"])
def test_contexts_of_several_batches_can_be_put_together_and_picked_from(name: str) -> None:
    network, length = drawn(name)
    executor, span = executor_of(name), Span(length // 2, length // 2 + 3)
    route = executor.route(span)
    bases = [window(length, n) for n in range(5)]
    pieces = [executor.reference(codes_of(part), [route])[1][0] for part in (bases[:3], bases[3:])]
    order = [4, 0, 0, 2]
    rows = [bases[n][: span.start] + bytes([n % 4, n % 3, 2]) + bases[n][span.stop :] for n in order]
    context = joined(pieces).chosen(torch.tensor(order))
    found = executor.alternate(codes_of([row[span.start : span.stop] for row in rows]), context)
    assert float((found - network(codes_of(rows))).abs().max()) <= TOLERANCE
    assert context.n_bytes > 0


def test_a_change_that_no_output_reads_changes_nothing() -> None:
    executor, length = executor_of("odd"), drawn("odd").length
    base, row = window(length, 1), None
    row = base[:-1] + bytes([(base[-1] + 1) % 4])
    assert torch.equal(
        incremental(executor, [(base, row)], Span(length - 1, length)), drawn("odd")[0](codes_of([base]))
    )


def test_pairs_of_convolutions_are_one_where_that_is_less_work() -> None:
    network, length = published("sei"), catalog.get("sei").window
    naive, _ = n_flops(lambda: network(empty_codes(length)))
    executor = Executor(network, length)
    whole, _ = n_flops(lambda: executor.reference(empty_codes(length), []))
    assert whole < 0.83 * naive


@pytest.mark.parametrize("length", [7, 30, 31, 32, 60])
def test_a_fused_pair_is_exact_up_to_the_ends_of_the_window(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    for widths in ((9, 9), (5, 3), (3, 7), (9, 1), (1, 5)):
        first, second = (
            torch.nn.Conv1d(3, 7, widths[0], padding="same"),
            torch.nn.Conv1d(7, 5, widths[1], padding=widths[1] // 2),
        )
        for layer in (first, second):
            layer.double().requires_grad_(False)
        x = torch.randn(2, 3, length, dtype=torch.float64, generator=generator)
        assert float((Fused(first, second)(x) - second(first(x))).abs().max()) < 1e-12


def chains(name: str, *kept: str) -> list[tuple[str, list[str], bool]]:
    executor = executor_of(name)
    nodes = list(executor.rules)
    found = chains_of(executor.network, nodes, executor.rules, [node for node in nodes if node.name in kept])
    return [(chain.source.name, [node.name for node in chain.nodes], chain.in_place) for chain in found]


def test_what_works_value_by_value_is_run_together() -> None:
    assert chains("deepsea") == [(f"convs_{n}", [f"_threshold{f'_{n}' * (n > 0)}"], True) for n in range(3)]
    assert chains("basset")[0] == ("layers_0", ["layers_1", "layers_2"], True)
    assert chains("basset", "layers_1") == [("layers_0", ["layers_1"], True), *chains("basset")[1:]]
    assert chains("basset", "layers_0")[0] == ("layers_0", ["layers_1", "layers_2"], False)
    # Two functions of the first sum are read by convolutions; of the others some parts live on.
    assert chains("shared") == [
        ("first", ["norm", "relu"], False),
        ("add", ["exp", "exp_1", "add_1", "truediv"], False),
        ("add_2", ["sigmoid", "mul", "norm_1"], False),
        ("add_4", ["abs_2", "add_5", "truediv_1"], False),
    ]
    assert chains("shared", "exp")[1] == ("add", ["exp_1", "add_1"], False)


def test_sums_take_the_place_of_what_nothing_else_reads() -> None:
    rules = executor_of("shared").rules
    found = sums_in_place(list(rules), [node for node, rule in rules.items() if isinstance(rule, Window)])
    assert {node.name: place.name for node, place in found.items()} == {"add": "second", "add_2": "second_1"}


def test_pieces_are_what_the_whole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def function(channels: slice, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        return (x * y).exp() + shifts[channels, None]

    shifts = torch.randn(5)
    x, y = torch.randn(3, 5, 40), torch.randn(3, 40, 5).transpose(1, 2)
    expected = (x * y).exp() + shifts[:, None]
    for n_bytes, calls in ((1, [1] * 15), (2 * 40 * 4, [1] * 9), (2 * 200 * 4, [2, 1]), (10**6, [3])):
        monkeypatch.setattr(pieces, "_BLOCK_BYTES", n_bytes // torch.get_num_threads())
        for into in (None, torch.empty(3, 5, 40), x.clone(), torch.empty(3, 5, 40, dtype=torch.float64)):
            seen: list[int] = []
            found = pieces.by_channels(function, x, y, into=into)
            assert torch.equal(found, expected) and seen == calls
            assert (found is into) == (into is not None and into.dtype == x.dtype and len(calls) > 1)
        with torch.enable_grad():
            assert torch.equal(pieces.by_channels(function, x, y, into=x), expected)


def test_networks_are_followed_as_far_as_they_go() -> None:
    """What falls back to the whole pass is right, too, but saves nothing: so it is written down here."""
    whole = {
        name: next(node.name for node in executor_of(name).computed_whole) for name in (*SUPERVISED, *TOYS)
    }  # fmt: skip
    assert whole == {
        "deepsea": "_threshold_3", "beluga": "relu_6", "basset": "layers_10", "basenji": "output",
        "basenji2": "output", "expecto": "relu_20", "enformer": "transformer_0_attention_norm", "sei": "matmul",
        "mini": "head_3", "mpra-dragonn": "output", "xpresso": "pad_1", "odd": "getitem", "pairs": "output",
        "shared": "output", "tail": "relu",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["deepsea", "beluga", "basset", "sei", "basenji2"])
def test_the_middle_of_both_strands_is_in_one_cell(name: str) -> None:
    length = catalog.get(name).window
    middle = [on_grid(Span(place, place + 1), length) for place in (length // 2 - 1, length // 2)]
    assert middle[0] == middle[1] == Span(length // 2 - 1, length // 2 + 1)
    beside = on_grid(Span(length // 2 + 1, length // 2 + 2), length)
    assert beside == Span(length // 2 - STEP // 2, length // 2 + STEP // 2)


@given(length=st.integers(1, 3000), data=st.data())
def test_a_span_on_the_grid_holds_the_exact_one(length: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, length - 1))
    exact = Span(start, data.draw(st.integers(start + 1, length)))
    found = on_grid(exact, length)
    assert 0 <= found.start <= exact.start < exact.stop <= found.stop <= length
    assert on_grid(found, length) == found or not is_narrow(found)


def test_the_span_of_a_change_runs_from_the_first_to_the_last_base_that_differs() -> None:
    assert changed_span(b"\0\1\2\3\0", b"\0\3\2\1\0") == Span(1, 4)
    assert changed_span(b"\0\1", b"\0\1").width == 0


# --- work: products and sums counted on shapes alone ------------------------------------------------------------------


def n_flops(run: Any) -> tuple[float, Any]:
    with FlopCounterMode(display=False) as counter:
        result = run()
    return float(counter.get_total_flops()), result


def empty_codes(width: int) -> torch.Tensor:
    return torch.empty(1, width, dtype=torch.uint8, device="meta")


def published(name: str) -> torch.nn.Module:
    """Make a network of the published sizes without memory."""
    checkpoint = catalog.get(name)
    module = importlib.import_module(f"varfm.models.{checkpoint.module}")
    with torch.device("meta"):
        network: torch.nn.Module = module.network_of(module.config_of(checkpoint))
    return network.to("meta").eval()


def work_of_upstreams_pools(network: torch.nn.Module, codes: torch.Tensor) -> float:
    """Count the products of Enformer's pools; upstream takes them for both positions of a pair, varfm for one."""
    pools = [stage.pool for stage in (network.stem, *network.tower)]  # type: ignore[union-attr, misc]
    found = 0.0
    hooks = [
        pool.register_forward_hook(lambda pool, args, out: sizes.append((out.shape[1], out.shape[2]))) for pool in pools
    ]
    sizes: list[tuple[int, int]] = []
    network(codes)
    for channels, length in sizes:
        found += 2.0 * channels * channels * length
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(
    ("name", "most"),
    [("deepsea", 0.12), ("basset", 0.12), ("beluga", 0.05), ("sei", 0.10), ("basenji2", 0.09), ("enformer", 0.23)],
)
def test_an_snv_costs_a_small_part_of_a_naive_pass(name: str, most: float) -> None:
    network, length = published(name), catalog.get(name).window
    naive, _ = n_flops(lambda: network(empty_codes(length)))
    if name == "enformer":
        naive += work_of_upstreams_pools(network, empty_codes(length))
    executor = Executor(network, length)
    middle = length // 2 - 1
    route = executor.route(on_grid(Span(middle, middle + 1), length))
    _, (context,) = executor.reference(empty_codes(length), [route])
    changed, _ = n_flops(lambda: executor.alternate(empty_codes(route.span.width), context))
    assert 0 < changed <= most * naive
    wide = executor.route(Span(middle, length))
    _, (context,) = executor.reference(empty_codes(length), [wide])
    indel, _ = n_flops(lambda: executor.alternate(empty_codes(wide.span.width), context))
    assert changed < indel < 0.63 * naive


def test_a_variant_of_expecto_costs_a_small_part_of_its_36_windows() -> None:
    network = published("expecto")
    beluga, window = published("beluga"), catalog.get("beluga").window
    naive, _ = n_flops(lambda: beluga(empty_codes(window)))
    executor = Executor(network, network.length)
    middle = network.length // 2 - 1
    route = executor.route(on_grid(Span(middle, middle + 1), network.length))
    whole, (_, (context,)) = n_flops(lambda: executor.reference(empty_codes(network.length), [route]))
    changed, _ = n_flops(lambda: executor.alternate(empty_codes(route.span.width), context))
    assert 0 < 2 * (whole + changed) <= 0.16 * 36 * naive


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [("deepsea", 1e-5), ("beluga", 1e-5), ("basset", 1e-5), ("basenji2", 1e-5), ("enformer", 1e-5), ("sei", 5e-5)],
)
def test_published_sizes_agree_in_single_precision(name: str, tolerance: float) -> None:
    checkpoint = catalog.get(name)
    module = importlib.import_module(f"varfm.models.{checkpoint.module}")
    network = module.network_of(module.config_of(checkpoint)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(3)
    for value in network.parameters():
        value.normal_(0, (1.0 / value[0].numel()) ** 0.5 if value.dim() > 1 else 0.1, generator=generator)
    length, executor = checkpoint.window, Executor(network, checkpoint.window)
    base = window(length, 2)
    with torch.inference_mode():
        for place in (length // 2 - 1, 3):
            row = base[:place] + bytes([(base[place] + 1) % 4]) + base[place + 1 :]
            found = incremental(executor, [(base, row)], on_grid(changed_span(base, row), length))
            expected = network(codes_of([row]))
            assert float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())
