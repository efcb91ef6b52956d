"""Comparison of precisions, numbers of threads and batch sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mfer_edge.bench.stats import LatencyStats, RunBudget, speedup, timed
from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import load_engines
from mfer_edge.manifest import ENGINES
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline

BATCHES = (1, 5, 20)  # faces per call: those of one frame, of a second, of a window
ROUNDS = 2  # through all settings, so that a drift of the machine affects all of them
SWEEP_BUDGET = RunBudget(max_runs=30, limit_s=1.5)  # per setting and round
END_TO_END = "end to end"


@dataclass(frozen=True)
class Setting:
    """What is timed, and how it runs. The field names are those of the JSON, schema 1."""

    bundle: str  # folder as it was given, or name of the bundle in the package
    precision: str
    threads: int
    network: str  # name of the engine, or END_TO_END for the whole analysis of the clip
    batch: int  # faces per call; 1 for other engines


@dataclass(frozen=True)
class SweepResult:
    """Latency of one setting."""

    setting: Setting
    times: LatencyStats  # per face for batches of faces, else per call or per clip


@dataclass(frozen=True)
class TimedCall:
    """A call to time."""

    network: str  # as in `Setting`
    batch: int
    call: Callable[[], object]


class RecordingEngine:
    """Engine that keeps its latest inputs."""

    def __init__(self, engine: Engine) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._engine = engine

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run the engine."""
        self.arrays = arrays
        return self._engine(**arrays)


def sweep(
    bundles: Sequence[Path | None],
    device: str,
    clip: Path,
    threads: Sequence[int],
    budget: RunBudget = SWEEP_BUDGET,
    print_step: Callable[[str], None] = lambda line: None,
) -> tuple[SweepResult, ...]:
    """Time every engine and the whole analysis of a clip in every setting.

    Each engine is timed on the inputs of its last call in the analysis of the clip.

    Args:
        bundles: the first is what the others are compared with; None is the one in the package.
        device: of the large engines: `cpu`, `cuda` or `tensorrt`.
        threads: numbers of CPU threads to try.
        budget: for each setting, in each of `ROUNDS`.
        print_step: called with a line before each step.

    Raises:
        MferError: a bundle, the device or the clip can't be used.
    """
    opened = [(bundle, Bundle.open(bundle)) for bundle in bundles]
    runs_s: dict[Setting, list[float]] = {}
    for number in range(ROUNDS):
        for path, bundle in opened:
            name = bundle.manifest.name if path is None else str(path)
            for count in threads:
                print_step(f"round {number + 1} of {ROUNDS}: {name}, {threads_text(count)}")
                engines = load_engines(bundle, device, count)
                for timed_call in _calls(bundle, engines, clip):
                    network, batch = timed_call.network, timed_call.batch
                    setting = Setting(name, bundle.manifest.precision, count, network, batch)
                    calls_s = timed(timed_call.call, budget)
                    runs_s.setdefault(setting, []).extend(call_s / batch for call_s in calls_s)
    return tuple(SweepResult(setting, LatencyStats.of(runs)) for setting, runs in runs_s.items())


def _calls(bundle: Bundle, engines: Mapping[str, Engine], clip: Path) -> Iterator[TimedCall]:
    recording = {name: RecordingEngine(engine) for name, engine in engines.items()}
    Pipeline(Model.of(bundle, recording)).analyze(clip)
    for name in ENGINES:
        arrays = recording[name].arrays
        if name == "face" and arrays:
            faces = arrays["faces"]
            for batch in BATCHES:
                resized = np.resize(faces, (batch, *faces.shape[1:]))
                yield TimedCall(name, batch, partial(engines[name], faces=resized))
        elif arrays:  # else the clip has no input for this engine
            yield TimedCall(name, 1, partial(engines[name], **arrays))
    yield TimedCall(END_TO_END, 1, partial(Pipeline(Model.of(bundle, engines)).analyze, clip))


def verdicts(results: Sequence[SweepResult]) -> tuple[str, ...]:
    """Sentences on which precision, number of threads and batch size pay."""
    if not results:
        return ()
    times = {result.setting: result.times for result in results}
    whole = [setting for setting in times if setting.network == END_TO_END]
    most = max(setting.threads for setting in whole)
    base, *others = [setting for setting in whole if setting.threads == most]
    said = []
    for other in others:
        said.append(
            f"{other.precision} ({other.bundle}) against {base.precision} ({base.bundle}), "
            f"{threads_text(most)}: {_verdict(times[base], times[other], 'end to end')}"
        )
    fewest, *more = [setting for setting in whole if setting.bundle == base.bundle]
    for other in more:
        said.append(
            f"{threads_text(other.threads)} against {fewest.threads}: "
            f"{_verdict(times[fewest], times[other], 'end to end')}"
        )
    faces = [
        setting
        for setting in times
        if (setting.bundle, setting.threads, setting.network) == (base.bundle, most, "face")
    ]
    for other in faces[1:]:
        said.append(
            f"{other.batch} faces in a call against {faces[0].batch}: "
            f"{_verdict(times[faces[0]], times[other], 'for each face')}"
        )
    return tuple(said)


def _verdict(before: LatencyStats, after: LatencyStats, what: str) -> str:
    found = speedup(before, after)
    if found is None:
        return "too few runs to tell"
    speed = f"{found.ratio:.2f}x as fast {what}"
    if found.verdict == "same":
        return f"not worth it here ({speed}, within noise)"
    return f"{'worth it' if found.verdict == 'faster' else 'a loss here'} ({speed})"


def threads_text(count: int) -> str:
    """Number of threads in words."""
    return "1 thread" if count == 1 else f"{count} threads"
