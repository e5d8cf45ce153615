"""Which spans of change are told apart: few, so that windows that change in nearly the same place go in one batch."""

from __future__ import annotations

import numpy as np

from varfm.delta.rules import Span

STEP = 4
"""Bases per cell. Wider cells cost more work in shallow networks, narrower ones leave more rows of a pass empty."""

MIDDLE = 2
"""Bases in the middle of a window, a cell of their own: there both strands have the allele of a centred window."""
_MOST_CELLS = 2
_N_PARTS = 8


def changed_span(base: bytes, row: bytes) -> Span:
    """Give the span from the first to the last base code in which two windows of one length differ; empty for none."""
    differs = np.frombuffer(base, np.uint8) != np.frombuffer(row, np.uint8)
    if not differs.any():
        return Span(0, 0)
    return Span(int(differs.argmax()), len(differs) - int(differs[::-1].argmax()))


def is_narrow(span: Span) -> bool:
    """Tell whether a span on the grid is that of a small change."""
    return span.width <= _MOST_CELLS * STEP


def on_grid(span: Span, length: int) -> Span:
    """Widen a span to one of the grid: the middle, one or two cells, or so many eighths of the window.

    Args:
        span: Not empty.
        length: Bases of the window. The middle of a window is inside a cell, not at its edge.
    """
    middle = Span(length // 2 - MIDDLE // 2, length // 2 + MIDDLE // 2).within(length)
    if middle.start <= span.start and span.stop <= middle.stop:
        return middle
    offset = (length // 2 - STEP // 2) % STEP - STEP
    first, last = ((place - offset) // STEP for place in (span.start, span.stop - 1))
    if last - first < _MOST_CELLS:
        return Span(offset + first * STEP, offset + (last + 1) * STEP).within(length)
    # The last part that begins no later than the span, and the first that ends no sooner: parts begin at whole bases.
    start = (_N_PARTS * (span.start + 1) - 1) // length
    stop = _N_PARTS * (span.stop - 1) // length + 1
    return Span(start * length // _N_PARTS, -(-stop * length // _N_PARTS))
