"""A model in PyTorch behind the runtime's own chain: what an export is measured by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from export.assets import SILERO_VAD
from export.mtcnn import load_mtcnn
from mfer_edge.engines.base import Engine
from mfer_edge.engines.onnx import OnnxEngine
from train.models.emotion_model import EmotionModel


class TorchEngine:
    """A PyTorch function with an engine's manners: named arrays in, named arrays out."""

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
    """Every network of a bundle in PyTorch, but for Silero's, which is published as ONNX."""
    model.eval()
    networks, mtcnn = model.networks(), load_mtcnn()
    judgement = ("probability", "offsets")
    return {
        "vad": OnnxEngine(SILERO_VAD, ["CPUExecutionProvider"], threads=1),
        "pnet": TorchEngine(judgement, mtcnn["pnet"]),
        "rnet": TorchEngine(judgement, mtcnn["rnet"]),
        "onet": TorchEngine((*judgement, "landmarks"), mtcnn["onet"]),
        "face": TorchEngine(("embedding",), networks["face"]),
        "visual": TorchEngine(("scores", "embedding"), networks["visual"]),
        "audio": TorchEngine(("scores", "embedding"), networks["audio"]),
        "fusion": TorchEngine(("scores",), networks["fusion"]),
    }
