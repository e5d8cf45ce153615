"""Runs one network on rows: distinct rows once, in batches of fixed shape, recent outputs kept."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Hashable, Iterable

import numpy as np
import torch
from torch import Tensor

from varfm.errors import DeviceError
from varfm.plan import Plan
from varfm.protocols import Model, Network, Row

logger = logging.getLogger(__name__)

_OUT_OF_MEMORY = ("can't allocate memory", "MPS backend out of memory")
_PROBED_VALUES = 1024  # answers compared before the first record: with fewer, sums in another order may agree by chance
_PROBED_BATCHES = 4
_KEPT_BYTES = 128 * 2**20  # rows and outputs kept for sites that come later


class Runner:
    """Answers rows with a model's network.

    A row's output depends on the row and the plan alone: every batch has the plan's number of rows, missing ones are
    filled up. Outputs stay on the device.

    Args:
        model: Must have a network.
        plan: Says device and rows per batch.

    Raises:
        DeviceError: If not even one row fits the memory.
    """

    def __init__(self, model: Model, plan: Plan) -> None:
        assert model.network is not None
        self.name = model.name
        self.network: Network = model.network
        self.device = torch.device(plan.device)
        self.batch_rows = plan.rows_of(model.name)
        self.halved = 0
        self.output_bytes = 0  # of one row; known once a batch was run
        self._recent: OrderedDict[Row, Tensor] = OrderedDict()
        self._recent_bytes = 0
        if self.device.type == "cpu":
            torch.set_num_threads(plan.threads)
        if isinstance(self.network, torch.nn.Module):
            self.network.to(self.device).eval()

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

    def outputs(self, rows: Iterable[Row]) -> dict[Row, Tensor]:
        """Give the output of each distinct row.

        Args:
            rows: Any number, of any mix of lengths, repeats allowed.

        Returns:
            Row -> output without the batch axis, on the device.
        """
        wanted = list(dict.fromkeys(rows))
        found = {row: self._recent[row] for row in wanted if row in self._recent}
        alike: dict[Hashable, list[Row]] = {}
        kind_of = getattr(self.network, "kind_of", len)
        for row in wanted:
            if row not in found:
                alike.setdefault(kind_of(row), []).append(row)
        for of_a_kind in alike.values():
            found.update(self._compute(of_a_kind))
        self._keep(found)
        return found

    def _compute(self, rows: list[Row]) -> dict[Row, Tensor]:
        done: dict[Row, Tensor] = {}
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
        filled = rows + [rows[-1]] * (self.batch_rows - len(rows))
        codes = np.frombuffer(b"".join(filled), np.uint8).reshape(self.batch_rows, -1)
        outputs = self.network.forward(torch.from_numpy(codes.copy()).to(self.device))
        self.output_bytes = outputs[0].numel() * outputs.element_size()
        # A copy lets go of the filled-up ones.
        return outputs if len(rows) == self.batch_rows else outputs[: len(rows)].clone()

    def _halve(self, error: RuntimeError) -> None:
        if not isinstance(error, torch.OutOfMemoryError) and not any(text in str(error) for text in _OUT_OF_MEMORY):
            raise error
        if self.batch_rows == 1:
            raise DeviceError(
                f"{self.name}: {self.device} has too little free memory for one sequence. "
                "Free memory there, or use --device cpu."
            ) from error
        self.batch_rows //= 2
        self.halved += 1
        logger.warning(
            "%s: memory ran out on %s; going on with %d rows per batch", self.name, self.device, self.batch_rows
        )
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _keep(self, outputs: dict[Row, Tensor]) -> None:
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


def _size(row: Row, output: Tensor) -> int:
    return len(row) + output.numel() * output.element_size() + 200  # of Python's own objects
