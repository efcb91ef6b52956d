"""Rooms add an echo that dies away, after the direct path."""

from __future__ import annotations

import numpy as np

from tests.train.synthetic import voice
from train.data.acoustics.room import DIRECT_DB, LONGEST_S, impulse_response, reverberate


def test_the_direct_path_comes_first_and_the_rest_dies_away() -> None:
    for seed in range(20):
        response = impulse_response(np.random.default_rng(seed))
        assert len(response) <= LONGEST_S * 16_000
        tail = response.copy()
        tail[0] -= 1.0
        ratio_db = -10 * np.log10((tail**2).sum())
        assert DIRECT_DB[0] - 0.1 < ratio_db < DIRECT_DB[1] + 0.1
        early, late = np.array_split(tail[400:], 2)
        assert (early**2).sum() > 5 * (late**2).sum()


def test_a_voice_keeps_its_length_and_gets_an_echo() -> None:
    speech = np.concatenate([voice(0.5), np.zeros(8_000, np.float32)])
    for seed in range(10):
        wet = reverberate(speech, np.random.default_rng(seed))
        assert len(wet) == len(speech)
        assert np.abs(wet[8_200:9_000]).max() > 1e-4
