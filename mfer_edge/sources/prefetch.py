"""Prefetching: the next items are made in a thread while the last one is in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], most: int) -> Generator[T, None, None]:
    """Iterate in a thread of its own, a few items ahead of the consumer.

    An error in the iteration is raised where its item would have been. Close the generator before
    anything that the iteration depends on: its thread has then ended.

    Args:
        most: items that are ready, or in the making, before they are asked for.

    Example:
        >>> with Clip("clip.mp4") as clip, closing(prefetch(clip, most=8)) as items:
        ...     for item in items:
        ...         print(item)
    """
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        pending = deque(pool.submit(next, iterator, end) for _ in range(most))
        while (item := pending.popleft().result()) is not end:
            pending.append(pool.submit(next, iterator, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
