"""Feeding a live session from a source: at its own pace, and again after it was lost."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mfer_edge.errors import MediaError
from mfer_edge.live.session import LiveSession
from mfer_edge.sources.base import AudioChunk, Frame, Source
from mfer_edge.speech.vad import SAMPLE_RATE

FIRST_DELAY_S = 0.5  # before a source that was lost is tried again; doubled each time
MAX_DELAY_S = 30.0
BURST_S = 0.5  # by which items come before their time in a burst
MAX_AHEAD_S = 2.0  # by which items are sorted by time: files interleave them by less
JOIN_S = 5.0  # for which a thread that reads a device is waited for


@dataclass(frozen=True)
class FeedOptions:
    """How a source is read."""

    ends: bool = False  # it is a file; so is whatever announces its length
    speed: float = 1.0  # seconds of a file that are read in a second
    drops: bool = False  # frames of a file, when the machine is late, as if it were a camera
    give_up_s: float = math.inf  # without the source, after which it is not tried any more
    max_s: float = math.inf  # of the session


class Feeder:
    """A thread that reads a source into a live session, at its own pace.

    A file is read as fast as it would be played, and waits while the machine is late. Anything else
    gives items as it has them, and frames are dropped when the machine is late; but not those that
    a server sends in a burst, ahead of their time.

    A source that was never there is an error; one that is lost is opened again, after half a
    second, then after twice as long each time, up to 30 s.

    Args:
        live: where items are put; not connected yet (`has_video=None, has_audio=None`).
        open_source: opens the source, each time anew.
        options: how to read it.

    Attributes:
        warnings: of the sources that were read, each once.

    Example:
        >>> with Feeder(live, lambda: Clip("clip.mp4"), FeedOptions(ends=True)):
        ...     for event in live.events():
        ...         print(event)
    """

    def __init__(
        self, live: LiveSession, open_source: Callable[[], Source], options: FeedOptions
    ) -> None:
        self.warnings: list[str] = []
        self._live, self._open, self._options = live, open_source, options
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._start_s = 0.0
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)

    def __enter__(self) -> Feeder:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *exception: object) -> None:
        self.stop()
        self._thread.join(JOIN_S)
        if kind is None and self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Stop reading; what was put already is read."""
        self._stop.set()
        self._live.end()

    def _run(self) -> None:
        duration_s: float | None = None
        self._start_s = time.monotonic()
        try:
            duration_s = self._read_again_and_again()
        except Exception as error:  # raised in the thread that started this one
            self._error = error
        finally:
            self._live.end(duration_s)

    def _read_again_and_again(self) -> float | None:
        """Read until the source ends, or is given up; its length, if it has one."""
        found, lost_s, delay_s = False, math.inf, FIRST_DELAY_S
        while not self._stop.is_set():
            try:
                with self._open() as source:
                    ends = self._options.ends or bool(source.duration_s)
                    self._live.connected(source.has_video, source.has_audio, source.max_lag_s)
                    try:
                        for _ in self._read(source, ends):
                            found, lost_s, delay_s = True, math.inf, FIRST_DELAY_S
                    finally:
                        self._keep(source.warnings())
                    return source.duration_s if ends and not self._stop.is_set() else None
            except MediaError as error:
                if not found or self._stop.is_set():
                    raise
                self._live.lost(str(error))
            now_s = time.monotonic()
            lost_s = min(lost_s, now_s)
            if now_s - lost_s >= self._options.give_up_s:
                raise MediaError(f"gone for {now_s - lost_s:.0f} s, and not tried any more")
            self._stop.wait(min(delay_s, max(0.0, lost_s + self._options.give_up_s - now_s)))
            delay_s = min(2 * delay_s, MAX_DELAY_S)
        return None

    def _read(self, source: Source, ends: bool) -> Iterator[None]:
        """Put all of a source, until it ends or the session does; yields after each item."""
        start_s: float | None = None  # when its time was 0, by the first item
        for due_s, item in in_order(source) if ends else timed(source):
            now_s = time.monotonic()
            if start_s is None:
                start_s = now_s - due_s
            ahead_s = start_s + due_s / self._options.speed - now_s if ends else 0.0
            self._stop.wait(max(0.0, ahead_s))
            passed_s = due_s if ends else now_s - self._start_s
            if self._stop.is_set() or passed_s > self._options.max_s:
                self._stop.set()
                return
            # What a server sends faster than it was made lies there, and can wait.
            waits = not self._options.drops if ends else start_s + due_s - now_s > BURST_S
            if not self._live.put(item, wait=waits):
                return
            yield

    def _keep(self, warnings: tuple[str, ...]) -> None:
        self.warnings += (warning for warning in warnings if warning not in self.warnings)


def timed(source: Source) -> Iterator[tuple[float, Frame | AudioChunk]]:
    """Items with their time: a frame's own, and for audio that of its last sample."""
    samples = 0
    for item in source:
        if isinstance(item, Frame):
            yield item.time_s, item
        else:
            samples += len(item.samples)
            yield samples / SAMPLE_RATE, item


def in_order(source: Source) -> Iterator[tuple[float, Frame | AudioChunk]]:
    """Items of a file with the time at which a live source would have them, in that order.

    Files interleave frames and audio by less than the two seconds that are read ahead; the order
    within each is kept anyway.
    """
    frames: deque[tuple[float, Frame | AudioChunk]] = deque()
    audio: deque[tuple[float, Frame | AudioChunk]] = deque()
    for due_s, item in timed(source):
        (frames if isinstance(item, Frame) else audio).append((due_s, item))
        while (frames and audio) or _span_s(frames) > MAX_AHEAD_S or _span_s(audio) > MAX_AHEAD_S:
            yield _earliest(frames, audio)
    while frames or audio:
        yield _earliest(frames, audio)


def _span_s(items: deque[tuple[float, Frame | AudioChunk]]) -> float:
    return items[-1][0] - items[0][0] if items else 0.0


def _earliest(
    frames: deque[tuple[float, Frame | AudioChunk]], audio: deque[tuple[float, Frame | AudioChunk]]
) -> tuple[float, Frame | AudioChunk]:
    if not audio or (frames and frames[0][0] <= audio[0][0]):
        return frames.popleft()
    return audio.popleft()
