"""Readings of verification clips: as they are, and with the voice adapted to a place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mfer_edge.arms import Place
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from mfer_edge.results import Reading
from mfer_edge.sources.base import AudioOnly
from mfer_edge.sources.clip import Clip

SHARE = 0.5  # of the clips' own statistics in the place: all of them would cancel a single clip


@dataclass(frozen=True, eq=False)
class ClipReadings:
    """Readings of clips, followed by those of their voices in a place."""

    readings: tuple[Reading, ...]
    place: Place | None  # None if the model can't be adapted, or heard no speech


def read_clips(model: Model, clips: Sequence[Path], place: Place | None = None) -> ClipReadings:
    """Analyze clips, and then their voices as if adapted to a place.

    Args:
        place: by default the one that the clips themselves come from, in part.

    Raises:
        MediaError: a clip can't be read.
    """
    heard: list[np.ndarray] = []
    observing = replace(model, audio=replace(model.audio, observer=heard.append))
    readings = [r for clip in clips for r in Pipeline(observing).analyze(clip).windows]
    if heard and place is None:
        place = place_of(np.concatenate(heard))
    if place is not None:
        there = Pipeline(replace(model, audio=replace(model.audio, place=place)))
        for clip in clips:
            readings += there.analyze(AudioOnly(Clip(clip, frame_rate=None))).windows
    return ClipReadings(tuple(readings), place)


def place_of(observations: np.ndarray) -> Place:
    """The place of (n, width) observations, half way from the training set."""
    shift = SHARE * observations.mean(0)
    scale = np.sqrt(SHARE * observations.var(0) + 1 - SHARE)
    return Place(shift.astype(np.float32), scale.astype(np.float32))
