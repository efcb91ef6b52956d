"""Differences of scores and embeddings, on synthetic readings and a real clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.cpu.score_differences import Change, Observation, agreement_table, agreements
from benchmarks.cpu.time_ratios import REFERENCE
from mfer_edge import samples
from mfer_edge.bundle import Bundle
from mfer_edge.errors import MferError
from tests.benchmarks.cpu.synthetic import reading, series
from tests.support.footage import filmed

FEAR = str(samples.FEAR)
EVEN = {"calm": 0.5, "angry": 0.5}


def test_scores_are_compared_where_both_have_them() -> None:
    reference = series(REFERENCE, 9, scores=[{"calm": 0.7, "angry": 0.3}, EVEN, EVEN])
    bundle = series("paper", 3, scores=[{"calm": 0.45, "angry": 0.55}, None, EVEN])
    first, last = agreements(reference, bundle, ["a.mp4", "b.mp4", "c.mp4"])
    assert (first.clip, last.clip) == ("a.mp4", "c.mp4")
    assert first.difference == pytest.approx(0.25)
    assert first.spread == pytest.approx(0.4)
    assert (first.same_label, last.same_label, last.difference) == (False, True, 0.0)
    assert agreement_table([first, last]).splitlines()[2:] == [
        "| paper | a.mp4 | 0.2500 | 0.4000 | no |",
        "| paper | c.mp4 | 0.0000 | 0.0000 | yes |",
    ]
    assert agreement_table([]) == ""


def test_a_change_counted_by_hand() -> None:
    exact = Observation([reading(0.2), reading(0.6)], np.array([[1.0, 0], [2, 0], [0, 3], [0, 4]]))
    approximate = Observation(
        [reading(0.1), reading(0.3, 1)], np.array([[5.0, 0], [2, 2], [0, 3], [0, 9]])
    )
    found = Change.between(exact, approximate)
    assert (found.faces, found.reused, found.readings, found.other_label) == (4, 1, 2, 1)
    assert found.mean_score == pytest.approx((0.1 + 0.3) / 2)
    assert found.largest_score == pytest.approx(0.3)
    assert found.mean_cosine == pytest.approx((3 + 0.5**0.5) / 4)
    assert found.least_cosine == pytest.approx(0.5**0.5)


def test_another_model_is_refused() -> None:
    one = Observation([reading(0.2)], np.ones((2, 3)))
    other = Observation([reading(0.2)], np.ones((2, 4)))
    with pytest.raises(MferError, match="not of the model"):
        Change.between(one, other)


def test_skipped_still_faces_change_a_clip() -> None:
    exact, still, barely = (
        Observation.of([FEAR], Bundle.open(), levels) for levels in (0.0, 255.0, 0.01)
    )
    found = Change.between(exact, still)
    assert (found.faces, found.reused, found.readings) == (17, 16, 1)
    assert (still.embeddings == still.embeddings[0]).all()  # the first face's, reused
    assert found.least_cosine < found.mean_cosine < 1
    assert found.largest_score > found.mean_score > 0
    same = Change.between(exact, barely)
    assert (same.reused, same.largest_score) == (0, 0)
    assert same.least_cosine == pytest.approx(1)


def test_clips_without_a_face_are_refused(tmp_path: Path) -> None:
    clip = filmed(tmp_path / "nobody.mp4", [np.zeros((90, 160, 3), np.uint8)] * 3, None)
    with pytest.raises(MferError, match="no face in these clips"):
        Observation.of([str(clip)], Bundle.open(), 0.0)
