"""Metrics of predictions: accuracy, recall, confusion, calibration, and their baselines."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

Metric = Callable[[np.ndarray, np.ndarray], float]
"""Of (n,) predicted and (n,) true classes, a share from 0 to 1."""


def accuracy(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Share of correct predictions."""
    return float((predicted == labels).mean())


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Count (classes, classes) recordings: true classes down, predicted ones across."""
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def class_recall(predicted: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Recall of each class: (classes,) shares; NaN for a class without recordings."""
    counts = confusion_matrix(predicted, labels, classes)
    total = counts.sum(1)
    return np.divide(counts.diagonal(), total, out=np.full(classes, np.nan), where=total > 0)


def unweighted_recall(predicted: np.ndarray, labels: np.ndarray) -> float:
    """Mean recall of the classes that occur."""
    classes = int(max(predicted.max(), labels.max())) + 1
    return float(np.nanmean(class_recall(predicted, labels, classes)))


def closed_recall(logits: np.ndarray, labels: np.ndarray) -> float:
    """Unweighted recall among the classes that occur: the others are no answer.

    Args:
        logits: (n, classes).
        labels: (n,) true classes.
    """
    occurring = np.unique(labels)
    return unweighted_recall(occurring[logits[:, occurring].argmax(1)], labels)


def covered_accuracy(scores: np.ndarray, labels: np.ndarray, coverage: float) -> float:
    """Accuracy on the share of the predictions with the highest confidence.

    Args:
        scores: (n, classes) probabilities.
        labels: (n,) true classes.
        coverage: the share, above 0; at least one prediction is kept.
    """
    kept = np.argsort(-scores.max(1), kind="stable")[: max(1, round(coverage * len(labels)))]
    return accuracy(scores[kept].argmax(1), labels[kept])


def chance(labels: Sequence[str]) -> float:
    """Accuracy, and any recall, of a uniformly random choice."""
    return 1 / len(labels)


def majority(labels: np.ndarray, metric: Metric = accuracy) -> float:
    """Metric of always predicting the most frequent class."""
    return metric(np.full_like(labels, np.bincount(labels).argmax()), labels)


@dataclass(frozen=True)
class Spread:
    """One figure over the folds of a cross-validation."""

    mean: float
    std: float | None  # of the folds themselves (divided by n); None for a single fold
    min: float
    max: float
    folds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one fold's figure."""
        std = float(np.std(values)) if len(values) > 1 else None
        return cls(float(np.mean(values)), std, float(min(values)), float(max(values)), len(values))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn (n, classes) logits into probabilities."""
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def negative_log_likelihood(
    logits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None
) -> float:
    """The mean over (n, classes) logits, or the mean of the groups' means.

    Args:
        labels: (n,) true classes.
        groups: (n,) what an example belongs to, such as its dataset.
    """
    shifted = logits - logits.max(1, keepdims=True)
    likely = shifted[np.arange(len(labels)), labels]
    loss = np.log(np.exp(shifted).sum(1)) - likely
    if groups is None:
        return float(np.mean(loss))
    _, group, count = np.unique(groups, return_inverse=True, return_counts=True)
    return float(np.sum(loss / count[group]) / len(count))


def fit_temperature(
    logits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None
) -> float:
    """Fit the temperature by maximum likelihood (Guo et al. 2017), from 0.2 to 5.

    Args:
        logits: (n, classes).
        labels: (n,) true classes.
        groups: (n,) of which all count alike, however many examples each has.
    """
    temperatures = np.exp(np.linspace(np.log(0.2), np.log(5), 400))
    exact = logits.astype(np.float64)

    def rises(step: int) -> bool:
        here, above = (
            negative_log_likelihood(exact / t, labels, groups)
            for t in temperatures[step : step + 2]
        )
        return above >= here

    # The loss is convex in 1 / temperature, so that a binary search finds its minimum.
    return float(temperatures[bisect_left(range(len(temperatures) - 1), True, key=rises)])


@dataclass(frozen=True)
class ReliabilityBin:
    """Predictions in one interval of confidence."""

    confidence: float  # their mean
    accuracy: float
    count: int


def reliability(scores: np.ndarray, labels: np.ndarray, bins: int = 15) -> list[ReliabilityBin]:
    """Sort predictions by confidence into equal-width bins; empty ones are omitted.

    Args:
        scores: (n, classes) probabilities.
        labels: (n,) true classes.
    """
    confidence, correct = scores.max(1), scores.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        ReliabilityBin(
            float(confidence[which == k].mean()),
            float(correct[which == k].mean()),
            int((which == k).sum()),
        )
        for k in np.unique(which)
    ]


def calibration_error(scores: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: mean gap of confidence and accuracy, over equal-width bins."""
    gaps = [abs(b.confidence - b.accuracy) * b.count for b in reliability(scores, labels, bins)]
    return sum(gaps) / len(labels)


@dataclass(frozen=True)
class Calibration:
    """Calibration over all folds: errors from 0 to 1."""

    error_as_trained: float
    error: float  # after dividing each fold's logits by its temperature
    temperatures: Mapping[str, float]  # fold -> fitted on what only other folds have
    bins: tuple[ReliabilityBin, ...]  # after it


def calibration(
    logits: np.ndarray, labels: np.ndarray, folds: np.ndarray, recordings: np.ndarray
) -> Calibration | None:
    """Measure calibration with temperatures fitted on other folds.

    Args:
        logits: (n, classes) of all folds' test parts.
        labels: (n,) true classes.
        folds: (n,) names.
        recordings: (n,) names: a recording in several folds is not used to fit the temperature
            of any of them.

    Returns:
        None if a fold has all the recordings, so that there is nothing to fit its temperature on.
    """
    temperatures, scores = {}, np.zeros_like(logits)
    for fold in np.unique(folds):
        own = folds == fold
        others = ~np.isin(recordings, recordings[own])
        if not others.any():
            return None
        temperatures[str(fold)] = fit_temperature(logits[others], labels[others])
        scores[own] = softmax(logits[own] / temperatures[str(fold)])
    return Calibration(
        calibration_error(softmax(logits), labels),
        calibration_error(scores, labels),
        temperatures,
        tuple(reliability(scores, labels)),
    )
