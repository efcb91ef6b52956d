"""Microphones change colour within bounds; telephones pass their band alone."""

from __future__ import annotations

import numpy as np
import pytest

from train.data.acoustics.devices import microphone, telephone


def tone(hz: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(16_000) / 16_000)


def gain_db(changed: np.ndarray, hz: float) -> float:
    inner = slice(2_000, 14_000)
    return float(20 * np.log10(max(changed[inner].std(), 1e-9) / tone(hz)[inner].std()))


def test_a_microphones_gains_in_its_middle_band_are_bounded() -> None:
    gains = [
        gain_db(microphone(tone(1000), np.random.default_rng(seed), 8.0), 1000)
        for seed in range(60)
    ]
    assert max(map(abs, gains)) < 8.1
    assert max(gains) > 3 and min(gains) < -3


def test_some_microphones_lack_the_lows_and_some_the_highs() -> None:
    for hz in (80, 7800):
        gains = [
            gain_db(microphone(tone(hz), np.random.default_rng(seed), 0.0), hz)
            for seed in range(60)
        ]
        cut = np.mean([gain < -1 for gain in gains])
        assert 0.05 < cut < 0.5, hz


@pytest.mark.parametrize(("hz", "passes"), [(60, False), (1000, True), (2500, True), (5000, False)])
def test_a_telephone_passes_its_band(hz: float, passes: bool) -> None:
    for seed in range(5):
        gain = gain_db(telephone(tone(hz), np.random.default_rng(seed)), hz)
        assert (gain > -1.5) == passes


@pytest.mark.parametrize("count", [1, 2, 3, 4001])
def test_lengths_are_kept(count: int) -> None:
    short = tone(500)[:count]
    assert len(telephone(short, np.random.default_rng(0))) == count
    assert len(microphone(short, np.random.default_rng(0), 8.0)) == count
