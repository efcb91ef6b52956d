"""Reference implementations that ours are compared with."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from benchmarks.harness import third_party
from mfer_edge.errors import MferError
from mfer_edge.faces.mtcnn import MtcnnOptions


def facenet() -> ModuleType:
    """Import facenet-pytorch; skip the test where it is not installed."""
    try:
        return third_party.facenet()
    except MferError as error:
        pytest.skip(f"facenet-pytorch, the oracle: {error}")


@functools.cache
def silero() -> ModuleType:
    """Import silero-vad; skip the test where it is not installed."""
    pytest.importorskip("torch", reason="silero-vad, the oracle, needs PyTorch")
    return pytest.importorskip("silero_vad", reason="silero-vad, the oracle, is not installed")


@functools.cache
def _silero_model() -> Any:
    return silero().load_silero_vad()


def silero_probability(samples: np.ndarray) -> list[float]:
    """Give silero-vad's own speech probability of each 512-sample chunk, by its PyTorch model."""
    model = _silero_model()
    torch = importlib.import_module("torch")
    model.reset_states()
    padded = np.pad(samples, (0, -len(samples) % 512))
    with torch.no_grad():
        chunks = torch.from_numpy(padded).split(512) if len(padded) else []
        return [model(chunk, 16_000).item() for chunk in chunks]


def silero_segments(samples: np.ndarray, **options: Any) -> list[tuple[int, int]]:
    """Find speech with silero-vad, from recording to segments of samples."""
    torch = importlib.import_module("torch")
    found = silero().get_speech_timestamps(torch.from_numpy(samples), _silero_model(), **options)
    return [(segment["start"], segment["end"]) for segment in found]


@functools.cache
def _detector(min_face: float, thresholds: tuple[float, float, float], factor: float) -> Any:
    return facenet().MTCNN(
        min_face_size=min_face, thresholds=list(thresholds), factor=factor, keep_all=True
    )


def facenet_boxes(
    image: np.ndarray, options: MtcnnOptions
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find faces with facenet-pytorch, the largest first.

    Args:
        image: (height, width, 3) uint8, BGR.

    Returns:
        boxes (n, 4), their probabilities (n,) and landmarks (n, 5, 2), in pixels.
    """
    min_face = options.smallest(*image.shape[:2])
    detector = _detector(min_face, options.thresholds, options.factor)
    boxes, probability, landmarks = detector.detect(image[..., ::-1], landmarks=True)
    if boxes is None:
        return np.zeros((0, 4)), np.zeros(0), np.zeros((0, 5, 2))
    return boxes.astype(float), probability.astype(float), landmarks.astype(float)
