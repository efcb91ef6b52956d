"""What visitors may keep: recordings of live sessions, results in the formats of `infer`."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import cv2

from mfer_edge.live.session import LiveSession
from mfer_edge.options import SessionOptions
from mfer_edge.outputs.html import html_text
from mfer_edge.outputs.timeline import draw_timeline
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Analysis, Reading, Timing, Track

MAX_READINGS = 20_000  # five hours of one face at one a second, about 20 MB


class Recording:
    """Readings since a moment. Nothing is written: the visitor gets all of it at the end."""

    def __init__(self, pipeline: Pipeline, options: SessionOptions) -> None:
        self._pipeline, self._options = pipeline, options
        self._readings: list[Reading] = []
        self._left_out = 0

    def add(self, reading: Reading) -> None:
        """Keep a reading."""
        if len(self._readings) < MAX_READINGS:
            self._readings.append(reading)
        else:
            self._left_out += 1

    def analysis(self, tracks: tuple[Track, ...]) -> Analysis:
        """The recording as an analysis, whose times count from its first window's start.

        Args:
            tracks: of the session; those that end before the recording are left out.
        """
        start_s = self._readings[0].start_s if self._readings else 0.0
        end_s = max((reading.end_s for reading in self._readings), default=0.0)
        warnings: tuple[str, ...] = ()
        if self._left_out:
            warnings = (f"{self._left_out} readings after the first {MAX_READINGS} were left out",)
        return self._pipeline.analysis_of(
            [
                replace(r, start_s=r.start_s - start_s, end_s=r.end_s - start_s)
                for r in self._readings
            ],
            self._options,
            source="live",
            duration_s=end_s - start_s,
            tracks=tuple(
                replace(
                    t, start_s=max(0.0, t.start_s - start_s), end_s=min(t.end_s, end_s) - start_s
                )
                for t in tracks
                if t.end_s > start_s and t.start_s < end_s
            ),
            timing=Timing(end_s - start_s, self._pipeline.model.load_s, self._pipeline.threads),
            warnings=warnings,
        )

    def message(self, live: LiveSession) -> dict[str, Any]:
        """The recording as a message to the visitor; it may wait for the session's process."""
        analysis = self.analysis(live.tracks())
        return {
            "type": "recording",
            "analysis": analysis.to_dict(),
            "files": result_files(analysis) if self._readings else {},
        }


def result_files(analysis: Analysis) -> dict[str, str]:
    """The result in other formats, by the ending of a file's name; the PNG as base64."""
    _, png = cv2.imencode(".png", draw_timeline(analysis))
    return {
        "csv": analysis.to_csv(),
        "vtt": analysis.to_vtt(),
        "html": html_text(analysis),
        "png": base64.b64encode(png.tobytes()).decode(),
    }
