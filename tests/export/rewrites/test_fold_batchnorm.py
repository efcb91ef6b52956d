"""Folding of batch norms into convolutions: the same results with fewer operators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from export.precision.graph import parameters_of
from export.rewrites.fold_batchnorm import fold_batchnorm
from tests.export.exports import Exported
from tests.export.small_graphs import graph, run, written

IMAGE_SHAPE = (2, 3, 9, 8)


RANDOM = np.random.default_rng(0)


def randn(*shape: int) -> np.ndarray:
    return RANDOM.normal(0, 1, shape).astype(np.float32)


NORM = {"scale": randn(4), "shift": randn(4), "mean": randn(4), "variance": 0.1 + randn(4) ** 2}


def conv_and_norm(source: str, weights: list[str], result: str) -> list[onnx.NodeProto]:
    conv = helper.make_node("Conv", [source, *weights], [f"{result} before"], pads=[1, 1, 1, 1])
    inputs = [f"{result} before", *NORM]
    return [conv, helper.make_node("BatchNormalization", inputs, [result], epsilon=1e-3)]


@pytest.mark.parametrize("biased", [False, True])
def test_a_norm_is_folded_into_its_convolution(biased: bool, tmp_path: Path) -> None:
    weights = {"k": randn(4, 3, 3, 3)} | ({"b": randn(4)} if biased else {})
    nodes = conv_and_norm("x", list(weights), "y")
    model = graph(weights | NORM, nodes, dimensions=4, shape=IMAGE_SHAPE)
    x = randn(*IMAGE_SHAPE)
    before = run(written(model, tmp_path), x)
    fold_batchnorm(model)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert parameters_of(model) == 4 * 3 * 3 * 3 + 4
    np.testing.assert_allclose(run(written(model, tmp_path), x), before, atol=1e-5)


def test_shared_weights_stay_shared(tmp_path: Path) -> None:
    nodes = conv_and_norm("x", ["k"], "a") + conv_and_norm("a", ["k"], "y")
    model = graph({"k": randn(4, 4, 3, 3)} | NORM, nodes, dimensions=4, shape=(2, 4, 5, 5))
    x = randn(2, 4, 5, 5)
    before = run(written(model, tmp_path), x)
    fold_batchnorm(model)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Conv"]
    assert parameters_of(model) == 4 * 4 * 3 * 3 + 4
    np.testing.assert_allclose(run(written(model, tmp_path), x), before, rtol=1e-4, atol=1e-2)


def test_a_kernel_with_two_norms_becomes_two(tmp_path: Path) -> None:
    nodes = conv_and_norm("x", ["k"], "a") + conv_and_norm("a", ["k"], "y")
    other = {f"other {name}": value + 0.5 for name, value in NORM.items()}
    nodes[-1].input[1:] = list(other)
    model = graph({"k": randn(4, 4, 3, 3)} | NORM | other, nodes, dimensions=4, shape=(2, 4, 5, 5))
    x = randn(2, 4, 5, 5)
    before = run(written(model, tmp_path), x)
    fold_batchnorm(model)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Conv"]
    np.testing.assert_allclose(run(written(model, tmp_path), x), before, rtol=1e-4, atol=1e-2)


def test_a_convolution_with_other_consumers_keeps_its_norm(tmp_path: Path) -> None:
    nodes = [
        *conv_and_norm("x", ["k"], "a"),
        helper.make_node("Add", ["a", "a before"], ["y"]),
    ]
    model = graph({"k": randn(4, 3, 3, 3)} | NORM, nodes, dimensions=4, shape=IMAGE_SHAPE)
    before = model.SerializeToString(deterministic=True)
    fold_batchnorm(model)
    assert model.SerializeToString(deterministic=True) == before


def test_the_exported_face_engine_has_no_norms(exported: Exported) -> None:
    operators = [node.op_type for node in onnx.load(exported.files["face"]).graph.node]
    assert "Conv" in operators and "BatchNormalization" not in operators
