"""A synthetic benchmark result."""

from __future__ import annotations

from mfer_edge.bench.machine import (
    GpuInfo,
    Machine,
)
from mfer_edge.bench.result import (
    AlgorithmicLatency,
    BenchResult,
    MeasuredBundle,
    MeasuredClip,
)
from mfer_edge.bench.sensors import SensorStats
from mfer_edge.bench.stats import LatencyStats
from mfer_edge.bench.streams import Trial
from mfer_edge.bench.sweep import Setting, SweepResult

CLIP = LatencyStats.of([0.4] * 20)
BENCH = BenchResult(
    scenario="single",
    bundle=MeasuredBundle("compact", "int8+fp32", {"int8": 0.4, "fp32": 0.6}, True, "ab" * 32),
    clip=MeasuredClip("face.mp4", "cd" * 32, 1000, 4.0, "h264", 640, 360, "aac"),
    machine=Machine(
        system="Linux 6 aarch64",
        cpu="Cortex",
        cores=6,
        memory_bytes=8_000_000_000,
        governor="schedutil",
        gpus=(GpuInfo("Orin", "540", None),),
        board="Jetson Orin Nano",
        power_mode="25W",
        versions={"mfer-edge": "0.1.0", "onnxruntime": "1.32.0"},
    ),
    device="cpu",
    providers=("CPUExecutionProvider",),
    threads=6,
    commit="abc1234",
    waits=AlgorithmicLatency(4.0, 1.0, 4.5, 0.2, 0.032),
    times={"clip.decode": LatencyStats.of([0.1, 0.2, 0.3]), "clip.total": CLIP},
    trials=(Trial(4, 40, None, None, 1.0, True), Trial(2, 20, 0.25, 0.5, 1.0, False)),
    cells=(SweepResult(Setting("compact", "fp32", 1, "face", 20), LatencyStats.of([0.001])),),
    verdicts=("int8 is not worth it here",),
    memory_bytes=237_000_000,
    gpu_bytes=None,
    others=0.01,
    gauges=(SensorStats("VDD_IN", "W", 4.0, 6.5, 9.0),),
    warnings=("the machine is busy",),
)
