"""fp16 in the file only, and in the computation."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from export.graphs import model_graphs
from export.precision.fp16 import MIN_SIZE, emulate_fp16, store_fp16, to_fp16
from export.precision.graph import PrecisionError, parameters_of
from export.precision.macs import macs_by_type
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.manifest import MODEL_ENGINES
from mfer_edge.samples import ANGER
from mfer_edge.sources.clip import read_audio
from tests.export.exports import Exported, small_paper
from tests.export.small_graphs import (
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
    value_types,
    weight_types,
    written,
)
from tests.train.synthetic import face_image
from train.models.fer_resnet import FACE_EMBEDDING

FP16, FP32 = TensorProto.FLOAT16, TensorProto.FLOAT
node = helper.make_node


def converted(model: onnx.ModelProto, folder: Path) -> Path:
    path = written(model, folder)
    to_fp16(path)
    return path


def emulated(path: Path) -> Path:
    out = path.with_name("emulated.onnx")
    emulate_fp16(path, out)
    return out


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_weights_that_fp16_represents_lose_nothing(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    weight = np.random.default_rng(seed).normal(0, 1, W.shape).astype(np.float16)
    path = written(product(weight.astype(np.float32)), tmp_path_factory.mktemp("half"))
    before, size = run(path), path.stat().st_size
    store_fp16(path)
    np.testing.assert_array_equal(run(path), before)
    assert path.stat().st_size < 0.55 * size
    assert parameters_of(onnx.load(path)) == W.size


def test_other_weights_are_rounded_to_fp16(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    store_fp16(path)
    np.testing.assert_allclose(run(path), X @ W.astype(np.float16).astype(np.float32), atol=1e-5)


def test_storing_twice_changes_nothing(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    store_fp16(path)
    once = path.read_bytes()
    store_fp16(path)
    assert path.read_bytes() == once


def test_small_weights_and_the_spectrogram_stay_fp32(tmp_path: Path) -> None:
    weights = {
        "small": np.ones((MIN_SIZE - 1, 1), np.float32),
        "log_mel.basis": np.ones((MIN_SIZE, 1), np.float32),
        "log_mel.filters": np.ones((MIN_SIZE, 1), np.float32),
        "large": np.ones((MIN_SIZE, 1), np.float32),
        "indices": np.ones(2 * MIN_SIZE, np.int64),
    }
    path = written(graph(weights, [node("Relu", ["x"], ["y"])]), tmp_path)
    store_fp16(path)
    types = weight_types(path)
    assert types.pop("large.half") == FP16
    assert types.pop("indices") == TensorProto.INT64
    assert types == dict.fromkeys(["small", "log_mel.basis", "log_mel.filters"], FP32)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", [store_fp16, to_fp16])
@pytest.mark.parametrize("value", [1e5, -1e5, np.inf, np.nan])
def test_a_weight_out_of_the_range_of_fp16_is_named(
    value: float, change: type, tmp_path: Path
) -> None:
    weight = W.copy()
    weight[3, 4] = value
    path = written(product(weight, "layer.weight"), tmp_path)
    before = path.read_bytes()
    with pytest.raises(PrecisionError, match=r"made\.onnx.*layer\.weight"):
        change(path)
    assert path.read_bytes() == before


def test_large_constants_are_allowed_where_nothing_is_converted(tmp_path: Path) -> None:
    nodes = [node("Mul", ["x", "large"], ["a"]), node("Mul", ["a", "small"], ["y"])]
    weights = {"large": np.float32(1e6), "small": np.float32(1e-9)}
    path = written(graph(weights, nodes), tmp_path)
    before = path.read_bytes()
    to_fp16(path)
    assert path.read_bytes() == before


def test_products_have_fp16_factors(tmp_path: Path) -> None:
    path = converted(product(), tmp_path)
    assert kinds(path) == ["Cast", "MatMul", "Cast"]
    assert weight_types(path) == {"w.half": FP16}
    types = value_types(path)
    assert (types["x"], types["y.half"], types["y"]) == (FP32, FP16, FP32)
    assert macs_by_type(onnx.load(path), {"x": X}) == {"fp16": ROWS * WIDTH_IN * WIDTH}


MIXED = [
    node("Mul", ["x", "gain"], ["louder"]),
    node("ReduceMean", ["louder", "last"], ["mean"]),
    node("Sub", ["louder", "mean"], ["even"]),
    node("MatMul", ["even", "log_mel.basis"], ["spectrum"]),
    node("MatMul", ["spectrum", "w"], ["linear"]),
    node("Add", ["linear", "bias"], ["biased"]),
    node("Relu", ["biased"], ["active"]),
    node("Mul", ["active", "gain"], ["again"]),
    node("Transpose", ["again"], ["transposed"], perm=[1, 0]),
    node("MatMul", ["again", "transposed"], ["similarity"]),
    node("Softmax", ["similarity"], ["shares"]),
    node("MatMul", ["shares", "again"], ["attended"]),
    node("Add", ["attended", "spectrum"], ["residual"]),
    node("LayerNormalization", ["residual", "scale"], ["normal"]),
    node("Mul", ["normal", "gain"], ["y"]),
]
"""Operators of an audio encoder: spectrogram, linear layer, attention, residual sum, norm."""

MIXED_WEIGHTS = {
    "gain": np.float32(1.5),
    "last": np.array([-1]),
    "log_mel.basis": np.eye(WIDTH_IN, dtype=np.float32),
    "w": np.random.default_rng(1).normal(0, 0.1, (WIDTH_IN, WIDTH_IN)).astype(np.float32),
    "bias": np.linspace(-1, 1, WIDTH_IN, dtype=np.float32),
    "scale": np.ones(WIDTH_IN, np.float32),
}


def test_types_of_the_values(tmp_path: Path) -> None:
    path = converted(graph(MIXED_WEIGHTS, MIXED), tmp_path)
    fp16 = {"linear", "biased", "active", "again", "transposed", "similarity", "attended"}
    fp32 = {"x", "louder", "mean", "even", "spectrum", "shares", "residual", "normal", "y"}
    types = value_types(path)
    assert {name for name in fp16 | fp32 if types[name] == FP16} == fp16
    assert weight_types(path) == {
        "last": TensorProto.INT64,
        **dict.fromkeys(["gain", "log_mel.basis", "scale"], FP32),
        **dict.fromkeys(["w.half", "bias.half", "gain.half"], FP16),
    }
    single = graph(MIXED_WEIGHTS, MIXED)
    assert cosine(run(emulated(path)), run(written(single, tmp_path))) > 0.99999


def test_a_transposed_spectrogram_weight_stays_fp32(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["log_mel.filters"], ["transposed"], perm=[1, 0]),
        node("MatMul", ["x", "transposed"], ["mel"]),
        node("MatMul", ["mel", "w"], ["y"]),
    ]
    weights = {"log_mel.filters": np.eye(WIDTH_IN, dtype=np.float32), "w": W}
    types = value_types(converted(graph(weights, nodes), tmp_path))
    assert (types["transposed"], types["mel"], types["y.half"]) == (FP32, FP32, FP16)


def test_every_value_is_cast_once(tmp_path: Path) -> None:
    path = converted(graph(MIXED_WEIGHTS, MIXED), tmp_path)
    casts = [n for n in onnx.load(path).graph.node if n.op_type == "Cast"]
    assert sorted(n.input[0] for n in casts) == ["attended", "shares", "similarity", "spectrum"]
    assert not {n.output[0] for n in casts} & {n.input[0] for n in casts}


def test_values_computed_from_constants_take_either_type(tmp_path: Path) -> None:
    """Such as a class token, repeated for each image of a batch."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Shape", ["a"], ["shape"]),
        node("Expand", ["token", "shape"], ["tokens"]),
        node("Concat", ["tokens", "a"], ["y"], axis=0),
    ]
    path = converted(graph({"w": W, "token": W[:1]}, nodes), tmp_path)
    assert value_types(path)["y.half"] == FP16
    assert kinds(path).count("Cast") == 3
    expected = np.concatenate([np.repeat(W[:1], ROWS, 0), X @ W])
    np.testing.assert_allclose(run(path), expected, atol=2e-3)


