"""Int8 quantization: dynamic and static."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from export.precision.graph import PrecisionError
from export.precision.int8 import quantize_dynamic, quantize_static
from export.precision.macs import macs_by_type
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.samples import CLIPS
from mfer_edge.sources.clip import read_audio
from tests.export.exports import Exported, small_paper
from tests.export.small_graphs import (
    RANDOM,
    ROWS,
    WIDTH,
    WIDTH_IN,
    W,
    X,
    cosine,
    graph,
    in_place,
    kinds,
    product,
    run,
    weight_types,
    written,
)
from tests.train.synthetic import face_image

Quantizer = Callable[[Path], None]
node = helper.make_node


def static(path: Path) -> None:
    quantize_static(path, [{"x": X}])


WAYS = pytest.mark.parametrize("way", [quantize_dynamic, static])


def error(given: np.ndarray, expected: np.ndarray, axis: int | None = None) -> np.ndarray:
    return np.linalg.norm(given - expected, axis=axis) / np.linalg.norm(expected, axis=axis)


@WAYS
def test_quantized_products_are_int8_and_accurate(way: Quantizer, tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    way(path)
    assert macs_by_type(onnx.load(path), {"x": X}) == {"int8": ROWS * WIDTH_IN * WIDTH}
    assert TensorProto.INT8 in weight_types(path).values()
    assert 0 < error(run(path), X @ W) < 0.02


@WAYS
def test_every_column_has_its_own_scale(way: Quantizer, tmp_path: Path) -> None:
    mixed = W * np.where(np.arange(WIDTH) % 2, 1.0, 1000.0).astype(np.float32)
    path = written(product(mixed), tmp_path)
    way(path)
    assert error(run(path), X @ mixed, axis=0).max() < 0.05


def test_dynamic_weights_use_seven_bits(tmp_path: Path) -> None:
    """Products of 8-bit factors would overflow on CPUs without VNNI."""
    path = written(product(), tmp_path)
    quantize_dynamic(path)
    (weight,) = (
        numpy_helper.to_array(w)
        for w in onnx.load(path).graph.initializer
        if w.data_type == TensorProto.INT8 and np.prod(w.dims) == W.size
    )
    assert 60 <= np.abs(weight.astype(int)).max() <= 64


@WAYS
def test_products_of_activations_and_1d_convolutions_stay_fp32(
    way: Quantizer, tmp_path: Path
) -> None:
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[1, 0]),
        node("MatMul", ["t", "x"], ["a"]),
        node("Unsqueeze", ["a", "axis"], ["u"]),
        node("Conv", ["u", "k"], ["y"]),
    ]
    weights = {"axis": np.array([1]), "k": np.ones((3, 1, 4), np.float32)}
    path = written(graph(weights, nodes, dimensions=3), tmp_path)
    before = run(path)
    way(path)
    assert kinds(path) == [n.op_type for n in nodes]
    np.testing.assert_array_equal(run(path), before)


@WAYS
def test_the_spectrogram_stays_fp32(way: Quantizer, tmp_path: Path) -> None:
    path = written(product(name="log_mel.basis"), tmp_path)
    before = run(path)
    way(path)
    np.testing.assert_array_equal(run(path), before)


CHAIN = graph(
    {"w": W, "v": RANDOM.normal(0, 0.1, W.T.shape).astype(np.float32)},
    [
        node("MatMul", ["x", "w"], ["a"], name="first"),
        node("Gemm", ["a", "v"], ["b"], name="second"),
        node("MatMul", ["b", "w"], ["y"], name="third"),
    ],
)


@WAYS
@pytest.mark.parametrize("skipped", [0, 1, 2, 5])
def test_the_first_products_can_be_skipped(skipped: int, way: Quantizer, tmp_path: Path) -> None:
    path = written(CHAIN, tmp_path)
    before = run(path)
    if way is quantize_dynamic:
        quantize_dynamic(path, skip=skipped)
    else:
        quantize_static(path, [{"x": X}], skip=skipped)
    size = ROWS * WIDTH_IN * WIDTH
    counts = {"int8": max(0, 3 - skipped) * size, "fp32": min(skipped, 3) * size}
    assert macs_by_type(onnx.load(path), {"x": X}) == {k: n for k, n in counts.items() if n}
    assert np.array_equal(run(path), before) == (skipped >= 3)


@WAYS
def test_quantization_prints_nothing_and_leaves_no_metadata(
    way: Quantizer,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = written(product(), tmp_path)
    with caplog.at_level(logging.WARNING):
        way(path)
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")
    assert not onnx.load(path).metadata_props
    assert sorted(tmp_path.iterdir()) == [path]


@WAYS
def test_quantization_is_reproducible(way: Quantizer, tmp_path: Path) -> None:
    contents = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = written(CHAIN, tmp_path / name)
        way(path)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    assert str(tmp_path).encode() not in contents.pop()


def test_static_quantization_computed_by_hand(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    calls = [{"x": 0.5 * X}, {"x": -2 * X[:3]}, {"x": X}]
    quantize_static(path, calls)
    step_in = max(np.abs(call["x"]).max() for call in calls) / 127
    step_w = np.abs(W).max(0) / 127
    rounded = np.round(X / step_in).clip(-128, 127), np.round(W / step_w)
    expected = (rounded[0] @ rounded[1]) * step_in * step_w
    np.testing.assert_allclose(run(path), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=20)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 9), gain=st.floats(-6, 6))
def test_calibration_data_is_rounded_by_at_most_half_a_step(
    seed: int, rows: int, gain: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    random = np.random.default_rng(seed)
    x = (10**gain * random.standard_cauchy((rows, WIDTH_IN))).astype(np.float32)
    path = written(product(np.eye(WIDTH_IN, dtype=np.float32)), tmp_path_factory.mktemp("fixed"))
    quantize_static(path, [{"x": x}])
    assert np.abs(run(path, x) - x).max() <= 0.501 * np.abs(x).max() / 127


def test_values_beyond_the_calibration_are_clipped(tmp_path: Path) -> None:
    path = written(product(np.eye(WIDTH_IN, dtype=np.float32)), tmp_path)
    quantize_static(path, [{"x": X}])
    most = np.abs(X).max()
    np.testing.assert_allclose(run(path, 100 * np.abs(X) + most), most, rtol=1e-5)


def test_qdq_is_as_tensorrt_needs_it(tmp_path: Path) -> None:
    """Signed and symmetric, int8 weights with one scale per column."""
    path = written(CHAIN, tmp_path)
    quantize_static(path, [{"x": X}])
    graph = onnx.load(path).graph
    weights = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
    makers = {n.output[0]: n for n in graph.node}
    for one in (n for n in graph.node if n.op_type == "QuantizeLinear"):
        assert weights[one.input[2]] == 0
        assert weights[one.input[2]].dtype == np.int8
        assert weights[one.input[1]].shape == ()
    for one in (n for n in graph.node if n.op_type in ("MatMul", "Gemm")):
        given, weight = (makers[name] for name in one.input[:2])
        assert given.op_type == weight.op_type == "DequantizeLinear"
        assert makers[given.input[0]].op_type == "QuantizeLinear"
        values = weights[weight.input[0]]
        assert values.dtype == np.int8
        assert (np.abs(values.astype(int)).max(0) == 127).all()
        assert weights[weight.input[1]].shape == values.shape[1:]
    assert sum(value.size for value in weights.values() if value.dtype == np.int8) == 2 * W.size + 1


@pytest.mark.parametrize("transposed", [0, 1])
def test_the_columns_of_a_gemm(transposed: int, tmp_path: Path) -> None:
    mixed = W * np.where(np.arange(WIDTH) % 2, 1.0, 1000.0).astype(np.float32)
    nodes = [node("Gemm", ["x", "w", "b"], ["y"], transB=transposed)]
    weights = {"w": mixed.T.copy() if transposed else mixed, "b": np.full(WIDTH, 7, np.float32)}
    path = written(graph(weights, nodes), tmp_path)
    quantize_static(path, [{"x": X}])
    assert error(run(path), X @ mixed + 7, axis=0).max() < 0.05
    assert weight_types(path)["b"] == TensorProto.FLOAT


def test_residual_connections_are_not_quantized(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["inner"]),
        node("Add", ["x", "inner"], ["y"]),
    ]
    weights = {"w": np.zeros((WIDTH_IN, WIDTH_IN), np.float32)}
    path = written(graph(weights, nodes), tmp_path)
    quantize_static(path, [{"x": X}])
    np.testing.assert_array_equal(run(path), X)


def test_outputs_that_a_product_uses_are_not_quantized(tmp_path: Path) -> None:
    model = graph({"w": W}, [node("Relu", ["x"], ["h"]), node("MatMul", ["h", "w"], ["y"])])
    model.graph.output.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, ["r", "c"]))
    path = written(model, tmp_path)
    static(path)
    given = OnnxEngine(path, ["CPUExecutionProvider"], 1)(x=X)
    np.testing.assert_array_equal(given["h"], np.maximum(X, 0))
    assert 0 < error(given["y"], np.maximum(X, 0) @ W) < 0.02


def test_calibration_on_zeros(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    quantize_static(path, [{"x": np.zeros_like(X)}])
    assert np.isfinite(run(path)).all()


@pytest.mark.parametrize("calls", [[], [{"x": X}, {"x": np.full_like(X, np.inf)}]])
def test_calibration_needs_finite_calls(calls: list[dict[str, np.ndarray]], tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    before = path.read_bytes()
    with pytest.raises(PrecisionError, match=r"made\.onnx"):
        quantize_static(path, calls)
    assert path.read_bytes() == before


def faces_and_waves() -> tuple[dict[str, list[dict[str, np.ndarray]]], ...]:
    """Calls to calibrate on, and others to test on."""
    random = np.random.default_rng(0)
    audio = [read_audio(clip)[None] for clip in CLIPS]
    images = [np.stack([face_image(k % 7, random)[None] for k in range(count)]) for count in (8, 5)]
    used, others = (
        {"face": [{"faces": faces}], "audio": [in_place(wave[:, a:b]) for a, b in cuts]}
        for faces, wave, cuts in zip(
            images, audio, ([(0, 64_000), (8_000, 30_000)], [(16_000, 48_000)]), strict=True
        )
    )
    return used, others


@pytest.mark.parametrize(("name", "min_share"), [("face", 0.99), ("audio", 0.7)])
def test_static_quantization_of_the_engines(
    name: str, min_share: float, exported: Exported, tmp_path: Path
) -> None:
    used, others = (calls[name] for calls in faces_and_waves())
    path = written(onnx.load(exported.files[name]), tmp_path)
    quantize_static(path, used)
    macs = macs_by_type(onnx.load(path), others[0])
    assert macs["int8"] > min_share * sum(macs.values())
    assert "ConvInteger" not in kinds(path)
    before, after = (
        OnnxEngine(file, ["CPUExecutionProvider"], 1) for file in (exported.files[name], path)
    )
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    for output, value in before(**others[0]).items():
        assert 0.99 < cosine(after(**others[0])[output], value) < 1, output


@pytest.mark.parametrize("name", ["face", "audio"])
def test_quantized_engines_keep_the_names_of_values(
    name: str, exported: Exported, tmp_path: Path
) -> None:
    path = written(onnx.load(exported.files[name]), tmp_path)
    quantize_static(path, faces_and_waves()[0][name])
    before, after = (onnx.load(file).graph for file in (exported.files[name], path))
    names = {output for n in before.node for output in n.output}
    assert names <= {output for n in after.node for output in n.output}


@pytest.mark.parametrize("name", ["face", "audio"])
@WAYS
def test_the_paper_preset(way: Quantizer, name: str, paper: Exported, tmp_path: Path) -> None:
    _, others = faces_and_waves()
    call = others[name][0]
    if name == "face":
        size = int(small_paper().face.size)  # type: ignore[arg-type]
        call = {"faces": call["faces"][..., :size, :size]}
    else:
        call = in_place(call["wave"], width=small_paper().audio.observed)
    single = paper.files[name]
    path = tmp_path / "int8.onnx"
    shutil.copyfile(single, path)
    if way is quantize_dynamic:
        quantize_dynamic(path)
    else:
        quantize_static(path, [call])
    assert macs_by_type(onnx.load(path), call)["int8"] > 0
    before, after = (OnnxEngine(p, ["CPUExecutionProvider"], 1)(**call) for p in (single, path))
    for output, value in before.items():
        assert cosine(after[output], value) > 0.99, output
