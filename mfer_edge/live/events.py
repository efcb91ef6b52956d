"""What a live session tells while it runs: readings with their latency, gaps, and a summary."""

from __future__ import annotations

from dataclasses import dataclass

from mfer_edge.results import FaceDetection, Reading


@dataclass(frozen=True)
class LiveReading:
    """A reading, and how long it took."""

    reading: Reading
    compute_s: float  # from handing its last frame or audio to the session until it was ready
    lag_s: float  # from the end of its window until it was ready


@dataclass(frozen=True)
class Gap:
    """A time without the source: it was lost, and reconnected."""

    start_s: float
    end_s: float | None  # None: it is not back yet
    reason: str  # why it was lost, a line


@dataclass(frozen=True)
class FacesSeen:
    """Where the faces are in a frame; told on request only."""

    time_s: float
    faces: tuple[FaceDetection, ...]


@dataclass(frozen=True)
class Notice:
    """A warning, a line for the user; each is told once."""

    time_s: float
    text: str


Event = LiveReading | FacesSeen | Gap | Notice
"""What `LiveSession.events` yields. A gap comes twice: when it begins, and when it has ended."""


@dataclass(frozen=True)
class LatencySummary:
    """Percentiles of the latest readings' times, in seconds; None without a reading."""

    p50_s: float | None
    p99_s: float | None
    max_s: float | None


@dataclass(frozen=True)
class LiveStats:
    """Counts of a live session so far."""

    duration_s: float  # from the first item to the end of what was read
    frames: int  # that were read
    dropped: int  # frames that were left out because the machine was late
    audio_s: float  # seconds of audio that were read
    readings: int
    gaps: int
    gap_s: float  # seconds without the source
    compute: LatencySummary
    lag: LatencySummary
