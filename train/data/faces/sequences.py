"""Synthetic face sequences, made of embeddings of single images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from train.data.features import Features
from train.data.index import DatasetError
from train.labels import FACE_EMOTIONS, FACE_OF_EMOTION

Random = np.random.Generator


@dataclass(frozen=True)
class FaceSequences:
    """Generator of synthetic face sequences, from embeddings of single images.

    An emotion's sequence shows augmented views of one to three images of it; half of the sequences
    that are not neutral begin and end with a neutral image, as clips do.

    Raises:
        DatasetError: an emotion has no image.
    """

    images: Features
    labels: np.ndarray  # (images,) int64, index into FACE_EMOTIONS
    shortest: int = 3  # faces in a sequence
    longest: int = 22  # a window's, and a few more
    most_images: int = 3  # in one sequence

    def __post_init__(self) -> None:
        shown = {FACE_EMOTIONS[label] for label in self.labels}
        if missing := [name for name in FACE_EMOTIONS if name not in shown]:
            raise DatasetError(
                f"none of {len(self.labels)} images shows {', '.join(missing)}: synthetic face "
                "sequences need images of all emotions"
            )

    def make(self, emotion: str, random: Random, most_images: int | None = None) -> np.ndarray:
        """Make a sequence of faces that show an emotion: (frames, width) float32."""
        label = FACE_EMOTIONS.index(FACE_OF_EMOTION[emotion])
        neutral = FACE_EMOTIONS.index("neutral")
        length = int(random.integers(self.shortest, self.longest + 1))
        count = int(random.integers(1, (most_images or self.most_images) + 1))
        shown = random.choice(np.flatnonzero(self.labels == label), count)
        faces = shown[np.sort(random.integers(0, count, length))]  # frames of an image in a row
        if label != neutral and random.random() < 0.5:
            calm = random.choice(np.flatnonzero(self.labels == neutral))
            before, after = random.integers(0, length // 4 + 1, 2)
            faces[:before] = calm
            faces[length - after :] = calm
        views = random.integers(0, self.images.views, length)
        chosen = [self.images.sequences[f][v][0] for f, v in zip(faces, views, strict=True)]
        return np.stack(chosen).astype(np.float32)


class SyntheticFaceSequences:
    """Synthetic face sequences, with the emotions equally often.

    Args:
        sequences: the generator.
        count: of examples; training generates each anew every time.
        emotions: the classes.
        seed: of the examples without augmentation.
    """

    targets: np.ndarray | None = None
    lengths: np.ndarray | None = None  # not known in advance

    def __init__(
        self, sequences: FaceSequences, count: int, emotions: Sequence[str], *, seed: int = 0
    ) -> None:
        self.labels = np.arange(count) % len(emotions)
        self._sequences = sequences
        self._emotions = emotions
        self._seed = seed

    def batch(self, indices: np.ndarray, random: Random | None) -> list[Tensor]:
        """Give some sequences: new ones, or always the same ones of one image each."""
        made = []
        for index in indices:
            emotion = self._emotions[int(self.labels[index])]
            if random is not None:
                made.append(self._sequences.make(emotion, random))
            else:
                fixed = np.random.default_rng((self._seed, int(index)))
                made.append(self._sequences.make(emotion, fixed, most_images=1))
        return [torch.from_numpy(sequence) for sequence in made]
