"""Counts and times of the server, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

COMPUTE_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.12, 0.2, 0.4, 0.8, 1.6)  # seconds of a reading
LAG_BUCKETS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)
UPLOAD_BUCKETS = (0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600)

OUTCOMES = ("done", "bad_clip", "bad_request", "too_large", "too_slow", "busy", "lost", "gone")
"""What can become of an upload. `busy` was refused with 503; `lost`: its process was; `gone`: the
client was."""


class Metrics:
    """All metrics of one server, in a registry of its own."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.sessions = Gauge("mfer_edge_sessions", "Live sessions.", registry=registry)
        self.sessions_started = Counter(
            "mfer_edge_sessions_started", "Live sessions that began.", registry=registry
        )
        self.sessions_refused = Counter(
            "mfer_edge_sessions_refused",
            "Live sessions that were refused as all places were taken.",
            registry=registry,
        )
        self.frames = Counter(
            "mfer_edge_frames", "Frames of live sessions that came.", registry=registry
        )
        self.frames_dropped = Counter(
            "mfer_edge_frames_dropped",
            "Frames of live sessions that were left out as the machine was late.",
            registry=registry,
        )
        self.audio = Counter(
            "mfer_edge_audio_seconds", "Audio of live sessions that came.", registry=registry
        )
        self.readings = Counter(
            "mfer_edge_readings",
            "Readings of live sessions, by what they rest on.",
            ["modalities"],
            registry=registry,
        )
        self.compute = Histogram(
            "mfer_edge_reading_compute_seconds",
            "Computing of a reading, from its last frame or audio.",
            buckets=COMPUTE_BUCKETS,
            registry=registry,
        )
        self.lag = Histogram(
            "mfer_edge_reading_lag_seconds",
            "Time from the end of a reading's window until it was ready.",
            buckets=LAG_BUCKETS,
            registry=registry,
        )
        self.uploads = Counter(
            "mfer_edge_uploads", "Clips that were sent, by outcome.", ["outcome"], registry=registry
        )
        for outcome in OUTCOMES:
            self.uploads.labels(outcome)
        self.upload_seconds = Histogram(
            "mfer_edge_upload_seconds",
            "Time from the first byte of a clip to its result.",
            buckets=UPLOAD_BUCKETS,
            registry=registry,
        )
        self._connections = Gauge(
            "mfer_edge_connections", "Open connections, WebSockets included.", registry=registry
        )

    def count_connections(self, count: Callable[[], int]) -> None:
        """Set what tells the number of open connections."""
        self._connections.set_function(count)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
