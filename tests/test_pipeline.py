"""Reading ahead: order, errors across threads, early exits."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from varfm.errors import InputError
from varfm.pipeline import read_ahead


def reading_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "varfm-read-ahead"]


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_items_come_in_order(depth: int) -> None:
    with read_ahead(iter(range(50)), depth) as items:
        assert list(items) == list(range(50))
    assert reading_threads() == []


def test_an_empty_source_gives_nothing() -> None:
    with read_ahead(iter(())) as items:
        assert list(items) == []


def test_an_error_of_the_source_comes_after_the_items_before_it() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise InputError("line 3 is bad")

    taken = []
    with pytest.raises(InputError, match="line 3 is bad"), read_ahead(source()) as items:
        for item in items:
            taken.append(item)
    assert taken == [1, 2]
    assert reading_threads() == []


def test_leaving_early_stops_the_thread_and_reads_little_further() -> None:
    read = []

    def source() -> Iterator[int]:
        for number in range(10**9):
            read.append(number)
            yield number

    with read_ahead(source(), depth=2) as items:
        assert next(items) == 0
    assert reading_threads() == []
    assert len(read) <= 4


def test_an_error_of_the_taker_stops_the_thread_too() -> None:
    with pytest.raises(KeyError, match="mine"), read_ahead(iter(range(10**9)), depth=1) as items:
        next(items)
        raise KeyError("mine")
    assert reading_threads() == []
