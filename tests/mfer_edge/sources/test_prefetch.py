"""A thread that works ahead changes nothing but when things happen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.sources.prefetch import prefetch


@given(st.lists(st.none() | st.integers()), st.integers(1, 5))
def test_the_items_and_their_order_stay(items: list[int | None], most: int) -> None:
    assert list(prefetch(items, most)) == items


def test_it_is_ahead_by_so_many_and_no_more() -> None:
    made: list[int] = []
    step = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for item in range(100):
            made.append(item)
            step.release()
            yield item

    with closing(prefetch(items(), most=3)) as coming:
        for taken in range(10):
            assert next(coming) == taken
            for _ in range(4 if taken == 0 else 1):
                assert step.acquire(timeout=5)
            assert len(made) == taken + 4  # it, and three more
            assert not step.acquire(timeout=0.01)


def test_errors_come_in_their_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("here")

    coming = prefetch(items(), most=8)
    assert [next(coming), next(coming)] == [1, 2]
    with pytest.raises(ValueError, match="here"):
        next(coming)
    with pytest.raises(StopIteration):
        next(coming)


def test_once_closed_nothing_runs_any_more() -> None:
    before = threading.active_count()
    with closing(prefetch(range(10_000), most=4)) as coming:
        next(coming)
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
