"""Half precision, in the file and in the products."""

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
from export.precision.fp16 import HALF_FROM, emulate_fp16, store_fp16, to_fp16
from export.precision.graph import PrecisionError, parameters_of
from export.precision.macs import macs_by_type
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.sources.clip import read_sound
from tests.export.conftest import Exported
from tests.export.small_graphs import (
    ROWS,
    WIDTH,
    WIDTH_IN,
    W,
    X,
    cosine,
    graph,
    kinds,
    product,
    run,
    small_paper,
    small_paper_network,
    value_types,
    weight_types,
    written,
)
from tests.support.paths import ROOT
from tests.train.synthetic import face_image

HALF, SINGLE = TensorProto.FLOAT16, TensorProto.FLOAT
OWN = ("face", "visual", "audio", "fusion")
node = helper.make_node


def halved(model: onnx.ModelProto, folder: Path) -> Path:
    path = written(model, folder)
    to_fp16(path)
    return path


def imitated(path: Path) -> Path:
    out = path.with_name("imitated.onnx")
    emulate_fp16(path, out)
    return out


@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_half_representable_weights_lose_nothing(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    weight = np.random.default_rng(seed).normal(0, 1, W.shape).astype(np.float16)
    path = written(product(weight.astype(np.float32)), tmp_path_factory.mktemp("half"))
    before, size = run(path), path.stat().st_size
    store_fp16(path)
    np.testing.assert_array_equal(run(path), before)
    assert path.stat().st_size < 0.55 * size
    assert parameters_of(onnx.load(path)) == W.size


def test_other_weights_are_rounded_to_half_precision(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    store_fp16(path)
    np.testing.assert_allclose(run(path), X @ W.astype(np.float16).astype(np.float32), atol=1e-5)


def test_halving_twice_is_halving_once(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    store_fp16(path)
    once = path.read_bytes()
    store_fp16(path)
    assert path.read_bytes() == once


def test_small_weights_and_the_spectrogram_stay_exact(tmp_path: Path) -> None:
    weights = {
        "small": np.ones((HALF_FROM - 1, 1), np.float32),
        "log_mel.basis": np.ones((HALF_FROM, 1), np.float32),
        "log_mel.filters": np.ones((HALF_FROM, 1), np.float32),
        "large": np.ones((HALF_FROM, 1), np.float32),
        "indices": np.ones(2 * HALF_FROM, np.int64),
    }
    path = written(graph(weights, [node("Relu", ["x"], ["y"])]), tmp_path)
    store_fp16(path)
    types = weight_types(path)
    assert types.pop("large.half") == HALF
    assert types.pop("indices") == TensorProto.INT64
    assert types == dict.fromkeys(["small", "log_mel.basis", "log_mel.filters"], SINGLE)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", [store_fp16, to_fp16])
@pytest.mark.parametrize("value", [1e5, -1e5, np.inf, np.nan])
def test_a_weight_beyond_half_precision_is_refused_by_name(
    value: float, change: type, tmp_path: Path
) -> None:
    weight = W.copy()
    weight[3, 4] = value
    path = written(product(weight, "layer.weight"), tmp_path)
    before = path.read_bytes()
    with pytest.raises(PrecisionError, match=r"made\.onnx.*layer\.weight"):
        change(path)
    assert path.read_bytes() == before


def test_a_large_constant_where_nothing_is_halved_is_none_of_its_business(tmp_path: Path) -> None:
    nodes = [node("Mul", ["x", "large"], ["a"]), node("Mul", ["a", "small"], ["y"])]
    weights = {"large": np.float32(1e6), "small": np.float32(1e-9)}
    path = written(graph(weights, nodes), tmp_path)
    before = path.read_bytes()
    to_fp16(path)
    assert path.read_bytes() == before


def test_products_take_their_factors_in_half(tmp_path: Path) -> None:
    path = halved(product(), tmp_path)
    assert kinds(path) == ["Cast", "MatMul", "Cast"]
    assert weight_types(path) == {"w.half": HALF}
    types = value_types(path)
    assert (types["x"], types["y.half"], types["y"]) == (SINGLE, HALF, SINGLE)
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
    node("Transpose", ["again"], ["turned"], perm=[1, 0]),
    node("MatMul", ["again", "turned"], ["likeness"]),
    node("Softmax", ["likeness"], ["shares"]),
    node("MatMul", ["shares", "again"], ["seen"]),
    node("Add", ["seen", "spectrum"], ["joined"]),
    node("LayerNormalization", ["joined", "scale"], ["normal"]),
    node("Mul", ["normal", "gain"], ["y"]),
]
"""Something like an encoder of sound: a spectrogram, a layer, attention, a joint, a norm."""

MIXED_WEIGHTS = {
    "gain": np.float32(1.5),
    "last": np.array([-1]),
    "log_mel.basis": np.eye(WIDTH_IN, dtype=np.float32),
    "w": np.random.default_rng(1).normal(0, 0.1, (WIDTH_IN, WIDTH_IN)).astype(np.float32),
    "bias": np.linspace(-1, 1, WIDTH_IN, dtype=np.float32),
    "scale": np.ones(WIDTH_IN, np.float32),
}


def test_each_value_has_the_type_that_suits_it(tmp_path: Path) -> None:
    path = halved(graph(MIXED_WEIGHTS, MIXED), tmp_path)
    halves = {"linear", "biased", "active", "again", "turned", "likeness", "seen"}
    singles = {"x", "louder", "mean", "even", "spectrum", "shares", "joined", "normal", "y"}
    types = value_types(path)
    assert {name for name in halves | singles if types[name] == HALF} == halves
    assert weight_types(path) == {
        "last": TensorProto.INT64,
        **dict.fromkeys(["gain", "log_mel.basis", "scale"], SINGLE),
        **dict.fromkeys(["w.half", "bias.half", "gain.half"], HALF),
    }
    single = graph(MIXED_WEIGHTS, MIXED)
    assert cosine(run(imitated(path)), run(written(single, tmp_path))) > 0.99999


def test_the_spectrogram_stays_exact_turned_too(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", ["log_mel.filters"], ["turned"], perm=[1, 0]),
        node("MatMul", ["x", "turned"], ["mel"]),
        node("MatMul", ["mel", "w"], ["y"]),
    ]
    weights = {"log_mel.filters": np.eye(WIDTH_IN, dtype=np.float32), "w": W}
    types = value_types(halved(graph(weights, nodes), tmp_path))
    assert (types["turned"], types["mel"], types["y.half"]) == (SINGLE, SINGLE, HALF)


def test_every_value_is_cast_once(tmp_path: Path) -> None:
    path = halved(graph(MIXED_WEIGHTS, MIXED), tmp_path)
    casts = [n for n in onnx.load(path).graph.node if n.op_type == "Cast"]
    assert sorted(n.input[0] for n in casts) == ["likeness", "seen", "shares", "spectrum"]
    assert not {n.output[0] for n in casts} & {n.input[0] for n in casts}


def test_what_is_made_of_constants_alone_forces_no_type(tmp_path: Path) -> None:
    """Such as a class token, repeated for each picture of a batch."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Shape", ["a"], ["shape"]),
        node("Expand", ["token", "shape"], ["tokens"]),
        node("Concat", ["tokens", "a"], ["y"], axis=0),
    ]
    path = halved(graph({"w": W, "token": W[:1]}, nodes), tmp_path)
    assert value_types(path)["y.half"] == HALF
    assert kinds(path).count("Cast") == 3
    expected = np.concatenate([np.repeat(W[:1], ROWS, 0), X @ W])
    np.testing.assert_allclose(run(path), expected, atol=2e-3)


def test_the_imitation_is_half_precision_to_the_last_bit(tmp_path: Path) -> None:
    """By NumPy, which rounds after every operation."""
    nodes = [
        node("Gemm", ["x", "w", "b"], ["a"]),
        node("Mul", ["a", "a"], ["square"]),
        node("Sub", ["square", "a"], ["y"]),
    ]
    bias = np.linspace(-3, 3, WIDTH, dtype=np.float32)
    path = halved(graph({"w": W, "b": bias}, nodes), tmp_path)
    x, w, b = (array.astype(np.float16).astype(np.float64) for array in (X, W, bias))
    a = (x @ w + b).astype(np.float16)
    expected = (a * a - a).astype(np.float32)
    given = run(imitated(path))
    # Where a sum is half way between two halves, single precision may choose the other.
    assert (given == expected).mean() > 0.99
    np.testing.assert_allclose(given, expected, rtol=2e-3, atol=4e-3)
    assert cosine(run(path), expected) > 0.99999


@pytest.mark.parametrize(("gain", "expected"), [(100, False), (1000, True)])
def test_a_value_beyond_half_precision_is_not_hidden(
    gain: float, expected: bool, tmp_path: Path
) -> None:
    """Small enough again at the end, it is infinite or nothing on the way."""
    nodes = [
        node("MatMul", ["x", "w"], ["a"]),
        node("Mul", ["a", "gain"], ["large"]),
        node("Div", ["large", "gain"], ["small"]),
        node("Sub", ["small", "a"], ["y"]),
    ]
    weights = {"w": np.eye(WIDTH_IN, dtype=np.float32), "gain": np.float32(gain)}
    path = halved(graph(weights, nodes), tmp_path)
    assert np.isinf(run(imitated(path), 100 * np.sign(X))).all() == expected
    assert np.isfinite(run(imitated(path), 100 * np.sign(X))).all() != expected


@pytest.mark.parametrize("name", OWN)
def test_half_precision_again_changes_nothing(
    name: str, exported: Exported, tmp_path: Path
) -> None:
    path = written(onnx.load(exported.files[name]), tmp_path)
    to_fp16(path)
    once = path.read_bytes()
    to_fp16(path)
    assert path.read_bytes() == once


@pytest.fixture(scope="module")
def halves(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    paths = {}
    for name in OWN:
        model = onnx.load(exported.files[name])
        paths[name] = halved(model, tmp_path_factory.mktemp(name))
    return paths


@pytest.fixture(scope="module")
def calls(exported: Exported) -> dict[str, dict[str, np.ndarray]]:
    """Something real for each network."""
    random = np.random.default_rng(0)
    faces = np.stack([face_image(k % 7, random)[None] for k in range(7)])
    wave = read_sound(ROOT / "samples" / "anger.mp4")[None, 16_000:48_000]
    found = {"face": {"faces": faces}, "audio": {"wave": wave}}
    embedding = {
        name: OnnxEngine(exported.files[name], ["CPUExecutionProvider"], 1)(**call)["embedding"]
        for name, call in found.items()
    }
    found["visual"] = {"embeddings": embedding["face"][None]}
    visual = OnnxEngine(exported.files["visual"], ["CPUExecutionProvider"], 1)(**found["visual"])
    found["fusion"] = {"visual": visual["embedding"], "audio": embedding["audio"]}
    return found


@pytest.mark.parametrize("imitating", [False, True])
@pytest.mark.parametrize("name", OWN)
def test_the_networks_are_near_themselves(
    name: str,
    imitating: bool,
    halves: dict[str, Path],
    calls: dict[str, dict[str, np.ndarray]],
    exported: Exported,
) -> None:
    path = imitated(halves[name]) if imitating else halves[name]
    before, after = (
        OnnxEngine(file, ["CPUExecutionProvider"], 1) for file in (exported.files[name], path)
    )
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    for output, value in before(**calls[name]).items():
        assert cosine(after(**calls[name])[output], value) > 0.99999, output


@pytest.mark.parametrize("name", OWN)
def test_the_networks_multiply_in_half(
    name: str, halves: dict[str, Path], calls: dict[str, dict[str, np.ndarray]], exported: Exported
) -> None:
    work = macs_by_type(onnx.load(halves[name]), calls[name])
    share = work["fp16"] / sum(work.values())
    assert share == 1 if name != "audio" else 0.9 < share < 1  # all but the spectrogram
    assert halves[name].stat().st_size < 0.56 * exported.files[name].stat().st_size
    value_types(halves[name])


@pytest.mark.parametrize("name", OWN)
def test_the_networks_keep_the_names_of_their_values(
    name: str, halves: dict[str, Path], exported: Exported
) -> None:
    """But for the results of convolutions that took in a norm."""
    before, after = (onnx.load(file).graph for file in (exported.files[name], halves[name]))
    norms = {n.input[0] for n in before.node if n.op_type == "BatchNormalization"}
    convolved = {n.output[0] for n in before.node if n.op_type == "Conv"}
    names = {output for n in before.node for output in n.output} - (norms & convolved)
    assert names <= {output for n in after.node for output in n.output}


@pytest.mark.parametrize("name", OWN)
def test_sums_over_many_and_exponentials_stay_single(name: str, halves: dict[str, Path]) -> None:
    types = value_types(halves[name])
    kept = ("Softmax", "LayerNormalization", "BatchNormalization", "Sqrt", "Log", "Reciprocal")
    for one in onnx.load(halves[name]).graph.node:
        if one.op_type in kept or one.op_type.startswith("Reduce"):
            assert types[one.input[0]] == types[one.output[0]] == SINGLE, one.name


def test_the_same_graph_gives_the_same_file(
    halves: dict[str, Path], exported: Exported, tmp_path: Path
) -> None:
    again = halved(onnx.load(exported.files["audio"]), tmp_path)
    assert again.read_bytes() == halves["audio"].read_bytes()


@pytest.mark.parametrize("name", OWN)
def test_the_other_preset_is_halved_by_the_same_path(name: str, tmp_path: Path) -> None:
    single, random = written(small_paper_network(name), tmp_path), np.random.default_rng(0)
    half = tmp_path / "half.onnx"
    shutil.copyfile(single, half)
    to_fp16(half)
    value_types(half)
    call = {
        key: random.integers(0, 256, value.shape).astype(np.uint8)
        if value.dtype == torch.uint8
        else random.normal(0, 1, value.shape).astype(np.float32)
        for key, value in model_graphs(small_paper())[name].inputs.items()
    }
    assert list(macs_by_type(onnx.load(half), call)) == ["fp16"]
    before, after = (
        OnnxEngine(file, ["CPUExecutionProvider"], 1)(**call) for file in (single, imitated(half))
    )
    for output, value in before.items():
        assert cosine(after[output], value) > 0.9999, output
