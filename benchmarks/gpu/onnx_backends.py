"""ONNX Runtime backends: CPU, CUDA, and the plug-in TensorRT for RTX."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.backends import LEFT_OUT, Backend, attempt
from benchmarks.gpu.tensorrt_backends import tensorrt_backends
from export.parity import Call
from mfer_edge.bundle import Bundle
from mfer_edge.cpu import core_count
from mfer_edge.engines.onnx import TYPE_NAMES, import_onnxruntime, open_session, providers_for
from mfer_edge.errors import EngineError

RTX_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
NVIDIA = 0x10DE  # PCI vendor, which identifies the memory of plug-in providers
RECORD_ASSIGNMENT = "session.record_ep_graph_assignment_info"


@dataclass(frozen=True)
class DeviceMemory:
    """The memory in which ONNX Runtime keeps arrays."""

    device: str
    vendor: int | None = None  # PCI number; None: the build's own

    @property
    def arguments(self) -> tuple[str | int, ...]:
        """Device, number, vendor, as ONNX Runtime takes them."""
        return (self.device, 0) if self.vendor is None else (self.device, 0, self.vendor)


class OnnxRunner:
    """An engine in ONNX Runtime.

    Args:
        session: an `InferenceSession`.
        memory: of its device.
    """

    def __init__(self, session: Any, memory: DeviceMemory) -> None:
        self._session = session
        self._memory = memory
        self._outputs = [node.name for node in session.get_outputs()]
        self._types = [TYPE_NAMES[node.type] for node in session.get_outputs()]
        on_cpu = operators_on_cpu(session)
        self.note = f"{on_cpu} operators on the CPU" if on_cpu else ""

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run it; ONNX Runtime copies to the device and back."""
        results = self._session.run(self._outputs, arrays)
        return dict(zip(self._outputs, results, strict=True))

    def bind(self, call: Call) -> Callable[[], object]:
        """Copy a call's arrays to the device."""
        values = import_onnxruntime().OrtValue
        memory = self._memory.arguments
        shapes = [array.shape for array in self(**call).values()]
        binding = self._session.io_binding()
        inputs = {name: values.ortvalue_from_numpy(array, *memory) for name, array in call.items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        outputs = {
            name: values.ortvalue_from_shape_and_type(shape, np.dtype(dtype), *memory)
            for name, dtype, shape in zip(self._outputs, self._types, shapes, strict=True)
        }
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)

        def run() -> dict[str, Any]:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return outputs

        return run


def operators_on_cpu(session: Any) -> int:
    """Count the operators that a session of another device assigns to the CPU.

    ONNX Runtime reports them since 1.24; before, this is 0.
    """
    cpu = providers_for("cpu")[0]
    if session.get_providers()[0] == cpu or not hasattr(
        session, "get_provider_graph_assignment_info"
    ):
        return 0
    parts = session.get_provider_graph_assignment_info()
    return sum(len(part.get_nodes()) for part in parts if part.ep_name == cpu)


def onnx_runner(path: Path, device: str) -> OnnxRunner:
    """Load an engine on one of ONNX Runtime's own providers, `cpu` or `cuda`, as the runtime does.

    Raises:
        EngineError: the device is unavailable.
    """
    session = open_session(path, _options(), providers_for(device))
    return OnnxRunner(session, DeviceMemory(device))


def rtx_runner(path: Path) -> OnnxRunner:
    """Load an engine on TensorRT for RTX, a plug-in of ONNX Runtime.

    Raises:
        EngineError: the plug-in is missing, does not load, or finds no GPU.
    """
    devices = _rtx_devices()
    options = _options()
    options.add_provider_for_devices(devices, {})
    session = import_onnxruntime().InferenceSession(str(path), options)
    if session.get_providers()[0] != devices[0].ep_name:
        raise EngineError(f"{path}: {devices[0].ep_name} did not start")
    return OnnxRunner(session, DeviceMemory("gpu", NVIDIA))


@cache
def _rtx_devices() -> list[Any]:
    """Register the plug-in, once in a process."""
    ort = import_onnxruntime()
    try:
        plug_in = importlib.import_module(RTX_PACKAGE)
    except ImportError as error:
        raise EngineError(
            "the plug-in is not installed: pip install onnxruntime-ep-nv-tensorrt-rtx-cu13 (or "
            "-cu12) beside plain onnxruntime, in an environment without onnxruntime-gpu"
        ) from error
    name = plug_in.get_ep_name()
    ort.register_execution_provider_library(name, plug_in.get_library_path())
    devices = [device for device in ort.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise EngineError(f"{name} supports none of this machine's GPUs")
    return devices[:1]


def _options() -> Any:
    """Set the session options of the runtime's engines."""
    options = import_onnxruntime().SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = core_count()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(RECORD_ASSIGNMENT, "1")  # for `operators_on_cpu`
    return options


def onnx_backends(
    bundles: dict[str, Bundle], device: str, rtx: bool, not_run: dict[str, str]
) -> list[Backend]:
    """List the backends of bundles' engines that this machine has.

    Args:
        bundles: by precision; the first is run on the CPU too, as a baseline.
        device: `cuda` or `cpu`.
        rtx: whether TensorRT for RTX may be tried.
        not_run: gets what is unavailable, and why.
    """

    def each(name: str, open_path: Callable[[Path], OnnxRunner]) -> list[Backend]:
        return [
            Backend(name, precision, partial(_open, bundle, open_path))
            for precision, bundle in bundles.items()
        ]

    cpu = each("ONNX Runtime CPU", lambda path: onnx_runner(path, "cpu"))
    if device == "cpu":
        return cpu
    backends = []
    with attempt("ONNX Runtime CUDA", not_run):
        providers_for("cuda")
        backends += each("ONNX Runtime CUDA", lambda path: onnx_runner(path, "cuda"))
    with attempt("ONNX Runtime TensorRT-RTX", not_run):
        if not rtx:
            raise EngineError(LEFT_OUT)
        _rtx_devices()
        backends += each("ONNX Runtime TensorRT-RTX", rtx_runner)
    return [*backends, *tensorrt_backends(bundles), *cpu[:1]]


def _open(bundle: Bundle, open_path: Callable[[Path], OnnxRunner], name: str) -> OnnxRunner:
    return open_path(bundle.engine_path(name))
