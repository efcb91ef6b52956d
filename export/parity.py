"""Proof that an exported bundle does what the PyTorch model does, on real clips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.errors import EngineError, MferError
from mfer_edge.manifest import ENGINES, MODEL_ENGINES, EngineFile
from mfer_edge.model import load_engines
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Reading

Call = Mapping[str, np.ndarray]  # a network's inputs, by name


@dataclass(frozen=True)
class Tolerance:
    """How far an export may be from PyTorch."""

    max_abs: float  # of any number that an engine gives
    cosine: float  # at least, between an engine's output and PyTorch's
    score: float  # of any score of the whole chain
    inner: float  # relative distance from which on a value within a graph counts as wrong


TOLERANCES = {
    "fp32": Tolerance(max_abs=1e-3, cosine=0.99999, score=1e-3, inner=1e-4),
    "fp16": Tolerance(max_abs=np.inf, cosine=0.999, score=0.01, inner=0.03),
    "int8": Tolerance(max_abs=np.inf, cosine=0.98, score=0.15, inner=0.15),
    "int8-gpu": Tolerance(max_abs=np.inf, cosine=0.98, score=0.15, inner=0.15),
}
"""Scores in half precision: on real clips, those of the compact model differ by 0.0001 at most, and
those of its voice alone by 0.0003; a hundredth leaves deeper networks room. Values within graphs:
right ones of the full-size model in single precision are off by 0.00004 at most, and an output that
fails by its cosine is itself off by more than what is allowed within."""


def tolerance(engine: str, precision: str) -> Tolerance:
    """Give what is allowed of one engine in a bundle of some precision."""
    # What finds faces and speech stays in single precision in every bundle.
    return TOLERANCES[precision if engine in MODEL_ENGINES else "fp32"]


class ParityError(MferError):
    """An export that is not what was trained; its message names every failed check.

    Args:
        table: the figures, as lines for a person.
    """

    def __init__(self, message: str, table: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.table = tuple(table)


@dataclass(frozen=True)
class Failure:
    """A check that an export did not pass."""

    engine: str  # empty: of the whole chain
    output: str  # empty: of the whole engine
    what: str

    def __str__(self) -> str:
        return f"{'.'.join(filter(None, (self.engine, self.output)))}: {self.what}"


@dataclass(frozen=True)
class Distance:
    """How far arrays are from those that they should be, summed up in double precision."""

    calls: int = 0  # arrays
    max_abs: float = 0.0  # not finite if one of the numbers is not
    products: float = 0.0  # of given and expected numbers, summed
    given: float = 0.0  # squares
    expected: float = 0.0
    off: float = 0.0  # squares of the differences

    @classmethod
    def between(cls, given: np.ndarray, expected: np.ndarray) -> Distance:
        """Compare two arrays of one shape."""
        a, b = (x.ravel().astype(np.float64) for x in (given, expected))
        with np.errstate(all="ignore"):
            d = a - b
            return cls(
                1, float(np.abs(d).max(initial=0.0)), *map(float, (a @ b, a @ a, b @ b, d @ d))
            )

    def __add__(self, other: Distance) -> Distance:
        return Distance(
            self.calls + other.calls,
            # NumPy's maximum, unlike Python's, is NaN if one of them is.
            float(np.maximum(self.max_abs, other.max_abs)),
            self.products + other.products,
            self.given + other.given,
            self.expected + other.expected,
            self.off + other.off,
        )

    @property
    def cosine(self) -> float:
        """Cosine of the angle between them; of two that are nothing but zeros, 1."""
        length = math.sqrt(self.given) * math.sqrt(self.expected)
        return self.products / length if length else float(self.off == 0)

    @property
    def relative(self) -> float:
        """Length of their difference over that of what is expected; infinite where it is NaN."""
        if math.isnan(self.off) or not self.expected:
            return 0.0 if self.off == 0 else math.inf
        return math.sqrt(self.off / self.expected)


@dataclass(frozen=True)
class Difference:
    """How far one output of one engine is from PyTorch, over all its calls."""

    engine: str
    output: str
    max_abs: float
    cosine: float
    calls: int

    def failure(self, precision: str) -> Failure | None:
        """Say what is out of tolerance."""
        allowed = tolerance(self.engine, precision)
        if not math.isfinite(self.max_abs):
            what = "NaN" if math.isnan(self.max_abs) else "infinite"
        elif self.max_abs <= allowed.max_abs and self.cosine >= allowed.cosine:
            return None
        else:
            what = f"max-abs {self.max_abs:.2g}, cosine {self.cosine:.6f}"
        return Failure(self.engine, self.output, what)


@dataclass(frozen=True)
class Parity:
    """How far a bundle is from PyTorch."""

    differences: tuple[Difference, ...]
    readings: int  # compared: none where an engine is broken
    same_label: int  # readings with PyTorch's label
    max_score: float  # the largest difference of a score
    broken: tuple[Failure, ...] = ()  # what is wrong at any precision
    calls: Mapping[str, Call] = field(default_factory=dict, repr=False)
    """For each engine, the inputs on which it was farthest from PyTorch."""

    def failed(self, precision: str, trained: bool = True) -> list[Failure]:
        """Give the checks that failed, engine by engine.

        Args:
            trained: whether the weights mean anything. Random ones give nearly equal scores, of
                which the largest is chance: labels are not compared then.
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
        """Say what failed, a line each; nothing if all is well."""
        return [str(failure) for failure in self.failed(precision, trained)]

    def witnesses(self, precision: str) -> dict[str, Call]:
        """Give, for each engine that failed and could run, the inputs on which it was worst."""
        failed = dict.fromkeys(failure.engine for failure in self.failed(precision))
        return {name: self.calls[name] for name in failed if name in self.calls}

    def figures(self) -> dict[str, float]:
        """Give the numbers that the manifest keeps."""
        values: dict[str, float] = {}
        for d in self.differences:
            values[f"{d.engine}.calls"] = d.calls
            values[f"{d.engine}.{d.output}.max_abs"] = d.max_abs
            values[f"{d.engine}.{d.output}.cosine"] = d.cosine
        values |= {"scores.max_abs": self.max_score, "readings": self.readings}
        return {name: float(f"{value:.7g}") for name, value in values.items()}

    def table(self, precision: str, trained: bool = True) -> list[str]:
        """Give the figures as lines for a person, failures marked."""
        failed = self.failed(precision, trained)
        marked = {(f.engine, f.output) for f in failed}
        lines = [
            f"{'engine':<8} {'output':<13} {'max-abs':>9}  {'cosine':<9} {'calls':>6}  allowed"
        ]
        for d in self.differences:
            allowed = tolerance(d.engine, precision)
            limits = [f"cosine >= {allowed.cosine:g}"]
            if allowed.max_abs < np.inf:
                limits.append(f"max-abs <= {allowed.max_abs:g}")
            mark = "  FAILED" if (d.engine, d.output) in marked else ""
            lines.append(
                f"{d.engine:<8} {d.output:<13} {d.max_abs:9.2g}  {d.cosine:<9.7f} {d.calls:6}"
                f"  {', '.join(limits)}{mark}"
            )
        if self.readings:
            lines.append(
                f"labels: {self.same_label} of {self.readings} readings agree; largest difference "
                f"of a score: {self.max_score:.2g} (allowed {TOLERANCES[precision].score:g})"
            )
        shown = {(d.engine, d.output) for d in self.differences}
        lines += [f"FAILED {f}" for f in failed if (f.engine, f.output) not in shown]
        return lines


