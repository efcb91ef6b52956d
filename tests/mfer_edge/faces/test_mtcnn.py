"""MTCNN finds the faces that facenet-pytorch finds."""

from __future__ import annotations

import functools
import subprocess
import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mfer_edge.bundle import Bundle
from mfer_edge.engines.onnx import OnnxEngine, providers_for
from mfer_edge.faces.integral_image import IntegralImage
from mfer_edge.faces.mtcnn import (
    BATCH,
    FaceBox,
    FaceDetector,
    MtcnnOptions,
)
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from tests.support.oracles import facenet_boxes
from tests.support.paths import shared_data

CLIPS = [
    "01-01-01-01-01-02-01.mp4",
    "01-01-05-02-02-01-01.mp4",
    "01-01-01-01-01-02-04.mp4",
    "01-01-06-02-01-02-04.mp4",
]


NETWORKS = ("pnet", "rnet", "onet")
HEIGHTS = (72, 96, 120, 192, 240)  # of the frames in the group image; a face is half as high


@pytest.fixture(scope="session")
def engines() -> dict[str, OnnxEngine]:
    folder = Bundle.open().folder
    providers = providers_for("cpu")
    return {name: OnnxEngine(folder / f"{name}.onnx", providers, threads=1) for name in NETWORKS}


@pytest.fixture(scope="session")
def detector(engines: dict[str, OnnxEngine]) -> FaceDetector:
    return FaceDetector.of(engines)


def with_options(detector: FaceDetector, options: MtcnnOptions) -> FaceDetector:
    return FaceDetector(detector.pnet, detector.rnet, detector.onet, options)


@functools.cache
def frames(name: str) -> list[np.ndarray]:
    """A image for each second of a real clip, 720p, with one face."""
    with Clip(shared_data("RAVDESS_AV", name), frame_rate=1.0) as clip:
        return [item.image for item in clip if isinstance(item, Frame)]


@functools.cache
def group() -> tuple[np.ndarray, int]:
    """A group image, made of frames of both actors at several sizes, and how many are in it."""
    canvas = np.full((sum(HEIGHTS), 1280, 3), 90, np.uint8)
    top = count = 0
    for height in HEIGHTS:
        width = height * 16 // 9
        for left in range(0, 1280 - width + 1, width):
            frame = frames(CLIPS[count % 4])[count % 3]
            small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            canvas[top : top + height, left : left + width] = small
            count += 1
        top += height
    return canvas, count


def corners(face: FaceBox) -> np.ndarray:
    return np.array([face.left, face.top, face.right, face.bottom])


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - common)


def check_same_faces(detector: FaceDetector, image: np.ndarray) -> list[FaceBox]:
    """Assert that facenet-pytorch finds the same faces in a image; give them."""
    faces = detector(image)
    boxes, probability, landmarks = facenet_boxes(image, detector.options)
    assert len(faces) == len(boxes)
    left = list(range(len(boxes)))
    for face in faces:
        same = max(left, key=lambda index: overlap(corners(face), boxes[index]))
        left.remove(same)
        assert overlap(corners(face), boxes[same]) >= 0.95
        assert face.probability == pytest.approx(probability[same], abs=0.01)
        assert face.landmarks is not None
        np.testing.assert_allclose(
            face.landmarks, landmarks[same], atol=0.02 * (face.right - face.left)
        )
    return faces


@pytest.mark.parametrize("name", CLIPS)
def test_finds_the_same_face_as_facenet_in_a_real_clip(detector: FaceDetector, name: str) -> None:
    for image in frames(name):
        assert len(check_same_faces(detector, image)) == 1


def test_finds_the_same_faces_as_facenet_from_20_pixels(detector: FaceDetector) -> None:
    assert check_same_faces(with_options(detector, MtcnnOptions(min_face=20)), frames(CLIPS[1])[0])


def test_finds_the_same_faces_as_facenet_with_other_options(detector: FaceDetector) -> None:
    options = MtcnnOptions(min_face=31.5, thresholds=(0.5, 0.6, 0.9), factor=0.6)
    assert check_same_faces(with_options(detector, options), group()[0])


