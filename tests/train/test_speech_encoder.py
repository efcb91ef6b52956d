"""The speech encoder, against transformers' Whisper and on its own promises."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from mfer_edge.media import read_sound
from tests.paths import ROOT, shared_data
from tests.train.made import voice, whisper_weights
from train.speech_encoder import (
    LEVEL,
    QUIETEST,
    SAMPLE_RATE,
    LogMel,
    SpeechEncoder,
    mel_filters,
)

PUBLISHED = ROOT.parent / "shared" / "weights" / "whisper_tiny_en_encoder.safetensors"
REAL = ("RAVDESS", "Actor_23", "03-01-06-02-02-02-23.flac")
LENGTHS = [6_400, 6_401, 6_559, 6_560, 6_720, 16_000, 33_333, 159_999, 160_000]  # samples


@functools.cache
def whisper() -> ModuleType:
    reason = "transformers, the oracle, is not installed"
    return pytest.importorskip("transformers.models.whisper", reason=reason)


@functools.cache
def weights(origin: str) -> dict[str, Tensor]:
    if origin == "random":
        return whisper_weights()
    if not PUBLISHED.exists():
        pytest.skip(f"Whisper's weights are not on this machine: no {PUBLISHED}")
    return {name: value.float() for name, value in load_file(PUBLISHED).items()}


@functools.cache
def encoder(origin: str = "random", depth: int = 4) -> SpeechEncoder:
    made = SpeechEncoder(depth, 500).eval()
    made.load_whisper(weights(origin))
    return made


def states(wave: np.ndarray, origin: str = "random") -> np.ndarray:
    with torch.inference_mode():
        return encoder(origin)(torch.from_numpy(wave)[None]).numpy()


def spectrogram(wave: np.ndarray) -> np.ndarray:
    return LogMel()(torch.from_numpy(wave)[None]).numpy()[0]


def at_level(wave: np.ndarray) -> np.ndarray:
    return (wave * (LEVEL / np.sqrt(np.mean(wave.astype(np.float64) ** 2)))).astype(np.float32)


def whisper_spectrogram(wave: np.ndarray, **options: Any) -> np.ndarray:
    extract = whisper().WhisperFeatureExtractor()
    return extract(wave, sampling_rate=SAMPLE_RATE, return_tensors="np", **options)[
        "input_features"
    ][0]


def whisper_states(features: np.ndarray, origin: str) -> np.ndarray:
    """transformers' hidden states after each layer; it is built for this very length."""
    frames = features.shape[1]
    steps = (frames + 1) // 2
    config = whisper().WhisperConfig(
        d_model=384,
        encoder_layers=4,
        encoder_attention_heads=6,
        encoder_ffn_dim=1536,
        num_mel_bins=80,
        max_source_positions=steps,
    )
    oracle = whisper().modeling_whisper.WhisperEncoder(config).eval()
    cut = dict(weights(origin))
    cut["embed_positions.weight"] = cut["embed_positions.weight"][:steps]
    oracle.load_state_dict(cut, strict=True)
    # It checks its input's length by this, which may be odd here; its setter wants an int.
    vars(oracle.config)["max_source_positions"] = frames / 2
    hidden: list[Tensor] = []
    for layer in oracle.layers:
        layer.register_forward_hook(
            lambda *call: hidden.append(call[2][0] if isinstance(call[2], tuple) else call[2])
        )
    with torch.inference_mode():
        oracle(torch.from_numpy(features)[None])
    return torch.stack([h.reshape(1, steps, 384) for h in hidden], 2).numpy()


def test_the_mel_filters_are_whispers() -> None:
    ours, theirs = mel_filters(), whisper().WhisperFeatureExtractor().mel_filters
    assert ours.shape == (80, 201)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs.T, atol=1e-6)


