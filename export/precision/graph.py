"""Graph helpers shared by the precision conversions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper

from mfer_edge.engines.onnx import import_onnxruntime
from mfer_edge.errors import MferError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


class PrecisionError(MferError):
    """A graph that can't be converted to the requested precision."""


def is_exact(name: str) -> bool:
    """Whether a weight stays in fp32, because rounding it would add noise.

    These are the spectrogram's, and the training statistics that an arm standardises by.
    """
    return any(part in name for part in ("basis", "filters", "standardise"))


def session_with_outputs(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], dtype: int
) -> InferenceSession:
    """Open a session of a graph with nodes appended, whose outputs replace its own.

    Args:
        nodes: with one output each.
        dtype: ONNX's number of the type of all outputs.
    """
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    del extended.graph.output[:]
    for node in nodes:
        extended.graph.node.append(node)
        extended.graph.output.append(helper.make_tensor_value_info(node.output[0], dtype, None))
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(
        extended.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def parameters_of(model: onnx.ModelProto) -> int:
    """Number of parameters: elements of all floating-point and 8-bit weights."""
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8)
    return sum(int(np.prod(w.dims)) for w in model.graph.initializer if w.data_type in kinds)
