"""Background sounds for augmentation: coloured noise, mains hum, and babble."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import fft

from mfer_edge.speech.vad import SAMPLE_RATE

MOST_TALKERS = 5  # in one babble
QUIETEST = 1e-6  # standard deviation below which a sound is not amplified


def noise(count: int, random: np.random.Generator, hum: float = 0.0) -> np.ndarray:
    """Noise of unit variance between white and brown: (count,).

    Args:
        hum: probability of mains hum in it.
    """
    size = fft.next_fast_len(count, real=True)
    spectrum = fft.rfft(random.standard_normal(size))
    frequency = np.maximum(1, np.arange(len(spectrum)))
    sound = fft.irfft(spectrum * frequency ** -random.uniform(0, 1.0), size)[:count]
    sound = sound / max(sound.std(), QUIETEST)
    if hum and random.random() < hum:
        mains_hz = random.choice([50, 60, 100, 120])
        phase = 2 * np.pi * mains_hz * np.arange(count) / SAMPLE_RATE
        sound = sound + random.uniform(0.3, 2.0) * np.sin(phase)
        sound = sound / sound.std()
    return sound


class Babble:
    """Several talkers at once, mixed from recordings.

    Args:
        voices: (n,) float32 each, 16 kHz; at least one, none empty.
    """

    def __init__(self, voices: Sequence[np.ndarray]) -> None:
        self._voices = voices

    def __call__(self, count: int, random: np.random.Generator) -> np.ndarray:
        """Mix one to MOST_TALKERS talkers to unit variance: (count,)."""
        mixed = np.zeros(count)
        for _ in range(random.integers(1, MOST_TALKERS + 1)):
            voice = self._voices[int(random.integers(len(self._voices)))]
            start = random.integers(len(voice))
            talker = np.resize(np.concatenate([voice[start:], voice[:start]]), count)
            mixed += talker / max(talker.std(), QUIETEST) * random.uniform(0.4, 1.0)
        return mixed / max(mixed.std(), QUIETEST)
