"""Half precision: of the weights in the file alone, or of the products too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.onnx_io import save_onnx
from export.precision.graph import PrecisionError, is_exact

HALF_FROM = 1024  # numbers; a smaller weight is not worth halving

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
PRODUCTS = ("Conv", "Gemm", "GRU", "MatMul")

FOLLOWING = (
    *("Abs", "Add", "Clip", "Concat", "Div", "Erf", "Expand", "Flatten", "Gather", "Identity"),
    *("LeakyRelu", "Max", "MaxPool", "Min", "Mul", "Neg", "Pad", "PRelu", "Relu", "Reshape"),
    *("Shape", "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze"),
    "Where",
)
"""Operators as good in half precision as what they are given: they move numbers, or make each from
a few of like size. Softmax, norms, sums over many, powers, roots and logarithms are not."""


def store_fp16(path: Path) -> None:
    """Keep float weights in half precision on disk; the graph multiplies them in single.

    The cast back is of a constant, so a runtime does it once, when it loads the graph.

    Raises:
        PrecisionError: a weight is too large for half precision.
    """
    model = onnx.load(path)
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        large = np.prod(weight.dims) >= HALF_FROM and weight.data_type == SINGLE
        if not large or is_exact(weight.name):
            continue
        name = weight.name
        weight.CopyFrom(_to_fp16_array(weight, path))
        casts.append(_cast_node(weight.name, name, SINGLE))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    save_onnx(model, path)


def to_fp16(path: Path) -> None:
    """Make a graph in single precision, without control flow, one that multiplies in half.

    The types of its values say what is multiplied how, which is what strongly typed TensorRT
    networks and ONNX Runtime go by. Products with learned weights and those of what came out of
    them are in half precision, weights too, which takes half the room. What is before the first
    of them, such as a spectrogram, and what half precision would harm stays single, with casts
    around it. Inputs and outputs keep their types, values their names, in whatever type they are.
    Nothing is clipped: a value that half precision can't hold becomes infinite.

    Raises:
        PrecisionError: a weight is too large for half precision.
    """
    model = onnx.load(path)
    typed = _Typed(model, path)
    for node in model.graph.node:
        typed.add(node)
    del model.graph.node[:]
    model.graph.node.extend(typed.nodes)
    weights = list(typed.weights())
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    save_onnx(model, path)


def emulate_fp16(path: Path, out: Path) -> None:
    """Write a half-precision graph such that a CPU gives what hardware for such graphs gives.

    ONNX Runtime has few kernels in half precision for CPUs. It runs the others in single, and
    drops the casts in between, so that nothing is rounded, and what overflows elsewhere does not
    here. In this graph every operator is in single precision and its result is rounded to half at
    once: as much as by a GPU, which multiplies halves and adds up in single.

    Args:
        path: of a graph that `to_fp16` made.
        out: where the other one goes; its inputs, outputs and values have the same names.
    """
    model = onnx.load(path)
    graph = onnx.shape_inference.infer_shapes(model).graph
    halves = {weight.name for weight in graph.initializer if weight.data_type == HALF}
    nodes = [_cast_node(name, f"{name}.rounded", SINGLE) for name in sorted(halves)]
    halves |= {v.name for v in graph.value_info if v.type.tensor_type.elem_type == HALF}
    for node in model.graph.node:
        exact = onnx.NodeProto()
        exact.CopyFrom(node)
        exact.input[:] = [f"{name}.rounded" if name in halves else name for name in node.input]
        rounded = [name for name in node.output if name in halves]
        if node.op_type == "Cast":
            nodes.append(exact)
        else:
            exact.output[:] = [f"{n}.exact" if n in halves else n for n in node.output]
            nodes += [exact, *(_cast_node(f"{name}.exact", name, HALF) for name in rounded)]
        nodes += [_cast_node(name, f"{name}.rounded", SINGLE) for name in rounded]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    save_onnx(model, out)


class _Typed:
    """A graph in the making, to which nodes come in their order and get their types."""

    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        graph = onnx.shape_inference.infer_shapes(model).graph
        self.nodes: list[onnx.NodeProto] = []
        self._path = path
        self._outputs = {value.name for value in graph.output}
        self._floats = {
            value.name
            for value in (*graph.input, *graph.value_info, *graph.output)
            if value.type.tensor_type.elem_type == SINGLE
        }
        self._weights = {weight.name: weight for weight in model.graph.initializer}
        self._halves: dict[str, onnx.TensorProto] = {}
        given = [value.name for value in graph.input if value.name in self._floats]
        constant = [name for name, w in self._weights.items() if w.data_type == SINGLE]
        # Float values by their names in the graph before, and what is known about them.
        self._type: dict[str, int] = dict.fromkeys([*given, *constant], SINGLE)  # as made
        self._forms: dict[str, dict[int, str]]  # their names now, by type
        self._forms = {name: {SINGLE: name} for name in self._type}
        self._constant = set(constant)  # weights, and what is made of them alone
        self._exact = {name for name in constant if is_exact(name)}
        self._learned: set[str] = set()  # come after a product with learned weights

    def add(self, node: onnx.NodeProto) -> None:
        """Give a node its type, cast its inputs to that, and take down what is known then."""
        floats = [name for name in node.input if name in self._type]
        half = self._is_half(node, floats)
        kind = HALF if half else SINGLE
        made = onnx.NodeProto()
        made.CopyFrom(node)
        made.input[:] = [self._as(n, kind) if n in self._type else n for n in node.input]
        self.nodes.append(made)

        follows = node.op_type in FOLLOWING
        for index, name in enumerate(node.output):
            if name not in self._floats:
                continue
            self._type[name] = kind
            self._forms[name] = {kind: name}
            if half and name in self._outputs:
                made.output[index] = self._forms[name][HALF] = f"{name}.half"
                self._cast(name, SINGLE, name)
            if half or self._learned.intersection(floats):
                self._learned.add(name)
            if follows and floats and self._constant.issuperset(floats):
                self._constant.add(name)
                if self._exact.intersection(floats):
                    self._exact.add(name)

    def weights(self) -> Iterator[onnx.TensorProto]:
        """Give the weights that are used, in the types that they are used in."""
        used = {name for node in self.nodes for name in node.input} | self._outputs
        for weight in (*self._weights.values(), *self._halves.values()):
            if weight.name in used:
                yield weight

    def _is_half(self, node: onnx.NodeProto, floats: list[str]) -> bool:
        if node.op_type in PRODUCTS:
            learned = not self._learned.isdisjoint(floats)
            weighed = not self._constant.isdisjoint(node.input[:2])
            return (learned or weighed) and self._exact.isdisjoint(floats)
        varying = [name for name in floats if name not in self._constant]
        halves = [self._type[name] == HALF for name in varying]
        return node.op_type in FOLLOWING and any(halves) and all(halves)

    def _as(self, name: str, kind: int) -> str:
        """Give the name under which there is a value in this type, making it if need be."""
        if kind not in self._forms[name]:
            if name in self._weights:
                self._halves[name] = _to_fp16_array(self._weights[name], self._path)
                self._forms[name][kind] = self._halves[name].name
            else:
                self._cast(name, kind, f"{name}.{'half' if kind == HALF else 'single'}")
        return self._forms[name][kind]

    def _cast(self, name: str, kind: int, result: str) -> None:
        (source,) = self._forms[name].values()
        self.nodes.append(_cast_node(source, result, kind))
        self._forms[name][kind] = result


def _cast_node(source: str, result: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], f"cast {result}", to=kind)


def _to_fp16_array(weight: onnx.TensorProto, path: Path) -> onnx.TensorProto:
    with np.errstate(over="ignore"):
        values = numpy_helper.to_array(weight).astype(np.float16)
    if not np.isfinite(values).all():
        raise PrecisionError(f"{path.name}: {weight.name} does not fit into half precision")
    return numpy_helper.from_array(values, f"{weight.name}.half")
