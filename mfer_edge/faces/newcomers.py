"""Looking for faces beside the known ones, in a fraction of the time of a search."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mfer_edge.faces.integral_image import IntegralImage, Part
from mfer_edge.faces.mtcnn import (
    OVERLAP,
    STRIDE,
    WINDOW,
    FaceBox,
    FaceDetector,
    LevelPart,
    box_overlap,
    level_size,
)

EVERY = 2  # levels of the pyramid: a face is proposed on several, from which its box is chosen
KNOWN = 0.5  # share of the smaller one of a candidate and a known face, from which it is that face
CHANGE = 10  # grey levels; noise is less, and no face comes to be by less
SPECK = 3  # pixels of the finest level, on which a face has 10 on a side; narrower changes are none


class Newcomers:
    """Tells whether a video shows faces beside the known ones.

    As no box is taken from it, every other level of a coarse pyramid is enough, and candidates that
    show a known face need not be refined. P-Net's verdict on a window holds until its pixels differ
    from those that it was given on, however slowly they change.

    Args:
        detector: whose networks, levels and thresholds are used.
    """

    def __init__(self, detector: FaceDetector) -> None:
        self._detector = detector
        self._judged: np.ndarray | None = None  # the finest level, with each pixel as it was judged

    def forget(self) -> None:
        """Judge all of the next frame."""
        self._judged = None

    def __call__(self, image: IntegralImage, known: Sequence[FaceBox]) -> bool:
        """Look for faces in the next frame."""
        faces = _corners(known)
        candidates = _beside(self._detector.propose(self._pyramid(image.image)), faces, KNOWN)
        found = self._detector.verify(image, self._detector.refine(image, candidates))
        return len(_beside(_corners(found), faces, OVERLAP)) > 0

    def _pyramid(self, image: np.ndarray) -> list[LevelPart]:
        """Parts of the levels that have changed."""
        height, width = image.shape[:2]
        level, parts, changed = image, [], None
        for scale in list(self._detector.scales(height, width))[::EVERY]:
            level = _shrunk(level, *level_size(height, width, scale))
            if changed is None:
                changed = self._changed(level)
                if changed[0] == changed[2]:
                    return []
            left, top, right, bottom = _windows_of(changed, level)
            pixels = level[top:bottom, left:right].astype(np.float32)
            parts.append(LevelPart(pixels, scale, (left, top)))
        return parts

    def _changed(self, level: np.ndarray) -> tuple[float, float, float, float]:
        """Where the finest level differs from what was judged, in shares; it is judged from now."""
        height, width = level.shape[:2]
        if self._judged is None or self._judged.shape != level.shape:
            self._judged = level.copy()
            return 0.0, 0.0, 1.0, 1.0
        same = cv2.inRange(cv2.absdiff(level, self._judged), (0, 0, 0), (CHANGE,) * 3)
        kernel = np.ones((SPECK, SPECK), np.uint8)
        changed = cv2.morphologyEx(cv2.bitwise_not(same), cv2.MORPH_OPEN, kernel)
        cv2.copyTo(level, changed, self._judged)
        left, top, across, down = cv2.boundingRect(changed)
        return left / width, top / height, (left + across) / width, (top + down) / height


def _windows_of(changed: tuple[float, float, float, float], level: np.ndarray) -> Part:
    """Part of a level with all of P-Net's windows that show a part given in shares."""
    height, width = level.shape[:2]
    left, top = int(changed[0] * width) - WINDOW, int(changed[1] * height) - WINDOW
    left, top = max(0, min(left, width - WINDOW)), max(0, min(top, height - WINDOW))
    right, bottom = int(changed[2] * width) + WINDOW + 1, int(changed[3] * height) + WINDOW + 1
    left, top = left // STRIDE * STRIDE, top // STRIDE * STRIDE
    return left, top, min(width, right), min(height, bottom)


def _shrunk(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Shrink an image: by halves first, as OpenCV interpolates between two pixels."""
    while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        half = image.shape[1] // 2, image.shape[0] // 2
        even = image[: 2 * half[1], : 2 * half[0]]
        image = cv2.resize(even, half, interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _corners(faces: Sequence[FaceBox]) -> np.ndarray:
    corners = [(face.left, face.top, face.right, face.bottom) for face in faces]
    return np.array(corners, np.float32).reshape(-1, 4)


def _beside(boxes: np.ndarray, faces: np.ndarray, share: float) -> np.ndarray:
    """Those of (n, 4) boxes that share less with each of some faces, of the smaller one."""
    return boxes[(box_overlap(boxes, faces, of_smaller=True) < share).all(axis=1)]
