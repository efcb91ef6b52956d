"""The work that a graph does, by type: by hand, and against PyTorch's own count."""

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
from tests.export.conftest import Exported
from tests.export.small_graphs import (
    ROWS,
    WIDTH,
    WIDTH_IN,
    W,
    X,
    graph,
    product,
    small_paper,
    small_paper_network,
    written,
)
from train.models.emotion_model import EmotionModel

SIZE = ROWS * WIDTH_IN * WIDTH
node = helper.make_node


def test_a_product_of_matrices() -> None:
    assert macs_by_type(product(), {"x": X}) == {"fp32": SIZE}
    assert macs_by_type(product(), {"x": X[:1]}) == {"fp32": WIDTH_IN * WIDTH}


def test_a_product_of_stacks_of_matrices() -> None:
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    made = graph({"w": np.ones((7, 5), np.float32)}, nodes, dimensions=4, shape=(2, 3, 4, 7))
    assert macs_by_type(made, {"x": np.ones((2, 3, 4, 7), np.float32)}) == {
        "fp32": 2 * 3 * 4 * 5 * 7
    }


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_on_either_side(transposed: int) -> None:
    nodes = [node("Gemm", ["x", "w"], ["y"], transA=transposed)]
    rows = WIDTH_IN if transposed else ROWS
    made = graph({"w": np.ones((ROWS if transposed else WIDTH_IN, 5), np.float32)}, nodes)
    assert macs_by_type(made, {"x": X}) == {"fp32": rows * 5 * (ROWS * WIDTH_IN // rows)}


def test_a_convolution_in_groups() -> None:
    nodes = [node("Conv", ["x", "k"], ["y"], group=2, strides=[2, 1])]
    kernel = np.ones((8, 3, 3, 2), np.float32)
    made = graph({"k": kernel}, nodes, dimensions=4, shape=(5, 6, 9, 7))
    work = macs_by_type(made, {"x": np.ones((5, 6, 9, 7), np.float32)})
    assert work == {"fp32": 5 * 8 * (4 * 6) * (3 * 3 * 2)}


@pytest.mark.parametrize(("kind", "gates"), [("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize("directions", [1, 2])
def test_a_recurrent_layer(kind: str, gates: int, directions: int) -> None:
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


def test_half_precision_products() -> None:
    assert macs_by_type(product(W.astype(np.float16)), {"x": X.astype(np.float16)}) == {
        "fp16": SIZE
    }


def test_weights_kept_in_half_but_multiplied_in_single_are_single(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    store_fp16(path)
    assert macs_by_type(onnx.load(path), {"x": X}) == {"fp32": SIZE}


def test_weights_kept_in_single_but_multiplied_in_half_are_half() -> None:
    nodes = [
        node("Cast", ["w"], ["half"], to=TensorProto.FLOAT16),
        node("MatMul", ["x", "half"], ["y"]),
    ]
    made = graph({"w": W}, nodes, TensorProto.FLOAT16)
    assert macs_by_type(made, {"x": X.astype(np.float16)}) == {"fp16": SIZE}


def test_products_of_whole_numbers(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    quantize_dynamic(path)
    assert "MatMulInteger" in {n.op_type for n in onnx.load(path).graph.node}
    assert macs_by_type(onnx.load(path), {"x": X}) == {"int8": SIZE}


def scaled(both: bool, moved: bool) -> onnx.ModelProto:
    """x times a weight that is in 8 bits, and x too or not, and turned on the way or not."""
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
def test_products_of_scaled_whole_numbers(moved: bool) -> None:
    assert macs_by_type(scaled(True, moved), {"x": X}) == {"int8": SIZE}


def test_one_factor_alone_in_8_bits_is_multiplied_in_the_others_type() -> None:
    assert macs_by_type(scaled(False, False), {"x": X}) == {"fp32": SIZE}


def test_a_graph_that_mixes_types_is_counted_apart(tmp_path: Path) -> None:
    path = written(product(), tmp_path)
    to_fp16(path)
    model = onnx.load(path)
    model.graph.node.append(node("MatMul", ["y", "v"], ["z"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((WIDTH, 3), "f"), "v"))
    assert macs_by_type(model, {"x": X}) == {"fp16": SIZE, "fp32": ROWS * WIDTH * 3}


def test_a_graph_without_products_does_no_work() -> None:
    assert macs_by_type(graph({}, [node("Relu", ["x"], ["y"])]), {"x": X}) == {}


def test_counting_leaves_the_graph_alone() -> None:
    model = product()
    before = model.SerializeToString()
    macs_by_type(model, {"x": X})
    assert model.SerializeToString() == before


def counted(model: EmotionModel, name: str, call: dict[str, torch.Tensor]) -> int:
    """PyTorch's count; it takes a product and a sum for two."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model_graphs(model)[name].module.eval()(*call.values())
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("face", {"faces": torch.zeros(3, 1, 48, 48, dtype=torch.uint8)}),
        ("audio", {"wave": torch.rand(1, 20_000)}),
        ("fusion", {"visual": torch.zeros(1, 64), "audio": torch.zeros(1, 256)}),
    ],
)
def test_the_compact_networks_do_what_pytorch_counts(
    name: str, call: dict[str, torch.Tensor], model: EmotionModel, exported: Exported
) -> None:
    arrays = {key: value.numpy() for key, value in call.items()}
    work = macs_by_type(onnx.load(exported.files[name]), arrays)
    assert work == {"fp32": counted(model, name, call)}


def test_a_small_transformer_does_what_pytorch_counts() -> None:
    call = dict(model_graphs(small_paper())["face"].inputs)
    arrays = {key: value.numpy() for key, value in call.items()}
    work = macs_by_type(small_paper_network("face"), arrays)
    assert work == {"fp32": counted(small_paper(), "face", call)}
