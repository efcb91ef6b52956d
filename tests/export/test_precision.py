"""Precision: set in a graph, and read back from what the graph does."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.onnx_file import save_onnx
from export.precision import (
    HALF_FROM,
    PrecisionError,
    parameters_of,
    precision_of,
    quantize,
    store_half,
)
from mfer_edge.engine import Engine
from tests.export.conftest import Exported

ROWS, WIDTH_IN, WIDTH = 6, 64, 48
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(0, 1, (ROWS, WIDTH_IN)).astype(np.float32)
W = RANDOM.normal(0, 0.1, (WIDTH_IN, WIDTH)).astype(np.float32)


def graph(
    weights: dict[str, np.ndarray],
    nodes: list[onnx.NodeProto],
    dtype: int = TensorProto.FLOAT,
    dimensions: int = 2,
) -> onnx.ModelProto:
    """A graph from x (rows, 64) to y, which has so many dimensions."""
    made = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("x", dtype, ["rows", WIDTH_IN])],
        [helper.make_tensor_value_info("y", dtype, [f"size_{k}" for k in range(dimensions)])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def product(weight: np.ndarray = W, name: str = "w") -> onnx.ModelProto:
    dtype = TensorProto.FLOAT16 if weight.dtype == np.float16 else TensorProto.FLOAT
    return graph({name: weight}, [helper.make_node("MatMul", ["x", name], ["y"])], dtype)


def written(model: onnx.ModelProto, folder: Path) -> Path:
    save_onnx(model, folder / "made.onnx")
    return folder / "made.onnx"


def run(path: Path, x: np.ndarray = X) -> np.ndarray:
    return Engine(path, ["CPUExecutionProvider"], 1)(x=x)["y"]


def weight_types(path: Path) -> dict[str, int]:
    return {w.name: w.data_type for w in onnx.load(path).graph.initializer}


def test_single_precision_is_read_as_it_is() -> None:
    assert precision_of(product()) == "fp32"


def test_half_precision_products_are_read_as_such() -> None:
    assert precision_of(product(W.astype(np.float16))) == "fp16"


@pytest.mark.parametrize("attributes_first", [False, True])
def test_weights_kept_in_half_but_multiplied_in_single_are_single(attributes_first: bool) -> None:
    cast = helper.make_node("Cast", ["half"], ["w"], to=TensorProto.FLOAT)
    if attributes_first:
        saturate = helper.make_attribute("saturate", 1)
        cast.attribute.insert(0, saturate)
    nodes = [cast, helper.make_node("MatMul", ["x", "w"], ["y"])]
    assert precision_of(graph({"half": W.astype(np.float16)}, nodes)) == "fp32"


def test_weights_kept_in_single_but_multiplied_in_half_are_half() -> None:
    nodes = [
        helper.make_node("Cast", ["w"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["x", "half"], ["y"]),
    ]
    assert precision_of(graph({"w": W}, nodes, TensorProto.FLOAT16)) == "fp16"


@pytest.mark.parametrize(("channels", "expected"), [(700, "int8"), (900, "fp32")])
def test_the_precision_is_that_of_most_weights(
    channels: int, expected: str, tmp_path: Path
) -> None:
    """An int8 product beside a convolution in single precision that is smaller, or larger."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Unsqueeze", ["h", "axis"], ["u"]),
        helper.make_node("Conv", ["u", "k"], ["y"]),
    ]
    kernel = np.ones((channels, 1, 4), np.float32)
    assert (kernel.size > W.size) == (expected == "fp32")
    weights = {"w": W, "axis": np.array([1]), "k": kernel}
    path = written(graph(weights, nodes, dimensions=3), tmp_path)
    quantize(path)
    assert precision_of(onnx.load(path)) == expected


def test_a_graph_without_products_is_single() -> None:
    assert precision_of(graph({}, [helper.make_node("Relu", ["x"], ["y"])])) == "fp32"


def test_quantized_products_are_int8_and_near(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    quantize(path)
    assert precision_of(onnx.load(path)) == "int8"
    assert TensorProto.INT8 in weight_types(path).values()
    expected = X @ W
    error = np.linalg.norm(run(path) - expected) / np.linalg.norm(expected)
    assert 0 < error < 0.02


def test_a_large_column_does_not_cost_the_small_ones_their_bits(tmp_path: Path) -> None:
    mixed = W * np.where(np.arange(WIDTH) % 2, 1.0, 1000.0).astype(np.float32)
    path = written(product(mixed), tmp_path)
    quantize(path)
    expected = X @ mixed
    error = np.linalg.norm(run(path) - expected, axis=0) / np.linalg.norm(expected, axis=0)
    assert error.max() < 0.05


def test_weights_take_seven_bits(tmp_path: Path) -> None:
    """Products of 8 bits would overflow on processors without VNNI."""
    path = written(product(), tmp_path)
    quantize(path)
    (weight,) = (
        numpy_helper.to_array(w)
        for w in onnx.load(path).graph.initializer
        if w.data_type == TensorProto.INT8 and np.prod(w.dims) == W.size
    )
    assert 60 <= np.abs(weight.astype(int)).max() <= 64


def test_products_without_a_weight_and_convolutions_stay_single(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0]),
        helper.make_node("MatMul", ["t", "x"], ["a"]),
        helper.make_node("Unsqueeze", ["a", "axis"], ["u"]),
        helper.make_node("Conv", ["u", "k"], ["y"]),
    ]
    weights = {"axis": np.array([1]), "k": np.ones((3, 1, 4), np.float32)}
    path = written(graph(weights, nodes, dimensions=3), tmp_path)
    before = run(path)
    quantize(path)
    assert [node.op_type for node in onnx.load(path).graph.node] == [n.op_type for n in nodes]
    np.testing.assert_array_equal(run(path), before)


