"""TensorRT version and GPU of this machine, and whether a bundle's plans run on it."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mfer_edge.bundle import Bundle
from mfer_edge.errors import EngineError
from mfer_edge.manifest import Plan

OLDEST = (10, 3)  # major and minor version, of JetPack 6
NEWEST = 11  # major version


@dataclass(frozen=True)
class Gpu:
    """Name and compute capability of a GPU, from CUDA."""

    name: str  # for messages
    compute_capability: str  # such as 8.7

    def __str__(self) -> str:
        return f"{self.name}, compute capability {self.compute_capability}"


@dataclass(frozen=True)
class Target:
    """TensorRT version and GPU that a plan is built for: it runs on no others."""

    tensorrt: str  # version
    gpu: Gpu

    def __str__(self) -> str:
        return f"TensorRT {self.tensorrt} on {self.gpu}"


def import_tensorrt() -> ModuleType:
    """Import TensorRT.

    Raises:
        EngineError: it is not installed, incomplete, or of an unsupported version.
    """
    try:
        trt = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "tensorrt":
            raise EngineError(
                "TensorRT is not installed: pip install tensorrt; on a Jetson it comes with "
                "JetPack (a virtual environment needs --system-site-packages to see it)"
            ) from error
        raise EngineError(f"TensorRT can't be loaded: {error}") from error
    version = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if not OLDEST <= version < (NEWEST + 1, 0):
        oldest = ".".join(map(str, OLDEST))
        raise EngineError(
            f"TensorRT {trt.__version__} is installed; mfer-edge works with {oldest} to {NEWEST}"
        )
    return trt


def import_cuda() -> ModuleType:
    """Import the CUDA runtime bindings of cuda-python.

    Raises:
        EngineError: it is not installed.
    """
    for name in ("cuda.bindings.runtime", "cuda.cudart"):  # since cuda-python 12.6, and before
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise EngineError(
        "cuda-python is not installed: pip install 'cuda-python==12.*', or 13.* for CUDA 13"
    )


def this_gpu() -> Gpu:
    """Name and compute capability of this process's GPU.

    Raises:
        EngineError: cuda-python, the driver or a GPU is missing.
    """
    cuda = import_cuda()
    try:
        found = checked(cuda.cudaGetDeviceProperties(checked(cuda.cudaGetDevice())))
    except RuntimeError as error:  # cuda-python before 12.6, where there is no driver
        raise EngineError(f"no NVIDIA driver was found: {error}") from error
    return Gpu(found.name.decode(), f"{found.major}.{found.minor}")


def this_target() -> Target:
    """TensorRT version and GPU of this machine.

    Raises:
        EngineError: TensorRT, cuda-python, the driver or a GPU is missing.
    """
    return Target(import_tensorrt().__version__, this_gpu())


def check_plans(bundle: Bundle, names: Iterable[str], target: Target) -> None:
    """Check that a bundle has plans for these engines, and that they run on a target.

    Raises:
        EngineError: one is missing or built for something else; the message has the command that
            builds them.
    """
    for name in names:
        graph_sha256 = bundle.manifest.engines[name].sha256
        if why := _mismatch(name, bundle.manifest.plans.get(name), graph_sha256, target):
            raise EngineError(
                f"{bundle.folder}: {why}; build them here: "
                f"mfer-edge export --tensorrt --bundle {shlex.quote(str(bundle.folder))}"
            )


def _mismatch(name: str, plan: Plan | None, graph_sha256: str, target: Target) -> str:
    """Why a plan can't be used; empty if it can."""
    if plan is None:
        return f"it has no TensorRT engine for {name}"
    if plan.graph_sha256 != graph_sha256:
        return f"its TensorRT engine {plan.file} was built from another ONNX file"
    if plan.tensorrt != target.tensorrt:
        return (
            f"its TensorRT engines are for TensorRT {plan.tensorrt}, and {target.tensorrt} is "
            "installed"
        )
    if plan.compute_capability != target.gpu.compute_capability:
        built_for = Gpu(plan.gpu, plan.compute_capability)
        return f"its TensorRT engines are for another GPU ({built_for}; this is {target.gpu})"
    return ""


def error_log(trt: ModuleType) -> Any:
    """Create a TensorRT logger that collects errors in `errors` and prints nothing."""

    class ErrorLog(trt.ILogger):  # type: ignore[name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # the C++ bindings need it called explicitly
            self.errors: list[str] = []

        def log(self, severity: Any, msg: str) -> None:
            if int(severity) <= int(trt.ILogger.Severity.ERROR):  # 0 is the most severe
                self.errors.append(" ".join(msg.split()))

        def reason(self) -> str:
            """Return the first error, the cause of later ones, and clear all."""
            reason = self.errors[0] if self.errors else "TensorRT logged no reason"
            self.errors.clear()
            return reason

    return ErrorLog()


def create(kind: Callable[[Any], Any], log: Any) -> Any:
    """Create a TensorRT `Builder` or `Runtime`.

    Raises:
        EngineError: CUDA does not start.
    """
    try:
        return kind(log)
    except TypeError as error:  # how the bindings report a null pointer
        raise EngineError(f"TensorRT does not start: {log.reason()}") from error


def checked(result: tuple[Any, ...], path: Path | None = None) -> Any:
    """Return the value of a CUDA call.

    Raises:
        EngineError: CUDA reports an error.
    """
    error, *values = result
    if int(error) != 0:  # truth of cudaError_t's members depends on the version
        raise EngineError(f"{path}: CUDA: {error.name}" if path else f"CUDA: {error.name}")
    return values[0] if values else None
