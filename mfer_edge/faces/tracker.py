"""Who is who over time: boxes of one frame joined to the faces of the frames before."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.results import Track

MIN_OVERLAP = 0.2  # intersection over union: a turned head at 5 frames a second still has it
FORGET_AFTER_S = 1.0  # a face that is gone for longer comes back as another
MAX_GONE = 10_000  # lost faces whose times are kept: 2 MB; a camera may run for weeks


@dataclass
class _Face:
    track: int
    start_s: float
    last_s: float
    box: FaceBox
    count: int = 1


class FaceTracker:
    """Gives every face an id that it keeps while it is in sight.

    Attributes:
        forgotten: how many of the faces that were lost first are no longer in `tracks`, because
            more than MAX_GONE were lost after them.
    """

    def __init__(self) -> None:
        self.forgotten = 0
        self._present: list[_Face] = []
        self._gone: deque[Track] = deque()
        self._next_track = 0

    def update(self, time_s: float, boxes: Sequence[FaceBox]) -> list[int]:
        """Take the boxes of the next frame; give each one's track id.

        The pairs of known face and box that overlap most are joined first.
        """
        self._gone += (_track(f) for f in self._present if time_s - f.last_s > FORGET_AFTER_S)
        while len(self._gone) > MAX_GONE:
            self._gone.popleft()
            self.forgotten += 1
        self._present = [f for f in self._present if time_s - f.last_s <= FORGET_AFTER_S]
        pairs = sorted(
            (
                (overlap(face.box, box), -face.track, index)
                for face in self._present
                for index, box in enumerate(boxes)
            ),
            reverse=True,
        )
        known = {face.track: face for face in self._present}
        ids: dict[int, int] = {}  # box index -> track
        for value, negative_track, index in pairs:
            face = known.get(-negative_track)
            if value < MIN_OVERLAP or face is None or index in ids:
                continue
            ids[index] = face.track
            face.box, face.last_s, face.count = boxes[index], time_s, face.count + 1
            del known[face.track]
        for index, box in enumerate(boxes):
            if index not in ids:
                ids[index] = self._next_track
                self._next_track += 1
                self._present.append(_Face(ids[index], time_s, time_s, box))
        return [ids[index] for index in range(len(boxes))]

    def tracks(self) -> tuple[Track, ...]:
        """Every face so far, in the order in which they came; but for the forgotten ones."""
        tracks = [*self._gone, *map(_track, self._present)]
        return tuple(sorted(tracks, key=lambda track: track.track))


def _track(face: _Face) -> Track:
    return Track(face.track, face.start_s, face.last_s, face.count)


def overlap(a: FaceBox, b: FaceBox) -> float:
    """Intersection over union of two boxes."""
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a.area + b.area - shared)
