"""The report of cross-validations: every figure with its protocol and baselines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mfer_edge.outputs.files import make_folder, write_text
from train.evaluate.corpora_text import corpora_text
from train.evaluate.plots import Column, plot_confusion, plot_folds, plot_reliability
from train.evaluate.predictions import PROTOCOLS, Run
from train.evaluate.published_results import COMPARED, DEPENDENT, INDEPENDENT, PUBLISHED, UNKNOWN
from train.evaluate.run_report import METRICS, ArmReport, RunReport, read_report
from train.evaluate.tables import percent, spread_text, table


def report_text(runs: Sequence[RunReport]) -> str:
    """Write the report as Markdown that can also be read on a terminal."""
    parts = [
        "# Cross-validation",
        "All figures are per cent, of recordings that the arm was not trained on. ± is the "
        "standard deviation over the folds. Chance: drawing among the classes at random. "
        "Majority: always naming the commonest class.",
    ]
    for report in runs:
        if report.corpora is not None:
            parts += corpora_text(report.run, report.corpora)
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
    if "ravdess" in run.datasets and run.protocol != "corpus":
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
        yield table(
            ("arm", "as trained", "with temperature", "temperature"),
            [
                (
                    arm.arm,
                    percent(arm.calibration.error_as_trained),
                    percent(arm.calibration.error),
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
            spread_text(score.spread),
            *map(percent, (score.spread.min, score.spread.max, score.chance, score.majority)),
            str(score.spread.folds),
            str(score.recordings),
        )
        for arm in arms
        for score in arm.scores
    ]
    return table((*heading, "folds", "recordings"), rows)


def _class_table(arm: ArmReport) -> str:
    return table(
        ("dataset", "emotion", "recall ± std", "chance", "folds", "recordings"),
        [
            (
                score.dataset,
                score.name,
                spread_text(score.spread),
                percent(score.chance),
                str(score.spread.folds),
                str(score.recordings),
            )
            for score in arm.class_recall
        ],
    )


def _confusion_table(arm: ArmReport) -> str:
    rows = [
        (label, *(percent(n / sum(counts), 1) if any(counts) else "-" for n in counts))
        for label, counts in zip(arm.labels, arm.confusion, strict=True)
    ]
    return table(("true", *arm.labels), rows)


def _comparison(dataset: str, classes: int, runs: Sequence[RunReport]) -> Iterator[str]:
    """Accuracies beside published ones, in one column for each kind of protocol."""
    ours = [
        (
            f"mfer-edge {report.run.preset}",
            arm.arm,
            *_in_column(_speakers(report.run), spread_text(score.spread)),
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
        f"Chance is {percent(1 / classes)}. Compare within a column only: speaker-dependent "
        "figures are for actors that the system was trained on."
    )
    yield table(
        ("system", "arm", INDEPENDENT, DEPENDENT, UNKNOWN, "protocol", "source"),
        [*ours, *theirs],
    )


def _speakers(run: Run) -> str:
    return PROTOCOLS[run.protocol].partition(":")[0]


def _in_column(speakers: str, figure: str) -> Iterator[str]:
    return (figure if kind == speakers else "" for kind in (INDEPENDENT, DEPENDENT, UNKNOWN))


def write_report(run_folders: Sequence[Path], out: Path) -> list[Path]:
    """Compute the figures of runs; write OUT/report.md, OUT/report.json and the plots.

    Returns:
        The files, in that order.

    Raises:
        DatasetError: a folder is no run.
        OutputError: `out` can't be written to.
    """
    runs = [read_report(folder) for folder in run_folders]
    make_folder(out, "a report")
    plots = [plot for number, run in enumerate(runs, 1) for plot in _draw(run, number, out)]
    links = "\n".join(f"![{plot.stem}]({plot.name})" for plot in plots)
    write_text(out / "report.md", f"{report_text(runs)}\n## Plots\n\n{links}\n")
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
