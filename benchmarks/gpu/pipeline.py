"""The whole chain on a device: a live session's update and whole clips, host and device apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.gpu.networks import WARM_UP, Material, steady
from benchmarks.gpu.onnx import onnx_runner
from export.calibration import Recorder
from export.parity import Call
from mfer_edge.arms import AudioArm, Fusion, VisualArm
from mfer_edge.bench.latency import time_clip, time_updates
from mfer_edge.bench.nvml import nvidia_gpus
from mfer_edge.bench.stats import MIN_RUNS, LatencyStats, RunBudget
from mfer_edge.bundle import Bundle
from mfer_edge.cpu import core_count
from mfer_edge.engines.base import Engine
from mfer_edge.model import ACCELERATED, Model, load_engines
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.replay import Replay

REPLAYS = 10  # of each call of a clip, for the time on the device


@dataclass(frozen=True)
class Update:
    """What a window takes in a live session, the features of its earlier faces kept."""

    precision: str
    device: str
    faces: int  # new ones
    window: LatencyStats  # the networks on the new faces and a window full of speech
    device_s: float | None  # of that, the large networks' time without copies
    live: LatencyStats  # from the last sample pushed into a session to its reading
    gpu_bytes: int | None  # by which the use of the GPUs' memory grew


@dataclass(frozen=True)
class ClipRow:
    """What a clip takes from its file to its readings."""

    clip: str
    duration_s: float
    precision: str
    device: str
    total: LatencyStats
    decode_s: float  # median of the time that decoding takes, in a thread of its own
    device_s: float | None  # all calls of the large networks, without copies


@dataclass(frozen=True)
class Chain:
    """A bundle's networks on a device, ready for everything that the runtime does with them.

    The device's time is that of the same calls of the large networks on arrays that are on the
    device already, until it is done; what is left of the whole is the host's. TensorRT's engines
    can't be timed so.
    """

    bundle: Bundle
    precision: str
    device: str  # `cpu`, `cuda` or `tensorrt`
    networks: Mapping[str, Engine]
    gpu_before: int | None  # bytes in use, before there were any networks

    @classmethod
    def open(cls, bundle: Bundle, precision: str, device: str) -> Chain:
        """Load the networks.

        Raises:
            EngineError: the device is not to be had, or a network does not load.
        """
        before = _gpu_memory()
        return cls(bundle, precision, device, load_engines(bundle, device, core_count()), before)

    @property
    def pipeline(self) -> Pipeline:
        """The runtime's own pipeline on these networks."""
        return Pipeline(
            Model.of(self.bundle, self.networks, device=self.device, threads=core_count())
        )

    def time_update(self, clip: Path, material: Material, runs: int) -> Update:
        """Time what comes with every hop.

        Args:
            clip: for the live session.
            material: a window's, for the networks.

        Raises:
            MferError: the clip can't be read, or a network gave up.
        """
        calls = {
            "face": [{"faces": material.faces[-material.fresh :]}],
            "audio": [{"wave": material.wave}],
        }
        window_s = steady(lambda: _update(self.networks, material), runs, WARM_UP)
        footage = Replay.read(clip, self.bundle.manifest.frame_rate)
        live = time_updates(self.pipeline, footage, _effort(runs))
        after = _gpu_memory()
        known = self.gpu_before is not None and after is not None
        return Update(
            self.precision,
            self.device,
            material.fresh,
            LatencyStats.of(window_s),
            self._device_time(calls, runs),
            live["call.update"],
            after - self.gpu_before if known else None,  # type: ignore[operator]
        )

    def time_clip(self, clip: Path, runs: int) -> ClipRow:
        """Time a clip.

        Raises:
            MferError: it can't be read, or a network gave up.
        """
        recorders = {name: Recorder(self.networks[name]) for name in ACCELERATED}
        analysis = Pipeline(Model.of(self.bundle, {**self.networks, **recorders})).analyze(clip)
        times = time_clip(self.pipeline, clip, _effort(runs))
        calls = {name: recorder.calls for name, recorder in recorders.items()}
        return ClipRow(
            clip.name,
            analysis.duration_s,
            self.precision,
            self.device,
            times["clip.total"],
            times["clip.decode"].p50_s,
            self._device_time(calls, min(runs, REPLAYS)),
        )

    def _device_time(self, calls: Mapping[str, Sequence[Call]], runs: int) -> float | None:
        """Add up the medians of calls without copies."""
        if self.device == "tensorrt":
            return None
        total_s = 0.0
        for name, given in calls.items():
            runner = onnx_runner(self.bundle.engine_path(name), self.device)
            for call in given:
                total_s += float(np.median(steady(runner.bind(call), runs, warm_up=2)))
        return total_s


def _update(networks: Mapping[str, Engine], material: Material) -> np.ndarray | None:
    """Do what a session does when a window is complete."""
    visual = VisualArm(networks["face"], networks["visual"])
    fresh = visual.embed(material.faces[-material.fresh :, 0])
    embeddings = np.concatenate([material.embeddings[0, material.fresh :], fresh])
    heard = AudioArm(networks["audio"])(material.wave[0])
    return Fusion(networks["fusion"])(visual(embeddings), heard)


def _effort(runs: int) -> RunBudget:
    return RunBudget(min_runs=min(runs, MIN_RUNS), max_runs=runs)


def _gpu_memory() -> int | None:
    """Memory in use on all GPUs, by everybody; None without one."""
    gpus = nvidia_gpus()
    return sum(gpu.used_bytes or 0 for gpu in gpus) if gpus else None
