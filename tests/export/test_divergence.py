"""Divergence: damage to an engine is found at its operator."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export import divergence
from export.checkpoint import Source
from export.divergence import Divergence, find_divergence
from export.graphs import Graph, model_graphs, to_onnx
from export.parity import Call, ParityError
from export.rewrites import gru
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.manifest import ENGINES, MODEL_ENGINES
from tests.export.conftest import Built
from tests.export.damage import (
    Damage,
    append_operator,
    change_weight,
    export_damaged,
    negate_largest_weight,
    rename_output,
)
from tests.export.exports import Exported, small_paper
from train.models.emotion_model import EmotionModel


@pytest.fixture(autouse=True, scope="module")
def traced_once(exported: Exported, paper: Exported) -> Iterator[None]:
    """Take the graphs that were traced for the export: they are the same for all tests."""
    known = {"compact": exported.traced, "paper": paper.traced}

    def once(graph: Graph) -> onnx.ModelProto:
        return known[graph.module.owner.preset.name][tuple(graph.inputs)]  # type: ignore[union-attr]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(divergence, "trace", once)
        yield


def random_call(file: Path) -> Call:
    """Random inputs of an engine; dynamic sizes are 3, or 0.4 s of audio."""
    random = np.random.default_rng(0)
    call = {}
    for tensor in OnnxEngine(file, ["CPUExecutionProvider"]).inputs:
        varying = 6400 if tensor.name == "wave" else 3
        shape = [size if isinstance(size, int) else varying for size in tensor.shape]
        whole = random.integers(0, 256, shape) if tensor.dtype == "uint8" else None
        if tensor.name == "scale":
            whole = random.uniform(0.5, 2, shape)
        call[tensor.name] = (random.normal(size=shape) if whole is None else whole).astype(
            tensor.dtype
        )
    return call


def damaged_divergence(
    model: EmotionModel, name: str, original: Path, damage: Damage, call: Call, folder: Path
) -> Divergence | None:
    graph = onnx.load(original)
    damage(graph)
    suspect = folder / f"{name}.onnx"
    onnx.save(graph, suspect)
    return find_divergence(model, name, original, suspect, call, precision="fp32")


def negate_weight(weight: str) -> Damage:
    """Negate the weight whose name ends like this."""

    def negate(model: onnx.ModelProto) -> None:
        (tensor,) = (w for w in model.graph.initializer if w.name.endswith(weight))
        change_weight(tensor, np.negative)

    return negate


def flip_sign_in_matrix(index: int) -> Damage:
    """Flip the sign of one element in the weight of a matrix product."""

    def flip(model: onnx.ModelProto) -> None:
        weights = {w.name: w for w in model.graph.initializer}
        products = [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights]

        def change(values: np.ndarray) -> np.ndarray:
            values.flat[np.abs(values).argmax()] *= -1
            return values

        change_weight(weights[products[index].input[1]], change)

    return flip


def insert_after(model: onnx.ModelProto, value: str, *nodes: onnx.NodeProto) -> None:
    """Insert operators between a value and all its consumers."""
    for node in model.graph.node:
        taken = [nodes[-1].output[0] if name == value else name for name in node.input]
        node.input[:] = taken
    (at,) = (n for n, node in enumerate(model.graph.node) if value in node.output)
    for node in reversed(nodes):
        model.graph.node.insert(at + 1, node)


@pytest.mark.parametrize(
    ("name", "damage", "kind", "module"),
    [
        ("face", negate_weight("stem.2.0.weight"), "Conv", "face.stem.2.1"),
        (
            "face",
            negate_weight("blocks.4.second.0.weight_bias"),
            "Conv",
            "face.blocks.4.second.1",
        ),
        ("visual", negate_weight("visual.gru.r0"), "GRU", "visual.gru"),
        ("visual", negate_weight("visual.norm.weight"), "LayerNormalization", "visual.norm"),
        ("audio", negate_weight("speech.conv2.weight"), "Conv", "speech.conv2"),
        ("audio", flip_sign_in_matrix(3), "MatMul", "speech.layers.0.self_attn.out_proj"),
        ("audio", negate_weight("layers.1.fc1.bias"), "Add", "speech.layers.1.fc1"),
        ("audio", negate_weight("audio.hidden.weight"), "Gemm", "audio.hidden"),
    ],
)
def test_damage_is_found_at_its_operator(
    name: str,
    damage: Damage,
    kind: str,
    module: str,
    fp32: Built,
    model: EmotionModel,
    exported: Exported,
    tmp_path: Path,
) -> None:
    call = fp32.parity.worst_calls[name]
    found = damaged_divergence(model, name, exported.files[name], damage, call, tmp_path)
    assert found is not None
    assert (found.engine, found.first.kind, found.first.module) == (name, kind, module)
    if found.last_correct is None:  # it takes the engine's input
        assert onnx.load(exported.files[name]).graph.node[0].name == found.first.node
    else:
        assert found.last_correct.distance.cosine > 0.99999
    assert found.first.distance.relative > 1e-3


@pytest.mark.parametrize(
    ("name", "damage", "kind", "module"),
    [
        ("face", negate_weight("projection.weight"), "Conv",
         "face.vit.embeddings.patch_embeddings.projection"),
        ("face", negate_weight("layer.1.attention.output.dense.bias"), "Add",
         "face.vit.encoder.layer.1.attention.output.dense"),
        ("face", negate_weight("layer.2.intermediate.dense.bias"), "Add",
         "face.vit.encoder.layer.2.intermediate.dense"),
        ("visual", negate_weight("visual.gru.b1"), "GRU", "visual.gru"),
        ("audio", negate_weight("AUDIO.slopes"), "Mul", "speech.d2v_model.modality_encoders.AUDIO"),
        ("audio", negate_weight("AUDIO.relative_positional_encoder.4.0.weight"), "Conv",
         "speech.d2v_model.modality_encoders.AUDIO.relative_positional_encoder.4.0"),
        ("audio", negate_weight("d2v_model.blocks.1.attn.qkv.bias"), "Add",
         "speech.d2v_model.blocks.1.attn.qkv"),
        ("audio", negate_weight("audio.classifier.weight"), "Gemm", "audio.classifier"),
        ("fusion", negate_weight("fusion.weight"), "Gemm", "fusion"),
    ],
)  # fmt: skip
def test_damage_is_found_in_the_papers_model(
    name: str, damage: Damage, kind: str, module: str, paper: Exported, tmp_path: Path
) -> None:
    original, model = paper.files[name], small_paper()
    found = damaged_divergence(model, name, original, damage, random_call(original), tmp_path)
    assert found is not None
    assert (found.first.kind, found.first.module) == (kind, module)


@pytest.mark.parametrize("name", ENGINES)
def test_correct_engines_do_not_diverge(
    name: str,
    fp32: Built,
    model: EmotionModel,
    exported: Exported,
    paper: Exported,
) -> None:
    file, call = exported.files[name], fp32.parity.worst_calls[name]
    assert find_divergence(model, name, file, file, call, precision="fp32") is None
    if name in MODEL_ENGINES:
        file, model = paper.files[name], small_paper()
        assert find_divergence(model, name, file, file, random_call(file), precision="fp32") is None


def test_a_wrong_rewrite_is_found_though_all_files_agree(
    model: EmotionModel, fp32: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GRU gates in PyTorch's order: the fp32 file is wrong too."""
    monkeypatch.setattr(gru, "_reordered", lambda gates: gates.detach())
    file = tmp_path / "visual.onnx"
    to_onnx(model_graphs(model)["visual"], file)
    found = find_divergence(
        model, "visual", file, file, fp32.parity.worst_calls["visual"], precision="fp32"
    )
    assert found is not None and found.last_correct is not None
    assert (found.first.kind, found.first.module) == ("GRU", "visual.gru")
    assert found.last_correct.module.startswith("visual")


