"""Multiply-accumulates (MACs) of a graph by the type of their factors, counted in the graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.precision.graph import session_with_outputs
from mfer_edge.errors import EngineError

PRODUCTS = ("Conv", "ConvInteger", "Gemm", "GRU", "LSTM", "MatMul", "MatMulInteger")
GATES = {"GRU": 3, "LSTM": 4}
TYPE_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}
LAYOUT_OPS = ("Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that only change the layout: runtimes move a DequantizeLinear past them."""


def macs_by_type(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Count a graph's multiply-accumulates on these inputs, by the type of their factors.

    Runs the graph once to get the shapes. Products in the bodies of `If` and `Loop` are not
    counted.

    Returns:
        Counts over 0 by `int8`, `fp16` and `fp32`. Factors from DequantizeLinear count as the type
        before it, in which runtimes multiply them.

    Raises:
        EngineError: the graph does not run on these inputs.
    """
    nodes = [node for node in model.graph.node if node.op_type in PRODUCTS]
    shapes = _shapes(model, {name for node in nodes for name in _shaped_values(node)}, inputs)
    types = _ProductTypes(model)
    macs: Counter[str] = Counter()
    for node in nodes:
        macs[types.of_product(node)] += _count(node, shapes)
    return dict(sorted(macs.items()))


def _shaped_values(node: onnx.NodeProto) -> Iterator[str]:
    """Names of the values whose shapes give a product's MACs."""
    yield from node.input[:3] if node.op_type in GATES else (*node.input[:2], node.output[0])


def _count(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """MACs of one product."""
    if node.op_type in GATES:
        steps, batch, width_in = shapes[node.input[0]]
        directions, _, width = shapes[node.input[2]]
        return steps * batch * directions * GATES[node.op_type] * width * (width_in + width)
    given, weight, result = (shapes[name] for name in _shaped_values(node))
    size = int(np.prod(result))
    if node.op_type in ("Conv", "ConvInteger"):
        return size * int(np.prod(weight[1:]))
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return size * given[-2 if transposed else -1]


def _shapes(
    model: onnx.ModelProto, names: set[str], inputs: Mapping[str, np.ndarray]
) -> dict[str, tuple[int, ...]]:
    """Run the graph to get the shapes of some of its values."""
    if not names:
        return {}
    nodes = [helper.make_node("Shape", [name], [f"shape of {name}"]) for name in sorted(names)]
    try:
        shapes = session_with_outputs(model, nodes, TensorProto.INT64).run(None, dict(inputs))
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        raise EngineError(f"{model.graph.name}: {' '.join(str(error).split())}") from error
    return {node.input[0]: tuple(map(int, s)) for node, s in zip(nodes, shapes, strict=True)}


class _ProductTypes:
    """Types in which a graph's products are computed."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = onnx.shape_inference.infer_shapes(model).graph
        self._types = {w.name: w.data_type for w in graph.initializer} | {
            value.name: value.type.tensor_type.elem_type
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        self._producers = {output: node for node in graph.node for output in node.output}

    def of_product(self, node: onnx.NodeProto) -> str:
        """Type of a product: the wider one of its factors'."""
        kinds = [TYPE_NAMES.get(self._quantized_type(name), "fp32") for name in node.input[:2]]
        return max(kinds, key=("int8", "fp16", "fp32").index)

    def _quantized_type(self, name: str) -> int:
        """Type of a value, before DequantizeLinear if it comes from one."""
        producer = self._producers.get(name)
        while producer is not None and producer.op_type in LAYOUT_OPS:
            producer = self._producers.get(producer.input[0])
        if producer is not None and producer.op_type == "DequantizeLinear":
            name = producer.input[0]
        return self._types.get(name, TensorProto.FLOAT)
