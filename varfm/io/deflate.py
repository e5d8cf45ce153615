"""BGZF out: equal bytes in, equal bytes out, however they were handed over."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import BinaryIO

import deflate

from varfm.io.inflate import BGZF_EOF

BLOCK_BYTES = 65_280
LEVEL = 5
"""Of libdeflate: the text of a VCF gets smaller than at zlib's default of level 6, in less than half of its time."""

_HEADER = bytes.fromhex("1f8b08040000000000ff060042430200")  # a gzip member with the subfield BC, whose value follows
_BLOCKS_PER_TASK = 4


class BgzfWriter:
    """Compress into blocks of 65,280 bytes of text, in a few threads; a context manager.

    Leaving the context without an error calls `close`, with an error `abort`.
    """

    def __init__(self, file: BinaryIO, threads: int | None = None) -> None:
        """Start to write.

        Args:
            file: Where the blocks go; stays open.
            threads: Threads that compress; None: one per processor, at most 4. The bytes do not depend on it.
        """
        self._file = file
        self._pending = bytearray()
        n_threads = threads or min(4, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="varfm-bgzf")
        self._tasks: deque[Future[bytes]] = deque()
        self._max_tasks = 4 * n_threads
        self._is_open = True

    def __enter__(self) -> BgzfWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()

    def write(self, data: bytes) -> None:
        """Add bytes; blocks may reach the file later.

        Raises:
            OSError: If writing to the file fails, for these or for earlier bytes.
        """
        self._pending += data
        step = _BLOCKS_PER_TASK * BLOCK_BYTES
        n_ready = len(self._pending) // step * step
        if not n_ready:
            return
        ready = bytes(memoryview(self._pending)[:n_ready])
        del self._pending[:n_ready]
        for start in range(0, n_ready, step):
            self._submit(ready[start : start + step])

    def close(self) -> None:
        """Write what is left and the end-of-file marker; a second call does nothing.

        Raises:
            OSError: If writing to the file fails.
        """
        if not self._is_open:
            return
        try:
            if self._pending:
                self._submit(bytes(self._pending))
                self._pending.clear()
            while self._tasks:
                self._file.write(self._tasks.popleft().result())
            self._file.write(BGZF_EOF)
            self._file.flush()
        finally:
            self.abort()

    def abort(self) -> None:
        """Stop without writing more."""
        self._is_open = False
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._tasks.clear()
        self._pending.clear()

    def _submit(self, data: bytes) -> None:
        self._tasks.append(self._pool.submit(compress_blocks, data))
        while len(self._tasks) > self._max_tasks or (self._tasks and self._tasks[0].done()):
            self._file.write(self._tasks.popleft().result())


def compress_blocks(data: bytes) -> bytes:
    """Give the BGZF blocks of some text, cut every 65,280 bytes, without an end-of-file marker."""
    return b"".join([_block(data[start : start + BLOCK_BYTES]) for start in range(0, len(data), BLOCK_BYTES)])


def _block(text: bytes) -> bytes:
    body = deflate.deflate_compress(text, LEVEL)
    size = len(_HEADER) + 2 + len(body) + 8
    return b"".join(
        [
            _HEADER,
            (size - 1).to_bytes(2, "little"),
            body,
            deflate.crc32(text).to_bytes(4, "little"),
            len(text).to_bytes(4, "little"),
        ]
    )
