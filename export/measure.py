"""Measurement of parity: a bundle and PyTorch run on the same clips."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from export.parity import Call, Difference, Distance, Failure, Parity
from mfer_edge.arms import Place
from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import load_engines
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.errors import EngineError
from mfer_edge.manifest import ENGINES, EngineFile
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Reading

SHARE = 0.5  # of the clips' own statistics in a place: all of them would cancel a single clip


class ComparedEngine:
    """An engine that is compared with PyTorch at each call, and returns PyTorch's outputs.

    So every engine is compared on the inputs that it would get in PyTorch.
    """

    def __init__(self, name: str, engine: Engine, reference: Engine) -> None:
        self._name, self._engine, self._reference = name, engine, reference
        self._largest_error = -1.0
        self._broken: dict[tuple[str, str], Failure] = {}  # first of each output and kind
        self._distances: dict[str, Distance] = {}
        self.worst_call: Call | None = None

    @property
    def broken(self) -> list[Failure]:
        """Failures at any precision."""
        return list(self._broken.values())

    @property
    def usable(self) -> bool:
        """Whether the runtime can use the engine's outputs."""
        finite = all(math.isfinite(total.max_abs) for total in self._distances.values())
        return finite and all(kind == "extra" for _, kind in self._broken)

    @property
    def differences(self) -> list[Difference]:
        """Difference of each output over all calls."""
        return [
            Difference(self._name, output, total.max_abs, total.cosine, total.calls)
            for output, total in self._distances.items()
        ]

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run both and return PyTorch's outputs."""
        expected = self._reference(**arrays)
        try:
            actual = self._engine(**arrays)
        except EngineError as error:
            self._fail("", "run", str(error))
            return expected
        relative = max(self._compare(name, actual.get(name), expected[name]) for name in expected)
        for output in sorted(actual.keys() - expected.keys()):
            self._fail(output, "extra", "an unexpected output")
        if relative > self._largest_error:
            self._largest_error = relative
            self.worst_call = {name: array.copy() for name, array in arrays.items()}
        return expected

    def _compare(self, output: str, actual: np.ndarray | None, expected: np.ndarray) -> float:
        """Record an output's difference or failure; return its relative error."""
        if actual is None:
            self._fail(output, "missing", "missing")
            return 0.0
        if actual.dtype != expected.dtype:
            self._fail(output, "type", f"{actual.dtype} where PyTorch gives {expected.dtype}")
        if actual.shape != expected.shape:
            self._fail(output, "shape", f"{actual.shape} where PyTorch gives {expected.shape}")
            return math.inf
        distance = Distance.between(actual, expected)
        self._distances[output] = self._distances.get(output, Distance()) + distance
        return distance.relative

    def _fail(self, output: str, kind: str, what: str) -> None:
        self._broken.setdefault((output, kind), Failure(self._name, output, what))


def measure(
    bundle: Bundle, reference: Mapping[str, Engine], clips: Sequence[Path], device: str = "cpu"
) -> Parity:
    """Measure the differences between a bundle and PyTorch on real clips.

    First every engine is compared on the inputs that it would get in PyTorch, then the readings of
    the two pipelines; both also adapted to a place.

    Args:
        reference: every engine in PyTorch, from `reference_engines`.
        device: of the bundle's engines; see `load_engines`.

    Raises:
        EngineError: an engine can't be loaded.
        MediaError: a clip can't be read.
    """
    engines = load_engines(bundle, device, described=False)
    compared = {name: ComparedEngine(name, engines[name], reference[name]) for name in ENGINES}
    expected = read_clips(Model.of(bundle, compared), clips)

    broken: list[Failure] = []
    for name, comparison in compared.items():
        broken += _check_tensors(name, bundle.manifest.engines[name], engines[name])
        broken += comparison.broken

    actual: tuple[Reading, ...] = ()
    if unusable := [name for name, comparison in compared.items() if not comparison.usable]:
        what = f"not compared, because {', '.join(unusable)} can't be used"
        broken.append(Failure("", "readings", what))
    else:
        try:
            actual = read_clips(Model.of(bundle, engines), clips, expected.places).readings
        except EngineError as error:
            broken.append(Failure("", "readings", f"not compared: {error}"))
    pairs = list(zip(actual, expected.readings, strict=True)) if actual else []
    return Parity(
        differences=tuple(d for comparison in compared.values() for d in comparison.differences),
        readings=len(pairs),
        same_label=sum(a.label == e.label for a, e in pairs),
        max_score=float(np.max([_score_error(a, e) for a, e in pairs], initial=0.0)),  # or NaN
        broken=tuple(broken),
        worst_calls={n: c.worst_call for n, c in compared.items() if c.worst_call is not None},
    )


def _check_tensors(name: str, declared: EngineFile, engine: Engine) -> list[Failure]:
    """Compare an engine's inputs and outputs with those in the manifest."""
    if not isinstance(engine, OnnxEngine):
        return []
    failures = []
    for pair in ((engine.inputs, declared.inputs), (engine.outputs, declared.outputs)):
        actual, expected = ({t.name: f"{t.dtype} {t.shape}" for t in tensors} for tensors in pair)
        for tensor in {**expected, **actual}:
            found, wanted = actual.get(tensor, "nothing"), expected.get(tensor, "nothing")
            if found != wanted:
                what = f"{found} where the manifest has {wanted}"
                failures.append(Failure(name, tensor, what))
    return failures


def _score_error(actual: Reading, expected: Reading) -> float:
    """Largest difference of a score; infinite if only one of the readings has scores."""
    if actual.scores is None or expected.scores is None:
        return 0.0 if actual.scores is expected.scores else math.inf
    pairs = [(score, expected.scores[label]) for label, score in actual.scores.items()]
    return float(np.max([abs(a - b) for a, b in pairs], initial=0.0))


@dataclass(frozen=True, eq=False)
class ClipReadings:
    """Readings of clips, followed by those in a place."""

    readings: tuple[Reading, ...]
    places: Places


@dataclass(frozen=True)
class Places:
    """A place of each arm; None of one that can't be adapted, or ran on nothing."""

    face: Place | None
    voice: Place | None


def read_clips(model: Model, clips: Sequence[Path], places: Places | None = None) -> ClipReadings:
    """Analyze clips, and then again as if adapted to a place.

    Args:
        places: by default the one that the clips themselves come from, in part.

    Raises:
        MediaError: a clip can't be read.
    """
    seen: list[np.ndarray] = []
    heard: list[np.ndarray] = []
    observing = replace(
        model,
        visual=replace(model.visual, observer=seen.append),
        audio=replace(model.audio, observer=heard.append),
    )
    readings = [r for clip in clips for r in Pipeline(observing).analyze(clip).windows]
    places = places or Places(place_of(seen), place_of(heard))
    there = model
    if places.face is not None:
        there = replace(there, visual=replace(there.visual, place=places.face))
    if places.voice is not None:
        there = replace(there, audio=replace(there.audio, place=places.voice))
    if there is not model:
        readings += [r for clip in clips for r in Pipeline(there).analyze(clip).windows]
    return ClipReadings(tuple(readings), places)


def place_of(windows: Sequence[np.ndarray]) -> Place | None:
    """The place of (n, width) observations each, half way from the training set; None of none."""
    if not windows:
        return None
    observations = np.concatenate(windows)
    shift = SHARE * observations.mean(0)
    scale = np.sqrt(SHARE * observations.var(0) + 1 - SHARE)
    return Place(shift.astype(np.float32), scale.astype(np.float32))
