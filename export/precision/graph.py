"""What changes of a graph's precision have in common."""

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
    """A graph that can't have the precision that it is wanted in."""


def is_exact(name: str) -> bool:
    """Whether a weight is the spectrogram's: less than single precision would be heard as noise."""
    return "basis" in name or "filters" in name


def asking_session(
    model: onnx.ModelProto, ends: Iterable[onnx.NodeProto], kind: int
) -> InferenceSession:
    """Open a session of a graph that gives, instead of its outputs, those of further nodes.

    Args:
        ends: the nodes, with one output each.
        kind: ONNX's number of the type of them all.
    """
    asking = onnx.ModelProto()
    asking.CopyFrom(model)
    del asking.graph.output[:]
    for node in ends:
        asking.graph.node.append(node)
        asking.graph.output.append(helper.make_tensor_value_info(node.output[0], kind, None))
    ort = import_onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(
        asking.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def parameters_of(model: onnx.ModelProto) -> int:
    """Count a graph's weights: what its products, sums and scales take from the file."""
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT8, TensorProto.UINT8)
    return sum(int(np.prod(w.dims)) for w in model.graph.initializer if w.data_type in kinds)
