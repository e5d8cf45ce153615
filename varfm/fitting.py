"""Fitting to labels: a linear head on a language model's embeddings, and a LoRA adapter together with it.

The head comes first, on the embeddings of the model as it is; from there adapter and head learn together. An adapter
that has learned nothing therefore gives what the head alone gives.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from varfm.errors import DeviceError, MissingExtra
from varfm.models.language import LanguageNetwork
from varfm.protocols import Row
from varfm.runner import OUT_OF_MEMORY
from varfm.scorers.embedding import Head

_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Of the penalty on a head's weights, per allele; that with the smallest loss in validation is taken."""

_HEADS = {"cls", "lm_head", "mlm_head"}
_NOT_ADAPTED = {"pooler", "filter_fn", "dt_proj"}
"""Parts with dense layers that are small, make filters, or are not read."""

_MAX_NORM = 1.0
_DECAY = 0.01
ADAPTER = "default"
"""What peft calls an adapter that nobody named."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How adapter and head are trained.

    Attributes:
        rank: Columns of A, rows of B.
        alpha: The product of both counts alpha / rank times.
        learning_rate: Of AdamW, for adapter and head.
        epochs: Times that all alleles of the training part are read, at most.
        patience: Epochs without a smaller loss in validation, after which training ends.
        batch: Alleles per step.
        seed: Of the order of alleles, the strands, and A's first values.
    """

    rank: int = 8
    alpha: int = 16
    learning_rate: float = 1e-3
    epochs: int = 20
    patience: int = 3
    batch: int = 16
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Task:
    """Labels as they are fitted: 0 and 1, or real ones brought to mean 0 and standard deviation 1.

    Attributes:
        is_binary: True for 0 and 1.
        mean: Taken off real labels.
        spread: What they are divided by.
    """

    is_binary: bool
    mean: float = 0.0
    spread: float = 1.0

    @classmethod
    def of(cls, labels: NDArray[np.float64], is_binary: bool) -> Task:
        """Fit it to the labels of the training part."""
        return cls(True) if is_binary else cls(False, float(labels.mean()), float(labels.std()) or 1.0)

    def targets(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give what a head is to answer."""
        return (labels - self.mean) / self.spread

    def loss(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Give the mean loss: cross entropy, or the square of the difference."""
        if self.is_binary:
            return functional.binary_cross_entropy_with_logits(answers, targets)
        return functional.mse_loss(answers, targets)


class LinearHead(nn.Module):
    """A linear function of e(ref) and e(alt) - e(ref), each number brought to mean 0 and standard deviation 1.

    Args:
        features: (n, 2 * width) of the training part, which say what is standard.
    """

    def __init__(self, features: NDArray[np.float32]) -> None:
        super().__init__()
        spread = features.std(0, dtype=np.float64)
        self.register_buffer("mean", torch.from_numpy(features.mean(0, dtype=np.float64)).float())
        self.register_buffer("spread", torch.from_numpy(np.where(spread > 1e-8, spread, 1.0)).float())
        self.weight = nn.Parameter(torch.zeros(features.shape[1]))
        self.bias = nn.Parameter(torch.zeros(()))

    mean: Tensor
    spread: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """(n, 2 * width) -> (n,)."""
        return self.standard(features) @ self.weight + self.bias

    def standard(self, features: Tensor) -> Tensor:
        """Bring features to mean 0 and standard deviation 1 in the training part."""
        return (features - self.mean) / self.spread

    def folded(self, task: Task) -> Head:
        """Give the same function of plain embeddings, in the unit of the labels."""
        weight, mean, spread = (part.detach().double().cpu().numpy() for part in (self.weight, self.mean, self.spread))
        weight = weight / spread
        bias = float(self.bias.detach()) - float(mean @ weight)
        of_ref, of_change = np.split(weight * task.spread, 2)
        return Head(of_ref, of_change, bias * task.spread + task.mean, task.is_binary)


def fit_head(
    features: NDArray[np.float32], targets: NDArray[np.float64], parts: Sequence[NDArray[np.bool_]], task: Task
) -> LinearHead:
    """Fit a head with a penalty on its weights.

    Args:
        features: (n, 2 * width).
        targets: (n,) of `Task.targets`.
        parts: Masks (n,) of the training and the validation part.
    """
    training, validation = parts
    head = LinearHead(features[training])
    x, y = head.standard(torch.from_numpy(features)).double().numpy(), targets
    best = np.inf
    for strength in _STRENGTHS:
        weight, bias = _solved(x[training], y[training], strength, task)
        answers = torch.from_numpy(x[validation] @ weight + bias)
        loss = float(task.loss(answers, torch.from_numpy(y[validation])))
        if loss < best:
            best = loss
            head.weight.data = torch.from_numpy(weight).float()
            head.bias.data = torch.tensor(bias, dtype=torch.float32)
    return head


def _solved(
    x: NDArray[np.float64], y: NDArray[np.float64], strength: float, task: Task
) -> tuple[NDArray[np.float64], float]:
    from sklearn import linear_model
    from sklearn.exceptions import ConvergenceWarning

    if not task.is_binary:
        found = linear_model.Ridge(alpha=strength * len(y), solver="cholesky").fit(x, y)
        return found.coef_, float(found.intercept_)
    with warnings.catch_warnings():  # nearly converged is good enough for a start
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = linear_model.LogisticRegression(C=1 / (strength * len(y)), max_iter=300).fit(x, y)
    return found.coef_[0], float(found.intercept_[0])


def require_packages() -> None:
    """Make sure that what is needed is installed, before any work.

    Raises:
        MissingExtra: If a package is not there.
    """
    for module, package in (("peft", "peft"), ("sklearn", "scikit-learn")):
        if importlib.util.find_spec(module) is None:
            raise MissingExtra(package, "finetune", "varfm finetune")


def metrics(answers: NDArray[np.float64], labels: NDArray[np.float64], is_binary: bool) -> dict[str, float | None]:
    """Compare answers, of any scale, with labels: by AUROC and AUPRC, or by Pearson's and Spearman's correlation.

    Returns:
        Name to value; None where the labels are all alike, or the answers are.
    """
    names = ("auroc", "auprc") if is_binary else ("pearson", "spearman")
    if len(np.unique(labels)) < 2 or (not is_binary and len(np.unique(answers)) < 2):
        return dict.fromkeys(names)
    if is_binary:
        from sklearn.metrics import average_precision_score, roc_auc_score

        scores = roc_auc_score(labels, answers), average_precision_score(labels, answers)
        return dict(zip(names, map(float, scores), strict=True))
    from scipy import stats

    return {
        "pearson": float(stats.pearsonr(answers, labels).statistic),
        "spearman": float(stats.spearmanr(answers, labels).statistic),
    }


def inject(network: nn.Module, schedule: Schedule) -> Any:
    """Put an adapter that does nothing yet beside every dense layer below the head.

    Returns:
        peft's configuration.
    """
    import peft

    torch.manual_seed(schedule.seed)
    config = peft.LoraConfig(r=schedule.rank, lora_alpha=schedule.alpha, target_modules=adapted_layers(network))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about kinds of networks that peft does not know
        peft.inject_adapter_in_model(config, network)
    return config


def adapted_layers(network: nn.Module) -> list[str]:
    """Name the dense layers that are adapted, as the authors' class calls them."""
    return [
        name
        for name, module in network.named_modules()
        if type(module) is nn.Linear and name.split(".")[0] not in _HEADS and not _NOT_ADAPTED & set(name.split("."))
    ]


def adapter_state(network: nn.Module) -> dict[str, Tensor]:
    """Give the adapter's values: layer, `lora_A` or `lora_B`, and `weight`, by the names that peft writes."""
    return {
        name.replace(f".{ADAPTER}.", "."): value.detach().cpu()
        for name, value in network.named_parameters()
        if f".{ADAPTER}." in name
    }


@dataclass
class Fit:
    """Trains adapter and head.

    Attributes:
        network: With an adapter in it.
        head: Fitted to the model as it is.
        task: What the labels are.
        rows: Gives the network's rows of an example: of ref, strand by strand, then of alt.
        schedule: How to train.
        losses: Mean loss in training and in validation after each epoch; the first is that of the head alone.
        best_epoch: The one whose values are kept; 0 for the head alone.
    """

    network: LanguageNetwork
    head: LinearHead
    task: Task
    rows: Callable[[int], list[Row]]
    schedule: Schedule
    losses: list[tuple[float | None, float]] = field(default_factory=list)
    best_epoch: int = 0

    def __post_init__(self) -> None:
        self._device = next(self.network.parameters()).device
        self.head.to(self._device)
        self._learned = [value for name, value in self.network.named_parameters() if f".{ADAPTER}." in name]
        self._learned += list(self.head.parameters())
        self._order = np.random.default_rng(self.schedule.seed)

    def run(
        self,
        training: NDArray[np.int64],
        validation: NDArray[np.int64],
        targets: NDArray[np.float64],
        advance: Callable[[int, float | None], None],
    ) -> None:
        """Train until the loss in validation no longer falls, and go back to where it was smallest.

        Args:
            training: Numbers of examples.
            validation: Likewise.
            targets: (n,) of all examples.
            advance: Told after each step how many alleles it read, and the share of the schedule that is done.

        Raises:
            DeviceError: If memory runs out.
        """
        with _memory_errors(self._device):
            self._run(training, validation, targets, advance)

    def _run(
        self,
        training: NDArray[np.int64],
        validation: NDArray[np.int64],
        targets: NDArray[np.float64],
        advance: Callable[[int, float | None], None],
    ) -> None:
        optimizer = torch.optim.AdamW(self._learned, self.schedule.learning_rate, weight_decay=_DECAY)
        wanted = torch.from_numpy(targets).float().to(self._device)
        n_all = self.schedule.epochs * (len(training) + len(validation))
        n_done = 0

        def count(n_alleles: int) -> None:
            nonlocal n_done
            n_done += n_alleles
            advance(n_alleles, n_done / n_all)

        self.losses.append((None, self._loss(validation, wanted, lambda n_alleles: None)))
        best = [value.detach().clone() for value in self._learned]
        for epoch in range(1, self.schedule.epochs + 1):
            loss = self._train(training, wanted, optimizer, count)
            self.losses.append((loss, self._loss(validation, wanted, count)))
            if self.losses[-1][1] < self.losses[self.best_epoch][1]:
                self.best_epoch = epoch
                best = [value.detach().clone() for value in self._learned]
            elif epoch - self.best_epoch >= self.schedule.patience:
                break
        for value, kept in zip(self._learned, best, strict=True):
            value.data = kept

    def answers(self, examples: NDArray[np.int64], count: Callable[[int], None] = lambda n: None) -> Tensor:
        """Give the head's (n,) answers, strands averaged."""
        found = []
        with torch.no_grad():
            for piece in self._pieces(examples):
                rows = [self.rows(number) for number in piece.tolist()]
                embedded = self._embedded([row for own in rows for row in own])
                ref, alt = embedded.view(len(piece), 2, -1, embedded.shape[1]).mean(2).unbind(1)
                found.append(self.head(torch.cat([ref, alt - ref], 1)))
                count(len(piece))
        return torch.cat(found) if found else torch.zeros(0, device=self._device)

    def _loss(self, examples: NDArray[np.int64], targets: Tensor, count: Callable[[int], None]) -> float:
        return float(self.task.loss(self.answers(examples, count), targets[examples]))

    def _train(
        self,
        examples: NDArray[np.int64],
        targets: Tensor,
        optimizer: torch.optim.Optimizer,
        count: Callable[[int], None],
    ) -> float:
        """Read all examples once, each on one strand, and give the mean loss."""
        total = 0.0
        for piece in self._pieces(self._order.permutation(examples)):
            rows = []
            for number in piece.tolist():
                own = self.rows(number)
                strand = int(self._order.integers(len(own) // 2))
                rows += [own[strand], own[len(own) // 2 + strand]]
            ref, alt = self._embedded(rows).view(len(piece), 2, -1).unbind(1)
            loss = self.task.loss(self.head(torch.cat([ref, alt - ref], 1)), targets[piece])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._learned, _MAX_NORM)
            optimizer.step()
            total += float(loss.detach()) * len(piece)
            count(len(piece))
        return total / len(examples)

    def _pieces(self, examples: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
        for start in range(0, len(examples), self.schedule.batch):
            yield examples[start : start + self.schedule.batch]

    def _embedded(self, rows: Sequence[Row]) -> Tensor:
        """Run the network on rows, those of a kind together -> (n, width)."""
        alike: dict[object, list[int]] = {}
        for number, row in enumerate(rows):
            alike.setdefault(self.network.kind_of(row), []).append(number)
        found: list[Tensor] = [torch.empty(0)] * len(rows)
        for numbers in alike.values():
            codes = np.frombuffer(b"".join(rows[number] for number in numbers), np.uint8).reshape(len(numbers), -1)
            answers = self.network.forward(torch.from_numpy(codes.copy()).to(self._device))
            for number, answer in zip(numbers, answers.unbind(0), strict=True):
                found[number] = answer
        return torch.stack(found)


@contextmanager
def _memory_errors(device: torch.device) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch's own error for it is one, too
        if not isinstance(error, torch.OutOfMemoryError) and not any(text in str(error) for text in OUT_OF_MEMORY):
            raise
        raise DeviceError(
            f"memory ran out on {device} while training. Use a smaller --batch-size or --window, or another --device."
        ) from error
