"""Faces keep their id while they are in view."""

from __future__ import annotations

from itertools import pairwise
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.faces.look import Look, Scene
from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.faces.tracker import LOST_AFTER_S, MIN_OVERLAP, FaceTracker, overlap
from mfer_edge.results import Track


def box(left: float, top: float = 0.0, side: float = 100.0) -> FaceBox:
    return FaceBox(left, top, left + side, top + side, 1.0)


def be_empty(tracker: FaceTracker, time_s: float) -> None:
    """A frame without a face."""
    tracker.update(time_s + 1.2, [])


def boxes_of(data: list[tuple[int, int, int]]) -> list[FaceBox]:
    return [box(left, top, side) for left, top, side in data]


faces = st.lists(
    st.tuples(st.integers(-50, 300), st.integers(-50, 300), st.integers(1, 200)), max_size=4
).map(boxes_of)


class TestOverlap:
    def test_values(self) -> None:
        assert overlap(box(0), box(0)) == 1.0
        assert overlap(box(0), box(100)) == 0.0  # they touch
        assert overlap(box(0), box(500)) == 0.0
        assert overlap(box(0), box(50)) == pytest.approx(1 / 3)
        assert overlap(box(0), box(25, 25, side=50)) == pytest.approx(1 / 4)

    @given(faces, faces)
    def test_is_a_share_and_has_no_direction(self, some: list[FaceBox], more: list) -> None:
        for one in some:
            for other in more:
                assert 0 <= overlap(one, other) <= 1
                assert overlap(one, other) == pytest.approx(overlap(other, one))


class TestTracks:
    def test_a_still_face_is_one(self) -> None:
        tracker = FaceTracker()
        assert [tracker.update(index / 5, [box(0)]) for index in range(10)] == [[0]] * 10
        assert tracker.tracks() == (Track(0, 0.0, 1.8, 10),)

    def test_a_moving_face_is_one(self) -> None:
        tracker = FaceTracker()  # a face crosses a image of 2000 pixels in 8 s
        assert {tracker.update(i / 5, [box(50 * i)])[0] for i in range(40)} == {0}

    def test_a_jump_is_another_face(self) -> None:
        tracker = FaceTracker()
        assert tracker.update(0.0, [box(0)]) == [0]
        assert tracker.update(0.2, [box(500)]) == [1]

    def test_order_of_the_boxes_does_not_matter(self) -> None:
        tracker = FaceTracker()
        assert tracker.update(0.0, [box(0), box(300)]) == [0, 1]
        assert tracker.update(0.2, [box(310), box(5)]) == [1, 0]

    def test_the_pair_that_overlaps_most_is_joined_first(self) -> None:
        tracker = FaceTracker()
        tracker.update(0.0, [box(0), box(60)])
        # The box at 40 overlaps both, the second more; the one at 10 is left to the first.
        assert tracker.update(0.2, [box(40), box(10)]) == [1, 0]

    def test_a_short_absence_is_bridged_and_a_long_one_is_not(self) -> None:
        for gap_s, expected in ((LOST_AFTER_S, 0), (LOST_AFTER_S + 0.2, 1)):
            tracker = FaceTracker()
            tracker.update(0.0, [box(0)])
            for share in range(1, 5):
                tracker.update(gap_s * share / 5, [])
            assert tracker.update(gap_s, [box(0)]) == [expected]

    @pytest.mark.parametrize("interval_s", [0.2, 1.5, 7.0, 600.0])
    def test_forgetting_follows_the_interval_of_the_frames(self, interval_s: float) -> None:
        """A meeting that shows a frame every 7 s: whoever stays is one person."""
        tracker = FaceTracker()
        for index in range(5):
            assert tracker.update(index * interval_s, [box(0)]) == [0]
        for index in range(5, 11):
            tracker.update(index * interval_s, [])
        assert tracker.update(11 * interval_s, [box(0)]) == [1]

    def test_ids_are_not_given_again(self) -> None:
        tracker = FaceTracker()
        given = []
        for index in range(5):
            given += tracker.update(3.0 * index, [box(0)])
            be_empty(tracker, 3.0 * index)
        assert given == [0, 1, 2, 3, 4]
        assert [track.track for track in tracker.tracks()] == given

    def test_tracks_tell_when_and_how_often(self) -> None:
        tracker = FaceTracker()
        tracker.update(0.0, [box(0)])
        tracker.update(0.2, [box(0), box(300)])
        tracker.update(0.4, [box(300)])
        tracker.update(0.6, [box(0), box(300)])
        assert tracker.tracks() == (Track(0, 0.0, 0.6, 3), Track(1, 0.2, 0.6, 3))

    def test_many_lost_faces_are_dropped_and_counted(self) -> None:
        """A camera at a door: memory holds the latest, ids go on, and the others are counted."""
        tracker = FaceTracker()
        with mock.patch("mfer_edge.faces.tracker.MAX_LOST", 5):
            for index in range(20):
                assert tracker.update(2.0 * index, [box(0)]) == [index]
                be_empty(tracker, 2.0 * index)
        assert [track.track for track in tracker.tracks()] == [14, 15, 16, 17, 18, 19]
        assert tracker.dropped == 14

    def test_a_cut_ends_a_track(self) -> None:
        tracker, rng = FaceTracker(), np.random.default_rng(0)
        here, there = (
            Look.of(Scene.of(image), image[:48, :48, 0])
            for image in rng.integers(0, 255, (2, 90, 160, 3), np.uint8)
        )
        assert tracker.update(0.0, [box(0), box(300)], [here, here]) == [0, 1]
        assert tracker.update(0.2, [box(0), box(300)], [here, here]) == [0, 1]
        assert tracker.update(0.4, [box(0), box(300)], [there, there]) == [2, 3]
        assert tracker.update(0.6, [box(0)], [here]) == [0]  # cut back: he was never gone

    @given(st.lists(faces, max_size=8))
    def test_any_stream(self, stream: list[list[FaceBox]]) -> None:
        tracker, seen = FaceTracker(), []
        before: dict[int, FaceBox] = {}
        for index, boxes in enumerate(stream):
            ids = tracker.update(index / 5, boxes)
            assert len(set(ids)) == len(ids) == len(boxes)  # each face once
            for track, found in zip(ids, boxes, strict=True):
                if track in before:
                    assert overlap(before[track], found) >= MIN_OVERLAP
                before[track] = found
            seen += ids
        tracks = tracker.tracks()
        assert {track.track: track.faces for track in tracks} == {i: seen.count(i) for i in seen}
        assert all(a.track < b.track and a.start_s <= b.start_s for a, b in pairwise(tracks))
        assert all(track.start_s <= track.end_s for track in tracks)
