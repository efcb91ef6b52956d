"""JSON of an analysis."""

from __future__ import annotations

import json

import pytest

from mfer_edge.results import AdaptationInfo, Reading, Timing
from tests.support.analyses import LABELS, analysis, reading, scores


def test_json_is_schema_1() -> None:
    visual, audio = scores("angry", 0.65), scores("angry", 0.93)
    seen = Reading(0.0, 4.1374667, 0, True, scores("angry"), visual, audio, 21, 20, 1.9004)
    made = analysis([seen], 4.1374667, timing=Timing(0.41377, 0.3, 2, {"decode": 0.12345}))
    angry = {label: 0.79 if label == "angry" else 0.03 for label in LABELS}
    assert json.loads(json.dumps(made.to_dict())) == {
        "schema": 1,
        "source": "clip.mp4",
        "duration_s": 4.137,
        "bundle": {"name": "compact", "precision": "int8", "trained": True, "sha256": "ab" * 32},
        "adaptation": None,
        "device": "cpu",
        "providers": ["CPUExecutionProvider"],
        "overall": {"label": "angry", "scores": angry, "modalities": ["visual", "audio"]},
        "windows": [
            {
                "start_s": 0.0,
                "end_s": 4.137,
                "track": 0,
                "main": True,
                "label": "angry",
                "scores": angry,
                "modalities": ["visual", "audio"],
                "visual": {label: 0.65 if label == "angry" else 0.05 for label in LABELS},
                "audio": {label: 0.93 if label == "angry" else 0.01 for label in LABELS},
                "frames": 21,
                "faces": 20,
                "reused": 0,
                "speaker": None,
                "speech_s": 1.9,
            }
        ],
        "tracks": [{"track": 0, "start_s": 0.0, "end_s": 4.137, "faces": 20}],
        "timing": {
            "wall_s": 0.414,
            "rtf": 0.1,
            "load_s": 0.3,
            "threads": 2,
            "stages_s": {"decode": 0.123},
        },
        "warnings": [],
    }


def test_json_says_what_the_model_was_adapted_to() -> None:
    made = analysis([], 1.0, adaptation=AdaptationInfo("office.npz", 23, 23 / 33, 5, 0.5)).to_dict()
    assert made["adaptation"] == {
        "name": "office.npz",
        "windows": 23,
        "weight": 0.697,
        "face_windows": 5,
        "face_weight": 0.5,
    }


def test_json_of_a_clip_with_nothing_to_read_holds_nulls() -> None:
    nothing = reading(0, 3, None)
    made = analysis([nothing], 3.0).to_dict()
    assert made["overall"] is None
    window = made["windows"][0]
    assert [window[name] for name in ("label", "scores", "visual", "audio", "track")] == [None] * 5
    assert window["modalities"] == []


def test_scores_are_written_with_six_decimals_that_still_sum_to_1() -> None:
    thirds = dict.fromkeys(("sad", "calm", "happy"), 1 / 3)
    written = analysis([reading(0, 1, scores=thirds)], 1.0).to_dict()["windows"][0]["scores"]
    assert set(written.values()) == {0.333333}
    assert sum(written.values()) == pytest.approx(1, abs=1e-5)
