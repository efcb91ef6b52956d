"""The recordings of a cross-validation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from train.data.context import DataContext, class_indices
from train.data.features import Features
from train.data.index import Entry


@dataclass(frozen=True)
class Clips:
    """Recordings with their classes and features."""

    entries: list[Entry]
    labels: tuple[str, ...]  # classes
    truth: np.ndarray  # (n,) int64, index into labels
    voices: Features
    faces: Features

    @classmethod
    def extract(
        cls,
        data: DataContext,
        entries: list[Entry],
        labels: tuple[str, ...],
        *,
        faces: bool = True,
    ) -> Clips:
        """Compute the recordings' features, or read them from the cache.

        Args:
            faces: False: no features of faces, as if there were none.

        Raises:
            MediaError, DatasetError: one of them can't be read.
        """
        return cls(
            entries,
            labels,
            class_indices(entries, labels),
            data.voice_features(entries),
            data.face_features(entries) if faces else Features.none(len(entries)),
        )

    @property
    def both(self) -> np.ndarray:
        """(n,) bool: recordings with both a voice and a face."""
        return self.voices.present & self.faces.present
