"""Microphones and telephone lines."""

from __future__ import annotations

import numpy as np
from scipy import fft, signal

from mfer_edge.speech.vad import SAMPLE_RATE

BANDS = 7  # of the random equaliser, evenly spaced on a logarithmic scale
LOWEST_HZ = 60.0
MU = 255  # of the telephone's companding, ITU-T G.711
CUT_SHARE = 0.3  # of microphones without the lows, and of those without the highs


def microphone(voice: np.ndarray, random: np.random.Generator, colour_db: float) -> np.ndarray:
    """Filter by a random smooth frequency response, some without lows or highs; (n,) to (n,).

    Args:
        colour_db: largest gain and attenuation.
    """
    size, hz = _frequencies(len(voice))
    octaves = np.log2(hz + LOWEST_HZ)
    bands = np.linspace(octaves[0], octaves[-1], BANDS)
    gain_db = np.interp(octaves, bands, random.uniform(-colour_db, colour_db, BANDS))
    if random.random() < CUT_SHARE:
        gain_db -= 12 * np.maximum(0, np.log2(random.uniform(80, 350) / (hz + 1)))
    if random.random() < CUT_SHARE:
        gain_db -= 18 * np.maximum(0, np.log2((hz + 1) / random.uniform(3000, 7500)))
    return _filtered(voice, 10 ** (gain_db.clip(-60, 20) / 20), size)


def telephone(voice: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Limit to a telephone's band, at 8 kHz with companding to 8 bits; (n,) to (n,).

    Args:
        voice: in [-1, 1].
    """
    size, hz = _frequencies(len(voice))
    low, high = random.uniform(150, 350), random.uniform(3100, 3700)
    band = 1 / (1 + (low / (hz + 1)) ** 8) / (1 + (hz / high) ** 16)
    narrow = _filtered(voice, band, size)[::2].clip(-1, 1)
    companded = np.sign(narrow) * np.log1p(MU * np.abs(narrow)) / np.log1p(MU)
    companded = np.round(companded * 127) / 127
    narrow = np.sign(companded) * np.expm1(np.abs(companded) * np.log1p(MU)) / MU
    return signal.resample_poly(narrow, 2, 1)[: len(voice)]


def _frequencies(count: int) -> tuple[int, np.ndarray]:
    """A fast transform's size for so many samples, and its frequencies in Hz."""
    size = fft.next_fast_len(count, real=True)
    return size, np.linspace(0, SAMPLE_RATE / 2, size // 2 + 1)


def _filtered(voice: np.ndarray, gains: np.ndarray, size: int) -> np.ndarray:
    return fft.irfft(fft.rfft(voice, size) * gains, size)[: len(voice)]
