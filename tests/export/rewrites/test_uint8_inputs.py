"""Shapes of uint8 inputs."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from export.rewrites.uint8_inputs import take_shapes_after_cast


def graph_of(*nodes: onnx.NodeProto, kind: int = TensorProto.UINT8) -> onnx.ModelProto:
    make = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "graph",
        [make("x", kind, ["n", 3])],
        [make("y", TensorProto.FLOAT, ["n", 3]), make("s", TensorProto.INT64, [2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


SHAPE = helper.make_node("Shape", ["x"], ["s"])
CAST = helper.make_node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)


def test_the_shape_is_that_of_the_converted_input() -> None:
    model = graph_of(SHAPE, CAST)
    take_shapes_after_cast(model)
    onnx.checker.check_model(model, full_check=True)
    assert [(node.op_type, *node.input) for node in model.graph.node] == [
        ("Cast", "x"),
        ("Shape", "y"),
    ]
    session = onnxruntime.InferenceSession(model.SerializeToString())
    x = np.arange(12, dtype=np.uint8).reshape(4, 3)
    y, shape = session.run(["y", "s"], {"x": x})
    assert (y == x).all() and shape.tolist() == [4, 3]


def test_other_graphs_are_left_alone() -> None:
    for nodes, kind in (((SHAPE, CAST), TensorProto.FLOAT), ((SHAPE,), TensorProto.UINT8)):
        model = graph_of(*nodes, kind=kind)
        before = model.SerializeToString()
        take_shapes_after_cast(model)
        assert model.SerializeToString() == before
