"""ONNX Runtime on a real GPU gives what it gives on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mfer_edge.arms import Place
from mfer_edge.bundle import Bundle
from mfer_edge.engines.load import ACCELERATED
from mfer_edge.engines.onnx import OnnxEngine, providers_for
from mfer_edge.engines.tensorrt_target import this_gpu
from mfer_edge.errors import EngineError
from mfer_edge.pipeline import Pipeline
from mfer_edge.samples import CLIPS

SCORE_TOLERANCE = 0.01  # int8 activations are rounded differently where sums differ slightly
MIN_COSINE = 0.999


@pytest.fixture(scope="module", autouse=True)
def cuda() -> None:
    """Skip, with the reason, where CUDA can't be used."""
    try:
        providers_for("cuda")
        OnnxEngine(Bundle.open().engine_path("fusion"), providers_for("cuda"))
    except EngineError as error:
        pytest.skip(f"no CUDA: {error}")


def inputs(name: str) -> Iterator[dict[str, np.ndarray]]:
    """Inputs of an engine in several sizes."""
    random = np.random.default_rng(0)
    place = Place.training_set(Bundle.open().manifest.observed("audio"))
    for size in (1, 5, 20) if name == "face" else (6400, 32_000, 64_000):
        if name == "face":
            yield {"faces": random.integers(0, 256, (size, 1, 48, 48), np.uint8)}
        else:
            yield {
                "wave": random.normal(0, 0.1, (1, size)).astype(np.float32),
                **({"shift": place.shift, "scale": place.scale} if len(place.shift) else {}),
            }


@pytest.mark.parametrize("name", ACCELERATED)
def test_engines(name: str) -> None:
    path = Bundle.open().engine_path(name)
    gpu = OnnxEngine(path, providers_for("cuda"))
    cpu = OnnxEngine(path, providers_for("cpu"), threads=1)
    assert gpu.providers[0] == "CUDAExecutionProvider"
    for arrays in inputs(name):
        actual, expected = gpu(**arrays), cpu(**arrays)
        for output, array in expected.items():
            a, b = actual[output].ravel(), array.ravel()
            assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > MIN_COSINE, output


@pytest.mark.parametrize("clip", CLIPS, ids=lambda clip: clip.stem)
def test_scores(clip: Path) -> None:
    expected = Pipeline.open(device="cpu", threads=1).analyze(clip)
    actual = Pipeline.open(device="cuda").analyze(clip)
    assert actual.device == "cuda" and actual.providers[0] == "CUDAExecutionProvider"
    assert actual.overall is not None and expected.overall is not None
    assert actual.overall.label == expected.overall.label
    assert actual.overall.scores == pytest.approx(expected.overall.scores, abs=SCORE_TOLERANCE)


def test_the_gpu_has_a_name() -> None:
    try:
        gpu = this_gpu()
    except EngineError as error:
        pytest.skip(str(error))
    major, minor = gpu.compute_capability.split(".")
    assert gpu.name and int(major) >= 5 and int(minor) >= 0
