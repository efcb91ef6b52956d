"""Every exported graph against the operators that TensorRT's ONNX parser lists."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.checkpoint import Source
from export.manifest import create_manifest
from export.options import GPU_PRECISIONS
from export.precision.convert import INT8_ENGINES, convert
from export.targets import tensorrt
from export.targets.tensorrt import CPU_OPERATORS
from export.targets.tensorrt_operators import CONDITIONS, TABLE, operator_table, unsupported
from mfer_edge.engines.load import ACCELERATED
from mfer_edge.errors import EngineError
from mfer_edge.manifest import ENGINES
from tests.export.conftest import Shipped


@dataclass(frozen=True)
class Graphs:
    """The exported engines of a model, in fp32."""

    source: Source
    files: Mapping[str, Path]

    def converted(self, precision: str, clip: Path, folder: Path) -> dict[str, onnx.ModelProto]:
        copies = {
            name: Path(shutil.copyfile(path, folder / path.name))
            for name, path in self.files.items()
        }
        convert(copies, self.source, precision=precision, clips=[clip])
        return {name: onnx.load(path) for name, path in copies.items()}


@pytest.fixture(scope="session")
def compact(shipped: Shipped) -> Graphs:
    return Graphs(shipped.source, shipped.files)


@pytest.fixture(params=["compact", "gru", "paper"])
def graphs(request: pytest.FixtureRequest) -> Graphs:
    """Both presets, and compact with a GRU for its image arm."""
    of = request.getfixturevalue
    if request.param == "paper":  # small, of the same operators as at full size
        return Graphs(of("paper_source"), of("paper").files)
    if request.param == "gru":
        return Graphs(of("source"), of("exported").files)
    found: Graphs = of("compact")
    return found


@pytest.mark.parametrize("precision", GPU_PRECISIONS)
def test_every_graph_is_supported(
    graphs: Graphs, precision: str, clip: Path, tmp_path: Path
) -> None:
    models = graphs.converted(precision, clip, tmp_path)
    assert models.keys() == set(ENGINES)
    assert {name: found for name, model in models.items() if (found := unsupported(model))} == {}


def test_int8_for_cpus_is_not(compact: Graphs, clip: Path, tmp_path: Path) -> None:
    """Which `--tensorrt` says as well."""
    models = compact.converted("int8", clip, tmp_path)
    found = [line for model in models.values() for line in unsupported(model)]
    assert {line.split()[0] for line in found} == {"DynamicQuantizeLinear", "MatMulInteger"}
    assert all(line.endswith("no such operator") for line in found)


@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
class TestTensorRtForRtx:
    """TensorRT for RTX parses and builds without a GPU: the code for TensorRT runs on it."""

    @pytest.fixture(autouse=True)
    def installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        trt = pytest.importorskip(
            "tensorrt_rtx_bindings", reason="TensorRT for RTX has wheels for x86-64 only"
        )
        monkeypatch.setattr(tensorrt, "import_tensorrt", lambda: trt)

    @pytest.mark.parametrize("precision", GPU_PRECISIONS)
    @pytest.mark.parametrize("graphs", ["compact", "paper"], indirect=True)
    def test_every_accelerated_graph_is_built(
        self, graphs: Graphs, precision: str, clip: Path, tmp_path: Path
    ) -> None:
        graphs.converted(precision, clip, tmp_path)
        manifest = create_manifest(graphs.source, graphs.files)
        for name in ACCELERATED:
            graph, plan = tmp_path / graphs.files[name].name, tmp_path / f"{name}.plan"
            profiles = tensorrt.profiles_for(name, manifest)
            tensorrt.build_plan(graph, plan, profiles, 64, tmp_path / "timing")
            assert plan.stat().st_size > 0.4 * graph.stat().st_size  # the weights are in it

    def test_int8_for_cpus_is_refused(self, compact: Graphs, clip: Path, tmp_path: Path) -> None:
        compact.converted("int8", clip, tmp_path)
        graph = tmp_path / compact.files["audio"].name
        with pytest.raises(EngineError, match=r"TensorRT can't read it: node .*Quantize"):
            tensorrt.build_plan(graph, tmp_path / "plan", (), 64, tmp_path / "timing")


class TestQuantization:
    """Explicit Q/DQ where TensorRT's guide to quantized types wants it."""

    @pytest.fixture
    def models(self, graphs: Graphs, clip: Path, tmp_path: Path) -> dict[str, onnx.ModelProto]:
        models = graphs.converted("int8-gpu", clip, tmp_path)
        return {name: models[name] for name in INT8_ENGINES}

    def test_weights_are_int8_with_a_scale_for_each_output(
        self, models: dict[str, onnx.ModelProto]
    ) -> None:
        for model in models.values():
            values = {value.name: numpy_helper.to_array(value) for value in model.graph.initializer}
            producers = {node.output[0]: node for node in model.graph.node}
            quantized = 0
            for node in model.graph.node:
                if node.op_type not in ("Conv", "MatMul", "Gemm"):
                    continue
                factors = [producers.get(name) for name in node.input[:2]]
                kinds = [factor.op_type if factor else "" for factor in factors]
                assert kinds.count("DequantizeLinear") in (0, 2), node.name  # both, or none
                if kinds.count("DequantizeLinear") == 0:
                    continue
                quantized += 1
                of_input, of_weight = factors
                assert of_input and of_weight
                weight, scale = (values[name] for name in of_weight.input[:2])
                transposed = node.op_type == "Gemm" and helper.get_node_attr_value(node, "transB")
                axis = 0 if node.op_type == "Conv" or transposed else 1
                assert weight.dtype == np.int8 and weight.min() >= -127  # symmetric
                assert helper.get_node_attr_value(of_weight, "axis") == axis
                assert scale.shape == (weight.shape[axis],) and (scale > 0).all()
                assert values[of_input.input[1]].shape == ()  # one scale for the tensor
                assert producers[of_input.input[0]].op_type == "QuantizeLinear"
            assert quantized > 0

    def test_only_factors_are_quantized(self, models: dict[str, onnx.ModelProto]) -> None:
        """No residual connection, bias or graph output loses precision."""
        for model in models.values():
            outputs = {output.name for output in model.graph.output}
            for node in model.graph.node:
                if node.op_type == "DequantizeLinear":
                    users = [n for n in model.graph.node if node.output[0] in n.input]
                    assert {user.op_type for user in users} <= {"Conv", "MatMul", "Gemm"}
                    assert all(node.output[0] in user.input[:2] for user in users)
                    assert not outputs & set(node.output)


