"""What an analysis gives, and its JSON, CSV and WebVTT forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mfer_edge.results import Reading


@dataclass(frozen=True)
class WindowSpan:
    """A stretch of the clip, and what the one window that speaks for it gave."""

    start_s: float
    end_s: float
    readings: tuple[Reading, ...]  # of that window, one for each face

    @property
    def main(self) -> Reading | None:
        """The reading of the window's main face."""
        return next((reading for reading in self.readings if reading.main), None)


def window_spans(readings: Sequence[Reading], duration_s: float) -> list[WindowSpan]:
    """Say which window speaks at every moment of a clip.

    A window speaks for its middle, so two windows that overlap share what they overlap by, half
    each. The first reaches back to its start and the last on to its end.

    Args:
        readings: of windows that start and end in order, as a session gives them.

    Returns:
        Moments in order, not overlapping; together they cover what the windows cover.
    """
    windows: dict[tuple[float, float], list[Reading]] = {}
    for reading in readings:
        windows.setdefault((reading.start_s, reading.end_s), []).append(reading)
    spans = sorted(windows)
    ends_before = [-math.inf, *(end for _, end in spans)]
    starts_after = [*(start for start, _ in spans[1:]), math.inf]
    found = []
    for (start, end), before, after in zip(spans, ends_before, starts_after, strict=False):
        start_s = max(start, (start + before) / 2)
        end_s = min(end, (end + after) / 2, duration_s)
        if start_s < end_s:
            found.append(WindowSpan(start_s, end_s, tuple(windows[start, end])))
    return found


@dataclass(frozen=True)
class Segment:
    """Moments in a row in which one face shows the same."""

    start_s: float
    end_s: float
    track: int | None
    label: str | None  # None where there was neither face nor speech
    shares: tuple[float, ...]  # the label's score in each window

    @property
    def share(self) -> float | None:
        """The label's score on average; None where there is no label."""
        return sum(self.shares) / len(self.shares) if self.shares else None


def segments(readings: Sequence[Reading], duration_s: float) -> list[Segment]:
    """Join the moments of a clip in which a face shows the same, for a person to read.

    Returns:
        Those of all faces, in the order in which they begin.
    """
    faces: dict[int | None, list[Segment]] = {}
    for moment in window_spans(readings, duration_s):
        for reading in moment.readings:
            label = reading.label
            share = () if reading.scores is None or label is None else (reading.scores[label],)
            fresh = Segment(moment.start_s, moment.end_s, reading.track, label, share)
            row = faces.setdefault(reading.track, [])
            if row and row[-1].label == label and moment.start_s - row[-1].end_s < 1e-6:
                fresh = replace(fresh, start_s=row[-1].start_s, shares=row.pop().shares + share)
            row.append(fresh)
    return sorted((s for row in faces.values() for s in row), key=lambda s: (s.start_s, s.end_s))
