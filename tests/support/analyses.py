"""Results made by hand for the tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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

LABELS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def scores(label: str, share: float = 0.79, labels: Sequence[str] = LABELS) -> Scores:
    """One label with a share, and what is left spread over the others."""
    rest = (1 - share) / (len(labels) - 1)
    return {name: share if name == label else rest for name in labels}


def reading(start_s: float, end_s: float, label: str | None = "happy", **fields: Any) -> Reading:
    """A window's reading of face 0 and the voice; of nothing, with no label."""
    said = None if label is None else scores(label)
    seen = Reading(start_s, end_s, 0, True, said, said, said, 20, 20, (end_s - start_s) / 2)
    if label is None:
        seen = replace(seen, track=None, faces=0, speech_s=0.0)
    return replace(seen, **fields)


def analysis(windows: Sequence[Reading], duration_s: float, **fields: Any) -> Analysis:
    """The analysis of a clip with these windows."""
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


def sightings(
    box: tuple[float, float, float, float], times_s: Sequence[float], speed: float = 0.0
) -> tuple[FaceDetection, ...]:
    """Face 0 at these times; (left, top, right, bottom) at 0 s, pixels a second to the right."""
    left, top, right, bottom = box
    return tuple(
        FaceDetection(t, 0, left + speed * t, top, right + speed * t, bottom) for t in times_s
    )
