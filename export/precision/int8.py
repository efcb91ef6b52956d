"""Products in 8 bits: with scales found as the numbers come, or fixed beforehand."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from export.onnx_io import save_onnx
from export.precision.graph import PrecisionError, asking_session, is_exact

MATRIX = ("Gemm", "MatMul")
LARGEST = 127  # number in 8 bits of which the negative is one too
ZERO = "int8.zero"


def quantize(path: Path, spared: int = 0) -> None:
    """Make a graph's matrix products int8 where a weight is one side of them, for CPUs.

    Activations are brought to 8 bits as they come, weights once, a scale for each column. Weights
    take 7 of their 8 bits: without VNNI instructions a CPU adds pairs of products in 16 bits,
    which 8 bits can overflow (ONNX Runtime's advice for such machines, which is most small ones).

    Args:
        spared: how many of these products, from the graph's inputs on, stay as they are.
    """
    model = onnx.load(path)
    chosen = {node.output[0] for node in _products(model, *MATRIX)[spared:]}
    matrices = [node for node in model.graph.node if node.op_type in MATRIX]
    left = [node.name for node in matrices if node.output[0] not in chosen]
    # It advises to run its optimiser first, unless told so; PyTorch's exporter has done that work.
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            fresh,
            op_types_to_quantize=["MatMul"],
            # It makes a Gemm two nodes first, of which the product gets the longer name.
            nodes_to_exclude=[name + end for name in left for end in ("", "_MatMul")],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        save_onnx(onnx.load(fresh), path)


def quantize_fixed(path: Path, calls: Sequence[Mapping[str, np.ndarray]], spared: int = 0) -> None:
    """Make a graph's learned matrix products and convolutions of pictures int8, for GPUs.

    QuantizeLinear and DequantizeLinear before a product's factors say so, the form that TensorRT
    asks for: signed, around zero, activations with one scale for all and weights with one for each
    output channel. Biases, a product's result, and who else takes its factors stay single: ONNX
    Runtime's own `quantize_static` would round what goes around attention, and graph outputs.
    Products of two activations and GRUs stay single altogether; so do convolutions of sound, loud
    and soft parts of which are too far apart for one scale: emotion2vec's seven, with random
    weights, bring the cosine of its embedding down to 0.53, all other products to 0.9999.

    An activation's scale fits the largest number in any of the calls. Finer steps for most and a
    cut for the rarest were no better. Cosine of the compact audio network's embedding, over one
    sample clip with the scales of another: 0.9985; with the scales of least squared error 0.9987,
    of the 99.99th percentile 0.9983, of the 99.9th 0.9817.

    Args:
        calls: inputs that the network was given on real clips.
        spared: how many matrix products, from the graph's inputs on, stay as they are.

    Raises:
        PrecisionError: there are no calls, or what a product is given in one is not finite.
    """
    if not calls:
        raise PrecisionError(f"{path.name}: nothing to fix int8 scales on: it never ran")
    model = onnx.load(path)
    graph = model.graph
    products = [*_products(model, "Conv"), *_products(model, *MATRIX)[spared:]]
    largest = _largest(model, list(dict.fromkeys(node.input[0] for node in products)), calls)
    if wrong := [name for name, value in largest.items() if not np.isfinite(value)]:
        raise PrecisionError(f"{path.name}: no int8 scale for {wrong[0]}, which is not finite")

    rounded = {node.output[0] for node in products}
    weights = {weight.name: weight for weight in graph.initializer}
    weights[ZERO] = numpy_helper.from_array(np.int8(0), ZERO)
    nodes = []
    done: set[str] = set()
    for node in graph.node:
        if node.output[0] in rounded:
            given, weight = node.input[:2]
            if given not in done:
                scale = np.float32((largest[given] or LARGEST) / LARGEST)
                weights[f"{given}.scale"] = numpy_helper.from_array(scale, f"{given}.scale")
                nodes += _scaled(given)
            if weight not in done:
                axis = _output_axis(node)
                whole, scales = _rounded(numpy_helper.to_array(weights[weight]), axis)
                weights[f"{weight}.int8"] = numpy_helper.from_array(whole, f"{weight}.int8")
                weights[f"{weight}.scale"] = numpy_helper.from_array(scales, f"{weight}.scale")
                nodes.append(_dequantize(weight, axis))
            done |= {given, weight}
            node.input[0], node.input[1] = f"{given}.dequantized", f"{weight}.dequantized"
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weight for name, weight in weights.items() if name in used)
    save_onnx(model, path)


def _largest(
    model: onnx.ModelProto, names: Sequence[str], calls: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, float]:
    """Find the largest absolute number of each of these values in any of the calls."""
    if not names:
        return {}
    ends = [
        helper.make_node(kind, [name], [f"{kind} {name}"], keepdims=0)
        for name in names
        for kind in ("ReduceMin", "ReduceMax")
    ]
    session = asking_session(model, ends, TensorProto.FLOAT)
    found = np.abs([session.run(None, dict(call)) for call in calls])
    return dict(zip(names, found.reshape(len(calls), -1, 2).max((0, 2)).tolist(), strict=True))


def _output_axis(product: onnx.NodeProto) -> int:
    """Along which axis of a product's weight there is a scale for each."""
    transposed = any(a.name == "transB" and a.i for a in product.attribute)
    return 0 if product.op_type == "Conv" or transposed else 1


def _rounded(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Give a weight in int8 and its float32 scales along an axis."""
    others = tuple(k for k in range(weight.ndim) if k != axis)
    peaks = np.abs(weight).max(others, keepdims=True)
    scales = np.where(peaks, peaks, LARGEST) / np.float32(LARGEST)
    return np.round(weight / scales).astype(np.int8), scales.ravel().astype(np.float32)


def _scaled(name: str) -> list[onnx.NodeProto]:
    inputs = [name, f"{name}.scale", ZERO]
    quantize_it = helper.make_node("QuantizeLinear", inputs, [f"{name}.int8"])
    return [quantize_it, _dequantize(name)]


def _dequantize(name: str, axis: int = 1) -> onnx.NodeProto:
    inputs = [f"{name}.int8", f"{name}.scale"]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}.dequantized"], axis=axis)


def _products(model: onnx.ModelProto, *kinds: str) -> list[onnx.NodeProto]:
    """Give the products of a varying side with a learned matrix or a learned filter of pictures."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in kinds
        and (weight := weights.get(node.input[1])) is not None
        and len(weight.dims) == (4 if node.op_type == "Conv" else 2)
        and not is_exact(weight.name)
    ]
