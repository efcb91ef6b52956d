"""Figures of predictions beside labels by people, with bootstrap confidence intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95
EDGES = (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2
Z = 1.96  # of `CONFIDENCE`, for Wilson's interval where all answers are right, or none
BINS = 15  # of confidence, of equal width, for the calibration error
CHUNK = 200  # resamples at once
SEED = 0


@dataclass(frozen=True)
class Predictions:
    """The model's scores beside labels by people."""

    labels: tuple[str, ...]  # of the model
    scores: np.ndarray  # (n, labels) float64; NaN where there was no reading
    truth: np.ndarray  # (n,) int64, of `labels`
    clusters: np.ndarray  # (n,) int64: person or clip, what is resampled
    modalities: tuple[str, ...]  # (n,) such as "visual+audio"; "" without a reading

    @property
    def read(self) -> np.ndarray:
        """(n,) bool: whether there was a reading."""
        return ~np.isnan(self.scores[:, 0])

    @property
    def cluster_count(self) -> int:
        """Persons or clips."""
        return len(np.unique(self.clusters))

    def part(self, kept: np.ndarray) -> Predictions:
        """Those for which (n,) bool holds."""
        modalities = tuple(name for name, one in zip(self.modalities, kept, strict=True) if one)
        return Predictions(
            self.labels, self.scores[kept], self.truth[kept], self.clusters[kept], modalities
        )


