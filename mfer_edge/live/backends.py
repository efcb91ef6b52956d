"""Where the sessions of live sources compute: in this process, or in others."""

from __future__ import annotations

from typing import Protocol

from mfer_edge.options import MAX_LAG_S, SessionOptions
from mfer_edge.results import FaceDetection, Reading, Track
from mfer_edge.sources.base import AudioChunk, Frame


class OpenSession(Protocol):
    """What a live session needs of a `Session`."""

    detections: list[FaceDetection]

    @property
    def audio_s(self) -> float:
        """Seconds of audio that were pushed."""

    def push(self, item: Frame | AudioChunk) -> None:
        """Add the next item of the source."""

    def prepare(self) -> None:
        """Do ahead what the next reading will most likely need."""

    def readings(self) -> list[Reading]:
        """Return the readings that have become ready since the last call."""

    def warnings(self) -> tuple[str, ...]:
        """What was left out so far, a line each."""

    def tracks(self) -> tuple[Track, ...]:
        """Every face so far."""

    def close(self, end_s: float | None = None) -> None:
        """End the stream; the rest of it makes a last window."""


class Backend(Protocol):
    """What opens sessions: a `Pipeline`, in this process, or a `SessionPool`, in others."""

    def session(
        self,
        options: SessionOptions | None = None,
        *,
        has_video: bool = True,
        has_audio: bool = True,
        keep_detections: bool = False,
        max_lag_s: float = MAX_LAG_S,
    ) -> OpenSession:
        """Start a session."""
