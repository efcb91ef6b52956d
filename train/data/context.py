"""An index with all that training needs of its files: labels, features, raw inputs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import click
import numpy as np
import torch
from torch import nn

from train.data.cache import Cache
from train.data.features import FeatureExtractor, Features
from train.data.index import DatasetError, Entry
from train.data.preprocess import CROP_SCALE, Preprocessor
from train.labels import EMOTIONS, FOUR_EMOTIONS
from train.models.registry import FACE_BACKBONES, SPEECH_BACKBONES, Backbone
from train.presets import Preset
from train.progress import progress_bar

FOUR_CLASS_DATASETS = ("crema-d", "shemo", "saudi", "urdu")
"""What the paper's first audio stage learns from."""


class DataContext:
    """A preset's backbones, read when they are first needed, and what brings files before them.

    Args:
        weights: the folder of published weights.
        cache: the folder of features.
        random_init: make untrained backbones instead; what comes of them means nothing.
    """

    def __init__(
        self, preset: Preset, weights: Path, cache: Path, random_init: bool = False
    ) -> None:
        self.preset = preset
        self.cache = Cache(cache)
        self._weights = weights
        self._random_init = random_init

    @functools.cached_property
    def face(self) -> nn.Module:
        """The face backbone.

        Raises:
            CheckpointError: its weights are missing, or not what they should be.
        """
        return self._backbone(FACE_BACKBONES[self.preset.face])

    @functools.cached_property
    def speech(self) -> nn.Module:
        """The speech backbone; errors as for the face's."""
        return self._backbone(SPEECH_BACKBONES[self.preset.speech])

    def _backbone(self, backbone: Backbone) -> nn.Module:
        torch.manual_seed(0)  # of random weights, which a resumed training must meet again
        network = backbone.make() if self._random_init else backbone.load(self._weights)
        return network.eval()

    @functools.cached_property
    def inputs(self) -> Preprocessor:
        """The runtime's preprocessing, for the face backbone's size of crops."""
        size = FACE_BACKBONES[self.preset.face].size
        return Preprocessor(size, CROP_SCALE, self.cache)

    def face_features(self, entries: Sequence[Entry], label: str = "faces") -> Features:
        """Compute, or read back, the features of files' faces, showing how far it is."""
        seen = [entry.has_pictures or entry.kind == "image" for entry in entries]
        return self._features(entries, seen, label, lambda: {"face": self.face})

    def voice_features(self, entries: Sequence[Entry], label: str = "voices") -> Features:
        """Compute, or read back, the features of files' speech, showing how far it is."""
        heard = [entry.has_sound for entry in entries]
        return self._features(entries, heard, label, lambda: {"speech": self.speech})

    def _features(
        self,
        entries: Sequence[Entry],
        wanted: Sequence[bool],
        label: str,
        backbone: Callable[[], dict[str, nn.Module]],
    ) -> Features:
        """The features of the files that have any; no backbone is needed where none has."""
        nothing = [np.zeros((0, 0), np.float16)]
        sequences: list[Sequence[np.ndarray]] = [nothing] * len(entries)
        places = [place for place, has in enumerate(wanted) if has]
        if places:
            extractor = FeatureExtractor(self.preset, self.inputs, self.cache, **backbone())
            with progress_bar(label) as progress:
                found = extractor(
                    [entries[place] for place in places],
                    progress,
                    lambda line: click.echo(f"{label}: {line}"),
                )
            for place, views in zip(places, found.sequences, strict=True):
                sequences[place] = views
        return Features(sequences)


def eight_class(entries: Sequence[Entry]) -> list[Entry]:
    """The recordings of the datasets that know more than the four common emotions.

    Raises:
        DatasetError: there is none.
    """
    chosen = [e for e in clips(entries) if e.dataset not in FOUR_CLASS_DATASETS]
    if not chosen:
        raise DatasetError("the index holds no recordings of RAVDESS or of your own")
    return chosen


def four_class(entries: Sequence[Entry]) -> list[Entry]:
    """The recordings with sound of the first audio stage: four datasets, four emotions."""
    return [
        e
        for e in clips(entries)
        if e.dataset in FOUR_CLASS_DATASETS and e.label in FOUR_EMOTIONS and e.has_sound
    ]


def clips(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that are recordings, with sound, pictures, or both."""
    return [entry for entry in entries if entry.kind != "image"]


def pictures(entries: Sequence[Entry], split: str) -> list[Entry]:
    """The single pictures of a published split."""
    return [entry for entry in entries if entry.kind == "image" and entry.split == split]


def label_numbers(entries: Sequence[Entry], labels: Sequence[str] = EMOTIONS) -> np.ndarray:
    """Number the entries' labels: (n,) int64."""
    return np.array([labels.index(entry.label) for entry in entries], np.int64)
