"""How much each face's mouth moves from frame to frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import cv2
import numpy as np

from mfer_edge.faces.mtcnn import FaceBox

SIZE = 64  # pixels on a side of an upright face
POINTS = np.array([[20, 20], [44, 20], [22, 46], [42, 46]], np.float32)
"""Where the eyes and the mouth's corners lie in it."""
EYES = 24  # pixels from one eye to the other
LANDMARKS = (0, 1, 3, 4)  # of MTCNN's five: without the nose, which moves most when a head turns
ROWS, COLUMNS = slice(38, 60), slice(16, 48)  # of the mouth, from its upper lip to the chin
SHIFT = 3  # pixels by which landmarks jitter
MIN_CONTRAST = 4.0  # grey levels of noise
MAX_STEP_S = 0.5  # between two frames; over a longer time any mouth changes


class MouthMotion:
    """Motion of the mouths in a video.

    MTCNN's landmarks are the mouth's corners alone, which hardly tell an open mouth; so the mouth
    of an upright face is compared with itself in the frame before, at the shift at which the two
    are most alike. The motion is the mean absolute difference of the two, each at a mean of 0 and
    a deviation of 1: about 0.1 for closed lips, 0.3 in speech.
    """

    def __init__(self) -> None:
        self._before: dict[int, tuple[float, np.ndarray]] = {}  # by track: time and mouth
        self._motion: deque[tuple[int, float, float, float]] = deque()

    def push(self, time_s: float, image: np.ndarray, faces: Iterable[tuple[int, FaceBox]]) -> None:
        """Measure the next frame's faces.

        Args:
            image: (height, width, 3) uint8, BGR.
            faces: tracks and boxes with landmarks.
        """
        before, self._before = self._before, {}
        for track, box in faces:
            if (mouth := upright_mouth(image, box)) is None:
                continue
            self._before[track] = time_s, mouth
            if track in before and time_s - before[track][0] <= MAX_STEP_S:
                motion = mouth_change(before[track][1], mouth)
                self._motion.append((track, before[track][0], time_s, motion))

    def within(self, track: int, start_s: float, end_s: float) -> np.ndarray:
        """Motions of one face: (n, 3) start and end in seconds, and how much it moved between."""
        found = [
            (start, end, motion)
            for of, start, end, motion in self._motion
            if of == track and start >= start_s and end <= end_s
        ]
        return np.array(found, np.float64).reshape(-1, 3)

    def drop(self, before_s: float) -> None:
        """Forget what began before a time."""
        while self._motion and self._motion[0][1] < before_s:
            self._motion.popleft()


def upright_mouth(image: np.ndarray, box: FaceBox) -> np.ndarray | None:
    """Mouth of a face that is turned upright, with a margin: (28, 38) uint8, grey; None if the
    landmarks are missing."""
    if box.landmarks is None:
        return None
    side = box.right - box.left
    left, top = max(0, int(box.left - side / 2)), max(0, int(box.top - side / 2))
    part = image[top : int(box.bottom + side / 2), left : int(box.right + side / 2)]
    if not part.size:
        return None
    points = (box.landmarks[list(LANDMARKS)] - (left, top)).astype(np.float32)
    grey = cv2.cvtColor(part, cv2.COLOR_BGR2GRAY)
    shrink = EYES / max(1.0, float(np.linalg.norm(points[1] - points[0])))
    if shrink < 1:  # a warp by itself takes single pixels of a large face
        grey = cv2.resize(grey, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
        points *= shrink
    matrix, _ = cv2.estimateAffinePartial2D(points, POINTS, method=cv2.LMEDS)
    if matrix is None:
        return None
    face = cv2.warpAffine(grey, matrix, (SIZE, SIZE), borderMode=cv2.BORDER_REPLICATE)
    return face[
        ROWS.start - SHIFT : ROWS.stop + SHIFT, COLUMNS.start - SHIFT : COLUMNS.stop + SHIFT
    ]


def mouth_change(before: np.ndarray, now: np.ndarray) -> float:
    """Difference of two mouths with margins, at the shift at which it is least."""
    inside = now[SHIFT:-SHIFT, SHIFT:-SHIFT].astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(before.astype(np.float32), inside.shape)
    shifted = _normalised(windows)
    return float(np.abs(shifted - _normalised(inside)).mean(axis=(-2, -1)).min())


def _normalised(mouths: np.ndarray) -> np.ndarray:
    mean = mouths.mean(axis=(-2, -1), keepdims=True)
    deviation = mouths.std(axis=(-2, -1), keepdims=True)
    return (mouths - mean) / (deviation + MIN_CONTRAST)
