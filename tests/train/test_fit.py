"""Fitting and judging, on data whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from train.arms import GruArm
from train.fit import (
    Batch,
    FitOptions,
    calibration_error,
    fit,
    fit_temperature,
    negative_log_likelihood,
    softmax,
    unweighted_recall,
)

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.normal(0, 2, (20_000, 8)).astype(np.float32)


def drawn(logits: np.ndarray, seed: int = 0) -> np.ndarray:
    """Labels as often as the logits' probabilities say."""
    noise = np.random.default_rng(seed).gumbel(size=logits.shape)
    return (logits + noise).argmax(1)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found(temperature: float) -> None:
    labels = drawn(LOGITS)
    assert fit_temperature(LOGITS * temperature, labels) == pytest.approx(temperature, rel=0.05)


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


def test_unweighted_recall_counts_classes_equally() -> None:
    labels = np.array([0, 0, 0, 0, 2, 2, 5])
    predicted = np.array([0, 0, 0, 1, 2, 0, 1])
    assert unweighted_recall(predicted, labels) == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)


def test_unweighted_recall_of_one_constant_guess_is_chance() -> None:
    labels = np.repeat(np.arange(8), [96, 192, 191, 192, 192, 192, 192, 192])
    assert unweighted_recall(np.full(len(labels), 3), labels) == pytest.approx(1 / 8)


def test_log_likelihood_is_that_of_the_labels() -> None:
    logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    expected = -(np.log(0.25) + np.log(0.8)) / 2
    assert negative_log_likelihood(logits, np.array([2, 1])) == pytest.approx(expected)


def test_softmax_gives_probabilities() -> None:
    scores = softmax(np.array([[0.0, np.log(3.0)], [1000.0, 0.0]]))
    np.testing.assert_allclose(scores, [[0.25, 0.75], [1.0, 0.0]], atol=1e-9)


def toy_batch(random: np.random.Generator) -> Batch:
    """Sequences whose label is in the sign of their first step, and in nothing else."""
    labels = random.integers(0, 2, 16)
    sequences = []
    for label in labels:
        steps = random.normal(0, 1, (int(random.integers(2, 9)), 4)).astype(np.float32)
        steps[0] = 3 * (2 * label - 1) * np.array([1, -1, 1, -1])
        sequences.append(torch.from_numpy(steps))
    return sequences, torch.from_numpy(labels)


def trained(steps: int = 120, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    arm = GruArm(4, 12, 2, dropout=0.1)
    fit(arm, lambda: toy_batch(random), FitOptions(steps, learning_rate=1e-2))
    return arm


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_an_arm_learns_what_only_a_memory_can_tell() -> None:
    arm = trained()
    assert not arm.training
    random = np.random.default_rng(99)
    right = []
    with torch.inference_mode():
        for _ in range(10):
            sequences, labels = toy_batch(random)
            right.append((arm(sequences).argmax(1) == labels).float().mean())
    assert torch.stack(right).mean() > 0.95


def test_training_repeats_with_the_seed_alone() -> None:
    one, again, other = weights(trained(8)), weights(trained(8)), weights(trained(8, seed=1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_training_takes_the_steps_that_it_was_given() -> None:
    random, drawn_batches = np.random.default_rng(0), []

    def draw() -> Batch:
        drawn_batches.append(1)
        return toy_batch(random)

    fit(GruArm(4, 12, 2), draw, FitOptions(steps=7))
    assert len(drawn_batches) == 7
