"""Proof that an exported bundle does what the PyTorch model does, on real clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.reference import reference_networks
from mfer_edge.bundle import ENGINES, Bundle
from mfer_edge.engine import Network
from mfer_edge.errors import MferError
from mfer_edge.pipeline import Pipeline, bundle_networks
from mfer_edge.results import Reading
from train.model import EmotionModel


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from PyTorch."""

    max_abs: float  # of any number that an engine gives
    cosine: float  # at least, between an engine's output and PyTorch's
    score: float  # of any score of the whole chain


TOLERANCES = {
    "fp32": Tolerance(max_abs=1e-3, cosine=0.99999, score=1e-3),
    "int8": Tolerance(max_abs=np.inf, cosine=0.98, score=0.15),
}


class ParityError(MferError):
    """An export that is not what was trained; its message names every failed check."""


@dataclass(frozen=True)
class Difference:
    """How far one output of one engine is from PyTorch, over all its calls."""

    engine: str
    output: str
    max_abs: float
    cosine: float


@dataclass(frozen=True)
class Parity:
    """How far a bundle is from PyTorch."""

    differences: tuple[Difference, ...]
    readings: int
    same_label: int  # readings with PyTorch's label
    max_score: float  # the largest difference of a score

    def failures(self, precision: str) -> list[str]:
        """Say what is out of tolerance; nothing if all is well."""
        allowed = TOLERANCES[precision]
        compared = {d.engine for d in self.differences}
        failed = [
            f"{engine}: never ran; a clip with a face and speech is needed to verify it"
            for engine in ENGINES
            if engine not in compared
        ]
        failed += [
            f"{d.engine}.{d.output}: max-abs {d.max_abs:.2g}, cosine {d.cosine:.6f}"
            for d in self.differences
            if not (d.max_abs <= allowed.max_abs and d.cosine >= allowed.cosine)
        ]
        if self.same_label < self.readings:
            failed.append(f"labels: {self.same_label} of {self.readings} readings agree")
        if not self.max_score <= allowed.score:
            failed.append(f"scores: one differs by {self.max_score:.2g}")
        return failed

    def figures(self) -> dict[str, float]:
        """Give the numbers that the manifest keeps."""
        values = {f"{d.engine}.{d.output}.max_abs": d.max_abs for d in self.differences}
        values |= {f"{d.engine}.{d.output}.cosine": d.cosine for d in self.differences}
        values |= {"scores.max_abs": self.max_score, "readings": self.readings}
        return {name: float(f"{value:.7g}") for name, value in values.items()}


class _Compared:
    """Runs an engine and PyTorch on the same arrays, and goes on with PyTorch's result."""

    def __init__(self, name: str, engine: Network, reference: Network) -> None:
        self._name, self._engine, self._reference = name, engine, reference
        self.pairs: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        expected, given = self._reference(**arrays), self._engine(**arrays)
        for name, value in expected.items():
            if name not in given or given[name].shape != value.shape:
                shape = given[name].shape if name in given else "nothing"
                raise ParityError(f"{self._name}.{name}: {shape} where PyTorch gives {value.shape}")
            self.pairs.setdefault(name, []).append((given[name].ravel(), value.ravel()))
        return expected


def measure(bundle: Bundle, model: EmotionModel, clips: Sequence[Path]) -> Parity:
    """Run clips through a bundle and through PyTorch; tell how far apart they are.

    Raises:
        ParityError: an engine lacks an output, or gives one of another shape.
    """
    engines = bundle_networks(bundle)
    reference = reference_networks(model)
    compared = {name: _Compared(name, engines[name], reference[name]) for name in ENGINES}
    expected = _readings(Pipeline(bundle, compared), clips)
    given = _readings(Pipeline(bundle, engines), clips)

    differences = []
    for name, comparison in compared.items():
        for output, pairs in comparison.pairs.items():
            a = np.concatenate([pair[0] for pair in pairs]).astype(np.float64)
            b = np.concatenate([pair[1] for pair in pairs]).astype(np.float64)
            length = np.linalg.norm(a) * np.linalg.norm(b)
            differences.append(
                Difference(
                    name,
                    output,
                    float(np.abs(a - b).max(initial=0.0)),
                    float(a @ b / length) if length else float(np.array_equal(a, b)),
                )
            )
    gaps = [
        abs(score - (e.scores or {})[label])
        for g, e in zip(given, expected, strict=True)
        for label, score in (g.scores or {}).items()
    ]
    same = sum(g.label == e.label for g, e in zip(given, expected, strict=True))
    # NumPy's maximum, unlike Python's, is NaN if one of them is.
    return Parity(tuple(differences), len(expected), same, float(np.max(gaps, initial=0.0)))


def _readings(pipeline: Pipeline, clips: Sequence[Path]) -> list[Reading]:
    return [reading for clip in clips for reading in pipeline.analyze(clip).windows]
