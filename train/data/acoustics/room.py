"""Synthetic reverberation."""

from __future__ import annotations

import numpy as np
from scipy import signal

from mfer_edge.speech.vad import SAMPLE_RATE

RT60_S = (0.15, 0.9)  # reverberation time, from a furnished room to a hall
DIRECT_DB = (-3.0, 15.0)  # direct to reverberant energy: far from the microphone, and near
LONGEST_S = 0.7  # of the impulse response


def impulse_response(random: np.random.Generator) -> np.ndarray:
    """Draw a room's impulse response: the direct path, then exponentially decaying noise.

    Polack's statistical model, with an onset of 2 to 20 ms and walls that absorb the highs first.
    """
    rt60 = random.uniform(*RT60_S)
    time = np.arange(int(min(rt60, LONGEST_S) * SAMPLE_RATE)) / SAMPLE_RATE
    tail = random.standard_normal(len(time)) * 10 ** (-3 * time / rt60)
    tail *= 1 - np.exp(-time / random.uniform(0.002, 0.02))
    damping = random.uniform(0.0, 0.7)
    for _ in range(2):
        tail[1:] = (1 - damping) * tail[1:] + damping * tail[:-1]
    tail *= 10 ** (-random.uniform(*DIRECT_DB) / 20) / np.sqrt((tail**2).sum())
    tail[0] += 1.0
    return tail


def reverberate(voice: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Put a voice into a random room; (n,) to (n,)."""
    return signal.oaconvolve(voice, impulse_response(random))[: len(voice)]
