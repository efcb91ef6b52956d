"""A thread that works ahead changes nothing but when things happen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.prefetch import Prefetched, StartedSource, decode_ahead
from mfer_edge.stopwatch import Stopwatch
from tests.support.threads import started as threads_started


@given(st.lists(st.none() | st.integers()), st.integers(1, 5))
def test_the_items_and_their_order_stay(items: list[int | None], most: int) -> None:
    assert list(Prefetched(items, most)) == items


def test_it_is_ahead_by_so_many_and_no_more() -> None:
    made: list[int] = []
    step = threading.Semaphore(0)

    def items() -> Iterator[int]:
        for item in range(100):
            made.append(item)
            step.release()
            yield item

    with closing(Prefetched(items(), most=3)) as coming:
        for taken in range(10):
            assert next(coming) == taken
            for _ in range(4 if taken == 0 else 1):
                assert step.acquire(timeout=60)
            assert len(made) == taken + 4  # it, and three more
            assert not step.acquire(timeout=0.01)


def test_errors_come_in_their_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("here")

    coming = Prefetched(items(), most=8)
    assert [next(coming), next(coming)] == [1, 2]
    with pytest.raises(ValueError, match="here"):
        next(coming)
    with pytest.raises(StopIteration):
        next(coming)


def test_once_closed_nothing_runs_any_more() -> None:
    running = threads_started()
    with closing(Prefetched(range(10_000), most=4)) as coming:
        next(coming)
        assert running() == ["prefetch"]
    assert running() == []


class Tones:
    """A source of ten chunks of audio, which counts those that were made."""

    name, has_video, has_audio, duration_s, max_lag_s = "tones", False, True, 1.0, 5.0

    def __init__(self) -> None:
        self.open = True
        self.all_made = threading.Event()

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        for number in range(10):
            yield AudioChunk(np.full(1600, number / 10, np.float32))
        self.all_made.set()

    def __enter__(self) -> Tones:
        return self

    def __exit__(self, *exception: object) -> None:
        self.open = False

    def warnings(self) -> tuple[str, ...]:
        return ()


def test_a_started_source_is_decoded_before_it_is_asked_for() -> None:
    tones, stopwatch = Tones(), Stopwatch()
    with StartedSource(tones) as started:
        assert tones.all_made.wait(60)
        chunks = [chunk for chunk in decode_ahead(started, stopwatch)]
    assert [float(chunk.samples[0]) for chunk in chunks] == [
        float(chunk.samples[0]) for chunk in Tones()
    ]
    assert (started.name, started.duration_s, tones.open) == ("tones", 1.0, False)
    assert stopwatch.stages_s["decode"] == started.decode_s > 0


def test_a_started_source_that_nobody_wants_ends_its_thread() -> None:
    running = threads_started()
    with StartedSource(Tones()):
        pass
    assert running() == []
