"""A model's networks as ONNX graphs that take raw things and give scores."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from export.gru import OnnxGru
from export.onnx_file import OPSET, quiet_exporter, save_onnx
from train.arms import GruArm
from train.backbones import MAX_STEPS
from train.model import EmotionModel

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
    """Export a network in float32, with nothing in the file that depends on this machine."""
    shapes = {
        name: {
            dimension: torch.export.Dim(label, min=least, max=most)
            for dimension, (label, least, most) in graph.varying.get(name, {}).items()
        }
        for name in graph.inputs
    }
    with quiet_exporter():
        program = torch.onnx.export(
            graph.module.eval(),
            tuple(graph.inputs.values()),
            dynamo=True,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_shapes=(tuple(shapes.values()),),
            verbose=False,
        )
    assert program is not None
    save_onnx(program.model_proto, path)
