"""Exported engines: against PyTorch, and as files."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from export.graphs import model_graphs, to_onnx
from export.torch_reference import reference_engines
from mfer_edge.engines.base import Engine
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.errors import BundleError, EngineError
from mfer_edge.manifest import MODEL_ENGINES
from mfer_edge.samples import ANGER
from mfer_edge.sources.clip import read_audio
from tests.export.exports import Exported, small_paper
from tests.export.small_graphs import OBSERVED, in_place
from tests.support.paths import ROOT, shared_data
from tests.train.synthetic import face_image, voice
from train.labels import SEVEN_EMOTIONS
from train.models.emotion_model import EmotionModel
from train.models.fer_resnet import FACE_EMBEDDING
from train.models.registry import MAX_STEPS
from train.presets import COMPACT

EXPORTED = (*MODEL_ENGINES, "pnet", "rnet", "onet")  # Silero VAD is published as ONNX
TOLERANCE = 1e-4
LENGTHS = [1_280, 6_400, 6_401, 6_559, 6_560, 6_721, 9_999, 33_333, 64_000, 159_999, 160_000]


@pytest.fixture(scope="module")
def engines(exported: Exported) -> dict[str, OnnxEngine]:
    return {
        name: OnnxEngine(exported.files[name], ["CPUExecutionProvider"], 1)
        for name in MODEL_ENGINES
    }


@pytest.fixture(scope="module")
def references(model: EmotionModel) -> dict[str, Engine]:
    return reference_engines(model)


@pytest.fixture(scope="module")
def graphs(exported: Exported) -> dict[str, onnx.ModelProto]:
    return {name: onnx.load(exported.files[name]) for name in EXPORTED}


def assert_same(one: Engine, other: Engine, **arrays: np.ndarray) -> Mapping[str, np.ndarray]:
    given, expected = one(**arrays), other(**arrays)
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        assert given[name].dtype == value.dtype == np.float32, name
        assert given[name].shape == value.shape, name
        np.testing.assert_allclose(given[name], value, atol=TOLERANCE, rtol=0, err_msg=name)
    return given


@pytest.mark.parametrize("n", [1, 2, 40])
def test_faces(n: int, engines: dict[str, OnnxEngine], references: dict[str, Engine]) -> None:
    random = np.random.default_rng(n)
    noise = random.integers(0, 256, (n, 1, 48, 48)).astype(np.uint8)
    drawn = np.stack([face_image(k % 7, random)[None] for k in range(n)])
    for faces in (noise, drawn, np.zeros_like(noise), np.full_like(noise, 255)):
        result = assert_same(engines["face"], references["face"], faces=faces)
        assert result["embedding"].shape == (n, FACE_EMBEDDING)


def test_real_faces(engines: dict[str, OnnxEngine], references: dict[str, Engine]) -> None:
    files = sorted(shared_data("FER2013", "valid").rglob("*.png"))[::40]
    faces = np.stack([cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)[None] for file in files])
    result = assert_same(engines["face"], references["face"], faces=faces)
    alone = np.concatenate([engines["face"](faces=face[None])["embedding"] for face in faces[:9]])
    np.testing.assert_allclose(alone, result["embedding"][:9], atol=1e-5)


def test_two_calls_give_both_views_of_a_face(
    engines: dict[str, OnnxEngine], model: EmotionModel
) -> None:
    """The engine sees crops as they are given; the runtime mirrors them."""
    random = np.random.default_rng(3)
    faces = np.stack([face_image(k, random)[None] for k in range(7)])
    views = [engines["face"](faces=view)["embedding"] for view in (faces, faces[..., ::-1].copy())]
    with torch.inference_mode():
        both = model.face(torch.from_numpy(faces)).numpy()
    np.testing.assert_allclose(sum(views) / 2, both, atol=TOLERANCE)
    assert np.abs(views[0] - views[1]).max() > 100 * TOLERANCE


def test_faces_are_uint8(engines: dict[str, OnnxEngine]) -> None:
    assert [tensor.dtype for tensor in engines["face"].inputs] == ["uint8"]
    with pytest.raises(EngineError):
        engines["face"](faces=np.zeros((1, 1, 48, 48), np.float32))


@pytest.fixture(scope="module")
def embeddings(engines: dict[str, OnnxEngine]) -> np.ndarray:
    """(1024, 192), from the face engine."""
    random = np.random.default_rng(0)
    faces = np.stack([face_image(k % 7, random)[None] for k in range(64)])
    few = engines["face"](faces=faces)["embedding"]
    return few[random.integers(0, 64, 1024)]


@pytest.mark.parametrize("frames", [1, 2, 3, 7, 8, 20, 21, 100, 1024])
def test_sequences_of_embeddings(
    frames: int,
    engines: dict[str, OnnxEngine],
    references: dict[str, Engine],
    embeddings: np.ndarray,
) -> None:
    sequence = {"embeddings": embeddings[None, :frames]}
    for own in (True, False):
        given = {**in_place(embeddings, own, FACE_EMBEDDING), **sequence}
        del given["wave"]
        result = assert_same(engines["visual"], references["visual"], **given)
    assert result["observations"].shape == (1, frames, FACE_EMBEDDING)  # of a GRU
    assert result["scores"].shape == (1, len(SEVEN_EMOTIONS))
    assert result["scores"].sum() == pytest.approx(1)
    assert result["embedding"].shape == (1, COMPACT.visual_width)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("origin", ["made", "real"])
def test_audio(
    origin: str,
    length: int,
    own: bool,
    engines: dict[str, OnnxEngine],
    references: dict[str, Engine],
) -> None:
    real = read_audio(ANGER)
    wave = np.resize(real if origin == "real" else voice(10.0), length)[None]
    result = assert_same(engines["audio"], references["audio"], **in_place(wave, own))
    assert result["observations"].shape == (1, 1, OBSERVED)
    assert result["scores"].shape == (1, len(SEVEN_EMOTIONS))
    assert result["scores"].sum() == pytest.approx(1)
    assert result["embedding"].shape == (1, COMPACT.audio_width)


def test_a_place_is_subtracted_and_divided_by(engines: dict[str, OnnxEngine]) -> None:
    """An observation that is the place's mean is as one of the training set's mean."""
    wave = voice(2.0)[None]
    found = engines["audio"](**in_place(wave))["observations"][0, 0]
    mean = engines["audio"](wave=wave, shift=found, scale=np.full(OBSERVED, 3, np.float32))
    other = engines["audio"](**{**in_place(wave, own=True), "shift": found})
    np.testing.assert_allclose(mean["embedding"], other["embedding"], atol=1e-5)
    np.testing.assert_array_equal(mean["observations"][0, 0], found)


@settings(max_examples=25)
@given(length=st.integers(6_400, MAX_STEPS * 320), level=st.floats(-4, 0))
def test_audio_of_any_length_and_level(
    length: int, level: float, engines: dict[str, OnnxEngine], references: dict[str, Engine]
) -> None:
    wave = (10**level * np.random.default_rng(length).normal(0, 1, (1, length))).astype(np.float32)
    assert_same(engines["audio"], references["audio"], **in_place(wave))


def test_silence(engines: dict[str, OnnxEngine], references: dict[str, Engine]) -> None:
    assert_same(
        engines["audio"], references["audio"], **in_place(np.zeros((1, 16_000), np.float32))
    )


def test_fusion(engines: dict[str, OnnxEngine], references: dict[str, Engine]) -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        visual = random.uniform(-1, 1, (1, COMPACT.visual_width)).astype(np.float32)
        audio = random.uniform(-1, 1, (1, COMPACT.audio_width)).astype(np.float32)
        result = assert_same(engines["fusion"], references["fusion"], visual=visual, audio=audio)
        assert result["scores"].sum() == pytest.approx(1)


def test_gru_layers_are_one_operator_each(graphs: dict[str, onnx.ModelProto]) -> None:
    assert [node.op_type for node in graphs["visual"].graph.node].count("GRU") == 2


def test_batch_norms_are_folded_into_convolutions(graphs: dict[str, onnx.ModelProto]) -> None:
    operators = [node.op_type for node in graphs["face"].graph.node]
    assert "Conv" in operators and "BatchNormalization" not in operators


@pytest.mark.parametrize("name", EXPORTED)
def test_no_control_flow(name: str, graphs: dict[str, onnx.ModelProto]) -> None:
    used = {node.op_type for node in graphs[name].graph.node}
    assert used
    assert not used & {"If", "Loop", "Scan", "SequenceMap"}


@pytest.mark.parametrize("name", EXPORTED)
def test_standard_operators_only(name: str, graphs: dict[str, onnx.ModelProto]) -> None:
    assert {node.domain for node in graphs[name].graph.node} <= {"", "ai.onnx"}
    assert not graphs[name].functions


@pytest.mark.parametrize("name", EXPORTED)
def test_no_paths_of_this_machine_in_the_file(
    name: str, exported: Exported, graphs: dict[str, onnx.ModelProto]
) -> None:
    model = graphs[name]
    parts = [model, model.graph, *model.graph.node, *model.graph.initializer]
    parts += [*model.graph.input, *model.graph.output]
    assert not any(part.doc_string for part in parts)
    assert not any(part.metadata_props for part in parts if hasattr(part, "metadata_props"))
    texts = onnx.load(exported.files[name])
    for weight in texts.graph.initializer:
        weight.ClearField("raw_data")  # whose bytes may spell anything
    content = texts.SerializeToString()
    for trace in (str(ROOT), str(Path.home()), "site-packages", ".py", 'File "', "/tmp"):
        assert trace.encode() not in content, trace


def test_dynamic_dimensions_have_names(engines: dict[str, OnnxEngine]) -> None:
    shapes = {
        f"{name}.{tensor.name}": tensor.shape
        for name, engine in engines.items()
        for tensor in (*engine.inputs, *engine.outputs)
    }
    assert shapes == {
        "face.faces": ("faces", 1, 48, 48),
        "face.embedding": ("faces", FACE_EMBEDDING),
        "visual.embeddings": (1, "frames", FACE_EMBEDDING),
        "visual.shift": (FACE_EMBEDDING,),
        "visual.scale": (FACE_EMBEDDING,),
        "visual.observations": (1, "frames", FACE_EMBEDDING),  # of a GRU
        "visual.scores": (1, 7),
        "visual.embedding": (1, COMPACT.visual_width),
        "audio.wave": (1, "samples"),
        "audio.shift": (OBSERVED,),
        "audio.scale": (OBSERVED,),
        "audio.scores": (1, 7),
        "audio.embedding": (1, COMPACT.audio_width),
        "audio.observations": (1, 1, OBSERVED),
        "fusion.visual": (1, COMPACT.visual_width),
        "fusion.audio": (1, COMPACT.audio_width),
        "fusion.scores": (1, 7),
    }


def test_each_graph_has_only_its_own_weights(graphs: dict[str, onnx.ModelProto]) -> None:
    """All are exported from one module."""
    bytes_of = {name: graph.ByteSize() for name, graph in graphs.items()}
    assert bytes_of["fusion"] < 20_000
    assert bytes_of["visual"] < 500_000
    assert bytes_of["face"] < 12_000_000 < bytes_of["audio"]


@pytest.mark.parametrize("name", MODEL_ENGINES)
def test_the_export_is_reproducible_and_of_a_model_in_evaluation_mode(
    name: str, model: EmotionModel, exported: Exported, tmp_path: Path
) -> None:
    """Dropout and fp16 are for training only."""
    training = copy.deepcopy(model).train()
    to_onnx(model_graphs(training)[name], tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == exported.files[name].read_bytes()


@pytest.mark.parametrize("name", EXPORTED)
def test_no_random_operators(name: str, graphs: dict[str, onnx.ModelProto]) -> None:
    used = {node.op_type for node in graphs[name].graph.node}
    assert not {kind for kind in used if kind.startswith(("Dropout", "Random", "Bernoulli"))}


@pytest.mark.parametrize("name", MODEL_ENGINES)
def test_the_paper_preset(name: str, paper: Exported) -> None:
    """With small backbones of the same classes."""
    model = small_paper()
    size, width = int(model.face.size), int(model.face.width)  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    preset = model.preset
    shapes: dict[str, list[dict[str, tuple[int, ...]]]] = {
        "face": [{"faces": (n, 1, size, size)} for n in (1, 5)],
        "visual": [{"embeddings": (1, n, width)} for n in (1, 20)],
        "audio": [{"wave": (1, n)} for n in (1_280, 16_123, 64_000)],
        "fusion": [{"visual": (1, preset.visual_width), "audio": (1, preset.audio_width)}],
    }
    engine = OnnxEngine(paper.files[name], ["CPUExecutionProvider"], 1)
    for sizes in shapes[name]:
        arrays = {key: random.normal(0, 1, shape).astype("f") for key, shape in sizes.items()}
        if name == "face":
            arrays = {"faces": random.integers(0, 256, sizes["faces"]).astype(np.uint8)}
        if name == "audio":
            arrays = in_place(arrays["wave"], own=True, width=model.audio.observed)
        if name == "visual":
            arrays |= in_place(random.random(1), own=True, width=model.visual.observed)
            del arrays["wave"]
        assert_same(engine, reference_engines(model)[name], **arrays)


def test_every_parameter_of_the_paper_preset_is_exported(paper: Exported) -> None:
    """Except unused classifiers and two of three equal input channels."""
    model = small_paper()
    face, speech = model.face, model.speech
    wanted = {
        "face": count(face) - count(face.classifier) - 2 * face.width * face.config.patch**2,
        "visual": count(model.visual) + 2 * model.visual.observed,  # mean and deviation
        "audio": count(speech) - count(speech.proj) + count(model.audio) + 2 * model.audio.observed,
        "fusion": count(model.fusion),
    }
    for name in wanted:
        weights = paper.graph(name).graph.initializer
        floats = [w for w in weights if w.data_type == onnx.TensorProto.FLOAT]
        arrays = [onnx.numpy_helper.to_array(w) for w in floats if "slopes" not in w.name]
        # Without constants: ALiBi's slopes, an epsilon, the ones of a norm without scale.
        assert sum(a.size for a in arrays if np.ptp(a) > 0) == wanted[name], name


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_weights_too_large_for_a_file(
    model: EmotionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fusion, visual = (model_graphs(model)[name] for name in ("fusion", "visual"))
    monkeypatch.setattr("export.graphs.MAX_GRAPH_BYTES", 20_000)
    to_onnx(fusion, tmp_path / "fusion.onnx")
    with pytest.raises(BundleError, match=r"scores, embedding, observations has weights of .* GB"):
        to_onnx(visual, tmp_path / "visual.onnx")
    assert not (tmp_path / "visual.onnx").exists()


def test_the_model_is_not_changed(model: EmotionModel, exported: Exported) -> None:
    """Its GRUs are still PyTorch's."""
    assert type(model.visual.gru).__name__ == "GRU"
    assert not model.training


def test_the_export_prints_nothing(exported: Exported) -> None:
    assert exported.output == ""
