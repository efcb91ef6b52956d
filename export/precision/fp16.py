"""fp16: for storage of weights only, or for the computation too."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.onnx_io import save_onnx
from export.precision.graph import PrecisionError, is_exact

MIN_SIZE = 1024  # elements of a weight from which on it is stored as fp16

FP16, FP32 = TensorProto.FLOAT16, TensorProto.FLOAT
PRODUCTS = ("Conv", "Gemm", "GRU", "MatMul")

FP16_SAFE = (
    *("Abs", "Add", "Clip", "Concat", "Div", "Erf", "Expand", "Flatten", "Gather", "Identity"),
    *("LeakyRelu", "Max", "MaxPool", "Min", "Mul", "Neg", "Pad", "PRelu", "Relu", "Reshape"),
    *("Shape", "Sigmoid", "Slice", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze"),
    "Where",
)
"""Operators that lose nothing in fp16 beyond their inputs' rounding: they move elements or combine
a few of similar magnitude. Softmax, norms, reductions, powers, roots and logarithms do lose."""


def store_fp16(path: Path) -> None:
    """Store a graph's fp32 weights as fp16, in place; it still computes in fp32.

    The cast back is of a constant, so runtimes do it once when they load the graph.

    Raises:
        PrecisionError: a weight is out of the range of fp16.
    """
    model = onnx.load(path)
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        large = np.prod(weight.dims) >= MIN_SIZE and weight.data_type == FP32
        if not large or is_exact(weight.name):
            continue
        name = weight.name
        weight.CopyFrom(_to_fp16_array(weight, path))
        casts.append(_cast_node(weight.name, name, FP32))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    save_onnx(model, path)


def to_fp16(path: Path) -> None:
    """Convert an fp32 graph without control flow to fp16, in place.

    The graph's types are the precision, as for strongly typed TensorRT networks and ONNX Runtime.
    Products with weights, and products of their results, are in fp16, and so are their weights.
    Operators before the first of them, such as the spectrogram, and those that would lose accuracy
    stay in fp32, with casts around them. Inputs and outputs keep their types, values keep their
    names. Nothing is clipped: a value out of the range of fp16 becomes infinite.

    Raises:
        PrecisionError: a weight is out of the range of fp16.
    """
    model = onnx.load(path)
    converter = _Fp16Converter(model, path)
    for node in model.graph.node:
        converter.add(node)
    del model.graph.node[:]
    model.graph.node.extend(converter.nodes)
    weights = list(converter.weights())
    del model.graph.initializer[:]
    model.graph.initializer.extend(weights)
    save_onnx(model, path)


def emulate_fp16(path: Path, out: Path) -> None:
    """Write an fp16 graph so that a CPU rounds and overflows as a GPU does.

    ONNX Runtime has few fp16 kernels for CPUs. It runs other operators in fp32 and drops the casts
    between them, so that nothing is rounded and nothing overflows. In the emulated graph every
    operator is in fp32, and its result is rounded to fp16 at once, as on a GPU, which multiplies
    fp16 factors and accumulates in fp32.

    Args:
        path: a graph from `to_fp16`.
        out: path of the emulated graph; inputs, outputs and values have the same names.
    """
    model = onnx.load(path)
    graph = onnx.shape_inference.infer_shapes(model).graph
    fp16 = {weight.name for weight in graph.initializer if weight.data_type == FP16}
    nodes = [_cast_node(name, f"{name}.rounded", FP32) for name in sorted(fp16)]
    fp16 |= {v.name for v in graph.value_info if v.type.tensor_type.elem_type == FP16}
    for node in model.graph.node:
        exact = onnx.NodeProto()
        exact.CopyFrom(node)
        exact.input[:] = [f"{name}.rounded" if name in fp16 else name for name in node.input]
        rounded = [name for name in node.output if name in fp16]
        if node.op_type == "Cast":
            nodes.append(exact)
        else:
            exact.output[:] = [f"{n}.exact" if n in fp16 else n for n in node.output]
            nodes += [exact, *(_cast_node(f"{name}.exact", name, FP16) for name in rounded)]
        nodes += [_cast_node(name, f"{name}.rounded", FP32) for name in rounded]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    save_onnx(model, out)


class _Fp16Converter:
    """Graph under construction: nodes are added in topological order and get their types."""

    def __init__(self, model: onnx.ModelProto, path: Path) -> None:
        graph = onnx.shape_inference.infer_shapes(model).graph
        self.nodes: list[onnx.NodeProto] = []
        self._path = path
        self._outputs = {value.name for value in graph.output}
        self._floats = {
            value.name
            for value in (*graph.input, *graph.value_info, *graph.output)
            if value.type.tensor_type.elem_type == FP32
        }
        self._weights = {weight.name: weight for weight in model.graph.initializer}
        self._fp16_weights: dict[str, onnx.TensorProto] = {}
        inputs = [value.name for value in graph.input if value.name in self._floats]
        constant = [name for name, w in self._weights.items() if w.data_type == FP32]
        # Facts about float values, by their names in the fp32 graph.
        self._type: dict[str, int] = dict.fromkeys([*inputs, *constant], FP32)  # as computed
        self._forms: dict[str, dict[int, str]]  # names in the new graph, by type
        self._forms = {name: {FP32: name} for name in self._type}
        self._constant = set(constant)  # weights, and values computed from weights only
        self._exact = {name for name in constant if is_exact(name)}
        self._learned: set[str] = set()  # values after a product with weights

    def add(self, node: onnx.NodeProto) -> None:
        """Choose a node's type, cast its inputs to it, and record the facts about its outputs."""
        floats = [name for name in node.input if name in self._type]
        fp16 = self._is_fp16(node, floats)
        dtype = FP16 if fp16 else FP32
        converted = onnx.NodeProto()
        converted.CopyFrom(node)
        converted.input[:] = [self._as(n, dtype) if n in self._type else n for n in node.input]
        self.nodes.append(converted)

        safe = node.op_type in FP16_SAFE
        for index, name in enumerate(node.output):
            if name not in self._floats:
                continue
            self._type[name] = dtype
            self._forms[name] = {dtype: name}
            if fp16 and name in self._outputs:
                converted.output[index] = self._forms[name][FP16] = f"{name}.half"
                self._cast(name, FP32, name)
            if fp16 or self._learned.intersection(floats):
                self._learned.add(name)
            if safe and floats and self._constant.issuperset(floats):
                self._constant.add(name)
                if self._exact.intersection(floats):
                    self._exact.add(name)

    def weights(self) -> Iterator[onnx.TensorProto]:
        """The weights that nodes use, in the types that they use."""
        used = {name for node in self.nodes for name in node.input} | self._outputs
        for weight in (*self._weights.values(), *self._fp16_weights.values()):
            if weight.name in used:
                yield weight

    def _is_fp16(self, node: onnx.NodeProto, floats: list[str]) -> bool:
        """Whether a node is computed in fp16.

        Args:
            floats: its floating-point inputs.
        """
        if node.op_type in PRODUCTS:
            learned = not self._learned.isdisjoint(floats)
            weighted = not self._constant.isdisjoint(node.input[:2])
            return (learned or weighted) and self._exact.isdisjoint(floats)
        activations = [name for name in floats if name not in self._constant]
        fp16 = [self._type[name] == FP16 for name in activations]
        return node.op_type in FP16_SAFE and any(fp16) and all(fp16)

    def _as(self, name: str, dtype: int) -> str:
        """Name of a value in this type, which is created if necessary."""
        if dtype not in self._forms[name]:
            if name in self._weights:
                self._fp16_weights[name] = _to_fp16_array(self._weights[name], self._path)
                self._forms[name][dtype] = self._fp16_weights[name].name
            else:
                self._cast(name, dtype, f"{name}.{'half' if dtype == FP16 else 'single'}")
        return self._forms[name][dtype]

    def _cast(self, name: str, dtype: int, result: str) -> None:
        """Append a cast of a value."""
        (source,) = self._forms[name].values()
        self.nodes.append(_cast_node(source, result, dtype))
        self._forms[name][dtype] = result


def _cast_node(source: str, result: str, dtype: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [result], f"cast {result}", to=dtype)


def _to_fp16_array(weight: onnx.TensorProto, path: Path) -> onnx.TensorProto:
    with np.errstate(over="ignore"):
        values = numpy_helper.to_array(weight).astype(np.float16)
    if not np.isfinite(values).all():
        raise PrecisionError(f"{path.name}: {weight.name} is out of the range of fp16")
    return numpy_helper.from_array(values, f"{weight.name}.half")
