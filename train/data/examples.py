"""What the arms learn from: clips' features, raw speech and faces, faces made of pictures, pairs.

Every source gives batches of some of its examples, randomly changed for training or as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mfer_edge.speech.vad import SAMPLE_RATE
from train.data.augment_faces import vary_faces
from train.data.augment_voices import VoiceChanges, vary_voice
from train.data.batches import Examples
from train.data.features import Features
from train.data.index import DatasetError
from train.labels import EMOTIONS, FACE_EMOTIONS, FACE_OF_EMOTION

Random = np.random.Generator


class FeatureExamples:
    """Clips as features; training sees a random view of each.

    Args:
        features: of every clip.
        labels: (n,) int64.
    """

    def __init__(self, features: Features, labels: np.ndarray) -> None:
        self.features = features
        self.labels = labels
        self.lengths = np.array([len(views[0]) for views in features.sequences])

    def batch(self, indices: np.ndarray, random: Random | None) -> list[Tensor]:
        """Give some clips' sequences: themselves, or a random view of each."""
        views = [0] * len(indices)
        if random is not None:
            views = random.integers(0, self.features.views, len(indices)).tolist()
        chosen = [self.features.sequences[int(i)][v] for i, v in zip(indices, views, strict=True)]
        return [torch.from_numpy(sequence.astype(np.float32)) for sequence in chosen]


class SpeechExamples:
    """Recordings as samples, for fine-tuning a backbone.

    Args:
        waves: (n,) float32 each, 16 kHz, speech.
        labels: (n,) int64.
        changes: what training may change.
        longest_s: more is cut off.
    """

    def __init__(
        self,
        waves: Sequence[np.ndarray],
        labels: np.ndarray,
        changes: VoiceChanges,
        longest_s: float,
    ) -> None:
        self.labels = labels
        self.lengths = np.array([len(wave) for wave in waves])
        self._waves = waves
        self._changes = changes
        self._longest = int(longest_s * SAMPLE_RATE)

    def batch(self, indices: np.ndarray, random: Random | None) -> list[Tensor]:
        """Give some recordings, randomly changed or as they are."""
        waves = [self._waves[i] for i in indices]
        if random is not None:
            waves = [vary_voice(wave, random, self._changes) for wave in waves]
        return [torch.from_numpy(wave[: self._longest]) for wave in waves]


class FaceClips:
    """Clips as face crops, for fine-tuning a backbone.

    Args:
        crops: (frames, size, size) uint8 each.
        labels: (n,) int64.
        strength: of the random changes in training, 0 to 1.
    """

    def __init__(self, crops: Sequence[np.ndarray], labels: np.ndarray, strength: float) -> None:
        self.labels = labels
        self.lengths = np.array([len(clip) for clip in crops])
        self._crops = crops
        self._strength = strength

    def batch(self, indices: np.ndarray, random: Random | None) -> list[Tensor]:
        """Give some clips' faces, (frames, 1, size, size) float, changed or as they are."""
        clips = [torch.from_numpy(self._crops[i])[:, None].float() for i in indices]
        if random is None:
            return clips
        return [vary_faces(clip, self._strength, together=True) for clip in clips]


@dataclass(frozen=True)
class FaceSequences:
    """Makes faces over time out of embeddings of single pictures.

    An emotion's face is random changes of one to three pictures of it; half of those that are not
    neutral come from and go back to a neutral one, as in a clip.

    Raises:
        DatasetError: an emotion has no picture.
    """

    pictures: Features
    labels: np.ndarray  # (pictures,) int64, index into FACE_EMOTIONS
    shortest: int = 3  # faces in a sequence
    longest: int = 22  # a window's, and a little more
    most_pictures: int = 3  # in one sequence

    def __post_init__(self) -> None:
        shown = {FACE_EMOTIONS[label] for label in self.labels}
        if missing := [name for name in FACE_EMOTIONS if name not in shown]:
            raise DatasetError(
                f"none of {len(self.labels)} pictures shows {', '.join(missing)}: faces over time "
                "are made of pictures of all emotions"
            )

    def make(self, emotion: int, random: Random, most_pictures: int | None = None) -> np.ndarray:
        """Make a face over time that shows one of EMOTIONS: (frames, width) float32."""
        label = FACE_EMOTIONS.index(FACE_OF_EMOTION[EMOTIONS[emotion]])
        neutral = FACE_EMOTIONS.index("neutral")
        length = int(random.integers(self.shortest, self.longest + 1))
        count = int(random.integers(1, (most_pictures or self.most_pictures) + 1))
        shown = random.choice(np.flatnonzero(self.labels == label), count)
        faces = shown[np.sort(random.integers(0, count, length))]  # each in one stretch
        if label != neutral and random.random() < 0.5:
            calm = random.choice(np.flatnonzero(self.labels == neutral))
            before, after = random.integers(0, length // 4 + 1, 2)
            faces[:before] = calm
            faces[length - after :] = calm
        views = random.integers(0, self.pictures.views, length)
        chosen = [self.pictures.sequences[f][v][0] for f, v in zip(faces, views, strict=True)]
        return np.stack(chosen).astype(np.float32)


class SyntheticFaceSequences:
    """Faces over time made of pictures, the emotions equally often.

    Args:
        sequences: makes them.
        count: of examples; in training each is made anew every time.
        seed: of the examples as they are.
    """

    def __init__(self, sequences: FaceSequences, count: int, seed: int = 0) -> None:
        self.labels = np.arange(count) % len(EMOTIONS)
        self.lengths = None  # not known before they are made
        self._sequences = sequences
        self._seed = seed

    def batch(self, indices: np.ndarray, random: Random | None) -> list[Tensor]:
        """Give some faces over time: new ones, or always the same of one picture each."""
        made = []
        for index in indices:
            emotion = int(self.labels[index])
            if random is not None:
                made.append(self._sequences.make(emotion, random))
            else:
                fixed = np.random.default_rng((self._seed, int(index)))
                made.append(self._sequences.make(emotion, fixed, most_pictures=1))
        return [torch.from_numpy(sequence) for sequence in made]


class PairedExamples:
    """Clips with both a face and a voice: two sources whose examples go together."""

    def __init__(self, visual: Examples, audio: Examples) -> None:
        self.labels = visual.labels
        self.lengths = audio.lengths
        self._visual, self._audio = visual, audio

    def batch(
        self, indices: np.ndarray, random: Random | None
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Give some clips' faces, and their voices."""
        return self._visual.batch(indices, random), self._audio.batch(indices, random)
