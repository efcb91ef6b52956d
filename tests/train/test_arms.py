"""The arms: a sequence's result is its own, in training as on the device."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.train.made import voice, whisper_weights
from train.arms import GruArm, LayerMix, VoiceArm
from train.compact import AUDIO_WIDTH, DEPTH, VISUAL_WIDTH, CompactModel, pool_steps
from train.datasets import EMOTIONS
from train.face_encoder import FACE_EMBEDDING
from train.speech_encoder import WIDTH

WIDTH_IN, STATE, LABELS = 12, 7, 5
lengths = st.lists(st.integers(1, 30), min_size=1, max_size=6)


@functools.cache
def gru_arm() -> GruArm:
    torch.manual_seed(1)
    return GruArm(WIDTH_IN, STATE, LABELS).eval()


@functools.cache
def voice_arm() -> VoiceArm:
    torch.manual_seed(2)
    arm = VoiceArm(3, WIDTH_IN, STATE, LABELS).eval()
    torch.nn.init.normal_(arm.mix.weight)
    return arm


@functools.cache
def model() -> CompactModel:
    torch.manual_seed(3)
    made = CompactModel().eval()
    made.speech.load_whisper(whisper_weights())
    torch.nn.init.normal_(made.audio.mix.weight)
    made.temperature.copy_(torch.tensor([0.7, 1.3, 1.0]))
    return made


def sequence(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_close(one: Tensor, other: Tensor, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), atol=atol)


@settings(deadline=None, max_examples=40)
@given(lengths)
def test_a_sequence_does_not_see_the_others_of_its_batch(lengths: list[int]) -> None:
    arm = gru_arm()
    sequences = [sequence(n, WIDTH_IN, seed=n + 100 * k) for k, n in enumerate(lengths)]
    together = arm(sequences)
    assert together.shape == (len(lengths), LABELS)
    for row, alone in zip(together, sequences, strict=True):
        last = arm.gru(arm.norm(alone)[None])[0][0, -1]  # no packing, no padding
        assert_close(row, arm.classifier(last))


@settings(deadline=None, max_examples=20)
@given(lengths)
def test_a_voice_does_not_hear_the_others_of_its_batch(lengths: list[int]) -> None:
    arm = voice_arm()
    sequences = [sequence(n, 3, WIDTH_IN, seed=n + 100 * k) for k, n in enumerate(lengths)]
    together, states = arm(sequences), arm.embed(sequences)
    for row, state, alone in zip(together, states, sequences, strict=True):
        last = arm.arm.gru(arm.arm.norm(arm.mix(alone))[None])[0][0, -1]
        assert_close(state, last)
        assert_close(row, arm.arm.classifier(last))


@pytest.mark.parametrize("step", [0, 11, 24])
def test_every_step_counts(step: int) -> None:
    one = sequence(25, WIDTH_IN)
    other = one.clone()
    other[step] += sequence(WIDTH_IN, seed=9) * 5
    assert (gru_arm().embed([one]) - gru_arm().embed([other])).abs().max() > 1e-5


def test_dropout_is_for_training_only() -> None:
    arm, batch = gru_arm(), [sequence(9, WIDTH_IN)]
    assert torch.equal(arm(batch), arm(batch))
    arm.train()
    try:
        assert not torch.equal(arm(batch), arm(batch))
    finally:
        arm.eval()


def test_an_untaught_mix_is_the_mean_of_normal_layers() -> None:
    states = sequence(2, 6, 3, WIDTH_IN)
    by_hand = (states - states.mean(-1, keepdim=True)) / states.std(-1, correction=0, keepdim=True)
    assert_close(LayerMix(3)(states), by_hand.mean(-2), 1e-4)


def test_a_mix_can_choose_one_layer() -> None:
    mix, states = LayerMix(3), sequence(6, 3, WIDTH_IN)
    with torch.no_grad():
        mix.weight[1] = 50.0
    assert_close(mix(states), F.layer_norm(states[:, 1], (WIDTH_IN,)))


def test_a_loud_layer_does_not_drown_the_others() -> None:
    states = sequence(6, 3, WIDTH_IN)
    louder = states * torch.tensor([1.0, 1000.0, 1.0])[:, None]
    assert_close(LayerMix(3)(louder), LayerMix(3)(states), 1e-4)


@settings(deadline=None, max_examples=15)
@given(st.integers(1, 60))
def test_the_deployed_image_arm_is_the_trained_one(frames: int) -> None:
    embeddings = sequence(frames, FACE_EMBEDDING, seed=frames)
    other = sequence(40, FACE_EMBEDDING, seed=61)
    with torch.inference_mode():
        deployed = model().embed_face_sequence(embeddings[None])
        assert deployed.shape == (1, VISUAL_WIDTH)
        assert_close(deployed[0], model().visual.embed([other, embeddings])[1])
        logits = model().visual([embeddings, other])[:1]
        scores = model().visual_scores(deployed)
    assert scores.shape == (1, len(EMOTIONS))
    assert_close(scores, (logits / 0.7).softmax(1))


@pytest.mark.parametrize("samples", [6_400, 6_561, 17_777, 64_000])
def test_the_deployed_audio_arm_is_the_trained_one(samples: int) -> None:
    wave = torch.from_numpy(voice(4.0)[:samples])[None]
    other = sequence(40, DEPTH, WIDTH)
    with torch.inference_mode():
        deployed = model().embed_speech(wave)
        assert deployed.shape == (1, AUDIO_WIDTH)
        views = [other, pool_steps(model().speech(wave))[0]]
        assert_close(deployed[0], model().audio.embed(views)[1])
        scores = model().audio_scores(deployed)
        assert_close(scores[0], (model().audio(views)[1] / 1.3).softmax(0))


def test_pooling_averages_pairs_and_leaves_out_a_last_odd_step() -> None:
    states = torch.arange(5.0).view(1, 5, 1, 1).expand(1, 5, 2, 3)
    pooled = pool_steps(states)
    assert pooled.shape == (1, 2, 2, 3)
    assert pooled[0, :, 0, 0].tolist() == [0.5, 2.5]
