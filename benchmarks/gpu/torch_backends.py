"""PyTorch backends: eager and compiled, in fp32 and fp16."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu.backends import LEFT_OUT, Backend
from export.parity import Call
from train.models.emotion_model import EmotionModel
from train.models.whisper import LogMel

OUTPUTS = {
    "face": ("embedding",),
    "visual": ("scores", "embedding", "observations"),
    "audio": ("scores", "embedding", "observations"),
    "fusion": ("scores",),
}

COMPILED = {
    "cpu": {"compiled": "default"},
    "cuda": {"compiled, CUDA graphs": "reduce-overhead"},
}
"""The fastest mode of torch.compile on each device, by its name in the tables."""


class TorchRunner:
    """An engine in PyTorch.

    Args:
        function: of named tensors.
        device: `cuda` or `cpu`.
        fp16: whether matrix products are in fp16.
    """

    note = ""

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        outputs: tuple[str, ...],
        device: str,
        fp16: bool,
    ) -> None:
        self._function = function
        self._outputs = outputs
        self._device = device
        self._fp16 = fp16

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Copy the arrays to the device, run, copy the results back."""
        results = self._run(self._on_device(arrays))
        # In fp32, as engines return it.
        return {
            name: result.float().cpu().numpy()
            for name, result in zip(self._outputs, results, strict=True)
        }

    def bind(self, call: Call) -> Callable[[], object]:
        """Copy a call's arrays to the device."""
        tensors = self._on_device(call)

        def run() -> None:
            self._run(tensors)
            if self._device == "cuda":
                torch.cuda.synchronize()

        return run

    def _on_device(self, arrays: Call) -> dict[str, Tensor]:
        return {
            name: torch.from_numpy(array.copy()).to(self._device) for name, array in arrays.items()
        }

    def _run(self, tensors: dict[str, Tensor]) -> tuple[Tensor, ...]:
        precision = torch.autocast(self._device, torch.float16) if self._fp16 else nullcontext()
        with torch.no_grad(), precision:
            return self._function(**tensors)


def torch_backends(
    model: EmotionModel, device: str, compiled: bool, not_run: dict[str, str]
) -> list[Backend]:
    """List the model's PyTorch backends: eager and compiled, fp32 and fp16.

    Args:
        compiled: also with torch.compile, which takes minutes.
        not_run: gets what is unavailable, and why.
    """
    name = f"PyTorch {device.upper()}"
    if device == "cuda" and not torch.cuda.is_available():
        why = "this build is for CPUs" if torch.version.cuda is None else "it finds no GPU"
        not_run[name] = f"PyTorch {torch.__version__}: {why}"
        return []
    modes = {"eager": None, **(COMPILED[device] if compiled else {})}
    if not compiled:
        not_run[f"{name} compiled"] = LEFT_OUT
    fp32 = copy.deepcopy(model).eval().to(device)
    models = {"fp32": fp32}
    if device == "cuda":
        models["fp16"] = to_fp16(fp32, device)
    else:
        not_run[f"{name} fp16"] = "CPUs emulate fp16, at a fraction of the speed"
    return [
        Backend(f"{name} {kind}", precision, partial(_open, of, device, precision == "fp16", mode))
        for kind, mode in modes.items()
        for precision, of in models.items()
    ]


def to_fp16(model: EmotionModel, device: str) -> EmotionModel:
    """Copy a model for autocast, with large weights converted to fp16 beforehand.

    Without gradients autocast would convert them anew in every call. The spectrogram stays in fp32,
    as in the exported graphs.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            module.half()
        elif isinstance(module, LogMel):
            fp32 = torch.autocast(device, enabled=False)
            module.forward = fp32(module.forward)  # type: ignore[method-assign]
    return model


def _open(model: EmotionModel, device: str, fp16: bool, mode: str | None, name: str) -> TorchRunner:
    function = model.networks()[name]
    if mode:
        function = torch.compile(function, mode=mode, dynamic=False)
    return TorchRunner(function, OUTPUTS[name], device, fp16)


def free_compiled() -> None:
    """Free compiled code and GPU memory: torch.compile limits the variants of a function."""
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
