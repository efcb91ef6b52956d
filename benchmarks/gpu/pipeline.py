"""The runtime's pipeline on a device: updates of a live session, and whole clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.gpu.cases import WindowInputs
from benchmarks.gpu.compare import WARM_UP, time_calls
from benchmarks.gpu.onnx_backends import onnx_runner
from export.calibration import Recorder
from export.parity import Call
from mfer_edge.arms import AudioArm, Fusion, Place, VisualArm
from mfer_edge.bench.latency import time_clip, time_updates
from mfer_edge.bench.nvml import nvidia_gpus
from mfer_edge.bench.stats import MIN_RUNS, LatencyStats, RunBudget
from mfer_edge.bundle import Bundle
from mfer_edge.cpu import core_count
from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import ACCELERATED, load_engines
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.replay import Replay

REPLAYS = 10  # of each call of a clip, for the time on the device


@dataclass(frozen=True)
class UpdateTime:
    """Time of one window in a live session, with the embeddings of earlier faces kept."""

    precision: str
    device: str
    faces: int  # new ones
    window: LatencyStats  # the engines on the new faces and a window full of speech
    device_s: float | None  # of that, the large engines' time without copies
    live: LatencyStats  # from the last sample pushed into a session to its reading
    gpu_bytes: int | None  # growth of the memory in use on all GPUs


@dataclass(frozen=True)
class ClipTime:
    """Time of a clip from its file to its readings."""

    clip: str
    duration_s: float
    precision: str
    device: str
    total: LatencyStats
    decode_s: float  # median time of decoding, in a thread of its own
    device_s: float | None  # all calls of the large engines, without copies


@dataclass(frozen=True)
class DevicePipeline:
    """A bundle's engines on a device, and the times of the pipeline on them.

    The device's time is that of the same calls of the large engines on arrays that are on the
    device already, until it is done; the rest of the whole time is the host's. TensorRT's engines
    can't be timed that way.
    """

    bundle: Bundle
    precision: str
    device: str  # `cpu`, `cuda` or `tensorrt`
    engines: Mapping[str, Engine]
    gpu_before: int | None  # bytes in use before the engines were loaded

    @classmethod
    def open(cls, bundle: Bundle, precision: str, device: str) -> DevicePipeline:
        """Load the engines.

        Raises:
            EngineError: the device is unavailable, or an engine does not load.
        """
        before = _gpu_memory()
        return cls(bundle, precision, device, load_engines(bundle, device, core_count()), before)

    @property
    def pipeline(self) -> Pipeline:
        """The runtime's pipeline on these engines."""
        return Pipeline(
            Model.of(self.bundle, self.engines, device=self.device, threads=core_count())
        )

    def time_update(self, clip: Path, inputs: WindowInputs, runs: int) -> UpdateTime:
        """Time the update of a window after a hop.

        Args:
            clip: for the live session.
            inputs: for the engines.

        Raises:
            MferError: the clip can't be read, or an engine failed.
        """
        calls: dict[str, list[Call]] = {
            "face": [{"faces": inputs.faces[-inputs.fresh :]}],
            "audio": [inputs.audio],
        }
        window_s = time_calls(lambda: _update(self.engines, inputs), runs, WARM_UP)
        footage = Replay.read(clip, self.bundle.manifest.frame_rate)
        live = time_updates(self.pipeline, footage, _budget(runs))
        after = _gpu_memory()
        known = self.gpu_before is not None and after is not None
        return UpdateTime(
            self.precision,
            self.device,
            inputs.fresh,
            LatencyStats.of(window_s),
            self._device_time(calls, runs),
            live["call.update"],
            after - self.gpu_before if known else None,  # type: ignore[operator]
        )

    def time_clip(self, clip: Path, runs: int) -> ClipTime:
        """Time a clip.

        Raises:
            MferError: it can't be read, or an engine failed.
        """
        recorders = {name: Recorder(self.engines[name]) for name in ACCELERATED}
        analysis = Pipeline(Model.of(self.bundle, {**self.engines, **recorders})).analyze(clip)
        times = time_clip(self.pipeline, clip, _budget(runs))
        calls = {name: recorder.calls for name, recorder in recorders.items()}
        return ClipTime(
            clip.name,
            analysis.duration_s,
            self.precision,
            self.device,
            times["clip.total"],
            times["clip.decode"].p50_s,
            self._device_time(calls, min(runs, REPLAYS)),
        )

    def _device_time(self, calls: Mapping[str, Sequence[Call]], runs: int) -> float | None:
        """Sum the medians of all calls without copies."""
        if self.device == "tensorrt":
            return None
        total_s = 0.0
        for name, given in calls.items():
            runner = onnx_runner(self.bundle.engine_path(name), self.device)
            for call in given:
                total_s += float(np.median(time_calls(runner.bind(call), runs, warm_up=2)))
        return total_s


def _update(engines: Mapping[str, Engine], inputs: WindowInputs) -> np.ndarray | None:
    """Run the engines as a session does when a window is complete."""
    place = place_in(inputs.sequence)
    visual = VisualArm(engines["face"], engines["visual"], place=place)
    fresh = visual.embed(inputs.faces[-inputs.fresh :, 0])
    embeddings = np.concatenate([inputs.sequence["embeddings"][0, inputs.fresh :], fresh])
    audio = AudioArm(engines["audio"], place_in(inputs.audio))(inputs.audio["wave"][0])
    return Fusion(engines["fusion"])(visual(embeddings), audio)


def place_in(call: Call) -> Place | None:
    """The place in a call of an arm's engine; None if it has no input for one."""
    return Place(call["shift"], call["scale"]) if "shift" in call else None


def _budget(runs: int) -> RunBudget:
    return RunBudget(min_runs=min(runs, MIN_RUNS), max_runs=runs)


def _gpu_memory() -> int | None:
    """Sum the memory in use on all GPUs, by all processes; None without a GPU."""
    gpus = nvidia_gpus()
    return sum(gpu.used_bytes or 0 for gpu in gpus) if gpus else None
