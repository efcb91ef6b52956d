"""One case on every backend in turn: latency, and difference from PyTorch."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from benchmarks.gpu.backends import Backend, attempt, first_line
from benchmarks.gpu.cases import Case
from export.parity import Call, Distance
from mfer_edge.bench.stats import LatencyStats
from mfer_edge.engines.base import Engine

ROUNDS = 4  # through all backends, so that a drift of the machine affects each of them
WARM_UP = 5  # first calls: compilers, tuners and captured graphs are done after them
LIMIT_S = 1.0  # of time for each backend in a round
MIN_RUNS = 2  # in a round, however long they take


@dataclass(frozen=True)
class CaseTime:
    """Latency of a case on one backend, and difference from PyTorch."""

    case: str
    batch: str
    backend: str
    precision: str
    device: LatencyStats | None  # with arrays that stay on the device
    whole: LatencyStats  # from the host's memory and back
    max_abs: float  # from PyTorch in fp32 on the CPU
    cosine: float
    note: str


def compare(
    case: Case,
    backends: Sequence[Backend],
    reference: Mapping[str, Engine],
    runs: int,
    not_run: dict[str, str],
) -> list[CaseTime]:
    """Time one case on every backend, in turn.

    Args:
        reference: the engines in PyTorch.
        runs: of each backend, at most.
        not_run: gets what failed, and why.
    """
    expected = {name: reference[name](**call) for name, call in case.calls.items()}
    timers: dict[Backend, _Timer] = {}
    for backend in backends:
        if case.calls.keys() <= {*backend.engines}:
            with attempt(f"{backend} ({case.name}, {case.batch})", not_run):
                timers[backend] = _Timer.open(backend, case, expected)
    for number in range(ROUNDS):
        for backend in list(timers):
            timer = timers.pop(backend)
            with attempt(f"{backend} ({case.name}, {case.batch})", not_run):
                timer.time(max(MIN_RUNS, runs // ROUNDS), WARM_UP if number == 0 else 1)
                timers[backend] = timer
    return [timers[backend].result(backend, case) for backend in backends if backend in timers]


@dataclass
class _Timer:
    """The calls of a case on one backend, and the times of each so far."""

    whole: Callable[[], object]
    device: Callable[[], object] | None
    distance: Distance
    note: str
    whole_s: list[float] = field(default_factory=list)
    device_s: list[float] = field(default_factory=list)

    @classmethod
    def open(cls, backend: Backend, case: Case, expected: Mapping[str, Call]) -> _Timer:
        runners = {name: backend.open(name) for name in case.calls}

        def whole() -> dict[str, dict[str, np.ndarray]]:
            return {name: runners[name](**call) for name, call in case.calls.items()}

        distance = Distance()
        for name, outputs in whole().items():
            for output, array in outputs.items():
                distance += Distance.between(array, expected[name][output])
        notes = [runner.note for runner in runners.values() if runner.note]
        bound = []
        try:
            bound = [runners[name].bind(call) for name, call in case.calls.items()]
        except Exception as error:  # drivers and runtimes share no narrower base
            notes.append(f"no time without copies: {first_line(error)}")

        def device() -> None:
            for call in bound:
                call()

        note = "; ".join(dict.fromkeys(notes))
        return cls(whole, device if bound else None, distance, note)

    def time(self, runs: int, warm_up: int) -> None:
        self.whole_s += time_calls(self.whole, runs, warm_up)
        if self.device:
            self.device_s += time_calls(self.device, runs, warm_up)

    def result(self, backend: Backend, case: Case) -> CaseTime:
        return CaseTime(
            case.name,
            case.batch,
            backend.name,
            backend.precision,
            LatencyStats.of(self.device_s) if self.device_s else None,
            LatencyStats.of(self.whole_s),
            self.distance.max_abs,
            self.distance.cosine,
            self.note,
        )


def time_calls(function: Callable[[], object], runs: int, warm_up: int) -> list[float]:
    """Call a function back to back, after a warm-up; return the seconds of each call.

    Without a pause between calls, unlike `mfer_edge.bench.stats.timed`: an idle GPU lowers its
    clock.
    """
    for _ in range(warm_up):
        function()
    runs_s: list[float] = []
    gc.disable()
    try:
        end_s = time.perf_counter() + LIMIT_S
        while len(runs_s) < runs and (len(runs_s) < MIN_RUNS or time.perf_counter() < end_s):
            start_s = time.perf_counter()
            function()
            runs_s.append(time.perf_counter() - start_s)
    finally:
        gc.enable()
    return runs_s
