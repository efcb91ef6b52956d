"""What changes of precision have in common."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.precision.graph import is_exact, parameters_of, session_with_outputs
from tests.export.conftest import Exported
from tests.export.small_graphs import W, graph, product


def test_further_values_can_be_asked_for() -> None:
    model = graph({"w": W}, [helper.make_node("MatMul", ["x", "w"], ["y"])])
    ends = [helper.make_node("ReduceMax", ["y"], ["most"], keepdims=0)]
    x = np.ones((2, len(W)), np.float32)
    (most,) = session_with_outputs(model, ends, TensorProto.FLOAT).run(None, {"x": x})
    assert most == pytest.approx((x @ W).max())
    assert [value.name for value in model.graph.output] == ["y"]


def test_parameters_are_the_numbers_in_the_file() -> None:
    weights = {"w": W, "k": np.ones((3, 5), np.float16), "shape": np.array([1, 2, 3])}
    assert parameters_of(graph(weights, [helper.make_node("Relu", ["x"], ["y"])])) == W.size + 15
    assert parameters_of(product()) == W.size


def test_the_spectrogram_of_the_audio_network_is_found_by_its_name(exported: Exported) -> None:
    """Rounding it would be heard: its weights must be among those that are left exact."""
    weights = onnx.load(exported.files["audio"]).graph.initializer
    exact = [numpy_helper.to_array(weight).shape for weight in weights if is_exact(weight.name)]
    assert sorted(exact) == [(80, 201), (402, 1, 400)]
