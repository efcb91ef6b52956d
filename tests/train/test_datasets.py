"""RAVDESS and FER-2013, in made trees of the published layouts and for real."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.paths import shared_data
from tests.train.made import face_picture, fer_tree
from train.datasets import (
    EMOTIONS,
    FACE_EMOTIONS,
    FACE_OF_EMOTION,
    LUNA_JIMENEZ_FOLDS,
    Faces,
    fer2013,
    ravdess_speech,
)

FER_TRAIN = 28_709
FER_VALID = {"angry": 467, "disgust": 56, "fear": 496, "happy": 895, "sad": 653, "surprise": 415,
             "neutral": 607}  # fmt: skip


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def faces(*numbers: int, label: int = 0) -> Faces:
    """Pictures that differ, or not, as their numbers do."""
    images = [np.full((48, 48), number, np.uint8) for number in numbers]
    return Faces(np.stack(images), np.full(len(numbers), label))


def test_the_names_say_emotion_and_actor(tmp_path: Path) -> None:
    tree(
        tmp_path,
        "Actor_01/03-01-01-01-01-01-01.wav",
        "Actor_01/03-01-08-02-02-02-01.wav",
        "Actor_24/03-01-05-01-02-01-24.flac",
    )
    found = ravdess_speech(tmp_path)
    assert [(r.path.stem, EMOTIONS[r.emotion], r.actor) for r in found] == [
        ("03-01-01-01-01-01-01", "neutral", 1),
        ("03-01-08-02-02-02-01", "surprised", 1),
        ("03-01-05-01-02-01-24", "angry", 24),
    ]
    assert all(r.path.is_file() for r in found)


def test_full_clips_are_speech_too(tmp_path: Path) -> None:
    tree(tmp_path, "Video_Speech_Actor_02/Actor_02/01-01-06-02-01-02-02.mp4")
    (found,) = ravdess_speech(tmp_path)
    assert (EMOTIONS[found.emotion], found.actor) == ("fearful", 2)


@pytest.mark.parametrize(
    "name",
    [
        "03-02-03-01-01-01-01.wav",  # song
        "01-02-03-01-01-01-01.mp4",  # song on video
        "02-01-03-01-01-01-01.mp4",  # video without sound
        "03-01-09-01-01-01-01.wav",  # no such emotion
        "03-01-00-01-01-01-01.wav",
        "03-01-03-01-01-01-25.wav",  # no such actor
        "03-01-03-01-01-01-00.wav",
        "03-01-03-01-01-01.wav",
        "03-01-03-01-01-01-01-copy.wav",
        "._03-01-03-01-01-01-01.wav",  # macOS leaves these
        "03-01-03-01-01-01-01.txt",
        "03-01-03-01-01-01-01.wav.md5",
        "03-01-03-01-01-01-01",
        "README.md",
    ],
)
def test_other_files_are_left_out(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "03-01-02-01-01-01-07.wav", name)
    assert [r.path.name for r in ravdess_speech(tmp_path)] == ["03-01-02-01-01-01-07.wav"]


def test_a_folder_that_is_named_like_a_recording_is_none(tmp_path: Path) -> None:
    tree(tmp_path, "03-01-02-01-01-01-07.wav/notes.txt", "03-01-02-01-01-01-08.wav")
    assert [r.actor for r in ravdess_speech(tmp_path)] == [8]


def test_no_recordings_are_an_error_that_names_the_folder(tmp_path: Path) -> None:
    tree(tmp_path, "Actor_01/03-02-01-01-01-01-01.wav")
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        ravdess_speech(tmp_path)


def test_every_actor_is_tested_in_one_fold() -> None:
    actors = [actor for fold in LUNA_JIMENEZ_FOLDS for actor in fold]
    assert sorted(actors) == list(range(1, 25))


def test_every_emotion_has_a_face() -> None:
    assert set(FACE_OF_EMOTION) == set(EMOTIONS)
    assert set(FACE_OF_EMOTION.values()) == set(FACE_EMOTIONS)


def test_ravdess_is_whole() -> None:
    found = ravdess_speech(shared_data("RAVDESS"))
    assert len(found) == len({r.path for r in found}) == 1439
    # 96 of neutral, which has no strong form; `03-01-03-01-02-02-07` is missing.
    expected = dict.fromkeys(EMOTIONS, 192) | {"neutral": 96, "happy": 191}
    assert Counter(EMOTIONS[r.emotion] for r in found) == expected
    assert Counter(r.actor for r in found) == dict.fromkeys(range(1, 25), 60) | {7: 59}
    assert all(r.path.parent.name == f"Actor_{r.actor:02}" for r in found)


def test_fer_pictures_come_with_their_folder_as_label(tmp_path: Path) -> None:
    fer_tree(tmp_path, each=3)
    found = fer2013(tmp_path)
    assert found.images.shape == (21, 48, 48)
    assert found.images.dtype == np.uint8
    assert found.labels.dtype == np.int64
    random = np.random.default_rng(0)
    for image, label in zip(found.images, found.labels, strict=True):
        np.testing.assert_array_equal(image, face_picture(int(label), random))


def test_a_colour_file_is_read_as_grey(tmp_path: Path) -> None:
    fer_tree(tmp_path, each=1)
    grey = fer2013(tmp_path).images[3]
    cv2.imwrite(str(tmp_path / FACE_EMOTIONS[3] / "0.png"), np.dstack([grey] * 3))
    np.testing.assert_array_equal(fer2013(tmp_path).images[3], grey)


@pytest.mark.parametrize("emotion", ["angry", "neutral"])
def test_a_class_without_pictures_is_an_error_that_names_it(tmp_path: Path, emotion: str) -> None:
    fer_tree(tmp_path, each=1)
    (tmp_path / emotion / "0.png").unlink()
    with pytest.raises(FileNotFoundError, match=emotion):
        fer2013(tmp_path)
    (tmp_path / emotion).rmdir()
    with pytest.raises(FileNotFoundError, match=emotion):
        fer2013(tmp_path)


@pytest.mark.parametrize("damage", ["size", "no picture"])
def test_a_file_that_is_no_face_is_an_error_that_names_it(tmp_path: Path, damage: str) -> None:
    fer_tree(tmp_path, each=2)
    path = tmp_path / "sad" / "1.png"
    if damage == "size":
        cv2.imwrite(str(path), np.zeros((48, 47), np.uint8))
    else:
        path.write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"sad/1\.png.*48x48"):
        fer2013(tmp_path)


def test_repeated_pictures_are_kept_once() -> None:
    found = faces(3, 1, 3, 2, 1).unique()
    assert found.images[:, 0, 0].tolist() == [3, 1, 2]


def test_no_picture_of_the_test_set_stays() -> None:
    train = Faces(
        np.concatenate([faces(1, 2, 3).images, faces(4, 2).images]), np.array([0, 1, 2, 3, 4])
    )
    left = train.without(faces(2, 9, label=5))  # whatever its label there
    assert left.images[:, 0, 0].tolist() == [1, 3, 4]
    assert left.labels.tolist() == [0, 2, 3]


def test_a_picture_that_differs_in_one_pixel_is_another() -> None:
    other = faces(1)
    other.images[0, 47, 47] += 1
    assert len(faces(1).without(other)) == 1


def test_nothing_is_left_of_a_set_without_itself() -> None:
    left = faces(1, 2).without(faces(2, 1))
    assert len(left) == 0
    assert left.images.shape == (0, 48, 48)


def test_fer_2013_is_whole() -> None:
    valid = fer2013(shared_data("FER2013", "valid"))
    assert {e: int((valid.labels == k).sum()) for k, e in enumerate(FACE_EMOTIONS)} == FER_VALID
    assert len(valid) == 3589
    folders = [shared_data("FER2013", "train", emotion) for emotion in FACE_EMOTIONS]
    assert sum(len(list(folder.glob("*.png"))) for folder in folders) == FER_TRAIN
    # Each has a face's spread of grey, but for the handful of blank ones known to be in it.
    assert (valid.images.std((1, 2)) > 5).mean() > 0.99
    assert len(valid.without(valid)) == 0
    unique = valid.unique()
    assert len({image.tobytes() for image in valid.images}) == len(unique) < len(valid)
