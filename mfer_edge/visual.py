"""The image arm: what a face shows over time."""

from __future__ import annotations

import cv2
import numpy as np

from mfer_edge.audio import ArmOutput
from mfer_edge.bundle import Crop
from mfer_edge.engine import Network
from mfer_edge.mtcnn import FaceBox

FACES_AT_ONCE = 5  # in one call on a CPU: no slower than a window's 20, for a quarter of the memory


def crop_face(image: np.ndarray, box: FaceBox, crop: Crop) -> np.ndarray:
    """Cut a face out as the face network wants it.

    Args:
        image: (height, width, 3) uint8, BGR.

    Returns:
        (size, size) uint8, grey. What lies outside the picture repeats its border.
    """
    longer = max(box.right - box.left, box.bottom - box.top)
    side = max(2, round(longer * crop.scale))
    left = round((box.left + box.right - side) / 2)
    top = round((box.top + box.bottom - side) / 2)
    rows = np.arange(top, top + side).clip(0, image.shape[0] - 1)
    columns = np.arange(left, left + side).clip(0, image.shape[1] - 1)
    inside = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    grey = cv2.cvtColor(inside, cv2.COLOR_BGR2GRAY)
    if grey.shape != (side, side):  # it sticks out
        grey = grey[np.ix_(rows - rows[0], columns - columns[0])]
    shrinks = side > crop.size
    return cv2.resize(
        grey, (crop.size, crop.size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


class VisualArm:
    """Faces in, scores out.

    Args:
        face: embeds faces.
        sequence: scores one face over time.
        at_once: how many faces to embed in one call; by default all of a window's.
    """

    def __init__(self, face: Network, sequence: Network, at_once: int | None = None) -> None:
        self._face = face
        self._sequence = sequence
        self._at_once = at_once

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """Embed (n, size, size) uint8 faces, n > 0, each on its own: (n, width) float32."""
        step = self._at_once or len(faces)
        calls = [faces[start : start + step, None] for start in range(0, len(faces), step)]
        return np.concatenate([self._face(faces=call)["embedding"] for call in calls])

    def __call__(self, embeddings: np.ndarray) -> ArmOutput:
        """Score one face over time, (frames, width) float32 in order."""
        result = self._sequence(embeddings=embeddings[None])
        return ArmOutput(result["scores"][0], result["embedding"])
