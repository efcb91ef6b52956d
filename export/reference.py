"""A model in PyTorch behind the runtime's own chain: what an export is measured by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from export.assets import SILERO_VAD
from export.mtcnn import load_mtcnn
from mfer_edge.engine import Engine, Network
from train.model import EmotionModel


class TorchNetwork:
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


def reference_networks(model: EmotionModel) -> dict[str, Network]:
    """Every network of a bundle in PyTorch, but for Silero's, which is published as ONNX."""
    model.eval()
    networks, mtcnn = model.networks(), load_mtcnn()
    judgement = ("probability", "offsets")
    return {
        "vad": Engine(SILERO_VAD, ["CPUExecutionProvider"], threads=1),
        "pnet": TorchNetwork(judgement, mtcnn["pnet"]),
        "rnet": TorchNetwork(judgement, mtcnn["rnet"]),
        "onet": TorchNetwork((*judgement, "landmarks"), mtcnn["onet"]),
        "face": TorchNetwork(("embedding",), networks["face"]),
        "visual": TorchNetwork(("scores", "embedding"), networks["visual"]),
        "audio": TorchNetwork(("scores", "embedding"), networks["audio"]),
        "fusion": TorchNetwork(("scores",), networks["fusion"]),
    }
