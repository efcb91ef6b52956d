"""Codecs really run: what comes back is the same recording, with the losses of its bit rate."""

from __future__ import annotations

import numpy as np
import pytest

from tests.train.synthetic import voice
from train.data.acoustics.codecs import CODECS, Codec, coded, round_trip

every = pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec.encoder)


def error(voice: np.ndarray, codec: Codec, bit_rate: int) -> float:
    return float(np.std(round_trip(voice, codec, bit_rate) - voice) / voice.std())


@every
def test_a_recording_comes_back_in_time_with_small_losses(codec: Codec) -> None:
    speech = voice(2.0)
    result = round_trip(speech, codec, codec.bit_rates[-1])
    assert result.dtype == np.float32 and len(result) == len(speech)
    assert np.abs(result - speech).max() > 1e-4  # lossy
    assert np.corrcoef(result, speech)[0, 1] > 0.97


@every
def test_a_lower_bit_rate_loses_more(codec: Codec) -> None:
    noisy = voice(2.0) + np.random.default_rng(0).normal(0, 0.05, 32_000).astype(np.float32)
    losses = [error(noisy, codec, rate) for rate in (codec.bit_rates[0], codec.bit_rates[-1])]
    assert losses[0] > losses[1]


@every
@pytest.mark.parametrize("samples", [1, 3, 700, 4096, 5000])
def test_recordings_of_any_length_keep_it(codec: Codec, samples: int) -> None:
    assert len(round_trip(voice(1.0)[:samples], codec, codec.bit_rates[0])) == samples


@every
def test_overdriven_samples_are_clipped(codec: Codec) -> None:
    loud = 3 * voice(0.5) / np.abs(voice(0.5)).max()
    assert np.abs(round_trip(loud, codec, codec.bit_rates[-1])).max() < 1.0001


def test_codec_and_bit_rate_are_drawn() -> None:
    speech = voice(0.5)
    drawn = [coded(speech, np.random.default_rng(seed)).tobytes() for seed in range(25)]
    assert len(set(drawn)) > 6
    assert drawn[0] == coded(speech, np.random.default_rng(0)).tobytes()
