"""At which precision a graph multiplies: changing it, and reading it back."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from export.onnx_file import save_onnx
from mfer_edge.errors import MferError

HALF_FROM = 1024  # numbers; a smaller weight is not worth halving
EXACT = ("basis", "filters")  # of the spectrogram: half precision would be heard as noise

MULTIPLYING = ("Conv", "ConvInteger", "Gemm", "GRU", "LSTM", "MatMul", "MatMulInteger")
TYPE_NAMES = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "int8",
}


class PrecisionError(MferError):
    """A graph that can't have the precision that it is wanted in."""


def quantize(path: Path, spared: int = 0) -> None:
    """Make a graph's matrix products int8 where a weight is one side of them.

    Activations are brought to 8 bits as they come, weights once, a scale for each column. Weights
    take 7 of their 8 bits: without VNNI instructions a CPU adds pairs of products in 16 bits,
    which 8 bits can overflow (ONNX Runtime's advice for such machines, which is most small ones).

    Args:
        spared: how many of these products, from the graph's inputs on, stay as they are.
    """
    model = onnx.load(path)
    weights = {weight.name for weight in model.graph.initializer}
    products = [
        node.name
        for node in model.graph.node
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights
    ]
    # It advises to run its optimiser first, unless told so; PyTorch's exporter has done that work.
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "int8.onnx"
        quantize_dynamic(
            model,
            fresh,
            op_types_to_quantize=["MatMul"],
            # It makes a Gemm two nodes first, of which the product gets the longer name.
            nodes_to_exclude=[n + end for n in products[:spared] for end in ("", "_MatMul")],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
            extra_options={"MatMulConstBOnly": True},
        )
        save_onnx(onnx.load(fresh), path)


def store_half(path: Path) -> None:
    """Keep float weights in half precision on disk; the graph multiplies them in single.

    The cast back is of a constant, so a runtime does it once, when it loads the graph.

    Raises:
        PrecisionError: a weight is too large for half precision.
    """
    model = onnx.load(path)
    graph = model.graph
    casts = []
    for weight in graph.initializer:
        large = np.prod(weight.dims) >= HALF_FROM and weight.data_type == TensorProto.FLOAT
        if not large or any(word in weight.name for word in EXACT):
            continue
        name = weight.name
        with np.errstate(over="ignore"):
            values = numpy_helper.to_array(weight).astype(np.float16)
        if not np.isfinite(values).all():
            raise PrecisionError(f"{path.name}: {name} does not fit into half precision")
        weight.CopyFrom(numpy_helper.from_array(values, f"{name}.half"))
        casts.append(helper.make_node("Cast", [weight.name], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    save_onnx(model, path)


def precision_of(model: onnx.ModelProto) -> str:
    """Read from a graph the type in which most of its weights are multiplied."""
    size: Counter[str] = Counter()
    weights = {w.name: (int(np.prod(w.dims)), w.data_type) for w in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in weights:
            to = next(attribute.i for attribute in node.attribute if attribute.name == "to")
            weights[node.output[0]] = (weights[node.input[0]][0], to)
        if node.op_type in MULTIPLYING:
            for name in node.input:
                if name in weights:
                    count, kind = weights[name]
                    size[TYPE_NAMES.get(kind, "other")] += count
    return size.most_common(1)[0][0] if size else "fp32"


def parameters_of(model: onnx.ModelProto) -> int:
    """Count a graph's weights: what its products, sums and scales take from the file."""
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8)
    return sum(int(np.prod(w.dims)) for w in model.graph.initializer if w.data_type in kinds)
