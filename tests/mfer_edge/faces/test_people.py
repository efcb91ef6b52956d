"""People keep their ids: when they pass each other, when they leave and return."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import cv2
import numpy as np
import pytest

from mfer_edge.faces.mtcnn import FaceBox, FaceDetector
from mfer_edge.faces.people import MAX_PEOPLE, People
from mfer_edge.faces.stream import FaceStream
from mfer_edge.model import Model
from mfer_edge.sources.base import Frame
from tests.support.sessions import Stream

SIZE = (110, 142)  # of a head in the scene: width and height
WIDTH, HEIGHT, TOP = 580, 220, 30
FRAMES = 34
AWAY = 2000.0  # a place outside the scene
OVAL = cv2.ellipse(np.zeros((142, 110), np.uint8), (55, 74), (52, 66), 0, 0, 360, 255, -1) > 0

Path_ = Callable[[float], float]
"""From a share of the time to the left edge of a head."""


def heads(stream: Stream, detector: FaceDetector) -> list[np.ndarray]:
    """Cut the head out of some frames."""
    found = []
    for frame in stream.frames[4:14]:
        box = detector(frame.image)[0]
        side = box.right - box.left
        top, left = max(0, int(box.top - 0.4 * side)), max(0, int(box.left - 0.35 * side))
        part = frame.image[top : int(box.bottom + 0.5 * side), left : int(box.right + 0.35 * side)]
        found.append(cv2.resize(part, SIZE))
    return found


@pytest.fixture(scope="module")
def two(model: Model, stream: Stream, other_stream: Stream) -> list[list[np.ndarray]]:
    detector = model.detector
    return [heads(one, detector) for one in (stream, other_stream)]


def scene(two: list[list[np.ndarray]], paths: list[Path_]) -> Iterator[tuple[Frame, list[float]]]:
    """Frames in which heads move; with each, the middle of each head. The last is in front."""
    rng = np.random.default_rng(3)
    wall = cv2.GaussianBlur(rng.integers(60, 200, (HEIGHT, WIDTH, 3), np.uint8), (0, 0), 25)
    for index in range(FRAMES):
        image = wall.copy()
        places = [path(index / (FRAMES - 1)) for path in paths]
        for head, place in zip(two, places, strict=True):
            left, right = max(0, int(place)), min(WIDTH, int(place) + SIZE[0])
            if left < right:
                inside = slice(left - int(place), right - int(place))
                area = image[TOP : TOP + SIZE[1], left:right]
                area[:] = np.where(OVAL[:, inside, None], head[index % len(head)][:, inside], area)
        yield Frame(index / 5, image), [place + SIZE[0] / 2 for place in places]


def ids(
    model: Model, two: list[list[np.ndarray]], paths: list[Path_]
) -> tuple[list[set], list[int]]:
    """The ids that each person had where they stood alone; and of any others, the frames."""
    faces = FaceStream(model.detector, model.manifest.crop, follow=True)
    seen: list[set[int]] = [set() for _ in paths]
    found = []
    for frame, middles in scene(two, paths):
        found.append((faces.push(frame), middles))
    for frame, middles in found:
        for track, group in faces.by_track([frame]).items():
            middle = (group[0].box.left + group[0].box.right) / 2
            nearest = min(range(len(middles)), key=lambda i: abs(middles[i] - middle))
            if abs(middles[0] - middles[1]) > SIZE[0]:
                seen[nearest].add(track)
    known = set.union(*seen)
    return seen, [track.faces for track in faces.tracks() if track.track not in known]


def test_they_pass_each_other(model: Model, two: list) -> None:
    """While one hides half of the other, that half may count as somebody new."""
    seen, others = ids(model, two, [lambda t: 420 - 390 * t, lambda t: 30 + 390 * t])
    assert sorted(seen, key=min) == [{0}, {1}] and sum(others) <= 3


def test_one_leaves_and_returns(model: Model, two: list) -> None:
    def out_and_back(t: float) -> float:
        return 330 if t < 0.3 else AWAY if t < 0.7 else 340

    seen, others = ids(model, two, [lambda t: 60, out_and_back])
    assert sorted(seen, key=min) == [{0}, {1}] and others == []


def test_another_comes_to_the_same_place(model: Model, two: list) -> None:
    faces = FaceStream(model.detector, model.manifest.crop, follow=True)
    paths: list[Path_] = [
        lambda t: 200 if t < 0.4 else AWAY,
        lambda t: 200 if t > 0.6 else AWAY,
    ]
    for frame, _ in scene(two, paths):
        faces.push(frame)
    one, other = faces.tracks()
    assert one.end_s < 0.45 * FRAMES / 5 and other.start_s > 0.55 * FRAMES / 5


def test_without_following_ids_are_the_trackers(model: Model, two: list) -> None:
    faces = FaceStream(model.detector, model.manifest.crop)
    for frame, _ in scene(two, [lambda t: 60, lambda t: 330 if not 0.3 < t < 0.7 else AWAY]):
        faces.push(frame)
    assert len(faces.tracks()) > 2


def test_memory_is_bounded() -> None:
    people, rng = People(), np.random.default_rng(0)
    points = np.array([[10, 10], [22, 10], [16, 16], [11, 24], [21, 24]], np.float32)
    for index in range(2 * MAX_PEOPLE):
        image = cv2.resize(rng.integers(0, 255, (4, 4, 3), np.uint8), (32, 32))
        people.name(index * 2.0, image, [FaceBox(2, 2, 30, 30, 1.0, points)], [index])
    assert len(people.tracks()) <= MAX_PEOPLE + 1
    assert people.dropped > 0


def test_a_face_outside_the_frame() -> None:
    box = FaceBox(-90, -90, -50, -50, 1.0, np.zeros((5, 2), np.float32))
    assert People().name(0.0, np.zeros((40, 40, 3), np.uint8), [box], [3]) == [0]
