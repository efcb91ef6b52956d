"""A frame is on show until the next one comes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.faces.shown import ShownFrames
from mfer_edge.faces.stream import FrameFaces


def frames(times_s: Sequence[float], until_s: float | None = None) -> ShownFrames:
    shown = ShownFrames(5.0)
    for time_s in times_s:
        shown.push(FrameFaces(time_s, (9, 9), [], until_s))
    return shown


def times(shown: ShownFrames, start_s: float, end_s: float, last: bool = False) -> list[float]:
    return [frame.time_s for frame in shown.window(start_s, end_s, last=last)]


class TestWindow:
    def test_a_usual_video_counts_each_frame_once(self) -> None:
        usual = [n / 5 for n in range(30)]
        shown = frames(usual)
        assert times(shown, 0, 4) == usual[:20]
        assert times(shown, 1, 5) == usual[5:25]
        assert times(shown, 2, 6, last=True) == usual[10:]

    @given(st.lists(st.floats(0.15, 0.35), min_size=5, max_size=40))
    def test_jitter_repeats_nothing(self, gaps: list[float]) -> None:
        taken = [sum(gaps[:n]) for n in range(len(gaps))]
        assert times(frames(taken), 0, taken[-1] + 0.2) == taken

    def test_slides_count_as_often_as_frames_would(self) -> None:
        shown = frames([0, 7, 14])
        assert times(shown, 0, 4) == [0] * 20
        assert times(shown, 5, 9) == [0] * 10 + [7] * 10
        assert times(shown, 16, 20) == [14] * 20
        assert times(shown, 20, 24) == [14] * 5  # as long as the one before
        assert times(shown, 21, 25) == []

    @given(
        gaps=st.lists(st.integers(1, 40), min_size=1, max_size=10),
        window=st.integers(1, 30),
        hop=st.integers(1, 30),
    )
    def test_whole_gaps_fill_every_window(self, gaps: list[int], window: int, hop: int) -> None:
        """Frames at multiples of 0.2 s: each fifth of a second has one, the one that is on show."""
        starts = [sum(gaps[:n]) for n in range(len(gaps))]
        end = sum(gaps)
        shown = frames([start / 5 for start in starts], until_s=end / 5)
        for start in range(0, end - window + 1, min(hop, window)):
            expected = [
                max(s for s in starts if s <= tick) / 5 for tick in range(start, start + window)
            ]
            assert times(shown, start / 5, (start + window) / 5) == expected

    def test_a_window_between_two_frames_has_the_first(self) -> None:
        shown = frames([0.0, 0.2, 0.4])
        found = [times(shown, n / 10, (n + 1) / 10) for n in range(6)]
        assert found == [[0.0], [0.0], [0.2], [0.2], [0.4], [0.4]]

    def test_the_last_frame_ends_with_its_track(self) -> None:
        assert times(frames([0.0, 0.2, 0.4], until_s=0.6), 0, 4) == [0.0, 0.2, 0.4]
        assert times(frames([0.0, 0.2, 0.4], until_s=2.4), 0, 4) == [0.0, 0.2] + [0.4] * 10

    def test_the_only_frame_is_on_show_to_the_end(self) -> None:
        assert times(frames([0.0]), 0, 4) == [0.0] * 20
        assert times(frames([0.0], until_s=2.0), 0, 4) == [0.0] * 10

    def test_a_frame_that_is_expected_ends_the_one_before(self) -> None:
        shown = frames([0.0, 5.0])
        shown.expect(6.0)
        assert times(shown, 4, 8) == [0.0] * 5 + [5.0] * 5

    def test_memory_holds_one_frame_before_the_window(self) -> None:
        shown = frames([n / 5 for n in range(100)])
        times(shown, 10, 14)
        assert len(shown) == 50


@pytest.mark.parametrize(
    ("taken", "until_s", "end_s"),
    [([0.0], None, 0.2), ([0.0, 0.21], None, 0.41), ([0, 7], None, 14), ([0, 0.2], 3.0, 3.0)],
)
def test_end(taken: list[float], until_s: float | None, end_s: float) -> None:
    assert frames(taken, until_s).last_end_s() == pytest.approx(end_s)
