"""Time taken by each stage of a session."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

STAGES = ("decode", "vad", "detect", "visual", "audio", "fusion")


class Stopwatch:
    """Sum of the time that each stage took.

    Attributes:
        stages_s: seconds, by stage.
    """

    def __init__(self) -> None:
        self.stages_s = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the time spent in a `with` block towards a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.stages_s[stage] += time.perf_counter() - start

    def timed(self, stage: str, items: Iterable[T]) -> Iterator[T]:
        """Iterate, and count the time that each next item takes towards a stage."""
        iterator, end = iter(items), object()
        while True:
            with self(stage):
                item = next(iterator, end)
            if item is end:
                return
            yield item  # type: ignore[misc]
