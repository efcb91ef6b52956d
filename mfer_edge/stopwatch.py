"""A session takes pictures and sound as they come and gives readings: here, time passes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

STAGES = ("decode", "vad", "detect", "visual", "audio", "fusion")


class Stopwatch:
    """Adds up the time that each stage takes."""

    def __init__(self) -> None:
        self.stages_s = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stages_s[stage] += time.perf_counter() - start

    def timed(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Iterate, and count the time that it takes to come by each item."""
        iterator, end = iter(items), object()
        while True:
            with self(stage):
                item = next(iterator, end)
            if item is end:
                return
            yield item  # type: ignore[misc]
