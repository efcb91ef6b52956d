"""The model's scores for a clip, or for a part of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfer_edge.errors import AnnotationError
from mfer_edge.evaluation.annotations import Annotation
from mfer_edge.results import Analysis, Scores
from mfer_edge.segments import window_spans


@dataclass(frozen=True)
class SpanScores:
    """What the model says of a part of a clip."""

    scores: Scores
    modalities: tuple[str, ...]


def span_scores(analysis: Analysis, annotation: Annotation) -> SpanScores | None:
    """The model's answer beside an annotation; None where there was no face and no speech.

    Of a part of a clip, it is the mean of the main readings, each weighted by how long it speaks
    for that part: windows overlap, and every moment belongs to the window with the nearest middle.

    Raises:
        AnnotationError: the part lies beyond the end of the clip.
    """
    if annotation.start_s is None or annotation.end_s is None:
        whole = analysis.overall
        return None if whole is None else SpanScores(whole.scores, whole.modalities)
    if annotation.start_s >= analysis.duration_s:
        raise AnnotationError(
            f"{annotation.place}: {annotation.start_s:g} to {annotation.end_s:g} s, but "
            f"{annotation.path} ends at {analysis.duration_s:.2f} s"
        )
    weights, readings = [], []
    for span in window_spans(analysis.windows, analysis.duration_s):
        shared_s = min(span.end_s, annotation.end_s) - max(span.start_s, annotation.start_s)
        if shared_s > 0 and span.main is not None and span.main.scores is not None:
            weights.append(shared_s)
            readings.append(span.main)
    if not readings:
        return None
    labels = list(readings[0].scores or {})
    rows = [[(one.scores or {})[label] for label in labels] for one in readings]
    mean = np.average(rows, axis=0, weights=weights)
    used = {name for one in readings for name in one.modalities}
    modalities = tuple(name for name in ("visual", "audio") if name in used)
    return SpanScores(dict(zip(labels, map(float, mean), strict=True)), modalities)
