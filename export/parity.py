"""Parity of a bundle with PyTorch: figures, tolerances and failures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mfer_edge.errors import MferError
from mfer_edge.manifest import ENGINES, MODEL_ENGINES

Call = Mapping[str, np.ndarray]  # an engine's inputs, by name


@dataclass(frozen=True)
class Tolerance:
    """Allowed differences between a bundle and PyTorch."""

    max_abs: float  # largest difference of an element of an engine's output
    cosine: float  # smallest cosine similarity of an engine's output
    score: float  # largest difference of a score of a reading
    inner: float  # largest relative error of a value within a graph, to find divergences


TOLERANCES = {
    "fp32": Tolerance(max_abs=1e-3, cosine=0.99999, score=1e-3, inner=1e-4),
    "fp16": Tolerance(max_abs=np.inf, cosine=0.999, score=0.01, inner=0.03),
    "int8": Tolerance(max_abs=np.inf, cosine=0.98, score=0.15, inner=0.15),
    "int8-gpu": Tolerance(max_abs=np.inf, cosine=0.98, score=0.15, inner=0.15),
}
"""Scores at fp16: on real clips those of the compact model differ by at most 0.0001, those of its
audio arm by 0.0003; 0.01 leaves a margin for deeper models. `inner`: correct values in graphs of
the full-size model at fp32 have relative errors of at most 0.00004, and an output whose cosine
fails has a larger error than `inner`, so that a divergence is always found."""


def tolerance(engine: str, precision: str) -> Tolerance:
    """Tolerance of one engine in a bundle of this precision."""
    # Face and speech detection is in fp32 in every bundle.
    return TOLERANCES[precision if engine in MODEL_ENGINES else "fp32"]


class ParityError(MferError):
    """An export that is out of tolerance; the message names every failed check.

    Args:
        table: the figures as lines of a table.
    """

    def __init__(self, message: str, table: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.table = tuple(table)


@dataclass(frozen=True)
class Failure:
    """A failed check."""

    engine: str  # empty: the whole pipeline
    output: str  # empty: the whole engine
    what: str

    def __str__(self) -> str:
        return f"{'.'.join(filter(None, (self.engine, self.output)))}: {self.what}"


@dataclass(frozen=True)
class Distance:
    """Difference of arrays from the expected ones, accumulated in float64 over calls."""

    calls: int = 0  # pairs of arrays
    max_abs: float = 0.0  # not finite if any element is not
    dot: float = 0.0  # sum of the products of actual and expected elements
    actual_sq: float = 0.0  # sum of squares of the actual elements
    expected_sq: float = 0.0  # sum of squares of the expected elements
    error_sq: float = 0.0  # sum of squares of the differences

    @classmethod
    def between(cls, actual: np.ndarray, expected: np.ndarray) -> Distance:
        """Compare two arrays of the same shape."""
        a, b = (x.ravel().astype(np.float64) for x in (actual, expected))
        with np.errstate(all="ignore"):
            d = a - b
            return cls(
                1, float(np.abs(d).max(initial=0.0)), *map(float, (a @ b, a @ a, b @ b, d @ d))
            )

    def __add__(self, other: Distance) -> Distance:
        return Distance(
            self.calls + other.calls,
            # NumPy's maximum, unlike Python's, is NaN if one operand is.
            float(np.maximum(self.max_abs, other.max_abs)),
            self.dot + other.dot,
            self.actual_sq + other.actual_sq,
            self.expected_sq + other.expected_sq,
            self.error_sq + other.error_sq,
        )

    @property
    def cosine(self) -> float:
        """Cosine similarity; 1 if both are all zeros."""
        norms = math.sqrt(self.actual_sq) * math.sqrt(self.expected_sq)
        return self.dot / norms if norms else float(self.error_sq == 0)

    @property
    def relative(self) -> float:
        """Relative error: L2 norm of the difference over that of the expected; NaN is infinite."""
        if math.isnan(self.error_sq) or not self.expected_sq:
            return 0.0 if self.error_sq == 0 else math.inf
        return math.sqrt(self.error_sq / self.expected_sq)


@dataclass(frozen=True)
class Difference:
    """Difference of one output of an engine from PyTorch, over all its calls."""

    engine: str
    output: str
    max_abs: float
    cosine: float
    calls: int

    def failure(self, precision: str) -> Failure | None:
        """The failed check, if the difference is out of tolerance."""
        allowed = tolerance(self.engine, precision)
        if not math.isfinite(self.max_abs):
            what = "NaN" if math.isnan(self.max_abs) else "infinite"
        elif self.max_abs <= allowed.max_abs and self.cosine >= allowed.cosine:
            return None
        else:
            what = f"max-abs {self.max_abs:.2g}, cosine {self.cosine:.6f}"
        return Failure(self.engine, self.output, what)

    def row(self, precision: str) -> str:
        """The difference and its tolerance as a line of a table."""
        allowed = tolerance(self.engine, precision)
        limits = [f"cosine >= {allowed.cosine:g}"]
        if allowed.max_abs < np.inf:
            limits.append(f"max-abs <= {allowed.max_abs:g}")
        return (
            f"{self.engine:<8} {self.output:<13} {self.max_abs:9.2g}  {self.cosine:<9.7f} "
            f"{self.calls:6}  {', '.join(limits)}"
        )


@dataclass(frozen=True)
class Parity:
    """Differences between a bundle and PyTorch on real clips."""

    differences: tuple[Difference, ...]
    readings: int  # compared; 0 if an engine is broken
    same_label: int  # readings with PyTorch's label
    max_score: float  # largest difference of a score
    broken: tuple[Failure, ...] = ()  # failures at any precision
    worst_calls: Mapping[str, Call] = field(default_factory=dict, repr=False)
    """For each engine, the inputs of the call with the largest relative error."""

    def failed(self, precision: str, trained: bool = True) -> list[Failure]:
        """Failed checks, in the order of the engines.

        Args:
            trained: whether the weights are trained. Random weights give nearly equal scores whose
                largest is arbitrary, so labels are not compared then.
        """
        ran = {d.engine for d in self.differences} | {f.engine for f in self.broken}
        failed = [
            Failure(name, "", "never ran; a clip with a face and speech is needed to verify it")
            for name in ENGINES
            if name not in ran
        ]
        failed += filter(None, (d.failure(precision) for d in self.differences))
        failed += self.broken
        failed.sort(key=lambda f: ENGINES.index(f.engine) if f.engine else len(ENGINES))
        if trained and self.same_label < self.readings:
            what = f"{self.same_label} of {self.readings} readings agree"
            failed.append(Failure("", "labels", what))
        if not self.max_score <= TOLERANCES[precision].score:
            failed.append(Failure("", "scores", f"one differs by {self.max_score:.2g}"))
        return failed

    def failures(self, precision: str, trained: bool = True) -> list[str]:
        """Failed checks as text; empty if all passed."""
        return [str(failure) for failure in self.failed(precision, trained)]

    def failed_calls(self, precision: str) -> dict[str, Call]:
        """Inputs of the worst call of each engine that failed and ran."""
        failed = dict.fromkeys(failure.engine for failure in self.failed(precision))
        return {name: self.worst_calls[name] for name in failed if name in self.worst_calls}

    def figures(self) -> dict[str, float]:
        """Figures for the manifest."""
        values: dict[str, float] = {}
        for d in self.differences:
            values[f"{d.engine}.calls"] = d.calls
            values[f"{d.engine}.{d.output}.max_abs"] = d.max_abs
            values[f"{d.engine}.{d.output}.cosine"] = d.cosine
        values |= {"scores.max_abs": self.max_score, "readings": self.readings}
        return {name: float(f"{value:.7g}") for name, value in values.items()}

    def table(self, precision: str, trained: bool = True) -> list[str]:
        """Figures as lines of a table, with failures marked."""
        failed = self.failed(precision, trained)
        marked = {(f.engine, f.output) for f in failed}
        lines = [
            f"{'engine':<8} {'output':<13} {'max-abs':>9}  {'cosine':<9} {'calls':>6}  allowed"
        ]
        for d in self.differences:
            mark = "  FAILED" if (d.engine, d.output) in marked else ""
            lines.append(d.row(precision) + mark)
        if self.readings:
            lines.append(
                f"labels: {self.same_label} of {self.readings} readings agree; largest difference "
                f"of a score: {self.max_score:.2g} (allowed {TOLERANCES[precision].score:g})"
            )
        shown = {(d.engine, d.output) for d in self.differences}
        lines += [f"FAILED {f}" for f in failed if (f.engine, f.output) not in shown]
        return lines
