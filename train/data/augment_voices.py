"""Augmentation of speech that keeps the emotion: other rooms, devices, lines and backgrounds."""

from __future__ import annotations

import numpy as np

from mfer_edge.speech.vad import SAMPLE_RATE
from train.data.acoustics.background import Babble, noise
from train.data.acoustics.codecs import coded
from train.data.acoustics.devices import microphone, telephone
from train.data.acoustics.room import reverberate
from train.data.voice_changes import STRONG, VoiceChanges

SHORTEST = 8_000  # samples, half a second: minimum after a cut
PEAK = 0.99  # before clipping
QUIETEST = 1e-6  # peak below which a recording counts as silent


def vary_voice(
    speech: np.ndarray,
    random: np.random.Generator,
    changes: VoiceChanges = STRONG,
    *,
    babble: Babble | None = None,
    longest_s: float | None = None,
) -> np.ndarray:
    """Augment speech.

    Args:
        speech: (n,) float32, 16 kHz.
        babble: other talkers; without them none is mixed in.
        longest_s: a random stretch of longer recordings is taken.

    Returns:
        (m,) float32.
    """
    voice = _as_spoken(speech, random, changes, longest_s)
    if np.abs(voice).max(initial=0) < QUIETEST:
        return voice.astype(np.float32)
    peak = np.abs(speech).max()
    if random.random() < changes.reverberant:
        voice = reverberate(voice, random)
    voice = _over_background(voice, random, changes, babble)
    if changes.colour_db and random.random() < changes.coloured:
        voice = microphone(voice, random, changes.colour_db)
    return _as_recorded(voice, random, changes, peak).astype(np.float32)


def _as_spoken(
    speech: np.ndarray,
    random: np.random.Generator,
    changes: VoiceChanges,
    longest_s: float | None,
) -> np.ndarray:
    """Change the speed, take a stretch, and silence short spans."""
    speed = random.uniform(1 - changes.speed, 1 + changes.speed)
    count = len(speech) / speed
    keep = max(SHORTEST, int(count * random.uniform(changes.keep, 1.0)))
    if longest_s is not None:
        keep = min(keep, int(longest_s * SAMPLE_RATE))
    taken = int(keep * speed) + 2
    if keep < count and taken < len(speech):
        start = random.integers(0, len(speech) - taken + 1)
        speech = speech[start : start + taken]
    at = np.arange(0, len(speech) - 1, speed)
    voice = np.interp(at, np.arange(len(speech)), speech)[:keep]
    for _ in range(changes.masks):
        length = int(random.uniform(0, changes.longest_mask_s) * SAMPLE_RATE)
        start = random.integers(0, max(1, len(voice) - length))
        voice[start : start + length] = 0
    return voice


def _over_background(
    voice: np.ndarray, random: np.random.Generator, changes: VoiceChanges, babble: Babble | None
) -> np.ndarray:
    """Mix babble and noise in, relative to the voice's level."""
    level = voice.std()
    if babble is not None and random.random() < changes.babbling:
        ratio_db = random.uniform(*changes.babble_db)
        voice = voice + babble(len(voice), random) * level * 10 ** (-ratio_db / 20)
    if random.random() < changes.noisy:
        ratio_db = random.uniform(*changes.noise_db)
        sound = noise(len(voice), random, changes.humming)
        voice = voice + sound * level * 10 ** (-ratio_db / 20)
    return voice


def _as_recorded(
    voice: np.ndarray, random: np.random.Generator, changes: VoiceChanges, peak: float
) -> np.ndarray:
    """Overdrive, set the level, and send over a line; keeps the peak if nothing else sets it."""
    digital = changes.clipped or changes.telephoned or changes.coded or changes.quietest_db
    if not digital:
        return voice
    voice = voice / max(np.abs(voice).max(), QUIETEST)
    if random.random() < changes.clipped:
        voice = (voice * random.uniform(1.2, 4.0)).clip(-1, 1)
    if changes.quietest_db:
        peak = 10 ** (random.uniform(changes.quietest_db, 0) / 20)
    voice = voice * min(peak, PEAK)
    if random.random() < changes.telephoned:
        voice = telephone(voice, random)
    if random.random() < changes.coded:
        voice = coded(voice, random)
    return np.round(voice.clip(-1, 1) * 32767) / 32767 if changes.quietest_db else voice
