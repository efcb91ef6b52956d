"""The device that a network is trained on."""

from __future__ import annotations

import torch

from train.errors import TrainError


def select_device(name: str) -> torch.device:
    """Give "cpu", "cuda", or for "auto" a CUDA device if there is one.

    Raises:
        TrainError: there is no CUDA device.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise TrainError("PyTorch finds no CUDA device: take --device cpu")
    return torch.device("cuda" if available and name != "cpu" else "cpu")
