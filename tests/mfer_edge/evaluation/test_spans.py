"""Scores of parts of clips, and what a report finds wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfer_edge.errors import AnnotationError
from mfer_edge.evaluation.annotations import Annotation
from mfer_edge.evaluation.figures import Predictions
from mfer_edge.evaluation.report import Report
from mfer_edge.evaluation.run import Evaluated
from mfer_edge.evaluation.spans import span_scores
from tests.support.analyses import SEVEN, analysis, reading, scores

READINGS = [
    reading(0, 4, scores=scores("happy", 0.8, SEVEN), audio=None),
    reading(2, 6, scores=scores("sad", 0.8, SEVEN), visual=None),
    reading(4, 8, None),
]
CLIP = analysis(READINGS, 8.0)  # they speak for 0 to 3, 3 to 5 and 5 to 8 s


def part(start_s: float | None, end_s: float | None) -> Annotation:
    return Annotation("labels.csv, line 2", Path("clip.mp4"), "happy", start_s, end_s)


def test_a_part_is_weighted_by_time() -> None:
    answer = span_scores(CLIP, part(1, 4))
    assert answer and answer.modalities == ("visual", "audio")
    assert answer.scores["happy"] == pytest.approx((2 * 0.8 + 1 * 0.2 / 6) / 3)
    assert sum(answer.scores.values()) == pytest.approx(1)


def test_the_whole_clip_is_its_overall() -> None:
    answer = span_scores(CLIP, part(None, None))
    assert answer and CLIP.overall and answer.scores == CLIP.overall.scores


def test_a_part_without_a_reading() -> None:
    assert span_scores(CLIP, part(5.5, 7)) is None


def test_a_part_beyond_the_end() -> None:
    with pytest.raises(AnnotationError, match=r"line 2: 8 to 9 s, but clip.mp4 ends at 8\.00 s"):
        span_scores(CLIP, part(8, 9))


def told(right: dict[str, float], promised: float = 0.9, count: int = 60) -> list[str]:
    """What is not good enough with these recalls, where wrong answers are the next label."""
    random = np.random.default_rng(0)
    truth, answers = [], []
    for label, share in right.items():
        at = SEVEN.index(label)
        truth += [at] * count
        answers += np.where(random.random(count) < share, at, (at + 1) % 7).tolist()
    rest = (1 - promised) / 6
    table = np.where(np.arange(7) == np.array(answers)[:, None], promised, rest)
    size = len(truth)
    predictions = Predictions(SEVEN, table, np.array(truth), np.arange(size), ("audio",) * size)
    return Report.of(Evaluated(predictions, False, size, (), ())).weak


def test_a_good_model_has_nothing_to_tell() -> None:
    assert told(dict.fromkeys(SEVEN, 0.95)) == []


def test_a_label_that_is_missed() -> None:
    weak = told(dict.fromkeys(SEVEN, 0.95) | {"happy": 0.05})
    assert any(line.startswith("happy: recall 0.0") and "taken for sad" in line for line in weak)
    assert not any(line.startswith("angry") for line in weak)


def test_scores_that_promise_too_much() -> None:
    [line] = told(dict.fromkeys(SEVEN, 0.75), promised=0.95)
    assert line.startswith("scores promise too much: 0.2")


def test_few_annotations_tell_little() -> None:
    weak = told(dict.fromkeys(SEVEN[:2], 1.0), promised=0.5, count=5)
    assert not any("promise" in line for line in weak)
    assert "happy: too few to tell, n = 5" in weak
    assert "5 of its 7 labels do not occur: nothing is known of them" in weak
    assert weak[-1].startswith("only 10 independent clips")
