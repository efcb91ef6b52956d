"""WebVTT output: captions with the label of each window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mfer_edge.results import Analysis, Reading
from mfer_edge.segments import window_spans


@dataclass(frozen=True)
class Caption:
    """A text and the time over which it is shown."""

    start_s: float
    end_s: float
    text: str


def vtt_text(analysis: Analysis) -> str:
    """WebVTT file of one analysis: a window's caption is shown around the window's middle."""
    lines = ["WEBVTT", ""]
    for caption in captions(analysis.windows, analysis.duration_s):
        lines += [f"{vtt_time(caption.start_s)} --> {vtt_time(caption.end_s)}", caption.text, ""]
    return "\n".join(lines)


def captions(readings: Sequence[Reading], duration_s: float) -> list[Caption]:
    """Captions of the window spans that have scores.

    Faces of the same window share one caption, with a line each.
    """
    found = []
    for span in window_spans(readings, duration_s):
        lines = []
        for reading in span.readings:
            if reading.scores is None or reading.label is None:
                continue
            face = "" if reading.track is None else f" (face {reading.track})"
            lines.append(f"{reading.label} {reading.scores[reading.label]:.0%}{face}")
        if lines:
            found.append(Caption(span.start_s, span.end_s, "\n".join(lines)))
    return found


def vtt_time(seconds: float) -> str:
    """WebVTT timestamp, HH:MM:SS.mmm."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
