"""Check of a graph against the operators, types and restrictions that TensorRT's ONNX parser lists.

A graph that passes may still fail to build: the list says nothing of sizes, shapes and tactics.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

TABLE = Path(__file__).parent / "tensorrt_operators.json"
TYPES: Mapping[int, str] = {
    TensorProto.FLOAT: "FP32",
    TensorProto.FLOAT16: "FP16",
    TensorProto.BFLOAT16: "BF16",
    TensorProto.INT8: "INT8",
    TensorProto.UINT8: "UINT8",
    TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64",
    TensorProto.BOOL: "BOOL",
}
DATA_INPUT = {"Where": 1}  # the input that has the listed type; of all other operators the first


@dataclass(frozen=True)
class Operator:
    """An operator that the parser supports."""

    types: frozenset[str]
    conditions: tuple[str, ...]  # keys of `CONDITIONS`, or restrictions that nobody checks yet


@dataclass(frozen=True)
class Table:
    """The published list."""

    opsets: range
    operators: Mapping[str, Operator]


@cache
def operator_table() -> Table:
    """Read the published list."""
    content = json.loads(TABLE.read_text(encoding="utf-8"))
    first, last = content["opsets"]
    operators = {
        name: Operator(frozenset(content["types"][entry["types"]]), tuple(entry.get("only if", ())))
        for name, entry in content["operators"].items()
    }
    return Table(range(first, last + 1), operators)


@dataclass(frozen=True)
class Values:
    """What is known about the values of a graph before it runs."""

    constants: Mapping[str, onnx.TensorProto]
    types: Mapping[str, int]  # TensorProto's
    ranks: Mapping[str, int]

    @classmethod
    def of(cls, graph: onnx.GraphProto, outer: Values | None = None) -> Values:
        """Collect from a graph with inferred shapes, and from the one around it."""
        constants = dict(outer.constants) if outer else {}
        constants |= {value.name: value for value in graph.initializer}
        for node in graph.node:
            value = attributes(node).get("value")
            if node.op_type == "Constant" and isinstance(value, onnx.TensorProto):
                constants[node.output[0]] = value
        types, ranks = (dict(outer.types), dict(outer.ranks)) if outer else ({}, {})
        for info in (*graph.input, *graph.value_info, *graph.output):
            types[info.name] = info.type.tensor_type.elem_type
            if info.type.tensor_type.HasField("shape"):
                ranks[info.name] = len(info.type.tensor_type.shape.dim)
        for name, value in constants.items():
            types[name], ranks[name] = value.data_type, len(value.dims)
        return cls(constants, types, ranks)


def unsupported(model: onnx.ModelProto) -> list[str]:
    """Say what TensorRT's ONNX parser, by its own list, does not take in a graph."""
    table, found = operator_table(), []
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version not in table.opsets:
            found.append(f"opset {opset.version}")
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return [*found, *_unsupported(inferred.graph, None)]


def _unsupported(graph: onnx.GraphProto, outer: Values | None) -> Iterator[str]:
    values = Values.of(graph, outer)
    for node in graph.node:
        for fault in _faults(node, values):
            yield f"{node.op_type} {node.name or node.output[0]}: {fault}"
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _unsupported(attribute.g, values)


def _faults(node: onnx.NodeProto, values: Values) -> Iterator[str]:
    operator = operator_table().operators.get(node.op_type)
    if operator is None or node.domain not in ("", "ai.onnx"):
        yield "no such operator"
        return
    data = node.input[DATA_INPUT.get(node.op_type, 0)] if node.input else node.output[0]
    names = {data, node.output[0]} if node.op_type == "Cast" else {data}
    if node.op_type != "If":  # of which the first input is the condition
        for name in sorted(names):
            if (kind := values.types.get(name)) is None:
                yield f"the type of {name} is not known"
            elif TYPES.get(kind) not in operator.types:
                yield f"{helper.tensor_dtype_to_string(kind)} is not among its types"
    for condition in operator.conditions:
        if condition not in CONDITIONS:
            yield f"it is restricted ({condition}), which is not checked"
        elif not CONDITIONS[condition](node, values):
            yield f"not: {condition}"


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    """Attributes of a node by name."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _constant_axes(node: onnx.NodeProto, values: Values) -> bool:
    return len(node.input) < 2 or not node.input[1] or node.input[1] in values.constants


def _zero_point_0(node: onnx.NodeProto, values: Values) -> bool:
    if len(node.input) < 3 or not node.input[2]:
        return True
    value = values.constants.get(node.input[2])
    return value is not None and not np.any(numpy_helper.to_array(value))


def _same_activations(node: onnx.NodeProto, _: Values) -> bool:
    given = attributes(node)
    names = given.get("activations")
    if given.get("direction") != b"bidirectional" or not isinstance(names, list):
        return True
    return names[: len(names) // 2] == names[len(names) // 2 :]


def _branches_alike(node: onnx.NodeProto, values: Values) -> bool:
    """Outputs of the same ranks and of different names."""
    one, other = (attribute.g for attribute in node.attribute)
    ranks = [[Values.of(g, values).ranks.get(o.name) for o in g.output] for g in (one, other)]
    names = {output.name for graph in (one, other) for output in graph.output}
    return ranks[0] == ranks[1] and len(names) == len(one.output) + len(other.output)


def _no_dilations(node: onnx.NodeProto, _: Values) -> bool:
    dilations = attributes(node).get("dilations", [])
    return isinstance(dilations, list) and set(dilations) <= {1}


CONDITIONS: Mapping[str, Callable[[onnx.NodeProto, Values], bool]] = {
    "constant axes": _constant_axes,
    "constant axis": _constant_axes,
    "zero point 0": _zero_point_0,
    "first output only": lambda node, _: not any(node.output[1:]),
    "numeric value": lambda node, _: (
        not {"sparse_value", "value_string", "value_strings"} & attributes(node).keys()
    ),
    "2 or 3 dimensions": lambda node, values: values.ranks.get(node.input[0]) in (4, 5),
    "no dilations": _no_dilations,
    "same activations both ways": _same_activations,
    "layout 0": lambda node, _: not attributes(node).get("layout"),
    "no input_forget": lambda node, _: not attributes(node).get("input_forget"),
    "branches alike": _branches_alike,
    "sorted": lambda node, _: attributes(node).get("sorted", 1) == 1,
    "no reduction": lambda node, _: attributes(node).get("reduction", b"none") == b"none",
}
"""Checks of the restrictions that our graphs meet."""
