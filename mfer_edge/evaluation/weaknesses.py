"""Where a model is not good enough, in words, from its figures."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mfer_edge.evaluation.figures import ClassFigures, Figures, Interval
from mfer_edge.results import MODALITY_NAMES

FEW = 20  # annotations of a label, or clips or persons, below which little can be told
UNREAD = 0.05  # share without a reading
HALF = 0.5
MISCALIBRATED = 0.05  # scores above accuracy, or below it


def weaknesses(figures: Figures, groups: dict[str, Interval], clusters: int) -> list[str]:
    """Everything that a user of the scores should know; empty if nothing stands out.

    Args:
        groups: accuracy by modality.
        clusters: number of persons or clips that intervals come from.
    """
    found = [*_overall(figures), *_classes(figures)]
    if figures.confusion.sum() >= FEW:
        found += [*_scores(figures), *_modalities(groups)]
    if clusters < FEW:
        those = "clip or person" if clusters == 1 else "clips or persons"
        found.append(f"only {clusters} independent {those}: the intervals are rough")
    return found


def modality_name(modalities: str) -> str:
    """Modalities for people."""
    names = [MODALITY_NAMES[name] for name in modalities.split("+") if name]
    return " + ".join(names) or "nothing"


def interval_text(interval: Interval) -> str:
    """A figure with its interval."""
    if interval.value is None:
        return "-"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _overall(figures: Figures) -> Iterator[str]:
    chance = 1 / len(figures.confusion)
    if _at_most(figures.recall, chance):
        text = interval_text(figures.recall)
        yield f"all labels together: recall {text}, no better than chance ({chance:.2f})"
    unread = figures.confusion[:, -1].sum() / figures.confusion.sum()
    if unread > UNREAD:
        yield f"no face and no speech was found in {unread:.0%}: these count as wrong"
    labels = len(figures.confusion)
    if absent := labels - len(figures.classes):
        yield f"{absent} of its {labels} labels do not occur: nothing is known of them"


def _classes(figures: Figures) -> Iterator[str]:
    chance = 1 / len(figures.confusion)
    for one in figures.classes:
        recall, precision = one.recall, one.precision
        if one.count < FEW:
            yield f"{one.label}: too few to tell, n = {one.count}"
        elif _at_most(recall, chance):
            text = interval_text(recall)
            yield f"{one.label}: recall {text}, no better than chance ({chance:.2f}){_taken(one)}"
        elif recall.value is not None and recall.value < HALF:
            text = interval_text(recall)
            yield f"{one.label}: more than half are missed, recall {text}{_taken(one)}"
        if one.count >= FEW and precision.high is not None and precision.high < HALF:
            text = interval_text(precision)
            yield f"{one.label}: the answer is wrong more often than right, precision {text}"


def _scores(figures: Figures) -> Iterator[str]:
    gap = figures.overconfidence
    if gap.low is None or gap.high is None:
        return
    if gap.low > MISCALIBRATED:
        yield f"scores promise too much: {interval_text(gap)} above the share that is right"
    elif gap.high < -MISCALIBRATED:
        yield f"scores promise too little: {interval_text(gap)} from the share that is right"


def _modalities(groups: dict[str, Interval]) -> Iterator[str]:
    best = max(groups, key=lambda name: groups[name].value or 0.0)
    for name, accuracy in groups.items():
        least = groups[best].low
        if accuracy.high is not None and least is not None and accuracy.high < least:
            texts = interval_text(accuracy), interval_text(groups[best])
            names = modality_name(name), modality_name(best)
            yield f"{names[0]} alone is worse: accuracy {texts[0]}, with {names[1]} {texts[1]}"


def _taken(one: ClassFigures) -> str:
    if one.taken_for is None:
        return ""
    return f", mostly taken for {one.taken_for}" if one.taken_for else ", mostly without a reading"


def _at_most(interval: Interval, bound: float) -> bool:
    low = interval.value if interval.low is None else interval.low
    return low is not None and bool(np.less_equal(low, bound))
