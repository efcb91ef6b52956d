"""Face detection in a video: as if every frame were searched, in a fraction of the time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import pytest

from mfer_edge.faces import finder as finder_module
from mfer_edge.faces.finder import FIND_WITHIN_S, FaceFinder
from mfer_edge.faces.integral_image import IntegralImage
from mfer_edge.faces.mtcnn import FaceBox, FaceDetector
from mfer_edge.faces.newcomers import Newcomers
from mfer_edge.faces.tracker import overlap
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip

FRAME_S = 0.2


class CountingDetector(FaceDetector):
    """The detector; records which of its calls searched the whole frame."""

    def __init__(self, detector: FaceDetector) -> None:
        super().__init__(detector.pnet, detector.rnet, detector.onet, detector.options)
        self.searched: list[bool] = []

    def search(self, image: IntegralImage, near: Sequence[FaceBox] | None = None) -> list[FaceBox]:
        self.searched.append(near is None)
        return super().search(image, near)


def searched_whole(detector: FaceDetector, image: np.ndarray) -> list[FaceBox]:
    """Search a frame, uncounted."""
    return FaceDetector.search(detector, IntegralImage(image))


class CountedLooks(Newcomers):
    """Looks for new faces; records whether each of them found one."""

    found: ClassVar[list[bool]] = []

    def __call__(self, image: IntegralImage, known: Sequence[FaceBox]) -> bool:
        self.found.append(super().__call__(image, known))
        return self.found[-1]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each look for new faces, whether it found one."""
    monkeypatch.setattr(finder_module, "Newcomers", CountedLooks)
    monkeypatch.setattr(CountedLooks, "found", [])
    return CountedLooks.found


@pytest.fixture(scope="module")
def detector(pipeline: Pipeline) -> FaceDetector:
    return pipeline.model.detector


@pytest.fixture
def counting(detector: FaceDetector) -> CountingDetector:
    return CountingDetector(detector)


def frames_of(path: Path) -> list[Frame]:
    with Clip(path) as clip:
        return [item for item in clip if isinstance(item, Frame)]


@pytest.fixture(scope="module")
def scene(anger: Path) -> list[Frame]:
    return frames_of(anger)


@pytest.fixture(scope="module")
def other_scene(fear: Path) -> list[Frame]:
    return frames_of(fear)


