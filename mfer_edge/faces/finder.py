"""Face detection in a video: around known faces, or in the whole frame when there may be others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mfer_edge.faces.integral_image import IntegralImage
from mfer_edge.faces.mtcnn import FaceBox, FaceDetector
from mfer_edge.faces.newcomers import Newcomers
from mfer_edge.faces.tracker import MIN_OVERLAP, overlap

FIND_WITHIN_S = 0.5  # a face that enters the frame is found by then


class FaceFinder:
    """Finds the faces in each frame of a video, for less than a full search of each frame.

    Known faces are searched for where they were. The whole frame is searched at the start, while
    no face is known, when one of the known faces is not found again, when frames change their size
    or are further apart than a new face may stay unnoticed, and when there seems to be a new one.
    That is looked after often enough to find it in time: every 0.4 s at 5 frames per second. The
    result depends on the frames and their times alone. The boxes of one frame are remembered.

    Args:
        detector: finds faces in a single image.
        find_within_s: the longest that a new face may stay unnoticed; 0 searches every frame.
    """

    def __init__(self, detector: FaceDetector, find_within_s: float = FIND_WITHIN_S) -> None:
        self._detector = detector
        self._newcomers = Newcomers(detector)
        self._find_within_s = find_within_s
        self._known: list[FaceBox] = []
        self._size: tuple[int, ...] = ()  # of the last frame
        self._time_s = -math.inf  # of the last frame
        self._looked_s = -math.inf  # when it was last looked for new faces

    def __call__(self, image: np.ndarray, time_s: float) -> list[FaceBox]:
        """Find the faces in the next frame, the largest first.

        Args:
            image: (height, width, 3) uint8, BGR.
            time_s: when it is shown, later than the frame before.
        """
        next_s = time_s + (time_s - self._time_s)  # of the next frame, at an even rate
        self._time_s = time_s
        due = next_s - self._looked_s > self._find_within_s
        must_search = next_s - time_s > self._find_within_s or image.shape != self._size
        self._size = image.shape
        if due:
            self._looked_s = time_s
        if must_search or not self._known or not self._follow(image, due):
            self._known = self._detector(image)
            self._looked_s = time_s
            self._newcomers.forget()
        return self._known

    def _follow(self, image: np.ndarray, look: bool) -> bool:
        """Search around the known faces; return whether that is enough.

        It is where all of them were found again, and a look for others found none.
        """
        integral = IntegralImage(image)
        known, self._known = self._known, self._detector.search(integral, near=self._known)
        is_lost = len(self._known) < len(known) or not all(
            _is_among(face, self._known) for face in known
        )
        return not is_lost and not (look and self._newcomers(integral, self._known))


def _is_among(face: FaceBox, others: Sequence[FaceBox]) -> bool:
    return any(overlap(face, other) >= MIN_OVERLAP for other in others)
