"""A stand-in for Triton: models of a repository, run as their configurations say.

It reads every config.pbtxt by the published schema, refuses what the server would (names, types,
shapes, batches), runs ONNX models in ONNX Runtime, and gives a Python model the module that the
server's Python backend gives. What it can't tell is what the real server does besides.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format

TYPES = {"FP32": np.float32, "FP16": np.float16, "UINT8": np.uint8, "INT64": np.int64}


def model_config_schema() -> ModuleType:
    """The published schema as tritonclient has it, without the gRPC that it imports otherwise."""
    package = pytest.importorskip("tritonclient")
    path = Path(package.__path__[0], "grpc", "model_config_pb2.py")
    spec = importlib.util.spec_from_file_location("triton_model_config", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Repository:
    """The models of a repository, loaded as the server does."""

    def __init__(self, folder: Path) -> None:
        schema = model_config_schema()
        self.folder = folder
        self.configs: dict[str, Any] = {}
        for path in folder.glob("*/config.pbtxt"):
            config = text_format.Parse(path.read_text(), schema.ModelConfig())
            assert config.name == path.parent.name
            self.configs[config.name] = config
        self.schema = schema
        self.batches: dict[str, list[int]] = {}  # rows of every request, by model
        self._sessions = {
            name: onnxruntime.InferenceSession(folder / name / "1" / "model.onnx")
            for name, config in self.configs.items()
            if config.backend == "onnxruntime"
        }

    def session(self, model: str) -> onnxruntime.InferenceSession:
        return self._sessions[model]

    def infer(self, model: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One request, checked on its way in and out."""
        config = self.configs[model]
        assert set(arrays) == {tensor.name for tensor in config.input}
        for tensor in config.input:
            self._check(config, tensor, arrays[tensor.name])
        if config.max_batch_size:
            [rows] = {len(array) for array in arrays.values()}
            assert 0 < rows <= config.max_batch_size
            self.batches.setdefault(model, []).append(rows)
        names = [tensor.name for tensor in config.output]
        made = dict(zip(names, self._sessions[model].run(names, arrays), strict=True))
        for tensor in config.output:
            if tensor.HasField("reshape"):
                made[tensor.name] = made[tensor.name].reshape(-1, *tensor.dims)
            self._check(config, tensor, made[tensor.name])
        return made

    def _check(self, config: Any, tensor: Any, array: np.ndarray) -> None:
        type_name = self.schema.DataType.Name(tensor.data_type).removeprefix("TYPE_")
        assert array.dtype == TYPES[type_name], tensor.name
        shape = array.shape[1:] if config.max_batch_size else array.shape
        assert len(shape) == len(tensor.dims), tensor.name
        assert all(dim in (-1, size) for dim, size in zip(tensor.dims, shape, strict=True))

    def python_model(self, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
        """The `TritonPythonModel` of a model, initialised."""
        monkeypatch.setitem(sys.modules, "triton_python_backend_utils", self._backend())
        folder = self.folder / name
        spec = importlib.util.spec_from_file_location("chain", folder / "1" / "model.py")
        assert spec and spec.loader
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.TritonPythonModel()
        model.initialize({"model_repository": str(folder), "model_version": "1"})
        return model

    def _backend(self) -> ModuleType:
        backend: Any = ModuleType("triton_python_backend_utils")
        repository = self

        class Response:
            def __init__(self, output_tensors: Any = (), error: Any = None) -> None:
                self.tensors = {tensor.name: tensor for tensor in output_tensors}
                self._error = error

            def has_error(self) -> bool:
                return self._error is not None

            def error(self) -> Any:
                return self._error

        class Request:
            def __init__(self, model_name: str, requested_output_names: Any, inputs: Any,
                         preferred_memory: Any = None) -> None:  # fmt: skip
                self._model, self._names, self._inputs = model_name, requested_output_names, inputs

            def exec(self) -> Response:
                try:
                    arrays = {one.name: one.as_numpy() for one in self._inputs}
                    made = repository.infer(self._model, arrays)
                except AssertionError as error:
                    return Response(error=TritonError(f"refused: {error}"))
                return Response([Tensor(name, made[name]) for name in self._names])

        backend.Tensor, backend.TritonError = Tensor, TritonError
        backend.InferenceRequest, backend.InferenceResponse = Request, Response
        backend.TRITONSERVER_MEMORY_CPU, backend.PreferredMemory = 0, lambda kind: kind
        backend.get_output_tensor_by_name = lambda response, name: response.tensors.get(name)
        backend.get_input_tensor_by_name = lambda request, name: request.get(name)
        return backend


class Tensor:
    def __init__(self, name: str, array: np.ndarray) -> None:
        self.name, self._array = name, array

    def as_numpy(self) -> np.ndarray:
        return self._array


class TritonError:
    def __init__(self, message: str) -> None:
        self._message = message

    def message(self) -> str:
        return self._message