def emptied(image: np.ndarray) -> np.ndarray:
    """A real frame without its face."""
    return np.tile(image[:, :60], (1, -(-image.shape[1] // 60), 1))[:, : image.shape[1]]


def find(finder: FaceFinder, images: Sequence[np.ndarray]) -> list[list[FaceBox]]:
    """Run the finder on five frames per second."""
    return [finder(image, index * FRAME_S) for index, image in enumerate(images)]


def moving(image: np.ndarray, index: int) -> np.ndarray:
    """A frame as a camera would give it that pans and zooms: by up to a quarter per frame."""
    height, width = image.shape[:2]
    zoom = 1 + 0.35 * np.sin(0.9 * index)
    across, down = 0.12 * width * np.sin(0.8 * index), 0.08 * height * np.cos(1.1 * index)
    move = [[zoom, 0, width / 2 * (1 - zoom) + across], [0, zoom, height / 2 * (1 - zoom) + down]]
    return cv2.warpAffine(image, np.array(move), (width, height))


class TestSameAsSearching:
    @pytest.mark.parametrize("moves", [False, True])
    def test_in_real_clips(
        self,
        counting: CountingDetector,
        scene: list[Frame],
        other_scene: list[Frame],
        moves: bool,
    ) -> None:
        overlaps = []
        for clip in (scene, other_scene):
            finder, search = FaceFinder(counting), FaceFinder(counting, find_within_s=0.0)
            for index, frame in enumerate(clip):
                image = moving(frame.image, index) if moves else frame.image
                [found], [expected] = (way(image, frame.time_s) for way in (finder, search))
                overlaps.append(overlap(found, expected))
        assert np.mean(np.array(overlaps) >= 0.9) >= 0.99
        # All but the first of the finder's calls, and none of the search's, were near the face.
        assert counting.searched.count(False) == len(scene) + len(other_scene) - 2

    def test_two_faces(
        self, counting: CountingDetector, scene: list[Frame], other_scene: list[Frame]
    ) -> None:
        images = [
            np.hstack([left.image, right.image])
            for left, right in zip(scene[:8], other_scene[:8], strict=True)
        ]
        for image, faces in zip(images, find(FaceFinder(counting), images), strict=True):
            expected = searched_whole(counting, image)
            assert len(faces) == len(expected) == 2
            for face, other in zip(faces, expected, strict=True):
                assert overlap(face, other) >= 0.9
        assert False in counting.searched

    def test_searching_every_frame(self, counting: CountingDetector, scene: list[Frame]) -> None:
        images = [frame.image for frame in scene[:4]]
        found = find(FaceFinder(counting, find_within_s=0.0), images)
        assert found == [searched_whole(counting, image) for image in images]
        assert counting.searched == [True] * 4

    def test_the_same_frames_give_the_same(
        self, detector: FaceDetector, scene: list[Frame]
    ) -> None:
        images = [frame.image for frame in scene[:6]]
        assert find(FaceFinder(detector), images) == find(FaceFinder(detector), images)


class TestNewFaces:
    @pytest.mark.parametrize("enters", range(1, 6))
    def test_found_within_half_a_second(
        self,
        detector: FaceDetector,
        scene: list[Frame],
        other_scene: list[Frame],
        enters: int,
    ) -> None:
        """While another face is tracked, at any time between two full searches."""
        finder, first_s = FaceFinder(detector), None
        for index, (left, right) in enumerate(zip(scene[:9], other_scene[:9], strict=True)):
            image = right.image if index >= enters else emptied(right.image)
            faces = finder(np.hstack([left.image, image]), index * FRAME_S)
            assert len(faces) in (1, 2)
            if len(faces) == 2 and first_s is None:
                first_s = index * FRAME_S
        # It came at some time since the frame before the first that shows it.
        assert first_s is not None
        assert first_s - (enters - 1) * FRAME_S <= FIND_WITHIN_S

    def test_found_at_once_where_no_face_was(
        self, detector: FaceDetector, scene: list[Frame]
    ) -> None:
        images = [frame.image for frame in scene[:6]]
        images[:3] = [emptied(image) for image in images[:3]]
        assert [len(faces) for faces in find(FaceFinder(detector), images)] == [0, 0, 0, 1, 1, 1]

    @pytest.mark.parametrize("frame_s", [1 / 30, 0.1, 0.2, 1 / 3, 1.0])
    def test_looks_often_enough_at_any_frame_rate(
        self,
        counting: CountingDetector,
        looks: list[bool],
        scene: list[Frame],
        frame_s: float,
    ) -> None:
        times_s = np.arange(round(2 / frame_s) + 2) * frame_s
        looks_s = self.looks_s(counting, looks, scene[0].image, times_s)
        assert np.diff(looks_s).max() <= max(FIND_WITHIN_S, frame_s) + 1e-9
        assert len(looks_s) <= 2 + 2 / max(frame_s, FIND_WITHIN_S - frame_s - 1e-9)

    def test_times_that_jitter(
        self, counting: CountingDetector, looks: list[bool], scene: list[Frame]
    ) -> None:
        """Frames of a 30 Hz camera at five a second come up to a thirtieth early or late."""
        times_s = np.arange(30) * FRAME_S + np.random.default_rng(5).uniform(0, 1 / 30, 30)
        looks_s = self.looks_s(counting, looks, scene[0].image, times_s)
        assert np.diff(looks_s).max() <= FIND_WITHIN_S
        assert len(looks_s) == 15
        assert counting.searched.count(True) == 1

    @staticmethod
    def looks_s(
        detector: CountingDetector, looks: list[bool], image: np.ndarray, times_s: np.ndarray
    ) -> list[float]:
        """Show a still at some times; give those at which all of it was looked at."""
        small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        finder, found = FaceFinder(detector), []
        for time_s in times_s.tolist():
            count = len(looks) + detector.searched.count(True)
            assert len(finder(small, time_s)) == 1
            found += [time_s] * (len(looks) + detector.searched.count(True) - count)
        return found

    def test_is_searched_for_at_once_when_it_is_seen(
        self,
        counting: CountingDetector,
        looks: list[bool],
        scene: list[Frame],
        other_scene: list[Frame],
    ) -> None:
        """Its box, and every other, is then that of a search of the whole frame."""
        images = [
            np.hstack([left.image, right.image if index >= 2 else emptied(right.image)])
            for index, (left, right) in enumerate(zip(scene[:5], other_scene[:5], strict=True))
        ]
        found = find(FaceFinder(counting), images)
        assert looks == [True, False]
        assert found[2] == searched_whole(counting, images[2])
        assert [len(faces) for faces in found] == [1, 1, 2, 2, 2]


class TestLoss:
    def test_a_face_that_goes_and_comes_back(
        self, counting: CountingDetector, scene: list[Frame]
    ) -> None:
        images = [frame.image for frame in scene[:8]]
        images[3:5] = [emptied(image) for image in images[3:5]]
        found = find(FaceFinder(counting), images)
        assert [len(faces) for faces in found] == [1, 1, 1, 0, 0, 1, 1, 1]
        assert overlap(found[5][0], searched_whole(counting, images[5])[0]) >= 0.9

    def test_a_face_that_jumps_is_searched_for(
        self, counting: CountingDetector, scene: list[Frame]
    ) -> None:
        image = scene[0].image
        [face] = searched_whole(counting, image)
        jumped = np.roll(image, round(1.5 * (face.right - face.left)), axis=1)
        found = find(FaceFinder(counting), [image, jumped])
        assert found[1] == searched_whole(counting, jumped)
        assert counting.searched == [True, False, True]

    def test_the_one_of_two_that_stays_is_tracked_on(
        self, counting: CountingDetector, scene: list[Frame], other_scene: list[Frame]
    ) -> None:
        images = [
            np.hstack([left.image, right.image if index < 1 else emptied(right.image)])
            for index, (left, right) in enumerate(zip(scene[:4], other_scene[:4], strict=True))
        ]
        found = find(FaceFinder(counting), images)
        assert [len(faces) for faces in found] == [2, 1, 1, 1]
        assert counting.searched == [True, False, True, False, False]

    def test_frames_of_another_size(self, detector: FaceDetector, scene: list[Frame]) -> None:
        """A camera that changes its resolution."""
        finder, image = FaceFinder(detector), scene[0].image
        for index, factor in enumerate((1.0, 0.4, 1.0)):
            resized = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            [found] = finder(resized, index * FRAME_S)
            assert overlap(found, detector(resized)[0]) >= 0.9
