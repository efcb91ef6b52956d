"""One network after the other on every backend: how long it takes, how far it is from PyTorch."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from export.parity import Call, Distance
from mfer_edge.bench.stats import LatencyStats
from mfer_edge.engines.base import Engine
from mfer_edge.errors import MferError
from mfer_edge.manifest import MODEL_ENGINES, Manifest
from mfer_edge.speech.vad import SAMPLE_RATE

ROUNDS = 4  # through all backends, so that a drift of the machine meets each of them
WARM_UP = 5  # first calls: compilers, tuners, and captured graphs have all done their work by then
LIMIT_S = 1.0  # of time for each backend in a round
LEAST = 2  # runs in a round, however long they take


class Runner(Protocol):
    """A network on one backend."""

    note: str  # what a reader must know of it

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run it as the runtime does: arrays come from the host, and results go back there."""
        ...

    def bind(self, call: Call) -> Callable[[], object]:
        """Put a call's arrays on the device.

        Returns:
            Runs the network on them, leaves the results there, and waits until it is done.

        Raises:
            Exception: of any type: this backend can't keep copies out.
        """
        ...


@dataclass(frozen=True)
class Backend:
    """Something that runs networks."""

    name: str
    precision: str
    open: Callable[[str], Runner]  # by the network's name
    networks: tuple[str, ...] = MODEL_ENGINES  # that it has

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


@dataclass(frozen=True)
class Case:
    """A piece of work that every backend is given."""

    name: str
    batch: str
    calls: Mapping[str, Call]  # by network, one after the other


@dataclass(frozen=True)
class Row:
    """How one backend did it."""

    case: str
    batch: str
    backend: str
    precision: str
    device: LatencyStats | None  # with arrays that stay on the device
    whole: LatencyStats  # from the host's memory and back
    max_abs: float  # from PyTorch in single precision on the CPU
    cosine: float
    note: str


@dataclass(frozen=True)
class Material:
    """What a window holds, made of what was seen and heard in clips."""

    faces: np.ndarray  # (n, 1, size, size) uint8
    wave: np.ndarray  # (1, samples) float32: speech without what lies between
    embeddings: np.ndarray  # (1, n, width) float32, of those faces
    states: Call  # of both arms, what fusion takes
    fresh: int  # of the faces, those that are new to a window

    @classmethod
    def of(cls, recorded: Mapping[str, Sequence[Call]], manifest: Manifest) -> Material:
        """Fill a window with the faces and the speech that networks were given, again and again.

        Args:
            recorded: the calls of a bundle's networks.

        Raises:
            MferError: the clips hold no face or no speech.
        """
        for name in MODEL_ENGINES:
            if not recorded[name]:
                raise MferError(
                    f"the clips gave the network {name} nothing to do: name one with --clip that "
                    "shows a face and holds speech"
                )
        frames = round(manifest.window_s * manifest.frame_rate)
        faces = np.concatenate([call["faces"] for call in recorded["face"]])
        embeddings = recorded["visual"][0]["embeddings"][0]
        wave = np.concatenate([call["wave"][0] for call in recorded["audio"]])
        return cls(
            np.resize(faces, (frames, *faces.shape[1:])),
            np.resize(wave, (1, round(manifest.window_s * SAMPLE_RATE))),
            np.resize(embeddings, (1, frames, embeddings.shape[1])),
            recorded["fusion"][0],
            round(manifest.hop_s * manifest.frame_rate),
        )

    def cases(self) -> list[Case]:
        """Give the work to compare backends on."""
        frames, seconds = len(self.faces), self.wave.shape[1] / SAMPLE_RATE
        small = {"visual": {"embeddings": self.embeddings}, "fusion": self.states}
        return [
            Case("face", "1 face", {"face": {"faces": self.faces[:1]}}),
            Case("face", f"{frames} faces", {"face": {"faces": self.faces}}),
            Case("audio", f"{seconds:g} s", {"audio": {"wave": self.wave}}),
            Case("visual + fusion", f"{frames} faces", small),
        ]


@contextmanager
def attempt(part: str, not_run: dict[str, str]) -> Iterator[None]:
    """Go on with the rest where a part fails, and take down why."""
    try:
        yield
    except Exception as error:  # drivers, compilers and runtimes share no narrower base
        not_run.setdefault(part, one_line(error))


def one_line(error: Exception) -> str:
    """Give an error's first line, or its type where it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def compare(
    case: Case,
    backends: Sequence[Backend],
    reference: Mapping[str, Engine],
    runs: int,
    not_run: dict[str, str],
) -> list[Row]:
    """Do one piece of work on every backend, in turns.

    Args:
        reference: the networks in PyTorch.
        runs: of each backend, at most.
        not_run: takes what failed, and why.
    """
    expected = {name: reference[name](**call) for name, call in case.calls.items()}
    ready: dict[Backend, _Ready] = {}
    for backend in backends:
        if case.calls.keys() <= {*backend.networks}:
            with attempt(f"{backend} ({case.name}, {case.batch})", not_run):
                ready[backend] = _Ready.open(backend, case, expected)
    for number in range(ROUNDS):
        for backend in list(ready):
            one = ready.pop(backend)
            with attempt(f"{backend} ({case.name}, {case.batch})", not_run):
                one.time(max(LEAST, runs // ROUNDS), WARM_UP if number == 0 else 1)
                ready[backend] = one
    return [ready[backend].row(backend, case) for backend in backends if backend in ready]


@dataclass
class _Ready:
    """A backend that has done a case once, rightly or not."""

    whole: Callable[[], object]
    device: Callable[[], object] | None
    distance: Distance
    note: str
    whole_s: list[float] = field(default_factory=list)
    device_s: list[float] = field(default_factory=list)

    @classmethod
    def open(cls, backend: Backend, case: Case, expected: Mapping[str, Call]) -> _Ready:
        runners = {name: backend.open(name) for name in case.calls}

        def whole() -> dict[str, dict[str, np.ndarray]]:
            return {name: runners[name](**call) for name, call in case.calls.items()}

        distance = Distance()
        for name, outputs in whole().items():
            for output, array in outputs.items():
                distance += Distance.between(array, expected[name][output])
        notes = [runner.note for runner in runners.values() if runner.note]
        works = []
        try:
            works = [runners[name].bind(call) for name, call in case.calls.items()]
        except Exception as error:  # drivers and runtimes share no narrower base
            notes.append(f"no time without copies: {one_line(error)}")

        def device() -> None:
            for work in works:
                work()

        note = "; ".join(dict.fromkeys(notes))
        return cls(whole, device if works else None, distance, note)

    def time(self, runs: int, warm_up: int) -> None:
        self.whole_s += steady(self.whole, runs, warm_up)
        if self.device:
            self.device_s += steady(self.device, runs, warm_up)

    def row(self, backend: Backend, case: Case) -> Row:
        return Row(
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


def steady(work: Callable[[], object], runs: int, warm_up: int) -> list[float]:
    """Call something back to back, after a warm-up: the seconds that each call took.

    Without a pause between calls, unlike `mfer_edge.bench.stats.timed`: a GPU that waits slows its
    clock.
    """
    for _ in range(warm_up):
        work()
    runs_s: list[float] = []
    gc.disable()
    try:
        end_s = time.perf_counter() + LIMIT_S
        while len(runs_s) < runs and (len(runs_s) < LEAST or time.perf_counter() < end_s):
            start_s = time.perf_counter()
            work()
            runs_s.append(time.perf_counter() - start_s)
    finally:
        gc.enable()
    return runs_s
