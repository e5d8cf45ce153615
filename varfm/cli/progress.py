"""How far a run is: a bar on a terminal, a line of key=value every half minute elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

import rich_click as click

LINE_SECONDS = 30.0


class Progress:
    """Counts alleles; shows rate and, where the total is known, the time left.

    Args:
        total: Alleles or records to come; None: unknown.
        quiet: Show nothing.
    """

    def __init__(self, total: int | None = None, *, quiet: bool = False) -> None:
        self._total = total
        self._done = 0
        self._started = self._shown = time.monotonic()
        self._quiet = quiet
        self._bar = None if quiet or not sys.stderr.isatty() else _bar(total)

    def __enter__(self) -> Self:
        """Start the bar."""
        if self._bar:
            self._bar[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar[0].stop()

    def advance(self, n_records: int, n_alleles: int) -> None:
        """Count what was done."""
        self._done += n_alleles
        if self._bar:
            self._bar[0].update(self._bar[1], advance=n_records, rate=f"{self._rate():,.0f} alleles/s")
        elif not self._quiet and time.monotonic() - self._shown >= LINE_SECONDS:
            self._shown = time.monotonic()
            click.echo(
                f"progress alleles={self._done} seconds={self.seconds:.0f} alleles_per_second={self._rate():.1f}",
                err=True,
            )

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def _rate(self) -> float:
        return self._done / max(self.seconds, 1e-9)


def _bar(total: int | None):  # type: ignore[no-untyped-def]  # rich is imported only where a terminal shows it
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("scoring"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    return bar, bar.add_task("scoring", total=total, rate="")
