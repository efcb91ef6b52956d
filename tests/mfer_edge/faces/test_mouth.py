"""Motion of mouths on real faces."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from mfer_edge.faces.mouth import MAX_STEP_S, MouthMotion, mouth_change, upright_mouth
from mfer_edge.faces.mtcnn import FaceBox
from mfer_edge.model import Model
from tests.support.sessions import Stream


@pytest.fixture(scope="module")
def faces(model: Model, stream: Stream) -> list[tuple[np.ndarray, FaceBox]]:
    """Frames of an actor who speaks in the middle, with the face in each."""
    return [(f.image, model.detector(f.image)[0]) for f in stream.frames]


def motions(faces: list[tuple[np.ndarray, FaceBox]], step_s: float = 0.2) -> np.ndarray:
    mouths = MouthMotion()
    for index, (image, box) in enumerate(faces):
        mouths.push(index * step_s, image, [(7, box)])
    return mouths.within(7, 0.0, 100.0)


def test_speech_moves_more_than_silence(faces: list) -> None:
    moved = motions(faces)
    assert moved.shape == (len(faces) - 1, 3)
    silent, spoken = moved[moved[:, 1] < 1.0, 2], moved[(moved[:, 0] > 1.4) & (moved[:, 1] < 3), 2]
    assert np.mean(spoken) > 1.5 * np.mean(silent)


@pytest.mark.parametrize(
    "change",
    [
        lambda image: np.clip(0.6 * image.astype(float) + 30, 0, 255).astype(np.uint8),
        lambda image: cv2.resize(image, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA),
        lambda image: np.roll(image, (9, -14), (0, 1)),
    ],
    ids=["darker", "smaller", "elsewhere"],
)
def test_light_size_and_place_change_little(
    faces: list, model: Model, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    image, box = faces[0]
    other = change(image)
    mouth, changed = upright_mouth(image, box), upright_mouth(other, model.detector(other)[0])
    assert mouth is not None and changed is not None
    assert mouth_change(mouth, mouth) < 1e-6
    assert mouth_change(mouth, changed) < 0.2


def test_each_face_by_itself_and_only_what_is_asked_for(faces: list) -> None:
    mouths = MouthMotion()
    for index, (image, box) in enumerate(faces):
        mouths.push(index / 5, image, [(0, box), (1, faces[0][1])])
    assert len(mouths.within(0, 1.0, 2.0)) == 5
    assert len(mouths.within(2, 0.0, 9.0)) == 0
    mouths.drop(3.0)
    assert mouths.within(1, 0.0, 9.0)[0, 0] >= 3.0


def test_frames_far_apart_are_not_compared(faces: list) -> None:
    assert len(motions(faces, step_s=1.1 * MAX_STEP_S)) == 0


def test_a_face_without_landmarks() -> None:
    box = FaceBox(1, 1, 9, 9, 0.9)
    assert upright_mouth(np.zeros((20, 20, 3), np.uint8), box) is None
