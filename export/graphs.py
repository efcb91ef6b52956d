"""A model's networks as ONNX graphs that take raw things and give scores."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from export.onnx_io import save_onnx, traced
from export.rewrites.fold_batchnorm import fold_batchnorm
from export.rewrites.gru import OnnxGru
from export.rewrites.vit import make_lean
from mfer_edge.bundle import MAX_GRAPH_BYTES
from mfer_edge.errors import BundleError
from train.models.arms import GruArm
from train.models.emotion_model import EmotionModel
from train.models.registry import MAX_STEPS
from train.models.vit import Vit

STEP = 320  # samples in a step of the speech encoder
MAX_FACES = 1024  # in one call
MAX_FRAMES = 1024  # in one window


class _Calls(nn.Module):
    """A module whose forward is a function of another module's parts."""

    def __init__(self, owner: nn.Module, forward: Callable[..., tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.owner = owner
        self._forward_of_owner = forward

    def forward(self, *arrays: Tensor) -> tuple[Tensor, ...]:
        return self._forward_of_owner(*arrays)


@dataclass(frozen=True)
class Graph:
    """A network to export: a function of named arrays that gives named arrays."""

    module: nn.Module
    inputs: Mapping[str, Tensor]  # by name, an example each
    outputs: tuple[str, ...]
    varying: Mapping[str, Mapping[int, tuple[str, int, int]]]
    """For each input, its dimensions that vary: their name, least and greatest size."""


def model_graphs(model: EmotionModel) -> dict[str, Graph]:
    """A model's own networks, by the names that a bundle gives them."""
    model = copy.deepcopy(model)
    for arm in (model.visual, model.audio):
        if isinstance(arm, GruArm):
            arm.gru = OnnxGru(arm.gru)  # type: ignore[assignment]
    if isinstance(model.face, Vit):
        make_lean(model.face)
    size = int(model.face.size)  # type: ignore[arg-type]
    face_width = int(model.face.width)  # type: ignore[arg-type]

    networks = model.networks()
    return {
        "face": Graph(
            _Calls(model, networks["face"]),
            {"faces": torch.zeros(3, 1, size, size, dtype=torch.uint8)},
            ("embedding",),
            {"faces": {0: ("faces", 1, MAX_FACES)}},
        ),
        "visual": Graph(
            _Calls(model, networks["visual"]),
            {"embeddings": torch.zeros(1, 7, face_width)},
            ("scores", "embedding"),
            {"embeddings": {1: ("frames", 1, MAX_FRAMES)}},
        ),
        "audio": Graph(
            _Calls(model, networks["audio"]),
            {"wave": torch.zeros(1, 24_000)},
            ("scores", "embedding"),
            {"wave": {1: ("samples", 4 * STEP, MAX_STEPS * STEP)}},
        ),
        "fusion": Graph(
            _Calls(model, networks["fusion"]),
            {
                "visual": torch.zeros(1, model.visual.width),
                "audio": torch.zeros(1, model.audio.width),
            },
            ("scores",),
            {},
        ),
    }


def to_onnx(graph: Graph, path: Path) -> None:
    """Export a network in float32, with nothing in the file that depends on this machine.

    Raises:
        BundleError: it is too large for a file.
    """
    model = annotated(graph)
    fold_batchnorm(model)
    save_onnx(model, path)


def annotated(graph: Graph) -> onnx.ModelProto:
    """Export a network in float32, with the exporter's notes about where each operator is from.

    Raises:
        BundleError: it is too large for a file.
    """
    shapes = {
        name: {
            dimension: torch.export.Dim(label, min=least, max=most)
            for dimension, (label, least, most) in graph.varying.get(name, {}).items()
        }
        for name in graph.inputs
    }
    program = traced(graph.module.eval(), graph.inputs, graph.outputs, (tuple(shapes.values()),))
    weights = (weight.const_value for weight in program.model.graph.initializers.values())
    size = sum(weight.nbytes for weight in weights if weight is not None)
    if size > MAX_GRAPH_BYTES:
        outputs = ", ".join(graph.outputs)
        raise BundleError(
            f"the network of {outputs} has weights of {size / 1e9:.1f} GB, and an ONNX file holds "
            f"{MAX_GRAPH_BYTES / 1e9:.1f} GB: it can't be exported"
        )
    return program.model_proto
