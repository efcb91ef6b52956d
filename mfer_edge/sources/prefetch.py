"""Working ahead: what comes next is made in a thread while the last is still in use."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], most: int) -> Generator[T, None, None]:
    """Iterate in a thread of its own, a few items ahead of whoever takes them.

    What the iteration raises is raised where its items are taken. Close the generator before
    anything that the iteration rests on: its thread is then no longer at work.

    Args:
        most: items that are made, or in the making, before they are asked for.

    Example:
        >>> with Clip("clip.mp4") as clip, closing(prefetch(clip, most=8)) as items:
        ...     for item in items:
        ...         print(item)
    """
    iterator, end = iter(items), object()
    pool = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    try:
        coming = deque(pool.submit(next, iterator, end) for _ in range(most))
        while (item := coming.popleft().result()) is not end:
            coming.append(pool.submit(next, iterator, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
