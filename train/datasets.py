"""The recordings and pictures that the compact model learns from, as published."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
"""The eight RAVDESS labels, in the order of the codes 01 to 08 in its file names."""

FACE_EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The seven FER-2013 labels, in the order of the codes 0 to 6 in its csv."""

FACE_OF_EMOTION = {
    "neutral": "neutral",
    "calm": "neutral",  # FER-2013 has no calm faces; neutral is the nearest
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fearful": "fear",
    "disgust": "disgust",
    "surprised": "surprise",
}

LUNA_JIMENEZ_FOLDS = (
    (2, 5, 14, 15, 16),
    (3, 6, 7, 13, 18),
    (10, 11, 12, 19, 20),
    (8, 17, 21, 23, 24),
    (1, 4, 9, 22),
)
"""Test actors of the five subject-wise RAVDESS folds in Luna-Jimenez et al. 2022."""

RAVDESS_SPEECH = re.compile(
    r"0[13]-01-(0[1-8])-0[12]-0[12]-0[12]-(0[1-9]|1\d|2[0-4])\.(wav|flac|mp4)"
)
"""File names of speech with sound: modality 02 is silent video, channel 02 is song."""


@dataclass(frozen=True)
class Recording:
    """One labelled RAVDESS file."""

    path: Path
    emotion: int  # index into EMOTIONS
    actor: int  # 1 to 24


def ravdess_speech(root: Path) -> list[Recording]:
    """List the speech recordings below `root`, by name.

    Raises:
        FileNotFoundError: there is none.
    """
    recordings = []
    for path in sorted(root.rglob("*.*")):
        match = RAVDESS_SPEECH.fullmatch(path.name)
        if match and path.is_file():
            recordings.append(Recording(path, int(match[1]) - 1, int(match[2])))
    if not recordings:
        raise FileNotFoundError(f"{root}: no RAVDESS speech recordings (03-01-NN-NN-NN-NN-NN.wav)")
    return recordings


@dataclass(frozen=True)
class Faces:
    """Labelled face pictures."""

    images: np.ndarray  # (n, 48, 48) uint8
    labels: np.ndarray  # (n,) int64, index into FACE_EMOTIONS

    def __len__(self) -> int:
        return len(self.labels)

    def unique(self) -> Faces:
        """Leave out repeated pictures, by their exact pixels."""
        return self.without(Faces(self.images[:0], self.labels[:0]))

    def without(self, other: Faces) -> Faces:
        """Leave out repeated pictures and those that `other` holds, by their exact pixels."""
        seen = {image.tobytes() for image in other.images}
        kept = []
        for index, image in enumerate(self.images):
            pixels = image.tobytes()
            if pixels not in seen:
                seen.add(pixels)
                kept.append(index)
        return Faces(self.images[kept], self.labels[kept])


def fer2013(folder: Path) -> Faces:
    """Read FER-2013 pictures kept as one folder per emotion.

    Raises:
        FileNotFoundError: a folder is missing or empty.
        ValueError: a file is not a 48x48 picture.
    """
    images, labels = [], []
    for label, emotion in enumerate(FACE_EMOTIONS):
        paths = sorted((folder / emotion).glob("*.png"))
        if not paths:
            raise FileNotFoundError(f"{folder / emotion}: no pictures")
        for path in paths:
            image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            if image is None or image.shape != (48, 48):
                raise ValueError(f"{path}: not a 48x48 picture")
            images.append(image)
            labels.append(label)
    return Faces(np.stack(images), np.array(labels))