def test_the_emulation_rounds_every_operation(tmp_path: Path) -> None:
    """As NumPy does."""
    nodes = [
        node("Gemm", ["x", "w", "b"], ["a"]),
        node("Mul", ["a", "a"], ["square"]),
        node("Sub", ["square", "a"], ["y"]),
    ]
    bias = np.linspace(-3, 3, WIDTH, dtype=np.float32)
    path = converted(graph({"w": W, "b": bias}, nodes), tmp_path)
    x, w, b = (array.astype(np.float16).astype(np.float64) for array in (X, W, bias))
    a = (x @ w + b).astype(np.float16)
    expected = (a * a - a).astype(np.float32)
    given = run(emulated(path))
    # Sums half way between two fp16 numbers may be rounded to the other one.
    assert (given == expected).mean() > 0.99
    np.testing.assert_allclose(given, expected, rtol=2e-3, atol=4e-3)
    assert cosine(run(path), expected) > 0.99999


@pytest.mark.parametrize(("gain", "expected"), [(100, False), (1000, True)])
def test_the_emulation_overflows(gain: float, expected: bool, tmp_path: Path) -> None:
    """An intermediate value out of the range of fp16 becomes infinite."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Mul", ["a", "gain"], ["large"]),
        node("Div", ["large", "gain"], ["small"]),
        node("Sub", ["small", "a"], ["y"]),
    ]
    weights = {"w": np.eye(WIDTH_IN, dtype=np.float32), "gain": np.float32(gain)}
    path = converted(graph(weights, nodes), tmp_path)
    assert np.isinf(run(emulated(path), 100 * np.sign(X))).all() == expected
    assert np.isfinite(run(emulated(path), 100 * np.sign(X))).all() != expected


@pytest.mark.parametrize("name", MODEL_ENGINES)
def test_converting_twice_changes_nothing(name: str, exported: Exported, tmp_path: Path) -> None:
    path = written(onnx.load(exported.files[name]), tmp_path)
    to_fp16(path)
    once = path.read_bytes()
    to_fp16(path)
    assert path.read_bytes() == once


@pytest.fixture(scope="module")
def fp16_files(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    paths = {}
    for name in MODEL_ENGINES:
        model = onnx.load(exported.files[name])
        paths[name] = converted(model, tmp_path_factory.mktemp(name))
    return paths


@pytest.fixture(scope="module")
def calls(exported: Exported) -> dict[str, dict[str, np.ndarray]]:
    """Realistic inputs of each engine."""
    random = np.random.default_rng(0)
    faces = np.stack([face_image(k % 7, random)[None] for k in range(7)])
    wave = read_audio(ANGER)[None, 16_000:48_000]
    found = {"face": {"faces": faces}, "audio": in_place(wave)}
    embedding = {
        name: OnnxEngine(exported.files[name], ["CPUExecutionProvider"], 1)(**call)["embedding"]
        for name, call in found.items()
    }
    place = in_place(wave, own=True, width=FACE_EMBEDDING)
    found["visual"] = {**place, "embeddings": embedding["face"][None]}
    del found["visual"]["wave"]
    visual = OnnxEngine(exported.files["visual"], ["CPUExecutionProvider"], 1)(**found["visual"])
    found["fusion"] = {"visual": visual["embedding"], "audio": embedding["audio"]}
    return found


@pytest.mark.parametrize("emulating", [False, True])
@pytest.mark.parametrize("name", MODEL_ENGINES)
def test_converted_engines_are_close_to_fp32(
    name: str,
    emulating: bool,
    fp16_files: dict[str, Path],
    calls: dict[str, dict[str, np.ndarray]],
    exported: Exported,
) -> None:
    path = emulated(fp16_files[name]) if emulating else fp16_files[name]
    before, after = (
        OnnxEngine(file, ["CPUExecutionProvider"], 1) for file in (exported.files[name], path)
    )
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    for output, value in before(**calls[name]).items():
        assert cosine(after(**calls[name])[output], value) > 0.99999, output


@pytest.mark.parametrize("name", MODEL_ENGINES)
def test_converted_engines_multiply_in_fp16(
    name: str,
    fp16_files: dict[str, Path],
    calls: dict[str, dict[str, np.ndarray]],
    exported: Exported,
) -> None:
    macs = macs_by_type(onnx.load(fp16_files[name]), calls[name])
    share = macs["fp16"] / sum(macs.values())
    assert share == 1 if name != "audio" else 0.9 < share < 1  # all but the spectrogram
    before = exported.files[name].stat().st_size
    if before > 100_000:  # of a smaller file most is the graph, not weights
        assert fp16_files[name].stat().st_size < 0.56 * before
    value_types(fp16_files[name])


@pytest.mark.parametrize("name", MODEL_ENGINES)
def test_converted_engines_keep_the_names_of_values(
    name: str, fp16_files: dict[str, Path], exported: Exported
) -> None:
    before, after = (onnx.load(file).graph for file in (exported.files[name], fp16_files[name]))
    names = {output for n in before.node for output in n.output}
    assert names <= {output for n in after.node for output in n.output}


@pytest.mark.parametrize("name", MODEL_ENGINES)
def test_reductions_and_exponentials_stay_fp32(name: str, fp16_files: dict[str, Path]) -> None:
    types = value_types(fp16_files[name])
    kept = ("Softmax", "LayerNormalization", "BatchNormalization", "Sqrt", "Log", "Reciprocal")
    for one in onnx.load(fp16_files[name]).graph.node:
        if one.op_type in kept or one.op_type.startswith("Reduce"):
            assert types[one.input[0]] == types[one.output[0]] == FP32, one.name


def test_conversion_is_reproducible(
    fp16_files: dict[str, Path], exported: Exported, tmp_path: Path
) -> None:
    again = converted(onnx.load(exported.files["audio"]), tmp_path)
    assert again.read_bytes() == fp16_files["audio"].read_bytes()


@pytest.mark.parametrize("name", MODEL_ENGINES)
def test_the_paper_preset(name: str, paper: Exported, tmp_path: Path) -> None:
    single, random = paper.files[name], np.random.default_rng(0)
    fp16 = tmp_path / "fp16.onnx"
    shutil.copyfile(single, fp16)
    to_fp16(fp16)
    value_types(fp16)
    call = {
        key: random.integers(0, 256, value.shape).astype(np.uint8)
        if value.dtype == torch.uint8
        else random.normal(0, 1, value.shape).astype(np.float32)
        for key, value in model_graphs(small_paper())[name].inputs.items()
    }
    if name == "audio":
        call["scale"] = np.abs(call["scale"]) + 0.5
    assert list(macs_by_type(onnx.load(fp16), call)) == ["fp16"]
    before, after = (
        OnnxEngine(file, ["CPUExecutionProvider"], 1)(**call) for file in (single, emulated(fp16))
    )
    for output, value in before.items():
        assert cosine(after[output], value) > 0.9999, output
