"""The whole chain for a clip: a bundle's networks, and a session fed from a file."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mfer_edge.arms import AudioArm, Fusion, VisualArm
from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.engines.malloc import memory_returned
from mfer_edge.engines.onnx import OnnxEngine, providers_for
from mfer_edge.engines.tensorrt import TensorRtEngine
from mfer_edge.engines.tensorrt_target import check_plans, this_target
from mfer_edge.faces.finder import FIND_WITHIN_S
from mfer_edge.faces.mtcnn import FaceDetector
from mfer_edge.manifest import ENGINES, Manifest

ACCELERATED = ("face", "audio")
"""Networks that gain from a second CPU thread, and from leaving the CPU. A call of the others takes
less than the way to a GPU and back, and pictures come to the detector's in a new size each."""


def load_engines(bundle: Bundle, device: str = "cpu", threads: int = 1) -> dict[str, Engine]:
    """Load every network of a bundle, by name.

    Args:
        device: where the large ones run: `cpu`, `cuda` or `tensorrt`.
        threads: CPU threads for each of them.

    Raises:
        EngineError: the device is not to be had, or a network does not load.
    """
    providers, cpu = providers_for(device), providers_for("cpu")
    if device == "tensorrt":
        check_plans(bundle, ACCELERATED, this_target())

    def load(name: str) -> Engine:
        if name not in ACCELERATED:
            return OnnxEngine(bundle.engine_path(name), cpu, threads=1, large=False)
        if device == "tensorrt":
            plan = bundle.manifest.plans[name]
            return TensorRtEngine(bundle.folder / plan.file, plan)
        return OnnxEngine(bundle.engine_path(name), providers, threads)

    with (
        memory_returned(bundle.manifest.weights_bytes),
        ThreadPoolExecutor(len(ACCELERATED)) as pool,
    ):
        side_by_side = device == "cpu" and threads > 1  # on a GPU nobody has tried it
        loaded = (pool.map if side_by_side else map)(load, ENGINES)
        return dict(zip(ENGINES, loaded, strict=True))


@dataclass(frozen=True)
class Model:
    """A bundle's parts, ready to run."""

    manifest: Manifest
    vad: Engine
    detector: FaceDetector
    visual: VisualArm
    audio: AudioArm
    fusion: Fusion
    find_within_s: float = FIND_WITHIN_S  # the longest that a new face may go unseen
