"""Timeline image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.outputs.canvas import label_colours
from mfer_edge.outputs.timeline import (
    COLUMN_WIDTH,
    GAP,
    LEFT,
    RIBBON_HEIGHT,
    RIBBON_Y,
    RIGHT,
    ROW_HEIGHT,
    ROW_PITCH,
    ROWS_Y,
    draw_timeline,
    write_timeline,
)
from mfer_edge.results import Scores, Track
from tests.support.analyses import LABELS, analysis, reading, scores

COLOURS = label_colours(LABELS)


def bar_ends(image: np.ndarray, column: int) -> dict[str, int]:
    """Length in pixels of each label's bar in one of the three columns of the timeline."""
    x = RIGHT + GAP + column * (COLUMN_WIDTH + GAP)
    lengths = {}
    for index, label in enumerate(LABELS):
        line = image[ROWS_Y + index * ROW_PITCH + ROW_HEIGHT // 2, x : x + COLUMN_WIDTH]
        lengths[label] = int((line == COLOURS[label]).all(axis=1).sum())
    return lengths


def x_at(time_s: float, duration_s: float) -> int:
    return round(LEFT + (RIGHT - LEFT) * time_s / duration_s)


class TestTimeline:
    @pytest.mark.parametrize(("name", "tolerance"), [("out.png", 0), ("OUT.JPG", 40)])
    def test_file_holds_the_image(self, tmp_path: Path, name: str, tolerance: int) -> None:
        made = analysis([reading(0, 4)], 4.0)
        write_timeline(made, tmp_path / name)
        read, drawn = cv2.imread(str(tmp_path / name)), draw_timeline(made)
        assert read is not None and read.shape == drawn.shape
        assert np.abs(read.astype(int) - drawn).mean() <= tolerance / 20
        assert [path.name for path in tmp_path.iterdir()] == [name]

    def test_bars_are_as_long_as_the_scores_of_each_arm(self) -> None:
        face, voice = scores("sad", 0.72), scores("calm", 0.44)
        image = draw_timeline(analysis([reading(0, 4, "happy", visual=face, audio=voice)], 4.0))
        for column, shown in enumerate((scores("happy"), face, voice)):
            lengths = bar_ends(image, column)
            whole = lengths[max(lengths, key=lambda label: lengths[label])] / max(shown.values())
            assert lengths == {
                label: pytest.approx(score * whole, abs=1) for label, score in shown.items()
            }

    def test_ribbon_has_the_colours_of_the_labels_and_a_gap_without_a_reading(self) -> None:
        windows = [reading(0, 2), reading(2, 4, None), reading(4, 6, "angry")]
        image = draw_timeline(analysis(windows, 6.0))
        line = image[RIBBON_Y + 2]
        for time_s, colour in ((0.1, "happy"), (1.9, "happy"), (4.1, "angry"), (5.9, "angry")):
            assert tuple(line[x_at(time_s, 6.0)]) == COLOURS[colour]
        gap = image[RIBBON_Y : RIBBON_Y + RIBBON_HEIGHT, x_at(2.1, 6.0) : x_at(3.9, 6.0)]
        assert gap.min(axis=2).mean() > 200  # grey, and the words "no reading"

    def test_area_is_as_high_as_the_score(self) -> None:
        image = draw_timeline(analysis([reading(0, 4, scores=scores("happy", 0.5))], 4.0))
        top = ROWS_Y + LABELS.index("happy") * ROW_PITCH
        column = image[top - 10 : top + ROW_HEIGHT, x_at(1.3, 4.0)].astype(int)
        filled = (np.abs(column - (255, 255, 255)) > 30).any(axis=1).sum()
        assert filled == pytest.approx(ROW_HEIGHT / 2, abs=2)

    def test_missing_arm_has_no_bars(self) -> None:
        image = draw_timeline(analysis([reading(0, 4, visual=None, track=None, faces=0)], 4.0))
        assert sum(bar_ends(image, 1).values()) == 0
        assert sum(bar_ends(image, 0).values()) > 0 < sum(bar_ends(image, 2).values())

    def test_voice_that_is_no_faces_has_bars(self) -> None:
        """With `--faces all` the main face may be somebody who is silent."""
        silent = reading(0, 4, audio=None, speech_s=0.0)
        voice = reading(0, 4, "sad", track=None, visual=None, faces=0, main=False)
        ends = bar_ends(draw_timeline(analysis([silent, voice], 4.0)), 2)
        assert max(ends, key=ends.__getitem__) == "sad"

    def test_warnings_are_below_the_plot(self) -> None:
        quiet = analysis([reading(0, 4)], 4.0)
        loud = replace(quiet, warnings=("3 damaged packets could not be decoded", "x" * 400))
        image = draw_timeline(loud)
        added = image[draw_timeline(quiet).shape[0] - 40 :].astype(int)
        assert ((added[..., 2] - added[..., 0]) > 100).any()
        assert (image[:, -30:] == 255).all()

    @pytest.mark.parametrize(
        "windows",
        [[], [reading(0, 4, None)], [reading(0, 4, None), reading(1, 5, None)]],
        ids=["no window", "one", "two"],
    )
    def test_clip_without_readings_gives_an_image(self, windows: list) -> None:
        image = draw_timeline(analysis(windows, 5.0, tracks=()))
        assert image.shape[1] == 1600 and (image < 200).any()

    @pytest.mark.parametrize("duration_s", [0.0, 0.3, 59.0, 7200.0])
    def test_any_duration(self, duration_s: float) -> None:
        windows = [reading(0, duration_s)] if duration_s else []
        assert (draw_timeline(analysis(windows, duration_s))[:, -30:] == 255).all()

    @settings(max_examples=15)
    @given(
        st.lists(st.text("abWM_é", min_size=1, max_size=12), min_size=2, max_size=12, unique=True),
        st.text(min_size=0, max_size=200),
    )
    def test_texts_stay_in_their_columns(self, labels: list[str], source: str) -> None:
        shown: Scores = scores(labels[0], 0.9, labels)
        one = reading(0, 3, scores=shown, visual=shown, audio=shown)
        other = replace(one, start_s=3.0, end_s=6.0, track=1)
        made = analysis([one, other], 6.0, tracks=(Track(0, 0, 3, 9), Track(1, 3, 6, 9)))
        rows_end = ROWS_Y + len(labels) * ROW_PITCH
        image = draw_timeline(replace(made, source=f"/clips/{source}.mp4"))
        assert (image[RIBBON_Y:rows_end, LEFT - 8 : LEFT - 2] == 255).all()
        for column in range(3):
            x = RIGHT + GAP + column * (COLUMN_WIDTH + GAP)
            assert (image[RIBBON_Y:, x - 6 : x - 1] == 255).all()
        assert (image[:, -30:] == 255).all()
        assert (image[:, :30] == 255).all()
