"""Messages to the viewer of a live session."""

from __future__ import annotations

from typing import Any

from mfer_edge.live.events import FacesSeen, LiveReading
from mfer_edge.options import SessionOptions
from mfer_edge.outputs.json import reading_dict, round_s
from mfer_edge.pipeline import Pipeline
from mfer_edge.speech.vad import SAMPLE_RATE


def ready_message(pipeline: Pipeline, options: SessionOptions) -> dict[str, Any]:
    """The session has begun."""
    manifest = pipeline.bundle.manifest
    return {
        "type": "ready",
        "labels": list(manifest.labels),
        "frame_rate": manifest.frame_rate,
        "sample_rate": SAMPLE_RATE,
        "window_s": options.window_s,
        "hop_s": options.hop_s,
    }


def reading_message(event: LiveReading, dropped: int) -> dict[str, Any]:
    """A reading, as in the JSON, and how long it took.

    Args:
        dropped: frames so far.
    """
    return {
        "type": "reading",
        **reading_dict(event.reading),
        "compute_s": round_s(event.compute_s),
        "lag_s": round_s(event.lag_s),
        "dropped": dropped,
    }


def faces_message(event: FacesSeen) -> dict[str, Any]:
    """Where the faces are in a frame, in its pixels."""
    return {
        "type": "faces",
        "time_s": round_s(event.time_s),
        "faces": [
            {
                "track": face.track,
                "left": round(face.left, 1),
                "top": round(face.top, 1),
                "right": round(face.right, 1),
                "bottom": round(face.bottom, 1),
            }
            for face in event.faces
        ],
    }
