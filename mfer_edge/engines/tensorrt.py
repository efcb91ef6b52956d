"""Networks as native TensorRT engines, which run only where they were built."""

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

from mfer_edge.bundle import Plan, ShapeRange
from mfer_edge.engines.base import TensorSpec
from mfer_edge.engines.tensorrt_target import (
    checked,
    error_log,
    import_cuda,
    import_tensorrt,
    start,
)
from mfer_edge.errors import EngineError

REPEATS = 3  # calls with the same shapes after which they get a CUDA graph: they will come again
SHAPES = 1000  # whose calls are counted
GRAPHS = 3  # CUDA graphs kept by a network; each takes a context, with memory of its own on the GPU

Shapes = tuple[tuple[int, ...], ...]  # of an engine's inputs, in its order


@dataclass(frozen=True)
class _Buffer:
    """Room for one tensor at its largest, in pinned memory and on the GPU."""

    dtype: np.dtype[Any]
    host: int  # address
    device: int  # address
    room: np.ndarray  # (bytes,) uint8: the pinned memory

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """The pinned memory as an array."""
        return self.room[: self.size(shape)].view(self.dtype).reshape(shape)

    def size(self, shape: tuple[int, ...]) -> int:
        """Bytes that an array takes."""
        return math.prod(shape) * self.dtype.itemsize


class _Lent:
    """What CUDA lends to one engine: a stream, memory, and graphs; all of it is given back."""

    def __init__(self, cuda: ModuleType, path: Path) -> None:
        self._cuda = cuda
        self._path = path
        self.stream = checked(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking), path)
        self.graphs: OrderedDict[Shapes, tuple[Any, Any]] = OrderedDict()
        """Captured calls, each with the context that belongs to it; the latest used last."""
        self._hosts: list[int] = []
        self._devices: list[int] = []

    def buffer(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> _Buffer:
        size = math.prod(shape) * dtype.itemsize
        self._hosts.append(host := int(checked(self._cuda.cudaMallocHost(size), self._path)))
        self._devices.append(device := int(checked(self._cuda.cudaMalloc(size), self._path)))
        room = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(host))
        return _Buffer(dtype, host, device, room)

    def keep(self, shapes: Shapes, executable: Any, context: Any) -> Shapes | None:
        """Keep a graph; give the shapes of the one that had to go for it, if any."""
        self.graphs[shapes] = executable, context
        if len(self.graphs) <= GRAPHS:
            return None
        gone, (executable, _) = self.graphs.popitem(last=False)
        self._cuda.cudaGraphExecDestroy(executable)
        return gone

    def give_back(self) -> None:
        """Free everything; errors are past caring about."""
        for executable, _ in self.graphs.values():
            self._cuda.cudaGraphExecDestroy(executable)
        self.graphs.clear()
        for address in self._devices:
            self._cuda.cudaFree(address)
        for address in self._hosts:
            self._cuda.cudaFreeHost(address)
        self._cuda.cudaStreamDestroy(self.stream)


