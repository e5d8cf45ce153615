"""Changes through runner and engine: what is run how often, in which batches, and that no answer depends on it."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import CONFIGS, small_model
from test_properties import a_genome, output_scale
from torch import Tensor, nn
from toys import column, point_model, run_toy, vcf_text, write_fasta

from varfm import engine as engine_module
from varfm import runner as runner_module
from varfm.cli.main import run as varfm
from varfm.delta.executor import Context, Executor
from varfm.encoding.onehot import onehot
from varfm.errors import DeviceError
from varfm.plan import Precision, make_plan
from varfm.protocols import Asked, Change, Model, Row
from varfm.runner import Runner
from varfm.scorers.one_window import OneWindow
from varfm.scorers.placement import Centred
from varfm.scorers.tracks import TrackScore, TrackScorer
from varfm.windows import Haplotype

NAMES = tuple(CONFIGS)
LENGTH = 64


class Small(nn.Module):
    """A convolution, a pool and a dense layer, which notes the number of rows of every pass of its convolution."""

    length = LENGTH

    def __init__(self, room: int = 10**6) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 5)
        self.dense = nn.Linear(4 * 20, 3)
        self.passes: list[tuple[int, int]] = []
        self.room = room
        generator = torch.Generator().manual_seed(3)
        for value in self.parameters():
            nn.init.normal_(value, generator=generator)
        self.conv.register_forward_hook(self._note)
        self.requires_grad_(False)

    def _note(self, conv: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self.passes.append((len(output), output.shape[-1]))
        if len(output) > self.room:
            raise torch.OutOfMemoryError("no room")

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        return self.dense(
            torch.max_pool1d(torch.relu(self.conv(onehot(batch, dtype=self.conv.weight.dtype))), 3).flatten(1)
        )

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        return outputs[0]


def model_of(network: Small, rows: int = 4) -> Model:
    return Model("small", network, point_model().scorer, batch_rows=(rows, rows), incremental=True)


def started(network: Small, rows: int = 4) -> Runner:
    model = model_of(network, rows)
    return Runner(model, make_plan([model], device="cpu", threads=1))


def window(seed: int, length: int = LENGTH) -> bytes:
    return np.random.default_rng(seed).integers(0, 5, length).astype(np.uint8).tobytes()


def substituted(base: bytes, place: int, n: int = 1) -> Change:
    new = bytes((code + 1) % 4 for code in base[place : place + n])
    return Change(base, base[:place] + new + base[place + n :])


def questions(length: int, n_bases: int, seed: int = 0) -> list[Asked]:
    """Bases, substitutions in many places, several in one window, insertions, and a base asked alone."""
    asked: list[Asked] = []
    for number in range(n_bases):
        base = window(seed + number, length)
        places = (length // 2, length // 2 - 1, length // 2, 3 * number, length - 1)
        asked += [base, *(substituted(base, place, 1 + number % 3) for place in places[: 2 + number % 4])]
        asked.append(Change(base, (base[: length // 2] + b"\0\1\2" + base[length // 2 :])[:length]))
    return [*asked, window(99, length)]


@pytest.mark.parametrize("name", NAMES)
def test_changes_have_the_outputs_of_whole_rows_to_rounding(name: str) -> None:
    model = small_model(name)
    asked = questions(CONFIGS[name].length, 5)
    plans = [make_plan([model], device="cpu", threads=1, exact_full=full) for full in (False, True)]
    assert [plan.way_of(name) for plan in plans] == ["incremental", "full"]
    found = Runner(model, plans[0]).outputs(asked)
    rows = [one.row if isinstance(one, Change) else one for one in asked]
    expected = Runner(model, plans[1]).outputs(rows)
    assert list(found) != rows
    scale = max(float(output.abs().max()) for output in expected.values())
    for one, row in zip(asked, rows, strict=True):
        assert float((found[one] - expected[row]).abs().max()) <= 1e-5 * scale


@pytest.mark.parametrize(("name", "threads"), [*((name, 1) for name in NAMES), ("deepsea", 2)])
def test_an_output_depends_neither_on_companions_nor_on_order_nor_on_what_was_run_before(
    name: str, threads: int
) -> None:
    model = small_model(name)
    before = torch.get_num_threads()
    try:
        plan = make_plan([model], device="cpu", batch_size=4, threads=threads)
        asked = questions(CONFIGS[name].length, 7)
        first = Runner(model, plan)
        first.probe()
        expected = first.outputs(asked)
        alone = [[one] for one in asked[::5]]
        for parts in ([asked[::-1]], [asked[9:], asked[:9]], [asked[-3:], asked[2:7], asked], alone):
            again = Runner(model, plan)
            again.probe()
            for part in parts:
                found = again.outputs(part)
                assert all(torch.equal(found[one], expected[one]) for one in part)
    finally:
        torch.set_num_threads(before)


def test_the_same_row_is_answered_apart_as_itself_and_as_changes_of_two_bases() -> None:
    row, running = window(1), started(Small())
    asked = [row, Change(substituted(row, 30).row, row), Change(substituted(row, 2, 50).row, row), Change(row, row)]
    found = running.outputs(asked)
    assert len(found) == 4
    assert torch.equal(found[Change(row, row)], found[row])
    assert all(torch.allclose(output, found[row], atol=1e-5) for output in found.values())


class Noting(Executor):
    """Notes the shapes of what it is given."""

    shapes: list[tuple[int, ...]]

    def alternate(
        self, codes: Tensor, context: Context, rows: Tensor | None = None, block: int | None = None
    ) -> Tensor:
        self.shapes.append(tuple(codes.shape))
        return super().alternate(codes, context, rows, block)


def test_each_distinct_change_is_run_once_in_batches_of_the_plans_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "Executor", Noting)
    monkeypatch.setattr(Noting, "shapes", [], raising=False)
    network = Small()
    running = started(network)
    running.probe()
    network.passes.clear()
    Noting.shapes.clear()
    bases = [window(n) for n in range(3)]
    asked: list[Asked] = [substituted(base, place) for base in bases for place in (31, 32)]
    running.outputs([*bases, *asked, *asked])
    running.outputs(asked)
    assert network.passes == [(4, LENGTH - 4)]
    assert Noting.shapes == [(12, 2)]  # six changes in one cell of the grid


def test_changes_of_a_large_part_of_the_window_go_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "Executor", Noting)
    monkeypatch.setattr(Noting, "shapes", [], raising=False)
    started(Small(), 16).outputs([substituted(window(n), 10, 40) for n in range(3)])
    assert set(Noting.shapes) == {(3, 48)}


def test_changes_of_one_base_share_its_pass_whatever_their_places() -> None:
    network = Small()
    base = window(5)
    started(network).outputs([substituted(base, place) for place in range(LENGTH)])
    assert network.passes.count((4, LENGTH - 4)) == 1


def test_contexts_are_let_go_when_they_fill_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = questions(LENGTH, 9)
    expected = started(Small()).outputs(asked)
    monkeypatch.setattr(runner_module, "_PENDING_BYTES", 0)
    found = started(Small()).outputs(asked)
    assert all(torch.equal(found[one], expected[one]) for one in asked)


def test_memory_that_runs_out_halves_the_batches_and_loses_no_change() -> None:
    asked = questions(LENGTH, 5)
    expected = started(Small(), 2).outputs(asked)
    running = started(Small(room=2), 8)
    found = running.outputs(asked)
    assert (running.batch_rows, running.changed_rows) == (2, 3)
    assert all(torch.allclose(found[one], expected[one], atol=1e-5) for one in asked)
    with pytest.raises(DeviceError, match="too little free memory"):
        started(Small(room=0)).outputs(asked)


class Uneven(Executor):
    """Answers the changed windows after the first two a little more."""

    def alternate(
        self, codes: Tensor, context: Context, rows: Tensor | None = None, block: int | None = None
    ) -> Tensor:
        late = (torch.arange(len(codes)) >= 2)[:, None] * 1e-4
        return super().alternate(codes, context, rows, block) + late


def test_batches_that_answer_equal_changes_in_two_ways_are_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "Executor", Uneven)
    running = started(Small(), 2)
    running.changed_rows = 8
    assert running.probe() == 2
    assert running.changed_rows == 2
    base = window(1)
    found = running.outputs([substituted(base, place) for place in (30, 31, 32, 33, 10, 50)])
    plain = started(Small(), 2).outputs(list(found))
    assert all(torch.equal(found[one], plain[one]) for one in found)


@pytest.mark.parametrize("name", NAMES)
def test_passes_that_are_run_as_one_answer_as_each_by_itself(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "Executor", Noting)
    monkeypatch.setattr(Noting, "shapes", [], raising=False)
    model = small_model(name)
    length = CONFIGS[name].length
    plan = make_plan([model], device="cpu", batch_size=4, threads=1)
    bases = [window(seed, length) for seed in range(18)]
    asked = [substituted(base, length // 2 + place) for base in bases for place in (2, 3, 4)]
    together, alone = Runner(model, plan), Runner(model, plan)
    for running in (together, alone):
        running.probe()
    expected = {change: alone.outputs([change])[change] for change in asked}
    Noting.shapes.clear()
    found = together.outputs(asked)
    assert all(torch.equal(found[change], expected[change]) for change in asked)
    # Where the rows of a pass do not agree, as in a narrow Basenji2, they are run one by one.
    assert {rows for rows, _ in Noting.shapes} == ({12, 48} if together.changed_rows == 12 else {1})
    assert together.changed_rows == 12 or name not in ("deepsea", "basset", "sei")


class UnevenTogether(Executor):
    """Answers a little more where many are asked."""

    def alternate(
        self, codes: Tensor, context: Context, rows: Tensor | None = None, block: int | None = None
    ) -> Tensor:
        return super().alternate(codes, context, rows, block) + (len(codes) > 12) * 1e-4


def test_passes_that_would_answer_otherwise_together_are_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "Executor", UnevenTogether)
    asked = [substituted(window(seed), place) for seed in range(18) for place in (30, 31, 32)]
    found = started(Small()).outputs(asked)
    monkeypatch.setattr(runner_module, "Executor", Executor)
    expected = started(Small()).outputs(asked)
    assert all(torch.equal(found[change], expected[change]) for change in asked)


class UnevenDense(Noting):
    """Answers a little more where the dense part has many rows."""

    def alternate(
        self, codes: Tensor, context: Context, rows: Tensor | None = None, block: int | None = None
    ) -> Tensor:
        return super().alternate(codes, context, rows, block) + ((block or len(codes)) > 12) * 1e-4


def test_dense_parts_that_would_answer_otherwise_together_are_run_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "Executor", UnevenDense)
    monkeypatch.setattr(Noting, "shapes", [], raising=False)
    asked = [substituted(window(seed), place) for seed in range(18) for place in (34, 35, 36)]
    found = started(Small()).outputs(asked)
    assert (48, 4) in Noting.shapes
    monkeypatch.setattr(runner_module, "Executor", Executor)
    one = started(Small())
    expected = {change: one.outputs([change])[change] for change in asked}
    assert all(torch.equal(found[change], expected[change]) for change in asked)


@pytest.mark.parametrize("name", ["deepsea", "basenji2", "sei"])
def test_both_ways_give_the_same_scores_to_rounding(name: str) -> None:
    model, n_bases = small_model(name), 3 * CONFIGS[name].length
    bases = a_genome(n_bases)
    middle = n_bases // 2
    records = [("c", middle + n, bases[middle + n - 1], "A,C,G,T".replace(bases[middle + n - 1], "G")) for n in (0, 1)]
    records += [("c", middle, bases[middle - 1 : middle + 2], bases[middle - 1]), ("c", 9, bases[8:10], "TTTT")]
    ours, full = (run_toy(model, bases, records, exact_full=exact) for exact in (False, True))
    columns = [column.signed for column in model.scorer.columns]
    scale = output_scale(model, bases) * getattr(model.network, "n_bins", 1)
    assert [toy[:4] for toy in ours] == [toy[:4] for toy in full]
    assert ours != full
    for found, expected in zip(ours, full, strict=True):
        pairs = zip(columns, found.scores, expected.scores, strict=True)
        assert all(abs(a - b) <= 3e-5 * scale for is_signed, a, b in pairs if is_signed)


def test_exact_full_stands_in_the_manifest_and_changes_no_header(tmp_path: Path) -> None:
    bases = a_genome(900)
    (tmp_path / "in.vcf").write_text(vcf_text([("c", 400, bases[399], "A" if bases[399] != "A" else "C")]))
    arguments = ["score", str(tmp_path / "in.vcf"), "-f", str(write_fasta(tmp_path, {"c": bases})), "--quiet"]
    headers, ways = [], []
    for name, more in (("a", []), ("b", ["--exact-full"])):
        out = tmp_path / f"{name}.vcf"
        assert varfm([*arguments, "-o", str(out), *more]) == 0
        headers.append([line for line in out.read_text().splitlines() if line.startswith("#")])
        ways.append(json.loads((tmp_path / f"{name}.vcf.varfm.json").read_text())["plan"]["executor"])
    assert headers[0] == headers[1]
    assert ways == [{"mini": "full"}, {"mini": "full"}]


def test_the_plan_says_which_models_run_in_which_way() -> None:
    models = [model_of(Small()), point_model()]
    plan = make_plan(models, device="cpu", batch_size=1)
    assert dict(plan.executor) == {"small": "incremental", "toy-point": "full"}
    assert dict(make_plan(models, device="cpu", exact_full=True).executor) == {"small": "full", "toy-point": "full"}
    assert plan.changed_rows_of("small") == 2  # both strands of an allele
    sizes = {n: make_plan(models, device="cpu", batch_size=n).changed_rows_of("small") for n in (2, 3, 4, 16, 64)}
    assert sizes == {2: 2, 3: 3, 4: 12, 16: 12, 64: 12}
    assert plan.with_rows({}, {"small": 1}).changed_rows_of("small") == 1


def test_an_allele_takes_one_whole_pass_for_both_strands_and_a_change_on_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "Executor", Noting)
    monkeypatch.setattr(Noting, "shapes", [], raising=False)
    network = Small()
    scorer = TrackScorer(Centred(LENGTH, LENGTH // 2 - 1), (TrackScore(column("sum"), (0,)),))
    model = Model("small", network, scorer, batch_rows=(2, 2), incremental=True)
    bases = a_genome(200)
    records = [("c", 100, bases[99], other) for other in "ACGT" if other != bases[99]]
    full = run_toy(model, bases, records, exact_full=True)
    network.passes.clear()
    ours = run_toy(model, bases, records)
    assert [toy.scores for toy in ours] == [pytest.approx(toy.scores, abs=1e-5) for toy in full]
    n_probed = 4 + 1
    assert network.passes == [(2, LENGTH - 4)] * (n_probed + 1)
    assert Noting.shapes[-3:] == [(2, 2)] * 3


def test_alleles_of_one_window_share_its_pass_however_large_outputs_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_WAVE_BYTES", 1)
    network, bases = Small(), a_genome(200)
    placement = OneWindow(LENGTH, LENGTH // 2 - 1, start=80)
    scorer = TrackScorer(placement, (TrackScore(column("sum"), (0,)),))
    model = replace(model_of(network, 2), scorer=scorer)
    records = [("c", place + 1, bases[place], "A" if bases[place] != "A" else "C") for place in range(90, 115)]
    full = run_toy(model, bases, records, exact_full=True)
    network.passes.clear()
    ours = run_toy(model, bases, records)
    assert [toy.scores for toy in ours] == [pytest.approx(toy.scores, abs=1e-5) for toy in full]
    n_probed, n_waves = 4 + 1, 2  # 15 alleles on two strands, and both strands of the reference, are 16 batches of two
    assert network.passes == [(2, LENGTH - 4)] * (n_probed + n_waves)


@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_large_outputs_of_several_windows_are_not_held_together(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    outputs = Runner.outputs

    def noted(runner: Runner, asked: Collection[Asked]) -> dict[Asked, Tensor]:
        sizes.append(len(asked))
        return outputs(runner, asked)

    monkeypatch.setattr(engine_module, "_WAVE_BYTES", 1)
    monkeypatch.setattr(Runner, "outputs", noted)
    bases = a_genome(200)
    scorer = TrackScorer(Centred(LENGTH, LENGTH // 2 - 1), (TrackScore(column("sum"), (0,)),))
    model = replace(model_of(Small(), 2), scorer=scorer)
    records = [("c", place + 1, bases[place], "A" if bases[place] != "A" else "C") for place in range(90, 100)]
    run_toy(model, bases, records, precision=precision)
    assert sizes[:5] == [8] * 5  # two alleles, each with its reference on two strands


@pytest.mark.gpu
def test_changes_have_the_outputs_of_whole_rows_on_a_gpu() -> None:
    for name in NAMES:
        model = small_model(name)
        asked = questions(CONFIGS[name].length, 5)
        plans = [make_plan([model], device="cuda", exact_full=full) for full in (False, True)]
        found = Runner(model, plans[0]).outputs(asked)
        rows = [one.row if isinstance(one, Change) else one for one in asked]
        expected = Runner(model, plans[1]).outputs(rows)
        scale = max(float(output.abs().max()) for output in expected.values())
        for one, row in zip(asked, rows, strict=True):
            assert float((found[one] - expected[row]).abs().max()) <= 1e-5 * scale
