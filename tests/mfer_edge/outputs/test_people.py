"""People of an analysis, and windows that are averaged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.outputs.people import NOBODY, by_presence, people, thinned, uncertainty
from mfer_edge.results import Track
from tests.support.analyses import LABELS, reading, scores, window_lists


class TestPeople:
    def test_each_face_has_its_readings_and_its_time(self) -> None:
        voice = reading(1, 5, track=None, visual=None, faces=0, main=False)
        windows = [reading(0, 4, track=3), voice, reading(1, 5, track=0)]
        found = people(windows, (Track(0, 1.5, 4.5, 9), Track(3, 0.5, 2.0, 9)))
        assert [(one.name, one.start_s, one.end_s) for one in found] == [
            ("face 3", 0.5, 2.0),
            ("face 0", 1.5, 4.5),
            (NOBODY, 1.0, 5.0),
        ]
        assert [one.readings for one in found] == [(windows[0],), (windows[2],), (windows[1],)]

    def test_windows_without_a_reading_are_nobodys(self) -> None:
        windows = [reading(0, 4), reading(1, 5, None)]
        assert [one.name for one in people(windows, (Track(0, 0, 4, 20),))] == ["face 0"]
        assert [one.name for one in people(windows[1:], ())] == [NOBODY]

    def test_those_seen_most_are_kept_in_their_order(self) -> None:
        windows = [reading(0, 4), *(reading(n, n + 4, track=1, main=False) for n in range(3))]
        windows += [reading(n, n + 4, track=2, main=False) for n in range(2)]
        everyone = people(windows, ())
        assert [one.track for one in by_presence(everyone, 2)] == [1, 2]
        assert by_presence(everyone, 9) == everyone


class TestThinned:
    def test_few_windows_stay_as_they_are(self) -> None:
        windows = (reading(0, 4), reading(1, 5))
        assert thinned(windows, 2) == (windows, 1)

    def test_windows_that_follow_each_other_are_averaged(self) -> None:
        windows = [
            reading(0, 4, scores=scores("sad", 0.9), speech_s=4.0, faces=20),
            reading(2, 6, scores=scores("sad", 0.5), speech_s=0.0, faces=10),
            reading(4, 8, "happy"),
        ]
        (first, last), joined = thinned(windows, 2)
        assert joined == 2 and last == windows[2]
        assert (first.start_s, first.end_s, first.main) == (0, 6, True)
        assert first.scores is not None and first.scores["sad"] == pytest.approx(0.7)
        assert (first.frames, first.faces, first.speech_s) == (40, 30, 3.0)

    def test_who_was_the_main_face_most_often_is_it(self) -> None:
        windows = []
        for start, main in ((0, 1), (1, 0), (2, 0)):
            windows += [reading(start, start + 4, track=t, main=t == main) for t in (0, 1)]
        found, _ = thinned(windows, 2)
        assert {one.track: one.main for one in found} == {0: True, 1: False}

    @given(window_lists(), st.integers(1, 8))
    def test_one_main_reading_a_window_and_nothing_outside(self, made: tuple, limit: int) -> None:
        readings, _ = made
        found, joined = thinned(readings, limit)
        windows = {(one.start_s, one.end_s) for one in readings}
        assert len({(one.start_s, one.end_s) for one in found}) == -(-len(windows) // joined)
        mains = [(one.start_s, one.end_s) for one in found if one.main]
        assert len(mains) == len(set(mains)) == -(-len(windows) // joined)
        assert min(one.start_s for one in found) == min(one.start_s for one in readings)
        assert max(one.end_s for one in found) == max(one.end_s for one in readings)


class TestUncertainty:
    @pytest.mark.parametrize(
        ("given_scores", "expected"),
        [
            (scores("sad", 1.0), 0.0),
            (scores("sad", 1 / len(LABELS)), 1.0),
            ({"a": 0.5, "b": 0.5, "c": 0.0, "d": 0.0}, 0.5),
            ({"a": 1.0}, 0.0),
            (None, None),
        ],
    )
    def test_entropy_as_a_share(self, given_scores: dict | None, expected: float | None) -> None:
        assert uncertainty(given_scores) == (None if expected is None else pytest.approx(expected))

    def test_it_does_not_depend_on_which_label(self) -> None:
        one = reading(0, 4, "sad")
        other = replace(one, scores=scores("happy"))
        assert uncertainty(one.scores) == pytest.approx(uncertainty(other.scores))
