"""Random changes to training recordings that leave the emotion as it is."""

from __future__ import annotations

import numpy as np

SHORTEST = 8_000  # samples, half a second: what a cut leaves at least


def vary_voice(speech: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Change speed, tone colour, extent and noise of a stretch of speech.

    Its level needs no change: the speech encoder brings every recording to one level.

    Args:
        speech: (n,) float32, 16 kHz.

    Returns:
        (m,) float32.
    """
    speed = random.uniform(0.92, 1.08)
    at = np.arange(0, len(speech) - 1, speed)
    voice = np.interp(at, np.arange(len(speech)), speech)

    keep = max(SHORTEST, int(len(voice) * random.uniform(0.75, 1.0)))
    if keep < len(voice):
        start = random.integers(0, len(voice) - keep + 1)
        voice = voice[start : start + keep]

    # A microphone's colour: one smooth random curve of up to 8 dB over the spectrum.
    spectrum = np.fft.rfft(voice)
    curve_db = random.uniform(-8, 8, 6)
    gain_db = np.interp(np.linspace(0, 1, len(spectrum)), np.linspace(0, 1, 6), curve_db)
    voice = np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(voice))

    if random.random() < 0.7:
        voice = voice + noise(len(voice), random) * voice.std() * 10 ** (
            -random.uniform(10, 35) / 20
        )
    return voice.astype(np.float32)


def noise(count: int, random: np.random.Generator) -> np.ndarray:
    """Noise of unit variance between white and brown: (count,)."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequency = np.maximum(1, np.arange(len(spectrum)))
    colored = np.fft.irfft(spectrum * frequency ** -random.uniform(0, 1.0), count)
    return colored / colored.std()
