"""Clocks of live sources: the time of what arrives, on the source's own clock and on this one."""

from __future__ import annotations

import math
import threading

SPAN_S = 20.0  # over which the earliest arrival is remembered: longer than a scheduler's hiccup


class ArrivalOffset:
    """Difference between this machine's clock and a source's.

    An item arrives when it was made, plus a delay that is never negative; so of the items of the
    latest 20 to 40 s, the one with the least difference is the one with the least delay. Clocks
    that drift apart are followed.
    """

    def __init__(self) -> None:
        self._before = self._now = math.inf  # least difference of the last span, and of this one
        self._since_s = -math.inf  # start of this span

    def observe(self, time_s: float, arrived_s: float) -> None:
        """Take note of an item.

        Args:
            time_s: of the item, or of its end, on the source's clock.
            arrived_s: when it arrived, on this machine's clock.
        """
        if arrived_s - self._since_s > SPAN_S:
            self._before, self._now = self._now, math.inf
            self._since_s = arrived_s
        self._now = min(self._now, arrived_s - time_s)

    @property
    def offset_s(self) -> float:
        """To be added to a time of the source; infinite before the first item."""
        return min(self._before, self._now)


class Stamps:
    """Time stamps for frames that come without, such as a camera's beside a microphone.

    Two devices have two clocks, which drift apart by seconds in a day. Audio is the master, as
    none of it can be left out: a frame's time is the time of the sound that arrives with it.
    Without audio it is this machine's time since the first frame. Any thread may call.
    """

    def __init__(self, has_audio: bool) -> None:
        self._has_audio = has_audio
        self._offset = ArrivalOffset()
        self._audio_s = 0.0
        self._latest_s = -math.inf
        self._lock = threading.Lock()

    def audio(self, seconds: float, arrived_s: float) -> None:
        """Take note of the next audio, of this many seconds."""
        with self._lock:
            self._audio_s += seconds
            self._offset.observe(self._audio_s, arrived_s)

    def frame(self, arrived_s: float) -> float | None:
        """Time of a frame; None before the first audio, and if it would not be later than the
        frame before."""
        with self._lock:
            if not self._has_audio and self._latest_s == -math.inf:
                self._offset.observe(0.0, arrived_s)
            time_s = arrived_s - self._offset.offset_s
            if time_s < 0 or time_s <= self._latest_s:
                return None
            self._latest_s = time_s
            return time_s
