"""Graph helpers of the precision conversions."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.precision.graph import is_exact, parameters_of, session_with_outputs
from tests.export.conftest import Exported
from tests.export.small_graphs import OBSERVED, W, graph, product


def test_outputs_of_appended_nodes() -> None:
    model = graph({"w": W}, [helper.make_node("MatMul", ["x", "w"], ["y"])])
    nodes = [helper.make_node("ReduceMax", ["y"], ["max"], keepdims=0)]
    x = np.ones((2, len(W)), np.float32)
    (largest,) = session_with_outputs(model, nodes, TensorProto.FLOAT).run(None, {"x": x})
    assert largest == pytest.approx((x @ W).max())
    assert [value.name for value in model.graph.output] == ["y"]


def test_parameters_are_the_elements_of_weights() -> None:
    weights = {"w": W, "k": np.ones((3, 5), np.float16), "shape": np.array([1, 2, 3])}
    assert parameters_of(graph(weights, [helper.make_node("Relu", ["x"], ["y"])])) == W.size + 15
    assert parameters_of(product()) == W.size


def test_exact_weights_are_found_by_name(exported: Exported) -> None:
    """The spectrogram's and the training statistics must stay in fp32: rounding adds noise."""
    weights = onnx.load(exported.files["audio"]).graph.initializer
    exact = [numpy_helper.to_array(weight).shape for weight in weights if is_exact(weight.name)]
    assert sorted(exact) == [(80, 201), (402, 1, 400), (OBSERVED,), (OBSERVED,)]
