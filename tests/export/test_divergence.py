"""Bisection: whatever is broken in a network on purpose is found at the operator."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export import divergence as bisecting
from export.checkpoint import Source
from export.divergence import Divergence, bisect
from export.graphs import Graph, annotated, model_graphs, to_onnx
from export.onnx_io import save_onnx
from export.parity import Call, ParityError
from export.rewrites import gru
from mfer_edge.bundle import ENGINES, MODEL_ENGINES
from mfer_edge.engines.onnx import OnnxEngine
from tests.export.conftest import Built, Exported
from tests.export.test_parity import attempt, changed, flipped, followed, renamed
from tests.train.synthetic import small_presets
from train.models.emotion_model import EmotionModel
from train.presets import PRESETS

Damage = Callable[[onnx.ModelProto], None]


@pytest.fixture(autouse=True, scope="module")
def exported_once() -> Iterator[None]:
    """Don't export anew what is the same for each damage."""
    kept: dict[tuple[object, ...], onnx.ModelProto] = {}

    def once(graph: Graph) -> onnx.ModelProto:
        key = (graph.module.owner.preset.name, *graph.inputs)
        return kept.setdefault(key, kept.get(key) or annotated(graph))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bisecting, "annotated", once)
        yield


@pytest.fixture(scope="module")
def paper() -> EmotionModel:
    """The full-size model in small, with random weights."""
    with small_presets():
        torch.manual_seed(0)
        return EmotionModel(PRESETS["paper"]).eval()


