"""Evaluation of a model on clips with labels by people."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfer_edge.batch.inputs import BatchInput
from mfer_edge.batch.journal import Journal
from mfer_edge.batch.records import Failure, TaskMaker
from mfer_edge.batch.run import BatchPlan, Execute, Listener, run_batch
from mfer_edge.batch.tables import TableSet
from mfer_edge.bundle import Bundle
from mfer_edge.errors import AnnotationError
from mfer_edge.evaluation.annotations import Annotation
from mfer_edge.evaluation.figures import Predictions
from mfer_edge.evaluation.spans import SpanScores, span_scores
from mfer_edge.results import Analysis


@dataclass(frozen=True)
class EvaluationPlan:
    """Annotations in the model's labels, and how their clips are analysed."""

    annotations: Sequence[Annotation]
    bundle: Bundle
    tasks: TaskMaker
    folder: Path  # of the journal
    adaptation: Path | None = None


@dataclass(frozen=True)
class Evaluated:
    """What the model said beside what people said."""

    predictions: Predictions
    by_person: bool  # what `predictions.clusters` are; otherwise clips
    clips: int
    lost: tuple[str, ...]  # clips that could not be analysed, with reasons
    uncompared: tuple[str, ...]  # annotations that fit nothing in their clip, with reasons

    @property
    def failures(self) -> tuple[str, ...]:
        """Everything that is not in the figures."""
        return (*self.lost, *self.uncompared)


def evaluate(
    plan: EvaluationPlan, journal: Journal, execute: Execute, listener: Listener
) -> Evaluated:
    """Analyse the clips, each once, and put the answers beside the labels.

    Raises:
        AnnotationError: nothing could be compared.
        OutputError: the journal can't be written.
        MferError: no worker can be started.
    """
    by_path: dict[str, list[Annotation]] = {}
    for annotation in plan.annotations:
        by_path.setdefault(os.path.realpath(annotation.path), []).append(annotation)
    groups = list(by_path.values())
    clips = [BatchInput(group[0].path, plan.adaptation) for group in groups]
    tables = TableSet(plan.bundle.manifest.labels, clips)
    batch = BatchPlan(clips, tables, plan.tasks, plan.folder, formats=())
    run = run_batch(batch, journal, execute, listener)
    pairs = _Pairs(plan.bundle.manifest.labels)
    for group, (clip, outcome) in zip(groups, run.results(), strict=True):
        if isinstance(outcome, Failure):
            pairs.lost.append(f"{clip.name}: {outcome.reason}")
        else:
            pairs.add(outcome, group)
    return pairs.evaluated()


class _Pairs:
    """Annotations with the model's answers, as they come."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.lost: list[str] = []  # clips
        self._uncompared: list[str] = []  # annotations
        self._labels = tuple(labels)
        self._clips = 0
        self._annotations: list[Annotation] = []
        self._answers: list[SpanScores | None] = []
        self._clip_of: list[int] = []  # number of each annotation's clip

    def add(self, analysis: Analysis, annotations: Iterable[Annotation]) -> None:
        """Add all annotations of one clip."""
        for annotation in annotations:
            try:
                answer = span_scores(analysis, annotation)
            except AnnotationError as error:
                self._uncompared.append(str(error))
                continue
            self._annotations.append(annotation)
            self._answers.append(answer)
            self._clip_of.append(self._clips)
        self._clips += 1

    def evaluated(self) -> Evaluated:
        """All of them as arrays."""
        if not self._annotations:
            raise AnnotationError(
                f"no annotation could be compared; {(self._uncompared or self.lost)[0]}"
            )
        people = {one.person: number for number, one in enumerate(self._annotations)}
        by_person = None not in people
        clusters = [people[one.person] for one in self._annotations] if by_person else self._clip_of
        predictions = Predictions(
            self._labels,
            np.array([self._row(answer) for answer in self._answers]),
            np.array([self._labels.index(one.label) for one in self._annotations]),
            np.array(clusters),
            tuple("" if one is None else "+".join(one.modalities) for one in self._answers),
        )
        return Evaluated(predictions, by_person, self._clips, tuple(self.lost),
                         tuple(self._uncompared))  # fmt: skip

    def _row(self, answer: SpanScores | None) -> list[float]:
        return [np.nan if answer is None else answer.scores[label] for label in self._labels]
