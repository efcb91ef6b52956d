"""Noise and babble have unit variance and the spectrum of what they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.synthetic import voice
from train.data.acoustics.background import Babble, noise


@pytest.mark.parametrize("count", [2, 3, 100, 32_001])
def test_noise_has_unit_variance(count: int) -> None:
    made = noise(count, np.random.default_rng(0))
    assert made.shape == (count,)
    assert made.std() == pytest.approx(1)


def test_hum_is_a_line_of_the_mains() -> None:
    hums = [noise(32_000, np.random.default_rng(seed), hum=1.0) for seed in range(10)]
    peaks = {int(np.abs(np.fft.rfft(made))[20:].argmax() + 20) // 2 for made in hums}
    assert peaks <= {50, 60, 100, 120}
    assert len(peaks) > 1
    assert hums[0].std() == pytest.approx(1)


def test_babble_is_of_the_given_voices_alone() -> None:
    quiet, loud = 0.001 * voice(0.4, 1, 120), voice(1.0, 2, 220)
    babble = Babble([quiet, loud])
    for count in (10, 5_000, 40_000):
        made = babble(count, np.random.default_rng(count))
        assert made.shape == (count,)
        assert made.std() == pytest.approx(1)
    alone = Babble([np.zeros(100, np.float32)])
    assert not alone(50, np.random.default_rng(0)).any()
