"""Timeline of a clip without overlaps: which window counts when, and runs of one label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mfer_edge.results import Reading

MIN_FACES = 0.25  # of the frames: a face that was found in fewer is worth a warning


@dataclass(frozen=True)
class WindowSpan:
    """The part of the clip for which one window's readings are shown."""

    start_s: float
    end_s: float
    readings: tuple[Reading, ...]  # of the window, one per face

    @property
    def main(self) -> Reading | None:
        """Reading of the window's main face."""
        return next((reading for reading in self.readings if reading.main), None)

    @property
    def seen(self) -> float | None:
        """Share of the window's frames that show its main face; None without frames."""
        main = self.main
        return main.faces / main.frames if main is not None and main.frames else None

    @property
    def speech(self) -> float:
        """Share of the window in which there is speech, whoever it is given to."""
        return max((speech_share(reading) for reading in self.readings), default=0.0)


def speech_share(reading: Reading) -> float:
    """Share of a window in which there is speech that this reading holds."""
    length_s = reading.end_s - reading.start_s
    return min(1.0, reading.speech_s / length_s) if length_s else 0.0


def window_spans(readings: Sequence[Reading], duration_s: float) -> list[WindowSpan]:
    """Assign every moment of a clip to one window.

    Two windows that overlap are split in the middle of their overlap, so each is shown around its
    own middle. The first span begins where its window begins, the last ends where its window ends.

    Args:
        readings: of windows whose starts and ends are in order, as a session returns them.

    Returns:
        Spans in order, not overlapping; together they cover what the windows cover.
    """
    by_window: dict[tuple[float, float], list[Reading]] = {}
    for reading in readings:
        by_window.setdefault((reading.start_s, reading.end_s), []).append(reading)
    windows = sorted(by_window)
    ends_before = [-math.inf, *(end for _, end in windows)]
    starts_after = [*(start for start, _ in windows[1:]), math.inf]
    spans = []
    for (start, end), before, after in zip(windows, ends_before, starts_after, strict=False):
        start_s = max(start, (start + before) / 2)
        end_s = min(end, (end + after) / 2, duration_s)
        if start_s < end_s:
            spans.append(WindowSpan(start_s, end_s, tuple(by_window[start, end])))
    return spans


def seen_share(readings: Sequence[Reading], duration_s: float) -> float | None:
    """Share of a clip's frames that show a main face; None if no window has frames."""
    seen = [
        (span.end_s - span.start_s, span.seen)
        for span in window_spans(readings, duration_s)
        if span.seen is not None
    ]
    total_s = sum(length_s for length_s, _ in seen)
    return sum(length_s * share for length_s, share in seen) / total_s if total_s else None


def thin_basis(readings: Sequence[Reading], duration_s: float) -> list[str]:
    """Warnings where the scores of a face rest on few of the frames."""
    share = seen_share(readings, duration_s)
    if not share or share >= MIN_FACES:
        return []
    return [f"a face was found in {share:.0%} of the frames only"]


@dataclass(frozen=True)
class Segment:
    """Consecutive window spans in which one face has the same label."""

    start_s: float
    end_s: float
    track: int | None
    label: str | None  # None without a face and without speech
    label_scores: tuple[float, ...]  # the label's score in each window

    @property
    def score(self) -> float | None:
        """Mean score of the label; None without a label."""
        return sum(self.label_scores) / len(self.label_scores) if self.label_scores else None


def segments(readings: Sequence[Reading], duration_s: float) -> list[Segment]:
    """Join consecutive window spans of a face that have the same label.

    Returns:
        Segments of all faces, ordered by start.
    """
    by_track: dict[int | None, list[Segment]] = {}
    for span in window_spans(readings, duration_s):
        for reading in span.readings:
            label = reading.label
            score = () if reading.scores is None or label is None else (reading.scores[label],)
            new = Segment(span.start_s, span.end_s, reading.track, label, score)
            row = by_track.setdefault(reading.track, [])
            if row and row[-1].label == label and span.start_s - row[-1].end_s < 1e-6:
                last = row.pop()
                new = replace(
                    new, start_s=last.start_s, label_scores=last.label_scores + new.label_scores
                )
            row.append(new)
    return sorted((s for row in by_track.values() for s in row), key=lambda s: (s.start_s, s.end_s))
