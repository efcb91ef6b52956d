"""Targets from FER+ votes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from train.data.faces.targets import (
    face_labels,
    face_votes,
    over_labels,
    rare,
    smoothed,
    vote_targets,
)
from train.data.index import Entry
from train.labels import EMOTIONS, FACE_EMOTIONS


def image(label: str = "neutral", **votes: int) -> Entry:
    counts = tuple(votes.get(emotion, 0) for emotion in EMOTIONS) if votes else ()
    return Entry(
        Path("/x.png"), -1, "fer2013", "image", label, "", "", "train", "x", "0" * 64, votes=counts
    )


def probability(targets: np.ndarray, face: str) -> np.ndarray:
    return targets[:, FACE_EMOTIONS.index(face)]


def test_votes_are_shares_of_the_seven_without_those_of_single_raters() -> None:
    votes = face_votes([image(happy=6, surprised=3, sad=1), image(neutral=5, calm=2, fearful=2)])
    targets, usable = vote_targets(votes)
    assert usable.all() and targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(probability(targets, "happy"), [6 / 9, 0], rtol=1e-6)
    np.testing.assert_allclose(probability(targets, "surprise"), [3 / 9, 0], rtol=1e-6)
    np.testing.assert_allclose(probability(targets, "sad"), 0)
    np.testing.assert_allclose(probability(targets, "neutral"), [0, 7 / 9], rtol=1e-6)


def test_images_without_agreement_are_not_usable() -> None:
    entries = [
        image(angry=4),  # six raters could not tell, or saw no face
        image(angry=5),
        image(angry=1, sad=1, happy=1, neutral=1, disgust=1, fearful=1),
        image("sad"),  # no votes
    ]
    targets, usable = vote_targets(face_votes(entries))
    assert usable.tolist() == [False, True, False, False]
    assert not targets[2:].any()


def test_rare_emotions_are_disgust_and_fear() -> None:
    entries = [image(disgust=3, angry=7), image(fearful=3, sad=7), image(fearful=4, sad=6)]
    targets, _ = vote_targets(face_votes(entries))
    assert rare(targets).tolist() == [True, False, True]


def test_labels_are_those_published() -> None:
    entries = [image(emotion) for emotion in EMOTIONS]
    names = [FACE_EMOTIONS[label] for label in face_labels(entries)]
    assert names[:3] == ["neutral", "neutral", "happy"]
    targets = smoothed(face_labels(entries))
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    assert (targets.argmax(1) == face_labels(entries)).all()


def test_faces_are_spread_over_a_models_labels() -> None:
    targets = np.eye(7, dtype=np.float32)
    eight = over_labels(targets, EMOTIONS)
    np.testing.assert_allclose(eight.sum(1), 1)
    neutral = FACE_EMOTIONS.index("neutral")
    np.testing.assert_allclose(eight[neutral, :2], 0.5)  # neutral and calm look alike
    seven = over_labels(targets, [emotion for emotion in EMOTIONS if emotion != "calm"])
    assert sorted(seven.argmax(1)) == list(range(7)) and (seven.max(1) == 1).all()
