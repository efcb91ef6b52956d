"""Metrics against scikit-learn, and against truths that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics as oracle

from train.evaluate.metrics import (
    Spread,
    accuracy,
    calibration_error,
    chance,
    class_recall,
    confusion_matrix,
    fit_temperature,
    majority,
    negative_log_likelihood,
    reliability,
    softmax,
    unweighted_recall,
)

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 2, (20_000, 8)).astype(np.float32)
CLASSES = 5

pairs = st.integers(1, 60).flatmap(
    lambda n: st.tuples(*[arrays(np.int64, n, elements=st.integers(0, CLASSES - 1))] * 2)
)


def drawn(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    """Labels as often as the logits' probabilities say."""
    noise = np.random.default_rng(seed).gumbel(size=logits.shape)
    return (logits + noise).argmax(1)


@settings(max_examples=40)
@given(pairs)
def test_recall_and_confusion_are_those_of_scikit_learn(pair: tuple[np.ndarray, ...]) -> None:
    predicted, labels = pair
    every, present = np.arange(CLASSES), np.unique(labels)
    assert accuracy(predicted, labels) == pytest.approx(oracle.accuracy_score(labels, predicted))
    np.testing.assert_array_equal(
        confusion_matrix(predicted, labels, CLASSES),
        oracle.confusion_matrix(labels, predicted, labels=every),
    )
    recalls = oracle.recall_score(
        labels, predicted, labels=every, average=None, zero_division=np.nan
    )
    np.testing.assert_allclose(class_recall(predicted, labels, CLASSES), recalls)
    expected = oracle.recall_score(labels, predicted, labels=present, average="macro")
    assert unweighted_recall(predicted, labels) == pytest.approx(expected)


def test_unweighted_recall_counts_classes_equally() -> None:
    labels = np.array([0, 0, 0, 0, 2, 2, 5])
    predicted = np.array([0, 0, 0, 1, 2, 0, 7])
    assert unweighted_recall(predicted, labels) == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)


def test_the_bars_are_what_guessing_scores() -> None:
    labels = np.repeat(np.arange(8), [96, 192, 191, 192, 192, 192, 192, 192])  # RAVDESS speech
    guessed = np.random.default_rng(0).integers(0, 8, (2000, len(labels)))
    assert chance(["x"] * 8) == pytest.approx(np.mean(guessed == labels), abs=0.001)
    constant = np.full(len(labels), 3)
    assert majority(labels) == accuracy(constant, labels) == pytest.approx(192 / 1439)
    assert majority(labels, unweighted_recall) == pytest.approx(1 / 8)


@settings(max_examples=40)
@given(pairs)
def test_no_constant_guess_beats_the_majority(pair: tuple[np.ndarray, ...]) -> None:
    labels = pair[0]
    best = max(accuracy(np.full_like(labels, guess), labels) for guess in range(CLASSES))
    assert majority(labels) == best


def test_the_spread_is_that_of_the_folds() -> None:
    assert Spread.of([0.5, 0.7, 0.6]) == Spread(
        pytest.approx(0.6), pytest.approx(np.sqrt(0.02 / 3)), 0.5, 0.7, 3
    )
    assert Spread.of([0.5]) == Spread(0.5, None, 0.5, 0.5, 1)  # one fold has no spread


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    labels = drawn(LOGITS)
    assert fit_temperature(LOGITS * temperature, labels) == pytest.approx(temperature, rel=0.05)


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 20))
def test_no_other_temperature_is_likelier(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    logits = random.normal(0, scale, (12, 3))
    labels = random.integers(0, 3, 12)
    found = negative_log_likelihood(logits / fit_temperature(logits, labels), labels)
    for other in np.geomspace(0.2, 5, 25):
        assert found <= negative_log_likelihood(logits / other, labels) + 1e-4


def test_logits_that_are_always_right_or_useless_get_the_ends() -> None:
    logits = np.eye(4, dtype=np.float32)
    assert fit_temperature(logits, np.arange(4)) == pytest.approx(0.2)
    assert fit_temperature(logits, np.array([1, 2, 3, 0])) == pytest.approx(5)


def test_the_temperature_leaves_no_calibration_error() -> None:
    labels, logits = drawn(LOGITS), LOGITS * 3
    assert calibration_error(softmax(logits), labels) > 0.1
    calibrated = logits / fit_temperature(logits, labels)
    assert calibration_error(softmax(calibrated), labels) < 0.02


def test_calibrated_scores_have_no_calibration_error() -> None:
    assert calibration_error(softmax(LOGITS), drawn(LOGITS)) < 0.02


def test_the_calibration_error_of_sure_guesses_is_what_they_miss() -> None:
    scores = np.zeros((1000, 4))
    scores[:, 2] = 1.0
    labels = np.repeat([0, 1, 2, 3], 250)
    assert calibration_error(scores, labels) == pytest.approx(0.75)
    assert calibration_error(scores, np.full(1000, 2)) == pytest.approx(0.0)


def test_the_calibration_error_weighs_bins_by_what_is_in_them() -> None:
    # 3 of 4 at confidence 0.9, all right; 1 of 4 at 0.6, wrong.
    scores = np.array([[0.9, 0.1]] * 3 + [[0.6, 0.4]])
    labels = np.array([0, 0, 0, 1])
    assert calibration_error(scores, labels) == pytest.approx(0.75 * 0.1 + 0.25 * 0.6)
    sure, unsure = reliability(scores, labels)[::-1]
    assert (sure.accuracy, sure.count, unsure.accuracy, unsure.count) == (1, 3, 0, 1)
    assert (sure.confidence, unsure.confidence) == (pytest.approx(0.9), pytest.approx(0.6))


def test_log_likelihood_and_softmax_are_those_of_pytorch() -> None:
    logits, labels = LOGITS[:500] * 30, drawn(LOGITS[:500])
    expected = torch.nn.functional.cross_entropy(torch.tensor(logits), torch.tensor(labels))
    assert negative_log_likelihood(logits, labels) == pytest.approx(float(expected), rel=1e-5)
    scores = softmax(logits)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, torch.tensor(logits).softmax(1).numpy(), atol=1e-6)


def test_log_likelihood_is_that_of_the_labels() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    expected = -(np.log(0.25) + np.log(0.8)) / 2
    assert negative_log_likelihood(logits, np.array([2, 1])) == pytest.approx(expected)


def test_softmax_gives_probabilities() -> None:
    scores = softmax(np.array([[0.0, np.log(3.0)], [1000.0, 0.0]]))
    np.testing.assert_allclose(scores, [[0.25, 0.75], [1.0, 0.0]], atol=1e-9)
