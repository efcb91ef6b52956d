"""The image arm and the fusion of the preset `compact` as ONNX graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from export.graphs import model_graphs, to_onnx
from mfer_edge.engines.onnx import OnnxEngine
from train.models.emotion_model import EmotionModel
from train.models.fusion import FittedFusion, OpinionPool
from train.presets import COMPACT

LABELS = len(COMPACT.labels)


@pytest.fixture(scope="module")
def model() -> EmotionModel:
    torch.manual_seed(0)
    made, pool = EmotionModel(COMPACT).eval(), OpinionPool(LABELS)
    pool.discount.copy_(torch.tensor([0.3, 0.45]))
    pool.bias.copy_(torch.randn(2, LABELS))
    made.set_fusion(FittedFusion(0.8, 1.7, pool))
    return made


@pytest.fixture(scope="module")
def engines(model: EmotionModel, tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnnxEngine]:
    folder, graphs = tmp_path_factory.mktemp("engines"), model_graphs(model)
    found = {}
    for name in ("visual", "fusion"):
        to_onnx(graphs[name], folder / f"{name}.onnx")
        found[name] = OnnxEngine(folder / f"{name}.onnx", ["CPUExecutionProvider"], 1)
    return found


@pytest.mark.parametrize("frames", [1, 7, 40])
def test_the_image_arm(frames: int, model: EmotionModel, engines: dict[str, OnnxEngine]) -> None:
    width = model.visual.observed
    embeddings = torch.randn(1, frames, width)
    for shift, scale in (
        (torch.zeros(width), torch.ones(width)),
        (torch.randn(width), torch.rand(width) + 0.5),
    ):
        with torch.inference_mode():
            scores, state, seen = model.networks()["visual"](embeddings, shift, scale)
        place = {"shift": shift.numpy(), "scale": scale.numpy()}
        result = engines["visual"](embeddings=embeddings.numpy(), **place)
        np.testing.assert_allclose(result["scores"], scores, atol=1e-5)
        np.testing.assert_allclose(result["embedding"], state, atol=1e-4)
        np.testing.assert_allclose(result["observations"], seen, atol=1e-4)


def test_the_pool_of_opinions(model: EmotionModel, engines: dict[str, OnnxEngine]) -> None:
    for seed in range(20):
        random = torch.Generator().manual_seed(seed)
        visual = 3 * torch.randn(1, COMPACT.visual_width, generator=random)
        audio = torch.randn(1, COMPACT.audio_width, generator=random)
        with torch.inference_mode():
            (scores,) = model.networks()["fusion"](visual, audio)
        result = engines["fusion"](visual=visual.numpy(), audio=audio.numpy())["scores"]
        assert result.shape == (1, LABELS) and result.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(result, scores, atol=1e-5)


def test_an_arm_without_an_opinion_changes_nothing(model: EmotionModel, tmp_path: Path) -> None:
    with torch.no_grad():
        model.visual.classifier.weight.zero_()
        model.visual.classifier.bias.fill_(0.3)
        model.fusion.bias.zero_()  # type: ignore[union-attr, operator]
    to_onnx(model_graphs(model)["fusion"], tmp_path / "fusion.onnx")
    engine = OnnxEngine(tmp_path / "fusion.onnx", ["CPUExecutionProvider"], 1)
    audio = torch.randn(1, COMPACT.audio_width)
    result = engine(visual=np.ones((1, COMPACT.visual_width), np.float32), audio=audio.numpy())
    with torch.inference_mode():
        alone = model.audio_scores(audio)
    np.testing.assert_allclose(result["scores"], alone, atol=1e-5)
