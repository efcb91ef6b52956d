"""Hand-over from a live source to the session, where frames are dropped and sound never is."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass

from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.speech.vad import SAMPLE_RATE

MAX_FRAMES = 5  # that wait: one second of them
MAX_AHEAD_S = 2.0  # of audio that a source which can wait may be ahead


@dataclass(frozen=True)
class Connected:
    """The source is there, or there again."""

    has_video: bool
    has_audio: bool
    max_lag_s: float


@dataclass(frozen=True)
class Lost:
    """The source is gone."""

    reason: str


@dataclass(frozen=True)
class Ended:
    """Nothing more will come."""

    duration_s: float | None = None  # of the source, if it has an end of its own


@dataclass(frozen=True)
class Arrival:
    """An item, and when it arrived."""

    item: Frame | AudioChunk | Connected | Lost | Ended
    arrived_s: float  # on the monotonic clock


class Inbox:
    """Queue between the threads of a source and the thread of a session.

    At most five frames wait. When another one comes, the one that has waited longest is dropped
    and counted: a machine that is late reads what is newest, at an even rate. Sound is never
    dropped. A source that can wait, such as a file, waits instead.

    Attributes:
        dropped: frames that were left out so far.
    """

    def __init__(self, max_frames: int = MAX_FRAMES) -> None:
        self.dropped = 0
        self._max_frames = max_frames
        self._waiting: deque[Arrival] = deque()
        self._frames = 0  # of those that wait
        self._audio_s = 0.0
        self._changed = threading.Condition()
        self._ended = False

    def put(self, item: Frame | AudioChunk | Connected | Lost | Ended, wait: bool = False) -> bool:
        """Add an item; returns whether it was taken, which it is not after the end.

        Args:
            wait: until there is room, instead of dropping a frame.
        """
        arrived_s = time.monotonic()
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: self._ended or not self._full(item))
            if self._ended:
                return False
            if isinstance(item, Frame):
                self._frames += 1
                if self._frames > self._max_frames:
                    self._drop_oldest()
            elif isinstance(item, AudioChunk):
                self._audio_s += len(item.samples) / SAMPLE_RATE
            self._ended = isinstance(item, Ended)
            self._waiting.append(Arrival(item, arrived_s))
            self._changed.notify_all()
            return True

    def get(self, timeout_s: float | None = None) -> Arrival | None:
        """The next item; None if none came in time, or after the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, timeout_s)
            if not self._waiting:
                return None
            arrival = self._waiting.popleft()
            if isinstance(arrival.item, Frame):
                self._frames -= 1
            elif isinstance(arrival.item, AudioChunk):
                self._audio_s -= len(arrival.item.samples) / SAMPLE_RATE
            self._changed.notify_all()
            return arrival

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def audio_s(self) -> float:
        """Seconds of audio that wait."""
        return self._audio_s

    @property
    def ended(self) -> bool:
        """Whether nothing more can be put."""
        return self._ended

    def _full(self, item: object) -> bool:
        if isinstance(item, Frame):
            return self._frames >= self._max_frames
        return isinstance(item, AudioChunk) and self._audio_s >= MAX_AHEAD_S

    def _drop_oldest(self) -> None:
        oldest = next(i for i, a in enumerate(self._waiting) if isinstance(a.item, Frame))
        del self._waiting[oldest]
        self._frames -= 1
        self.dropped += 1
