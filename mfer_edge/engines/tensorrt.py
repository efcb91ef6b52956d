"""Native TensorRT engines: they run only on the kind of GPU that they were built on."""

from __future__ import annotations

import ctypes
import math
import threading
import weakref
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mfer_edge.engines.base import TensorSpec
from mfer_edge.engines.tensorrt_target import (
    checked,
    create,
    error_log,
    import_cuda,
    import_tensorrt,
)
from mfer_edge.errors import EngineError
from mfer_edge.manifest import Plan, ShapeRange

CAPTURE_AFTER = 3  # calls with the same shapes after which these are captured in a CUDA graph
MAX_COUNTED = 1000  # shapes whose calls are counted
MAX_GRAPHS = 3  # CUDA graphs kept by an engine; each needs a context with its own GPU memory

Shapes = tuple[tuple[int, ...], ...]  # of an engine's inputs, in their order


@dataclass(frozen=True)
class _Buffer:
    """Memory for the largest array of one tensor: pinned on the host, and on the GPU."""

    dtype: np.dtype[Any]
    host: int  # address
    device: int  # address
    memory: np.ndarray  # (bytes,) uint8: the pinned memory

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """View of the pinned memory as an array."""
        return self.memory[: self.size(shape)].view(self.dtype).reshape(shape)

    def size(self, shape: tuple[int, ...]) -> int:
        """Bytes of an array of this shape."""
        return math.prod(shape) * self.dtype.itemsize


class _CudaResources:
    """A stream, memory and CUDA graphs of one engine, freed together."""

    def __init__(self, cuda: ModuleType, path: Path) -> None:
        self._cuda = cuda
        self._path = path
        self.stream = checked(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking), path)
        self.graphs: OrderedDict[Shapes, tuple[Any, Any]] = OrderedDict()
        """Captured calls, each with its context; the most recently used last."""
        self._hosts: list[int] = []
        self._devices: list[int] = []

    def allocate(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> _Buffer:
        """Allocate the buffer of a tensor for arrays of up to this shape."""
        size = math.prod(shape) * dtype.itemsize
        self._hosts.append(host := int(checked(self._cuda.cudaMallocHost(size), self._path)))
        self._devices.append(device := int(checked(self._cuda.cudaMalloc(size), self._path)))
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(host))
        return _Buffer(dtype, host, device, memory)

    def add_graph(self, shapes: Shapes, executable: Any, context: Any) -> Shapes | None:
        """Keep a graph; return the shapes of the one that was evicted for it, if any."""
        self.graphs[shapes] = executable, context
        if len(self.graphs) <= MAX_GRAPHS:
            return None
        evicted, (executable, _) = self.graphs.popitem(last=False)
        self._cuda.cudaGraphExecDestroy(executable)
        return evicted

    def free(self) -> None:
        """Free everything; errors are ignored, as nothing is left to be done about them."""
        for executable, _ in self.graphs.values():
            self._cuda.cudaGraphExecDestroy(executable)
        self.graphs.clear()
        for address in self._devices:
            self._cuda.cudaFree(address)
        for address in self._hosts:
            self._cuda.cudaFreeHost(address)
        self._cuda.cudaStreamDestroy(self.stream)