class TensorRtEngine:
    """One network in TensorRT.

    Calls take turns; a thread may call while another does. Shapes that repeat are captured into a
    CUDA graph, which starts the whole call with one launch.

    Args:
        path: the serialized engine.
        plan: what the bundle's manifest tells of it; `check_plans` says whether it fits.

    Raises:
        EngineError: TensorRT can't load it, or the GPU has no room for it.
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
        self._runtime = start(trt.Runtime, self._log)
        self._engine = self._runtime.deserialize_cuda_engine(serialized)
        self._demand(self._engine is not None, "can't be loaded")
        self._context = self._engine.create_execution_context()
        self._demand(self._context is not None, "no room for it on the GPU")

        self.inputs = self._tensors(trt, trt.TensorIOMode.INPUT)
        self.outputs = self._tensors(trt, trt.TensorIOMode.OUTPUT)

        self._lent = _Lent(self._cuda, path)
        # Also when the program ends; unlike __del__, while modules are still whole.
        self._free = weakref.finalize(self, self._lent.give_back)
        try:
            self._buffers = self._room()
        except EngineError:
            self.close()
            raise

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on named arrays; give every output by name.

        Raises:
            EngineError: the arrays are not what the engine was built for, or the GPU gave up.
        """
        with self._lock:
            if not self._free.alive:
                raise EngineError(f"{self.path}: closed")
            shapes, profile = self._accepted(arrays)
            for name, array in arrays.items():
                np.copyto(self._buffers[name].array(array.shape), array)
            context = self._run(shapes, profile)
            self._wait()
            return {
                tensor.name: self._buffers[tensor.name]
                .array(tuple(context.get_tensor_shape(tensor.name)))
                .copy()
                for tensor in self.outputs
            }

    def close(self) -> None:
        """Give the GPU's memory back; the engine can't be called any more."""
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

    def _accepted(self, arrays: dict[str, np.ndarray]) -> tuple[Shapes, int]:
        """Check arrays; give their shapes, and the profile that takes them."""
        given = {name: array.dtype.name for name, array in arrays.items()}
        taken = {tensor.name: tensor.dtype for tensor in self.inputs}
        if given != taken:
            raise EngineError(f"{self.path}: takes {_listed(taken)}, not {_listed(given)}")
        for index, profile in enumerate(self._profiles):
            if all(_within(array.shape, profile[name]) for name, array in arrays.items()):
                return tuple(arrays[tensor.name].shape for tensor in self.inputs), index
        least, most = self._profiles[0], self._profiles[-1]
        spans = [f"{name} of {least[name].least} to {most[name].most}" for name in arrays]
        shapes = [str(array.shape) for array in arrays.values()]
        raise EngineError(
            f"{self.path}: built for {', '.join(spans)}, not {', '.join(shapes)}; "
            "a shorter window may fit"
        )

    def _room(self) -> dict[str, _Buffer]:
        """Allocate for the largest profile."""
        largest = {name: span.most for name, span in self._profiles[-1].items()}
        shapes = tuple(largest[tensor.name] for tensor in self.inputs)
        self._set_shapes(self._context, shapes, len(self._profiles) - 1)
        for tensor in self.outputs:
            largest[tensor.name] = tuple(self._context.get_tensor_shape(tensor.name))
        return {
            tensor.name: self._lent.buffer(np.dtype(tensor.dtype), largest[tensor.name])
            for tensor in (*self.inputs, *self.outputs)
        }

    def _run(self, shapes: Shapes, profile: int) -> Any:
        """Queue a call; give the context that knows its outputs' shapes."""
        if shapes in self._lent.graphs:
            self._lent.graphs.move_to_end(shapes)
            executable, context = self._lent.graphs[shapes]
            checked(self._cuda.cudaGraphLaunch(executable, self._lent.stream), self.path)
            return context
        self._set_shapes(self._context, shapes, profile)
        self._bind(self._context)
        self._demand(self._enqueue(self._context, shapes), "a call failed")
        if len(self._seen) >= SHAPES:
            self._seen.clear()
        self._seen[shapes] += 1
        if self._capturable and self._seen[shapes] >= REPEATS:
            self._capturable = self._capture(shapes, profile)
        return self._context

    def _capture(self, shapes: Shapes, profile: int) -> bool:
        """Keep a call as a CUDA graph; say whether that can be done.

        Not every engine can be captured, loops for one; it then runs as well without. A graph holds
        the state of its context, which must not change any more: it gets one of its own.
        """
        cuda, stream = self._cuda, self._lent.stream
        context = self._engine.create_execution_context()
        if context is None:
            return False
        self._set_shapes(context, shapes, profile)
        self._bind(context)
        # What new shapes ask of a context is done at the first call, which can't be captured.
        self._demand(self._enqueue(context, shapes), "a call failed")
        self._wait()
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cuda.cudaStreamBeginCapture(stream, mode), self.path)
        try:
            enqueued = self._enqueue(context, shapes)
        finally:
            error, graph = cuda.cudaStreamEndCapture(stream)
        if not enqueued or int(error) != 0:
            cuda.cudaGetLastError()  # or the next call would be blamed for it
            self._log.errors.clear()
            return False
        executable = checked(cuda.cudaGraphInstantiate(graph, 0), self.path)
        checked(cuda.cudaGraphDestroy(graph), self.path)
        if gone := self._lent.keep(shapes, executable, context):
            del self._seen[gone]
        return True

    def _set_shapes(self, context: Any, shapes: Shapes, profile: int) -> None:
        if context.active_optimization_profile != profile:
            stream = int(self._lent.stream)
            changed = context.set_optimization_profile_async(profile, stream)
            self._demand(changed, f"profile {profile} can't be had")
            self._wait()
        for tensor, shape in zip(self.inputs, shapes, strict=True):
            self._demand(context.set_input_shape(tensor.name, shape), f"refuses {shape}")

    def _bind(self, context: Any) -> None:
        for name, buffer in self._buffers.items():
            self._demand(context.set_tensor_address(name, buffer.device), f"refuses {name}")

    def _enqueue(self, context: Any, shapes: Shapes) -> bool:
        """Queue the copies to the GPU, the network, and the copies back."""
        kinds = self._cuda.cudaMemcpyKind
        for tensor, shape in zip(self.inputs, shapes, strict=True):
            buffer = self._buffers[tensor.name]
            to_device = kinds.cudaMemcpyHostToDevice
            self._copy(buffer.device, buffer.host, buffer.size(shape), to_device)
        if not context.execute_async_v3(int(self._lent.stream)):
            return False
        for tensor in self.outputs:
            buffer = self._buffers[tensor.name]
            size = buffer.size(tuple(context.get_tensor_shape(tensor.name)))
            self._copy(buffer.host, buffer.device, size, kinds.cudaMemcpyDeviceToHost)
        return True

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        copied = self._cuda.cudaMemcpyAsync(to, source, size, kind, self._lent.stream)
        checked(copied, self.path)

    def _wait(self) -> None:
        checked(self._cuda.cudaStreamSynchronize(self._lent.stream), self.path)

    def _demand(self, done: bool, what: str) -> None:
        if not done:
            raise EngineError(f"{self.path}: {what}: {self._log.reason()}")


def _within(shape: tuple[int, ...], span: ShapeRange) -> bool:
    return len(shape) == len(span.most) and all(
        least <= size <= most
        for least, size, most in zip(span.least, shape, span.most, strict=True)
    )


def _listed(tensors: dict[str, str]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in sorted(tensors.items())) or "nothing"
