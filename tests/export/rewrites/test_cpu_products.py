"""Graphs rewritten for ONNX Runtime on CPUs give the same results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from export.precision.int8 import quantize_dynamic
from export.precision.macs import macs_by_type
from export.rewrites.cpu_products import associate_gelu, convolutions_as_products
from mfer_edge.engines.onnx import OnnxEngine
from tests.export.exports import Exported
from tests.export.small_graphs import RANDOM, cosine, graph, kinds, run, written

CHANNELS = 64
node = helper.make_node


def convolution(
    taps: int, stride: int, *, bias: bool = True, **attributes: object
) -> onnx.ModelProto:
    weights = {
        "k": RANDOM.normal(0, 0.1, (48, CHANNELS, taps)).astype(np.float32),
        "b": RANDOM.normal(0, 0.1, 48).astype(np.float32),
    }
    inputs = ["x", "k", "b"][: 2 + bias]
    conv = node("Conv", inputs, ["y"], strides=[stride], name="conv", **attributes)
    return graph(weights, [conv], dimensions=3, shape=(1, CHANNELS, "steps"))


def steps(count: int) -> np.ndarray:
    return RANDOM.normal(0, 1, (1, CHANNELS, count)).astype(np.float32)


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 20), st.booleans())
def test_a_convolution_as_a_product(taps: int, stride: int, more: int, bias: bool) -> None:
    model, x = convolution(taps, stride, bias=bias), steps(taps + more)

    def computed() -> np.ndarray:
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        return session.run(None, {"x": x})[0]

    before = computed()
    convolutions_as_products(model)
    assert {"Conv", "MatMul"} & {n.op_type for n in model.graph.node} == {"MatMul"}
    onnx.checker.check_model(model)
    np.testing.assert_allclose(computed(), before, atol=1e-5)


@pytest.mark.parametrize(
    "other",
    [
        {"pads": [1, 1]},
        {"dilations": [2]},
        {"auto_pad": "SAME_UPPER"},
    ],
)
def test_other_convolutions_stay(other: dict[str, object], tmp_path: Path) -> None:
    path, x = written(convolution(3, 1, **other), tmp_path), steps(9)
    before = run(path, x)
    quantize_dynamic(path)
    assert kinds(path) == ["Conv"]
    np.testing.assert_array_equal(run(path, x), before)


def test_a_convolution_in_int8(tmp_path: Path) -> None:
    path, x = written(convolution(3, 2), tmp_path), steps(21)
    before = run(path, x)
    quantize_dynamic(path)
    assert macs_by_type(onnx.load(path), {"x": x}) == {"int8": 10 * 48 * CHANNELS * 3}
    assert 0.999 < cosine(run(path, x), before) < 1


@pytest.mark.parametrize("name", ["face", "audio"])
def test_gelu_is_fused_and_the_same(name: str, paper: Exported, tmp_path: Path) -> None:
    """Of the paper's networks, as PyTorch's exporter writes them."""
    engines, unfused = [], []
    model = onnx.load(paper.files[name])
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = written(model, folder)
        engines.append(OnnxEngine(path, ["CPUExecutionProvider"], 1))
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(folder / "optimized.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        unfused.append(Counter(kinds(folder / "optimized.onnx"))["Erf"])
        associate_gelu(model)
    blocks = Counter(n.op_type for n in model.graph.node)["Erf"]
    assert unfused == [blocks, 0]
    assert blocks
    call = {}
    for tensor in engines[0].inputs:
        shape = [size if isinstance(size, int) else 2 for size in tensor.shape]
        if tensor.name == "wave":
            shape = [1, 16_000]
        largest = 255 if tensor.dtype == "uint8" else 1
        call[tensor.name] = RANDOM.uniform(largest / 10, largest, shape).astype(tensor.dtype)
    before, after = (engine(**call) for engine in engines)
    for output, value in before.items():
        np.testing.assert_allclose(after[output], value, rtol=1e-4, atol=1e-5)
