"""Random changes to voices: random, repeatable, and never beyond what is real."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.train.synthetic import voice
from train.data.acoustics.background import Babble
from train.data.augment_voices import PEAK, SHORTEST, vary_voice
from train.data.voice_changes import PAPER, STRONG, VoiceChanges

NONE = VoiceChanges(speed=0.0, keep=1.0, colour_db=0.0, noise_db=(20.0, 20.0), noisy=0.0)


def changed(speech: np.ndarray, seed: int = 0, changes: VoiceChanges = STRONG) -> np.ndarray:
    return vary_voice(speech, np.random.default_rng(seed), changes)


@functools.cache
def long_voice() -> np.ndarray:
    return voice(7.0)


either = pytest.mark.parametrize("changes", [STRONG, PAPER], ids=["strong", "paper"])


@either
@settings(max_examples=60)
@given(samples=st.integers(3, 100_000), seed=st.integers(0, 1000))
def test_a_varied_voice_is_a_voice_of_about_its_length(
    changes: VoiceChanges, samples: int, seed: int
) -> None:
    result = changed(long_voice()[:samples], seed, changes)
    assert result.ndim == 1
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    slowest = samples / (1 - changes.speed) + 1
    fastest = (samples - 1) / (1 + changes.speed) - 1
    assert min(SHORTEST, fastest) <= len(result) <= slowest
    assert len(result) >= changes.keep * fastest - 1


@either
@pytest.mark.parametrize("seed", range(12))
def test_silence_stays_silence(seed: int, changes: VoiceChanges) -> None:
    assert not changed(np.zeros(20_000, np.float32), seed, changes).any()


@either
def test_voices_repeat_with_the_seed_alone(changes: VoiceChanges) -> None:
    speech = voice(1.0)
    np.testing.assert_array_equal(changed(speech, 3, changes), changed(speech, 3, changes))
    one, other = changed(speech, 3, changes), changed(speech, 4, changes)
    assert len(one) != len(other) or np.abs(one - other).max() > 0.01


@either
def test_the_given_voice_is_left_alone(changes: VoiceChanges) -> None:
    speech = voice(1.0)
    before = speech.copy()
    for seed in range(8):
        changed(speech, seed, changes)
    np.testing.assert_array_equal(speech, before)


def test_without_changes_a_voice_is_what_it_was() -> None:
    """But for its last sample: reading between samples needs one on both sides."""
    speech = voice(1.0)
    np.testing.assert_allclose(changed(speech, 0, NONE), speech[:-1], atol=1e-6)


def test_masks_silence_short_stretches() -> None:
    speech = np.ones(32_000, np.float32)
    stretches = []
    for seed in range(200):
        silent = changed(speech, seed, replace(NONE, masks=2, longest_mask_s=0.1)) == 0
        edges = np.flatnonzero(np.diff(np.concatenate([[0], silent, [0]])))
        stretches.append(edges[1::2] - edges[::2])
        assert silent.sum() <= 2 * 1600
    assert {len(found) for found in stretches} <= {0, 1, 2}
    assert np.mean([len(found) for found in stretches]) > 1.8
    assert 700 < np.mean(np.concatenate(stretches)) < 950  # half of the longest


def test_masks_come_before_the_noise() -> None:
    """A dropout of the sound, not of the room."""
    speech = np.ones(32_000, np.float32)
    speech[::2] = -1
    noisy = replace(NONE, masks=2, longest_mask_s=0.1, noisy=1.0)
    assert (changed(speech, 1, noisy) != 0).all()


def test_the_papers_noise_is_mild() -> None:
    """At speed 1 the clean voice can be taken away again; what is left is the noise."""
    speech = voice(2.0)
    mild = replace(PAPER, speed=0.0, masks=0)
    ratios_db = []
    for seed in range(80):
        added = changed(speech, seed, mild).astype(np.float64) - speech[:-1]
        if np.abs(added).max() > 1e-6:
            ratios_db.append(20 * np.log10(speech.std() / added.std()))
    assert 25 < len(ratios_db) < 55  # of 80: half
    assert 19.9 < min(ratios_db) < 23
    assert 27 < max(ratios_db) < 30.1


def test_cuts_leave_half_a_second() -> None:
    lengths = [len(changed(voice(0.6), seed)) for seed in range(60)]
    assert min(lengths) >= min(SHORTEST, 0.6 * 16_000 / 1.08 - 2)
    assert len(set(lengths)) > 30


def test_noise_keeps_its_distance_to_the_voice() -> None:
    """A pure tone's spectrum tells what was added: all but the bins around it."""
    time_s = np.arange(32_000) / 16_000
    tone = (0.3 * np.sin(2 * np.pi * 1000 * time_s)).astype(np.float32)
    noisy = replace(NONE, speed=0.08, noise_db=(10.0, 35.0), noisy=0.7)
    ratios_db = []
    for seed in range(40):
        result = changed(tone, seed, noisy).astype(np.float64)
        power = np.abs(np.fft.rfft(result * np.hanning(len(result)))) ** 2
        peak = int(power.argmax())
        assert 0.92 * 1000 - 5 < peak * 16_000 / len(result) < 1.08 * 1000 + 5
        rest = power.sum() - power[peak - 60 : peak + 61].sum()
        ratios_db.append(10 * np.log10(rest / power.sum()))
    assert -14 < max(ratios_db) < -7  # the window favours some of the noise
    assert 18 <= sum(ratio > -40 for ratio in ratios_db) <= 36  # of 40: seven in ten


