"""Figures of protocol "corpus": datasets left out, and ordinary talk of people left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from train.evaluate.adapted import Adapted
from train.evaluate.metrics import (
    Spread,
    calibration_error,
    closed_recall,
    covered_accuracy,
    softmax,
    unweighted_recall,
)
from train.evaluate.predictions import Predictions

COVERAGES = (50, 80)  # per cent of the predictions that are kept
STRONG = 0.6  # score from which a wrong emotion is a false alarm
PLAIN = ("neutral", "calm")  # labels that are right for ordinary talk
NOT_IN_MEAN = ("ravdess", "urdu")
"""Shown, but not part of the mean: models were built and tuned on them before the other corpora
were at hand, and earlier means are without them."""


@dataclass(frozen=True)
class CorpusScore:
    """Figures of one dataset that was left out: shares from 0 to 1."""

    corpus: str
    recordings: int
    labels: int  # of its own
    in_mean: bool
    open_recall: float  # unweighted, all of the model's labels allowed
    closed_recall: float  # unweighted, its own labels alone allowed
    calibration_error: float  # with the temperature of the other folds
    covered: Mapping[int, float]  # accuracy by per cent of coverage, the least sure left out
    adapted: Mapping[int, Spread]  # closed recall by recordings that were adapted to


@dataclass(frozen=True)
class OrdinaryScore:
    """Figures of ordinary talk of people left out: shares of recordings."""

    recordings: int  # different ones
    people: int
    neutral: float  # called neutral
    false_alarms: float  # called anything else with a score of at least STRONG


@dataclass(frozen=True)
class CorporaReport:
    """All figures of protocol "corpus"."""

    corpora: tuple[CorpusScore, ...]  # those of the mean first
    ordinary: OrdinaryScore | None  # None: there is none


def corpora_report(
    folds: Sequence[Predictions],
    temperatures: Mapping[str, float],
    adapted: Sequence[Adapted] = (),
) -> CorporaReport:
    """Compute the figures of an arm.

    Args:
        folds: named as the corpus that each leaves out; recordings of others are ordinary talk.
        temperatures: of the folds, fitted on the others; 1 where there is none.
        adapted: of some of the folds.
    """
    recalls = {one.fold: one.recalls for one in adapted}
    scores, talk = [], []
    for fold in folds:
        temperature = temperatures.get(fold.fold, 1.0)
        if corpus := fold.of_dataset(fold.fold):
            scores.append(_corpus_score(corpus, temperature, recalls.get(fold.fold, {})))
        others = np.flatnonzero(np.array(fold.datasets) != fold.fold)
        if len(others):
            talk.append((fold.select(others), temperature))
    order = sorted(scores, key=lambda score: (not score.in_mean, score.corpus))
    return CorporaReport(tuple(order), _ordinary_score(talk) if talk else None)


def _corpus_score(
    part: Predictions, temperature: float, adapted: Mapping[int, tuple[float, ...]]
) -> CorpusScore:
    logits = part.logits / temperature
    scores = softmax(logits)
    return CorpusScore(
        corpus=part.fold,
        recordings=len(part.paths),
        labels=len(np.unique(part.truth)),
        in_mean=part.fold not in NOT_IN_MEAN,
        open_recall=unweighted_recall(part.predicted, part.truth),
        closed_recall=closed_recall(logits, part.truth),
        calibration_error=calibration_error(scores, part.truth),
        covered={share: covered_accuracy(scores, part.truth, share / 100) for share in COVERAGES},
        adapted={count: Spread.of(each) for count, each in sorted(adapted.items())},
    )


def _ordinary_score(talk: Sequence[tuple[Predictions, float]]) -> OrdinaryScore:
    """Figures over recordings; one in several folds counts by its share of them."""
    paths = [path for part, _ in talk for path in part.paths]
    _, which, times = np.unique(paths, return_inverse=True, return_counts=True)
    weight = 1 / times[which]
    plain, strong = [], []
    for part, temperature in talk:
        predicted = [part.labels[label] for label in part.predicted]
        is_plain = np.array([label in PLAIN for label in predicted])
        confidence = softmax(part.logits / temperature).max(1)
        plain.append(is_plain)
        strong.append(~is_plain & (confidence >= STRONG))
    people = {actor or path for part, _ in talk for actor, path in _names(part)}
    return OrdinaryScore(
        recordings=len(times),
        people=len(people),
        neutral=float(np.average(np.concatenate(plain), weights=weight)),
        false_alarms=float(np.average(np.concatenate(strong), weights=weight)),
    )


def _names(part: Predictions) -> list[tuple[str, str]]:
    return list(zip(part.actors, part.paths, strict=True))
