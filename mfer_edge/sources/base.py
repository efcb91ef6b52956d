"""Clips in: one decoding pass gives pictures at a fixed rate and 16 kHz mono sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One frame of the video."""

    time_s: float  # from the clip's start
    image: np.ndarray  # (height, width, 3) uint8, BGR


@dataclass(frozen=True)
class AudioChunk:
    """The next stretch of the sound; stretches follow each other without gaps."""

    samples: np.ndarray  # (n,) float32, 16 kHz, mono; full scale is [-1, 1]
