"""ONNX files from strangers are looked at before ONNX Runtime loads them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mfer_edge.bundle import Bundle
from mfer_edge.engines import graph_file
from mfer_edge.engines.graph_file import check_graph
from mfer_edge.errors import EngineError
from tests.support.commands import python

FLOAT = TensorProto.FLOAT
PNET = Bundle.open().engine_path("pnet").read_bytes()


def graph_of(*nodes: onnx.NodeProto, weights: tuple = (), sparse: tuple = ()) -> onnx.GraphProto:
    x, y = (helper.make_tensor_value_info(name, FLOAT, [1]) for name in "xy")
    return helper.make_graph(
        list(nodes), "g", [x], [y], list(weights), sparse_initializer=list(sparse)
    )


def written(path: Path, graph: onnx.GraphProto, *domains: str, functions: tuple = ()) -> Path:
    opsets = [helper.make_opsetid(domain, 18 if not domain else 1) for domain in ("", *domains)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    path.write_bytes(model.SerializeToString())
    return path


def external(name: str = "w", location: str = "../../etc/passwd") -> TensorProto:
    tensor = TensorProto(name=name, data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def branch(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    y = helper.make_tensor_value_info("y", FLOAT, [1])
    return helper.make_graph(list(nodes), "branch", [], [y])


def chosen(*nodes: onnx.NodeProto) -> onnx.NodeProto:
    """An `If` with these nodes in both branches."""
    inner = branch(*nodes)
    return helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)


def loop() -> onnx.NodeProto:
    return helper.make_node("Loop", ["", "", "x"], ["y"], body=branch())


IDENTITY = helper.make_node("Identity", ["x"], ["y"])
ADD = helper.make_node("Add", ["x", "w"], ["y"])


def refusal(path: Path) -> str:
    with pytest.raises(EngineError) as caught:
        check_graph(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    return message


@pytest.mark.parametrize("name", sorted(Bundle.open().manifest.engines))
def test_the_engines_that_ship_are_loaded(name: str) -> None:
    check_graph(Bundle.open().engine_path(name))


def test_plain_graphs_and_if_are_allowed(tmp_path: Path) -> None:
    weights = (numpy_helper.from_array(np.ones(1, np.float32), "w"),)
    check_graph(written(tmp_path / "a.onnx", graph_of(ADD, weights=weights)))
    check_graph(written(tmp_path / "b.onnx", graph_of(chosen(chosen(IDENTITY)))))


@pytest.mark.parametrize("location", ["../../etc/passwd", "/etc/passwd", "weights.bin", ""])
def test_weights_in_another_file(tmp_path: Path, location: str) -> None:
    graph = graph_of(ADD, weights=(external("w", location),))
    assert "weights from another file" in refusal(written(tmp_path / "a.onnx", graph))


def test_weights_in_another_file_wherever_tensors_can_be(tmp_path: Path) -> None:
    constant = helper.make_node("Constant", [], ["y"], value=external())
    sparse = onnx.SparseTensorProto(values=external(), dims=[1])
    graphs = [
        graph_of(constant),
        graph_of(chosen(constant)),
        graph_of(ADD, sparse=(sparse,)),
        graph_of(helper.make_node("Constant", [], ["y"], sparse_value=sparse)),
    ]
    no_data = TensorProto(name="w", data_type=FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    graphs.append(graph_of(ADD, weights=(no_data,)))
    for graph in graphs:
        assert "weights from another file" in refusal(written(tmp_path / "a.onnx", graph))


@pytest.mark.parametrize("domain", ["com.example", "com.microsoft", "ai.onnx.ml", "\x1b[2J"])
def test_operators_of_others(tmp_path: Path, domain: str) -> None:
    node = helper.make_node("Anything", ["x"], ["y"], domain=domain)
    for graph in (graph_of(node), graph_of(chosen(node))):
        assert "operators of" in refusal(written(tmp_path / "a.onnx", graph, domain))


def test_operators_that_the_file_defines(tmp_path: Path) -> None:
    function = helper.make_function(
        "mine", "F", ["x"], ["y"], [IDENTITY], [helper.make_opsetid("", 18)]
    )
    path = written(tmp_path / "a.onnx", graph_of(IDENTITY), "mine", functions=(function,))
    assert "operators of its own" in refusal(path)


def test_loops(tmp_path: Path) -> None:
    scan = helper.make_node("Scan", ["x"], ["y"], body=branch(IDENTITY), num_scan_inputs=1)
    for node, name in ((loop(), "Loop"), (chosen(loop()), "Loop"), (scan, "Scan")):
        assert f"operator {name}" in refusal(written(tmp_path / "a.onnx", graph_of(node)))


def test_graphs_nested_too_deeply_and_too_many_nodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = IDENTITY
    for _ in range(12):
        y = helper.make_tensor_value_info("y", FLOAT, [1])
        inner = helper.make_graph([node], "branch", [], [y])
        node = helper.make_node("If", ["x"], ["y"], then_branch=inner)
    assert "nested too deeply" in refusal(written(tmp_path / "a.onnx", graph_of(node)))
    monkeypatch.setattr(graph_file, "MAX_NODES", 10)
    assert "more than 10 nodes" in refusal(written(tmp_path / "a.onnx", graph_of(*[IDENTITY] * 11)))


@pytest.mark.parametrize("data", [b"", b"\x00", b"ONNX", PNET[:100], b"\xff" * 100, b"\x08\x08"])
def test_what_is_no_onnx_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(data)
    assert "not an ONNX file, or damaged" in refusal(path)


@given(st.lists(st.tuples(st.integers(0, len(PNET) - 1), st.integers(0, 255)), max_size=4))
@settings(max_examples=100)
def test_any_bytes_are_read_to_the_end_or_refused(changes: list[tuple[int, int]]) -> None:
    data = bytearray(PNET)
    for at, value in changes:
        data[at] = value
    with suppress(ValueError):
        graph_file._problem_of_model(memoryview(bytes(data)))


MUTANTS = """
import random, sys
from pathlib import Path
from mfer_edge.engines.graph_file import check_graph
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.errors import EngineError
source, path, seed = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), int(sys.argv[3])
rng, loaded = random.Random(seed), 0
for _ in range(40):
    data = bytearray(source)
    for _ in range(rng.choice([1, 1, 4, 20])):
        data[rng.randrange(len(data) if rng.random() < 0.3 else 4000)] = rng.randrange(256)
    path.write_bytes(data[: rng.choice([len(data), len(data), rng.randrange(len(data))])])
    try:
        check_graph(path)
        OnnxEngine(path, ["CPUExecutionProvider"], threads=1)
        loaded += 1
    except EngineError as error:
        assert "\\n" not in str(error), str(error)
print(loaded)
"""


def test_mutants_load_or_are_refused(tmp_path: Path) -> None:
    """In a process of its own: ONNX Runtime must not crash on what passes."""
    result = python(MUTANTS, Bundle.open().engine_path("pnet"), tmp_path / "a.onnx", 1)
    assert result.returncode == 0, result.stderr[-500:]
    assert 0 < int(result.stdout) < 40
