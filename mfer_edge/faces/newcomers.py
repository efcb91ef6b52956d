"""Looking for faces beside the known ones, in a third of the time of a search."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mfer_edge.faces.integral_image import IntegralImage
from mfer_edge.faces.mtcnn import (
    OVERLAP,
    FaceBox,
    FaceDetector,
    LevelPart,
    box_overlap,
    level_size,
)

EVERY = 2  # levels of the pyramid: each face is proposed on several, from which its box is chosen
KNOWN = 0.5  # share of the smaller one of a candidate and a known face, from which it is that face


def has_newcomer(detector: FaceDetector, image: np.ndarray, known: Sequence[FaceBox]) -> bool:
    """Whether an image shows faces beside the known ones.

    As no box is taken from it, every other level of a coarse pyramid is enough, and candidates that
    show a known face need not be refined.

    Args:
        image: (height, width, 3) uint8, BGR.
    """
    faces = _corners(known)
    candidates = _beside(detector.propose(_pyramid(detector, image)), faces, KNOWN)
    if not len(candidates):
        return False
    integral = IntegralImage(image)
    found = detector.verify(integral, detector.refine(integral, candidates))
    return len(_beside(_corners(found), faces, OVERLAP)) > 0


def _pyramid(detector: FaceDetector, image: np.ndarray) -> list[LevelPart]:
    height, width = image.shape[:2]
    level, levels = image, []
    for scale in list(detector.scales(height, width))[::EVERY]:
        level = _shrunk(level, *level_size(height, width, scale))
        levels.append(LevelPart(level.astype(np.float32), scale))
    return levels


def _shrunk(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrink an image: by a whole factor first, as OpenCV interpolates between two pixels."""
    factor = max(1, min(image.shape[1] // width, image.shape[0] // height))
    if factor > 1:
        whole = image.shape[1] // factor * factor, image.shape[0] // factor * factor
        size = whole[0] // factor, whole[1] // factor
        image = cv2.resize(image[: whole[1], : whole[0]], size, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _corners(faces: Sequence[FaceBox]) -> np.ndarray:
    corners = [(face.left, face.top, face.right, face.bottom) for face in faces]
    return np.array(corners, np.float32).reshape(-1, 4)


def _beside(boxes: np.ndarray, faces: np.ndarray, share: float) -> np.ndarray:
    """Those of (n, 4) boxes that share less with each of some faces, of the smaller one."""
    return boxes[(box_overlap(boxes, faces, of_smaller=True) < share).all(axis=1)]
