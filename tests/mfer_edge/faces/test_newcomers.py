"""Whether a frame shows faces beside the known ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mfer_edge.faces.mtcnn import FaceBox, FaceDetector
from mfer_edge.faces.newcomers import has_newcomer
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
