"""Runs one network on rows: distinct rows once, in batches of fixed shape, recent outputs kept."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from varfm.changes import Changes, References, compared_span
from varfm.delta.executor import Executor
from varfm.delta.mixed import MixedExecutor
from varfm.errors import DeviceError
from varfm.plan import Plan
from varfm.precision import BOUND, Effect, check, in_bfloat16, relative_error, widened
from varfm.protocols import Asked, Change, Model, Network, Row, n_bytes

logger = logging.getLogger(__name__)

OUT_OF_MEMORY = ("can't allocate memory", "MPS backend out of memory")
"""What torch says where it has no error of its own for it."""

_PROBED_VALUES = 1024  # answers compared before the first record: with fewer, sums in another order may agree by chance
_PROBED_BATCHES = 4
_LEAST_MEASURED, _MOST_MEASURED = 2, 16  # changed windows of the first batch that are computed again in float32
_KEPT_BYTES = 128 * 2**20  # rows and outputs kept for sites that come later
_PENDING_BYTES = 256 * 2**20  # of reference windows whose changes are not run yet


class Runner:
    """Answers rows with a model's network.

    An output depends on what is asked and on the plan alone: every batch has the plan's number of rows, missing ones
    are filled up. A `Change` is computed from its base alone, and kept apart from the same row asked by itself. Outputs
    stay on the device.

    Args:
        model: Must have a network.
        plan: Says device, rows per batch, and how changed rows are computed.

    Raises:
        DeviceError: If not even one row fits the memory.
    """

    def __init__(self, model: Model, plan: Plan) -> None:
        assert model.network is not None
        self.name = model.name
        self.network: Network = model.network
        self.device = torch.device(plan.device)
        self.batch_rows = plan.rows_of(model.name)
        self.changed_rows = plan.changed_rows_of(model.name)
        self.is_incremental = plan.way_of(model.name) == "incremental"
        self.is_mixed = plan.precision == "mixed"
        self.precision_error: float | None = None  # measured on the first batch in mixed precision
        self.halved = 0
        self.n_computed = 0  # rows, without those that were known
        self.output_bytes = 0  # of one row; known once a batch was run
        self._recent: OrderedDict[Asked, Tensor] = OrderedDict()
        self._recent_bytes = 0
        self._changes: Changes | None = None
        if self.device.type == "cpu":
            torch.set_num_threads(plan.threads)
        elif self.device.type == "cuda":  # torch's convolutions take 10 bits for 23 unless they are told not to
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        if isinstance(self.network, torch.nn.Module):
            if plan.precision == "bfloat16":
                self.network = in_bfloat16(self.network)
            self.network.to(self.device).eval()

    @property
    def changes(self) -> Changes:
        """The incremental way, made when it is first asked for."""
        if self._changes is None:
            assert isinstance(self.network, torch.nn.Module) and self.network.length is not None
            executor = (MixedExecutor if self.is_mixed else Executor)(self.network, self.network.length)
            self._changes = Changes(executor, self.device)
        return self._changes

    def compared(self, base: Row, row: Row) -> tuple[Asked, Asked]:
        """Give what to ask for a reference row, and for an alternate row that is compared with it alone.

        In mixed precision both are computed in the same span, from the same reference values.
        """
        if not self.is_mixed:
            return base, Change(base, row)
        span = compared_span(Change(base, row), len(base))
        return Change(base, base, span), Change(base, row, span)

    def probe(self) -> int:
        """Run batches of equal rows, and give the rows per batch that fit the memory and are all answered alike.

        Libraries of matrix products may add up in another order in the last rows of a batch. A batch in which one and
        the same row is answered in two ways would make scores depend on their neighbours, so a smaller one is taken.

        Raises:
            DeviceError: If not even one row fits.
        """
        length = self.network.length
        if length is not None:
            draw = np.random.default_rng(0)
            sequences = [draw.integers(0, 4, length).astype(np.uint8).tobytes() for _ in range(_PROBED_BATCHES)]
            sample = getattr(self.network, "sample", None)
            rows = sequences if sample is None else [sample(sequence) for sequence in sequences]
            while not self._answers_alike(rows):
                self.batch_rows //= 2
                logger.info("%s: equal rows of a batch differ here; going on with %d rows", self.name, self.batch_rows)
            if self.is_incremental:
                self._probe_changes(sequences[0])
        self.halved = 0
        return self.batch_rows

    def _answers_alike(self, rows: list[Row]) -> bool:
        n_values = 0
        for row in rows:
            answers = self._repeated(row)
            if not all(torch.equal(answer, answers[0]) for answer in answers[1:]):
                return False
            n_values += answers[0].numel()
            if n_values >= _PROBED_VALUES or self.batch_rows == 1:
                break
        return True

    def _repeated(self, row: Row) -> Tensor:
        while True:
            try:
                return self._forward([row] * self.batch_rows)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                self._halve(error)

    def _probe_changes(self, base: Row) -> None:
        """Run a change in the middle of a window, whose batches are held against each other as all that come later."""
        middle = len(base) // 2
        self._change([base], [Change(base, base[:middle] + bytes([(base[middle] + 1) % 4]) + base[middle + 1 :])])
        self.changed_rows = self.changes.rows_that_agree(self.changed_rows)

    def outputs(self, asked: Iterable[Asked]) -> dict[Asked, Tensor]:
        """Give the output of each distinct row, and of each distinct change.

        Args:
            asked: Any number, of any mix of lengths, repeats allowed. Changes, many of one base or few of many, only
                for networks that read rows of one length; the rows of a change are not answered beside it.

        Returns:
            What was asked -> output without the batch axis, on the device.
        """
        wanted = list(dict.fromkeys(asked))
        found = {one: self._recent[one] for one in wanted if one in self._recent}
        left = [one for one in wanted if one not in found]
        self.n_computed += len(left)
        rows = [one for one in left if not isinstance(one, Change)]
        changes = [one for one in left if isinstance(one, Change)]
        if changes:
            found.update(self._change(rows, changes))
        else:
            alike: dict[Hashable, list[Row]] = {}
            kind_of = getattr(self.network, "kind_of", len)
            for row in rows:
                alike.setdefault(kind_of(row), []).append(row)
            for of_a_kind in alike.values():
                found.update(self._compute(of_a_kind))
        found = {one: widened(output) for one, output in found.items()}
        if self.is_mixed and self.precision_error is None:
            self._measure({one: found[one] for one in wanted})
        self._keep(found)
        return {one: found[one] for one in wanted}

    def _measure(self, found: Mapping[Asked, Tensor]) -> None:
        """Compute the first changes again in float32, window by window, and stop where theirs are too far off.

        Nothing that is scored depends on it.
        """
        changes = [one for one in found if isinstance(one, Change) and one.row != one.base]
        pairs = [(one, found.get(Change(one.base, one.base, one.span))) for one in changes]
        known = [(one, reference) for one, reference in pairs if reference is not None]
        known = known[: max(_LEAST_MEASURED, min(_MOST_MEASURED, self.batch_rows))]
        error = relative_error(
            Effect(found[one] - reference, self._whole(one.row) - self._whole(one.base)) for one, reference in known
        )
        if error is None:
            return
        check(self.name, error)
        self.precision_error = float(f"{error:.3g}")
        logger.warning(
            "%s: differences between alleles in mixed precision are off by %.2g %% (relative rms over %d changed "
            "windows, against float32); the run would stop beyond %.0f %%",
            self.name, 100 * error, len(known), 100 * BOUND,
        )  # fmt: skip

    @torch.inference_mode()
    def _whole(self, row: Row) -> Tensor:
        try:
            return self.network.forward(self.codes([row], 1))[0]
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise self._too_little_memory() from error

    def _compute(self, rows: list[Row]) -> dict[Asked, Tensor]:
        done: dict[Asked, Tensor] = {}
        while len(done) < len(rows):
            piece = rows[len(done) : len(done) + self.batch_rows]
            try:
                outputs = self._forward(piece)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                self._halve(error)
                continue
            done.update(zip(piece, outputs.unbind(0), strict=False))
        return done

    @torch.inference_mode()
    def _forward(self, rows: list[Row]) -> Tensor:
        codes = self.codes(rows, self.batch_rows)
        outputs = self.changes.executor.reference(codes, [])[0] if self.is_incremental else self.network.forward(codes)
        self.output_bytes = outputs[0].numel() * outputs.element_size()
        # A copy lets go of the filled-up ones.
        return outputs if len(rows) == self.batch_rows else outputs[: len(rows)].clone()

    def codes(self, rows: Sequence[Row], n_rows: int) -> Tensor:
        """Put rows side by side on the device, the last one repeated up to `n_rows`."""
        filled = [*rows, *[rows[-1]] * (n_rows - len(rows))]
        codes = np.frombuffer(b"".join(filled), np.uint8).reshape(n_rows, -1)
        return torch.from_numpy(codes.copy()).to(self.device)

    @torch.inference_mode()
    def _change(self, rows: list[Row], changes: list[Change]) -> dict[Asked, Tensor]:
        """Run reference rows batch by batch, and their changes whenever enough has come together."""
        references = References(self.changes.executor, rows, changes)
        found: dict[Asked, Tensor] = {}
        while references.left:
            piece = references.left[: self.batch_rows]
            try:
                outputs = self.changes.run_references(references, piece, self.codes(piece, self.batch_rows))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                self._halve(error)
                continue
            self.output_bytes = outputs[0].numel() * outputs.element_size()
            found.update(zip(piece, outputs.unbind(0), strict=False))
            references.left = references.left[len(piece) :]
            if references.pending_bytes > _PENDING_BYTES or not references.left:
                self._run_pending(references, found)
        for change in references.unchanged:
            found[change] = found[change.base]
        return found

    def _run_pending(self, references: References, found: dict[Asked, Tensor]) -> None:
        while references.pending:
            try:
                found.update(self.changes.run_pending(references, self.changed_rows))
            except (torch.OutOfMemoryError, RuntimeError) as error:
                self._halve(error)

    def _halve(self, error: RuntimeError) -> None:
        if not _is_out_of_memory(error):
            raise error
        if self.batch_rows == 1 and (self.changed_rows == 1 or not self.is_incremental):
            raise self._too_little_memory() from error
        self.batch_rows, self.changed_rows = max(1, self.batch_rows // 2), max(1, self.changed_rows // 2)
        self.halved += 1
        logger.warning(
            "%s: memory ran out on %s; going on with %d rows per batch", self.name, self.device, self.batch_rows
        )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _too_little_memory(self) -> DeviceError:
        return DeviceError(
            f"{self.name}: {self.device} has too little free memory for one sequence. "
            "Free memory there, or use --device cpu."
        )

    def _keep(self, outputs: dict[Asked, Tensor]) -> None:
        for row, output in outputs.items():
            if row in self._recent:
                self._recent.move_to_end(row)
            else:
                # A view would keep the whole batch.
                self._recent[row] = output if self.batch_rows == 1 else output.clone()
                self._recent_bytes += _size(row, output)
        while self._recent_bytes > _KEPT_BYTES:
            row, output = self._recent.popitem(last=False)
            self._recent_bytes -= _size(row, output)


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


def _size(asked: Asked, output: Tensor) -> int:
    return n_bytes(asked) + output.numel() * output.element_size() + 200  # of Python's own objects
