"""Other people's implementations, for ours to agree with."""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mfer_edge.mtcnn import MtcnnOptions


@functools.cache
def facenet() -> ModuleType:
    """Import facenet-pytorch without torchvision; skip the test where it is not installed.

    It takes two functions from torchvision, which has no build for this PyTorch here, and its face
    recogniser wants a download library. Stand-ins are in `sys.modules` for the import only.
    """
    pytest.importorskip("torch", reason="facenet-pytorch, the oracle, needs PyTorch")
    names: dict[str, dict[str, Any]] = {
        "torchvision": {},
        "torchvision.transforms": {"functional": None},  # would bring face crops to tensors
        "torchvision.ops": {},
        "torchvision.ops.boxes": {"batched_nms": _batched_nms},
        "facenet_pytorch.models.inception_resnet_v1": {"InceptionResnetV1": None},
    }
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    for name, contents in names.items():
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(contents)
    try:
        package = importlib.import_module("facenet_pytorch")
    except ImportError as error:
        pytest.skip(f"facenet-pytorch, the oracle, can't be imported: {error}")
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)
    # Of boxes whose probability is equal, and it often is exactly 1, facenet-pytorch takes the one
    # that NumPy's unstable sort puts last, which differs between processors. Here: the first.
    last_is_best: dict[str, Any] = {"argsort": lambda s: np.argsort(-s, kind="stable")[::-1]}
    inner: Any = importlib.import_module("facenet_pytorch.models.utils.detect_face")
    inner.np = SimpleNamespace(**(vars(np) | last_is_best))
    return package


@functools.cache
def silero() -> ModuleType:
    """Import silero-vad; skip the test where it is not installed."""
    pytest.importorskip("torch", reason="silero-vad, the oracle, needs PyTorch")
    return pytest.importorskip("silero_vad", reason="silero-vad, the oracle, is not installed")


@functools.cache
def _silero_network() -> Any:
    return silero().load_silero_vad()


def silero_probability(samples: np.ndarray) -> list[float]:
    """Give silero-vad's own speech probability of each 512-sample chunk, by its PyTorch model."""
    network = _silero_network()
    torch = importlib.import_module("torch")
    network.reset_states()
    padded = np.pad(samples, (0, -len(samples) % 512))
    with torch.no_grad():
        chunks = torch.from_numpy(padded).split(512) if len(padded) else []
        return [network(chunk, 16_000).item() for chunk in chunks]


def silero_segments(samples: np.ndarray, **options: Any) -> list[tuple[int, int]]:
    """Find speech with silero-vad, from recording to segments of samples."""
    torch = importlib.import_module("torch")
    found = silero().get_speech_timestamps(torch.from_numpy(samples), _silero_network(), **options)
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


def _batched_nms(boxes: Any, scores: Any, groups: Any, iou_threshold: float) -> Any:
    """torchvision's, by its documentation: a plain walk through the boxes, best first."""
    import torch

    corners = boxes.numpy()
    kept: list[int] = []
    areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
    for index in torch.argsort(scores, descending=True, stable=True).tolist():
        left, top, right, bottom = corners[index]
        for other in kept:
            if groups[other] != groups[index]:
                continue
            width = min(right, corners[other, 2]) - max(left, corners[other, 0])
            height = min(bottom, corners[other, 3]) - max(top, corners[other, 1])
            common = max(width, np.float32(0)) * max(height, np.float32(0))
            if common / (areas[index] + areas[other] - common) > iou_threshold:
                break
        else:
            kept.append(index)
    return torch.tensor(kept, dtype=torch.long)
