"""Faces that hold still: they take over an embedding instead of being embedded again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

MAX_LEVELS = 255  # between black and white


@dataclass(eq=False)
class CachedFace:
    """How a face looks in a frame, and nearly so in those that follow."""

    crop: np.ndarray  # (size, size) uint8, of the first of these frames
    embedding: np.ndarray | None = None  # (width,), made when the first window needs it


class EmbeddingCache:
    """Tells which faces look nearly as they did when they were last embedded.

    A crop is compared with the one that is embedded, not with the frame before, so that small
    changes don't add up. It is decided as a frame comes, by the frames alone. A face that is not
    found in one frame is embedded anew in the next. The looks of one frame are remembered.

    Args:
        levels: the mean absolute difference of two crops, in grey levels of 255, up to which one
            embedding does for both; 0 embeds every face.
    """

    def __init__(self, levels: float) -> None:
        self._levels = levels
        self._before: dict[int, CachedFace] = {}  # by track, those of the frame before

    def __call__(self, tracks: Sequence[int], crops: Sequence[np.ndarray]) -> list[CachedFace]:
        """Give the look of each face in the next frame, an earlier one where it still holds.

        Args:
            tracks: ids of the faces, each once.
            crops: of each, (size, size) uint8.
        """
        looks = [self._look(track, crop) for track, crop in zip(tracks, crops, strict=True)]
        self._before = dict(zip(tracks, looks, strict=True))
        return looks

    def _look(self, track: int, crop: np.ndarray) -> CachedFace:
        known = self._before.get(track)
        if self._levels and known and cv2.absdiff(known.crop, crop).mean() <= self._levels:
            return known
        return CachedFace(crop)