class _Compared:
    """Runs an engine and PyTorch on the same arrays, and goes on with PyTorch's result."""

    def __init__(self, name: str, engine: Engine, reference: Engine) -> None:
        self._name, self._engine, self._reference = name, engine, reference
        self._worst = -1.0
        self._broken: dict[tuple[str, str], Failure] = {}  # of each kind, the first
        self._distances: dict[str, Distance] = {}
        self.worst_call: Call | None = None

    @property
    def broken(self) -> list[Failure]:
        return list(self._broken.values())

    @property
    def usable(self) -> bool:
        """Whether the runtime's chain can go on with what the engine gives."""
        sound = all(math.isfinite(total.max_abs) for total in self._distances.values())
        return sound and all(kind == "extra" for _, kind in self._broken)

    @property
    def differences(self) -> list[Difference]:
        return [
            Difference(self._name, output, total.max_abs, total.cosine, total.calls)
            for output, total in self._distances.items()
        ]

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        expected = self._reference(**arrays)
        try:
            given = self._engine(**arrays)
        except EngineError as error:
            self._break("", "run", str(error))
            return expected
        far = max(self._compare(output, given.get(output), expected[output]) for output in expected)
        for output in sorted(given.keys() - expected.keys()):
            self._break(output, "extra", "an output that nobody asked for")
        if far > self._worst:
            self._worst = far
            self.worst_call = {name: array.copy() for name, array in arrays.items()}
        return expected

    def _compare(self, output: str, given: np.ndarray | None, expected: np.ndarray) -> float:
        """Take down how far an output is off; tell how far, relative to its size."""
        if given is None:
            self._break(output, "missing", "missing")
            return 0.0
        if given.dtype != expected.dtype:
            self._break(output, "type", f"{given.dtype} where PyTorch gives {expected.dtype}")
        if given.shape != expected.shape:
            self._break(output, "shape", f"{given.shape} where PyTorch gives {expected.shape}")
            return math.inf
        distance = Distance.between(given, expected)
        self._distances[output] = self._distances.get(output, Distance()) + distance
        return distance.relative

    def _break(self, output: str, kind: str, what: str) -> None:
        self._broken.setdefault((output, kind), Failure(self._name, output, what))


