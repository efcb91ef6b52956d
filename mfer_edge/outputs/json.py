"""JSON output, schema 1."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mfer_edge.results import Analysis, Reading, Scores

SCHEMA = 1


def json_text(analyses: Sequence[Analysis], *, one_per_line: bool) -> str:
    """Serialise analyses.

    Args:
        one_per_line: an object per line (JSON Lines) instead of indented ones.
    """
    indent = None if one_per_line else 2
    return "".join(
        json.dumps(analysis_dict(analysis), indent=indent, ensure_ascii=False) + "\n"
        for analysis in analyses
    )


def analysis_dict(analysis: Analysis) -> dict[str, Any]:
    """Content of the JSON object of one analysis."""
    overall, timing, adaptation = analysis.overall, analysis.timing, analysis.adaptation
    return {
        "schema": SCHEMA,
        "source": analysis.source,
        "duration_s": round_s(analysis.duration_s),
        "bundle": {
            "name": analysis.bundle.name,
            "precision": analysis.bundle.precision,
            "trained": analysis.bundle.trained,
            "sha256": analysis.bundle.sha256,
        },
        "adaptation": None
        if adaptation is None
        else {
            "name": adaptation.name,
            "windows": adaptation.windows,
            "weight": round(adaptation.weight, 3),
            "face_windows": adaptation.face_windows,
            "face_weight": round(adaptation.face_weight, 3),
        },
        "device": analysis.device,
        "providers": list(analysis.providers),
        "overall": None
        if overall is None
        else {
            "label": overall.label,
            "scores": round_scores(overall.scores),
            "modalities": list(overall.modalities),
        },
        "windows": [reading_dict(reading) for reading in analysis.windows],
        "tracks": [
            {
                "track": track.track,
                "start_s": round_s(track.start_s),
                "end_s": round_s(track.end_s),
                "faces": track.faces,
            }
            for track in analysis.tracks
        ],
        "timing": {
            "wall_s": round_s(timing.wall_s),
            "rtf": round_s(timing.rtf(analysis.duration_s)),
            "load_s": round_s(timing.load_s),
            "threads": timing.threads,
            "stages_s": {name: round_s(value) for name, value in timing.stages_s.items()},
        },
        "warnings": list(analysis.warnings),
    }


def reading_dict(reading: Reading) -> dict[str, Any]:
    """Content of the JSON object of one reading."""
    return {
        "start_s": round_s(reading.start_s),
        "end_s": round_s(reading.end_s),
        "track": reading.track,
        "main": reading.main,
        "label": reading.label,
        "scores": round_scores(reading.scores),
        "modalities": list(reading.modalities),
        "visual": round_scores(reading.visual),
        "audio": round_scores(reading.audio),
        "frames": reading.frames,
        "faces": reading.faces,
        "reused": reading.reused,
        "speech_s": round_s(reading.speech_s),
        "speaker": reading.speaker,
    }


def round_scores(scores: Scores | None) -> Scores | None:
    """Round scores to six decimals."""
    return None if scores is None else {label: round(value, 6) for label, value in scores.items()}


def round_s(seconds: float) -> float:
    """Round to milliseconds."""
    return round(seconds, 3)
