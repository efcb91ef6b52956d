"""MACs by type: computed by hand, and against PyTorch's FLOP counter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch.utils.flop_counter import FlopCounterMode

from export.graphs import model_graphs
from export.precision.fp16 import store_fp16, to_fp16
from export.precision.int8 import quantize_dynamic
from export.precision.macs import macs_by_type
from tests.export.exports import Exported, small_paper
from tests.export.small_graphs import (
    OBSERVED,
    ROWS,
    WIDTH,
    WIDTH_IN,
    W,
    X,
    graph,
    product,
    written,
)
from train.models.emotion_model import EmotionModel

SIZE = ROWS * WIDTH_IN * WIDTH
node = helper.make_node


def test_matrix_product() -> None:
    assert macs_by_type(product(), {"x": X}) == {"fp32": SIZE}
    assert macs_by_type(product(), {"x": X[:1]}) == {"fp32": WIDTH_IN * WIDTH}


def test_batched_matrix_product() -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    made = graph({"w": np.ones((7, 5), np.float32)}, nodes, dimensions=4, shape=(2, 3, 4, 7))
    assert macs_by_type(made, {"x": np.ones((2, 3, 4, 7), np.float32)}) == {
        "fp32": 2 * 3 * 4 * 5 * 7
    }


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(transposed: int) -> None:
    nodes = [node("Gemm", ["x", "w"], ["y"], transA=transposed)]
    rows = WIDTH_IN if transposed else ROWS
    made = graph({"w": np.ones((ROWS if transposed else WIDTH_IN, 5), np.float32)}, nodes)
    assert macs_by_type(made, {"x": X}) == {"fp32": rows * 5 * (ROWS * WIDTH_IN // rows)}


def test_grouped_convolution() -> None:
    nodes = [node("Conv", ["x", "k"], ["y"], group=2, strides=[2, 1])]
    kernel = np.ones((8, 3, 3, 2), np.float32)
    made = graph({"k": kernel}, nodes, dimensions=4, shape=(5, 6, 9, 7))
    work = macs_by_type(made, {"x": np.ones((5, 6, 9, 7), np.float32)})
    assert work == {"fp32": 5 * 8 * (4 * 6) * (3 * 3 * 2)}


@pytest.mark.parametrize(("kind", "gates"), [("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("directions", [1, 2])
def test_recurrent_layer(kind: str, gates: int, directions: int) -> None:
    width = 10
    weights = {
        "w": np.ones((directions, gates * width, WIDTH_IN), np.float32),
        "r": np.ones((directions, gates * width, width), np.float32),
    }
    way = "bidirectional" if directions == 2 else "forward"
    nodes = [node(kind, ["x", "w", "r"], ["y"], hidden_size=width, direction=way)]
    made = graph(weights, nodes, dimensions=4, shape=("steps", 2, WIDTH_IN))
    work = macs_by_type(made, {"x": np.ones((4, 2, WIDTH_IN), np.float32)})
    assert work == {"fp32": 4 * 2 * directions * gates * width * (WIDTH_IN + width)}


def test_fp16_product() -> None:
    assert macs_by_type(product(W.astype(np.float16)), {"x": X.astype(np.float16)}) == {
        "fp16": SIZE
    }


def test_fp16_weights_cast_to_fp32_count_as_fp32(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    store_fp16(path)
    assert macs_by_type(onnx.load(path), {"x": X}) == {"fp32": SIZE}


def test_fp32_weights_cast_to_fp16_count_as_fp16() -> None:
    nodes = [
        node("Cast", ["w"], ["half"], to=TensorProto.FLOAT16),
        node("MatMul", ["x", "half"], ["y"]),
    ]
    made = graph({"w": W}, nodes, TensorProto.FLOAT16)
    assert macs_by_type(made, {"x": X.astype(np.float16)}) == {"fp16": SIZE}


def test_integer_products(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    quantize_dynamic(path)
    assert "MatMulInteger" in {n.op_type for n in onnx.load(path).graph.node}
    assert macs_by_type(onnx.load(path), {"x": X}) == {"int8": SIZE}


def scaled(both: bool, moved: bool) -> onnx.ModelProto:
    """Product with an int8 weight; x may be int8 too, and factors may be transposed on the way."""
    nodes = [node("DequantizeLinear", ["w", "step"], ["scaled"], axis=1)]
    factors = ["x", "scaled"]
    if both:
        nodes += [
            node("QuantizeLinear", ["x", "one", "zero"], ["small"]),
            node("DequantizeLinear", ["small", "one", "zero"], ["back"]),
        ]
        factors[0] = "back"
    if moved:
        nodes += [
            node("Transpose", [factors[1]], ["turned"], perm=[1, 0]),
            node("Transpose", ["turned"], ["turned back"], perm=[1, 0]),
        ]
        factors[1] = "turned back"
    nodes.append(node("MatMul", factors, ["y"]))
    weights = {
        "w": np.ones((WIDTH_IN, WIDTH), np.int8),
        "step": np.ones(WIDTH, np.float32),
        "one": np.float32(1),
        "zero": np.int8(0),
    }
    return graph(weights, nodes)


@pytest.mark.parametrize("moved", [False, True])
def test_dequantized_factors_count_as_int8(moved: bool) -> None:
    assert macs_by_type(scaled(True, moved), {"x": X}) == {"int8": SIZE}


def test_one_int8_factor_counts_as_the_type_of_the_other() -> None:
    assert macs_by_type(scaled(False, False), {"x": X}) == {"fp32": SIZE}


def test_mixed_types(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    to_fp16(path)
    model = onnx.load(path)
    model.graph.node.append(node("MatMul", ["y", "v"], ["z"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((WIDTH, 3), "f"), "v"))
    assert macs_by_type(model, {"x": X}) == {"fp16": SIZE, "fp32": ROWS * WIDTH * 3}


def test_graph_without_products() -> None:
    assert macs_by_type(graph({}, [node("Relu", ["x"], ["y"])]), {"x": X}) == {}


def test_the_graph_is_not_changed() -> None:
    model = product()
    before = model.SerializeToString()
    macs_by_type(model, {"x": X})
    assert model.SerializeToString() == before


def counted(model: EmotionModel, name: str, call: dict[str, torch.Tensor]) -> int:
    """PyTorch's count of FLOPs, two per MAC."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model_graphs(model)[name].module.eval()(*call.values())
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("face", {"faces": torch.zeros(3, 1, 48, 48, dtype=torch.uint8)}),
        (
            "audio",
            {
                "wave": torch.rand(1, 20_000),
                "shift": torch.zeros(OBSERVED),
                "scale": torch.ones(OBSERVED),
            },
        ),
        ("fusion", {"visual": torch.zeros(1, 64), "audio": torch.zeros(1, 384)}),
    ],
)
def test_compact_engines_against_pytorch(
    name: str, call: dict[str, torch.Tensor], model: EmotionModel, exported: Exported
) -> None:
    arrays = {key: value.numpy() for key, value in call.items()}
    work = macs_by_type(onnx.load(exported.files[name]), arrays)
    assert work == {"fp32": counted(model, name, call)}


def test_a_transformer_against_pytorch(paper: Exported) -> None:
    call = dict(model_graphs(small_paper())["face"].inputs)
    arrays = {key: value.numpy() for key, value in call.items()}
    work = macs_by_type(paper.graph("face"), arrays)
    assert work == {"fp32": counted(small_paper(), "face", call)}
