"""Stand-in for TensorRT, for machines without it.

It takes the documented calls, checks their types and order, and runs graphs in ONNX Runtime on host
memory. Tests with it show that calls are in order, that resources are freed, and what errors say;
they do not show that TensorRT accepts the graphs, nor how fast it is: see `tests/gpu` for that.
"""

from __future__ import annotations

import ctypes
import enum
import pickle
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.support.cuda_stand_in import GpuMachine, cuda_runtime, module

DYNAMIC = -1
UNKNOWN = ("MatMulInteger", "NonZero")  # operators that the parser rejects


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3


class ILogger:
    Severity = Severity

    def __init__(self) -> None:
        self.made = True


def checked_logger(logger: Any) -> Any:
    assert isinstance(logger, ILogger) and logger.made, "ILogger.__init__ was not called"
    return logger


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class BuilderFlag(enum.Enum):
    TF32 = 0


class NetworkFlags10(enum.IntEnum):
    """Network creation flags of TensorRT 10."""

    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class NetworkFlags11(enum.IntEnum):
    """Network creation flags of a version without `STRONGLY_TYPED`."""

    PREFER_JIT_PYTHON_PLUGINS = 3


def tensorrt(machine: GpuMachine) -> ModuleType:
    """`tensorrt` 10, or 11, where networks are strongly typed without a flag."""
    ten = machine.version.startswith("10.")

    class Network:
        model: onnx.ModelProto

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.logger = checked_logger(logger)
            if not machine.starts:
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def create_network(self, flags: int = 0) -> Network:
            assert flags == (1 << int(NetworkFlags10.STRONGLY_TYPED) if ten else 0)
            return Network()

        def create_builder_config(self) -> Config:
            return Config()

        def create_optimization_profile(self) -> Profile:
            return Profile()

        def build_serialized_network(self, network: Network, config: Config) -> memoryview | None:
            assert config.workspace, "no limit to the workspace"
            assert config.tf32 is False
            if any(node.op_type == "Unbuildable" for node in network.model.graph.node):
                self.logger.log(Severity.ERROR, "no implementation\nfor the node")
                self.logger.log(Severity.ERROR, "build failed")
                return None
            assert config.timings is not None
            machine.measured.append(config.timings.data)
            config.timings.data = header + b"measured"
            engine = (stamp, [p.shapes for p in config.profiles], network.model.SerializeToString())
            return memoryview(pickle.dumps(engine))

    class OnnxParser:
        def __init__(self, network: Network, logger: Any) -> None:
            self.network = network
            checked_logger(logger)
            self.errors: list[onnx.NodeProto] = []

        @property
        def num_errors(self) -> int:
            return len(self.errors)

        def parse_from_file(self, path: str) -> bool:
            assert type(path) is str
            self.network.model = onnx.load(path)
            self.errors = [n for n in self.network.model.graph.node if n.op_type in UNKNOWN]
            return not self.errors

        def get_error(self, index: int) -> Any:
            node = self.errors[index]
            return SimpleNamespace(
                desc=lambda: "No importer\nregistered for op",
                node_name=lambda: node.name,
                node_operator=lambda: node.op_type,
            )

    class Profile:
        def __init__(self) -> None:
            self.shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

        def set_shape(self, name: str, min: Any, opt: Any, max: Any) -> None:
            assert len(min) == len(opt) == len(max)
            assert all(0 <= a <= b <= c for a, b, c in zip(min, opt, max, strict=True))
            self.shapes[name] = (tuple(min), tuple(opt), tuple(max))

    class Timings:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def serialize(self) -> memoryview:
            return memoryview(self.data)

    class Config:
        def __init__(self) -> None:
            self.workspace = 0
            self.tf32 = True
            self.profiles: list[Profile] = []
            self.timings: Timings | None = None

        def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
            assert pool is MemoryPoolType.WORKSPACE and type(size) is int
            self.workspace = size

        def clear_flag(self, flag: BuilderFlag) -> None:
            assert flag is BuilderFlag.TF32
            self.tf32 = False

        def add_optimization_profile(self, profile: Profile) -> int:
            if not profile.shapes:
                return -1
            self.profiles.append(profile)
            return len(self.profiles) - 1

        def create_timing_cache(self, data: bytes) -> Timings | None:
            assert isinstance(data, bytes)
            return Timings(data) if data == b"" or data.startswith(b"timings") else None

        def set_timing_cache(self, cache: Timings, ignore_mismatch: bool) -> bool:
            if cache.data and not ignore_mismatch and not cache.data.startswith(header):
                return False
            self.timings = cache
            return True

        def get_timing_cache(self) -> Timings | None:
            return self.timings

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = checked_logger(logger)
            if not machine.starts:
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def deserialize_cuda_engine(self, data: bytes) -> CudaEngine | None:
            try:
                built_for, profiles, graph = pickle.loads(data)
            except (pickle.UnpicklingError, EOFError):
                self.logger.log(Severity.ERROR, "Magic tag does not match")
                return None
            if built_for != stamp:
                self.logger.log(Severity.ERROR, "built for another")
                return None
            return CudaEngine(self.logger, profiles, graph)

    class CudaEngine:
        def __init__(self, logger: Any, profiles: list[Any], graph: bytes) -> None:
            self.logger = logger
            self.profiles = profiles
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 1
            cpu = ["CPUExecutionProvider"]
            self.session = onnxruntime.InferenceSession(graph, options, providers=cpu)
            self.inputs = {node.name: node for node in self.session.get_inputs()}
            self.outputs = {node.name: node for node in self.session.get_outputs()}
            self.tensors = self.inputs | self.outputs
            self.num_io_tensors = len(self.tensors)
            self.known: dict[Any, dict[str, tuple[int, ...]]] = {}

        def get_tensor_name(self, index: int) -> str:
            return list(self.tensors)[index]

        def get_tensor_mode(self, name: str) -> TensorIOMode:
            return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

        def get_tensor_dtype(self, name: str) -> str:
            return self.tensors[name].type

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            return tuple(n if type(n) is int else DYNAMIC for n in self.tensors[name].shape)

        def create_execution_context(self) -> Context | None:
            if not machine.contexts:
                self.logger.log(Severity.ERROR, "out of memory")
                return None
            machine.contexts -= 1
            return Context(self)

        def output_shapes(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
            key = tuple(sorted(shapes.items()))
            if key not in self.known:
                given = {
                    name: np.ones(shape, nptype(self.get_tensor_dtype(name)))
                    for name, shape in shapes.items()
                }
                results = self.session.run(None, given)
                self.known[key] = {n: r.shape for n, r in zip(self.outputs, results, strict=True)}
            return self.known[key]

    class Context:
        def __init__(self, engine: CudaEngine) -> None:
            self.engine = engine
            self.active_optimization_profile = 0
            self.shapes: dict[str, tuple[int, ...]] = {}
            self.addresses: dict[str, int] = {}
            self.called_with: Any = None  # shapes of the latest call
            self.captured = False  # a graph uses its state
            self.busy = False  # a call is running

        def set_optimization_profile_async(self, index: int, stream: int) -> bool:
            assert not self.captured and not self.busy and stream in machine.streams
            self.shapes, self.called_with = {}, None
            self.active_optimization_profile = index
            return index < len(self.engine.profiles)

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            assert not self.captured and not self.busy and type(shape) is tuple
            smallest, _, largest = self.engine.profiles[self.active_optimization_profile][name]
            self.shapes[name] = shape
            return len(shape) == len(smallest) and all(
                a <= n <= c for a, n, c in zip(smallest, shape, largest, strict=True)
            )

        def set_tensor_address(self, name: str, address: int) -> bool:
            assert not self.captured and not self.busy
            self.addresses[name] = machine.find(address, 1, "device")
            return name in self.engine.tensors

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            shapes = self.shapes | self.engine.output_shapes(self.shapes)
            return shapes[name]

        def execute_async_v3(self, handle: int) -> bool:
            stream = machine.streams[handle]
            arrays = {name: self.array(name) for name in self.engine.tensors}
            if stream.captured is None:
                self.called_with, self.busy = dict(self.shapes), True
                machine.runs += 1
            elif not machine.capturable:
                stream.invalidated = True
                return False
            else:
                assert self.called_with == self.shapes, "captured without a call before"
                self.captured = True

            def work() -> None:
                given = {name: arrays[name] for name in self.engine.inputs}
                results = self.engine.session.run(None, given)
                for name, result in zip(self.engine.outputs, results, strict=True):
                    arrays[name][...] = result
                self.busy = False

            stream.add(work)
            return True

        def array(self, name: str) -> np.ndarray:
            """The memory at a tensor's address, as an array."""
            shape = self.get_tensor_shape(name)
            dtype = np.dtype(nptype(self.engine.get_tensor_dtype(name)))
            size = int(np.prod(shape)) * dtype.itemsize
            address = machine.find(self.addresses[name], size, "device")
            block = (ctypes.c_uint8 * size).from_address(address)
            return np.frombuffer(block, dtype).reshape(shape)

    def nptype(dtype: str) -> Any:
        return {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}[dtype]

    header = f"timings {machine.version} {machine.gpu} ".encode()
    stamp = (machine.version, machine.capability)
    return module(
        "tensorrt",
        __version__=machine.version,
        ILogger=ILogger,
        Builder=Builder,
        OnnxParser=OnnxParser,
        Runtime=Runtime,
        NetworkDefinitionCreationFlag=NetworkFlags10 if ten else NetworkFlags11,
        TensorIOMode=TensorIOMode,
        MemoryPoolType=MemoryPoolType,
        BuilderFlag=BuilderFlag,
        nptype=nptype,
    )


def modules(machine: GpuMachine) -> dict[str, ModuleType]:
    """The modules to replace the real ones, by name."""
    runtime = cuda_runtime(machine)
    bindings = module("cuda.bindings", runtime=runtime)
    return {
        "tensorrt": tensorrt(machine),
        "cuda": module("cuda", bindings=bindings),
        "cuda.bindings": bindings,
        "cuda.bindings.runtime": runtime,
    }


def install(monkeypatch: pytest.MonkeyPatch, machine: GpuMachine) -> GpuMachine:
    """Let this process find TensorRT and a GPU."""
    for name, stand_in in modules(machine).items():
        monkeypatch.setitem(sys.modules, name, stand_in)
    return machine
