"""Differences of scores and embeddings between two systems that analysed the same clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.harness.rounds import JobSeries
from benchmarks.harness.tables import markdown_table
from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import load_engines
from mfer_edge.errors import MferError
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Reading


@dataclass(frozen=True)
class Agreement:
    """Difference of a bundle's scores of one clip from the reference's."""

    bundle: str
    clip: str
    difference: float  # the largest of any label
    spread: float  # between the reference's highest and lowest score
    same_label: bool


def agreements(reference: JobSeries, bundle: JobSeries, clips: Sequence[str]) -> list[Agreement]:
    """Compare scores clip by clip, where a clip is one window."""
    found = []
    pairs = zip(clips, reference.runs[0].scores, bundle.runs[0].scores, strict=True)
    for clip, expected, given in pairs:
        if expected is None or given is None:
            continue
        found.append(
            Agreement(
                bundle=bundle.name,
                clip=clip,
                difference=max(abs(expected[label] - given[label]) for label in expected),
                spread=max(expected.values()) - min(expected.values()),
                same_label=max(expected, key=expected.__getitem__)
                == max(given, key=given.__getitem__),
            )
        )
    return found


def agreement_table(agreed: Sequence[Agreement]) -> str:
    """Format how far scores agree; empty where nothing was compared."""
    headings = (
        "bundle | clip | largest difference of a score | reference's highest less lowest "
        "| same label"
    )
    rows = [
        (
            a.bundle,
            a.clip,
            f"{a.difference:.4f}",
            f"{a.spread:.4f}",
            "yes" if a.same_label else "no",
        )
        for a in agreed
    ]
    return markdown_table(headings, rows) if rows else ""


@dataclass(frozen=True)
class Observation:
    """Readings of clips, and the face embeddings behind them."""

    readings: list[Reading]
    embeddings: np.ndarray  # (faces, width), of all windows

    @classmethod
    def of(cls, clips: Sequence[str], bundle: Bundle, skip_still: float) -> Observation:
        """Analyse clips with a bundle; `skip_still` in grey levels, 0 to embed every face.

        Raises:
            MferError: there is no face in the clips.
        """
        engines = load_engines(bundle)
        recorder = _EmbeddingRecorder(engines["visual"])
        pipeline = Pipeline(Model.of(bundle, {**engines, "visual": recorder}))
        options = pipeline.options(skip_still=skip_still)
        readings = [one for clip in clips for one in pipeline.analyze(clip, options).windows]
        if not recorder.embeddings:
            raise MferError("no face in these clips: nothing to approximate")
        return cls(readings, np.concatenate(recorder.embeddings))


class _EmbeddingRecorder:
    """The visual arm's engine, keeping the embeddings that it is given."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.embeddings: list[np.ndarray] = []  # (faces, width), of each window

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        self.embeddings.append(arrays["embeddings"][0])
        return self._engine(**arrays)


@dataclass(frozen=True)
class Change:
    """Change of readings and embeddings by an approximation."""

    faces: int  # in all windows together
    reused: int  # of them, with the embedding of another
    readings: int
    other_label: int  # readings
    mean_score: float  # difference, over all labels and readings
    largest_score: float
    mean_cosine: float  # of embeddings, face by face
    least_cosine: float

    @classmethod
    def between(cls, exact: Observation, approximate: Observation) -> Change:
        """Compare two observations of the same clips.

        Raises:
            MferError: they are of different models.
        """
        if exact.embeddings.shape != approximate.embeddings.shape:
            raise MferError("--merged is not of the model that --bundle is of")
        pairs = list(zip(exact.readings, approximate.readings, strict=True))
        gaps = [
            abs(a.scores[label] - b.scores[label])
            for a, b in pairs
            if a.scores is not None and b.scores is not None
            for label in a.scores
        ]
        cosines = (unit(exact.embeddings) * unit(approximate.embeddings)).sum(1)
        return cls(
            faces=len(exact.embeddings),
            reused=sum(reading.reused for reading in approximate.readings),
            readings=len(pairs),
            other_label=sum(a.label != b.label for a, b in pairs),
            mean_score=float(np.mean(gaps)),
            largest_score=max(gaps),
            mean_cosine=float(cosines.mean()),
            least_cosine=float(cosines.min()),
        )


def unit(embeddings: np.ndarray) -> np.ndarray:
    """Scale (faces, width) vectors to length 1."""
    return embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