def measure(
    bundle: Bundle, reference: Mapping[str, Engine], clips: Sequence[Path], device: str = "cpu"
) -> Parity:
    """Run clips through a bundle and through PyTorch; tell how far apart they are.

    Every engine is compared on what PyTorch's chain gives it, then the two chains as a whole.

    Args:
        reference: every network, as `reference_networks` gives them.
        device: where the bundle's large networks run: see `load_engines`.

    Raises:
        EngineError: an engine can't be loaded.
        MediaError: a clip can't be read.
    """
    engines = load_engines(bundle, device)
    compared = {name: _Compared(name, engines[name], reference[name]) for name in ENGINES}
    expected = _readings(Pipeline(bundle, compared), clips)

    broken: list[Failure] = []
    for name, comparison in compared.items():
        broken += _undeclared(name, bundle.manifest.engines[name], engines[name])
        broken += comparison.broken
    differences = tuple(d for comparison in compared.values() for d in comparison.differences)

    given: list[Reading] = []
    if stuck := [name for name, comparison in compared.items() if not comparison.usable]:
        what = f"not compared, as {', '.join(stuck)} can't take part"
        broken.append(Failure("", "readings", what))
    else:
        try:
            given = _readings(Pipeline(bundle, engines), clips)
        except EngineError as error:
            broken.append(Failure("", "readings", f"not compared: {error}"))
    pairs = list(zip(given, expected, strict=True)) if given else []
    return Parity(
        differences,
        len(pairs),
        sum(g.label == e.label for g, e in pairs),
        float(np.max([_gap(g, e) for g, e in pairs], initial=0.0)),  # NaN if one is
        tuple(broken),
        {name: c.worst_call for name, c in compared.items() if c.worst_call is not None},
    )


def _undeclared(name: str, declared: EngineFile, engine: Engine) -> list[Failure]:
    """Say where an engine's inputs and outputs are not those that its manifest tells of."""
    if not isinstance(engine, OnnxEngine):
        return []
    failures = []
    for pair in ((engine.inputs, declared.inputs), (engine.outputs, declared.outputs)):
        real, told = ({t.name: f"{t.dtype} {t.shape}" for t in tensors} for tensors in pair)
        for tensor in {**told, **real}:
            found, wanted = real.get(tensor, "nothing"), told.get(tensor, "nothing")
            if found != wanted:
                what = f"{found} where the manifest tells of {wanted}"
                failures.append(Failure(name, tensor, what))
    return failures


def _gap(given: Reading, expected: Reading) -> float:
    """The largest difference of a score; infinite where only one of them has any."""
    if given.scores is None or expected.scores is None:
        return 0.0 if given.scores is expected.scores else math.inf
    pairs = [(score, expected.scores[label]) for label, score in given.scores.items()]
    return float(np.max([abs(a - b) for a, b in pairs], initial=0.0))


def _readings(pipeline: Pipeline, clips: Sequence[Path]) -> list[Reading]:
    return [reading for clip in clips for reading in pipeline.analyze(clip).windows]
