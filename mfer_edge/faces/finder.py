"""Where faces are from frame to frame: search now and then, look where they were in between."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mfer_edge.faces.mtcnn import FaceBox, FaceDetector
from mfer_edge.faces.tracker import MIN_OVERLAP, overlap

FIND_WITHIN_S = 0.5  # a face that enters the picture is found by then


class FaceFinder:
    """Finds the faces in each frame of a stream, for less than searching each frame anew.

    The whole picture is searched at the start, while no face is known, when one of the known faces
    is not found again, and often enough that a new one is found in time: every 0.4 s at 5 frames a
    second. What it gives depends on the frames and their times alone. It remembers one frame's
    boxes.

    Args:
        detector: what looks at a single picture.
        find_within_s: the longest that a new face may go unseen; 0 searches every frame.
    """

    def __init__(self, detector: FaceDetector, find_within_s: float = FIND_WITHIN_S) -> None:
        self._detector = detector
        self._find_within_s = find_within_s
        self._known: list[FaceBox] = []
        self._time_s = self._searched_s = -math.inf  # of the last frame, of the last search

    def __call__(self, image: np.ndarray, time_s: float) -> list[FaceBox]:
        """Find the faces in the next frame, the largest first.

        Args:
            image: (height, width, 3) uint8, BGR.
            time_s: when it is shown, later than the frame before.
        """
        next_s = time_s + (time_s - self._time_s)  # the next frame's, as far as one can tell
        self._time_s = time_s
        due = next_s - self._searched_s > self._find_within_s
        if due or not self._known or not self._follow(image):
            self._known = self._detector(image)
            self._searched_s = time_s
        return self._known

    def _follow(self, image: np.ndarray) -> bool:
        """Look around the known faces; tell whether all of them are still there."""
        known, self._known = self._known, self._detector(image, near=self._known)
        return len(self._known) >= len(known) and all(
            _is_among(face, self._known) for face in known
        )


def _is_among(face: FaceBox, others: Sequence[FaceBox]) -> bool:
    return any(overlap(face, other) >= MIN_OVERLAP for other in others)