@pytest.mark.parametrize("longest_s", [0.5, 1.0, 4.0])
def test_long_recordings_are_cut_to_a_random_stretch(longest_s: float) -> None:
    ramp = np.linspace(-1, 1, 80_000, dtype=np.float32)
    starts = set()
    for seed in range(10):
        result = vary_voice(ramp, np.random.default_rng(seed), NONE, longest_s=longest_s)
        assert len(result) == longest_s * 16_000
        np.testing.assert_allclose(np.diff(result), ramp[1] - ramp[0], atol=1e-6)
        starts.add(float(result[0]))
    assert len(starts) > 5


def test_levels_stay_in_range() -> None:
    """With a level drawn, no sample exceeds full scale and none is below the quietest peak."""
    peaks = [np.abs(changed(0.02 * long_voice()[:32_000], seed)).max() for seed in range(60)]
    assert max(peaks) <= 1.0
    assert min(peaks) > 10 ** (STRONG.quietest_db / 20) * 0.3  # filters take some of the peak
    plain = replace(NONE, quietest_db=-30.0)
    peaks = [np.abs(changed(long_voice()[:32_000], seed, plain)).max() for seed in range(60)]
    assert 10 ** (-30 / 20) - 1e-4 < min(peaks) < 0.06
    assert 0.7 < max(peaks) <= PEAK + 1e-4


@pytest.mark.parametrize(
    "step",
    [
        {"reverberant": 1.0},
        {"coloured": 1.0, "colour_db": 8.0},
        {"noisy": 1.0, "humming": 1.0},
        {"clipped": 1.0},
        {"telephoned": 1.0},
        {"coded": 1.0},
        {"quietest_db": -30.0},
    ],
    ids=lambda step: next(iter(step)),
)
def test_every_step_changes_the_voice_and_keeps_its_length(step: dict[str, float]) -> None:
    speech = voice(1.5)
    results = [changed(speech, seed, replace(NONE, **step)) for seed in range(4)]
    for result in results:
        assert len(result) == len(speech) - 1
        assert np.abs(result - speech[:-1]).max() > 0.01
    assert np.abs(results[0] - results[1]).max() > 1e-3
    np.testing.assert_array_equal(results[0], changed(speech, 0, replace(NONE, **step)))


def test_babble_lies_at_its_distance_under_the_voice() -> None:
    speech, behind = voice(2.0), Babble([voice(1.0, 1, 150), voice(3.0, 2, 210)])
    babbling = replace(NONE, babbling=1.0, babble_db=(12.0, 12.0))
    for seed in range(5):
        result = vary_voice(speech, np.random.default_rng(seed), babbling, babble=behind)
        added = result.astype(np.float64) - speech[:-1]
        assert 20 * np.log10(speech[:-1].std() / added.std()) == pytest.approx(12, abs=0.1)
    np.testing.assert_allclose(changed(speech, 0, babbling), speech[:-1], atol=1e-6)


def test_shares_are_those_asked_for() -> None:
    speech = voice(0.6)
    half = replace(NONE, reverberant=0.5)
    same = [np.allclose(changed(speech, seed, half), speech[:-1], atol=1e-6) for seed in range(120)]
    assert 0.35 < np.mean(same) < 0.65
