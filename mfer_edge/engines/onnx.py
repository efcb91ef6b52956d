"""ONNX Runtime engines, and the devices that they run on."""

from __future__ import annotations

import ctypes
import importlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mfer_edge.engines.base import TensorSpec
from mfer_edge.errors import EngineError

DEVICES = ("auto", "cpu", "cuda", "tensorrt")

PROVIDER_OF_DEVICE = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
}

PROVIDER_OPTIONS: Mapping[str, Mapping[str, str]] = {
    "CUDAExecutionProvider": {
        # TF32 is on by default: 10 mantissa bits where the graph's fp32 has 23.
        "use_tf32": "0",
        # By default cuDNN tries all its algorithms at every new shape, and speech has another
        # length in each window: 4 to 5 times the time of choosing one (`benchmarks.gpu.shapes`).
        "cudnn_conv_algo_search": "HEURISTIC",
    },
}

FATAL = 4  # the highest severity of ONNX Runtime's log

TYPE_NAMES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}


def import_onnxruntime() -> ModuleType:
    """Import ONNX Runtime.

    Raises:
        EngineError: it is not installed.
    """
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        from mfer_edge.install import install_hint

        raise EngineError(
            f"ONNX Runtime is not installed: {install_hint('cpu')} "
            "(or the extra gpu on a machine with CUDA)"
        ) from error
    runtime.disable_telemetry_events()  # in case it was imported before `mfer_edge`
    return runtime


def providers_for(device: str) -> list[str]:
    """List the ONNX Runtime providers of a device, the preferred one first.

    `auto` means CUDA where ONNX Runtime has it and there is a GPU, else the CPU. There is no
    fallback from a device that was named. For `tensorrt` the first entry is TensorRT's version:
    its engines don't run in ONNX Runtime.

    Raises:
        EngineError: the device is unknown, the installed ONNX Runtime has no provider for it, or
            TensorRT is not installed.
    """
    if device not in DEVICES:
        raise EngineError(f"--device {device}: not one of {', '.join(DEVICES)}")
    available = import_onnxruntime().get_available_providers()
    cpu = PROVIDER_OF_DEVICE["cpu"]
    if device == "tensorrt":
        from mfer_edge.engines.tensorrt_target import import_tensorrt

        return [f"TensorRT {import_tensorrt().__version__}", cpu]
    if device == "auto":
        device = "cuda" if PROVIDER_OF_DEVICE["cuda"] in available and _has_gpu() else "cpu"
    wanted = PROVIDER_OF_DEVICE[device]
    if wanted not in available:
        from mfer_edge.install import install_hint

        raise EngineError(
            f"--device {device}: the installed ONNX Runtime has no {wanted}; "
            f"pip uninstall onnxruntime, then {install_hint('gpu')}"
        )
    return [wanted] if wanted == cpu else [wanted, cpu]


def _has_gpu() -> bool:
    """Ask NVIDIA's driver: ONNX Runtime lists the providers it was built with, GPU or not."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return driver.cuInit(0) == 0


def open_session(
    path: Path,
    options: Any,
    providers: Sequence[str],
    provider_options: Mapping[str, Mapping[str, str]] = PROVIDER_OPTIONS,
) -> Any:
    """Open an ONNX file as an `InferenceSession`.

    Args:
        path: the ONNX file.
        options: ONNX Runtime's `SessionOptions`.
        providers: ONNX Runtime providers, the preferred one first.
        provider_options: by provider.

    Raises:
        EngineError: ONNX Runtime can't run the file, or the preferred provider did not start.
    """
    ort = import_onnxruntime()
    if providers[0] != PROVIDER_OF_DEVICE["cpu"]:
        # cuDNN's choice prints each algorithm that it passes over as an error, not by the session's
        # level. What fails is raised.
        ort.set_default_logger_severity(FATAL)
    try:
        # ONNX Runtime's own fallback prints to standard output and runs without the device.
        session = ort.InferenceSession(
            str(path),
            options,
            providers=list(providers),
            provider_options=[dict(provider_options.get(name, {})) for name in providers],
            enable_fallback=0,
        )
    except Exception as error:  # ONNX Runtime's errors have no narrower base class
        raise EngineError(f"{path}: {_reason(error)}") from error
    if (started := session.get_providers()[0]) != providers[0]:
        raise EngineError(f"{path}: {providers[0]} did not start; only {started} did")
    return session


class OnnxEngine:
    """An ONNX file loaded in ONNX Runtime.

    Args:
        path: the ONNX file.
        providers: ONNX Runtime providers, the preferred one first.
        threads: CPU threads for one call; 0 means all cores.
        large: whether a call needs much memory. If so, a memory arena is used, and on a CPU it is
            shrunk after each call, so that engines use the same memory in turn. If not, tensors
            are allocated one by one: detection engines get new sizes at every call, for each of
            which a plan would be kept, and all its tensors allocated as one block that fits into
            no gap between others.

    Raises:
        EngineError: ONNX Runtime can't run the file, or the preferred provider did not start.
    """

    def __init__(
        self, path: Path, providers: Sequence[str], threads: int = 0, large: bool = True
    ) -> None:
        ort = import_onnxruntime()
        self.path = path
        if not path.is_file():
            raise EngineError(f"{path}: no such file")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = large
        options.enable_mem_pattern = large
        # Several engines share the cores in turn: threads that spin while they wait for the next
        # call of their own engine would slow down the others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        on_cpu = providers[0] == PROVIDER_OF_DEVICE["cpu"]
        if on_cpu:
            # Q/DQ pairs are computed as written, as a GPU does, not fused into integer kernels:
            # without VNNI these add pairs of products in 16 bits, which int8 weights overflow.
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        self._session = open_session(path, options, providers)
        self.providers: list[str] = self._session.get_providers()
        self.inputs = [_tensor(node) for node in self._session.get_inputs()]
        self.outputs = [_tensor(node) for node in self._session.get_outputs()]
        self._output_names = [tensor.name for tensor in self.outputs]
        self._run_options = ort.RunOptions()
        if large and on_cpu:
            self._run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run the engine on named arrays and return every output by name.

        Raises:
            EngineError: the arrays don't match the inputs, or the device failed.
        """
        try:
            outputs = self._session.run(self._output_names, arrays, self._run_options)
        except Exception as error:  # as above
            raise EngineError(f"{self.path}: {_reason(error)}") from error
        return dict(zip(self._output_names, outputs, strict=True))


def _tensor(node: Any) -> TensorSpec:
    shape = tuple("?" if size is None else size for size in node.shape)
    return TensorSpec(node.name, TYPE_NAMES.get(node.type, node.type), shape)


def _reason(error: Exception) -> str:
    """ONNX Runtime's message in one line, without error codes and without the path."""
    line = " ".join(str(error).split())
    line = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", line)
    return re.sub(r"^Load model from .*? failed:", "ONNX Runtime can't load it: ", line)
