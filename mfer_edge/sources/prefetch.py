"""Prefetching: the next items are made in a thread while the last one is in use."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

from mfer_edge.sources.base import AudioChunk, Frame, size_of

PREFETCH_ITEMS = 32  # frames and chunks that are decoded ahead: about 0.5 s, three frames
PREFETCH_BYTES = 64_000_000  # of them, if that is less: two frames of 8K, ten of 1080p

T = TypeVar("T")


def decode_ahead(
    items: Iterable[Frame | AudioChunk],
) -> Generator[Frame | AudioChunk, None, None]:
    """Iterate over a source in a thread of its own; as `prefetch`."""
    return prefetch(items, PREFETCH_ITEMS, most_bytes=PREFETCH_BYTES, size=size_of)


def _nothing(item: object) -> int:
    return 0


def prefetch(
    items: Iterable[T],
    most: int,
    *,
    most_bytes: float = math.inf,
    size: Callable[[T], int] = _nothing,
) -> Generator[T, None, None]:
    """Iterate in a thread of its own, a few items ahead of the consumer.

    An error in the iteration is raised where its item would have been. Close the generator before
    anything that the iteration depends on: its thread has then ended.

    Args:
        most: items that are ready, or in the making, before they are asked for.
        most_bytes: no further item is made while those that are ready take so many, or more.
        size: bytes that an item takes.

    Example:
        >>> with Clip("clip.mp4") as clip, closing(prefetch(clip, most=8)) as items:
        ...     for item in items:
        ...         print(item)
    """
    ahead = _Ahead(iter(items), most, most_bytes, size)
    thread = threading.Thread(target=ahead.make, name="prefetch", daemon=True)
    thread.start()
    try:
        yield from ahead.taken()
    finally:
        ahead.stop()
        thread.join()


class _Ahead(Generic[T]):
    """Items that are ready, between the thread that makes them and the one that takes them."""

    def __init__(
        self, items: Iterator[T], most: int, most_bytes: float, size: Callable[[T], int]
    ) -> None:
        self._items, self._size = items, size
        self._most, self._most_bytes = most, most_bytes
        self._ready: deque[T] = deque()
        self._bytes = 0  # that they take
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def make(self) -> None:
        """Make items until there are no more, or none is wanted."""
        try:
            while self._has_room():
                item = next(self._items)
                with self._changed:
                    self._ready.append(item)
                    self._bytes += self._size(item)
                    self._changed.notify_all()
                del item
        except StopIteration:
            pass
        except BaseException as error:  # raised where it is taken
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def taken(self) -> Iterator[T]:
        """Yield the items in their order, and raise what their making did."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._ended)
                if not self._ready:
                    break
                item = self._ready.popleft()
                self._bytes -= self._size(item)
                self._changed.notify_all()
            yield item
            del item
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Have no more items made."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        """Wait until an item may be made; False once none is wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or not self._is_full())
            return not self._stopped

    def _is_full(self) -> bool:
        return len(self._ready) >= self._most or (
            bool(self._ready) and self._bytes >= self._most_bytes
        )
