"""Window spans and segments of a clip."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given

from mfer_edge.results import Reading
from mfer_edge.segments import seen_share, segments, thin_basis, window_spans
from tests.support.analyses import reading, scores, window_lists


@given(window_lists())
def test_spans_cover_the_windows_once_and_in_order(made: tuple[list[Reading], float]) -> None:
    readings, duration_s = made
    spans = sorted({(r.start_s, r.end_s) for r in readings})
    found = window_spans(readings, duration_s)
    assert [(m.readings[0].start_s, m.readings[0].end_s) for m in found] == spans
    for span in found:
        window = span.readings[0]
        assert window.start_s <= span.start_s < span.end_s <= window.end_s
    for before, after in pairwise(found):
        assert before.end_s <= after.start_s
        if after.readings[0].start_s < before.readings[0].end_s:
            assert before.end_s == after.start_s  # windows that overlap leave no gap


@given(window_lists())
def test_span_belongs_to_the_window_with_the_nearest_middle(
    made: tuple[list[Reading], float],
) -> None:
    length_s = 4.0
    readings = [replace(r, end_s=r.start_s + length_s) for r in made[0]]
    middles = sorted({r.start_s + length_s / 2 for r in readings})
    for span in window_spans(readings, 1e6):
        middle_s = (span.readings[0].start_s + span.readings[0].end_s) / 2
        time_s = (span.start_s + span.end_s) / 2
        nearest = min(abs(middle - time_s) for middle in middles)
        assert abs(middle_s - time_s) == pytest.approx(nearest, abs=1e-9)


@given(window_lists())
def test_segments_join_the_spans_of_each_face_and_no_more(
    made: tuple[list[Reading], float],
) -> None:
    found = segments(*made)
    assert found == sorted(found, key=lambda s: (s.start_s, s.end_s))
    for track in {one.track for one in made[0]}:
        mine = [segment for segment in found if segment.track == track]
        seen = [
            (span, one)
            for span in window_spans(*made)
            for one in span.readings
            if one.track == track
        ]
        assert sum(s.end_s - s.start_s for s in mine) == pytest.approx(
            sum(span.end_s - span.start_s for span, _ in seen)
        )
        for span, one in seen:
            [home] = [s for s in mine if s.start_s <= span.start_s and span.end_s <= s.end_s]
            assert home.label == one.label
            assert (home.score is None) == (one.label is None)
        for before, after in pairwise(mine):
            assert before.end_s <= after.start_s
            assert before.label != after.label or after.start_s - before.end_s > 1e-6


def test_segment_has_the_mean_score_of_its_windows() -> None:
    windows = [reading(0, 4), reading(1, 5, scores=scores("happy", 0.5)), reading(2, 6, "sad")]
    found = segments(windows, 6.0)
    assert [(s.start_s, s.end_s, s.label) for s in found] == [(0, 3.5, "happy"), (3.5, 6, "sad")]
    assert [s.score for s in found] == pytest.approx([(0.79 + 0.5) / 2, 0.79])


def test_a_share_counts_a_window_for_as_long_as_it_is_shown() -> None:
    """Windows overlap: what is in the middle of a clip would count several times."""
    windows = [reading(t, t + 4, faces=20 if t < 4 else 0) for t in range(9)]
    share = seen_share(windows, 12.0)  # the last window with a face is shown up to 5.5 s
    assert share == pytest.approx(5.5 / 12)
    assert seen_share([reading(0, 4, frames=0)], 4.0) is None and seen_share([], 0.0) is None
    assert thin_basis(windows, 12.0) == []
    few = [reading(t, t + 4, faces=20 if t == 4 else 0) for t in range(9)]
    assert thin_basis(few, 12.0) == ["a face was found in 8% of the frames only"]
    assert thin_basis([reading(0, 4, faces=0)], 4.0) == []  # there is no face to rely on
