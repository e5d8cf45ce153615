"""Reading ahead in a background thread, with bounded memory."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")

_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 1.0


class _End:
    """What stands in the queue after the last item: nothing more, or why."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


@contextmanager
def read_ahead(source: Iterator[Item], depth: int = 3) -> Iterator[Iterator[Item]]:
    """Run an iterator in a background thread, at most `depth` items ahead.

    Errors of the source are raised where the items are taken. Leaving the context stops the thread, also in the
    middle, and waits for it, so that nothing reads a file that was closed; but only for a second if it hangs in a pipe
    whose writer is silent, for Ctrl-C must end the run.

    Args:
        source: Only the background thread may touch what it reads from, until the context is left.
        depth: Items that may wait.

    Yields:
        The same items in the same order.
    """
    items: queue.Queue[Item | _End] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: Item | _End) -> bool:
        while not stop.is_set():
            try:
                items.put(item, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def read() -> None:
        error: BaseException | None = None
        try:
            for item in source:
                if not put(item):
                    return
        except BaseException as caught:  # carried over to the thread that takes the items
            error = caught
        put(_End(error))

    thread = threading.Thread(target=read, name="varfm-read-ahead", daemon=True)
    thread.start()
    try:
        yield _taken(items)
    finally:
        stop.set()
        thread.join(_PATIENCE_SECONDS)


def _taken(items: queue.Queue[Item | _End]) -> Iterator[Item]:
    while True:
        item = items.get()
        if isinstance(item, _End):
            if item.error is not None:
                raise item.error
            return
        yield item
