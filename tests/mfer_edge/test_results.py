from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.outputs.webvtt import captions, vtt_time
from mfer_edge.results import Reading, Timing, mean_scores, overall
from mfer_edge.segments import segments, window_spans
from tests.support.analyses import LABELS, analysis, reading, scores


@st.composite
def window_lists(draw: st.DrawFn) -> tuple[list[Reading], float]:
    """Windows as a session gives them: both starts and ends in order, of one or two faces."""
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


def test_json_of_a_clip_with_nothing_to_read_holds_nulls() -> None:
    nothing = reading(0, 3, None)
    made = analysis([nothing], 3.0).to_dict()
    assert made["overall"] is None
    window = made["windows"][0]
    assert [window[name] for name in ("label", "scores", "visual", "audio", "track")] == [None] * 5
    assert window["modalities"] == []


def test_modalities_name_what_the_scores_rest_on() -> None:
    assert reading(0, 1).modalities == ("visual", "audio")
    assert reading(0, 1, visual=None).modalities == ("audio",)
    assert reading(0, 1, audio=None).modalities == ("visual",)


def test_scores_are_written_with_six_decimals_that_still_sum_to_1() -> None:
    thirds = dict.fromkeys(("sad", "calm", "happy"), 1 / 3)
    written = analysis([reading(0, 1, scores=thirds)], 1.0).to_dict()["windows"][0]["scores"]
    assert set(written.values()) == {0.333333}
    assert sum(written.values()) == pytest.approx(1, abs=1e-5)


def test_real_time_factor_is_work_for_a_second_of_clip() -> None:
    assert Timing(wall_s=2.0, load_s=9.0, threads=1).rtf(8.0) == 0.25
    assert Timing(wall_s=2.0, load_s=9.0, threads=1).rtf(0.0) == 0.0


def test_csv_has_a_line_for_every_reading() -> None:
    windows = [reading(0, 4), reading(0, 4, "sad", track=1, main=False), reading(4, 8, None)]
    made = analysis(windows, 8.0, source='a, "b".mp4')
    rows = list(csv.DictReader(io.StringIO(made.to_csv())))
    assert [row["source"] for row in rows] == ['a, "b".mp4'] * 3
    assert [row["label"] for row in rows] == ["happy", "sad", ""]
    assert [row["track"] for row in rows] == ["0", "1", ""]
    assert [row["main"] for row in rows] == ["True", "False", "True"]
    assert rows[0]["modalities"] == "visual+audio"
    assert [float(rows[1][label]) for label in LABELS] == [
        0.79 if label == "sad" else 0.03 for label in LABELS
    ]
    assert [rows[2][label] for label in LABELS] == [""] * len(LABELS)


def test_vtt_shows_each_window_around_its_middle() -> None:
    windows = [reading(0, 4), reading(1, 5, "sad", track=3), reading(2, 6, "calm", track=None)]
    made = analysis(windows, 5.9)
    assert made.to_vtt().split("\n\n") == [
        "WEBVTT",
        "00:00:00.000 --> 00:00:02.500\nhappy 79% (face 0)",
        "00:00:02.500 --> 00:00:03.500\nsad 79% (face 3)",
        "00:00:03.500 --> 00:00:05.900\ncalm 79%\n",
    ]


def test_vtt_names_the_faces_of_a_window_together() -> None:
    windows = [reading(0, 4), reading(0, 4, "sad", track=1, main=False)]
    assert "happy 79% (face 0)\nsad 79% (face 1)\n" in analysis(windows, 4.0).to_vtt()


@given(window_lists())
def test_vtt_is_well_formed(made: tuple[list[Reading], float]) -> None:
    header, *cues = analysis(*made).to_vtt().rstrip("\n").split("\n\n")
    assert header == "WEBVTT"
    for cue in cues:
        times, *lines = cue.split("\n")
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} --> \d\d:\d\d:\d\d\.\d{3}", times)
        start, end = times.split(" --> ")
        assert start < end  # of equal length, so the text sorts as the times do
        assert lines and all(re.fullmatch(r"\w+ \d+% \(face \d\)", line) for line in lines)


def test_vtt_time_carries_over() -> None:
    assert vtt_time(59.9996) == "00:01:00.000"
    assert vtt_time(3 * 3600 + 25 * 60 + 45.678) == "03:25:45.678"


@given(window_lists())
def test_moments_cover_the_windows_once_and_in_order(made: tuple[list[Reading], float]) -> None:
    readings, duration_s = made
    spans = sorted({(r.start_s, r.end_s) for r in readings})
    found = window_spans(readings, duration_s)
    assert [(m.readings[0].start_s, m.readings[0].end_s) for m in found] == spans
    for moment in found:
        window = moment.readings[0]
        assert window.start_s <= moment.start_s < moment.end_s <= window.end_s
    for before, after in pairwise(found):
        assert before.end_s <= after.start_s
        if after.readings[0].start_s < before.readings[0].end_s:
            assert before.end_s == after.start_s  # windows that overlap leave no gap


