"""At which types a graph multiplies: the work that it does, read from the graph itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.precision.graph import asking_session
from mfer_edge.errors import EngineError

PRODUCTS = ("Conv", "ConvInteger", "Gemm", "GRU", "LSTM", "MatMul", "MatMulInteger")
GATES = {"GRU": 3, "LSTM": 4}
TYPE_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}
MOVING = ("Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators that change nothing about the numbers: a runtime moves a DequantizeLinear past them."""


def macs_by_type(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Count a graph's multiply-accumulates on these inputs, by the type of their factors.

    It runs the graph once for the shapes. Products in the bodies of `If` and `Loop` don't count.

    Returns:
        Counts by `int8`, `fp16` and `fp32`, for those that there are. Factors that come straight
        from DequantizeLinear count as what they were: a runtime multiplies them so.

    Raises:
        EngineError: the graph does not run on these inputs.
    """
    nodes = [node for node in model.graph.node if node.op_type in PRODUCTS]
    shapes = _shapes(model, {name for node in nodes for name in _sized(node)}, inputs)
    kinds = _Types(model)
    work: Counter[str] = Counter()
    for node in nodes:
        work[kinds.of_product(node)] += _count(node, shapes)
    return dict(sorted(work.items()))


def _sized(node: onnx.NodeProto) -> Iterator[str]:
    """Name the values whose shapes tell how much a product multiplies."""
    yield from node.input[:3] if node.op_type in GATES else (*node.input[:2], node.output[0])


def _count(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    if node.op_type in GATES:
        steps, batch, width_in = shapes[node.input[0]]
        directions, _, width = shapes[node.input[2]]
        return steps * batch * directions * GATES[node.op_type] * width * (width_in + width)
    given, weight, result = (shapes[name] for name in _sized(node))
    size = int(np.prod(result))
    if node.op_type in ("Conv", "ConvInteger"):
        return size * int(np.prod(weight[1:]))
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return size * given[-2 if transposed else -1]


def _shapes(
    model: onnx.ModelProto, names: set[str], inputs: Mapping[str, np.ndarray]
) -> dict[str, tuple[int, ...]]:
    """Run the graph for the shapes of some of its values."""
    if not names:
        return {}
    ends = [helper.make_node("Shape", [name], [f"shape of {name}"]) for name in sorted(names)]
    try:
        shapes = asking_session(model, ends, TensorProto.INT64).run(None, dict(inputs))
    except Exception as error:  # ONNX Runtime's errors share no narrower base
        raise EngineError(f"{model.graph.name}: {' '.join(str(error).split())}") from error
    return {end.input[0]: tuple(map(int, shape)) for end, shape in zip(ends, shapes, strict=True)}


class _Types:
    """The types of a graph's values."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = onnx.shape_inference.infer_shapes(model).graph
        self._types = {w.name: w.data_type for w in graph.initializer} | {
            value.name: value.type.tensor_type.elem_type
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        self._makers = {output: node for node in graph.node for output in node.output}

    def of_product(self, node: onnx.NodeProto) -> str:
        kinds = [TYPE_NAMES.get(self._before_scaling(name), "fp32") for name in node.input[:2]]
        # One factor alone in 8 bits is brought to the other's type to be multiplied.
        return max(kinds, key=("int8", "fp16", "fp32").index)

    def _before_scaling(self, name: str) -> int:
        maker = self._makers.get(name)
        while maker is not None and maker.op_type in MOVING:
            maker = self._makers.get(maker.input[0])
        if maker is not None and maker.op_type == "DequantizeLinear":
            name = maker.input[0]
        return self._types.get(name, TensorProto.FLOAT)
