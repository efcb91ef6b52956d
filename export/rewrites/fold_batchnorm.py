"""Folding of batch normalization into convolutions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import numpy_helper


def fold_batchnorm(model: onnx.ModelProto) -> None:
    """Fold each BatchNormalization into the convolution before it, in place.

    Runtimes do so when they load a graph, but not where two branches share weights; and weights
    have to be folded before they are rounded. Results are the same up to rounding errors.
    """
    graph = model.graph
    weights = {weight.name: weight for weight in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    convolutions = {node.output[0]: node for node in graph.node if node.op_type == "Conv"}
    folded: dict[tuple[str, ...], list[onnx.TensorProto]] = {}  # once for shared weights
    for norm in [node for node in graph.node if node.op_type == "BatchNormalization"]:
        conv = convolutions.get(norm.input[0])
        if conv is None or uses[conv.output[0]] > 1:
            continue
        names = (*conv.input[1:], *norm.input[1:])
        if not weights.keys() >= {*names}:
            continue
        if names not in folded:
            epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
            values = [numpy_helper.to_array(weights[name]).astype(np.float64) for name in names]
            kernel, bias, (scale, shift, mean, variance) = values[0], values[1:-4], values[-4:]
            scale = scale / np.sqrt(variance + epsilon)
            kernel *= scale.reshape(-1, *[1] * (kernel.ndim - 1))
            shift += (sum(bias) - mean) * scale
            shared = any(kernel_name == names[0] for kernel_name, *_ in folded)  # by another norm
            name = f"{names[0]}.{norm.output[0]}" if shared else names[0]
            folded[names] = [
                numpy_helper.from_array(kernel.astype(np.float32), f"{name}.folded"),
                numpy_helper.from_array(shift.astype(np.float32), f"{name}.folded_bias"),
            ]
        conv.input[1:] = [weight.name for weight in folded[names]]
        conv.output[:] = norm.output[:1]
        graph.node.remove(norm)
    used = {name for node in graph.node for name in node.input}
    kept = [weight for weight in weights.values() if weight.name in used]
    kept += [weight for pair in folded.values() for weight in pair]
    del graph.initializer[:]
    graph.initializer.extend(kept)
