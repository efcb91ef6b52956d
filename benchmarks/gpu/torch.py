"""PyTorch as a backend: eager and compiled, in single and in half precision."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.gpu.networks import Backend
from export.parity import Call
from train.models.emotion_model import EmotionModel
from train.models.whisper import LogMel

OUTPUTS = {
    "face": ("embedding",),
    "visual": ("scores", "embedding"),
    "audio": ("scores", "embedding"),
    "fusion": ("scores",),
}

COMPILED = {"compiled": "default", "compiled, CUDA graphs": "reduce-overhead"}
"""torch.compile's modes, by what a reader is told."""


class TorchRunner:
    """A network in PyTorch.

    Args:
        function: of named tensors.
        device: `cuda` or `cpu`.
        half: whether products are in half precision.
    """

    note = ""

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        outputs: tuple[str, ...],
        device: str,
        half: bool,
    ) -> None:
        self._function = function
        self._outputs = outputs
        self._device = device
        self._half = half

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Copy there, run, copy back."""
        results = self._run(self._on_device(arrays))
        # In single precision, as engines give it.
        return {
            name: result.float().cpu().numpy()
            for name, result in zip(self._outputs, results, strict=True)
        }

    def bind(self, call: Call) -> Callable[[], object]:
        """Put a call's arrays on the device."""
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
        precision = torch.autocast(self._device, torch.float16) if self._half else nullcontext()
        with torch.no_grad(), precision:
            return self._function(**tensors)


def torch_backends(
    model: EmotionModel, device: str, compiled: bool, not_run: dict[str, str]
) -> list[Backend]:
    """Give the model on PyTorch in all its ways.

    Args:
        compiled: also with torch.compile, which takes minutes.
        not_run: takes what can't be had, and why.
    """
    name = f"PyTorch {device.upper()}"
    if device == "cuda" and not torch.cuda.is_available():
        why = "this build is for CPUs" if torch.version.cuda is None else "it finds no GPU"
        not_run[name] = f"PyTorch {torch.__version__}: {why}"
        return []
    modes = {"eager": None, **(COMPILED if compiled else {})}
    if not compiled:
        not_run[f"{name} compiled"] = "left out as asked"
    elif device == "cpu":
        modes.pop("compiled, CUDA graphs")
    single = copy.deepcopy(model).eval().to(device)
    models = {"fp32": single}
    if device == "cuda":
        models["fp16"] = to_half(single, device)
    else:
        not_run[f"{name} fp16"] = "CPUs only imitate half precision, at a fraction of the speed"
    return [
        Backend(f"{name} {told}", precision, partial(_open, of, device, precision == "fp16", mode))
        for told, mode in modes.items()
        for precision, of in models.items()
    ]


def to_half(model: EmotionModel, device: str) -> EmotionModel:
    """Give a copy for autocast whose large weights are in half precision already.

    Without gradients autocast would halve them anew in every call. The spectrogram stays in single
    precision, as in the exported graphs.
    """
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            module.half()
        elif isinstance(module, LogMel):
            single = torch.autocast(device, enabled=False)
            module.forward = single(module.forward)  # type: ignore[method-assign]
    return model


def _open(model: EmotionModel, device: str, half: bool, mode: str | None, name: str) -> TorchRunner:
    function = model.networks()[name]
    if mode:
        function = torch.compile(function, mode=mode, dynamic=False)
    return TorchRunner(function, OUTPUTS[name], device, half)


def forget_compiled() -> None:
    """Free compiled code and the GPU's memory; too many variants of one function end up eager."""
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
