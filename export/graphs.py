"""A model's engines as ONNX graphs: raw inputs, preprocessing inside."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from export.onnx_io import save_onnx, trace_module
from export.rewrites.gru import OnnxGru
from export.rewrites.uint8_inputs import take_shapes_after_cast
from export.rewrites.vit import simplify_vit
from mfer_edge.bundle import MAX_GRAPH_BYTES
from mfer_edge.errors import BundleError
from train.models.arms import GruArm, SequenceArm
from train.models.emotion_model import EmotionModel
from train.models.registry import MAX_STEPS
from train.models.vit import Vit

STEP = 320  # samples per step of the speech encoder
MAX_FACES = 1024  # in one call
MAX_FRAMES = 1024  # in one window
ARM_OUTPUTS = ("scores", "embedding", "observations")


class _EngineModule(nn.Module):
    """A module whose forward is a function that uses parts of another module."""

    def __init__(self, owner: nn.Module, forward: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.owner = owner
        self._forward_of_owner = forward

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        return self._forward_of_owner(*arrays)


@dataclass(frozen=True)
class Graph:
    """An engine to export: a module with named inputs and outputs."""

    module: nn.Module
    inputs: Mapping[str, Tensor]  # an example of each, by name
    outputs: tuple[str, ...]
    dynamic: Mapping[str, Mapping[int, tuple[str, int, int]]]
    """Dynamic dimensions of each input: name, smallest and largest size."""


def model_graphs(model: EmotionModel) -> dict[str, Graph]:
    """The model's engines, by their names in a bundle."""
    model = copy.deepcopy(model)
    for arm in (model.visual, model.audio):
        if isinstance(arm, GruArm):
            arm.gru = OnnxGru(arm.gru)  # type: ignore[assignment]
    if isinstance(model.face, Vit):
        simplify_vit(model.face)
    size = int(model.face.size)  # type: ignore[arg-type]
    face_width = int(model.face.width)  # type: ignore[arg-type]

    networks = model.networks()
    return {
        "face": Graph(
            _EngineModule(model, networks["face"]),
            {"faces": torch.zeros(3, 1, size, size, dtype=torch.uint8)},
            ("embedding",),
            {"faces": {0: ("faces", 1, MAX_FACES)}},
        ),
        "visual": Graph(
            _EngineModule(model, networks["visual"]),
            {"embeddings": torch.zeros(1, 7, face_width), **_place(model.visual)},
            ARM_OUTPUTS,
            {"embeddings": {1: ("frames", 1, MAX_FRAMES)}},
        ),
        "audio": Graph(
            _EngineModule(model, networks["audio"]),
            {"wave": torch.zeros(1, 24_000), **_place(model.audio)},
            ARM_OUTPUTS,
            {"wave": {1: ("samples", 4 * STEP, MAX_STEPS * STEP)}},
        ),
        "fusion": Graph(
            _EngineModule(model, networks["fusion"]),
            {
                "visual": torch.zeros(1, model.visual.width),
                "audio": torch.zeros(1, model.audio.width),
            },
            ("scores",),
            {},
        ),
    }


def _place(arm: SequenceArm) -> dict[str, Tensor]:
    """An arm's inputs for a place: here the training set."""
    return {"shift": torch.zeros(arm.observed), "scale": torch.ones(arm.observed)}


def to_onnx(graph: Graph, path: Path) -> None:
    """Export an engine in fp32 to a reproducible file.

    Raises:
        BundleError: its weights are too large for an ONNX file.
    """
    model = trace(graph)
    take_shapes_after_cast(model)
    save_onnx(model, path)


def trace(graph: Graph) -> onnx.ModelProto:
    """Trace an engine in fp32, with the exporter's metadata about each operator's module.

    Raises:
        BundleError: its weights are too large for an ONNX file.
    """
    shapes = {
        name: {
            dimension: torch.export.Dim(label, min=smallest, max=largest)
            for dimension, (label, smallest, largest) in graph.dynamic.get(name, {}).items()
        }
        for name in graph.inputs
    }
    dynamic = (tuple(shapes.values()),)
    program = trace_module(graph.module.eval(), graph.inputs, graph.outputs, dynamic)
    weights = (weight.const_value for weight in program.model.graph.initializers.values())
    size = sum(weight.nbytes for weight in weights if weight is not None)
    if size > MAX_GRAPH_BYTES:
        outputs = ", ".join(graph.outputs)
        raise BundleError(
            f"the engine with outputs {outputs} has weights of {size / 1e9:.1f} GB, and an ONNX "
            f"file holds {MAX_GRAPH_BYTES / 1e9:.1f} GB: it can't be exported"
        )
    return program.model_proto