@pytest.mark.parametrize("origin", ["made", "real"])
def test_the_spectrogram_of_thirty_seconds_is_whispers(origin: str) -> None:
    sound = read_sound(shared_data(*REAL)) if origin == "real" else voice(4.0)
    wave = at_level(np.pad(sound, (0, 30 * SAMPLE_RATE - len(sound))))
    ours = spectrogram(wave)
    assert ours.shape == (80, 3000)
    np.testing.assert_allclose(ours, whisper_spectrogram(wave), atol=5e-5)


@pytest.mark.parametrize("length", [6_400, 16_123])
def test_the_spectrogram_of_a_short_recording_is_whispers_without_padding(length: int) -> None:
    wave = at_level(voice(2.0)[:length])
    ours = spectrogram(wave)
    assert ours.shape == (80, length // 160)
    theirs = whisper_spectrogram(wave, padding="longest", truncation=False)
    np.testing.assert_allclose(ours, theirs[:, : ours.shape[1]], atol=5e-5)


@pytest.mark.parametrize("origin", ["random", "published"])
@pytest.mark.parametrize("length", LENGTHS)
def test_every_layer_is_transformers_at_any_length(origin: str, length: int) -> None:
    wave = voice(10.0)[:length]
    theirs = whisper_states(spectrogram(wave), origin)
    ours = states(wave, origin)
    assert ours.shape == (1, (length // 160 + 1) // 2, 4, 384)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_fewer_layers_are_the_first_of_all() -> None:
    wave = torch.from_numpy(voice(1.0))[None]
    with torch.inference_mode():
        np.testing.assert_array_equal(
            encoder(depth=2)(wave).numpy(), encoder()(wave)[:, :, :2].numpy()
        )


@pytest.mark.parametrize("gain", [0.1, 7.0])
def test_level_does_not_matter(gain: float) -> None:
    wave = voice(1.5)
    np.testing.assert_allclose(states(gain * wave), states(wave), atol=1e-3)


def test_what_is_almost_silent_is_not_raised_to_full_level() -> None:
    wave = at_level(voice(1.0)) * np.float32(QUIETEST / LEVEL / 100)  # a hundredth of QUIETEST
    raised = wave * np.float32(LEVEL / QUIETEST)
    theirs = whisper_spectrogram(raised, padding="longest", truncation=False)
    np.testing.assert_allclose(spectrogram(wave), theirs[:, :100], atol=5e-5)


def test_silence_gives_finite_states() -> None:
    assert np.isfinite(states(np.zeros(16_000, np.float32))).all()


def test_the_sound_matters() -> None:
    one, other = states(voice(1.0, pitch=100)), states(voice(1.0, pitch=200))
    assert np.abs(one - other).max() > 0.1


@pytest.mark.parametrize(
    "name", ["conv1.weight", "embed_positions.weight", "layers.3.self_attn.out_proj.bias"]
)
@pytest.mark.parametrize("change", ["missing", "wrong shape"])
def test_weights_that_do_not_fit_are_refused_by_name(name: str, change: str) -> None:
    given = dict(weights("random"))
    if change == "missing":
        del given[name]
    else:
        given[name] = given[name][..., 1:]
    with pytest.raises(ValueError, match=name):
        SpeechEncoder(4, 500).load_whisper(given)


def test_a_position_table_that_is_too_short_is_refused() -> None:
    given = dict(weights("random"))
    given["embed_positions.weight"] = given["embed_positions.weight"][:499]
    with pytest.raises(ValueError, match="embed_positions"):
        SpeechEncoder(4, 500).load_whisper(given)


@pytest.mark.parametrize("name", ["layers.4.fc1.weight", "proj.weight", "log_mel.basis"])
def test_unknown_weights_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        SpeechEncoder(4, 500).load_whisper(weights("random") | {name: torch.zeros(3)})


def test_refused_weights_change_nothing() -> None:
    fresh = SpeechEncoder(1, 500)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    given = dict(weights("random"))
    del given["layers.0.fc2.bias"]
    with pytest.raises(ValueError, match=r"layers\.0\.fc2\.bias"):
        fresh.load_whisper(given)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, before[name]), name
