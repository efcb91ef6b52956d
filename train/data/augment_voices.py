"""Augmentation of speech that keeps the emotion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHORTEST = 8_000  # samples, half a second: minimum after a cut


@dataclass(frozen=True)
class VoiceChanges:
    """Ranges of the augmentation.

    There is no gain: both speech encoders normalise the level.
    """

    speed: float  # highest change, as a share
    keep: float  # lowest share of the recording after a cut
    colour_db: float  # of a random equaliser: another microphone
    noise_db: tuple[float, float]  # signal to noise ratio, lowest and highest
    noisy: float  # share of the recordings that get noise
    masks: int = 0  # silenced spans
    longest_mask_s: float = 0.1


STRONG = VoiceChanges(speed=0.08, keep=0.75, colour_db=8.0, noise_db=(10.0, 35.0), noisy=0.7)
"""For models that are used in other rooms and with other microphones."""

PAPER = VoiceChanges(speed=0.05, keep=1.0, colour_db=0.0, noise_db=(20.0, 30.0), noisy=0.5, masks=2)
"""As in the paper's research code: mild noise, short masks, speed."""


def vary_voice(
    speech: np.ndarray, random: np.random.Generator, changes: VoiceChanges = STRONG
) -> np.ndarray:
    """Augment speech: speed, cut, equalisation, masks and noise.

    Args:
        speech: (n,) float32, 16 kHz.

    Returns:
        (m,) float32.
    """
    speed = random.uniform(1 - changes.speed, 1 + changes.speed)
    at = np.arange(0, len(speech) - 1, speed)
    voice = np.interp(at, np.arange(len(speech)), speech)

    keep = max(SHORTEST, int(len(voice) * random.uniform(changes.keep, 1.0)))
    if keep < len(voice):
        start = random.integers(0, len(voice) - keep + 1)
        voice = voice[start : start + keep]

    if changes.colour_db:
        # A microphone: one smooth random curve over the spectrum.
        spectrum = np.fft.rfft(voice)
        curve_db = random.uniform(-changes.colour_db, changes.colour_db, 6)
        gain_db = np.interp(np.linspace(0, 1, len(spectrum)), np.linspace(0, 1, 6), curve_db)
        voice = np.fft.irfft(spectrum * 10 ** (gain_db / 20), len(voice))

    for _ in range(changes.masks):
        length = int(random.uniform(0, changes.longest_mask_s) * 16_000)
        start = random.integers(0, max(1, len(voice) - length))
        voice[start : start + length] = 0

    if random.random() < changes.noisy:
        level = voice.std() * 10 ** (-random.uniform(*changes.noise_db) / 20)
        voice = voice + noise(len(voice), random) * level
    return voice.astype(np.float32)


def noise(count: int, random: np.random.Generator) -> np.ndarray:
    """Noise of unit variance between white and brown: (count,)."""
    spectrum = np.fft.rfft(random.standard_normal(count))
    frequency = np.maximum(1, np.arange(len(spectrum)))
    colored = np.fft.irfft(spectrum * frequency ** -random.uniform(0, 1.0), count)
    return colored / colored.std()