class TensorRtEngine:
    """A plan loaded in TensorRT.

    Thread-safe: calls wait for each other. Calls whose shapes repeat are captured in a CUDA graph,
    which starts the copies and the engine with one launch.

    Args:
        path: the plan.
        plan: its entry in the manifest; `check_plans` tells whether it runs on this machine.

    Raises:
        EngineError: TensorRT can't load the plan, or the GPU has too little memory.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        trt = import_tensorrt()
        self.path = path
        self.providers = [f"TensorRT {trt.__version__}"]
        self._profiles = plan.profiles
        self._cuda = import_cuda()
        self._lock = threading.Lock()
        self._seen: Counter[Shapes] = Counter()
        self._capturable = True
        self._log = error_log(trt)
        try:
            serialized = path.read_bytes()
        except OSError as error:
            raise EngineError(f"{path}: {error.strerror}") from error
        self._runtime = create(trt.Runtime, self._log)
        self._engine = self._runtime.deserialize_cuda_engine(serialized)
        self._require(self._engine is not None, "can't be loaded")
        self._context = self._engine.create_execution_context()
        self._require(self._context is not None, "too little GPU memory for its context")

        self.inputs = self._tensors(trt, trt.TensorIOMode.INPUT)
        self.outputs = self._tensors(trt, trt.TensorIOMode.OUTPUT)

        self._resources = _CudaResources(self._cuda, path)
        # Runs at exit too, and unlike __del__ before modules are torn down.
        self._free = weakref.finalize(self, self._resources.free)
        try:
            self._buffers = self._allocate()
        except EngineError:
            self.close()
            raise

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run the engine on named arrays and return every output by name.

        Raises:
            EngineError: no profile has the arrays' shapes, their types are wrong, or CUDA failed.
        """
        with self._lock:
            if not self._free.alive:
                raise EngineError(f"{self.path}: closed")
            shapes, profile = self._check_inputs(arrays)
            for name, array in arrays.items():
                np.copyto(self._buffers[name].array(array.shape), array)
            context = self._launch(shapes, profile)
            self._wait()
            return {
                tensor.name: self._buffers[tensor.name]
                .array(tuple(context.get_tensor_shape(tensor.name)))
                .copy()
                for tensor in self.outputs
            }

    def close(self) -> None:
        """Free the GPU memory; the engine can't be called after this."""
        self._free()
        self._context = self._engine = self._runtime = None

    def _tensors(self, trt: ModuleType, mode: Any) -> list[TensorSpec]:
        engine, tensors = self._engine, []
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            if engine.get_tensor_mode(name) == mode:
                dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
                shape = tuple("?" if n < 0 else n for n in engine.get_tensor_shape(name))
                tensors.append(TensorSpec(name, dtype, shape))
        return tensors

    def _check_inputs(self, arrays: dict[str, np.ndarray]) -> tuple[Shapes, int]:
        """Check names, types and shapes; return the shapes and the index of their profile."""
        given = {name: array.dtype.name for name, array in arrays.items()}
        expected = {tensor.name: tensor.dtype for tensor in self.inputs}
        if given != expected:
            raise EngineError(
                f"{self.path}: the inputs are {_listed(expected)}, not {_listed(given)}"
            )
        for index, profile in enumerate(self._profiles):
            if all(_within(array.shape, profile[name]) for name, array in arrays.items()):
                return tuple(arrays[tensor.name].shape for tensor in self.inputs), index
        first, last = self._profiles[0], self._profiles[-1]
        ranges = [f"{name} of {first[name].min} to {last[name].max}" for name in arrays]
        shapes = [str(array.shape) for array in arrays.values()]
        raise EngineError(
            f"{self.path}: built for {', '.join(ranges)}, not {', '.join(shapes)}; "
            "a shorter window may fit"
        )

    def _allocate(self) -> dict[str, _Buffer]:
        """Allocate the buffers of all tensors for the largest profile."""
        largest = {name: shapes.max for name, shapes in self._profiles[-1].items()}
        shapes = tuple(largest[tensor.name] for tensor in self.inputs)
        self._set_shapes(self._context, shapes, len(self._profiles) - 1)
        for tensor in self.outputs:
            largest[tensor.name] = tuple(self._context.get_tensor_shape(tensor.name))
        return {
            tensor.name: self._resources.allocate(np.dtype(tensor.dtype), largest[tensor.name])
            for tensor in (*self.inputs, *self.outputs)
        }

    def _launch(self, shapes: Shapes, profile: int) -> Any:
        """Queue a call; return the context that has its outputs' shapes."""
        if shapes in self._resources.graphs:
            self._resources.graphs.move_to_end(shapes)
            executable, context = self._resources.graphs[shapes]
            checked(self._cuda.cudaGraphLaunch(executable, self._resources.stream), self.path)
            return context
        self._set_shapes(self._context, shapes, profile)
        self._bind(self._context)
        self._require(self._enqueue(self._context, shapes), "a call failed")
        if len(self._seen) >= MAX_COUNTED:
            self._seen.clear()
        self._seen[shapes] += 1
        if self._capturable and self._seen[shapes] >= CAPTURE_AFTER:
            self._capturable = self._capture(shapes, profile)
        return self._context

    def _capture(self, shapes: Shapes, profile: int) -> bool:
        """Capture a call as a CUDA graph; return whether the engine can be captured.

        Engines with loops, for example, can't be; they run without a graph. A captured graph keeps
        using the state of its context, which must not change after that: each gets its own.
        """
        cuda, stream = self._cuda, self._resources.stream
        context = self._engine.create_execution_context()
        if context is None:
            return False
        self._set_shapes(context, shapes, profile)
        self._bind(context)
        # The first call after a change of shapes updates the context, which can't be captured.
        self._require(self._enqueue(context, shapes), "a call failed")
        self._wait()
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cuda.cudaStreamBeginCapture(stream, mode), self.path)
        try:
            enqueued = self._enqueue(context, shapes)
        finally:
            error, graph = cuda.cudaStreamEndCapture(stream)
        if not enqueued or int(error) != 0:
            cuda.cudaGetLastError()  # clears the error, which the next call would report
            self._log.errors.clear()
            return False
        executable = checked(cuda.cudaGraphInstantiate(graph, 0), self.path)
        checked(cuda.cudaGraphDestroy(graph), self.path)
        if evicted := self._resources.add_graph(shapes, executable, context):
            del self._seen[evicted]
        return True

    def _set_shapes(self, context: Any, shapes: Shapes, profile: int) -> None:
        if context.active_optimization_profile != profile:
            stream = int(self._resources.stream)
            changed = context.set_optimization_profile_async(profile, stream)
            self._require(changed, f"profile {profile} can't be set")
            self._wait()
        for tensor, shape in zip(self.inputs, shapes, strict=True):
            self._require(context.set_input_shape(tensor.name, shape), f"shape {shape} is refused")

    def _bind(self, context: Any) -> None:
        for name, buffer in self._buffers.items():
            accepted = context.set_tensor_address(name, buffer.device)
            self._require(accepted, f"the address of {name} is refused")

    def _enqueue(self, context: Any, shapes: Shapes) -> bool:
        """Queue the copies to the GPU, the engine, and the copies back."""
        kinds = self._cuda.cudaMemcpyKind
        for tensor, shape in zip(self.inputs, shapes, strict=True):
            buffer = self._buffers[tensor.name]
            to_device = kinds.cudaMemcpyHostToDevice
            self._copy(buffer.device, buffer.host, buffer.size(shape), to_device)
        if not context.execute_async_v3(int(self._resources.stream)):
            return False
        for tensor in self.outputs:
            buffer = self._buffers[tensor.name]
            size = buffer.size(tuple(context.get_tensor_shape(tensor.name)))
            self._copy(buffer.host, buffer.device, size, kinds.cudaMemcpyDeviceToHost)
        return True

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        copied = self._cuda.cudaMemcpyAsync(to, source, size, kind, self._resources.stream)
        checked(copied, self.path)

    def _wait(self) -> None:
        checked(self._cuda.cudaStreamSynchronize(self._resources.stream), self.path)

    def _require(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(f"{self.path}: {what}: {self._log.reason()}")


def _within(shape: tuple[int, ...], shapes: ShapeRange) -> bool:
    return len(shape) == len(shapes.max) and all(
        smallest <= size <= largest
        for smallest, size, largest in zip(shapes.min, shape, shapes.max, strict=True)
    )


def _listed(tensors: dict[str, str]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in sorted(tensors.items())) or "nothing"