class TestTheCheck:
    """The check finds what it is for."""

    def graph(
        self,
        *nodes: onnx.NodeProto,
        of: int = TensorProto.FLOAT,
        opset: int = 18,
        **constants: object,
    ) -> onnx.ModelProto:
        make = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "graph",
            [make("x", of, [2, 3, 4, 4]), make("n", TensorProto.INT64, [1])],
            [helper.make_empty_tensor_value_info("y")],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        return onnx.shape_inference.infer_shapes(model)

    def test_nothing(self) -> None:
        assert unsupported(self.graph(helper.make_node("Relu", ["x"], ["y"]))) == []

    @pytest.mark.parametrize(
        ("node", "said"),
        [
            (helper.make_node("Det", ["x"], ["y"]), "no such operator"),
            (helper.make_node("ReduceMean", ["x", "n"], ["y"]), "not: constant axes"),
            (helper.make_node("Unsqueeze", ["x", "n"], ["y"]), "not: constant axes"),
            (helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"]), "not: zero point 0"),
            (helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2]), "first output"),
            (
                helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[2, 1]),
                "no dilations",
            ),
            (helper.make_node("Cast", ["x"], ["y"], to=TensorProto.DOUBLE), "DOUBLE"),
            (helper.make_node("TopK", ["x", "n"], ["y", "i"], sorted=0), "not: sorted"),
            (helper.make_node("Resize", ["x", "", "s4"], ["y"]), "not checked"),
        ],
    )
    def test_a_fault(self, node: onnx.NodeProto, said: str) -> None:
        constants = {
            "s": np.array(1, np.float32),
            "z": np.array(3, np.int8),
            "s4": np.ones(4, np.float32),
        }
        used = {name: value for name, value in constants.items() if name in node.input}
        (line,) = unsupported(self.graph(node, **used))
        assert line.startswith(node.op_type) and said in line

    def test_a_type(self) -> None:
        node = helper.make_node("Sqrt", ["x"], ["y"])
        (line,) = unsupported(self.graph(node, of=TensorProto.DOUBLE))
        assert "DOUBLE is not among its types" in line

    @pytest.mark.parametrize("opset", [8, 7])
    def test_an_opset_that_is_too_old(self, opset: int) -> None:
        node = helper.make_node("Relu", ["x"], ["y"])
        assert unsupported(self.graph(node, opset=opset)) == [f"opset {opset}"]

    def test_an_operator_in_a_branch(self) -> None:
        def branch(node: onnx.NodeProto) -> onnx.GraphProto:
            output = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [2, 3])
            return helper.make_graph([node], node.op_type, [], [output])

        bad = branch(helper.make_node("Det", ["x"], ["d"]))
        good = branch(helper.make_node("ReduceSum", ["x", "ax"], ["e"], keepdims=0))
        node = helper.make_node("If", ["c"], ["y"], then_branch=bad, else_branch=good)
        found = unsupported(self.graph(node, c=np.bool_(True), ax=np.array([2, 3], np.int64)))
        assert [line.split()[0] for line in found] == ["Det"]


def test_the_table_names_its_source() -> None:
    assert "onnx-tensorrt" in TABLE.read_text()
    assert {"Conv", "MatMul", "GRU", "LayerNormalization"} <= operator_table().operators.keys()
    assert not set(CPU_OPERATORS) & operator_table().operators.keys()
    listed = {name for one in operator_table().operators.values() for name in one.conditions}
    assert CONDITIONS.keys() <= listed
