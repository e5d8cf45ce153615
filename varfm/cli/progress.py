"""How far a run is: a bar on a terminal, a line of key=value every half minute elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

from varfm.cli.log import stderr_log
from varfm.digits import counted

if TYPE_CHECKING:  # imported only where a terminal shows it
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

LINE_SECONDS = 30.0


class Progress:
    """Counts alleles; shows rate and, where the size of the input is known, the time left.

    Args:
        quiet: Show nothing.
        doing: What is done, for the bar.
    """

    def __init__(self, *, quiet: bool = False, doing: str = "scoring") -> None:
        self._done = 0
        self._started = self._shown = time.monotonic()
        self._quiet = quiet
        has_bar = not quiet and sys.stderr.isatty() and stderr_log().style == "text"
        self._bar = _bar(doing) if has_bar else None

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

    def advance(self, n_alleles: int, fraction: float | None) -> None:
        """Count what was done.

        Args:
            n_alleles: More than before.
            fraction: Of the input, read so far; None: unknown.
        """
        self._done += n_alleles
        if self._bar:
            bar, task = self._bar
            text = f"{counted(self._done, 'allele')}, {self._rate():,.0f} alleles/s"
            bar.update(task, completed=fraction or 0, total=1 if fraction else None, text=text)
        elif not self._quiet and time.monotonic() - self._shown >= LINE_SECONDS:
            self._shown = time.monotonic()
            facts = {
                "alleles": self._done,
                "seconds": round(self.seconds),
                "alleles_per_second": round(self._rate(), 1),
            }
            text = " ".join(["progress", *(f"{name}={value}" for name, value in facts.items())])
            stderr_log().tell("info", "progress", text, **facts)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def _rate(self) -> float:
        return self._done / max(self.seconds, 1e-9)


def _bar(doing: str) -> tuple[RichProgress, TaskID]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn(doing),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %  {task.fields[text]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    return bar, bar.add_task(doing, total=None, text="")