@pytest.mark.parametrize("min_face", [None, 24.0])
def test_finds_the_same_faces_as_facenet_in_a_group(
    detector: FaceDetector, min_face: float | None
) -> None:
    image, count = group()
    few = with_options(detector, MtcnnOptions(min_face=min_face))
    assert len(check_same_faces(few, image)) == count


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_finds_a_face_that_the_border_cuts(detector: FaceDetector, side: str) -> None:
    image = frames(CLIPS[2])[1]
    face = detector(image)[0]
    across, down = round(face.right - face.left) // 4, round(face.bottom - face.top) // 4
    cut = {
        "left": image[:, round(face.left) + across :],
        "right": image[:, : round(face.right) - across],
        "top": image[round(face.top) + down :],
        "bottom": image[: round(face.bottom) - down],
    }[side]
    faces = check_same_faces(detector, np.ascontiguousarray(cut))
    assert len(faces) == 1
    height, width = cut.shape[:2]
    beyond = {
        "left": faces[0].left < 1,
        "right": faces[0].right > width - 1,
        "top": faces[0].top < 1,
        "bottom": faces[0].bottom > height - 1,
    }
    assert beyond[side]


def test_gives_the_largest_face_first(detector: FaceDetector) -> None:
    areas = [face.area for face in detector(group()[0])]
    assert len(areas) > 1
    assert areas == sorted(areas, reverse=True)


def test_landmarks_are_where_they_are_in_a_face(detector: FaceDetector) -> None:
    for face in detector(group()[0]):
        assert face.landmarks is not None
        (eye, other_eye, nose, mouth, other_mouth) = face.landmarks
        assert face.left < eye[0] < nose[0] < other_eye[0] < face.right
        assert mouth[0] < other_mouth[0]
        assert face.top < max(eye[1], other_eye[1]) < nose[1]
        assert nose[1] < min(mouth[1], other_mouth[1]) < face.bottom


def test_grey_image_is_one_with_three_equal_channels(detector: FaceDetector) -> None:
    grey = cv2.cvtColor(frames(CLIPS[0])[0], cv2.COLOR_BGR2GRAY)
    faces = detector(grey)
    assert len(faces) == 1
    assert faces == detector(np.repeat(grey[:, :, None], 3, axis=2))


def test_part_of_a_larger_image_needs_no_copy(detector: FaceDetector) -> None:
    part = frames(CLIPS[0])[0][40:700, 300:1000]
    assert detector(part) == detector(part.copy())


def test_one_stage_alone_finds_a_face_again(detector: FaceDetector) -> None:
    before, now = frames(CLIPS[3])[1], frames(CLIPS[3])[2]
    old, new = detector(before)[0], detector(now)[0]
    centre, half = (corners(old)[:2] + corners(old)[2:]) / 2, (old.bottom - old.top) / 2
    square = np.concatenate([centre - half, centre + half]).astype(np.float32)[None]
    found = detector.verify(IntegralImage(now), square)
    assert len(found) == 1
    assert overlap(corners(found[0]), corners(new)) > 0.7


def test_more_candidates_than_one_call_takes(detector: FaceDetector) -> None:
    image = frames(CLIPS[0])[0]
    face = detector(image)[0]
    boxes = np.tile(corners(face).astype(np.float32), (2 * BATCH + 3, 1))
    boxes += np.linspace(-4, 4, len(boxes), dtype=np.float32)[:, None]
    image = IntegralImage(image)
    assert len(detector.verify(image, boxes)) == 1
    assert len(detector.refine(image, boxes)) == 1


def test_boxes_outside_the_image_are_no_faces(detector: FaceDetector) -> None:
    image = IntegralImage(np.zeros((60, 80, 3), np.uint8))
    boxes = np.array(
        [[-50, -50, -10, -10], [90, 0, 130, 40], [0, 70, 40, 110], [10, 10, 10, 10]], np.float32
    )
    assert detector.refine(image, boxes).shape == (0, 4)
    assert detector.verify(image, boxes) == []


TINY = [(0, 0), (0, 9), (1, 1), (1, 900), (900, 1), (11, 11), (12, 12), (13, 640), (19, 19)]
SMALL = [(20, 20), (21, 33), (240, 320), (720, 1280)]


@pytest.mark.parametrize("shape", TINY + SMALL)
@pytest.mark.parametrize("level", [0, 128, 255])
def test_nothing_is_found_where_there_is_nothing(
    detector: FaceDetector, shape: tuple[int, int], level: int
) -> None:
    assert detector(np.full((*shape, 3), level, np.uint8)) == []
    assert detector(np.full(shape, level, np.uint8)) == []


