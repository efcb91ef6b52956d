"""WebVTT captions of an analysis."""

from __future__ import annotations

import re
from itertools import pairwise

from hypothesis import given

from mfer_edge.outputs.webvtt import captions, vtt_time
from mfer_edge.results import Reading
from mfer_edge.segments import window_spans
from tests.support.analyses import analysis, reading, window_lists


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
def test_captions_are_the_spans_with_scores(made: tuple[list[Reading], float]) -> None:
    cues = captions(*made)
    spans = [m for m in window_spans(*made) if any(r.scores is not None for r in m.readings)]
    assert [(cue.start_s, cue.end_s) for cue in cues] == [(m.start_s, m.end_s) for m in spans]
    scored = {(r.start_s, r.end_s) for r in made[0] if r.scores is not None}
    assert len(cues) == len(scored)
    for before, after in pairwise(cues):
        assert before.end_s <= after.start_s


def test_window_without_scores_has_no_caption() -> None:
    cues = captions([reading(0, 4), reading(1, 5, None), reading(2, 6)], 6.0)
    assert [(cue.start_s, cue.end_s) for cue in cues] == [(0, 2.5), (3.5, 6)]
