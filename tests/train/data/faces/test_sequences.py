"""Synthetic face sequences, and pairs of them with voices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.train.synthetic import voice
from train.data.examples import PairedExamples, SpeechExamples
from train.data.faces.sequences import FaceSequences, SyntheticFaceSequences
from train.data.features import Features
from train.data.index import DatasetError
from train.data.voice_changes import STRONG
from train.labels import EMOTIONS, FACE_EMOTIONS, FACE_OF_EMOTION

NEUTRAL = FACE_EMOTIONS.index("neutral")


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def equal(one: Sequence[Tensor], other: Sequence[Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


EACH = 4  # images of an emotion


@pytest.fixture(scope="module")
def album() -> FaceSequences:
    """Pictures whose embeddings hold their number, and the view."""
    labels = np.arange(7 * EACH) % 7
    sequences = [
        [np.array([[number, view]], np.float16) for view in range(3)] for number in range(7 * EACH)
    ]
    return FaceSequences(Features(sequences), labels)


def shown(album: FaceSequences, sequence: Any) -> np.ndarray:
    """The images' labels, face by face."""
    return album.labels[np.asarray(sequence)[:, 0].astype(int)]


def label_of(emotion: int) -> int:
    return FACE_EMOTIONS.index(FACE_OF_EMOTION[EMOTIONS[emotion]])


class TestFaceSequences:
    @settings(max_examples=200)
    @given(emotion=st.integers(0, 7), seed=st.integers(0, 9999))
    def test_a_face_shows_its_emotion_between_neutral_ones(
        self, album: FaceSequences, emotion: int, seed: int
    ) -> None:
        sequence = album.make(EMOTIONS[emotion], random(seed))
        assert sequence.dtype == np.float32
        assert album.shortest <= len(sequence) <= album.longest
        labels, label = shown(album, sequence), label_of(emotion)
        own = np.flatnonzero(labels == label)
        assert len(own) >= len(labels) / 2
        assert (labels[own[0] : own[-1] + 1] == label).all()
        assert set(labels[: own[0]]) | set(labels[own[-1] + 1 :]) <= {NEUTRAL}
        images = sequence[own, 0]
        assert np.count_nonzero(np.diff(images)) < album.most_images  # stretches, less one
        assert len(set(sequence[labels != label, 0])) <= 1
        if emotion in (EMOTIONS.index("neutral"), EMOTIONS.index("calm")):
            assert set(labels) == {NEUTRAL}

    def test_half_of_those_that_are_not_neutral_come_from_or_go_to_a_neutral_one(
        self, album: FaceSequences
    ) -> None:
        drawn = random(0)
        made = [shown(album, album.make("sad", drawn)) for _ in range(400)]
        share = np.mean([NEUTRAL in labels for labels in made])
        assert 0.3 < share <= 0.5  # the shortest have no room for it

    def test_everything_there_is_comes_up(self, album: FaceSequences) -> None:
        drawn = random(0)
        faces = np.concatenate([album.make(e, drawn) for e in EMOTIONS for _ in range(40)])
        assert len(np.unique(faces, axis=0)) == 7 * EACH * 3  # every view of every image
        lengths = {len(album.make("neutral", drawn)) for _ in range(400)}
        assert lengths == set(range(album.shortest, album.longest + 1))

    def test_an_emotion_without_images_is_a_clear_error(self, album: FaceSequences) -> None:
        labels = np.where(np.isin(album.labels, (1, 5)), 3, album.labels)
        with pytest.raises(DatasetError, match="none of 28 images shows disgust, surprise"):
            FaceSequences(album.images, labels)


class TestSyntheticFaceSequences:
    def test_every_emotion_is_there_equally_often(self, album: FaceSequences) -> None:
        examples = SyntheticFaceSequences(album, 64, EMOTIONS)
        assert np.bincount(examples.labels).tolist() == [8] * 8
        batch = examples.batch(np.arange(64), random())
        for emotion, sequence in zip(examples.labels, batch, strict=True):
            assert label_of(int(emotion)) in shown(album, sequence)

    def test_as_they_are_they_are_always_the_same_of_one_image_each(
        self, album: FaceSequences
    ) -> None:
        examples, everything = SyntheticFaceSequences(album, 64, EMOTIONS, seed=3), np.arange(64)
        batch = examples.batch(everything, None)
        assert equal(batch, examples.batch(everything, None))
        assert equal(
            batch, SyntheticFaceSequences(album, 64, EMOTIONS, seed=3).batch(everything, None)
        )
        assert equal(batch[7:9], examples.batch(np.array([7, 8]), None))
        assert not equal(
            batch, SyntheticFaceSequences(album, 64, EMOTIONS, seed=4).batch(everything, None)
        )
        for emotion, sequence in zip(examples.labels, batch, strict=True):
            own = shown(album, sequence) == label_of(int(emotion))
            assert len(set(sequence[own, 0].tolist())) == 1

    def test_in_training_they_are_new_every_time(self, album: FaceSequences) -> None:
        examples, drawn = SyntheticFaceSequences(album, 16, EMOTIONS), random()
        one, other = (examples.batch(np.arange(16), drawn) for _ in range(2))
        assert not any(map(torch.equal, one, other))
        assert equal(one, examples.batch(np.arange(16), random()))


def test_paired_examples_go_together(album: FaceSequences) -> None:
    faces = SyntheticFaceSequences(album, 2, EMOTIONS)
    waves = [voice(0.5), voice(0.7)]
    voices = SpeechExamples(waves, faces.labels, STRONG, 1.0)
    pairs = PairedExamples(faces, voices)
    seen, heard = pairs.batch(np.array([1, 0]), None)
    assert equal(seen, faces.batch(np.array([1, 0]), None))
    assert equal(heard, [torch.from_numpy(waves[1]), torch.from_numpy(waves[0])])
    assert pairs.labels is faces.labels and pairs.lengths is voices.lengths
    drawn = pairs.batch(np.array([1, 0]), random())
    assert not equal(drawn[0], seen) and not equal(drawn[1], heard)
