"""The numeric plan: everything besides weights, alleles and options on which the last digits of a score depend.

It is fixed before the first record, from model and options alone. Equal plans give equal bytes, whatever the order of
the records, their duplicates or how a run is cut.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

from varfm.digits import is_whole
from varfm.errors import DeviceError, OptionError
from varfm.protocols import Model

Precision = Literal["float32", "mixed", "bfloat16"]
"""What networks compute in. Mixed: reference windows in bfloat16, what changes in them in float32 for both alleles."""

Way = Literal["full", "incremental"]
"""How alternate windows are computed: whole, or from what changes in their reference window."""

_MOST_THREADS = 1024  # with some ten thousand, OpenMP ends the process, by a signal or with status 1
_SNVS_OF_A_CELL = 12  # three at each of four neighbouring bases, which are changes of one place
_FEW_ROWS = 4  # below it, what one whole row takes of memory leaves no room for many changed ones
_LEAST_CHANGED = 2  # an SNV changes two windows alike, one per strand


@dataclass(frozen=True, slots=True)
class Plan:
    """How networks are run.

    Attributes:
        device: As torch writes it: `cpu`, `cuda:0`, `mps`.
        precision: Of the networks.
        threads: Threads of one operation on the CPU.
        batch_rows: Model name and rows per forward pass; shorter batches are filled up to it.
        changed_rows: The same for passes of windows that change in a few neighbouring bases; a quarter where many do.
        executor: Model name and how its alternate windows are computed.
        torch: Version of torch, where a network runs.
    """

    device: str
    precision: Precision
    threads: int
    batch_rows: tuple[tuple[str, int], ...]
    changed_rows: tuple[tuple[str, int], ...]
    executor: tuple[tuple[str, Way], ...]
    torch: str

    def rows_of(self, model: str) -> int:
        """Rows per forward pass of a model."""
        return dict(self.batch_rows)[model]

    def way_of(self, model: str) -> Way:
        """How the alternate windows of a model are computed."""
        return dict(self.executor)[model]

    def changed_rows_of(self, model: str) -> int:
        """Rows per pass of changed windows of a model."""
        return dict(self.changed_rows)[model]

    def with_rows(self, rows: Mapping[str, int], changed_rows: Mapping[str, int] | None = None) -> Plan:
        """The same plan with other rows per pass for some models."""
        changed = changed_rows or {}
        return replace(
            self,
            batch_rows=tuple((name, rows.get(name, n)) for name, n in self.batch_rows),
            changed_rows=tuple((name, changed.get(name, n)) for name, n in self.changed_rows),
        )

    def as_dict(self) -> dict[str, object]:
        """The plan as the manifest holds it."""
        per_model = {name: dict(getattr(self, name)) for name in ("batch_rows", "changed_rows", "executor")}
        return {**asdict(self), **per_model}


def make_plan(
    models: Sequence[Model],
    *,
    device: str = "auto",
    batch_size: int | None = None,
    threads: int = 0,
    exact_full: bool = False,
    precision: Precision = "float32",
) -> Plan:
    """Fix the plan of a run.

    Args:
        models: The models of the run.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        batch_size: Rows per forward pass; None: the model's own constant for the class of device.
        threads: CPU threads; 0: as many as the process may use.
        exact_full: Compute every window whole.
        precision: What networks compute in.

    Raises:
        DeviceError: If the device is not there.
        OptionError: If a value is not one of those above, or a model cannot be computed in mixed precision.
    """
    if precision not in get_args(Precision):
        raise OptionError(f"--precision {precision}: give {', '.join(get_args(Precision))}.")
    executor = tuple((m.name, _way(m, exact_full=exact_full)) for m in models)
    if precision == "mixed":
        _check_mixed(executor, exact_full=exact_full)
    if batch_size is not None and batch_size < 1:
        raise OptionError(f"--batch-size {batch_size}: give 1 or more, or leave it out for the model's own value.")
    if not 0 <= threads <= _MOST_THREADS:
        raise OptionError(f"--threads {threads}: give 1 to {_MOST_THREADS:,}, or 0 for all.")
    # Models without a network need no device, and torch is slow to import.
    has_network = any(model.network is not None for model in models)
    resolved = resolve_device(device) if has_network or device not in ("auto", "cpu") else "cpu"
    on_gpu = resolved != "cpu"
    rows = tuple((model.name, batch_size or model.batch_rows[on_gpu]) for model in models)
    return Plan(
        device=resolved,
        precision=precision,
        threads=threads or n_cpus(),
        batch_rows=rows,
        changed_rows=tuple((name, n if on_gpu else _changed_rows(n)) for name, n in rows),
        executor=executor,
        torch=_torch_version() if has_network else "not used",
    )


def _way(model: Model, *, exact_full: bool) -> Way:
    return "incremental" if model.incremental and not exact_full else "full"


def _check_mixed(executor: Sequence[tuple[str, Way]], *, exact_full: bool) -> None:
    """Refuse models of which every window is computed whole: nothing would be left in float32."""
    if exact_full:
        raise OptionError("--precision mixed and --exact-full exclude each other: leave out one of them.")
    whole = [name for name, way in executor if way == "full"]
    if whole:
        raise OptionError(
            f"--precision mixed: {', '.join(whole)} computes every window whole. Use --precision float32, or a model "
            "that computes alternate windows from what changes in them."
        )


def _changed_rows(batch_rows: int) -> int:
    """Give the rows per pass of changes: those of one cell, which it fills without a rest, unless memory is wanted."""
    return _SNVS_OF_A_CELL if batch_rows >= _FEW_ROWS else max(_LEAST_CHANGED, batch_rows)


def _torch_version() -> str:
    import torch

    return str(torch.__version__)


def n_cpus() -> int:
    """Give the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolve_device(name: str) -> str:
    """Turn the name of a device into one that is there; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        DeviceError: If the device is not there.
        OptionError: If the name is none of a device.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda:0"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and is_whole(number))):
        raise OptionError(f"--device {name}: give auto, cpu, cuda, cuda:N or mps.")
    if kind == "cuda":
        _check_cuda(name, int(number or 0))
        return f"cuda:{int(number or 0)}"
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("--device mps: torch finds no Apple GPU here. Use --device cpu.")
    return kind


def _check_cuda(name: str, number: int) -> None:
    import torch

    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build without CUDA"
        raise DeviceError(
            f"--device {name}: torch {torch.__version__} ({built}) finds no CUDA device here. Use --device cpu."
        )
    if number >= torch.cuda.device_count():
        raise DeviceError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0.")
