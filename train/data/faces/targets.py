"""Targets of images of faces: the raters' votes of FER+, and the published label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from train.data.index import Entry
from train.labels import EMOTIONS, FACE_EMOTIONS, FACE_OF_EMOTION

RATERS = 10  # of one image of FER+
MAJORITY = 6  # votes for one emotion: more than half of the raters
LABEL_SMOOTHING = 0.1
EMOTION_OF_FACE = {face: label for label, face in FACE_OF_EMOTION.items() if label != "calm"}
RARE = {"disgust": 0.25, "fear": 0.35}
"""Share of the votes above which an image counts as one of a rare emotion."""


def face_votes(entries: Sequence[Entry]) -> np.ndarray:
    """Count the votes for each of FACE_EMOTIONS: (n, 7) int64; zeros for an image without votes."""
    counts = np.zeros((len(entries), len(FACE_EMOTIONS)), np.int64)
    columns = [FACE_EMOTIONS.index(FACE_OF_EMOTION[emotion]) for emotion in EMOTIONS]
    for row, entry in zip(counts, entries, strict=True):
        if entry.votes:
            np.add.at(row, columns, entry.votes)
    return counts


def vote_targets(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distributions of votes, without the votes of single raters, which are noise.

    (Barsoum et al. 2016.) An image of which fewer than half of the raters named one of the seven
    emotions is not usable.

    Args:
        votes: (n, 7), of `face_votes`.

    Returns:
        (n, 7) float32 probabilities, zeros where there are no votes; and (n,) bool: usable.
    """
    agreed = np.where(votes > 1, votes, 0)
    total = agreed.sum(1, keepdims=True)
    usable = (total[:, 0] > 0) & (2 * votes.sum(1) >= RATERS)
    return (agreed / np.maximum(total, 1)).astype(np.float32), usable


def agreed_images(entries: Sequence[Entry]) -> list[Entry]:
    """Images with the label that most raters gave them.

    Where some of the images have votes, those without a majority are left out.
    """
    votes = face_votes(entries)
    if not votes.any():
        return list(entries)
    return [
        replace(entry, label=EMOTION_OF_FACE[FACE_EMOTIONS[counts.argmax()]])
        for entry, counts in zip(entries, votes, strict=True)
        if counts.max() >= MAJORITY
    ]


def face_labels(entries: Sequence[Entry]) -> np.ndarray:
    """The published labels: (n,) int64, index into FACE_EMOTIONS."""
    return np.array([FACE_EMOTIONS.index(FACE_OF_EMOTION[e.label]) for e in entries], np.int64)


def smoothed(labels: np.ndarray) -> np.ndarray:
    """Smooth (n,) labels: (n, 7) float32 probabilities."""
    one_hot = np.eye(len(FACE_EMOTIONS), dtype=np.float32)[labels]
    return (1 - LABEL_SMOOTHING) * one_hot + LABEL_SMOOTHING / len(FACE_EMOTIONS)


def over_labels(targets: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Distribute (n, 7) probabilities of FACE_EMOTIONS over a model's labels: (n, labels).

    Labels that look alike, as neutral and calm do, share their probability.
    """
    shares = np.zeros((len(FACE_EMOTIONS), len(labels)), np.float32)
    for column, label in enumerate(labels):
        shares[FACE_EMOTIONS.index(FACE_OF_EMOTION[label]), column] = 1
    return targets @ (shares / np.maximum(shares.sum(1, keepdims=True), 1))


def rare(targets: np.ndarray) -> np.ndarray:
    """Images that show a rare emotion, by their (n, 7) targets: (n,) bool."""
    shares = [(targets[:, FACE_EMOTIONS.index(name)], share) for name, share in RARE.items()]
    return np.any([column > share for column, share in shares], axis=0)
