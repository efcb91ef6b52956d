"""Readings, and the mean scores of a clip."""

from __future__ import annotations

import pytest
from hypothesis import given

from mfer_edge.results import Reading, Timing, mean_scores, overall
from tests.support.analyses import LABELS, reading, window_lists


def test_modalities_name_what_the_scores_rest_on() -> None:
    assert reading(0, 1).modalities == ("visual", "audio")
    assert reading(0, 1, visual=None).modalities == ("audio",)
    assert reading(0, 1, audio=None).modalities == ("visual",)


def test_real_time_factor_is_work_for_a_second_of_clip() -> None:
    assert Timing(wall_s=2.0, load_s=9.0, threads=1).rtf(8.0) == 0.25
    assert Timing(wall_s=2.0, load_s=9.0, threads=1).rtf(0.0) == 0.0


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
