"""Figures of a cross-validation, each with its baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.evaluate.adapted import Adapted, read_adapted
from train.evaluate.corpora import CorporaReport, corpora_report
from train.evaluate.metrics import (
    Calibration,
    Spread,
    accuracy,
    calibration,
    chance,
    class_recall,
    confusion_matrix,
    majority,
    unweighted_recall,
)
from train.evaluate.predictions import ARMS, Predictions, Run, join, read_run

METRICS = {"accuracy": accuracy, "unweighted recall": unweighted_recall}
ALL = "all"  # datasets together


@dataclass(frozen=True)
class Score:
    """One figure over the folds, with its baselines: shares from 0 to 1."""

    dataset: str  # or ALL
    name: str  # of METRICS; or a class, for its recall
    by_fold: Mapping[str, float]  # of the folds that have such recordings
    spread: Spread
    recordings: int  # different ones
    chance: float
    majority: float  # for one class's recall 0 or 1


@dataclass(frozen=True)
class ArmReport:
    """Figures of one arm on recordings that it was not trained on."""

    arm: str
    labels: tuple[str, ...]
    scores: tuple[Score, ...]
    class_recall: tuple[Score, ...]
    confusion: tuple[tuple[int, ...], ...]  # recordings: true classes down, recognised across
    calibration: Calibration | None  # None: there is no other fold to fit a temperature on


@dataclass(frozen=True)
class RunReport:
    """All figures of one cross-validation."""

    run: Run
    arms: tuple[ArmReport, ...]  # in the order of ARMS
    corpora: CorporaReport | None = None  # of protocol "corpus"


def run_report(
    run: Run, predictions: Sequence[Predictions], adapted: Sequence[Adapted] = ()
) -> RunReport:
    """Compute the figures of a run.

    Raises:
        DatasetError: the folds of an arm do not have the same labels.
    """
    by_arm = [[part for part in predictions if part.arm == arm] for arm in ARMS]
    arms = tuple(_arm_report(folds) for folds in by_arm if folds)
    corpora = None
    if run.protocol == "corpus":
        spoken = [part for part in predictions if part.arm == "audio"]
        fitted = next((arm.calibration for arm in arms if arm.arm == "audio"), None)
        corpora = corpora_report(spoken, fitted.temperatures if fitted else {}, adapted)
    return RunReport(run, arms, corpora)


def read_report(folder: Path) -> RunReport:
    """Compute the figures of the run in a folder.

    Raises:
        DatasetError: the folder is no run, or a file in it is damaged.
    """
    return run_report(*read_run(folder), read_adapted(folder))


def _arm_report(folds: Sequence[Predictions]) -> ArmReport:
    pooled = join(folds)
    datasets = sorted(set(pooled.datasets))
    scores = list(_scores(ALL, folds)) if len(datasets) > 1 else []
    recalls: list[Score] = []
    for dataset in datasets:
        kept = [part for fold in folds if (part := fold.of_dataset(dataset))]
        scores.extend(_scores(dataset, kept))
        recalls.extend(_class_recalls(dataset, kept))
    fold_names = np.repeat([fold.fold for fold in folds], [len(fold.paths) for fold in folds])
    confusion = confusion_matrix(pooled.predicted, pooled.truth, len(pooled.labels)).tolist()
    return ArmReport(
        pooled.arm,
        pooled.labels,
        tuple(scores),
        tuple(recalls),
        tuple(map(tuple, confusion)),
        calibration(pooled.logits, pooled.truth, fold_names, np.array(pooled.paths)),
    )


def _scores(dataset: str, folds: Sequence[Predictions]) -> Iterator[Score]:
    pooled = join(folds)
    for name, metric in METRICS.items():
        by_fold = {fold.fold: metric(fold.predicted, fold.truth) for fold in folds}
        yield Score(
            dataset,
            name,
            by_fold,
            Spread.of(list(by_fold.values())),
            len(set(pooled.paths)),
            chance(pooled.labels),
            majority(pooled.truth, metric),
        )


def _class_recalls(dataset: str, folds: Sequence[Predictions]) -> Iterator[Score]:
    pooled = join(folds)
    by_fold = {f.fold: class_recall(f.predicted, f.truth, len(f.labels)) for f in folds}
    commonest = np.bincount(pooled.truth).argmax()
    for k in np.unique(pooled.truth):
        found = {name: float(of[k]) for name, of in by_fold.items() if not np.isnan(of[k])}
        yield Score(
            dataset,
            pooled.labels[k],
            found,
            Spread.of(list(found.values())),
            len({pooled.paths[i] for i in np.flatnonzero(pooled.truth == k)}),
            chance(pooled.labels),
            float(k == commonest),
        )
