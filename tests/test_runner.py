"""Batches of fixed shape, each distinct row once, memory that runs out, and what is kept."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from toys import point_model

from varfm import runner
from varfm.errors import DeviceError
from varfm.plan import Plan, make_plan
from varfm.protocols import Model, Row
from varfm.runner import Runner
from varfm.windows import Haplotype


class Counting:
    """A network that sums its row, remembers the shapes it met, and has memory for `room` rows."""

    length = 3

    def __init__(self, room: int = 10**6, message: str = "") -> None:
        self.room = room
        self.message = message
        self.shapes: list[tuple[int, ...]] = []

    def rows(self, sequence: bytes, haplotype: Haplotype) -> list[Row]:
        return [sequence]

    def forward(self, batch: Tensor) -> Tensor:
        self.shapes.append(tuple(batch.shape))
        if len(batch) > self.room:
            raise RuntimeError(self.message) if self.message else torch.OutOfMemoryError("no room")
        return batch.sum(1, dtype=torch.float32)[:, None]

    def reduce(self, haplotype: Haplotype, sequence: bytes, outputs: Sequence[Tensor]) -> Tensor:
        return outputs[0]


def started(network: Counting, rows: int = 4) -> Runner:
    model = Model("counting", network, point_model().scorer, batch_rows=(rows, rows))
    return Runner(model, plan_of(model))


def plan_of(model: Model) -> Plan:
    return make_plan([model], device="cpu", threads=1)


ROWS = [bytes((a, b, 0)) for a in range(3) for b in range(3)]


def test_every_batch_has_the_shape_of_the_plan_and_equal_rows_are_run_once() -> None:
    network = Counting()
    found = started(network).outputs([*ROWS, *ROWS])
    assert network.shapes == [(4, 3)] * 3
    assert {row: float(output) for row, output in found.items()} == {row: float(sum(row)) for row in ROWS}


def test_rows_of_different_length_go_in_different_batches() -> None:
    network = Counting()
    found = started(network).outputs([b"\1", b"\1\1", b"\2", b"\2\2"])
    assert network.shapes == [(4, 1), (4, 2)]
    assert [float(output) for output in found.values()] == [1, 2, 2, 4]


def test_rows_met_before_are_not_run_again() -> None:
    network = Counting()
    running = started(network)
    running.outputs(ROWS[:4])
    assert {float(v) for v in running.outputs(ROWS[:4]).values()} == {0.0, 1.0, 2.0}
    assert len(network.shapes) == 1


class Uneven(Counting):
    """Answers the rows after the first two a little more, as edges of matrix products do."""

    length = 3

    def forward(self, batch: Tensor) -> Tensor:
        """(n, length) -> (n,)."""
        return super().forward(batch) + (torch.arange(len(batch)) >= 2)[:, None] * 1e-4


def test_a_batch_that_answers_equal_rows_in_two_ways_is_made_smaller() -> None:
    assert started(Uneven(), 8).probe() == 2
    assert started(Uneven(), 2).probe() == 2


@pytest.fixture
def rounding() -> Iterator[None]:
    """Let torch round to TF32 on GPUs, and leave it as it was."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.usefixtures("rounding")
def test_a_gpu_is_told_to_keep_all_bits_of_float32() -> None:
    model = Model("counting", Counting(), point_model().scorer)
    Runner(model, plan_of(model))
    assert torch.backends.cudnn.allow_tf32 and torch.backends.cuda.matmul.allow_tf32
    Runner(model, replace(plan_of(model), device="cuda:0"))
    assert not (torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32)


def test_no_rows_give_no_outputs() -> None:
    network = Counting()
    assert started(network).outputs([]) == {}
    assert network.shapes == []


@pytest.mark.parametrize("message", ["", "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"])
def test_memory_that_runs_out_halves_the_batch_and_loses_no_row(message: str, caplog: pytest.LogCaptureFixture) -> None:
    network = Counting(room=2, message=message)
    running = started(network, 8)
    with caplog.at_level(logging.WARNING):
        found = running.outputs(ROWS)
    assert {row: float(output) for row, output in found.items()} == {row: float(sum(row)) for row in ROWS}
    assert (running.batch_rows, running.halved) == (2, 2)
    assert network.shapes == [(8, 3), (4, 3), *[(2, 3)] * 5]
    assert [record.getMessage() for record in caplog.records] == [
        f"counting: memory ran out on cpu; going on with {rows} rows per batch" for rows in (4, 2)
    ]


def test_memory_that_is_too_small_for_one_row_ends_the_run() -> None:
    with pytest.raises(DeviceError, match="counting: cpu has too little free memory for one sequence"):
        started(Counting(room=0)).outputs(ROWS)


def test_other_errors_of_a_network_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        started(Counting(room=0, message="shapes do not fit")).outputs(ROWS)


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Counting()
    running = started(network, 1)
    monkeypatch.setattr(runner, "_KEPT_BYTES", 4 * (3 + 4 + 200))
    for row in ROWS[:5]:
        running.outputs([row])
    assert list(running._recent) == ROWS[1:5]
    running.outputs([ROWS[1]])  # used again, so it is now the youngest
    running.outputs([ROWS[5]])
    assert list(running._recent) == [ROWS[3], ROWS[4], ROWS[1], ROWS[5]]
    assert len(network.shapes) == 6


def test_outputs_that_are_asked_for_are_given_even_if_they_cannot_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "_KEPT_BYTES", 0)
    running = started(Counting())
    assert len(running.outputs(ROWS)) == 9
    assert len(running._recent) == 0
