"""Which frames are on show in a window: each lasts until the next one comes."""

from __future__ import annotations

import math
from collections import deque

from mfer_edge.faces.stream import FrameFaces

SLACK = 0.1  # of a frame's length, by which times may be off


class ShownFrames:
    """Frames of the windows to come.

    A frame that is shown for several times the length of a usual one counts as often, so that a
    slow or still video is read like a fast one of the same pictures. The last frame is shown until
    the end that its source declares, else for as long as the one before it was, and the only frame
    of all to the end of the stream.

    Args:
        frame_rate: frames per second of a window.
    """

    def __init__(self, frame_rate: float) -> None:
        self._frame_s = 1 / frame_rate
        self._frames: deque[FrameFaces] = deque()
        self._interval_s: float | None = None  # between the two latest frames
        self._next_s: float | None = None  # time of a frame that is to come

    def __len__(self) -> int:
        return len(self._frames)

    def expect(self, time_s: float) -> None:
        """End the latest frame, as another one has come, whose faces will be pushed."""
        self._next_s = time_s

    def push(self, frame: FrameFaces) -> None:
        """Add the next frame, later than the one before."""
        if self._frames:
            self._interval_s = frame.time_s - self._frames[-1].time_s
        self._frames.append(frame)
        self._next_s = None

    def window(self, start_s: float, end_s: float, *, last: bool) -> list[FrameFaces]:
        """Frames on show in a window, in order, each as often as it counts.

        Frames that end before are dropped: windows must come in order of their start. One that
        began before the window counts in it where it is all that is on show.

        Args:
            last: whether this is the last window, which has all frames to come.
        """
        while len(self._frames) > 1 and self._frames[1].time_s <= start_s:
            self._frames.popleft()
        shown: list[FrameFaces] = []
        ends_s = [frame.time_s for frame in self._frames][1:]
        ends_s += [self._last_end_s()] if self._frames else []
        for frame, until_s in zip(self._frames, ends_s, strict=True):
            if start_s <= frame.time_s and (frame.time_s < end_s or last):
                shown.append(frame)
            shown += [frame] * self._repeats(frame.time_s, until_s, start_s, end_s)
        if not shown and self._frames:
            first = self._frames[0]
            if first.time_s < start_s < ends_s[0]:
                shown.append(first)
        return shown

    def last_end_s(self) -> float:
        """End of the latest frame, if it is not the only one; 0 without frames."""
        end_s = self._last_end_s() if self._frames else 0.0
        return end_s if math.isfinite(end_s) else self._frames[-1].time_s + self._frame_s

    def _last_end_s(self) -> float:
        latest = self._frames[-1]
        if self._next_s is not None:
            return self._next_s
        if latest.until_s is not None:
            return max(latest.until_s, latest.time_s + self._frame_s)
        if self._interval_s is None:
            return math.inf
        # Cameras are not exact: only what is longer by a whole frame is a slow video.
        is_slow = self._interval_s > (2 - SLACK) * self._frame_s
        return latest.time_s + (self._interval_s if is_slow else self._frame_s)

    def _repeats(self, time_s: float, until_s: float, start_s: float, end_s: float) -> int:
        """How often a frame counts again, a frame's length after the other, within a window."""
        most = (until_s - time_s) / self._frame_s + SLACK - 1  # whole lengths but the first
        first = max(1, math.ceil((start_s - time_s) / self._frame_s - 1e-6))
        after = math.ceil((end_s - time_s) / self._frame_s - 1e-6)  # the first one not before end_s
        return max(0, math.floor(min(most, after - 1)) - first + 1)
