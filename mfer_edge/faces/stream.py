"""Faces of a video: found, tracked and cropped frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mfer_edge.faces.crop import crop_face
from mfer_edge.faces.embedding_cache import CachedFace, EmbeddingCache
from mfer_edge.faces.finder import FIND_WITHIN_S, FaceFinder
from mfer_edge.faces.look import Look, Scene
from mfer_edge.faces.mtcnn import FaceBox, FaceDetector
from mfer_edge.faces.tracker import FaceTracker
from mfer_edge.manifest import Crop
from mfer_edge.results import FaceDetection, Track
from mfer_edge.sources.base import Frame

if TYPE_CHECKING:
    from mfer_edge.faces.people import People


@dataclass(frozen=True)
class TrackedFace:
    """One face in one frame."""

    track: int
    box: FaceBox
    area: float  # of the box, as a share of the frame
    cached: CachedFace  # its crop and embeddings; shared by frames in which it is nearly the same


@dataclass(frozen=True)
class FrameFaces:
    """All faces in one frame, the largest first."""

    time_s: float
    size: tuple[int, int]  # height and width in pixels
    faces: list[TrackedFace]
    until_s: float | None = None  # as in `Frame`

    def detections(self) -> list[FaceDetection]:
        """Where each of them is, to draw it."""
        places = ((f.track, f.box.left, f.box.top, f.box.right, f.box.bottom) for f in self.faces)
        return [FaceDetection(self.time_s, *place, self.size) for place in places]


class FaceStream:
    """Finds, tracks and crops the faces of a video, one frame after the other.

    Args:
        detector: finds faces in a single image.
        crop: how to cut them out.
        skip_still: as in `SessionOptions`.
        find_within_s: the longest that a new face may stay unnoticed.
        follow: know people again by what they look like: see `People`.
    """

    def __init__(
        self,
        detector: FaceDetector,
        crop: Crop,
        *,
        skip_still: float = 0.0,
        find_within_s: float = FIND_WITHIN_S,
        follow: bool = False,
    ) -> None:
        self._crop = crop
        self._finder = FaceFinder(detector, find_within_s)
        self._tracker = FaceTracker()
        self._people: People | None = None
        if follow:
            from mfer_edge.faces.people import People

            self._people = People()
        self._cache = EmbeddingCache(skip_still, crop.mirror)

    def push(self, frame: Frame) -> FrameFaces:
        """Process the next frame, later than the one before."""
        boxes = self._finder(frame.image, frame.time_s)
        height, width = frame.image.shape[:2]
        crops = [crop_face(frame.image, box, self._crop) for box in boxes]
        shares = [box.in_shares(height, width) for box in boxes]
        tracks = self._tracker.update(frame.time_s, shares, _looks(frame.image, crops))
        if self._people is not None:
            tracks = self._people.name(frame.time_s, frame.image, boxes, tracks)
        cached = self._cache(tracks, crops)
        areas = [box.area for box in shares]
        faces = [TrackedFace(*parts) for parts in zip(tracks, boxes, areas, cached, strict=True)]
        return FrameFaces(frame.time_s, (height, width), faces, frame.until_s)

    def tracks(self) -> tuple[Track, ...]:
        """Every face so far; of those that were lost, the latest 10,000."""
        return (self._people or self._tracker).tracks()

    @property
    def dropped_tracks(self) -> int:
        """Number of faces that are no longer among the tracks."""
        return (self._people or self._tracker).dropped

    def by_track(self, frames: Iterable[FrameFaces]) -> dict[int, list[TrackedFace]]:
        """Group the faces of some frames by track, in order of time."""
        return faces_by_track(frames, self._people.resolve if self._people else None)


def faces_by_track(
    frames: Iterable[FrameFaces], resolve: Callable[[int], int] | None = None
) -> dict[int, list[TrackedFace]]:
    """Group the faces of some frames by track, in order of time.

    Args:
        resolve: the id that a track has by now.
    """
    by_track: dict[int, list[TrackedFace]] = {}
    for frame in frames:
        for face in frame.faces:
            track = resolve(face.track) if resolve else face.track
            by_track.setdefault(track, []).append(face)
    return by_track


def main_track(by_track: dict[int, list[TrackedFace]]) -> int | None:
    """The face whose boxes cover the largest area, summed over the frames; None without faces."""
    return max(by_track, key=lambda track: sum(f.area for f in by_track[track]), default=None)


def _looks(image: np.ndarray, crops: Sequence[np.ndarray]) -> list[Look]:
    if not crops:
        return []
    scene = Scene.of(image)
    return [Look.of(scene, crop) for crop in crops]
