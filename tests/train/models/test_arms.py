"""The arms: a sequence's result is its own, in training as on the device."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from tests.train.synthetic import voice, whisper_weights
from train.models.arms import GruArm, LayerMix, SequenceArm, StatisticsArm, mean_and_deviation
from train.models.emotion_model import EmotionModel
from train.models.mean_arm import MeanArm, OverMeans
from train.models.standardise import Place
from train.presets import COMPACT

WIDTH_IN, STATE, LABELS, DEPTH = 12, 7, 5, 3
KINDS = ("normalised", "bare", "mixed", "statistics", "mean")
LAYERED = ("mixed", "statistics")  # kinds that take several layers of a backbone
lengths = st.lists(st.integers(1, 30), min_size=1, max_size=6)


@functools.cache
def arm(kind: str = "normalised") -> SequenceArm:
    """An arm with all its weights at random: as `compact` has them for faces and for voices, and
    as `paper` has them for both."""
    torch.manual_seed(1)
    if kind == "statistics":
        pooled = StatisticsArm(WIDTH_IN, STATE, LABELS, depth=DEPTH).eval()
        return with_statistics(pooled)
    if kind == "mean":
        return with_statistics(MeanArm(WIDTH_IN, STATE, LABELS).eval())
    depth = DEPTH if kind == "mixed" else 1
    made = GruArm(WIDTH_IN, STATE, LABELS, depth=depth, norm=kind != "bare").eval()
    for parameter in (*made.mix.parameters(), *made.norm.parameters()):
        nn.init.normal_(parameter)
    return with_statistics(made)


def with_statistics(made: SequenceArm) -> SequenceArm:
    """The arm, with training statistics at random."""
    made.standardise.set(torch.randn(made.observed), torch.rand(made.observed) + 0.1)
    return made


@functools.cache
def model() -> EmotionModel:
    torch.manual_seed(3)
    made = EmotionModel(COMPACT).eval()
    made.speech.load_whisper(whisper_weights())
    with_statistics(made.audio)
    made.temperature.copy_(torch.tensor([0.7, 1.3, 1.0]))
    return made


def sequence(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def steps(kind: str, length: int, seed: int = 0) -> Tensor:
    """A sequence that an arm of this kind takes."""
    layers = (DEPTH,) if kind in LAYERED else ()
    return sequence(length, *layers, WIDTH_IN, seed=seed)


def assert_close(one: Tensor, other: Tensor, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(one.detach().numpy(), other.detach().numpy(), atol=atol)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(lengths)
def test_a_sequence_does_not_see_the_others_of_its_batch(kind: str, lengths: list[int]) -> None:
    sequences = [steps(kind, n, seed=n + 100 * k) for k, n in enumerate(lengths)]
    together, states = arm(kind)(sequences), arm(kind).embed(sequences)
    assert together.shape == (len(lengths), LABELS)
    for row, state, alone in zip(together, states, sequences, strict=True):
        last = arm(kind).state(alone[None])[0][0]
        if isinstance(recurrent := arm(kind), GruArm):  # no packing, no padding
            assert_close(last, recurrent.gru(recurrent.norm(recurrent.mix(alone))[None])[0][0, -1])
        assert_close(state, last)
        assert_close(row, arm(kind).classifier(last))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [0, 11, 24])
def test_every_step_counts(kind: str, step: int) -> None:
    one = steps(kind, 25)
    other = one.clone()
    other[step] += steps(kind, 1, seed=9)[0] * 5
    assert (arm(kind).embed([one]) - arm(kind).embed([other])).abs().max() > 1e-6


def test_only_a_normalising_arm_overlooks_how_large_its_input_is() -> None:
    one = steps("bare", 25)
    for kind, same in (("normalised", True), ("mixed", True), ("bare", False)):
        given = one[:, None].expand(-1, DEPTH, -1) if kind == "mixed" else one
        gap = (arm(kind).embed([given]) - arm(kind).embed([10 * given])).abs().max()
        assert (gap < 1e-3) == same, kind


def test_dropout_is_for_training_only() -> None:
    batch = [steps("normalised", 9)]
    assert torch.equal(arm()(batch), arm()(batch))
    arm().train()
    try:
        assert not torch.equal(arm()(batch), arm()(batch))
    finally:
        arm().eval()


@pytest.mark.parametrize("kind", KINDS)
def test_new_labels_come_with_a_new_classifier_over_the_same_states(kind: str) -> None:
    batch = [steps(kind, 9), steps(kind, 4)]
    before = {name: value.clone() for name, value in arm(kind).state_dict().items()}
    other = arm(kind).with_labels(2)
    assert other(batch).shape == (2, 2)
    assert torch.equal(other.embed(batch), arm(kind).embed(batch))
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    for name, value in arm(kind).state_dict().items():
        assert torch.equal(value, before[name]), name


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


@settings(max_examples=15)
@given(st.integers(1, 60))
def test_the_deployed_image_arm_is_the_trained_one(frames: int) -> None:
    embeddings = sequence(frames, model().face.width, seed=frames)
    other = sequence(40, model().face.width, seed=61)
    with torch.inference_mode():
        scores, state, observations = model().networks()["visual"](embeddings[None])
        assert observations.shape == (1, 1, model().visual.observed)
        assert state.shape == (1, COMPACT.visual_width)
        assert scores.shape == (1, len(COMPACT.labels))
        assert_close(state[0], model().visual.embed([other, embeddings])[1])
        logits = model().visual([embeddings, other])[0]
        assert_close(scores[0], (logits / 0.7).softmax(0))


@pytest.mark.parametrize("samples", [6_400, 6_561, 17_777, 64_000])
def test_the_deployed_audio_arm_is_the_trained_one(samples: int) -> None:
    wave, other = torch.from_numpy(voice(4.0)[:samples]), torch.from_numpy(voice(2.3, seed=1))
    with torch.inference_mode():
        scores, state, observations = model().networks()["audio"](wave[None])
        assert observations.shape == (1, 1, model().audio.observed)
        assert state.shape == (1, COMPACT.audio_width)
        assert scores.shape == (1, len(COMPACT.labels))
        views = model().speech.embed([other, wave])
        assert_close(state[0], model().audio.embed(views)[1])
        assert_close(scores[0], (model().audio(views)[1] / 1.3).softmax(0))


def test_statistics_are_mean_and_deviation_over_time() -> None:
    one = steps("statistics", 25)
    flat = one.reshape(25, -1).double().numpy()
    pooled = np.concatenate([flat.mean(0), flat.std(0)]).astype(np.float32)
    assert_close(mean_and_deviation(one.flatten(1)), torch.from_numpy(pooled))
    shuffled = one[torch.randperm(25)]
    assert_close(arm("statistics").embed([shuffled]), arm("statistics").embed([one]))
    still = one[:1].expand(9, -1, -1)  # no deviation at all, which has no gradient either
    assert arm("statistics").embed([still]).isfinite().all()


def place(*shape: int) -> Place:
    """A place of (width,), or (n, width) for n of them."""
    return Place(sequence(*shape, seed=5), sequence(*shape, seed=6).abs() + 0.3)


def nowhere(width: int) -> Place:
    """The place that stands for the training set."""
    return Place(torch.zeros(width), torch.ones(width))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(lengths)
def test_the_training_set_as_a_place_changes_nothing(kind: str, lengths: list[int]) -> None:
    sequences = [steps(kind, n, seed=n + 100 * k) for k, n in enumerate(lengths)]
    same = nowhere(arm(kind).observed)
    assert torch.equal(arm(kind)(sequences, same), arm(kind)(sequences))
    alone = sequences[0][None]
    assert torch.equal(arm(kind).state(alone, same)[0], arm(kind).state(alone)[0])


def test_the_deployed_audio_arm_is_the_same_in_the_training_set_as_a_place() -> None:
    wave, same = torch.from_numpy(voice(2.0))[None], nowhere(model().audio.observed)
    with torch.inference_mode():
        there = model().networks()["audio"](wave, same.shift, same.scale)
        for one, other in zip(there, model().networks()["audio"](wave), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_each_example_of_a_batch_has_its_own_place(kind: str) -> None:
    sequences = [steps(kind, n, seed=n) for n in (4, 19, 1)]
    places = place(3, arm(kind).observed)
    together = arm(kind).embed(sequences, places)
    for number, alone in enumerate(sequences):
        one = Place(places.shift[number], places.scale[number])
        assert_close(together[number], arm(kind).state(alone[None], one)[0][0])
        assert (together[number] - arm(kind).embed([alone])[0]).abs().max() > 1e-3
        assert_close(places[number : number + 1].shift, places.shift[number][None])


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_undoes_what_it_does_to_every_observation(kind: str) -> None:
    """Observations of a place that differ from others by shift and scale alone score alike."""
    standardise, there = arm(kind).standardise, place(arm(kind).observed)
    observations = sequence(9, arm(kind).observed)
    moved = standardise.mean + standardise.deviation * (
        there.scale * standardise(observations) + there.shift
    )
    assert_close(there.apply(standardise(moved)), standardise(observations), 1e-4)
    assert_close(standardise.aligned(moved, there), observations, 1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_observations_are_standardised_by_the_training_set(kind: str) -> None:
    made = copy.deepcopy(arm(kind))
    given = [steps(kind, n, seed=n) for n in (30, 5, 12, 17, 8)]
    made.fit_statistics(given)
    seen = torch.cat([made.state(one[None])[1][0] for one in given])
    whole = kind in ("statistics", "mean")  # one observation of each sequence
    assert seen.shape == (len(given) if whole else 72, made.observed)
    assert_close(seen.mean(0), torch.zeros(made.observed), 1e-4)
    assert_close(seen.std(0, correction=0), torch.ones(made.observed), 1e-3)


def test_statistics_of_the_training_set_are_not_those_of_a_batch() -> None:
    made = StatisticsArm(WIDTH_IN, STATE, LABELS, depth=DEPTH, dropout=0.0).train()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    one, other = steps("statistics", 5), steps("statistics", 8, seed=2)
    assert_close(made.embed([one, other])[0], made.embed([one])[0])
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_without_examples_the_statistics_stay() -> None:
    made = copy.deepcopy(arm("statistics"))
    made.fit_statistics([])
    assert torch.equal(made.standardise.mean, arm("statistics").standardise.mean)


def test_the_mean_arm_is_of_normalised_embeddings_and_ignores_their_order() -> None:
    one, made = steps("mean", 25), arm("mean")
    assert isinstance(made, MeanArm)
    normal = F.layer_norm(one, (WIDTH_IN,))
    assert_close(made.observations(one), normal.mean(0, keepdim=True))
    assert_close(made.embed([one[torch.randperm(25)]]), made.embed([one]))
    louder = 3 * one + torch.randn(25, 1)  # what a layer norm takes away
    assert_close(made.embed([louder]), made.embed([one]), 1e-3)
    assert_close(OverMeans(made)(normal.mean(0, keepdim=True)), made([one]))
