"""What an analysis gives, and its JSON, CSV and WebVTT forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mfer_edge.results import Reading
from mfer_edge.segments import window_spans


@dataclass(frozen=True)
class Caption:
    """A text over a stretch of the clip."""

    start_s: float
    end_s: float
    text: str


def captions(readings: Sequence[Reading], duration_s: float) -> list[Caption]:
    """Say in words what each moment shows; nothing where its window had neither face nor speech.

    Faces that share a window are named in one caption, a line each.
    """
    cues = []
    for moment in window_spans(readings, duration_s):
        lines = []
        for reading in moment.readings:
            if reading.scores is None or reading.label is None:
                continue
            face = "" if reading.track is None else f" (face {reading.track})"
            lines.append(f"{reading.label} {reading.scores[reading.label]:.0%}{face}")
        if lines:
            cues.append(Caption(moment.start_s, moment.end_s, "\n".join(lines)))
    return cues


def vtt_time(seconds: float) -> str:
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
