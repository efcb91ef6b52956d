"""Stand-ins for TensorRT and cuda-python, for machines that have neither.

They take the documented calls, insist on their types and order, and run networks in ONNX Runtime on
memory of the host. What passes here shows that our calls are in order and our books are right; it
does not show that TensorRT accepts them, let alone how fast it is.
"""

from __future__ import annotations

import ctypes
import enum
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime

from mfer_edge.bundle import Bundle, file_sha256, save_bundle

DYNAMIC = -1
UNKNOWN = ("MatMulInteger", "NonZero")  # operators that the parser refuses


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
    """Work runs when it is waited for, so that nobody gets by without waiting."""

    def __init__(self) -> None:
        self.queue: list[Callable[[], None]] = []
        self.captured: list[Callable[[], None]] | None = None
        self.spoilt = False  # the capture

    def add(self, work: Callable[[], None]) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def __int__(self) -> int:
        return id(self)


@dataclass
class World:
    """A machine with one GPU: what it has, what is allocated on it, and what was asked of it."""

    version: str = "10.3.0"
    gpu: str = "Orin"
    capability: tuple[int, int] = (8, 7)
    driver: bool = True
    starts: bool = True  # TensorRT's work with CUDA
    capturable: bool = True  # by CUDA graphs
    device_bytes: int = 1 << 30  # left
    contexts: int = 100  # that still fit
    memory: dict[int, tuple[Any, str]] = field(default_factory=dict)  # by address: host, device
    streams: dict[int, Stream] = field(default_factory=dict)
    graphs: list[Any] = field(default_factory=list)  # instantiated
    launches: int = 0  # of graphs
    runs: int = 0  # of networks outside graphs
    measured: list[bytes] = field(default_factory=list)  # timing caches that builds started from

    @property
    def in_use(self) -> int:
        """Things that were not given back."""
        return len(self.memory) + len(self.streams) + len(self.graphs)

    def find(self, address: int, size: int, kind: str) -> int:
        assert type(address) is int and type(size) is int
        for start, (block, of) in self.memory.items():
            if start <= address and address + size <= start + len(block):
                assert of == kind, f"{of} memory where {kind} memory is needed"
                return address
        raise AssertionError("not allocated, or too small")

    def modules(self) -> dict[str, ModuleType]:
        """The modules to put in the place of the real ones."""
        runtime = cuda_runtime(self)
        bindings = module("cuda.bindings", runtime=runtime)
        return {
            "tensorrt": tensorrt(self),
            "cuda": module("cuda", bindings=bindings),
            "cuda.bindings": bindings,
            "cuda.bindings.runtime": runtime,
        }


def module(name: str, **members: Any) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(members)
    return made


