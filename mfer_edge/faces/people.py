"""People: faces that left, or changed places, keep their ids by what they look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.results import Track

MARGINS = (0.1, 0.2, 0.1, 0.3)  # left, top, right, bottom of a box, in widths: hair and collar
THUMBNAIL = 48  # pixels on a side, of which the colours are counted
COLOURS = (6, 8, 8)  # bins of lightness, green to red, blue to yellow
COLOUR_RANGE = (0, 256, 96, 160, 96, 160)  # few colours of a face lie outside
GREY_SIZE = 16
UPRIGHT = np.array([[5, 5], [11, 5], [5.5, 11.5], [10.5, 11.5]], np.float32)  # eyes, mouth
LANDMARKS = (0, 1, 3, 4)

# Of 39 people in 83 real clips, half a second each: two looks of the same person in a clip pass in
# 95 %, of different people in 0.5 %.
SAME_COLOURS, SAME_GREY = 0.9, 0.6
OTHER_COLOURS, OTHER_GREY = 0.8, 0.4  # under which a track no longer shows the same person
LEARNING = 0.2  # weight of a new look in a person's mean
FIRST_FRAMES = 4  # in which somebody new is compared with those who left: who enters is cut off
MAX_PEOPLE = 200  # that are remembered; who left first is forgotten first


@dataclass(frozen=True, eq=False)
class Appearance:
    """Colours and shape of a face, averaged over frames."""

    colours: np.ndarray  # (384,) float32, square roots of shares
    grey: np.ndarray  # (256,) float32, of a mean of 0 and a norm of 1

    @classmethod
    def of(cls, image: np.ndarray, box: FaceBox) -> Appearance | None:
        """Measure a face; None where nothing of it is in the image."""
        width = box.right - box.left
        left, top, right, bottom = (
            int(side + sign * margin * width)
            for side, sign, margin in zip(
                (box.left, box.top, box.right, box.bottom), (-1, -1, 1, 1), MARGINS, strict=True
            )
        )
        part = image[max(0, top) : max(0, bottom), max(0, left) : max(0, right)]
        if not part.size or box.landmarks is None:
            return None
        small = cv2.resize(part, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(small, cv2.COLOR_BGR2LAB)
        counts = cv2.calcHist([lab], [0, 1, 2], None, list(COLOURS), list(COLOUR_RANGE)).ravel()
        colours = np.sqrt(counts / max(1.0, counts.sum()))
        points = box.landmarks[list(LANDMARKS)] - (max(0, left), max(0, top))
        matrix, _ = cv2.estimateAffinePartial2D(
            points.astype(np.float32), UPRIGHT * 4, method=cv2.LMEDS
        )
        if matrix is None:
            return None
        size = (4 * GREY_SIZE, 4 * GREY_SIZE)
        upright = cv2.warpAffine(part, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        grey = cv2.cvtColor(
            cv2.resize(upright, (GREY_SIZE, GREY_SIZE), interpolation=cv2.INTER_AREA),
            cv2.COLOR_BGR2GRAY,
        )
        return cls(colours.astype(np.float32), _unit(grey.astype(np.float32).ravel()))

    def likeness(self, other: Appearance) -> tuple[float, float]:
        """Of the colours, and of the shape: 1 for the same."""
        return float(self.colours @ other.colours), float(self.grey @ other.grey)

    def is_same(self, other: Appearance) -> bool:
        """Whether both are surely the same person."""
        colours, grey = self.likeness(other)
        return colours >= SAME_COLOURS and grey >= SAME_GREY

    def is_other(self, other: Appearance) -> bool:
        """Whether both are surely different people."""
        colours, grey = self.likeness(other)
        return colours < OTHER_COLOURS or grey < OTHER_GREY

    def mixed(self, new: Appearance, weight: float) -> Appearance:
        """The mean of both."""
        shares = (1 - weight) * self.colours**2 + weight * new.colours**2
        return Appearance(np.sqrt(shares), _unit((1 - weight) * self.grey + weight * new.grey))


def _unit(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    return centred / max(1e-6, float(np.linalg.norm(centred)))


@dataclass
class _Person:
    id: int
    start_s: float
    last_s: float
    look: Appearance | None
    faces: int = 0


class People:
    """Gives the tracks of a `FaceTracker` the ids of people.

    A track that begins with the looks of somebody who left is theirs. A track whose looks change to
    those of another person, as when two pass each other, is that person's from then on. Whoever is
    not surely known is somebody new.

    Attributes:
        dropped: people who are no longer remembered.
    """

    def __init__(self) -> None:
        self.dropped = 0
        self._people: dict[int, _Person] = {}
        self._of_track: dict[int, int] = {}  # person of each track that was seen lately
        self._is_now: dict[int, int] = {}  # people that turned out to be earlier ones
        self._next = 0

    def name(
        self, time_s: float, image: np.ndarray, boxes: Sequence[FaceBox], tracks: Sequence[int]
    ) -> list[int]:
        """The person of each face of the next frame."""
        looks = dict(zip(tracks, (Appearance.of(image, box) for box in boxes), strict=True))
        claimed = {self._of_track[t] for t in tracks if t in self._of_track}
        doubtful = {t for t in tracks if t not in self._of_track or self._doubts(t, looks[t])}
        claimed -= {self._of_track[t] for t in doubtful & self._of_track.keys()}
        for track, person in self._matches(doubtful, looks, claimed):
            self._assign(track, person)
        for track in tracks:
            if track not in self._of_track:
                self._of_track[track] = self._next
                self._people[self._next] = _Person(self._next, time_s, time_s, looks[track])
                self._next += 1
            self._see(self._people[self._of_track[track]], time_s, looks[track])
        self._forget(tracks)
        return [self._of_track[track] for track in tracks]

    def resolve(self, person: int) -> int:
        """The id that a person has by now."""
        while person in self._is_now:
            person = self._is_now[person]
        return person

    def tracks(self) -> tuple[Track, ...]:
        """Everybody who is remembered, in the order in which they appeared."""
        people = sorted(self._people.values(), key=lambda person: person.id)
        return tuple(Track(p.id, p.start_s, p.last_s, p.faces) for p in people)

    def _doubts(self, track: int, look: Appearance | None) -> bool:
        """Whether a track may show somebody else than before."""
        person = self._people[self._of_track[track]]
        if look is None or person.look is None:
            return False
        return person.faces < FIRST_FRAMES or look.is_other(person.look)

    def _matches(
        self, doubtful: set[int], looks: dict[int, Appearance | None], claimed: set[int]
    ) -> list[tuple[int, int]]:
        """Tracks with the people who they show, the likest first; each at most once."""
        pairs = []
        for track in doubtful:
            look = looks[track]
            for person in self._people.values():
                if look is None or person.look is None or person.id in claimed:
                    continue
                if look.is_same(person.look):
                    pairs.append((sum(look.likeness(person.look)), track, person.id))
        found: dict[int, int] = {}
        for _, track, person_id in sorted(pairs, reverse=True):
            if track not in found and person_id not in found.values():
                found[track] = person_id
        return list(found.items())

    def _assign(self, track: int, person: int) -> None:
        before = self._of_track.get(track)
        self._of_track[track] = person
        if before is None or before == person or before < person:
            return
        new = self._people[before]
        if new.faces <= FIRST_FRAMES:  # it was this person from the start
            old = self._people[person]
            old.faces += new.faces
            self._is_now[before] = person
            del self._people[before]

    def _see(self, person: _Person, time_s: float, look: Appearance | None) -> None:
        person.last_s, person.faces = time_s, person.faces + 1
        if look is None:
            return
        if person.look is None:
            person.look = look
        elif not look.is_other(person.look):
            person.look = person.look.mixed(look, LEARNING)

    def _forget(self, tracks: Sequence[int]) -> None:
        visible = {self._of_track[track] for track in tracks}
        if len(self._of_track) > MAX_PEOPLE:
            self._of_track = {track: self._of_track[track] for track in tracks}
        while len(self._people) > MAX_PEOPLE + len(visible):
            gone = [p for p in self._people.values() if p.id not in visible]
            del self._people[min(gone, key=lambda person: person.last_s).id]
            self.dropped += 1
        while len(self._is_now) > MAX_PEOPLE:
            del self._is_now[next(iter(self._is_now))]
