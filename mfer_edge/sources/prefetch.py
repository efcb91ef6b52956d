"""Prefetching: the next items are made in a thread while the last one is in use."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, TypeVar

from mfer_edge.sources.base import AudioChunk, Frame, Source, SourceAround, size_of
from mfer_edge.stopwatch import Stopwatch

PREFETCH_ITEMS = 32  # frames and chunks that are decoded ahead: about 0.5 s, three frames
PREFETCH_BYTES = 64_000_000  # of them, if that is less: two frames of 8K, ten of 1080p

T = TypeVar("T")


def decode_ahead(source: Source, stopwatch: Stopwatch) -> Generator[Frame | AudioChunk, None, None]:
    """Iterate over a source, which a thread decodes a few items ahead.

    Close the generator before the source.

    Args:
        source: a `StartedSource` goes on where it is.
        stopwatch: at the end, the time that decoding took is added to its stage `decode`.
    """
    started = source if isinstance(source, StartedSource) else StartedSource(source)
    try:
        yield from started
    finally:
        started.stop()
        stopwatch.stages_s["decode"] += started.decode_s


class StartedSource(SourceAround):
    """A source that a thread decodes a few items ahead from now on, before it is iterated over.

    Leave its `with` block, or call `stop`, before the source is closed.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._stopwatch = Stopwatch()
        items = self._stopwatch.timed("decode", source)
        self._items = Prefetched(items, PREFETCH_ITEMS, most_bytes=PREFETCH_BYTES, size=size_of)

    @property
    def decode_s(self) -> float:
        """Seconds that decoding took so far."""
        return self._stopwatch.stages_s["decode"]

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        return self._items

    def __exit__(self, *exception: object) -> None:
        self.stop()
        super().__exit__(*exception)

    def stop(self) -> None:
        """Decode no further."""
        self._items.close()


def _nothing(item: object) -> int:
    return 0


class Prefetched(Iterator[T], Generic[T]):
    """Items that a thread of its own makes, a few ahead of the consumer, from now on.

    An error in the iteration is raised where its item would have been. Close it before anything
    that the iteration depends on: its thread has then ended.

    Args:
        items: to iterate over, in the thread.
        most: items that are ready, or in the making, before they are asked for.
        most_bytes: no further item is made while those that are ready take so many, or more.
        size: bytes that an item takes.

    Example:
        >>> with Clip("clip.mp4") as clip, closing(Prefetched(clip, most=8)) as items:
        ...     for item in items:
        ...         print(item)
    """

    def __init__(
        self,
        items: Iterable[T],
        most: int,
        *,
        most_bytes: float = math.inf,
        size: Callable[[T], int] = _nothing,
    ) -> None:
        self._items, self._size = items, size
        self._most, self._most_bytes = most, most_bytes
        self._ready: deque[T] = deque()
        self._bytes = 0  # that they take
        self._ended = self._closed = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._make, name="prefetch", daemon=True)
        self._thread.start()

    def __next__(self) -> T:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._ended)
            if self._ready:
                item = self._ready.popleft()
                self._bytes -= self._size(item)
                self._changed.notify_all()
                return item
            error, self._error = self._error, None
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """Have no more items made, drop those that are ready, and wait for the thread to end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._ready.clear()

    def _make(self) -> None:
        """Make items until there are no more, or none is wanted."""
        try:
            items = iter(self._items)
            while self._has_room():
                item = next(items)
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

    def _has_room(self) -> bool:
        """Wait until an item may be made; False once none is wanted."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._is_full())
            return not self._closed

    def _is_full(self) -> bool:
        return len(self._ready) >= self._most or (
            bool(self._ready) and self._bytes >= self._most_bytes
        )