@settings(max_examples=30)
@given(
    height=st.integers(1, 120),
    width=st.integers(1, 120),
    min_face=st.sampled_from([None, 12.0, 20.0, 40.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_noise_is_no_trouble(
    detector: FaceDetector, height: int, width: int, min_face: float | None, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    # Thresholds so low that every stage has much to do.
    options = MtcnnOptions(min_face=min_face, thresholds=(0.1, 0.05, 0.05))
    for face in with_options(detector, options)(image):
        assert np.isfinite(corners(face)).all()
        assert 0.05 < face.probability <= 1


def test_smallest_face_follows_the_image() -> None:
    assert MtcnnOptions().smallest(720, 1280) == pytest.approx(20 / 0.709**3)
    assert MtcnnOptions().smallest(1280, 720) == MtcnnOptions().smallest(720, 1280)
    assert MtcnnOptions().smallest(240, 320) == 20
    assert MtcnnOptions(min_face=35).smallest(720, 1280) == 35


@given(side=st.integers(12, 5000), factor=st.floats(0.5, 0.9))
def test_smallest_face_is_a_level_of_facenets_pyramid(side: int, factor: float) -> None:
    smallest = MtcnnOptions(factor=factor).smallest(side, 2 * side)
    levels = np.log(20 / smallest) / np.log(factor)
    assert levels == pytest.approx(round(levels), abs=1e-6) and levels > -0.5
    wanted = max(20.0, side / 15)
    assert (
        wanted * factor**0.5 <= smallest * 1.000001 and smallest * factor**0.5 <= wanted * 1.000001
    )


@pytest.mark.parametrize("name", CLIPS)
def test_box_is_that_of_facenets_whole_pyramid(detector: FaceDetector, name: str) -> None:
    """Which starts at 20 pixels: the levels that are left out decide nothing about a large face."""
    for image in frames(name)[1:3]:
        [box], _, _ = facenet_boxes(image, MtcnnOptions(min_face=20))
        assert overlap(corners(detector(image)[0]), box) >= 0.95


@pytest.mark.parametrize("side", [48, 60, 100, 300])
def test_finds_faces_from_a_fifteenth_of_the_image(detector: FaceDetector, side: int) -> None:
    for name in CLIPS:
        image = frames(name)[0]
        face = detector(image)[0]
        scale = side / (face.bottom - face.top)
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        small = small[:720, :1280]
        scene = np.full((720, 1280, 3), 90, np.uint8)
        scene[: small.shape[0], -small.shape[1] :] = small
        [found] = detector(scene)
        assert found.bottom - found.top == pytest.approx(side, rel=0.2)


class TestNear:
    """What is found near a face of the frame before is what the whole image gives."""

    @pytest.mark.parametrize("name", CLIPS)
    def test_in_real_frames(self, detector: FaceDetector, name: str) -> None:
        for before, image in pairwise(frames(name)):  # a second apart
            [near], [face] = detector(image, detector(before)), detector(image)
            assert overlap(corners(near), corners(face)) >= 0.9

    @pytest.mark.parametrize("zoom", [0.8, 1.25])
    @pytest.mark.parametrize("across", [-0.3, 0.3])
    def test_of_a_face_that_moves(self, detector: FaceDetector, zoom: float, across: float) -> None:
        image = frames(CLIPS[1])[1]
        before = detector(image)
        shift = across * (before[0].right - before[0].left)
        height, width = image.shape[:2]
        move = np.array(
            [[zoom, 0, width / 2 * (1 - zoom) + shift], [0, zoom, height / 2 * (1 - zoom)]]
        )
        moved = cv2.warpAffine(image, move, (width, height))
        [near], [face] = detector(moved, before), detector(moved)
        assert overlap(corners(near), corners(face)) >= 0.9
        assert overlap(corners(near), corners(before[0])) < 0.85

    def test_finds_all_faces_of_a_crowd(self, detector: FaceDetector) -> None:
        image, count = group()
        few = with_options(detector, MtcnnOptions(min_face=24.0))
        everyone = few(image)
        near = few(image, everyone)
        assert len(near) == len(everyone) == count
        for face, other in zip(near, everyone, strict=True):
            assert overlap(corners(face), corners(other)) >= 0.9

    def test_looks_nowhere_else(self, detector: FaceDetector) -> None:
        left, right = frames(CLIPS[0])[0], frames(CLIPS[2])[0]
        both = np.hstack([left, right])
        largest, other = detector(both)
        for known in (largest, other):
            [found] = detector(both, [known])
            assert overlap(corners(found), corners(known)) >= 0.9
        assert detector(both, []) == []

    @pytest.mark.parametrize("box", [(-900, -900, -700, -700), (4000, 0, 4100, 90), (9, 9, 9, 9)])
    def test_a_box_that_makes_no_sense(
        self, detector: FaceDetector, box: tuple[float, float, float, float]
    ) -> None:
        assert detector(frames(CLIPS[0])[0], [FaceBox(*box, 1.0)]) == []


def test_runtime_does_not_import_pytorch() -> None:
    code = "import sys, mfer_edge.faces.mtcnn; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "'mfer_edge.faces.mtcnn'" in loaded.stdout
    for heavy in ("torch", "facenet_pytorch", "export", "train", "onnx"):
        assert f"'{heavy}'" not in loaded.stdout