@pytest.fixture(scope="module")
def paper_files(
    paper: EmotionModel, exported_once: None, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("paper")
    files = {}
    for name, graph in model_graphs(paper).items():
        files[name] = folder / f"{name}.onnx"
        stripped = onnx.ModelProto()
        stripped.CopyFrom(bisecting.annotated(graph))
        save_onnx(stripped, files[name])
    return files


def made_up(file: Path) -> Call:
    """Inputs of the shapes that a network takes; what varies is 3, or 0.4 s of sound."""
    random = np.random.default_rng(0)
    call = {}
    for tensor in OnnxEngine(file, ["CPUExecutionProvider"]).inputs:
        varying = 6400 if tensor.name == "wave" else 3
        shape = [size if isinstance(size, int) else varying for size in tensor.shape]
        whole = random.integers(0, 256, shape) if tensor.dtype == "uint8" else None
        call[tensor.name] = (random.normal(size=shape) if whole is None else whole).astype(
            tensor.dtype
        )
    return call


def searched(
    model: EmotionModel, name: str, original: Path, damage: Damage, call: Call, folder: Path
) -> Divergence | None:
    graph = onnx.load(original)
    damage(graph)
    suspect = folder / f"{name}.onnx"
    onnx.save(graph, suspect)
    return bisect(model, name, original, suspect, call, "fp32")


def negated(weight: str) -> Damage:
    """Flip the signs of a weight, by the end of its name."""

    def negate(model: onnx.ModelProto) -> None:
        (tensor,) = (w for w in model.graph.initializer if w.name.endswith(weight))
        changed(tensor, np.negative)

    return negate


def matrix_of(number: int) -> Damage:
    """Flip one sign in the weight of one of a graph's matrix products."""

    def flip(model: onnx.ModelProto) -> None:
        weights = {w.name: w for w in model.graph.initializer}
        products = [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights]

        def change(values: np.ndarray) -> np.ndarray:
            values.flat[np.abs(values).argmax()] *= -1
            return values

        changed(weights[products[number].input[1]], change)

    return flip


def detour(model: onnx.ModelProto, value: str, *nodes: onnx.NodeProto) -> None:
    """Let all that take a value take what operators make of it instead."""
    for node in model.graph.node:
        taken = [nodes[-1].output[0] if name == value else name for name in node.input]
        node.input[:] = taken
    (at,) = (n for n, node in enumerate(model.graph.node) if value in node.output)
    for node in reversed(nodes):
        model.graph.node.insert(at + 1, node)


@pytest.mark.parametrize(
    ("name", "damage", "kind", "module"),
    [
        ("face", negated("stem.2.0.weight.folded"), "Conv", "face.stem.2.1"),
        ("face", negated("blocks.4.second.0.weight.folded_bias"), "Conv", "face.blocks.4.second.1"),
        ("visual", negated("visual.gru.r0"), "GRU", "visual.gru"),
        ("visual", negated("visual.norm.weight"), "LayerNormalization", "visual.norm"),
        ("audio", negated("speech.conv2.weight"), "Conv", "speech.conv2"),
        ("audio", matrix_of(3), "MatMul", "speech.layers.0.self_attn.out_proj"),
        ("audio", negated("layers.1.fc1.bias"), "Add", "speech.layers.1.fc1"),
        ("audio", negated("audio.hidden.weight"), "Gemm", "audio.hidden"),
        ("fusion", negated("fusion.bias"), "Gemm", "fusion"),
    ],
)
def test_a_flipped_sign_is_found_at_its_operator(
    name: str,
    damage: Damage,
    kind: str,
    module: str,
    fp32: Built,
    model: EmotionModel,
    exported: Exported,
    tmp_path: Path,
) -> None:
    call = fp32.parity.calls[name]
    departure = searched(model, name, exported.files[name], damage, call, tmp_path)
    assert departure is not None
    assert (departure.engine, departure.first.kind, departure.first.module) == (name, kind, module)
    if departure.right is None:  # it takes the network's input
        assert onnx.load(exported.files[name]).graph.node[0].name == departure.first.node
    else:
        assert departure.right.distance.cosine > 0.99999
    assert departure.first.distance.relative > 1e-3


@pytest.mark.parametrize(
    ("name", "damage", "kind", "module"),
    [
        ("face", negated("projection.weight"), "Conv",
         "face.vit.embeddings.patch_embeddings.projection"),
        ("face", negated("layer.1.attention.output.dense.bias"), "Add",
         "face.vit.encoder.layer.1.attention.output.dense"),
        ("face", negated("layer.2.intermediate.dense.bias"), "Add",
         "face.vit.encoder.layer.2.intermediate.dense"),
        ("visual", negated("visual.gru.b1"), "GRU", "visual.gru"),
        ("audio", negated("AUDIO.slopes"), "Mul", "speech.d2v_model.modality_encoders.AUDIO"),
        ("audio", negated("AUDIO.relative_positional_encoder.4.0.weight"), "Conv",
         "speech.d2v_model.modality_encoders.AUDIO.relative_positional_encoder.4.0"),
        ("audio", negated("d2v_model.blocks.1.attn.qkv.bias"), "Add",
         "speech.d2v_model.blocks.1.attn.qkv"),
        ("audio", negated("audio.classifier.weight"), "Gemm", "audio.classifier"),
        ("fusion", negated("fusion.weight"), "Gemm", "fusion"),
    ],
)  # fmt: skip
def test_so_it_is_in_the_full_size_model(
    name: str,
    damage: Damage,
    kind: str,
    module: str,
    paper: EmotionModel,
    paper_files: dict[str, Path],
    tmp_path: Path,
) -> None:
    original = paper_files[name]
    departure = searched(paper, name, original, damage, made_up(original), tmp_path)
    assert departure is not None
    assert (departure.first.kind, departure.first.module) == (kind, module)


@pytest.mark.parametrize("name", ENGINES)
def test_what_is_right_departs_nowhere(
    name: str,
    fp32: Built,
    model: EmotionModel,
    exported: Exported,
    paper: EmotionModel,
    paper_files: dict[str, Path],
) -> None:
    file, call = exported.files[name], fp32.parity.calls[name]
    assert bisect(model, name, file, file, call, "fp32") is None
    if name in MODEL_ENGINES:
        file = paper_files[name]
        assert bisect(paper, name, file, file, made_up(file), "fp32") is None


def test_a_stand_in_that_is_wrong_is_found_though_all_files_agree(
    model: EmotionModel, fp32: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gates of a GRU in PyTorch's order: no file in single precision tells better."""
    monkeypatch.setattr(gru, "_reordered", lambda gates: gates.detach())
    file = tmp_path / "visual.onnx"
    to_onnx(model_graphs(model)["visual"], file)
    departure = bisect(model, "visual", file, file, fp32.parity.calls["visual"], "fp32")
    assert departure is not None and departure.right is not None
    assert (departure.first.kind, departure.first.module) == ("GRU", "visual.gru")
    assert departure.right.module in ("visual.norm", "visual.gru")


def test_an_overflow_in_half_precision_is_found_though_the_operator_is_new(
    model: EmotionModel, fp32: Built, exported: Exported, tmp_path: Path
) -> None:
    def overflow(graph: onnx.ModelProto) -> None:
        value = next(node.output[0] for node in graph.graph.node if node.op_type == "Softmax")
        large = numpy_helper.from_array(np.float32(1e30), "large")
        graph.graph.initializer.append(large)
        detour(
            graph,
            value,
            helper.make_node("Mul", [value, "large"], ["huge"]),
            helper.make_node("Cast", ["huge"], ["infinite"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", ["infinite"], ["single"], to=TensorProto.FLOAT),
        )

    call = fp32.parity.calls["audio"]
    departure = searched(model, "audio", exported.files["audio"], overflow, call, tmp_path)
    assert departure is not None and departure.right is not None
    assert (departure.first.kind, departure.first.value) == ("Cast", "infinite")
    assert departure.right.kind == "Softmax"


def test_a_rearranged_graph_is_not_to_blame(
    model: EmotionModel, fp32: Built, exported: Exported, tmp_path: Path
) -> None:
    """A value may be kept with its sign changed, if whoever takes it knows."""

    def rearrange(graph: onnx.ModelProto) -> None:
        value = next(node.output[0] for node in graph.graph.node if node.op_type == "Conv")
        followed(graph, value, "Neg")
        detour(graph, value, helper.make_node("Neg", [value], ["restored"]))

    def rearrange_and_break(graph: onnx.ModelProto) -> None:
        rearrange(graph)
        negated("blocks.5.first.0.weight.folded")(graph)

    file, call = exported.files["face"], fp32.parity.calls["face"]
    assert searched(model, "face", file, rearrange, call, tmp_path) is None
    departure = searched(model, "face", file, rearrange_and_break, call, tmp_path)
    assert departure is not None and departure.first.module == "face.blocks.5.first.1"


def test_values_of_other_names_are_judged_by_the_outputs(
    model: EmotionModel, fp32: Built, exported: Exported, tmp_path: Path
) -> None:
    def rename_all(graph: onnx.ModelProto) -> None:
        kept = {value.name for value in (*graph.graph.input, *graph.graph.output)}
        kept |= {weight.name for weight in graph.graph.initializer}
        for node in graph.graph.node:
            node.input[:] = [x if x in kept or not x else f"my {x}" for x in node.input]
            node.output[:] = [x if x in kept else f"my {x}" for x in node.output]
        negated("visual.gru.r0")(graph)

    file, call = exported.files["visual"], fp32.parity.calls["visual"]
    departure = searched(model, "visual", file, rename_all, call, tmp_path)
    assert departure is not None and departure.first.value == "embedding"
    assert departure.right is None
    assert searched(model, "visual", file, renamed("embedding"), call, tmp_path) is None


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_mtcnn_is_searched_too(
    name: str, model: EmotionModel, fp32: Built, exported: Exported, tmp_path: Path
) -> None:
    damage, call = negated("conv3.weight"), fp32.parity.calls[name]
    departure = searched(model, name, exported.files[name], damage, call, tmp_path)
    assert departure is not None
    assert departure.first.kind == "Conv" and "conv2d_2" in departure.first.value


def test_the_gate_tells_where_a_network_departs(
    source: Source, exported: Exported, clip: Path, tmp_path: Path
) -> None:
    with pytest.raises(ParityError) as raised:
        attempt({"face": flipped}, "fp32", source, exported, clip, tmp_path / "out", True)
    said = re.search(
        r"face departs first at Conv '\w+' \(face\.blocks\.4\.second\.1\): cosine -0\.\d+, "
        r"relative error [\d.]+, after \w+ '\w+' \(face\.blocks\.4[.\w]*\) was right "
        r"\(cosine 1\.0+\)",
        str(raised.value),
    )
    assert said, raised.value
