"""Statistics of corpora, speakers and places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.train.voices.corpora import WIDTH, features_of, seeded, several, small_preset, truth_of
from train.data.batches import Split
from train.models.emotion_model import audio_arm
from train.voices.corpora import Corpora
from train.voices.examples import VoiceExamples, observations
from train.voices.recipe import PlaceShares, VoiceRecipe
from train.voices.statistics import (
    PRIOR_RECORDINGS,
    Moments,
    PlaceSampler,
    adapted_place,
    training_moments,
)

ENTRIES = several()
CORPORA = Corpora.of(ENTRIES, truth_of(ENTRIES))
EVERY = np.arange(len(ENTRIES))
PART = EVERY[[entry.dataset != "gamma" for entry in ENTRIES]]


def drawn(seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(1, 2, (len(ENTRIES), 5))).float()


def test_training_statistics_count_corpora_alike_and_leave_out_their_differences() -> None:
    x = drawn() + 5 * torch.from_numpy(CORPORA.corpus)[:, None]
    moments = training_moments(x, CORPORA, PART)
    groups = [x[PART[CORPORA.corpus[PART] == c]] for c in np.unique(CORPORA.corpus[PART])]
    expected = torch.stack([group.mean(0) for group in groups]).mean(0)
    torch.testing.assert_close(moments.mean, expected)
    spread = torch.stack([group.var(0, correction=0) for group in groups]).mean(0)
    torch.testing.assert_close(moments.variance, spread)
    assert (moments.variance < 0.8 * x[PART].var(0)).all()


def test_a_place_is_blended_by_how_much_was_heard() -> None:
    x = drawn()
    for count in (2, 10, 50):
        heard, place = x[:count], adapted_place(x[:count])
        share = count / (count + PRIOR_RECORDINGS)
        torch.testing.assert_close(place.shift, share * heard.mean(0))
        variance = share * heard.var(0, correction=0) + 1 - share
        torch.testing.assert_close(place.scale, variance.sqrt(), atol=1e-5, rtol=1e-5)
    one = adapted_place(x[:1])
    torch.testing.assert_close(one.scale, torch.ones(5), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", range(4))
def test_places_are_of_the_kind_asked_for(kind: int) -> None:
    x, random = drawn(), np.random.default_rng(0)
    sampler = PlaceSampler(x, CORPORA, PART)
    examples = random.choice(PART, 64)
    weights = [0.0] * 4
    weights[kind] = 1.0
    moments = sampler.draw(examples, tuple(weights), random)
    for row, example in enumerate(examples):
        own = Moments.of(x[PART[CORPORA.corpus[PART] == CORPORA.corpus[example]]])
        person = PART[CORPORA.person[PART] == CORPORA.person[example]]
        if kind == 0:
            expected = sampler.training
        elif kind == 1:
            expected = own
        elif kind == 2:
            expected = Moments.of(x[person]).blended(len(person), own)
        else:
            assert (moments.mean[row] - own.mean).abs().max() < 3
            continue
        torch.testing.assert_close(moments.mean[row], expected.mean)
        torch.testing.assert_close(moments.variance[row], expected.variance)


def test_differences_are_between_people_of_the_training_part() -> None:
    x = torch.zeros(len(ENTRIES), 3)
    x[[entry.dataset == "gamma" for entry in ENTRIES]] = 1e6  # not in the training part
    gaps = PlaceSampler(x, CORPORA, PART).differences(200, np.random.default_rng(0))
    assert gaps.shape == (200, 3) and not gaps.any()
    varied = PlaceSampler(drawn(), CORPORA, PART).differences(200, np.random.default_rng(0))
    assert varied.abs().max() > 0.1
    assert varied.mean().abs() < 0.3


def examples(recipe: VoiceRecipe) -> VoiceExamples:
    arm = audio_arm(small_preset(), seeded(), 7)
    return VoiceExamples(arm, features_of(ENTRIES), CORPORA, Split(PART, EVERY[:0]), recipe)  # type: ignore[arg-type]


def test_without_training_examples_are_as_the_arm_takes_them() -> None:
    arm, features = audio_arm(small_preset(), seeded(), 7), features_of(ENTRIES)
    made = VoiceExamples(arm, features, CORPORA, Split(PART, EVERY[:0]), VoiceRecipe())  # type: ignore[arg-type]
    batch = made.batch(EVERY[:9], None)
    assert batch.place is None
    sequences = [torch.from_numpy(features.sequences[i][0]) for i in range(9)]
    arm.eval()
    with torch.no_grad():
        expected = arm(sequences)
        torch.testing.assert_close(
            arm.classifier(arm.state_of(batch.observations)),  # type: ignore[operator]
            expected,
        )
    raw = observations(arm, features, 0)  # type: ignore[arg-type]
    assert raw.shape == (len(ENTRIES), 2 * WIDTH)
    torch.testing.assert_close(arm.standardise(raw)[:9], batch.observations)


def test_training_draws_views_and_places_by_their_shares() -> None:
    made = examples(VoiceRecipe(clean=0.7))
    batch = made.batch(np.repeat(PART[0], 500), np.random.default_rng(0))
    is_clean = (batch.observations == made.views[0][PART[0]]).all(1).float().mean()
    assert 0.62 < is_clean < 0.78
    assert batch.place is not None and not batch.place.shift.any()
    moved = examples(VoiceRecipe(moved=0.5)).batch(PART, np.random.default_rng(0))
    assert moved.place is not None
    assert 0.3 < moved.place.shift.any(1).float().mean() < 0.7
    own = examples(VoiceRecipe(places=PlaceShares(0, 1, 0, 0)))
    standing = own.batch(PART, np.random.default_rng(0)).place
    assert standing is not None
    by_corpus = standing.apply(own.views[0][torch.from_numpy(PART)])
    for number in np.unique(CORPORA.corpus[PART]):
        mean = by_corpus[CORPORA.corpus[PART] == number].mean(0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
