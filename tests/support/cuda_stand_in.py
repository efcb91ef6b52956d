"""Stand-in for cuda-python: streams, memory and graphs of a GPU, in host memory."""

from __future__ import annotations

import ctypes
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any


class Error(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorStreamCaptureUnsupported = 900


class CopyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class CaptureMode(enum.IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1


class Stream:
    """A stream whose work runs when it is synchronized, so that missing waits are noticed."""

    def __init__(self) -> None:
        self.queue: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        self.invalidated = False  # the capture

    def add(self, work: Callable[[], None]) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def __int__(self) -> int:
        return id(self)


@dataclass
class GpuMachine:
    """A machine with one GPU: its properties, its allocations, and counts of calls."""

    version: str = "10.3.0"
    gpu: str = "Orin"
    capability: tuple[int, int] = (8, 7)
    driver: bool = True
    starts: bool = True  # whether TensorRT can initialize CUDA
    capturable: bool = True  # whether engines can be captured in CUDA graphs
    device_bytes: int = 1 << 30  # free GPU memory
    contexts: int = 100  # execution contexts that still fit in memory
    memory: dict[int, tuple[Any, str]] = field(default_factory=dict)  # by address: host, device
    streams: dict[int, Stream] = field(default_factory=dict)
    graphs: list[Any] = field(default_factory=list)  # instantiated
    launches: int = 0  # of graphs
    runs: int = 0  # of engines outside graphs
    measured: list[bytes] = field(default_factory=list)  # timing caches that builds started with

    @property
    def in_use(self) -> int:
        """Number of allocations, streams and graphs that were not freed."""
        return len(self.memory) + len(self.streams) + len(self.graphs)

    def find(self, address: int, size: int, kind: str) -> int:
        """Check that memory of this kind is allocated; return the address."""
        assert type(address) is int and type(size) is int
        for start, (block, of) in self.memory.items():
            if start <= address and address + size <= start + len(block):
                assert of == kind, f"{of} memory where {kind} memory is needed"
                return address
        raise AssertionError("not allocated, or too small")


def module(name: str, **members: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    return made


def cuda_runtime(machine: GpuMachine) -> ModuleType:
    """`cuda.bindings.runtime`: every call returns an error code, most with a value."""

    def get_device() -> tuple[Any, ...]:
        return (
            (Error.cudaSuccess, 0) if machine.driver else (Error.cudaErrorInsufficientDriver, None)
        )

    def get_properties(device: int) -> tuple[Any, ...]:
        assert device == 0
        major, minor = machine.capability
        properties = SimpleNamespace(name=machine.gpu.encode(), major=major, minor=minor)
        return Error.cudaSuccess, properties

    def allocate(kind: str, size: int) -> tuple[Any, ...]:
        assert type(size) is int and size > 0
        if kind == "device":
            if size > machine.device_bytes:
                return Error.cudaErrorMemoryAllocation, None
            machine.device_bytes -= size
        block = (ctypes.c_uint8 * size)()
        machine.memory[ctypes.addressof(block)] = block, kind
        return Error.cudaSuccess, ctypes.addressof(block)

    def free(kind: str, address: int) -> tuple[Any, ...]:
        block, of = machine.memory.pop(address)
        assert of == kind
        machine.device_bytes += len(block) * (kind == "device")
        return (Error.cudaSuccess,)

    def create_stream(flags: int) -> tuple[Any, ...]:
        assert flags == 1
        stream = Stream()
        machine.streams[id(stream)] = stream
        return Error.cudaSuccess, stream

    def destroy_stream(stream: Stream) -> tuple[Any, ...]:
        del machine.streams[id(stream)]
        return (Error.cudaSuccess,)

    def copy(to: int, source: int, size: int, kind: CopyKind, stream: Stream) -> tuple[Any, ...]:
        out = CopyKind(kind) == CopyKind.cudaMemcpyDeviceToHost
        machine.find(source, size, "device" if out else "host")
        machine.find(to, size, "host" if out else "device")
        assert id(stream) in machine.streams
        stream.add(lambda: ctypes.memmove(to, source, size) and None)
        return (Error.cudaSuccess,)

    def synchronize(stream: Stream) -> tuple[Any, ...]:
        if stream.captured is not None:
            stream.invalidated = True
            return (Error.cudaErrorStreamCaptureUnsupported,)
        for work in stream.queue:
            work()
        stream.queue.clear()
        return (Error.cudaSuccess,)

    def begin(stream: Stream, mode: CaptureMode) -> tuple[Any, ...]:
        assert isinstance(mode, CaptureMode) and stream.captured is None and not stream.queue
        stream.captured, stream.invalidated = [], False
        return (Error.cudaSuccess,)

    def end(stream: Stream) -> tuple[Any, ...]:
        assert stream.captured is not None
        captured, stream.captured = stream.captured, None
        if stream.invalidated:
            return Error.cudaErrorStreamCaptureUnsupported, None
        return Error.cudaSuccess, SimpleNamespace(work=captured)

    def instantiate(graph: Any, flags: int) -> tuple[Any, ...]:
        assert flags == 0
        executable = SimpleNamespace(work=list(graph.work))
        machine.graphs.append(executable)
        return Error.cudaSuccess, executable

    def launch(executable: Any, stream: Stream) -> tuple[Any, ...]:
        assert executable in machine.graphs and stream.captured is None
        machine.launches += 1
        for work in executable.work:
            stream.add(work)
        return (Error.cudaSuccess,)

    def destroy_executable(executable: Any) -> tuple[Any, ...]:
        machine.graphs.remove(executable)
        return (Error.cudaSuccess,)

    return module(
        "cuda.bindings.runtime",
        cudaError_t=Error,
        cudaMemcpyKind=CopyKind,
        cudaStreamCaptureMode=CaptureMode,
        cudaStreamNonBlocking=1,
        cudaGetDevice=get_device,
        cudaGetDeviceProperties=get_properties,
        cudaMalloc=lambda size: allocate("device", size),
        cudaMallocHost=lambda size: allocate("host", size),
        cudaFree=lambda address: free("device", address),
        cudaFreeHost=lambda address: free("host", address),
        cudaStreamCreateWithFlags=create_stream,
        cudaStreamDestroy=destroy_stream,
        cudaStreamSynchronize=synchronize,
        cudaStreamBeginCapture=begin,
        cudaStreamEndCapture=end,
        cudaMemcpyAsync=copy,
        cudaGraphInstantiate=instantiate,
        cudaGraphDestroy=lambda graph: (Error.cudaSuccess,),
        cudaGraphLaunch=launch,
        cudaGraphExecDestroy=destroy_executable,
        cudaGetLastError=lambda: (Error.cudaSuccess,),
    )
