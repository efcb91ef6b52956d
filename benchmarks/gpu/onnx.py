"""A bundle's networks on ONNX Runtime's providers and on native TensorRT, as backends."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.networks import Backend, attempt
from export.parity import Call
from export.targets.tensorrt import add_plans
from mfer_edge.bundle import Bundle
from mfer_edge.cpu import core_count
from mfer_edge.engines.base import Engine
from mfer_edge.engines.onnx import TYPE_NAMES, import_onnxruntime, providers_for
from mfer_edge.errors import EngineError
from mfer_edge.model import ACCELERATED, load_engines

RTX_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
NVIDIA = 0x10DE  # PCI vendor, by which plug-in providers know their memory
ASSIGNED = "session.record_ep_graph_assignment_info"


@dataclass(frozen=True)
class Place:
    """Where ONNX Runtime keeps arrays."""

    device: str
    vendor: int | None = None  # PCI number; None: the one that this build is made for

    @property
    def arguments(self) -> tuple[str | int, ...]:
        """Device, number, vendor, as ONNX Runtime takes them."""
        return (self.device, 0) if self.vendor is None else (self.device, 0, self.vendor)


class OnnxRunner:
    """A network in ONNX Runtime.

    Args:
        session: an `InferenceSession`.
        place: the memory of its device.
    """

    def __init__(self, session: Any, place: Place) -> None:
        self._session = session
        self._place = place
        self._outputs = [node.name for node in session.get_outputs()]
        self._types = [TYPE_NAMES[node.type] for node in session.get_outputs()]
        left = left_behind(session)
        self.note = f"{left} operators on the CPU" if left else ""

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run it; ONNX Runtime copies there and back."""
        results = self._session.run(self._outputs, arrays)
        return dict(zip(self._outputs, results, strict=True))

    def bind(self, call: Call) -> Callable[[], object]:
        """Put a call's arrays on the device."""
        values = import_onnxruntime().OrtValue
        place = self._place.arguments
        shapes = [array.shape for array in self(**call).values()]
        binding = self._session.io_binding()
        inputs = {name: values.ortvalue_from_numpy(array, *place) for name, array in call.items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        outputs = {
            name: values.ortvalue_from_shape_and_type(shape, np.dtype(dtype), *place)
            for name, dtype, shape in zip(self._outputs, self._types, shapes, strict=True)
        }
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)

        def run() -> dict[str, Any]:
            self._session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return outputs

        return run


def left_behind(session: Any) -> int:
    """Count the operators that a session leaves to the CPU, beside those of its own device.

    ONNX Runtime tells since 1.24; before, this is 0.
    """
    cpu = providers_for("cpu")[0]
    if session.get_providers()[0] == cpu or not hasattr(
        session, "get_provider_graph_assignment_info"
    ):
        return 0
    parts = session.get_provider_graph_assignment_info()
    return sum(len(part.get_nodes()) for part in parts if part.ep_name == cpu)


def onnx_runner(path: Path, device: str) -> OnnxRunner:
    """Load a network on one of ONNX Runtime's own providers: `cpu` or `cuda`.

    Raises:
        EngineError: the device is not to be had.
    """
    providers = providers_for(device)
    session = import_onnxruntime().InferenceSession(
        str(path), _options(), providers=providers, enable_fallback=0
    )
    if session.get_providers()[0] != providers[0]:
        raise EngineError(f"{path}: {providers[0]} did not start")
    return OnnxRunner(session, Place(device))


def rtx_runner(path: Path) -> OnnxRunner:
    """Load a network on TensorRT for RTX, a plug-in of ONNX Runtime.

    Raises:
        EngineError: the plug-in is missing, does not load, or finds no GPU.
    """
    devices = _rtx_devices()
    options = _options()
    options.add_provider_for_devices(devices, {})
    session = import_onnxruntime().InferenceSession(str(path), options)
    if session.get_providers()[0] != devices[0].ep_name:
        raise EngineError(f"{path}: {devices[0].ep_name} did not start")
    return OnnxRunner(session, Place("gpu", NVIDIA))


@cache
def _rtx_devices() -> list[Any]:
    """Register the plug-in, which can be done once in a process."""
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
    """The settings of the runtime's engines."""
    options = import_onnxruntime().SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = core_count()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(ASSIGNED, "1")  # for `left_behind`
    return options


class TrtRunner:
    """A network in native TensorRT, whose engine keeps its buffers to itself."""

    note = ""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run it; the engine copies there and back."""
        return self._engine(**arrays)

    def bind(self, call: Call) -> Callable[[], object]:
        """Refuse.

        Raises:
            EngineError: always.
        """
        raise EngineError("TensorRT's engine keeps its buffers to itself")


def onnx_backends(
    bundles: dict[str, Bundle], device: str, rtx: bool, not_run: dict[str, str]
) -> list[Backend]:
    """Give bundles' networks on whatever runs them here.

    Args:
        bundles: by precision; the first is run on the CPU too, as a baseline.
        device: `cuda` or `cpu`.
        rtx: whether TensorRT for RTX may be tried.
        not_run: takes what can't be had, and why.
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
            raise EngineError("left out as asked")
        _rtx_devices()
        backends += each("ONNX Runtime TensorRT-RTX", rtx_runner)
    backends += [
        Backend("TensorRT", precision, partial(_open_plan, bundle), networks=ACCELERATED)
        for precision, bundle in bundles.items()
        if bundle.manifest.plans
    ]
    return [*backends, *cpu[:1]]


def _open(bundle: Bundle, open_path: Callable[[Path], OnnxRunner], name: str) -> OnnxRunner:
    return open_path(bundle.engine_path(name))


def _open_plan(bundle: Bundle, name: str) -> TrtRunner:
    return TrtRunner(load_engines(bundle, "tensorrt")[name])


def with_plans(
    bundles: dict[str, Bundle], folder: Path, not_run: dict[str, str]
) -> dict[str, Bundle]:
    """Build TensorRT engines for bundles that have none, where TensorRT is installed.

    Args:
        folder: for the bundles with engines.
        not_run: takes what can't be had, and why.
    """
    with attempt("TensorRT", not_run):
        providers_for("tensorrt")
    if "TensorRT" in not_run:
        return bundles
    built = dict(bundles)
    for precision, bundle in bundles.items():
        if not bundle.manifest.plans:
            with attempt(f"TensorRT {precision}", not_run):
                built[precision] = add_plans(bundle, folder / f"{bundle.folder.name}-tensorrt")
    return built
