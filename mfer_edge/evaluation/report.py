"""Report of an evaluation, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mfer_edge.bundle import Bundle
from mfer_edge.evaluation.figures import (
    CONFIDENCE,
    RESAMPLES,
    Figures,
    Interval,
    figures,
)
from mfer_edge.evaluation.run import Evaluated
from mfer_edge.evaluation.weaknesses import interval_text, modality_name, weaknesses

SCHEMA = 1
NONE = "none"  # answer: no face and no speech
SHORT = 5  # letters of a label at the head of a column


@dataclass(frozen=True)
class Report:
    """Figures of an evaluation, and what they mean."""

    evaluated: Evaluated
    figures: Figures
    groups: dict[str, Interval]  # accuracy by modality
    group_sizes: dict[str, int]
    weak: list[str]

    @classmethod
    def of(cls, evaluated: Evaluated) -> Report:
        """Compute them."""
        predictions = evaluated.predictions
        sizes = dict(Counter(name for name in predictions.modalities if name).most_common())
        names = np.array(predictions.modalities)
        groups = {name: figures(predictions.part(names == name)).accuracy for name in sizes}
        all_figures = figures(predictions)
        weak = weaknesses(all_figures, groups, predictions.cluster_count) if sizes else [
            "no face and no speech was found in any clip"
        ]  # fmt: skip
        return cls(evaluated, all_figures, groups, sizes, weak)

    @property
    def majority(self) -> float:
        """Accuracy of always giving the most frequent label."""
        counts = self.figures.confusion.sum(1)
        return float(counts.max() / counts.sum())

    def to_text(self) -> str:
        """For a terminal."""
        predictions, made = self.evaluated.predictions, self.figures
        size, clusters = len(predictions.truth), predictions.cluster_count
        clips = self.evaluated.clips
        unit = "person" if self.evaluated.by_person else "clip"
        lines = [
            f"{size} annotation{'s' * (size != 1)} of {clips} clip{'s' * (clips != 1)}; "
            f"{CONFIDENCE:.0%} intervals from {RESAMPLES} resamplings of {clusters} "
            f"{unit}{'s' * (clusters != 1)}",
            "",
            *self._summary(),
            "",
            *_class_lines(made),
            "",
            *_confusion_lines(predictions.labels, made.confusion),
            "",
            *_calibration_lines(made),
            "",
            *self._group_lines(),
            "",
            "not good enough:" if self.weak else "nothing stands out as not good enough",
            *(f"  {line}" for line in self.weak),
        ]
        return "\n".join(lines)

    def to_dict(self, bundle: Bundle) -> dict[str, Any]:
        """For `--json`, schema 1."""
        predictions, made = self.evaluated.predictions, self.figures
        manifest = bundle.manifest
        return {
            "schema": SCHEMA,
            "bundle": {
                "name": manifest.name,
                "precision": manifest.precision,
                "trained": manifest.trained,
                "sha256": bundle.sha256,
            },
            "annotations": len(predictions.truth),
            "clips": self.evaluated.clips,
            "resampled": {
                "unit": "person" if self.evaluated.by_person else "clip",
                "number": predictions.cluster_count,
                "times": RESAMPLES,
                "confidence": CONFIDENCE,
            },
            "accuracy": asdict(made.accuracy),
            "majority_accuracy": self.majority,
            "unweighted_recall": asdict(made.recall),
            "unweighted_recall_among_occurring": asdict(made.closed_recall),
            "kappa": asdict(made.kappa),
            "classes": [asdict(one) for one in made.classes],
            "confusion": {
                "truth": list(predictions.labels),
                "answers": [*predictions.labels, NONE],
                "counts": made.confusion.tolist(),
            },
            "calibration": {
                "error": asdict(made.calibration_error),
                "overconfidence": asdict(made.overconfidence),
                "bins": [asdict(one) for one in made.bins],
            },
            "accuracy_by_modality": {
                name: {"count": self.group_sizes[name], **asdict(accuracy)}
                for name, accuracy in self.groups.items()
            },
            "not_good_enough": self.weak,
            "failures": list(self.evaluated.failures),
        }

    def _summary(self) -> list[str]:
        made, labels = self.figures, len(self.evaluated.predictions.labels)
        rows = [
            ("accuracy", made.accuracy, f"most frequent label {self.majority:.2f}"),
            ("unweighted recall", made.recall, f"chance {1 / labels:.2f}"),
            ("Cohen's kappa", made.kappa, "chance 0"),
        ]
        occurring = len(made.classes)
        if occurring < labels:
            name = f"recall among these {occurring}"
            rows.insert(2, (name, made.closed_recall, f"chance {1 / occurring:.2f}"))
        return [f"{name:<22}{interval_text(value):<24}{note}" for name, value, note in rows]

    def _group_lines(self) -> list[str]:
        return [
            f"{'accuracy with':<22}{'':<24}n",
            *(
                f"  {modality_name(name):<20}{interval_text(accuracy):<24}{self.group_sizes[name]}"
                for name, accuracy in self.groups.items()
            ),
        ]


def _class_lines(made: Figures) -> list[str]:
    lines = [f"{'label':<12}{'n':>6}  {'recall':<24}{'precision':<24}mostly taken for"]
    for one in made.classes:
        other = NONE if one.taken_for == "" else one.taken_for or "-"
        lines.append(
            f"{one.label:<12}{one.count:>6}  {interval_text(one.recall):<24}"
            f"{interval_text(one.precision):<24}{other}"
        )
    return lines


def _confusion_lines(labels: Sequence[str], counts: np.ndarray) -> list[str]:
    head = "".join(f"{label[:SHORT]:>7}" for label in (*labels, NONE))
    lines = [f"{'truth / answer':<14}{head}"]
    for label, row in zip(labels, counts, strict=True):
        if row.sum():
            lines.append(f"{label:<14}" + "".join(f"{count or '.':>7}" for count in row))
    return lines


def _calibration_lines(made: Figures) -> list[str]:
    lines = [
        f"{'calibration error':<22}{interval_text(made.calibration_error)}",
        f"{'score less accuracy':<22}{interval_text(made.overconfidence)}",
    ]
    if made.bins:
        lines.append("  score  right      n")
        lines += [f"  {one.score:5.2f}  {one.accuracy:5.2f}  {one.count:>5}" for one in made.bins]
    return lines
