"""Crops of faces, as the face backbone takes them."""

from __future__ import annotations

import cv2
import numpy as np

from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.manifest import Crop


def crop_face(image: np.ndarray, box: FaceBox, crop: Crop) -> np.ndarray:
    """Cut a face out of an image.

    Args:
        image: (height, width, 3) uint8, BGR.
        crop: size and scale of the square to cut out.

    Returns:
        (size, size) uint8, grey. Outside of the image, its border is repeated.
    """
    longer = max(box.right - box.left, box.bottom - box.top)
    side = max(2, round(longer * crop.scale))
    left = round((box.left + box.right - side) / 2)
    top = round((box.top + box.bottom - side) / 2)
    first_row, last_row = _within(top, side, image.shape[0])
    first_column, last_column = _within(left, side, image.shape[1])
    inside = image[first_row : last_row + 1, first_column : last_column + 1]
    grey = cv2.cvtColor(inside, cv2.COLOR_BGR2GRAY)
    if grey.shape != (side, side):  # it goes beyond the border
        rows = np.arange(top, top + side).clip(first_row, last_row) - first_row
        columns = np.arange(left, left + side).clip(first_column, last_column) - first_column
        grey = grey[np.ix_(rows, columns)]
    shrinks = side > crop.size
    return cv2.resize(
        grey, (crop.size, crop.size), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def _within(start: int, length: int, limit: int) -> tuple[int, int]:
    """First and last pixel of a range that are inside an image; outside of it, the nearest one."""
    first, last = (min(max(edge, 0), limit - 1) for edge in (start, start + length - 1))
    return first, last