@given(window_lists())
def test_of_two_equal_windows_the_one_with_the_nearer_middle_speaks(
    made: tuple[list[Reading], float],
) -> None:
    length_s = 4.0
    readings = [replace(r, end_s=r.start_s + length_s) for r in made[0]]
    middles = sorted({r.start_s + length_s / 2 for r in readings})
    for moment in window_spans(readings, 1e6):
        spoken = (moment.readings[0].start_s + moment.readings[0].end_s) / 2
        time_s = (moment.start_s + moment.end_s) / 2
        nearest = min(abs(middle - time_s) for middle in middles)
        assert abs(spoken - time_s) == pytest.approx(nearest, abs=1e-9)


@given(window_lists())
def test_captions_are_the_moments_that_have_a_reading(made: tuple[list[Reading], float]) -> None:
    cues = captions(*made)
    spoken = [m for m in window_spans(*made) if any(r.scores is not None for r in m.readings)]
    assert [(cue.start_s, cue.end_s) for cue in cues] == [(m.start_s, m.end_s) for m in spoken]
    scored = {(r.start_s, r.end_s) for r in made[0] if r.scores is not None}
    assert len(cues) == len(scored)  # no scored window goes unheard
    for before, after in pairwise(cues):
        assert before.end_s <= after.start_s


def test_a_window_with_nothing_leaves_its_stretch_without_caption() -> None:
    cues = captions([reading(0, 4), reading(1, 5, None), reading(2, 6)], 6.0)
    assert [(cue.start_s, cue.end_s) for cue in cues] == [(0, 2.5), (3.5, 6)]


@given(window_lists())
def test_stretches_join_each_faces_moments_and_no_more(made: tuple[list[Reading], float]) -> None:
    found = segments(*made)
    assert found == sorted(found, key=lambda s: (s.start_s, s.end_s))
    for track in {one.track for one in made[0]}:
        mine = [stretch for stretch in found if stretch.track == track]
        seen = [
            (moment, one)
            for moment in window_spans(*made)
            for one in moment.readings
            if one.track == track
        ]
        assert sum(s.end_s - s.start_s for s in mine) == pytest.approx(
            sum(moment.end_s - moment.start_s for moment, _ in seen)
        )
        for moment, one in seen:
            [home] = [s for s in mine if s.start_s <= moment.start_s and moment.end_s <= s.end_s]
            assert home.label == one.label
            assert (home.share is None) == (one.label is None)
        for before, after in pairwise(mine):
            assert before.end_s <= after.start_s
            assert before.label != after.label or after.start_s - before.end_s > 1e-6


def test_a_stretch_has_the_mean_share_of_its_windows() -> None:
    windows = [reading(0, 4), reading(1, 5, scores=scores("happy", 0.5)), reading(2, 6, "sad")]
    found = segments(windows, 6.0)
    assert [(s.start_s, s.end_s, s.label) for s in found] == [(0, 3.5, "happy"), (3.5, 6, "sad")]
    assert [s.share for s in found] == pytest.approx([(0.79 + 0.5) / 2, 0.79])


@given(window_lists())
def test_overall_is_a_distribution_over_every_label(made: tuple[list[Reading], float]) -> None:
    result = overall(made[0])
    if any(r.main and r.scores is not None for r in made[0]):
        assert result is not None
        assert set(result.scores) == set(LABELS)
        assert sum(result.scores.values()) == pytest.approx(1, abs=1e-9)
        assert result.label in LABELS
    else:
        assert result is None


def test_overall_is_the_mean_of_the_main_faces() -> None:
    windows = [
        reading(0, 4, "happy", audio=None),
        reading(0, 4, "sad", track=1, main=False),
        reading(1, 5, "angry", visual=None),
        reading(2, 6, None),
    ]
    result = overall(windows)
    assert result is not None
    assert result.scores["happy"] == result.scores["angry"] == pytest.approx((0.79 + 0.03) / 2)
    assert result.scores["sad"] == pytest.approx(0.03)
    assert result.modalities == ("visual", "audio")


def test_mean_scores_leave_out_what_is_missing() -> None:
    mean = mean_scores([None, {"sad": 0.2, "calm": 0.8}, {"sad": 0.6, "calm": 0.4}])
    assert mean == {"sad": pytest.approx(0.4), "calm": pytest.approx(0.6)}
    assert mean_scores([None]) is None