@dataclass(frozen=True)
class Interval:
    """A figure, and where it lies with 95 % confidence; None where there is nothing to tell."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClassFigures:
    """How one label is told from the others."""

    label: str
    count: int  # annotations
    recall: Interval
    precision: Interval
    taken_for: str | None  # the answer that is given most often instead; "" for none at all


@dataclass(frozen=True)
class ReliabilityBin:
    """Answers whose score lies in one interval."""

    score: float  # their mean
    accuracy: float
    count: int


@dataclass(frozen=True)
class Figures:
    """All figures of a set of predictions."""

    accuracy: Interval
    recall: Interval  # unweighted: the mean of the recalls of labels that occur
    closed_recall: Interval  # the same if only labels that occur may be answered
    kappa: Interval  # Cohen's
    calibration_error: Interval
    overconfidence: Interval  # mean score of the answers less their accuracy
    classes: tuple[ClassFigures, ...]  # that occur
    confusion: np.ndarray  # (labels, labels + 1) int64: truth down, answers across, none last
    bins: tuple[ReliabilityBin, ...]


@dataclass(frozen=True)
class _Tally:
    """Counts that figures are made of; sums of them over clusters are those of a resample."""

    confusion: np.ndarray  # (..., labels, labels + 1)
    closed: np.ndarray  # (..., labels, labels + 1)
    bins: np.ndarray  # (..., BINS, 3): answers, their scores, right ones


Metric = Callable[[_Tally], np.ndarray]
"""Of tallies (...), figures (...); NaN where there is none."""


def figures(predictions: Predictions) -> Figures:
    """Compute all figures of at least one prediction."""
    by_cluster = _tally(predictions)
    total = _Tally(*(part.sum(0) for part in (by_cluster.confusion, by_cluster.closed,
                                              by_cluster.bins)))  # fmt: skip
    resampled = _resample(by_cluster)

    def interval(metric: Metric) -> Interval:
        value = float(metric(total))
        if np.isnan(value):
            return Interval(None)
        if resampled is None:
            return Interval(value)
        low, high = np.nanquantile(metric(resampled), EDGES)
        if low == high and value in (0.0, 1.0):  # all alike, which resampling can't see beyond
            clusters = np.count_nonzero(~np.isnan(metric(by_cluster)))
            reach = clusters / (clusters + Z**2)
            low, high = (reach, 1.0) if value else (0.0, 1 - reach)
        return Interval(value, float(low), float(high))

    counts = total.confusion.astype(np.int64)
    occurring: list[int] = np.flatnonzero(counts.sum(1)).tolist()
    return Figures(
        interval(_accuracy),
        interval(_unweighted_recall),
        interval(lambda tally: _mean_recall(tally.closed)),
        interval(_kappa),
        interval(_calibration_error),
        interval(_overconfidence),
        tuple(
            ClassFigures(
                predictions.labels[index],
                int(counts[index].sum()),
                interval(partial(_recall_of, index)),
                interval(partial(_precision_of, index)),
                _taken_for(counts[index], index, predictions.labels),
            )
            for index in occurring
        ),
        counts,
        tuple(
            ReliabilityBin(float(score / count), float(right / count), int(count))
            for count, score, right in total.bins
            if count
        ),
    )


def _tally(predictions: Predictions) -> _Tally:
    _, cluster = np.unique(predictions.clusters, return_inverse=True)
    number, size = int(cluster.max()) + 1, len(predictions.labels)
    read, truth = predictions.read, predictions.truth
    scores = np.where(read[:, None], predictions.scores, 0.0)
    answers = np.where(read, scores.argmax(1), size)
    occurring = np.unique(truth)
    closed_answers = np.where(read, occurring[scores[:, occurring].argmax(1)], size)
    confusion, closed = (np.zeros((number, size, size + 1)) for _ in range(2))
    np.add.at(confusion, (cluster, truth, answers), 1)
    np.add.at(closed, (cluster, truth, closed_answers), 1)
    best = scores.max(1)
    which = np.minimum((best * BINS).astype(int), BINS - 1)
    bins = np.zeros((number, BINS, 3))
    values = np.stack([np.ones_like(best), best, answers == truth], axis=1)
    np.add.at(bins, (cluster[read], which[read]), values[read])
    return _Tally(confusion, closed, bins)


def _resample(by_cluster: _Tally) -> _Tally | None:
    """Sums over clusters that are drawn with replacement; None if there is one only."""
    number = len(by_cluster.confusion)
    if number < 2:
        return None
    random = np.random.default_rng(SEED)
    parts = (by_cluster.confusion, by_cluster.closed, by_cluster.bins)
    flat = np.concatenate([part.reshape(number, -1) for part in parts], axis=1)
    chunks = [
        random.multinomial(number, np.full(number, 1 / number), size=CHUNK) @ flat
        for _ in range(RESAMPLES // CHUNK)
    ]
    drawn = np.concatenate(chunks)
    cuts = np.cumsum([part[0].size for part in parts])[:-1]
    return _Tally(
        *(
            piece.reshape(-1, *part.shape[1:])
            for piece, part in zip(np.split(drawn, cuts, axis=1), parts, strict=True)
        )
    )


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """A share; NaN of nothing."""
    out = np.full(np.broadcast_shapes(np.shape(part), np.shape(whole)), np.nan)
    return np.divide(part, whole, out=out, where=np.asarray(whole) > 0)


def _right(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1)  # (..., labels)


def _accuracy(tally: _Tally) -> np.ndarray:
    return _share(_right(tally.confusion).sum(-1), tally.confusion.sum((-2, -1)))


def _recalls(confusion: np.ndarray) -> np.ndarray:
    return _share(_right(confusion), confusion.sum(-1))


def _mean_recall(confusion: np.ndarray) -> np.ndarray:
    recalls = _recalls(confusion)
    return _share(np.nansum(recalls, axis=-1), np.sum(~np.isnan(recalls), axis=-1))


def _unweighted_recall(tally: _Tally) -> np.ndarray:
    return _mean_recall(tally.confusion)


def _recall_of(index: int, tally: _Tally) -> np.ndarray:
    return _recalls(tally.confusion)[..., index]


def _precision_of(index: int, tally: _Tally) -> np.ndarray:
    return _share(_right(tally.confusion), tally.confusion[..., :-1].sum(-2))[..., index]


def _kappa(tally: _Tally) -> np.ndarray:
    """Cohen's kappa; no reading is an answer that no person gives."""
    total = tally.confusion.sum((-2, -1))
    given, answered = tally.confusion.sum(-1), tally.confusion[..., :-1].sum(-2)
    expected = _share((given * answered).sum(-1), total**2)
    return _share(_accuracy(tally) - expected, 1 - expected)


def _calibration_error(tally: _Tally) -> np.ndarray:
    count, score, right = np.moveaxis(tally.bins, -1, 0)  # (..., BINS) each
    return _share(np.abs(score - right).sum(-1), count.sum(-1))


def _overconfidence(tally: _Tally) -> np.ndarray:
    count, score, right = np.moveaxis(tally.bins.sum(-2), -1, 0)
    return _share(score - right, count)


def _taken_for(answers: np.ndarray, index: int, labels: Sequence[str]) -> str | None:
    wrong = answers.copy()
    wrong[index] = 0
    most = int(wrong.argmax())
    return None if not wrong[most] else (*labels, "")[most]
