"""What a manifest tells of exported networks: read from their files and their model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from export.checkpoint import Source
from export.graphs import STEP
from export.parity import ParityError
from export.precision.graph import parameters_of
from export.precision.macs import macs_by_type
from mfer_edge.bundle import file_sha256
from mfer_edge.engines.base import TensorSpec
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.errors import EngineError
from mfer_edge.manifest import Crop, EngineFile, Manifest
from mfer_edge.speech.vad import CHUNK, SAMPLE_RATE
from train.data.preprocess import CROP_SCALE, FRAME_RATE, MIN_SPEECH_S
from train.labels import EMOTIONS
from train.models.registry import MAX_STEPS

WINDOW_S, HOP_S = 4.0, 1.0
FACES = round(FRAME_RATE * WINDOW_S)  # of a window

SIZES = {
    "faces": 1,
    "frames": FACES,
    "samples": round(SAMPLE_RATE * WINDOW_S),
    "sequence_length": round(SAMPLE_RATE * WINDOW_S / CHUNK) + 1,
    "height": 181,  # of a 720p picture's largest level
    "width": 321,
    "n": 1,  # candidate
}
"""Of a window's worth, for what varies in the networks' inputs."""


def manifest_of(source: Source, files: Mapping[str, Path], counting: bool = True) -> Manifest:
    """Tell of a model and its exported networks, but of no parity yet.

    Args:
        files: every network's, by its name.
        counting: whether to count the networks' work too, for which each has to run once. No
            bundle can be saved without.

    Raises:
        ParityError: a network does not run.
    """
    return Manifest(
        name=source.model.preset.name,
        labels=EMOTIONS,
        trained=source.trained,
        window_s=WINDOW_S,
        hop_s=HOP_S,
        max_window_s=MAX_STEPS * STEP / SAMPLE_RATE,
        frame_rate=FRAME_RATE,
        min_speech_s=MIN_SPEECH_S,
        crop=Crop(int(source.model.face.size), CROP_SCALE),  # type: ignore[arg-type]
        engines={name: _engine_file(path, counting) for name, path in files.items()},
        plans={},
        weights=source.weights,
        parity={},
        notes=source.notes,
    )


def _engine_file(path: Path, counting: bool) -> EngineFile:
    model = onnx.load(path)
    engine = OnnxEngine(path, ["CPUExecutionProvider"], threads=1)
    return EngineFile(
        file=path.name,
        sha256=file_sha256(path),
        bytes=path.stat().st_size,
        parameters=parameters_of(model),
        opset=next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
        work=_window_work(model, engine.inputs, path.stem) if counting else {},
        inputs=tuple(engine.inputs),
        outputs=tuple(engine.outputs),
    )


def _window_work(model: onnx.ModelProto, inputs: list[TensorSpec], name: str) -> dict[str, int]:
    try:
        work = macs_by_type(model, {tensor.name: _example(tensor) for tensor in inputs})
    except EngineError as error:
        raise ParityError(f"{name}: does not run: {error}") from error
    # One face is counted, not a window's: all of them at once would take gigabytes.
    calls = FACES if any("faces" in tensor.shape for tensor in inputs) else 1
    return {kind: count * calls for kind, count in work.items()}


def _example(tensor: TensorSpec) -> np.ndarray:
    shape = [SIZES[size] if isinstance(size, str) else size for size in tensor.shape]
    return np.zeros(shape, tensor.dtype)
