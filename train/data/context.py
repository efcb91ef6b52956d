"""What training needs of an index: selected entries, labels, features and raw inputs."""

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
from train.labels import FOUR_EMOTIONS, class_index
from train.models.base import BackboneSpec
from train.models.registry import FACE_BACKBONES, SPEECH_BACKBONES
from train.presets import Preset
from train.progress import progress_bar

FOUR_CLASS_DATASETS = ("crema-d", "shemo", "saudi", "urdu")
"""Datasets of the paper's first audio stage."""


class DataContext:
    """A preset's backbones, loaded at their first use, and the features that they give of files.

    Args:
        weights: the folder of published weights.
        cache: the folder of features.
        random_init: use backbones with random weights, whose features mean nothing.
        background: recordings of talkers for babble behind augmented voices.
    """

    def __init__(
        self,
        preset: Preset,
        weights: Path,
        cache: Path,
        random_init: bool = False,
        background: Sequence[Entry] = (),
    ) -> None:
        self.preset = preset
        self._background = background
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
        """The speech backbone; errors as for `face`."""
        return self._backbone(SPEECH_BACKBONES[self.preset.speech])

    def _backbone(self, spec: BackboneSpec) -> nn.Module:
        torch.manual_seed(0)  # of random weights: a resumed training needs the same
        backbone = spec.make() if self._random_init else spec.load_from(self._weights)
        return backbone.eval()

    @functools.cached_property
    def inputs(self) -> Preprocessor:
        """The runtime's preprocessing, with crops of the face backbone's size."""
        size = FACE_BACKBONES[self.preset.face].size
        return Preprocessor(size, CROP_SCALE, self.cache)

    def face_features(self, entries: Sequence[Entry], label: str = "faces") -> Features:
        """Features of the files' faces, cached; shows a progress bar."""
        has_faces = [entry.has_pictures or entry.kind == "image" for entry in entries]
        return self._features(entries, has_faces, label, lambda: {"face": self.face})

    def voice_features(self, entries: Sequence[Entry], label: str = "voices") -> Features:
        """Features of the files' speech, cached; shows a progress bar."""
        has_speech = [entry.has_sound for entry in entries]
        return self._features(entries, has_speech, label, lambda: {"speech": self.speech})

    def _features(
        self,
        entries: Sequence[Entry],
        wanted: Sequence[bool],
        label: str,
        backbone: Callable[[], dict[str, nn.Module]],
    ) -> Features:
        """Features of the wanted files; the backbone is not loaded if none is wanted."""
        sequences = list(Features.none(len(entries)).sequences)
        places = [place for place, has in enumerate(wanted) if has]
        if places:
            extractor = FeatureExtractor(
                self.preset,
                self.inputs,
                self.cache,
                background=self._background,
                **backbone(),
            )
            with progress_bar(label) as progress:
                found = extractor(
                    [entries[place] for place in places],
                    progress,
                    lambda line: click.echo(f"{label}: {line}"),
                )
            for place, views in zip(places, found.sequences, strict=True):
                sequences[place] = views
        return Features(sequences)


def full_label_clips(entries: Sequence[Entry]) -> list[Entry]:
    """The recordings of datasets with more than the four common emotions.

    Raises:
        DatasetError: there is none.
    """
    chosen = [e for e in clips(entries) if e.dataset not in FOUR_CLASS_DATASETS]
    if not chosen:
        raise DatasetError("the index holds no recordings of RAVDESS or of your own")
    return chosen


def label_clips(entries: Sequence[Entry], preset: Preset) -> list[Entry]:
    """The recordings that a preset trains on over all of its labels.

    They are those of every dataset unless the preset has a first stage for some of them.

    Raises:
        DatasetError: there is none.
    """
    if preset.audio_one is not None:
        return full_label_clips(entries)
    if not (chosen := clips(entries)):
        raise DatasetError("the index holds no recordings: only images")
    return chosen


def first_stage_clips(entries: Sequence[Entry]) -> list[Entry]:
    """The recordings with audio of the first audio stage: four datasets, four emotions."""
    return [
        e
        for e in clips(entries)
        if e.dataset in FOUR_CLASS_DATASETS and e.label in FOUR_EMOTIONS and e.has_sound
    ]


def clips(entries: Sequence[Entry]) -> list[Entry]:
    """The entries that are recordings: audio, video, or both."""
    return [entry for entry in entries if entry.kind != "image"]


def images(entries: Sequence[Entry], split: str) -> list[Entry]:
    """The single images of a published split."""
    return [entry for entry in entries if entry.kind == "image" and entry.split == split]


def class_indices(entries: Sequence[Entry], labels: Sequence[str]) -> np.ndarray:
    """Classes of the entries: (n,) int64, index into the labels."""
    return np.array([class_index(entry.label, labels) for entry in entries], np.int64)
