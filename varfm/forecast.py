"""How long a run will take and what it will need, from its whole input counted and its beginning scored."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from varfm.alleles import AlleleReader
from varfm.errors import OptionError
from varfm.io.block import ALT, Block
from varfm.io.vcf import VcfReader
from varfm.session import Session

MEASURE_SECONDS = 20.0
SHARD_SECONDS = 1800.0

_SAMPLE_RECORDS = 4096


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run will be like.

    Attributes:
        n_records: In the input.
        n_alleles: In the input.
        n_measured: Alleles that were scored to measure.
        alleles_per_second: Of all models together, once started; 0 if there was none to measure.
        n_windows: Network inputs of the whole run, all models together, scaled from those measured.
        memory: Bytes of this process at its largest.
        device_memory: Bytes on the GPU at their most; None on a CPU.
        device: Where the networks ran.
    """

    n_records: int
    n_alleles: int
    n_measured: int
    alleles_per_second: float
    n_windows: int
    memory: int
    device_memory: int | None
    device: str

    @property
    def seconds(self) -> float:
        """Of the whole run on this device, without its start."""
        return self.n_alleles / self.alleles_per_second if self.alleles_per_second else 0.0

    @property
    def n_shards(self) -> int:
        """Shards of at most half an hour each."""
        return max(1, math.ceil(self.seconds / SHARD_SECONDS))


def forecast(session: Session, seconds: float = MEASURE_SECONDS) -> Forecast:
    """Count the input and score its first alleles: one record, then the next two, four, and so on.

    Args:
        session: Open and not yet iterated.
        seconds: How long to measure; a single slow allele may take longer.

    Raises:
        OptionError: If the input is no file, and so can be read only once.
        VarfmError: One of its children, if the input is malformed or scoring fails.
    """
    path = session.options.vcf
    if not Path(path).is_file():
        raise OptionError(f"--plan {path}: is no file that can be read twice. Give the path of a VCF.")
    n_records, n_alleles = _counted(path)
    n_measured, spent, n_windows = _measured(session, seconds)
    return Forecast(
        n_records=n_records,
        n_alleles=n_alleles,
        n_measured=n_measured,
        alleles_per_second=n_measured / spent,
        n_windows=round(n_windows / n_measured * n_alleles) if n_measured else 0,
        memory=_memory(),
        device_memory=_device_memory(session.plan.device),
        device=session.plan.device,
    )


def _counted(path: str) -> tuple[int, int]:
    n_records = n_alleles = 0
    with VcfReader(path) as reader:
        for block in reader.blocks():
            n_records += block.n_records
            n_alleles += sum(alt.count(b",") + 1 for alt in block.column(ALT))
    return n_records, n_alleles


def _measured(session: Session, seconds: float) -> tuple[int, float, int]:
    """Score until the time is over; gives alleles, seconds and network inputs, without those of the first record.

    A first forward pass is slower than all others: it counts only where there is no other.
    """
    runners = [engine.runner for engine in session.engines if engine.runner]
    reader = AlleleReader(session.genome, session.contigs)
    measured: list[tuple[int, float, int]] = []
    begun = time.perf_counter()
    for block in _growing(session.options.vcf):
        started, n_before = time.perf_counter(), sum(runner.n_computed for runner in runners)
        alleles = reader.read(block)
        for engine in session.engines:
            engine.score(alleles)
        now, n_now = time.perf_counter(), sum(runner.n_computed for runner in runners)
        measured.append((len(alleles), now - started, n_now - n_before))
        if now - begun > seconds:
            break
    counted = measured[1:] or measured
    n_alleles, spent, n_windows = (sum(part) for part in zip(*counted, strict=True)) if counted else (0, 0.0, 0)
    return int(n_alleles), max(spent, 1e-9), int(n_windows)


def _growing(path: str) -> Iterator[Block]:
    """Give the first records in pieces of 1, 2, 4, ... records."""
    with VcfReader(path) as reader:
        block = next(reader.blocks(_SAMPLE_RECORDS), None)
    start, size = 0, 1
    while block is not None and start < block.n_records:
        places = np.arange(block.n_records)
        yield block.select((places >= start) & (places < start + size))
        start, size = start + size, size * 2


def _memory() -> int:
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


def _device_memory(device: str) -> int | None:
    if not device.startswith("cuda"):
        return None
    import torch

    return int(torch.cuda.max_memory_reserved(device))
