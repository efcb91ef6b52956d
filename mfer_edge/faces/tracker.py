"""Face tracking: boxes of one frame matched with the faces of the frames before."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from mfer_edge.faces.look import Look
from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.results import Track

MIN_OVERLAP = 0.2  # intersection over union, which a turning head keeps at 5 frames per second
LOST_AFTER_S = 1.0  # a face that was gone for longer comes back as another track
LOST_AFTER_FRAMES = 1.5  # at least, as a slow video shows a face less than once a second
MAX_LOST = 10_000  # lost tracks that are kept: 2 MB; a camera may run for weeks


@dataclass
class _Face:
    track: int
    start_s: float
    last_s: float
    box: FaceBox
    look: Look | None
    count: int = 1

    def may_be(self, look: Look | None) -> bool:
        """Whether no cut lies between this face and what is seen in its place."""
        return look is None or self.look is None or not look.is_cut_from(self.look)


class FaceTracker:
    """Assigns every face an id that it keeps while it is in view.

    Attributes:
        dropped: number of tracks that are no longer in `tracks`, the ones that were lost first,
            because more than MAX_LOST were lost after them.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._present: list[_Face] = []
        self._lost: deque[Track] = deque()
        self._next_track = 0
        self._time_s = 0.0  # of the frame before

    def update(
        self, time_s: float, boxes: Sequence[FaceBox], looks: Sequence[Look] | None = None
    ) -> list[int]:
        """Match the boxes of the next frame; return the track id of each.

        The pairs of known face and box that overlap most are matched first, unless a cut lies
        between them.

        Args:
            time_s: when the frame is shown.
            boxes: in shares of the frame's width and height, as its size may change.
            looks: of each box, by which cuts are known; without them there are none.
        """
        self._forget(time_s)
        seen: Sequence[Look | None] = looks or [None] * len(boxes)
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
            if not face.may_be(seen[index]):
                continue
            ids[index] = face.track
            face.box, face.look = boxes[index], seen[index]
            face.last_s, face.count = time_s, face.count + 1
            del known[face.track]
        for index, box in enumerate(boxes):
            if index not in ids:
                ids[index] = self._next_track
                self._next_track += 1
                self._present.append(_Face(ids[index], time_s, time_s, box, seen[index]))
        return [ids[index] for index in range(len(boxes))]

    def _forget(self, time_s: float) -> None:
        lost_after_s = max(LOST_AFTER_S, LOST_AFTER_FRAMES * (time_s - self._time_s))
        self._time_s = time_s
        self._lost += (_track(f) for f in self._present if time_s - f.last_s > lost_after_s)
        self._present = [f for f in self._present if time_s - f.last_s <= lost_after_s]
        while len(self._lost) > MAX_LOST:
            self._lost.popleft()
            self.dropped += 1

    def tracks(self) -> tuple[Track, ...]:
        """Every face so far but the dropped ones, in the order in which they appeared."""
        tracks = [*self._lost, *map(_track, self._present)]
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
