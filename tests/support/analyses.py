"""Synthetic analyses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from mfer_edge.results import (
    Analysis,
    BundleInfo,
    FaceDetection,
    Reading,
    Scores,
    Timing,
    Track,
    overall,
)

SEVEN = ("neutral", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""Labels of the bundle that ships."""

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def scores(label: str, share: float = 0.79, labels: Sequence[str] = LABELS) -> Scores:
    """Scores with a share for one label and the rest spread evenly."""
    rest = (1 - share) / (len(labels) - 1)
    return {name: share if name == label else rest for name in labels}


def reading(start_s: float, end_s: float, label: str | None = "happy", **fields: Any) -> Reading:
    """Reading of a window from face 0 and the voice; without either for no label."""
    shown = None if label is None else scores(label)
    made = Reading(start_s, end_s, 0, True, shown, shown, shown, 20, 20, (end_s - start_s) / 2)
    if label is None:
        made = replace(made, track=None, faces=0, speech_s=0.0)
    return replace(made, **fields)


def analysis(windows: Sequence[Reading], duration_s: float, **fields: Any) -> Analysis:
    """Analysis of a clip with these windows."""
    made = Analysis(
        source="clip.mp4",
        duration_s=duration_s,
        bundle=BundleInfo("compact", "int8", True, "ab" * 32),
        device="cpu",
        providers=("CPUExecutionProvider",),
        overall=overall(windows),
        windows=tuple(windows),
        tracks=(Track(0, 0.0, duration_s, 20),),
        timing=Timing(0.4, 0.3, 2, {"decode": 0.1}),
        warnings=(),
    )
    return replace(made, **fields)


def detections(
    box: tuple[float, float, float, float], times_s: Sequence[float], speed: float = 0.0
) -> tuple[FaceDetection, ...]:
    """Detections of face 0, a box at 0 s that moves to the right, `speed` in pixels per second."""
    left, top, right, bottom = box
    return tuple(
        FaceDetection(t, 0, left + speed * t, top, right + speed * t, bottom) for t in times_s
    )


@st.composite
def window_lists(draw: st.DrawFn) -> tuple[list[Reading], float]:
    """Readings as a session returns them, of one or two faces, and the duration of the clip."""
    step = st.integers(1, 300)  # hundredths of a second
    starts, ends, readings = [0], [draw(step)], []
    for _ in range(draw(st.integers(0, 12))):
        starts.append(starts[-1] + draw(step))
        ends.append(max(ends[-1], starts[-1]) + draw(step))
    for start, end in zip(starts, ends, strict=True):
        window = reading(start / 100, end / 100, draw(st.sampled_from([None, *LABELS])))
        readings.append(window)
        if draw(st.booleans()):
            readings.append(replace(window, track=1, main=False))
    return readings, ends[-1] / 100
