"""What training needs of an index: which entries, their labels and features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.train.synthetic import entry, face_image, voice, whisper_file, write_film, write_sound
from train.data.context import (
    DataContext,
    class_indices,
    clips,
    first_stage_clips,
    full_label_clips,
    images,
)
from train.data.features import fingerprint
from train.data.index import DatasetError, Entry
from train.labels import EMOTIONS, FOUR_EMOTIONS
from train.models.registry import FACE_BACKBONES, FER_FACE, SPEECH_BACKBONES, WHISPER
from train.models.weights import CheckpointError
from train.presets import COMPACT, PAPER
from train.train_face import FaceClassifier

PRESET = replace(COMPACT, views=2, face_views=2, audio_arm="gru")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published weights, in their forms."""
    folder = tmp_path_factory.mktemp("weights")
    whisper_file(folder / WHISPER)
    torch.manual_seed(1)
    save_file(FaceClassifier().state_dict(), folder / FER_FACE)
    return folder


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """A voice, a film with both, a silent film, and a picture."""
    folder = tmp_path_factory.mktemp("own")
    cv2.imwrite(str(folder / "face.png"), face_image(3, np.random.default_rng(0)))
    return [
        entry(write_sound(folder / "voice.wav", voice(0.6))),
        entry(write_film(folder / "film.mp4", voice(0.6), 1), "av"),
        entry(write_film(folder / "silent.mp4", None, 2), "video"),
        entry(folder / "face.png", "image"),
    ]


class TestDataContext:
    def test_features_are_those_of_the_published_backbones(
        self, weights: Path, listed: list[Entry], tmp_path: Path
    ) -> None:
        context = DataContext(PRESET, weights, tmp_path)
        faces, voices = context.face_features(listed), context.voice_features(listed)
        assert voices.present.tolist() == [True, True, False, False]
        assert faces.present.tolist() == [False, True, True, True]
        assert faces.views == voices.views == 2
        heard, seen = context.inputs(listed[0]).speech, context.inputs(listed[2]).faces
        with torch.inference_mode():
            states = SPEECH_BACKBONES["whisper-tiny-en"].load(weights)(
                torch.from_numpy(heard)[None]
            )[0]
            embedded = FACE_BACKBONES["fer-resnet"].load(weights)(torch.from_numpy(seen)[:, None])
        np.testing.assert_allclose(voices.sequences[0][0], states.half(), rtol=1e-2, atol=1e-3)
        np.testing.assert_allclose(faces.sequences[2][0], embedded.half(), rtol=2e-3, atol=2e-5)

    def test_only_the_weights_that_are_needed_must_be_there(
        self, weights: Path, listed: list[Entry], tmp_path: Path
    ) -> None:
        for name, there, missing in ((WHISPER, "voice", "face"), (FER_FACE, "face", "voice")):
            folder = tmp_path / there
            folder.mkdir()
            (folder / name).symlink_to(weights / name)
            context = DataContext(PRESET, folder, tmp_path / "cache")
            features = {"voice": context.voice_features, "face": context.face_features}
            assert features[there](listed).present.any()
            with pytest.raises(CheckpointError, match=f"{folder}/.*: not there"):
                features[missing](listed)

    def test_files_that_have_none_need_no_backbone(
        self, listed: list[Entry], tmp_path: Path
    ) -> None:
        context = DataContext(PRESET, tmp_path / "nowhere", tmp_path)
        assert context.voice_features(listed[2:]).present.tolist() == [False, False]
        assert context.face_features(listed[:1]).present.tolist() == [False]

    def test_how_much_is_to_be_done_is_told_once(
        self,
        weights: Path,
        listed: list[Entry],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        context = DataContext(PRESET, weights, tmp_path)
        context.voice_features(listed, "voices, first stage")
        assert capsys.readouterr().out.startswith("voices, first stage: 4 views to go: about ")
        context.voice_features(listed, "voices, first stage")
        assert capsys.readouterr() == ("", "")

    def test_random_backbones_are_the_same_every_time_and_not_in_training(
        self, tmp_path: Path
    ) -> None:
        prints = []
        for seed in (1, 2):
            torch.manual_seed(seed)  # whatever came before
            context = DataContext(PRESET, tmp_path / "nowhere", tmp_path, random_init=True)
            prints.append((fingerprint(context.face), fingerprint(context.speech)))
            assert not context.face.training and not context.speech.training
        assert prints[0] == prints[1]

    @pytest.mark.parametrize(("preset", "size"), [(COMPACT, 48), (PAPER, 224)])
    def test_faces_come_in_the_backbone_s_size(
        self, preset: object, size: int, listed: list[Entry], tmp_path: Path
    ) -> None:
        context = DataContext(preset, tmp_path, tmp_path)  # type: ignore[arg-type]
        assert context.inputs(listed[3]).faces.shape == (1, size, size)


def unread(label: str, dataset: str, kind: str = "audio", split: str = "") -> Entry:
    """An entry whose file need not exist."""
    return Entry(Path("/data/x"), -1, dataset, kind, label, "", "", split, "", "")


MIXED = [
    unread("happy", "ravdess"),
    unread("fearful", "crema-d"),
    unread("sad", "crema-d"),
    unread("calm", "own", "av"),
    unread("angry", "shemo"),
    unread("angry", "urdu", "video"),
    unread("neutral", "saudi"),
    unread("happy", "fer2013", "image", "train"),
    unread("sad", "fer2013", "image", "test"),
    unread("sad", "ckplus", "image"),
    unread("disgust", "ravdess", "video"),
]


@pytest.mark.parametrize(
    ("choose", "numbers"),
    [
        (clips, [0, 1, 2, 3, 4, 5, 6, 10]),
        (full_label_clips, [0, 3, 10]),
        (first_stage_clips, [2, 4, 6]),
        (lambda entries: images(entries, "train"), [7]),
        (lambda entries: images(entries, "test"), [8]),
    ],
)
def test_each_stage_has_its_entries(
    choose: Callable[[list[Entry]], list[Entry]], numbers: list[int]
) -> None:
    assert choose(MIXED) == [MIXED[number] for number in numbers]


def test_without_recordings_of_eight_emotions_there_is_a_clear_error() -> None:
    with pytest.raises(DatasetError, match="no recordings of RAVDESS or of your own"):
        full_label_clips([MIXED[2], *MIXED[7:10]])


def test_classes_are_places_among_the_labels() -> None:
    assert class_indices(MIXED, EMOTIONS).tolist() == [EMOTIONS.index(e.label) for e in MIXED]
    assert class_indices(first_stage_clips(MIXED), FOUR_EMOTIONS).tolist() == [2, 3, 0]
    assert class_indices([], EMOTIONS).dtype == np.int64


def test_calm_is_neutral_where_it_is_no_class() -> None:
    seven = tuple(label for label in EMOTIONS if label != "calm")
    assert class_indices([MIXED[3], MIXED[6], MIXED[0]], seven).tolist() == [0, 0, 1]
    with pytest.raises(ValueError):
        class_indices([MIXED[1]], FOUR_EMOTIONS)  # fearful
