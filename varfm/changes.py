"""The incremental way of a runner: reference rows with what their changes read of them, and the changes by place."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from varfm.delta.executor import Context, Executor, joined
from varfm.delta.grid import changed_span, is_narrow, on_grid
from varfm.delta.rules import Span
from varfm.delta.spans import Route
from varfm.protocols import Asked, Change, Row

_WIDE_SHARE = 4
"""Changes of a large part of the window are run in batches so many times smaller: few of them are of one place."""

_MANY = 4
"""Passes that are run as one where so many are full: short stretches fill a processor better side by side."""

_PROBED_VALUES = 1024
_PROBED_BATCHES = 4
_JOINED_ROWS = range(4, 13)  # of a pass: models with fewer take much memory for each, GPUs take more as it is


class References:
    """Reference rows to run, and what is to be computed from each of them.

    Args:
        executor: Of the network.
        rows: To be answered themselves.
        changes: Their bases are added to `rows`.

    Attributes:
        left: Rows to run, bases first.
        unchanged: Changes that change nothing.
        pending: Contexts of rows that were run, and the changes from their windows, by the way of the change.
        pending_bytes: Memory of these contexts.
    """

    def __init__(self, executor: Executor, rows: Sequence[Row], changes: Sequence[Change]) -> None:
        self._changes: dict[Row, dict[Route, list[Change]]] = {}
        self.unchanged: list[Change] = []
        for change in changes:
            of_base = self._changes.setdefault(change.base, {})
            span = compared_span(change, executor.length)
            if span is not None:
                of_base.setdefault(executor.route(span), []).append(change)
            else:
                self.unchanged.append(change)
        self.left: list[Row] = list(dict.fromkeys([*self._changes, *rows]))
        self.pending: dict[Route, list[tuple[Context, list[list[Change]]]]] = {}
        self.pending_bytes = 0

    def routes(self, rows: Sequence[Row]) -> list[Route]:
        """Give the ways of the changes from some rows, each once."""
        return list(dict.fromkeys(route for row in rows for route in self._changes.get(row, ())))

    def add(self, rows: Sequence[Row], route: Route, context: Context) -> None:
        """Take the context of a batch that begins with some rows; windows without such a change are let go."""
        wanted = [number for number, row in enumerate(rows) if route in self._changes.get(row, ())]
        chosen = context.chosen(torch.tensor(wanted, device=context.device))
        self.pending.setdefault(route, []).append((chosen, [self._changes[rows[number]][route] for number in wanted]))
        self.pending_bytes += chosen.n_bytes


def compared_span(change: Change, length: int) -> Span | None:
    """Give the span of the grid in which a change is computed: its own, or the one of its difference; None for none."""
    if change.span is not None:
        return Span(*change.span)
    differing = changed_span(change.base, change.row)
    return on_grid(differing, length) if differing.width else None


class Changes:
    """Runs reference rows and their changes in batches of fixed shape.

    Args:
        executor: Of the network, on the device.
        device: Where it is.
    """

    def __init__(self, executor: Executor, device: torch.device) -> None:
        self.executor = executor
        self._device = device
        self._agreeing: dict[tuple[tuple[int, ...], int], int] = {}
        self._joins: dict[tuple[int, ...], int] = {}

    def run_references(self, references: References, rows: Sequence[Row], codes: Tensor) -> Tensor:
        """Run one batch of reference rows, (n, length) codes -> outputs of `rows`, its first ones."""
        routes = references.routes(rows)
        outputs, contexts = self.executor.reference(codes, routes)
        for route, context in zip(routes, contexts, strict=True):
            references.add(rows, route, context)
        return outputs if len(rows) == len(codes) else outputs[: len(rows)].clone()

    def run_pending(self, references: References, n_rows: int) -> dict[Asked, Tensor]:
        """Run all changes of one way, and let go of its contexts."""
        route, pieces = next(iter(references.pending.items()))
        context = joined([piece for piece, _ in pieces])
        windows = [changes for _, of_piece in pieces for changes in of_piece]
        jobs = [(number, change) for number, changes in enumerate(windows) for change in changes]
        n_rows = self._rows_of(route, context, n_rows)
        found: dict[Asked, Tensor] = {}
        while len(found) < len(jobs):
            n_left = len(jobs) - len(found)
            block = self._joined_block(context, n_rows) if n_left >= _MANY * n_rows else 0
            piece = jobs[len(found) : len(found) + (_MANY if block else 1) * n_rows]
            outputs = self._alternate(context, piece, _MANY * n_rows if block else n_rows, block or n_rows)
            found.update(zip((change for _, change in piece), outputs.unbind(0), strict=False))
        references.pending_bytes -= sum(piece.n_bytes for piece, _ in references.pending.pop(route))
        return found

    def _alternate(self, context: Context, jobs: Sequence[tuple[int, Change]], n_rows: int, block: int) -> Tensor:
        filled = [*jobs, *[jobs[-1]] * (n_rows - len(jobs))]
        span = context.route.span
        bases = b"".join(change.row[span.start : span.stop] for _, change in filled)
        codes = torch.from_numpy(np.frombuffer(bases, np.uint8).reshape(n_rows, span.width).copy()).to(self._device)
        rows = torch.tensor([number for number, _ in filled], device=self._device)
        outputs = self.executor.alternate(codes, context, rows, block)
        return outputs if len(jobs) == n_rows else outputs[: len(jobs)].clone()

    def _rows_of(self, route: Route, context: Context, n_rows: int) -> int:
        """Give the rows per batch on one way: as many as are answered alike, whatever their place in it.

        That is tried with values of no meaning, once for all ways on which tensors have the same shapes, so that it
        depends on the place of a change and on nothing else.
        """
        most = n_rows if is_narrow(route.span) else max(1, n_rows // _WIDE_SHARE)
        key = route.shape, most
        if key not in self._agreeing:
            rows = most
            while not self._agree(context, rows):
                rows //= 2
            self._agreeing[key] = rows
        return self._agreeing[key]

    def _joined_block(self, context: Context, n_rows: int) -> int:
        """Give the rows of a dense part if several passes are run as one; 0 if they are not.

        What a change is answered must not depend on how many others are asked for, so they are joined only if they are
        answered as each by itself; that is tried once for tensors of one shape.
        """
        route = context.route
        if n_rows not in _JOINED_ROWS or not is_narrow(route.span):
            return 0
        if route.shape not in self._joins:
            blocks = (block for block in (_MANY * n_rows, n_rows) if self._can_join(context, n_rows, block))
            self._joins[route.shape] = next(blocks, 0)
        return self._joins[route.shape]

    def _can_join(self, context: Context, n_rows: int, block: int) -> bool:
        alone = self._drawn_answers(context, n_rows, n_rows)
        together = self._drawn_answers(context, block, _MANY * n_rows)
        return all(torch.equal(row, one[0]) for one, many in zip(alone, together, strict=True) for row in many)

    def _agree(self, context: Context, n_rows: int) -> bool:
        if n_rows == 1:
            return True
        return all(
            torch.equal(answer, answers[0])
            for answers in self._drawn_answers(context, n_rows, n_rows)
            for answer in answers[1:]
        )

    def _drawn_answers(self, context: Context, block: int, n_rows: int) -> Iterator[Tensor]:
        """Ask for equal rows of values without meaning, again and again until there are enough values to compare."""
        codes = torch.zeros(n_rows, context.route.span.width, dtype=torch.uint8, device=self._device)
        rows = torch.zeros(n_rows, dtype=torch.int64, device=self._device)
        n_values = 0
        for seed in range(_PROBED_BATCHES):
            answers = self.executor.alternate(codes, context.drawn(seed), rows, block)
            yield answers
            n_values += answers[0].numel()
            if n_values >= _PROBED_VALUES:
                break

    def rows_that_agree(self, n_rows: int) -> int:
        """Give the most rows per batch that were answered alike so far."""
        return max((rows for (_, most), rows in self._agreeing.items() if most == n_rows), default=n_rows)