@pytest.mark.parametrize("spared", [0, 1, 2, 5])
def test_the_first_products_can_be_spared(spared: int, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Gemm", ["a", "v"], ["b"], name="second"),
        helper.make_node("MatMul", ["b", "w"], ["y"], name="third"),
    ]
    path = written(graph({"w": W, "v": RANDOM.normal(0, 0.1, W.T.shape).astype("f")}, nodes),
                   tmp_path)  # fmt: skip
    before = run(path)
    quantize(path, spared)
    kinds = [node.op_type for node in onnx.load(path).graph.node]
    assert kinds.count("MatMulInteger") == max(0, 3 - spared)
    assert np.array_equal(run(path), before) == (spared >= 3)


def test_quantizing_says_nothing_and_leaves_no_notes(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    path = written(product(), tmp_path)
    with caplog.at_level(logging.WARNING):
        quantize(path)
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
    assert not onnx.load(path).metadata_props
    assert sorted(tmp_path.iterdir()) == [path]


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_half_representable_weights_lose_nothing(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    weight = np.random.default_rng(seed).normal(0, 1, W.shape).astype(np.float16)
    path = written(product(weight.astype(np.float32)), tmp_path_factory.mktemp("half"))
    before, size = run(path), path.stat().st_size
    store_half(path)
    np.testing.assert_array_equal(run(path), before)
    assert path.stat().st_size < 0.55 * size
    assert precision_of(onnx.load(path)) == "fp32"
    assert parameters_of(onnx.load(path)) == W.size


def test_other_weights_are_rounded_to_half_precision(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    store_half(path)
    np.testing.assert_allclose(run(path), X @ W.astype(np.float16).astype(np.float32), atol=1e-5)


def test_halving_twice_is_halving_once(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    store_half(path)
    once = path.read_bytes()
    store_half(path)
    assert path.read_bytes() == once


def test_small_weights_and_the_spectrogram_stay_exact(tmp_path: Path) -> None:
    weights = {
        "small": np.ones((HALF_FROM - 1, 1), np.float32),
        "log_mel.basis": np.ones((HALF_FROM, 1), np.float32),
        "log_mel.filters": np.ones((HALF_FROM, 1), np.float32),
        "large": np.ones((HALF_FROM, 1), np.float32),
        "indices": np.ones(2 * HALF_FROM, np.int64),
    }
    path = written(graph(weights, [helper.make_node("Relu", ["x"], ["y"])]), tmp_path)
    store_half(path)
    types = weight_types(path)
    assert types.pop("large.half") == TensorProto.FLOAT16
    assert types.pop("indices") == TensorProto.INT64
    assert types == dict.fromkeys(["small", "log_mel.basis", "log_mel.filters"], TensorProto.FLOAT)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e5, -1e5, np.inf, np.nan])
def test_a_weight_beyond_half_precision_is_refused_by_name(tmp_path: Path, value: float) -> None:
    weight = W.copy()
    weight[3, 4] = value
    path = written(product(weight, "layer.weight"), tmp_path)
    before = path.read_bytes()
    with pytest.raises(PrecisionError, match=r"made\.onnx.*layer\.weight"):
        store_half(path)
    assert path.read_bytes() == before


def test_parameters_are_the_numbers_in_the_file() -> None:
    weights = {"w": W, "k": np.ones((3, 5), np.float16), "shape": np.array([1, 2, 3])}
    assert parameters_of(graph(weights, [helper.make_node("Relu", ["x"], ["y"])])) == W.size + 15


def test_the_spectrogram_of_the_audio_network_is_found_by_its_name(exported: Exported) -> None:
    """Halving it would be heard: its weights must be among those that are left exact."""
    names = [w.name for w in onnx.load(exported.files["audio"]).graph.initializer]
    assert len([name for name in names if "basis" in name]) == 1
    assert len([name for name in names if "filters" in name]) == 1


def test_the_exported_networks_are_single_precision(exported: Exported) -> None:
    for name in ("face", "visual", "audio", "fusion", "pnet", "rnet", "onet"):
        assert precision_of(onnx.load(exported.files[name])) == "fp32", name
