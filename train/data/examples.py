"""Examples of every kind: features, raw speech and faces, pairs.

All give batches of some of their examples, augmented for training or as they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mfer_edge.speech.vad import SAMPLE_RATE
from train.data.augment_voices import vary_voice
from train.data.batches import Examples
from train.data.faces.augment import vary_faces
from train.data.faces.damage import damage_faces
from train.data.features import Features
from train.data.voice_changes import VoiceChanges

Random = np.random.Generator


class FeatureExamples:
    """Clips as features; training draws a random view of each.

    Args:
        features: of every clip.
        labels: (n,) int64.
        targets: (n, classes) float32 probabilities, to train on in place of the labels.
    """

    def __init__(
        self, features: Features, labels: np.ndarray, targets: np.ndarray | None = None
    ) -> None:
        self.features = features
        self.labels = labels
        self.targets = targets
        self.lengths = np.array([len(views[0]) for views in features.sequences])

    def batch(self, indices: np.ndarray, random: Random | None) -> list[Tensor]:
        """Give some clips' sequences: their first view, or a random one of each."""
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
        changes: augmentation in training.
        longest_s: longer recordings are cut.
    """

    targets: np.ndarray | None = None

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
        """Give some recordings, augmented or as they are."""
        waves = [self._waves[i] for i in indices]
        if random is not None:
            waves = [vary_voice(wave, random, self._changes) for wave in waves]
        return [torch.from_numpy(wave[: self._longest]) for wave in waves]


class FaceImages:
    """Single images of faces, for training the face network.

    Args:
        faces: (n, size, size) uint8.
        labels: (n,) int64.
        strength: of the augmentation, 0 to 1; may change between epochs, as may `damage`.
        targets: (n, classes) float32 probabilities, to train on in place of the labels.
        device: that holds the faces and augments them.
    """

    lengths: np.ndarray | None = None

    def __init__(
        self,
        faces: np.ndarray,
        labels: np.ndarray,
        strength: float,
        targets: np.ndarray | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.faces, self.labels, self.targets = faces, labels, targets
        self.strength, self.device = strength, device
        self.damage = 0.0
        self._pixels = torch.from_numpy(faces).to(device)

    def select(self, kept: np.ndarray) -> FaceImages:
        """Select images by position or mask, without targets."""
        return FaceImages(self.faces[kept], self.labels[kept], self.strength, device=self.device)

    def batch(self, indices: np.ndarray, random: Random | None) -> Tensor:
        """Give some faces, (n, 1, size, size) float, channels last, augmented or as they are."""
        rows = torch.from_numpy(indices).to(self.device, non_blocking=True)
        faces = self._pixels[rows].float()[:, None]
        faces = faces.to(memory_format=torch.channels_last)
        if random is None:
            return faces
        faces = vary_faces(faces, self.strength)
        return damage_faces(faces, self.damage) if self.damage else faces


class FaceClips:
    """Clips as face crops, for fine-tuning a backbone.

    Args:
        crops: (frames, size, size) uint8 each.
        labels: (n,) int64.
        strength: of the augmentation in training, 0 to 1.
    """

    targets: np.ndarray | None = None

    def __init__(self, crops: Sequence[np.ndarray], labels: np.ndarray, strength: float) -> None:
        self.labels = labels
        self.lengths = np.array([len(clip) for clip in crops])
        self._crops = crops
        self._strength = strength

    def batch(self, indices: np.ndarray, random: Random | None) -> list[Tensor]:
        """Give some clips' faces, (frames, 1, size, size) float, augmented or as they are."""
        clips = [torch.from_numpy(self._crops[i])[:, None].float() for i in indices]
        if random is None:
            return clips
        return [vary_faces(clip, self._strength, together=True) for clip in clips]


class PairedExamples:
    """Clips with both a face and a voice: two sources with the same labels."""

    def __init__(self, visual: Examples, audio: Examples) -> None:
        self.labels = visual.labels
        self.targets = visual.targets
        self.lengths = audio.lengths
        self._visual, self._audio = visual, audio

    def batch(
        self, indices: np.ndarray, random: Random | None
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Give some clips' faces, and their voices."""
        return self._visual.batch(indices, random), self._audio.batch(indices, random)
