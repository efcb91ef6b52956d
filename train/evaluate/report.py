"""The report of cross-validations: every figure with its protocol and baselines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mfer_edge.outputs.files import make_folder, write_text
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
from train.evaluate.plots import Column, plot_confusion, plot_folds, plot_reliability
from train.evaluate.predictions import ARMS, PROTOCOLS, Predictions, Run, join, read_run
from train.evaluate.published_results import COMPARED, DEPENDENT, INDEPENDENT, PUBLISHED, UNKNOWN

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


def run_report(run: Run, predictions: Sequence[Predictions]) -> RunReport:
    """Compute the figures of a run.

    Raises:
        DatasetError: the folds of an arm do not have the same labels.
    """
    by_arm = [[part for part in predictions if part.arm == arm] for arm in ARMS]
    return RunReport(run, tuple(_arm_report(folds) for folds in by_arm if folds))


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


def report_text(runs: Sequence[tuple[Run, Sequence[Predictions]]]) -> str:
    """Write the report as Markdown that can also be read on a terminal.

    Args:
        runs: of `train.evaluate.predictions.read_run`.

    Raises:
        DatasetError: the folds of an arm do not have the same labels.
    """
    return _text([run_report(run, predictions) for run, predictions in runs])


def _text(runs: Sequence[RunReport]) -> str:
    parts = [
        "# Cross-validation",
        "All figures are per cent, of recordings that the arm was not trained on. ± is the "
        "standard deviation over the folds. Chance: drawing among the classes at random. "
        "Majority: always naming the commonest class.",
    ]
    for number, report in enumerate(runs, 1):
        parts += [f"## Run {number}: {report.run.preset}, {report.run.protocol} folds"]
        parts += _run_parts(report)
    for dataset, classes in COMPARED.items():
        parts += _comparison(dataset, classes, runs)
    return "\n\n".join(parts) + "\n"


def _run_parts(report: RunReport) -> Iterator[str]:
    run = report.run
    versions = ", ".join(f"{package} {version}" for package, version in run.versions.items())
    counts = ", ".join(f"{name} ({count} recordings)" for name, count in run.datasets.items())
    yield f"**{PROTOCOLS[run.protocol].capitalize()}.**"
    yield f"Data: {counts}. Seed {run.seed}. Made by `{run.command}` on {run.machine}; {versions}."
    if "ravdess" in run.datasets:
        yield "RAVDESS has two sentences: those of the test part are always in training too."
    arms = [arm for arm in report.arms if arm.arm != "svm"]
    if arms:
        yield "### Accuracy and unweighted recall"
        yield _score_table(arms)
    if len(arms) < len(report.arms):
        yield "### Beside a support vector machine (form of the paper's Table III)"
        yield _score_table([arm for arm in report.arms if arm.arm in ("audio", "svm")])
    if any(arm.calibration for arm in arms):
        yield "### Calibration"
        yield (
            "Expected calibration error over the predictions of all folds; each fold's "
            "temperature is fitted on the other folds."
        )
        yield _table(
            ("arm", "as trained", "with temperature", "temperature"),
            [
                (
                    arm.arm,
                    _percent(arm.calibration.error_as_trained),
                    _percent(arm.calibration.error),
                    f"{np.mean(list(arm.calibration.temperatures.values())):.2f}",
                )
                for arm in arms
                if arm.calibration
            ],
        )
    for arm in arms:
        yield f"### Recall per dataset and class: {arm.arm}"
        yield _class_table(arm)
        yield f"### Confusion: {arm.arm}"
        yield "Rows: true classes, columns: recognised as, per cent of the row, all folds together."
        yield _confusion_table(arm)


def _score_table(arms: Iterable[ArmReport]) -> str:
    heading = "arm", "dataset", "metric", "mean ± std", "min", "max", "chance", "majority"
    rows = [
        (
            arm.arm,
            score.dataset,
            score.name,
            _spread(score.spread),
            *map(_percent, (score.spread.min, score.spread.max, score.chance, score.majority)),
            str(score.spread.folds),
            str(score.recordings),
        )
        for arm in arms
        for score in arm.scores
    ]
    return _table((*heading, "folds", "recordings"), rows)


def _class_table(arm: ArmReport) -> str:
    return _table(
        ("dataset", "emotion", "recall ± std", "chance", "folds", "recordings"),
        [
            (
                score.dataset,
                score.name,
                _spread(score.spread),
                _percent(score.chance),
                str(score.spread.folds),
                str(score.recordings),
            )
            for score in arm.class_recall
        ],
    )


def _confusion_table(arm: ArmReport) -> str:
    rows = [
        (label, *(_percent(n / sum(counts), 1) if any(counts) else "-" for n in counts))
        for label, counts in zip(arm.labels, arm.confusion, strict=True)
    ]
    return _table(("true", *arm.labels), rows)


def _comparison(dataset: str, classes: int, runs: Sequence[RunReport]) -> Iterator[str]:
    """Accuracies beside published ones, in one column for each kind of protocol."""
    ours = [
        (
            f"mfer-edge {report.run.preset}",
            arm.arm,
            *_in_column(_speakers(report.run), _spread(score.spread)),
            f"{score.spread.folds} {report.run.protocol} folds",
            "this report",
        )
        for report in runs
        for arm in report.arms
        for score in arm.scores
        if (score.dataset, score.name, len(arm.labels)) == (dataset, "accuracy", classes)
    ]
    if not ours:
        return
    theirs = [
        (p.system, p.modality, *_in_column(p.speakers, f"{p.accuracy:.2f}"), p.protocol, p.source)
        for p in PUBLISHED
        if p.dataset == dataset
    ]
    yield f"## Beside published accuracies: {dataset}, {classes} classes"
    yield (
        f"Chance is {_percent(1 / classes)}. Compare within a column only: speaker-dependent "
        "figures are for actors that the system was trained on."
    )
    yield _table(
        ("system", "arm", INDEPENDENT, DEPENDENT, UNKNOWN, "protocol", "source"),
        [*ours, *theirs],
    )


def _speakers(run: Run) -> str:
    return PROTOCOLS[run.protocol].partition(":")[0]


def _in_column(speakers: str, figure: str) -> Iterator[str]:
    return (figure if kind == speakers else "" for kind in (INDEPENDENT, DEPENDENT, UNKNOWN))


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f}"


def _spread(spread: Spread) -> str:
    mean = _percent(spread.mean)
    return mean if spread.std is None else f"{mean} ± {_percent(spread.std)}"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(heading, *rows, strict=True)]
    lines = [heading, ["-" * width for width in widths], *rows]
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))} |"
        for line in lines
    )


def write_report(run_folders: Sequence[Path], out: Path) -> list[Path]:
    """Compute the figures of runs; write OUT/report.md, OUT/report.json and the plots.

    Returns:
        The files, in that order.

    Raises:
        DatasetError: a folder is no run.
        OutputError: `out` can't be written to.
    """
    runs = [run_report(*read_run(folder)) for folder in run_folders]
    make_folder(out, "a report")
    plots = [plot for number, run in enumerate(runs, 1) for plot in _draw(run, number, out)]
    links = "\n".join(f"![{plot.stem}]({plot.name})" for plot in plots)
    write_text(out / "report.md", f"{_text(runs)}\n## Plots\n\n{links}\n")
    figures = {"runs": [asdict(run) for run in runs], "published": [asdict(p) for p in PUBLISHED]}
    write_text(out / "report.json", json.dumps({"schema": 1, **figures}, indent=1) + "\n")
    return [out / "report.md", out / "report.json", *plots]


def _draw(report: RunReport, number: int, out: Path) -> Iterator[Path]:
    run = report.run
    name, title = f"run{number}-{run.protocol}", f"{run.preset}, {run.protocol} folds"
    columns: dict[str, list[Column]] = {metric: [] for metric in METRICS}
    for arm in report.arms:
        for score in arm.scores[: len(METRICS)]:  # of all datasets together
            values = tuple(score.by_fold.values())
            columns[score.name].append(Column(arm.arm, values, score.chance, score.majority))
    yield (path := out / f"{name}-folds.png")
    plot_folds(path, columns, f"{title} ({_speakers(run)})")
    for arm in report.arms:
        heading = f"{arm.arm}: {title}\n({_speakers(run)})"
        yield (path := out / f"{name}-{arm.arm}-confusion.png")
        plot_confusion(path, np.array(arm.confusion), arm.labels, heading)
        if arm.calibration:
            yield (path := out / f"{name}-{arm.arm}-reliability.png")
            plot_reliability(path, arm.calibration.bins, arm.calibration.error, heading)