def test_an_fp16_overflow_is_found_in_a_new_operator(
    model: EmotionModel, fp32: Built, exported: Exported, tmp_path: Path
) -> None:
    def overflow(graph: onnx.ModelProto) -> None:
        value = next(node.output[0] for node in graph.graph.node if node.op_type == "Softmax")
        large = numpy_helper.from_array(np.float32(1e30), "large")
        graph.graph.initializer.append(large)
        insert_after(
            graph,
            value,
            helper.make_node("Mul", [value, "large"], ["huge"]),
            helper.make_node("Cast", ["huge"], ["infinite"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["infinite"], ["single"], to=TensorProto.FLOAT),
        )

    call = fp32.parity.worst_calls["audio"]
    found = damaged_divergence(model, "audio", exported.files["audio"], overflow, call, tmp_path)
    assert found is not None and found.last_correct is not None
    assert (found.first.kind, found.first.value) == ("Cast", "infinite")
    assert found.last_correct.kind == "Softmax"


def test_a_rewritten_graph_does_not_diverge(
    model: EmotionModel, fp32: Built, exported: Exported, tmp_path: Path
) -> None:
    """A value may be negated if its consumers negate it again."""

    def rearrange(graph: onnx.ModelProto) -> None:
        value = next(node.output[0] for node in graph.graph.node if node.op_type == "Conv")
        append_operator(graph, value, "Neg")
        insert_after(graph, value, helper.make_node("Neg", [value], ["restored"]))

    def rearrange_and_break(graph: onnx.ModelProto) -> None:
        rearrange(graph)
        negate_weight("blocks.5.first.0.weight")(graph)

    file, call = exported.files["face"], fp32.parity.worst_calls["face"]
    assert damaged_divergence(model, "face", file, rearrange, call, tmp_path) is None
    found = damaged_divergence(model, "face", file, rearrange_and_break, call, tmp_path)
    assert found is not None and found.first.module == "face.blocks.5.first.1"


def test_values_with_other_names_are_judged_by_the_outputs(
    model: EmotionModel, fp32: Built, exported: Exported, tmp_path: Path
) -> None:
    def rename_all(graph: onnx.ModelProto) -> None:
        kept = {value.name for value in (*graph.graph.input, *graph.graph.output)}
        kept |= {weight.name for weight in graph.graph.initializer}
        for node in graph.graph.node:
            node.input[:] = [x if x in kept or not x else f"my {x}" for x in node.input]
            node.output[:] = [x if x in kept else f"my {x}" for x in node.output]
        negate_weight("visual.gru.r0")(graph)

    file, call = exported.files["visual"], fp32.parity.worst_calls["visual"]
    found = damaged_divergence(model, "visual", file, rename_all, call, tmp_path)
    assert found is not None and found.first.value == "embedding"
    assert found.last_correct is None
    assert (
        damaged_divergence(model, "visual", file, rename_output("embedding"), call, tmp_path)
        is None
    )


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_mtcnn(
    name: str, model: EmotionModel, fp32: Built, exported: Exported, tmp_path: Path
) -> None:
    damage, call = negate_weight("conv3.weight"), fp32.parity.worst_calls[name]
    found = damaged_divergence(model, name, exported.files[name], damage, call, tmp_path)
    nodes = onnx.load(exported.files[name]).graph.node
    (damaged,) = (node for node in nodes if "conv3.weight" in node.input)
    assert found is not None
    assert (found.first.kind, found.first.value) == ("Conv", damaged.output[0])


def test_the_parity_error_names_the_operator(
    source: Source, exported: Exported, clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParityError) as raised:
        export_damaged(
            {"face": negate_largest_weight}, "fp32", source, exported, clip, tmp_path / "out", True
        )
    said = re.search(
        r"face diverges first at Conv '\w+' \(face\.blocks\.4\.second\.1\): cosine -0\.\d+, "
        r"relative error [\d.]+, after \w+ '\w+' \(face\.blocks\.4[.\w]*\) was correct "
        r"\(cosine 1\.0+\)",
        str(raised.value),
    )
    assert said, raised.value
