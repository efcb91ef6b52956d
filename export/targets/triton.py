"""Model repositories for Triton Inference Server, from a bundle: its engines, and their chain.

Configurations follow `model_config.proto` (github.com/triton-inference-server/common). An engine
whose tensors all begin with one free dimension is batched by the server, over the requests of all
clips.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import TensorSpec
from mfer_edge.engines.load import ACCELERATED
from mfer_edge.engines.triton import MAX_BATCH, engine_model
from mfer_edge.errors import OutputError
from mfer_edge.manifest import MANIFEST, EngineFile
from mfer_edge.outputs.temporary import temporary_folder

VERSION = "1"  # of every model; a folder's name
CHAIN_FILE = Path(__file__).with_name("triton_chain.py")

QUEUE_US = 2000  # longest that a request waits for others to be batched with
NAME = r"\w[\w.-]*"  # of a model: also a folder's
CHAINS = 2  # clips at once: instances of the chain

DTYPES = {
    "float32": "TYPE_FP32",
    "float16": "TYPE_FP16",
    "uint8": "TYPE_UINT8",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
}


@dataclass(frozen=True)
class TensorConfig:
    """An input or an output of a model."""

    name: str
    dtype: str  # Triton's
    dims: tuple[int, ...]  # -1 for any size; without the batch
    batch_alone: bool = False  # the model's own tensor has no dimension but the batch
    optional: bool = False

    def text(self) -> str:
        """As in config.pbtxt."""
        parts = [f"name: {json.dumps(self.name)}", f"data_type: {self.dtype}"]
        parts.append(f"dims: [ {', '.join(map(str, self.dims))} ]")
        if self.batch_alone:
            parts.append("reshape { shape: [ ] }")
        if self.optional:
            parts.append("optional: true")
        return "{ " + " ".join(parts) + " }"


@dataclass(frozen=True)
class ModelConfig:
    """A model of the repository."""

    name: str
    backend: str
    inputs: tuple[TensorConfig, ...]
    outputs: tuple[TensorConfig, ...]
    kind: str  # of the instances
    count: int = 1  # of instances
    max_batch: int = 0  # 0: the server does not batch
    parameters: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """Content of config.pbtxt."""
        lines = [
            f"name: {json.dumps(self.name)}",
            f"backend: {json.dumps(self.backend)}",
            f"max_batch_size: {self.max_batch}",
            *(f"input {tensor.text()}" for tensor in self.inputs),
            *(f"output {tensor.text()}" for tensor in self.outputs),
            f"instance_group {{ count: {self.count} kind: {self.kind} }}",
        ]
        if self.max_batch:
            lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_US} }}")
        for key, value in self.parameters.items():
            quoted = f"key: {json.dumps(key)} value {{ string_value: {json.dumps(value)} }}"
            lines.append(f"parameters {{ {quoted} }}")
        return "\n".join(lines) + "\n"


def engine_config(bundle_name: str, name: str, engine: EngineFile) -> ModelConfig:
    """Configuration of one engine."""
    batched = has_batch(engine)
    accelerated = name in ACCELERATED
    return ModelConfig(
        engine_model(bundle_name, name),
        "onnxruntime",
        _tensors(engine.inputs, batched),
        _tensors(engine.outputs, batched),
        "KIND_AUTO" if accelerated else "KIND_CPU",  # auto: a GPU, where there is one
        count=1 if accelerated else CHAINS,
        max_batch=MAX_BATCH if batched else 0,
        parameters={} if accelerated else {"intra_op_thread_count": "1"},
    )


def chain_config(bundle_name: str) -> ModelConfig:
    """Configuration of the model that takes clips."""
    clip = TensorConfig("clip", "TYPE_STRING", (1,))
    options = TensorConfig("options", "TYPE_STRING", (1,), optional=True)
    analysis = TensorConfig("analysis", "TYPE_STRING", (1,))
    return ModelConfig(
        bundle_name, "python", (clip, options), (analysis,), "KIND_CPU", count=CHAINS
    )


def has_batch(engine: EngineFile) -> bool:
    """Whether every tensor begins with the same free dimension, so that the server may batch.

    Over an axis of time it may not: `vad` has a state beside it, without that axis.
    """
    first = {tensor.shape[0] for tensor in (*engine.inputs, *engine.outputs)}
    return len(first) == 1 and isinstance(first.pop(), str)


def write_repository(bundle: Bundle, out: Path) -> list[ModelConfig]:
    """Write a model repository: a folder for each engine, and one for the chain.

    Args:
        out: a folder that does not exist, or an empty one.

    Raises:
        OutputError: there is something in it, it can't be written, or the bundle's name is none
            for a model.
    """
    manifest = bundle.manifest
    if not re.fullmatch(NAME, manifest.name):
        raise OutputError(f"{manifest.name}: as a model's name, only letters, digits, . _ - can be")
    engines = {
        name: engine_config(manifest.name, name, engine)
        for name, engine in manifest.engines.items()
    }
    chain = chain_config(manifest.name)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputError(f"{out}: exists and is not an empty folder; choose another one")
        parent = out.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(parent) as temporary:
            for name, config in engines.items():
                folder = _write_config(temporary, config)
                shutil.copyfile(bundle.engine_path(name), folder / "model.onnx")
            folder = _write_config(temporary, chain)
            shutil.copyfile(CHAIN_FILE, folder / "model.py")
            shutil.copyfile(bundle.folder / MANIFEST, folder / MANIFEST)
            temporary.chmod(0o755)  # the server may run as another user
            temporary.rename(out)
    except OSError as error:
        raise OutputError(f"{out}: could not be written: {error.strerror or error}") from error
    return [*engines.values(), chain]


def _write_config(repository: Path, config: ModelConfig) -> Path:
    """Write a model's configuration; return the folder of its only version."""
    folder = repository / config.name / VERSION
    folder.mkdir(parents=True)
    (folder.parent / "config.pbtxt").write_text(config.text(), encoding="utf-8")
    return folder


def _tensors(tensors: Sequence[TensorSpec], batched: bool) -> tuple[TensorConfig, ...]:
    return tuple(_tensor(tensor, batched) for tensor in tensors)


def _tensor(tensor: TensorSpec, batched: bool) -> TensorConfig:
    shape = tensor.shape[1:] if batched else tensor.shape
    dims = tuple(size if isinstance(size, int) else -1 for size in shape)
    return TensorConfig(tensor.name, DTYPES[tensor.dtype], dims or (1,), batch_alone=not dims)
