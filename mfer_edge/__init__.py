"""Emotion recognition from face and voice, at the edge."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Nothing leaves the machine. From 1.29 on, ONNX Runtime's wheels store an id of the device and send
# events to its maker, unless one of these is set before it is imported (docs/Privacy.md in it).
for _switch in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):
    os.environ.setdefault(_switch, "1")

if TYPE_CHECKING:
    from mfer_edge.adapt import Adaptation, AdaptationStatistics
    from mfer_edge.errors import (
        AdaptationError,
        BundleError,
        CrashError,
        EngineError,
        HangError,
        IsolationError,
        MediaError,
        MemoryLimitError,
        MferError,
    )
    from mfer_edge.isolation.pool import IsolatedPool
    from mfer_edge.isolation.worker import ClipJob, WorkerSetup
    from mfer_edge.live.pool import SessionPool
    from mfer_edge.live.session import LiveSession
    from mfer_edge.options import SessionOptions
    from mfer_edge.pipeline import Pipeline
    from mfer_edge.results import Analysis, Overall, Reading, Timing, Track
    from mfer_edge.session import Session
    from mfer_edge.sources.base import AudioChunk, Frame, Source, TrackChoice

__all__ = [
    "Adaptation",
    "AdaptationError",
    "AdaptationStatistics",
    "Analysis",
    "AudioChunk",
    "BundleError",
    "ClipJob",
    "CrashError",
    "EngineError",
    "Frame",
    "HangError",
    "IsolatedPool",
    "IsolationError",
    "LiveSession",
    "MediaError",
    "MemoryLimitError",
    "MferError",
    "Overall",
    "Pipeline",
    "Reading",
    "Session",
    "SessionOptions",
    "SessionPool",
    "Source",
    "Timing",
    "Track",
    "TrackChoice",
    "WorkerSetup",
]

_HOME = {
    "Adaptation": "adapt",
    "AdaptationStatistics": "adapt",
    "AdaptationError": "errors",
    "BundleError": "errors",
    "CrashError": "errors",
    "EngineError": "errors",
    "HangError": "errors",
    "IsolationError": "errors",
    "MediaError": "errors",
    "MemoryLimitError": "errors",
    "MferError": "errors",
    "IsolatedPool": "isolation.pool",
    "ClipJob": "isolation.worker",
    "WorkerSetup": "isolation.worker",
    "LiveSession": "live.session",
    "SessionPool": "live.pool",
    "Pipeline": "pipeline",
    "Analysis": "results",
    "Overall": "results",
    "Reading": "results",
    "Timing": "results",
    "Track": "results",
    "Session": "session",
    "SessionOptions": "options",
    "AudioChunk": "sources.base",
    "Frame": "sources.base",
    "Source": "sources.base",
    "TrackChoice": "sources.base",
}


def __getattr__(name: str) -> Any:
    # Public names import their module on first use: `mfer-edge --help` needs none of them.
    if name not in _HOME:
        raise AttributeError(f"module 'mfer_edge' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"mfer_edge.{_HOME[name]}"), name)
