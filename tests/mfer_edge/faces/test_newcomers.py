"""Whether a frame shows faces beside the known ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from mfer_edge.faces.integral_image import IntegralImage
from mfer_edge.faces.mtcnn import FaceBox, FaceDetector, LevelPart
from mfer_edge.faces.newcomers import CHANGE, Newcomers
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip


@pytest.fixture(scope="module")
def detector(pipeline: Pipeline) -> FaceDetector:
    return pipeline.model.detector


@pytest.fixture(scope="module")
def images(anger: Path, fear: Path) -> list[np.ndarray]:
    """A frame a second of two real clips."""
    found = []
    for path in (anger, fear):
        with Clip(path, frame_rate=1.0) as clip:
            found += [item.image for item in clip if isinstance(item, Frame)]
    return found


def has_newcomer(detector: FaceDetector, image: np.ndarray, known: Sequence[FaceBox]) -> bool:
    """Look at a frame for the first time."""
    return Newcomers(detector)(IntegralImage(image), known)


def test_a_face_is_new_unless_it_is_known(detector: FaceDetector, images: list[np.ndarray]) -> None:
    for image in images:
        faces = detector(image)
        assert len(faces) == 1
        assert has_newcomer(detector, image, [])
        assert not has_newcomer(detector, image, faces)


@pytest.mark.parametrize("side", [48, 70, 100, 150, 220, 320, 450])
@pytest.mark.parametrize("corner", ["top left", "bottom right"])
def test_a_face_of_any_size_and_place(
    detector: FaceDetector, images: list[np.ndarray], side: int, corner: str
) -> None:
    """From a fifteenth of the frame, though it looks at every other level alone."""
    for image in (images[0], images[-1]):
        [face] = detector(image)
        scale = side / (face.bottom - face.top)
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        small = small[:720, :1280]
        scene = np.full((720, 1280, 3), 90, np.uint8)
        if corner == "top left":
            scene[: small.shape[0], : small.shape[1]] = small
        else:
            scene[-small.shape[0] :, -small.shape[1] :] = small
        found = detector(scene)
        assert len(found) == 1
        assert has_newcomer(detector, scene, [])
        assert not has_newcomer(detector, scene, found)


def test_a_face_right_beside_a_known_one(detector: FaceDetector, images: list[np.ndarray]) -> None:
    """Cheek to cheek, in one frame."""
    left, right = images[0], images[-1]
    [face], [other] = detector(left), detector(right)
    height = min(left.shape[0], right.shape[0])
    both = np.hstack(
        [left[:height, : round(face.right)], right[:height, max(0, round(other.left)) :]]
    )
    found = detector(both)
    assert len(found) == 2
    for known in found:
        assert has_newcomer(detector, both, [known])
    assert not has_newcomer(detector, both, found)


@pytest.mark.parametrize("shape", [(1, 1), (11, 400), (12, 12), (13, 640), (240, 13)])
def test_nothing_is_in_a_plain_image(detector: FaceDetector, shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 128, np.uint8)
    assert not has_newcomer(detector, image, [])
    assert not has_newcomer(detector, image, [FaceBox(-5, -5, 900, 900, 1.0)])


class CountingDetector(FaceDetector):
    """The detector; counts the pixels that P-Net looks at."""

    pixels = 0

    def propose(self, parts: Sequence[LevelPart]) -> np.ndarray:
        self.pixels += sum(part.pixels[..., 0].size for part in parts)
        return super().propose(parts)


@pytest.fixture
def counting(detector: FaceDetector) -> CountingDetector:
    return CountingDetector(detector.pnet, detector.rnet, detector.onet, detector.options)


def pixels_of(detector: CountingDetector, newcomers: Newcomers, image: np.ndarray) -> int:
    """Pixels that a look at the next frame takes, in which nobody is new."""
    before = detector.pixels
    assert not newcomers(IntegralImage(image), [FaceBox(-99, -99, 9999, 9999, 1.0)])
    return detector.pixels - before


class TestChanges:
    """P-Net looks at what has changed since it looked there last."""

    def test_noise_is_no_change(self, counting: CountingDetector, images: list[np.ndarray]) -> None:
        newcomers, rng = Newcomers(counting), np.random.default_rng(1)
        assert pixels_of(counting, newcomers, images[0]) > 0
        noise = rng.normal(0, CHANGE, images[0].shape)
        noisy = (images[0] + noise).clip(0, 255).astype(np.uint8)
        assert pixels_of(counting, newcomers, noisy) == 0

    def test_looks_where_something_moves(
        self, counting: CountingDetector, images: list[np.ndarray]
    ) -> None:
        newcomers, moved = Newcomers(counting), images[0].copy()
        everything = pixels_of(counting, newcomers, images[0])
        height, width = moved.shape[:2]
        moved[: height // 6, : width // 6] ^= 0x80
        assert 0 < pixels_of(counting, newcomers, moved) < everything / 3
        newcomers.forget()
        assert pixels_of(counting, newcomers, moved) == everything

    def test_looks_at_frames_of_another_size_whole(
        self, counting: CountingDetector, images: list[np.ndarray]
    ) -> None:
        small = cv2.resize(images[0], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        newcomers = Newcomers(counting)
        pixels_of(counting, newcomers, images[0])
        fresh = pixels_of(counting, Newcomers(counting), small)
        assert pixels_of(counting, newcomers, small) == fresh

    @pytest.mark.parametrize("steps", [4, 40])
    def test_a_face_that_fades_in(
        self, detector: FaceDetector, images: list[np.ndarray], steps: int
    ) -> None:
        """Slower than any step counts as a change: found nearly as soon as by a fresh look."""
        face, empty = images[0].astype(np.float32), np.tile(images[0][:, :60], (1, 99, 1))
        newcomers, empty = Newcomers(detector), empty[:, : face.shape[1]].astype(np.float32)
        found, fresh = [], []
        for share in np.linspace(0, 1, steps + 1):
            image = (share * face + (1 - share) * empty).astype(np.uint8)
            found.append(newcomers(IntegralImage(image), []))
            fresh.append(has_newcomer(detector, image, []))
        assert any(fresh) and not fresh[0] and not found[0]
        assert found.index(True) - fresh.index(True) <= np.ceil(0.1 * steps)