def cuda_runtime(world: World) -> ModuleType:
    """`cuda.bindings.runtime`: every call gives an error and, unless it is bare, a value."""

    def get_device() -> tuple[Any, ...]:
        return (Error.cudaSuccess, 0) if world.driver else (Error.cudaErrorInsufficientDriver, None)

    def get_properties(device: int) -> tuple[Any, ...]:
        assert device == 0
        major, minor = world.capability
        properties = SimpleNamespace(name=world.gpu.encode(), major=major, minor=minor)
        return Error.cudaSuccess, properties

    def allocate(kind: str, size: int) -> tuple[Any, ...]:
        assert type(size) is int and size > 0
        if kind == "device":
            if size > world.device_bytes:
                return Error.cudaErrorMemoryAllocation, None
            world.device_bytes -= size
        block = (ctypes.c_uint8 * size)()
        world.memory[ctypes.addressof(block)] = block, kind
        return Error.cudaSuccess, ctypes.addressof(block)

    def free(kind: str, address: int) -> tuple[Any, ...]:
        block, of = world.memory.pop(address)
        assert of == kind
        world.device_bytes += len(block) * (kind == "device")
        return (Error.cudaSuccess,)

    def create_stream(flags: int) -> tuple[Any, ...]:
        assert flags == 1
        stream = Stream()
        world.streams[id(stream)] = stream
        return Error.cudaSuccess, stream

    def destroy_stream(stream: Stream) -> tuple[Any, ...]:
        del world.streams[id(stream)]
        return (Error.cudaSuccess,)

    def copy(to: int, source: int, size: int, kind: CopyKind, stream: Stream) -> tuple[Any, ...]:
        out = CopyKind(kind) == CopyKind.cudaMemcpyDeviceToHost
        world.find(source, size, "device" if out else "host")
        world.find(to, size, "host" if out else "device")
        assert id(stream) in world.streams
        stream.add(lambda: ctypes.memmove(to, source, size) and None)
        return (Error.cudaSuccess,)

    def synchronize(stream: Stream) -> tuple[Any, ...]:
        if stream.captured is not None:
            stream.spoilt = True
            return (Error.cudaErrorStreamCaptureUnsupported,)
        for work in stream.queue:
            work()
        stream.queue.clear()
        return (Error.cudaSuccess,)

    def begin(stream: Stream, mode: CaptureMode) -> tuple[Any, ...]:
        assert isinstance(mode, CaptureMode) and stream.captured is None and not stream.queue
        stream.captured, stream.spoilt = [], False
        return (Error.cudaSuccess,)

    def end(stream: Stream) -> tuple[Any, ...]:
        assert stream.captured is not None
        captured, stream.captured = stream.captured, None
        if stream.spoilt:
            return Error.cudaErrorStreamCaptureUnsupported, None
        return Error.cudaSuccess, SimpleNamespace(work=captured)

    def instantiate(graph: Any, flags: int) -> tuple[Any, ...]:
        assert flags == 0
        executable = SimpleNamespace(work=list(graph.work))
        world.graphs.append(executable)
        return Error.cudaSuccess, executable

    def launch(executable: Any, stream: Stream) -> tuple[Any, ...]:
        assert executable in world.graphs and stream.captured is None
        world.launches += 1
        for work in executable.work:
            stream.add(work)
        return (Error.cudaSuccess,)

    def destroy_executable(executable: Any) -> tuple[Any, ...]:
        world.graphs.remove(executable)
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


class TypedFlag(enum.IntEnum):
    """Of TensorRT 10."""

    EXPLICIT_BATCH = 0
    STRONGLY_TYPED = 1


class LaterFlag(enum.IntEnum):
    """Of a version in which the flag is gone."""

    PREFER_JIT_PYTHON_PLUGINS = 3


