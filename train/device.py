"""The device that a network is trained on."""

from __future__ import annotations

import functools
import platform

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


@functools.cache
def has_bfloat16(device: str) -> bool:
    """Whether a device of that type multiplies in bfloat16 itself.

    A processor that doesn't emulates it: fine-tuning Whisper then takes eight times as long as in
    float32.
    """
    if device != "cpu":
        return True
    if platform.machine() in ("aarch64", "arm64"):
        mkldnn = torch.backends.mkldnn.is_available()
        return mkldnn and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported())
