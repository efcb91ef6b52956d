"""Int8 quantization: dynamic for CPUs, static (explicit Q/DQ) for GPUs."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from export.onnx_io import save_onnx
from export.precision.graph import PrecisionError, is_exact, session_with_outputs
from export.rewrites.cpu_products import associate_gelu, convolutions_as_products

MATRIX_PRODUCTS = ("Gemm", "MatMul")
INT8_MAX = 127  # of the symmetric range -127 to 127
ZERO_POINT = "int8.zero"


def quantize_dynamic(path: Path, *, skip: int = 0) -> None:
    """Quantize a graph's matrix products with weights to int8, in place, for CPUs.

    So are 1-D convolutions that can be written as such products.

    Activations are quantized dynamically, weights with one scale per column. Weights use 7 of
    their 8 bits: without VNNI instructions a CPU adds pairs of products in 16 bits, which 8-bit
    factors can overflow (ONNX Runtime's advice for such CPUs, which most small ones are).

    Args:
        skip: number of these products, counted from the graph's inputs, to leave in fp32.
    """
    model = onnx.load(path)
    associate_gelu(model)
    convolutions_as_products(model)
    chosen = {node.output[0] for node in _products(model, *MATRIX_PRODUCTS)[skip:]}
    matrices = [node for node in model.graph.node if node.op_type in MATRIX_PRODUCTS]
    excluded = [node.name for node in matrices if node.output[0] not in chosen]
    # Suppresses the advice to run ONNX Runtime's optimizer first: PyTorch's exporter has optimized.
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "int8.onnx"
        quantization.quantize_dynamic(
            model,
            fresh,
            op_types_to_quantize=["MatMul"],
            # A Gemm is first split into two nodes; the suffix names its product.
            nodes_to_exclude=[name + end for name in excluded for end in ("", "_MatMul")],
            per_channel=True,
            reduce_range=True,
            weight_type=quantization.QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        save_onnx(onnx.load(fresh), path)


def quantize_static(
    path: Path, calls: Sequence[Mapping[str, np.ndarray]], *, skip: int = 0
) -> None:
    """Quantize a graph's products with weights and its 2-D convolutions to int8, for GPUs.

    In place, with QuantizeLinear and DequantizeLinear before the factors as TensorRT needs them:
    signed and symmetric, activations with one scale per tensor and weights with one per output
    channel. Biases, results, and other uses of the factors stay in fp32; ONNX Runtime's own
    `quantize_static` would quantize residual connections and graph outputs as well. Products of
    two activations and GRUs stay in fp32; so do 1-D convolutions of audio, whose range of
    amplitudes is too wide for one scale: emotion2vec's seven, with random weights, reduce the
    cosine of its embedding to 0.53, all other products to 0.9999.

    Calibration is by the maximum: the scale of an activation covers its largest element in any
    call. Clipping was no better. Cosine of the compact audio engine's embedding on one sample clip,
    calibrated on another: 0.9985; with scales of least squared error 0.9987, of the 99.99th
    percentile 0.9983, of the 99.9th 0.9817.

    Args:
        calls: inputs of the engine on real clips.
        skip: number of matrix products, counted from the graph's inputs, to leave in fp32.

    Raises:
        PrecisionError: there are no calls, or an activation is not finite.
    """
    if not calls:
        raise PrecisionError(f"{path.name}: no calls to calibrate int8 scales on: it never ran")
    model = onnx.load(path)
    products = [*_products(model, "Conv"), *_products(model, *MATRIX_PRODUCTS)[skip:]]
    activations = list(dict.fromkeys(node.input[0] for node in products))
    maxima = _absolute_maxima(model, activations, calls)
    if infinite := [name for name, value in maxima.items() if not np.isfinite(value)]:
        raise PrecisionError(f"{path.name}: no int8 scale for {infinite[0]}, which is not finite")
    _insert_qdq(model, products, maxima)
    save_onnx(model, path)


def _insert_qdq(
    model: onnx.ModelProto, products: Sequence[onnx.NodeProto], maxima: Mapping[str, float]
) -> None:
    """Insert QuantizeLinear and DequantizeLinear before the factors of products, in place.

    Args:
        maxima: largest absolute element of each product's activation.
    """
    graph = model.graph
    quantized = {node.output[0] for node in products}
    weights = {weight.name: weight for weight in graph.initializer}
    weights[ZERO_POINT] = numpy_helper.from_array(np.int8(0), ZERO_POINT)
    nodes = []
    done: set[str] = set()
    for node in graph.node:
        if node.output[0] in quantized:
            activation, weight = node.input[:2]
            if activation not in done:
                scale = np.float32((maxima[activation] or INT8_MAX) / INT8_MAX)
                name = f"{activation}.scale"
                weights[name] = numpy_helper.from_array(scale, name)
                nodes += _quantize_dequantize(activation)
            if weight not in done:
                axis = _output_axis(node)
                values, scales = _quantize_weight(numpy_helper.to_array(weights[weight]), axis)
                weights[f"{weight}.int8"] = numpy_helper.from_array(values, f"{weight}.int8")
                weights[f"{weight}.scale"] = numpy_helper.from_array(scales, f"{weight}.scale")
                nodes.append(_dequantize(weight, axis))
            done |= {activation, weight}
            node.input[0], node.input[1] = f"{activation}.dequantized", f"{weight}.dequantized"
        nodes.append(node)
    used = {name for node in nodes for name in node.input}
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weight for name, weight in weights.items() if name in used)


def _absolute_maxima(
    model: onnx.ModelProto, names: Sequence[str], calls: Sequence[Mapping[str, np.ndarray]]
) -> dict[str, float]:
    """Largest absolute element of each of these values in any call."""
    if not names:
        return {}
    nodes = [
        helper.make_node(kind, [name], [f"{kind} {name}"], keepdims=0)
        for name in names
        for kind in ("ReduceMin", "ReduceMax")
    ]
    session = session_with_outputs(model, nodes, TensorProto.FLOAT)
    found = np.abs([session.run(None, dict(call)) for call in calls])
    return dict(zip(names, found.reshape(len(calls), -1, 2).max((0, 2)).tolist(), strict=True))


def _output_axis(product: onnx.NodeProto) -> int:
    """Axis of the output channels in a product's weight."""
    transposed = any(a.name == "transB" and a.i for a in product.attribute)
    return 0 if product.op_type == "Conv" or transposed else 1


def _quantize_weight(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantize a weight to int8; return it with its float32 scales along an axis."""
    others = tuple(k for k in range(weight.ndim) if k != axis)
    peaks = np.abs(weight).max(others, keepdims=True)
    scales = np.where(peaks, peaks, INT8_MAX) / np.float32(INT8_MAX)
    return np.round(weight / scales).astype(np.int8), scales.ravel().astype(np.float32)


def _quantize_dequantize(name: str) -> list[onnx.NodeProto]:
    inputs = [name, f"{name}.scale", ZERO_POINT]
    quantize = helper.make_node("QuantizeLinear", inputs, [f"{name}.int8"])
    return [quantize, _dequantize(name)]


def _dequantize(name: str, axis: int = 1) -> onnx.NodeProto:
    inputs = [f"{name}.int8", f"{name}.scale"]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}.dequantized"], axis=axis)


def _products(model: onnx.ModelProto, *kinds: str) -> list[onnx.NodeProto]:
    """Products of an activation with a weight: matrix products and 2-D convolutions."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in kinds
        and (weight := weights.get(node.input[1])) is not None
        and len(weight.dims) == (4 if node.op_type == "Conv" else 2)
        and not is_exact(weight.name)
    ]
