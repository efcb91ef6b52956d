"""Random changes to faces and voices: random, repeatable, and never beyond what is real."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.train.made import face_picture, voice
from train.augment_faces import cover, vary_faces
from train.augment_voices import SHORTEST, noise, vary_voice
from train.datasets import FACE_EMOTIONS


def faces(n: int) -> Tensor:
    random = np.random.default_rng(n)
    images = [face_picture(k % len(FACE_EMOTIONS), random) for k in range(n)]
    return torch.from_numpy(np.stack(images)).float()[:, None]


def varied(batch: Tensor, seed: int) -> np.ndarray:
    torch.manual_seed(seed)
    return vary_faces(batch).numpy()


@pytest.mark.parametrize("n", [1, 2, 37])
def test_varied_faces_are_faces_still(n: int) -> None:
    batch = faces(n)
    result = varied(batch, 0)
    assert result.shape == batch.shape
    assert result.dtype == np.float32
    # Noise is added last, of at most 6 grey levels.
    assert result.min() > -40
    assert result.max() < 295


@pytest.mark.parametrize("grey", [0.0, 255.0])
def test_black_and_white_pictures_stay_near_themselves(grey: float) -> None:
    result = varied(torch.full((16, 1, 48, 48), grey), 1)
    assert np.isfinite(result).all()
    assert np.abs(result.mean((1, 2, 3)) - grey).max() < 1


def test_varied_faces_repeat_with_the_seed_alone() -> None:
    batch = faces(8)
    np.testing.assert_array_equal(varied(batch, 5), varied(batch, 5))
    assert np.abs(varied(batch, 5) - varied(batch, 6)).mean() > 5


def test_equal_faces_are_varied_each_in_its_own_way() -> None:
    result = varied(faces(1).expand(12, 1, 48, 48), 0)
    for k in range(1, 12):
        assert np.abs(result[k] - result[0]).mean() > 2


def test_without_strength_faces_are_only_mirrored() -> None:
    batch = faces(40)
    torch.manual_seed(0)
    result = vary_faces(batch, 0.0).numpy()
    gaps = [
        np.abs(result - candidate.numpy()).max((1, 2, 3)) for candidate in (batch, batch.flip(3))
    ]
    assert np.minimum(*gaps).max() < 0.01
    assert 8 < (gaps[1] < gaps[0]).sum() < 32


def test_less_strength_changes_less() -> None:
    batch = faces(1).expand(60, 1, 48, 48)
    spread = []
    for strength in (0.0, 0.4, 1.0):
        torch.manual_seed(0)
        result = vary_faces(batch, strength).numpy()
        mirrored = np.minimum(
            np.abs(result - batch.numpy()).mean((1, 2, 3)),
            np.abs(result - batch.flip(3).numpy()).mean((1, 2, 3)),
        )
        spread.append(mirrored.mean())
    assert spread[0] < 0.1 * spread[1] < 0.1 * spread[2]


def test_the_input_is_left_alone() -> None:
    batch = faces(6)
    before = batch.clone()
    varied(batch, 0)
    assert torch.equal(batch, before)


def test_faces_are_mirrored_half_of_the_time_and_never_upside_down() -> None:
    ramp = torch.linspace(30, 220, 48)
    to_the_right = varied(ramp.expand(200, 1, 48, 48), 0)
    slope = to_the_right[:, 0, :, 36:].mean((1, 2)) - to_the_right[:, 0, :, :12].mean((1, 2))
    assert 0.4 < (slope < 0).mean() < 0.6
    downwards = varied(ramp[:, None].expand(200, 1, 48, 48), 0)
    assert (downwards[:, 0, 36:].mean((1, 2)) > downwards[:, 0, :12].mean((1, 2))).all()


def test_half_of_the_faces_are_partly_covered_with_their_mean() -> None:
    torch.manual_seed(0)
    batch = faces(400)
    covered = (cover(batch) != batch).numpy()
    share = covered.mean((1, 2, 3))
    assert 0.4 < (share > 0).mean() < 0.6
    assert share.max() <= 0.2
    result = cover(batch).numpy()
    mask = result != batch.numpy()
    means = batch.mean((1, 2, 3)).numpy()
    for face, where, mean in zip(result, mask, means, strict=True):
        np.testing.assert_allclose(face[where], mean, atol=1e-3)


def test_varied_faces_are_covered_half_of_the_time() -> None:
    """What is covered is flat, and nothing else is: there is noise on it."""
    flat = [np.unique(face, return_counts=True)[1].max() for face in varied(faces(300), 0)]
    assert 0.4 < (np.array(flat) >= 10).mean() < 0.6


def changed(speech: np.ndarray, seed: int = 0) -> np.ndarray:
    return vary_voice(speech, np.random.default_rng(seed))


@settings(deadline=None, max_examples=60)
@given(st.integers(3, 100_000), st.integers(0, 1000))
def test_a_varied_voice_is_a_voice_of_about_its_length(samples: int, seed: int) -> None:
    result = changed(voice(7.0)[:samples], seed)
    assert result.ndim == 1
    assert result.dtype == np.float32
    assert np.isfinite(result).all()
    slowest, fastest = samples / 0.92 + 1, (samples - 1) / 1.08 - 1
    assert min(SHORTEST, fastest) <= len(result) <= slowest
    assert len(result) >= 0.75 * fastest - 1


@pytest.mark.parametrize("seed", range(12))
def test_silence_stays_silence(seed: int) -> None:
    assert not changed(np.zeros(20_000, np.float32), seed).any()


def test_voices_repeat_with_the_seed_alone() -> None:
    speech = voice(1.0)
    np.testing.assert_array_equal(changed(speech, 3), changed(speech, 3))
    one, other = changed(speech, 3), changed(speech, 4)
    assert len(one) != len(other) or np.abs(one - other).max() > 0.01


def test_the_given_voice_is_left_alone() -> None:
    speech = voice(1.0)
    before = speech.copy()
    changed(speech)
    np.testing.assert_array_equal(speech, before)


def test_cuts_leave_half_a_second() -> None:
    lengths = [len(changed(voice(0.6), seed)) for seed in range(60)]
    assert min(lengths) >= min(SHORTEST, 0.6 * 16_000 / 1.08 - 2)
    assert len(set(lengths)) > 30


def test_noise_stays_ten_decibels_under_the_voice() -> None:
    """A pure tone's spectrum tells what was added: all but the bins around it."""
    time_s = np.arange(32_000) / 16_000
    tone = (0.3 * np.sin(2 * np.pi * 1000 * time_s)).astype(np.float32)
    ratios_db = []
    for seed in range(40):
        result = changed(tone, seed).astype(np.float64)
        power = np.abs(np.fft.rfft(result * np.hanning(len(result)))) ** 2
        peak = int(power.argmax())
        assert 0.92 * 1000 - 5 < peak * 16_000 / len(result) < 1.08 * 1000 + 5
        rest = power.sum() - power[peak - 60 : peak + 61].sum()
        ratios_db.append(10 * np.log10(rest / power.sum()))
    assert -14 < max(ratios_db) < -7  # the window favours some of the noise
    assert 18 <= sum(ratio > -40 for ratio in ratios_db) <= 36  # of 40: seven in ten


@pytest.mark.parametrize("count", [2, 3, 100, 32_001])
def test_noise_has_unit_variance(count: int) -> None:
    made = noise(count, np.random.default_rng(0))
    assert made.shape == (count,)
    assert made.std() == pytest.approx(1)