def tensorrt(world: World) -> ModuleType:
    """`tensorrt`: 10's surface, or 11's, where networks are strongly typed without a flag."""
    ten = world.version.startswith("10.")

    class Network:
        model: onnx.ModelProto

    class Builder:
        def __init__(self, logger: Any) -> None:
            self.logger = checked_logger(logger)
            if not world.starts:
                raise TypeError("pybind11::init(): factory function returned nullptr")

        def create_network(self, flags: int = 0) -> Network:
            assert flags == (1 << int(TypedFlag.STRONGLY_TYPED) if ten else 0)
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
            world.measured.append(config.timings.data)
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

        def set_shape(self, name: str, least: Any, usual: Any, most: Any) -> None:
            assert len(least) == len(usual) == len(most)
            assert all(0 <= a <= b <= c for a, b, c in zip(least, usual, most, strict=True))
            self.shapes[name] = (tuple(least), tuple(usual), tuple(most))

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
            if not world.starts:
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
            if not world.contexts:
                self.logger.log(Severity.ERROR, "out of memory")
                return None
            world.contexts -= 1
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
            self.settled: Any = None  # shapes of the latest call
            self.frozen = False  # a graph holds its state
            self.busy = False  # a call is under way

        def set_optimization_profile_async(self, index: int, stream: int) -> bool:
            assert not self.frozen and not self.busy and stream in world.streams
            self.shapes, self.settled = {}, None
            self.active_optimization_profile = index
            return index < len(self.engine.profiles)

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            assert not self.frozen and not self.busy and type(shape) is tuple
            least, _, most = self.engine.profiles[self.active_optimization_profile][name]
            self.shapes[name] = shape
            return len(shape) == len(least) and all(
                a <= n <= c for a, n, c in zip(least, shape, most, strict=True)
            )

        def set_tensor_address(self, name: str, address: int) -> bool:
            assert not self.frozen and not self.busy
            self.addresses[name] = world.find(address, 1, "device")
            return name in self.engine.tensors

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            shapes = self.shapes | self.engine.output_shapes(self.shapes)
            return shapes[name]

        def execute_async_v3(self, handle: int) -> bool:
            stream = world.streams[handle]
            arrays = {name: self.array(name) for name in self.engine.tensors}
            if stream.captured is None:
                self.settled, self.busy = dict(self.shapes), True
                world.runs += 1
            elif not world.capturable:
                stream.spoilt = True
                return False
            else:
                assert self.settled == self.shapes, "captured without a call before"
                self.frozen = True

            def work() -> None:
                given = {name: arrays[name] for name in self.engine.inputs}
                results = self.engine.session.run(None, given)
                for name, result in zip(self.engine.outputs, results, strict=True):
                    arrays[name][...] = result
                self.busy = False

            stream.add(work)
            return True

        def array(self, name: str) -> np.ndarray:
            """What lies at a tensor's address."""
            shape = self.get_tensor_shape(name)
            dtype = np.dtype(nptype(self.engine.get_tensor_dtype(name)))
            size = int(np.prod(shape)) * dtype.itemsize
            address = world.find(self.addresses[name], size, "device")
            block = (ctypes.c_uint8 * size).from_address(address)
            return np.frombuffer(block, dtype).reshape(shape)

    def nptype(dtype: str) -> Any:
        return {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}[dtype]

    header = f"timings {world.version} {world.gpu} ".encode()
    stamp = (world.version, world.capability)
    return module(
        "tensorrt",
        __version__=world.version,
        ILogger=ILogger,
        Builder=Builder,
        OnnxParser=OnnxParser,
        Runtime=Runtime,
        NetworkDefinitionCreationFlag=TypedFlag if ten else LaterFlag,
        TensorIOMode=TensorIOMode,
        MemoryPoolType=MemoryPoolType,
        BuilderFlag=BuilderFlag,
        nptype=nptype,
    )


def voice_network(path: Path, width: int, labels: int, operator: str = "Tanh") -> None:
    """Write a small network with the audio network's inputs and outputs: two convolutions, a mean.

    Args:
        operator: what stands between them; by default one that changes something.
    """
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = random.normal(0, 0.3, shape).astype(np.float32)
        return onnx.numpy_helper.from_array(values, name)

    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            node("Unsqueeze", ["wave", "one"], ["channels"]),
            node("Conv", ["channels", "first"], ["heard"], strides=[160]),
            node(operator, ["heard"], ["bent"], name="between"),
            node("ReduceMean", ["bent", "last"], ["embedding"], keepdims=0),
            node("MatMul", ["embedding", "classes"], ["logits"]),
            node("Softmax", ["logits"], ["scores"]),
        ],
        "voice",
        [onnx.helper.make_tensor_value_info("wave", onnx.TensorProto.FLOAT, [1, "samples"])],
        [
            onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, labels]),
            onnx.helper.make_tensor_value_info("embedding", onnx.TensorProto.FLOAT, [1, width]),
        ],
        [
            weight("first", width, 1, 400),
            weight("classes", width, labels),
            onnx.numpy_helper.from_array(np.array([1]), "one"),
            onnx.numpy_helper.from_array(np.array([2]), "last"),
        ],
    )
    opset = onnx.helper.make_opsetid("", 18)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=10), path)


def gpu_bundle(folder: Path, operator: str = "Tanh") -> Bundle:
    """Save the compact bundle with a small audio network instead of its own, which is for CPUs."""
    compact = Bundle.open()
    manifest = compact.manifest
    files = {file.file: compact.folder / file.file for file in manifest.files}
    audio = manifest.engines["audio"]
    files[audio.file] = folder.with_suffix(".onnx")
    scores, embedding = (int(tensor.shape[-1]) for tensor in audio.outputs)
    voice_network(files[audio.file], embedding, scores, operator)
    audio = replace(
        audio,
        sha256=file_sha256(files[audio.file]),
        bytes=files[audio.file].stat().st_size,
        work={"fp32": 1},
    )
    engines = {**manifest.engines, "audio": audio}
    return save_bundle(folder, replace(manifest, engines=engines), files, "# The card\n")
