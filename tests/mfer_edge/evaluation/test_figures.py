"""Figures beside scikit-learn's and training's own, and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from mfer_edge.evaluation.figures import Figures, Interval, Predictions, figures
from train.evaluate import metrics

LABELS = ("neutral", "happy", "sad", "angry")


def drawn(seed: int = 0, count: int = 300, clusters: int = 30) -> Predictions:
    """Predictions that lean towards the truth; `angry` is never the truth."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, count)
    logits = random.normal(size=(count, 4))
    logits[np.arange(count), truth] += 1.0
    scores = metrics.softmax(logits)
    return Predictions(
        LABELS, scores, truth, random.integers(0, clusters, count), ("audio",) * count
    )


@pytest.fixture(scope="module")
def data() -> Predictions:
    return drawn()


@pytest.fixture(scope="module")
def made(data: Predictions) -> Figures:
    return figures(data)


def test_values_are_those_of_training(data: Predictions, made: Figures) -> None:
    answers = data.scores.argmax(1)
    recalls = metrics.class_recall(answers, data.truth, 4)[:3]
    assert made.accuracy.value == pytest.approx(metrics.accuracy(answers, data.truth))
    assert made.recall.value == pytest.approx(metrics.unweighted_recall(answers, data.truth))
    assert made.closed_recall.value == pytest.approx(
        metrics.closed_recall(np.log(data.scores), data.truth)
    )
    assert [one.recall.value for one in made.classes] == pytest.approx(list(recalls))
    assert made.calibration_error.value == pytest.approx(
        metrics.calibration_error(data.scores, data.truth)
    )
    own = metrics.confusion_matrix(answers, data.truth, 4)
    np.testing.assert_array_equal(made.confusion, np.pad(own, ((0, 0), (0, 1))))


def test_kappa_and_precision_are_those_of_scikit_learn(data: Predictions, made: Figures) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    answers = data.scores.argmax(1)
    assert made.kappa.value == pytest.approx(sklearn.cohen_kappa_score(data.truth, answers))
    precisions = sklearn.precision_score(data.truth, answers, labels=[0, 1, 2], average=None)
    assert [one.precision.value for one in made.classes] == pytest.approx(list(precisions))


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held, widths = 0, []
    for seed in range(40):
        random = np.random.default_rng(seed)
        truth = random.integers(0, 2, 200)
        right = random.random(200) < 0.7
        answers = np.where(right, truth, 1 - truth)
        scores = np.where(np.arange(2) == answers[:, None], 0.7, 0.3)
        interval = figures(
            Predictions(LABELS[:2], scores, truth, np.arange(200), ("audio",) * 200)
        ).accuracy
        assert interval.low is not None and interval.high is not None
        held += interval.low <= 0.7 <= interval.high
        widths.append(interval.high - interval.low)
    assert held >= 34  # of 40; 38 are expected
    assert np.mean(widths) == pytest.approx(2 * 1.96 * (0.7 * 0.3 / 200) ** 0.5, rel=0.1)


def test_answers_of_one_person_count_as_one(data: Predictions) -> None:
    """Five copies of every answer tell nothing new if they are known to be of the same persons."""
    copies = np.repeat(np.arange(300), 5)
    alone = np.arange(300)
    same = Predictions(LABELS, data.scores, data.truth, alone, data.modalities)
    more = Predictions(
        LABELS, data.scores[copies], data.truth[copies], alone[copies], ("audio",) * 1500
    )
    assert figures(more).accuracy == figures(same).accuracy


def test_without_a_reading_an_answer_is_wrong(data: Predictions) -> None:
    scores = data.scores.copy()
    unread = (data.truth == 1) & (np.arange(300) % 2 == 0)
    scores[unread] = np.nan
    made = figures(Predictions(LABELS, scores, data.truth, data.clusters, data.modalities))
    answers = np.where(unread, -1, data.scores.argmax(1))
    assert made.accuracy.value == pytest.approx((answers == data.truth).mean())
    assert made.confusion[1, -1] == unread.sum()
    assert made.classes[1].taken_for == ""
    assert made.calibration_error.value == pytest.approx(
        metrics.calibration_error(data.scores[~unread], data.truth[~unread])
    )


@pytest.mark.parametrize(("right", "low", "high"), [(True, 0.722, 1.0), (False, 0.0, 0.278)])
def test_ten_alike_answers_prove_little(right: bool, low: float, high: float) -> None:
    """Wilson's interval, by the statistics tables, where resampling finds no spread."""
    truth = np.zeros(10, np.int64)
    scores = np.tile([0.9, 0.1] if right else [0.1, 0.9], (10, 1))
    made = figures(Predictions(LABELS[:2], scores, truth, np.arange(10), ("audio",) * 10))
    assert (made.accuracy.low, made.accuracy.high) == pytest.approx((low, high), abs=1e-3)
    # Ten answers of two persons prove less.
    pairs = figures(Predictions(LABELS[:2], scores, truth, np.arange(10) % 2, ("audio",) * 10))
    assert pairs.accuracy.high == pytest.approx(1.0 if right else 0.658, abs=1e-3)


def test_a_single_clip_has_no_interval(data: Predictions) -> None:
    one = figures(data.part(np.arange(300) == 0))
    assert one.accuracy.value in (0.0, 1.0)
    assert (one.accuracy.low, one.accuracy.high) == (None, None)


def test_nothing_read_at_all(data: Predictions) -> None:
    scores = np.full_like(data.scores, np.nan)
    made = figures(Predictions(LABELS, scores, data.truth, data.clusters, ("",) * 300))
    assert made.accuracy.value == 0
    assert made.calibration_error == Interval(None)
    assert made.bins == ()
