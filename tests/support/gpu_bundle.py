"""A bundle that TensorRT can build plans for, with a small audio engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from mfer_edge.bundle import Bundle, file_sha256, save_bundle
from mfer_edge.engines.onnx import OnnxEngine


def write_audio_engine(path: Path, width: int, labels: int, operator: str = "Tanh") -> None:
    """Write a small audio engine: a convolution, a mean, standardisation, a classifier.

    Args:
        operator: after the convolution.
    """
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        values = random.normal(0, 0.3, shape).astype(np.float32)
        return onnx.numpy_helper.from_array(values, name)

    def tensor(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)

    node = onnx.helper.make_node
    graph = onnx.helper.make_graph(
        [
            node("Unsqueeze", ["wave", "one"], ["channels"]),
            node("Conv", ["channels", "first"], ["features"], strides=[160]),
            node(operator, ["features"], ["activated"], name="between"),
            node("ReduceMean", ["activated", "last"], ["pooled"], keepdims=0),
            node("Unsqueeze", ["pooled", "one"], ["observations"]),
            node("Sub", ["pooled", "shift"], ["shifted"]),
            node("Div", ["shifted", "scale"], ["embedding"]),
            node("MatMul", ["embedding", "classes"], ["logits"]),
            node("Softmax", ["logits"], ["scores"]),
        ],
        "audio",
        [tensor("wave", 1, "samples"), tensor("shift", width), tensor("scale", width)],
        [
            tensor("scores", 1, labels),
            tensor("embedding", 1, width),
            tensor("observations", 1, 1, width),
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
    """Save the compact bundle with a small audio engine in place of its own, which is for CPUs."""
    compact = Bundle.open()
    manifest = compact.manifest
    files = {file.file: compact.folder / file.file for file in manifest.files}
    audio = manifest.engines["audio"]
    files[audio.file] = folder.with_suffix(".onnx")
    widths = {tensor.name: int(tensor.shape[-1]) for tensor in audio.outputs}
    write_audio_engine(files[audio.file], widths["embedding"], widths["scores"], "Tanh")
    engine = OnnxEngine(files[audio.file], ["CPUExecutionProvider"], threads=1)
    # Of an operator that no runtime knows, the tensors are the same.
    write_audio_engine(files[audio.file], widths["embedding"], widths["scores"], operator)
    audio = replace(
        audio,
        sha256=file_sha256(files[audio.file]),
        bytes=files[audio.file].stat().st_size,
        macs={"fp32": 1},
        inputs=tuple(engine.inputs),
        outputs=tuple(engine.outputs),
    )
    engines = {**manifest.engines, "audio": audio}
    manifest = replace(manifest, engines=engines, model="0" * 64)
    return save_bundle(folder, manifest, files, "# The card\n")
