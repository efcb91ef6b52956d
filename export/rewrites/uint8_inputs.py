"""Shapes of uint8 inputs: TensorRT can only convert such an input, not take its shape."""

from __future__ import annotations

import onnx
from onnx import TensorProto


def take_shapes_after_cast(model: onnx.ModelProto) -> None:
    """Take the shape of each uint8 input from what its first Cast gives, in place."""
    graph = model.graph
    bytes_in = {i.name for i in graph.input if i.type.tensor_type.elem_type == TensorProto.UINT8}
    casts = {n.input[0]: n for n in reversed(graph.node) if n.op_type == "Cast"}
    for name in bytes_in & casts.keys():
        shapes = [n for n in graph.node if n.op_type == "Shape" and n.input[0] == name]
        for node in shapes:
            node.input[0] = casts[name].output[0]
        if shapes:
            cast = onnx.NodeProto()
            cast.CopyFrom(casts[name])
            graph.node.remove(casts[name])
            graph.node.insert(0, cast)  # before its new users
