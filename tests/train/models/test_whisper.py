"""The speech encoder, against transformers' Whisper and on its own promises."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from mfer_edge.sources.clip import read_audio
from tests.support.paths import ROOT, shared_data
from tests.train.synthetic import voice, whisper_weights
from train.models.weights import CheckpointError
from train.models.whisper import (
    LEVEL,
    MASKED_MELS,
    MASKED_SHARE,
    MELS,
    QUIETEST,
    SAMPLE_RATE,
    LogMel,
    WhisperEncoder,
    mask_spectrograms,
    mel_filters,
    pool_steps,
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
def encoder(origin: str = "random", depth: int = 4) -> WhisperEncoder:
    made = WhisperEncoder(depth, 500).eval()
    made.load_whisper(weights(origin))
    return made


def states(wave: np.ndarray, origin: str = "random") -> np.ndarray:
    with torch.inference_mode():
        return encoder(origin).layer_states(torch.from_numpy(wave)[None]).numpy()


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
    sound = read_audio(shared_data(*REAL)) if origin == "real" else voice(4.0)
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
        two, all_four = encoder(depth=2).layer_states(wave), encoder().layer_states(wave)
        np.testing.assert_array_equal(two.numpy(), all_four[:, :, :2].numpy())


def test_pooling_averages_pairs_and_leaves_out_a_last_odd_step() -> None:
    made = torch.arange(5.0).view(1, 5, 1, 1).expand(1, 5, 2, 3)
    pooled = pool_steps(made)
    assert pooled.shape == (1, 2, 2, 3)
    assert pooled[0, :, 0, 0].tolist() == [0.5, 2.5]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_recordings_steps_are_of_40_ms(length: int) -> None:
    wave = voice(10.0)[:length]
    with torch.inference_mode():
        given = encoder()(torch.from_numpy(wave)[None]).numpy()
    pairs = states(wave)[:, : length // 320 // 2 * 2]
    assert given.shape == (1, ((length // 160 + 1) // 2) // 2, 4, 384)
    by_hand = (pairs[:, ::2] + pairs[:, 1::2]) / 2
    np.testing.assert_allclose(given[:, : by_hand.shape[1]], by_hand, atol=1e-5)


def assert_alone_is_as_together(lengths: list[int], origin: str = "random") -> None:
    """Each of some recordings, of so many samples, against `forward` of it alone."""
    waves = [
        torch.from_numpy(voice(n / SAMPLE_RATE, seed=k, pitch=90 + 20 * k))
        for k, n in enumerate(lengths)
    ]
    with torch.inference_mode():
        together = encoder(origin, 3).embed(waves)
        for one, wave in zip(together, waves, strict=True):
            alone = encoder(origin, 3)(wave[None])[0]
            assert one.shape == alone.shape
            np.testing.assert_allclose(one.numpy(), alone.numpy(), atol=2e-5)


@settings(max_examples=25)
@given(st.lists(st.integers(640, 24_000), min_size=1, max_size=4))
def test_a_recording_does_not_hear_the_others_of_its_batch(lengths: list[int]) -> None:
    assert_alone_is_as_together(lengths)


@pytest.mark.parametrize("origin", ["random", "published"])
@pytest.mark.parametrize(
    "lengths",
    [
        [160_000, 640],  # ten seconds and the shortest that gives a step
        [6_400, 6_559, 6_560, 6_719, 6_720, 6_880],  # 40 to 43 frames
        [160 * n for n in (41, 41, 43, 44, 45)],  # odd ones: the last step sees half of padding
    ],
)
def test_very_different_and_odd_lengths_do_not_matter(origin: str, lengths: list[int]) -> None:
    assert_alone_is_as_together(lengths, origin)


def test_in_training_a_recording_is_changed_anew_every_time_and_stays_single_precision() -> None:
    waves = [torch.from_numpy(voice(n)) for n in (0.7, 1.2)]
    made = encoder("random", 2)
    with torch.inference_mode():
        in_use = made.embed(waves)
        made.train()
        try:
            torch.manual_seed(0)
            one, other = made.embed(waves), made.embed(waves)
            torch.manual_seed(0)
            again = made.embed(waves)
        finally:
            made.eval()
        for number, expected in enumerate(in_use):
            assert one[number].shape == expected.shape
            assert one[number].dtype == torch.float32
            assert torch.isfinite(one[number]).all()
            assert (one[number] - other[number]).abs().max() > 0.1
            assert torch.equal(one[number], again[number])
            assert torch.equal(made.embed(waves)[number], expected)


def test_the_last_layers_are_those_nearest_the_states() -> None:
    made = WhisperEncoder(3, 500)
    made.load_whisper(whisper_weights())
    every = made.trainable(4)
    assert every[1:] == list(made.layers) == made.trainable(3)
    assert list(every[0]) == [made.conv1, made.conv2]
    assert made.trainable(1) == [made.layers[2]]
    assert made.trainable(0) == []
    for number in (-1, 5):
        with pytest.raises(ValueError, match=f"{number} of 4"):
            made.trainable(number)


def test_fine_tuning_reaches_the_last_layers_only() -> None:
    made = WhisperEncoder(3, 500).requires_grad_(False)
    made.load_whisper(whisper_weights())
    for layer in made.trainable(2):
        layer.requires_grad_(True)
    made.train()
    torch.manual_seed(0)
    embedded = made.embed([torch.from_numpy(voice(0.7)), torch.from_numpy(voice(0.5))])
    sum(states.square().sum() for states in embedded).backward()  # type: ignore[union-attr]
    reached = {n for n, value in made.named_parameters() if value.grad is not None}
    last_two = ("layers.1.", "layers.2.")
    assert reached == {n for n, _ in made.named_parameters() if n.startswith(last_two)}
    for name, value in made.named_parameters():
        if value.grad is not None:
            assert torch.isfinite(value.grad).all(), name


@settings(max_examples=60)
@given(frames=st.integers(1, 400), seed=st.integers(0, 1000))
def test_a_masked_spectrogram_hides_two_bands_and_two_stretches_at_most(
    frames: int, seed: int
) -> None:
    mel = torch.randn(MELS, frames, generator=torch.Generator().manual_seed(seed))
    before = mel.clone()
    torch.manual_seed(seed)
    hidden = (masked := mask_one(mel)) != mel
    assert torch.equal(mel, before)
    assert masked.shape == mel.shape
    bands, stretches = hidden.all(1), hidden.all(0)
    if frames > 1:  # whole rows and columns are hidden, and nothing else
        assert torch.equal(hidden, bands[:, None] | stretches)
    assert stretches.sum() <= 2 * int(frames * MASKED_SHARE)
    assert bands.sum() <= 2 * MASKED_MELS
    torch.testing.assert_close(masked[hidden], mel.mean().expand(int(hidden.sum())))


def mask_one(mel: Tensor) -> Tensor:
    return mask_spectrograms(mel[None], torch.tensor([mel.shape[1]]))[0]


def test_masks_lie_anywhere_and_are_of_any_size() -> None:
    mel = torch.randn(MELS, 200, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    hidden = torch.stack([mask_one(mel) != mel for _ in range(400)])
    bands, stretches = hidden.all(2), hidden.all(1)
    assert bands.any(0).all()
    assert stretches.any(0).all()
    assert set(range(MASKED_MELS + 1)) <= set(bands.sum(1).tolist())
    assert stretches.sum(1).max() > 200 * MASKED_SHARE  # two side by side
    assert 0.02 < hidden.float().mean() < 0.35


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
    with pytest.raises(CheckpointError, match=name):
        WhisperEncoder(4, 500).load_whisper(given)


def test_a_position_table_that_is_too_short_is_refused() -> None:
    given = dict(weights("random"))
    given["embed_positions.weight"] = given["embed_positions.weight"][:499]
    with pytest.raises(CheckpointError, match="embed_positions"):
        WhisperEncoder(4, 500).load_whisper(given)


@pytest.mark.parametrize("name", ["layers.4.fc1.weight", "proj.weight", "log_mel.basis"])
def test_unknown_weights_are_refused_by_name(name: str) -> None:
    with pytest.raises(CheckpointError, match=name):
        WhisperEncoder(4, 500).load_whisper(weights("random") | {name: torch.zeros(3)})


def test_refused_weights_change_nothing() -> None:
    fresh = WhisperEncoder(1, 500)
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    given = dict(weights("random"))
    del given["layers.0.fc2.bias"]
    with pytest.raises(CheckpointError, match=r"layers\.0\.fc2\.bias"):
        fresh.load_whisper(given)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, before[name]), name
