"""Cache of face embeddings: a crop that hardly changed takes over an earlier one's.

The face network of `compact` is better on the mean of a face and its mirror image. In a video the
mean over time gives that for nothing: every second crop of a face is mirrored, and only where a
window has few of them both views of each are embedded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

FEW = 4  # crops in a window; with fewer both views of each are embedded, where views matter

Embed = Callable[[np.ndarray], np.ndarray]
"""(n, size, size) uint8 crops to (n, width) float32 embeddings, each by itself."""


@dataclass(eq=False)
class CachedFace:
    """A face crop and its embeddings, shared by the frames in which it is nearly the same."""

    crop: np.ndarray  # (size, size) uint8, of the first of these frames, as it is in the image
    mirror: bool = False  # whether the first view is the mirror image
    embeddings: list[np.ndarray] = field(default_factory=list)
    """(width,) each, of the views that a window needed so far: the first one, then the other."""

    def view(self, number: int) -> np.ndarray:
        """The crop as it is, or mirrored."""
        return self.crop[:, ::-1] if self.mirror != bool(number) else self.crop


def embed_missing(faces: Iterable[CachedFace], embed: Embed, views: int = 1) -> None:
    """Embed those views of faces that are not yet, in one call."""
    missing = [
        (face, number)
        for face in dict.fromkeys(faces)
        for number in range(len(face.embeddings), views)
    ]
    if missing:
        embeddings = embed(np.stack([face.view(number) for face, number in missing]))
        for (face, _), embedding in zip(missing, embeddings, strict=True):
            face.embeddings.append(embedding)


def embed_window(faces: Sequence[CachedFace], embed: Embed, mirror: bool) -> np.ndarray:
    """Embed a face's crops in a window, in order of time: (n, width) float32.

    Args:
        mirror: as in the manifest's `Crop`.
    """
    views = 2 if mirror and len(set(faces)) < FEW else 1
    embed_missing(faces, embed, views)
    return np.array([face.embeddings[:views] for face in faces]).mean(1)


class EmbeddingCache:
    """Decides which crops are similar enough to share an embedding.

    A crop is compared with the one that is embedded, not with the frame before, so that small
    changes don't add up. The decision is made when a frame comes, by the frames alone. A face that
    is not found in one frame is embedded anew in the next. The faces of one frame are remembered.

    Args:
        levels: the mean absolute difference of two crops, in grey levels of 255, up to which they
            share an embedding; 0 embeds every crop.
        mirror: as in the manifest's `Crop`.
    """

    def __init__(self, levels: float, mirror: bool = False) -> None:
        self._levels = levels
        self._mirror = mirror
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
        return CachedFace(crop, self._mirror and known is not None and not known.mirror)
