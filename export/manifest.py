"""Creation of a manifest from a model and its exported engine files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from export.checkpoint import Source, model_identity
from export.graphs import STEP
from export.parity import ParityError
from export.precision.graph import parameters_of
from export.precision.macs import macs_by_type
from mfer_edge.bundle import Bundle, file_sha256
from mfer_edge.engines.base import TensorSpec
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.errors import EngineError
from mfer_edge.manifest import Crop, EngineFile, Manifest
from mfer_edge.speech.vad import CHUNK, SAMPLE_RATE
from train.data.preprocess import CROP_SCALE, FRAME_RATE, MIN_SPEECH_S
from train.models.base import has_two_views
from train.models.registry import MAX_STEPS

WINDOW_S, HOP_S = 4.0, 1.0
FACES_PER_WINDOW = round(FRAME_RATE * WINDOW_S)

WINDOW_SIZES = {
    "faces": 1,
    "frames": FACES_PER_WINDOW,
    "samples": round(SAMPLE_RATE * WINDOW_S),
    "sequence_length": round(SAMPLE_RATE * WINDOW_S / CHUNK) + 1,
    "height": 181,  # of the largest pyramid level of a 720p frame
    "width": 321,
    "n": 1,  # candidate
}
"""Sizes of the dynamic dimensions of the engines' inputs for one window, to count MACs with."""


def create_manifest(
    source: Source, files: Mapping[str, Path], *, count_macs: bool = True
) -> Manifest:
    """Describe a model and its exported engines, without parity figures.

    Args:
        files: every engine's file, by name.
        count_macs: whether to count the engines' MACs, for which each has to run once. A bundle
            can't be saved without.

    Raises:
        ParityError: an engine does not run.
    """
    return Manifest(
        name=source.model.preset.name,
        model=model_identity(source.model),
        labels=source.model.preset.labels,
        trained=source.trained,
        window_s=WINDOW_S,
        hop_s=HOP_S,
        max_window_s=MAX_STEPS * STEP / SAMPLE_RATE,
        frame_rate=FRAME_RATE,
        min_speech_s=MIN_SPEECH_S,
        crop=Crop(
            int(source.model.face.size),  # type: ignore[arg-type]
            CROP_SCALE,
            mirror=has_two_views(source.model.face),
        ),
        engines={name: _engine_file(path, count_macs) for name, path in files.items()},
        plans={},
        weights=source.weights,
        parity={},
        approximations=source.approximations,
        notes=source.notes,
    )


def unverified_bundle(files: Mapping[str, Path], manifest: Manifest) -> Bundle:
    """A bundle of engine files in a work folder, to run before it is checked and saved."""
    return Bundle(files["face"].parent, manifest, sha256="")


def _engine_file(path: Path, count_macs: bool) -> EngineFile:
    model = onnx.load(path)
    engine = OnnxEngine(path, ["CPUExecutionProvider"], threads=1)
    return EngineFile(
        file=path.name,
        sha256=file_sha256(path),
        bytes=path.stat().st_size,
        parameters=parameters_of(model),
        opset=next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx")),
        macs=_window_macs(model, engine.inputs, path.stem) if count_macs else {},
        inputs=tuple(engine.inputs),
        outputs=tuple(engine.outputs),
    )


def _window_macs(model: onnx.ModelProto, inputs: list[TensorSpec], name: str) -> dict[str, int]:
    """MACs for one window, by type."""
    try:
        macs = macs_by_type(model, {tensor.name: _zeros(tensor) for tensor in inputs})
    except EngineError as error:
        raise ParityError(f"{name}: does not run: {error}") from error
    # One face is counted and multiplied: all faces of a window at once would need gigabytes.
    calls = FACES_PER_WINDOW if any("faces" in tensor.shape for tensor in inputs) else 1
    return {kind: count * calls for kind, count in macs.items()}


def _zeros(tensor: TensorSpec) -> np.ndarray:
    shape = [WINDOW_SIZES[size] if isinstance(size, str) else size for size in tensor.shape]
    return np.zeros(shape, tensor.dtype)
