"""Graphs small enough to be worked out by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.onnx_io import save_onnx
from mfer_edge.engines.onnx import OnnxEngine

ROWS, WIDTH_IN, WIDTH = 6, 64, 48
OBSERVED = 2 * 3 * 384  # mean and deviation of three layers of Whisper, in the compact model
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(0, 1, (ROWS, WIDTH_IN)).astype(np.float32)
W = RANDOM.normal(0, 0.1, (WIDTH_IN, WIDTH)).astype(np.float32)


def graph(
    weights: Mapping[str, np.ndarray],
    nodes: Sequence[onnx.NodeProto],
    dtype: int = TensorProto.FLOAT,
    dimensions: int = 2,
    shape: Sequence[int | str] = ("rows", WIDTH_IN),
) -> onnx.ModelProto:
    """A graph from x to y.

    Args:
        dtype: of x.
        dimensions: number of dimensions of y.
        shape: of x.
    """
    kind = dtype if dtype == TensorProto.FLOAT16 else TensorProto.FLOAT
    made = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_tensor_value_info("y", kind, [f"size_{k}" for k in range(dimensions)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def product(weight: np.ndarray = W, name: str = "w") -> onnx.ModelProto:
    """x times a weight."""
    dtype = TensorProto.FLOAT16 if weight.dtype == np.float16 else TensorProto.FLOAT
    node = helper.make_node("MatMul", ["x", name], ["y"], name="product")
    return graph({name: weight}, [node], dtype)


def written(model: onnx.ModelProto, folder: Path) -> Path:
    """Write a graph."""
    save_onnx(model, folder / "made.onnx")
    return folder / "made.onnx"


def run(path: Path, x: np.ndarray = X) -> np.ndarray:
    """Run a graph on x and return y."""
    return OnnxEngine(path, ["CPUExecutionProvider"], 1)(x=x)["y"]


def kinds(path: Path) -> list[str]:
    """Operators of a graph, in order."""
    return [node.op_type for node in onnx.load(path).graph.node]


def weight_types(path: Path) -> dict[str, int]:
    """ONNX's number of each weight's type."""
    return {w.name: w.data_type for w in onnx.load(path).graph.initializer}


def value_types(path: Path) -> dict[str, int]:
    """ONNX's number of each value's inferred type; raises where types don't match."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True)
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values}


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine similarity of two arrays."""
    a, b = one.ravel().astype(np.float64), other.ravel().astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def in_place(wave: np.ndarray, own: bool = False, width: int = OBSERVED) -> dict[str, np.ndarray]:
    """Inputs of the audio engine: a recording, in the training set or in a place of its own."""
    random = np.random.default_rng(3)
    shift = random.normal(0, 0.5, width) if own else np.zeros(width)
    scale = random.uniform(0.6, 1.6, width) if own else np.ones(width)
    return {"wave": wave, "shift": shift.astype(np.float32), "scale": scale.astype(np.float32)}
