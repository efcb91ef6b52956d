"""Damage to exported engines, as mistakes in the export could cause it."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.build import build_from_engines
from export.checkpoint import Source
from export.options import ExportOptions
from tests.export.exports import Exported
from train.labels import SEVEN_EMOTIONS

Damage = Callable[[onnx.ModelProto], None]


def largest_weight(model: onnx.ModelProto, rank: int = 0) -> onnx.TensorProto:
    """The largest weight by number of elements, or the n-th largest."""
    floats = [w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT]
    return sorted(floats, key=lambda w: -np.prod(w.dims))[rank]


def change_weight(tensor: onnx.TensorProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    values = change(numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))


def negate_largest_weight(model: onnx.ModelProto) -> None:
    change_weight(largest_weight(model), np.negative)


def flip_one_element(model: onnx.ModelProto) -> None:
    def flip(values: np.ndarray) -> np.ndarray:
        values.flat[np.abs(values).argmax()] *= -1
        return values

    change_weight(largest_weight(model), flip)


def keep_pytorch_gate_order(model: onnx.ModelProto) -> None:
    nodes = [node for node in model.graph.node if node.op_type == "GRU"]
    (recurrent,) = (w for w in model.graph.initializer if w.name == nodes[-1].input[2])
    width = recurrent.dims[1] // 3
    change_weight(recurrent, lambda r: np.concatenate([r[:, width : 2 * width], r[:, :width],
                                                 r[:, 2 * width :]], 1))  # fmt: skip


def reset_before_product(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "linear_before_reset":
                attribute.i = 0


def roll_labels(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if len(SEVEN_EMOTIONS) in tensor.dims:
            axis = list(tensor.dims).index(len(SEVEN_EMOTIONS))
            change_weight(tensor, functools.partial(np.roll, shift=1, axis=axis))


def rename_output(name: str) -> Damage:
    """Rename an output."""

    def rename(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.output[:] = ["other" if output == name else output for output in node.output]
            node.input[:] = ["other" if value == name else value for value in node.input]
        for output in model.graph.output:
            output.name = "other" if output.name == name else output.name

    return rename


def drop_embedding(model: onnx.ModelProto) -> None:
    (embedding,) = (output for output in model.graph.output if output.name == "embedding")
    model.graph.output.remove(embedding)


def append_operator(
    model: onnx.ModelProto, value: str, kind: str, operand: object = None, **attributes: int
) -> None:
    """Insert an operator after a value; its output takes over the value's name."""
    nodes = list(model.graph.node)
    (at,) = (index for index, node in enumerate(nodes) if value in node.output)
    before = f"{value} before {kind}"
    nodes[at].output[:] = [before if output == value else output for output in nodes[at].output]
    inputs = [before]
    if operand is not None:
        inputs.append(f"{value} operand")
        array = np.asarray(operand, np.int64 if isinstance(operand, list) else np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, inputs[1]))
    node = helper.make_node(kind, inputs, [value], name=f"inserted_{kind}", **attributes)
    model.graph.node.insert(at + 1, node)


def set_output_type(model: onnx.ModelProto, name: str, kind: int) -> None:
    (output,) = (output for output in model.graph.output if output.name == name)
    output.CopyFrom(helper.make_tensor_value_info(name, kind, None))


def scores_nan(model: onnx.ModelProto) -> None:
    append_operator(model, "scores", "Mul", float("nan"))


def embedding_infinite(model: onnx.ModelProto) -> None:
    append_operator(model, "embedding", "Add", float("inf"))


def embedding_float64(model: onnx.ModelProto) -> None:
    append_operator(model, "embedding", "Cast", to=TensorProto.DOUBLE)
    set_output_type(model, "embedding", TensorProto.DOUBLE)


def scores_reshaped(model: onnx.ModelProto) -> None:
    append_operator(model, "scores", "Unsqueeze", [0])
    set_output_type(model, "scores", TensorProto.FLOAT)


def fixed_batch_size(model: onnx.ModelProto) -> None:
    append_operator(model, "embedding", "Reshape", [1, 192])
    set_output_type(model, "embedding", TensorProto.FLOAT)


def extra_output(model: onnx.ModelProto) -> None:
    value = next(node.output[0] for node in model.graph.node if node.op_type == "Gemm")
    model.graph.output.append(helper.make_tensor_value_info(value, TensorProto.FLOAT, None))


def export_damaged(
    damages: Mapping[str, Damage],
    precision: str,
    source: Source,
    exported: Exported,
    clip: Path,
    out: Path,
    bisect: bool = False,
) -> None:
    """Export with some engine files damaged."""
    with tempfile.TemporaryDirectory() as folder:
        files = dict(exported.files)
        for name, damage in damages.items():
            graph = onnx.load(exported.files[name])
            before = graph.SerializeToString()
            damage(graph)
            assert graph.SerializeToString() != before
            files[name] = Path(folder) / f"{name}.onnx"
            onnx.save(graph, files[name])
        build_from_engines(source, files, ExportOptions(out, precision, [clip], bisect))
