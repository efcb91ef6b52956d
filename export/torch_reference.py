"""PyTorch models as engines of the runtime: the reference for parity."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from export.assets import SILERO_VAD
from export.graphs import ARM_OUTPUTS
from export.mtcnn import load_mtcnn
from mfer_edge.engines.base import Engine
from mfer_edge.engines.onnx import OnnxEngine
from train.models.emotion_model import EmotionModel


class TorchEngine:
    """A PyTorch function behind the `Engine` protocol."""

    def __init__(self, outputs: tuple[str, ...], function: Callable[..., tuple[Tensor, ...]]):
        self._outputs = outputs
        self._function = function

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run the function without gradients."""
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        with torch.inference_mode():
            results = self._function(**tensors)
        return {name: result.numpy() for name, result in zip(self._outputs, results, strict=True)}


def reference_engines(model: EmotionModel) -> dict[str, Engine]:
    """Every engine of a bundle in PyTorch, except Silero VAD, which is published as ONNX."""
    model.eval()
    networks, mtcnn = model.networks(), load_mtcnn()
    detection = ("probability", "offsets")
    return {
        "vad": OnnxEngine(SILERO_VAD, ["CPUExecutionProvider"], threads=1),
        "pnet": TorchEngine(detection, mtcnn["pnet"]),
        "rnet": TorchEngine(detection, mtcnn["rnet"]),
        "onet": TorchEngine((*detection, "landmarks"), mtcnn["onet"]),
        "face": TorchEngine(("embedding",), networks["face"]),
        "visual": TorchEngine(ARM_OUTPUTS, networks["visual"]),
        "audio": TorchEngine(ARM_OUTPUTS, networks["audio"]),
        "fusion": TorchEngine(("scores",), networks["fusion"]),
    }
