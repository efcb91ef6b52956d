"""A short clip, a bundle, its model in PyTorch, and its engine calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.gpu.cases import WindowInputs
from export.calibration import record_calls
from export.checkpoint import open_source
from mfer_edge.bundle import COMPACT, Bundle
from mfer_edge.manifest import MODEL_ENGINES
from mfer_edge.samples import ANGER
from mfer_edge.sources.clip import read_audio
from tests.support.footage import filmed, images_of
from train.models.emotion_model import EmotionModel


@pytest.fixture(scope="package")
def moment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second and a half of a real clip, with face and speech."""
    anger = ANGER
    path = tmp_path_factory.mktemp("moment") / "moment.mp4"
    return filmed(path, images_of(anger)[7:15], read_audio(anger)[22_400:48_000])


@pytest.fixture(scope="package")
def bundle() -> Bundle:
    return Bundle.open(COMPACT)


@pytest.fixture(scope="package")
def model() -> EmotionModel:
    return open_source().model


@pytest.fixture(scope="package")
def recorded(bundle: Bundle, moment: Path) -> dict[str, list[dict[str, np.ndarray]]]:
    return record_calls(bundle, [moment], MODEL_ENGINES)


@pytest.fixture(scope="package")
def inputs(bundle: Bundle, recorded: dict[str, list[dict[str, np.ndarray]]]) -> WindowInputs:
    return WindowInputs.of(recorded, bundle.manifest)


@pytest.fixture(autouse=True)
def few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer calls: no test depends on their number."""
    for module in ("compare", "pipeline"):
        monkeypatch.setattr(f"benchmarks.gpu.{module}.WARM_UP", 1)
    monkeypatch.setattr("benchmarks.gpu.compare.ROUNDS", 2)
    monkeypatch.setattr("benchmarks.gpu.compare.MIN_RUNS", 1)
    torch.set_num_threads(1)
