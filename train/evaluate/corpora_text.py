"""The tables of protocol "corpus", which a report begins with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from train.evaluate.corpora import COVERAGES, STRONG, CorporaReport, CorpusScore
from train.evaluate.predictions import Run
from train.evaluate.tables import percent, table

MEAN = "**mean**"


def corpora_text(run: Run, report: CorporaReport) -> Iterator[str]:
    """Give the parts of the text: heading, explanation and tables."""
    yield f"## People it has never met: {run.preset}, one corpus left out at a time"
    yield (
        "Unweighted recall of the voice on each data set when trained on the others: open, among "
        "all labels of the model, and closed, among the data set's own. Calibration error with a "
        "temperature fitted on the other folds. Accuracy at 50 and 80 % coverage: the least sure "
        "recordings are left out. Adapted to n: closed recall when the place is known from n "
        "recordings of it without labels, on the rest."
    )
    yield _corpora_table(report.corpora)
    if aside := [score.corpus for score in report.corpora if not score.in_mean]:
        yield (
            f"{' and '.join(aside)}: shown, but not in the mean. Models were built and tuned on "
            "RAVDESS and URDU before the other corpora were at hand, and earlier means are without "
            "them."
        )
    if (ordinary := report.ordinary) is not None:
        yield (
            "Ordinary talk of people left out, who don't act: share called neutral, and false "
            f"alarms, which are other emotions with a score of {STRONG} or more."
        )
        yield table(
            ("people", "recordings", "called neutral", "false alarms"),
            [
                (
                    str(ordinary.people),
                    str(ordinary.recordings),
                    percent(ordinary.neutral, 1),
                    percent(ordinary.false_alarms, 1),
                )
            ],
        )


def _corpora_table(scores: Sequence[CorpusScore]) -> str:
    counts = sorted({count for score in scores for count in score.adapted})
    heading = [
        "left out",
        "recordings",
        "labels",
        "chance, closed",
        "open",
        "closed",
        "calibration error",
        *(f"at {share} %" for share in COVERAGES),
        *(f"adapted to {count}" for count in counts),
    ]
    rows = [
        [
            score.corpus,
            str(score.recordings),
            str(score.labels),
            *(percent(share, 1) for share in _shares(score)),
            *(
                percent(score.adapted[count].mean, 1) if count in score.adapted else "-"
                for count in counts
            ),
        ]
        for score in scores
    ]
    if inside := [score for score in scores if score.in_mean]:
        rows.insert(len(inside), _mean_row(inside, counts))
    return table(heading, rows)


def _shares(score: CorpusScore) -> tuple[float, ...]:
    return (
        1 / score.labels,
        score.open_recall,
        score.closed_recall,
        score.calibration_error,
        *(score.covered[share] for share in COVERAGES),
    )


def _mean_row(scores: Sequence[CorpusScore], counts: Sequence[int]) -> list[str]:
    """Means over corpora; after adaptation over those that are large enough for each count."""
    shares = np.mean([_shares(score) for score in scores], 0)
    means = []
    for count in counts:
        known = [score.adapted[count].mean for score in scores if count in score.adapted]
        means.append(percent(float(np.mean(known)), 1) if known else "-")
    total = str(sum(score.recordings for score in scores))
    return [MEAN, total, "", *(percent(float(share), 1) for share in shares), *means]
