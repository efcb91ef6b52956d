"""Cache of face embeddings: a crop that hardly changed takes over an earlier one's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np


@dataclass(eq=False)
class CachedFace:
    """A face crop and its embedding, shared by the frames in which it is nearly the same."""

    crop: np.ndarray  # (size, size) uint8, of the first of these frames
    embedding: np.ndarray | None = None  # (width,), computed when the first window needs it


def embed_missing(faces: Iterable[CachedFace], embed: Callable[[np.ndarray], np.ndarray]) -> None:
    """Embed those faces that are not yet, in one call.

    Args:
        embed: (n, size, size) uint8 crops to (n, width) float32 embeddings, each by itself.
    """
    missing = list(dict.fromkeys(face for face in faces if face.embedding is None))
    if missing:
        embeddings = embed(np.stack([face.crop for face in missing]))
        for face, embedding in zip(missing, embeddings, strict=True):
            face.embedding = embedding


class EmbeddingCache:
    """Decides which crops are similar enough to share an embedding.

    A crop is compared with the one that is embedded, not with the frame before, so that small
    changes don't add up. The decision is made when a frame comes, by the frames alone. A face that
    is not found in one frame is embedded anew in the next. The faces of one frame are remembered.

    Args:
        levels: the mean absolute difference of two crops, in grey levels of 255, up to which they
            share an embedding; 0 embeds every crop.
    """

    def __init__(self, levels: float) -> None:
        self._levels = levels
        self._previous: dict[int, CachedFace] = {}  # of the frame before, by track

    def __call__(self, tracks: Sequence[int], crops: Sequence[np.ndarray]) -> list[CachedFace]:
        """Return a cached face for each face of the next frame: an earlier one, or a new one.

        Args:
            tracks: ids of the faces, each once.
            crops: of each, (size, size) uint8.
        """
        faces = [self._cached(track, crop) for track, crop in zip(tracks, crops, strict=True)]
        self._previous = dict(zip(tracks, faces, strict=True))
        return faces

    def _cached(self, track: int, crop: np.ndarray) -> CachedFace:
        known = self._previous.get(track)
        if self._levels and known and cv2.absdiff(known.crop, crop).mean() <= self._levels:
            return known
        return CachedFace(crop)
