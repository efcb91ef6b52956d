"""The loss: heads as one arm, labels of the own corpus, and contrast across corpora."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tests.train.voices.corpora import seeded, several, small_preset, truth_of
from train.data.batches import Split
from train.errors import TrainError
from train.models.arms import StatisticsArm
from train.models.emotion_model import audio_arm
from train.models.standardise import Place
from train.voices.corpora import Corpora
from train.voices.examples import OverObservations, VoiceBatch
from train.voices.objective import VoiceObjective, contrastive_loss
from train.voices.recipe import VoiceRecipe

ENTRIES = several()
CORPORA = Corpora.of(ENTRIES, truth_of(ENTRIES))
EVERY = np.arange(len(ENTRIES))
WHOLE = Split(EVERY, EVERY[:0])


def arm() -> StatisticsArm:
    made = audio_arm(small_preset(), seeded(), 7)
    assert isinstance(made, StatisticsArm)
    return made


def batch_of(made: StatisticsArm, count: int, seed: int = 0) -> VoiceBatch:
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(count, made.observed, generator=random)
    return VoiceBatch(x, Place(0.1 * x.mean(0), 0.5 + x.std(0)))


@pytest.mark.parametrize("heads", [1, 3, 4])
def test_the_arm_gives_the_mean_of_its_heads(heads: int) -> None:
    made = arm().eval()
    model, batch = OverObservations(made, heads).eval(), batch_of(made, 9)
    found = list(model.heads(batch))
    assert len(found) == heads
    mean = torch.stack([logits for _, logits in found]).mean(0)
    torch.testing.assert_close(model(batch), mean)
    states = torch.cat([states for states, _ in found], 1)
    torch.testing.assert_close(states, made.state_of(batch.observations, batch.place))


def test_heads_must_share_the_hidden_layer_evenly() -> None:
    with pytest.raises(TrainError, match="5 heads"):
        OverObservations(arm(), 5)


def loss_of(recipe: VoiceRecipe, indices: np.ndarray, smoothing: float = 0.0) -> float:
    made = arm().eval()
    objective = VoiceObjective(CORPORA, WHOLE, 7, recipe, smoothing)
    model = OverObservations(made, recipe.heads).eval()
    logits, loss = objective.loss(model, batch_of(made, len(indices)), indices)
    assert logits.shape == (len(indices), 7)
    return loss.item()


def test_the_plain_loss_is_a_cross_entropy() -> None:
    indices = EVERY[::7]
    made = arm().eval()
    logits = OverObservations(made).eval()(batch_of(made, len(indices)))
    truth = torch.from_numpy(CORPORA.truth[indices])
    recipe = VoiceRecipe(ordinary_smoothing=0.0)
    plain = F.cross_entropy(logits, truth).item()
    assert loss_of(recipe, indices) == pytest.approx(plain, rel=1e-5)
    adjusted = loss_of(VoiceRecipe(ordinary_smoothing=0.0, prior_adjustment=1.0), indices)
    prior = np.bincount(CORPORA.truth, CORPORA.weights(EVERY, recipe), 7)
    expected = F.cross_entropy(logits + torch.from_numpy(np.log(prior)).float(), truth)
    assert adjusted == pytest.approx(expected.item(), rel=1e-4)


def test_ordinary_talk_has_a_smoothing_of_its_own() -> None:
    soft = np.flatnonzero(CORPORA.soft)
    acted = np.flatnonzero(~CORPORA.soft)[: len(soft)]
    for indices, changed in ((soft, True), (acted, False)):
        hard, smooth = (loss_of(VoiceRecipe(ordinary_smoothing=s), indices) for s in (0.0, 0.4))
        assert (hard != pytest.approx(smooth)) == changed


def test_labels_that_a_corpus_lacks_are_no_error_in_the_closed_loss() -> None:
    beta = np.flatnonzero([entry.dataset == "beta" for entry in ENTRIES])
    alpha = np.flatnonzero([entry.dataset == "alpha" for entry in ENTRIES])
    assert loss_of(VoiceRecipe(closed=1.0), beta) < loss_of(VoiceRecipe(), beta)  # 4 of 7 labels
    closed, plain = (loss_of(VoiceRecipe(closed=share), alpha) for share in (1.0, 0.0))
    assert closed == pytest.approx(plain, rel=1e-5)  # it has all labels


def test_contrast_pulls_a_label_of_two_corpora_together() -> None:
    truth, corpus = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 0, 1])
    near = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0], [0.1, 1.0]])
    far = near[[0, 2, 1, 3]]
    assert contrastive_loss(near, truth, corpus, 0.1) < contrastive_loss(far, truth, corpus, 0.1)
    same_corpus = contrastive_loss(near.requires_grad_(), truth, torch.zeros(4), 0.1)
    assert same_corpus.item() == 0.0
    same_corpus.backward()  # type: ignore[no-untyped-call]


def test_contrast_is_that_of_khosla() -> None:
    """Written out for one example at a time."""
    states = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    truth, corpus = torch.arange(10) % 3, torch.arange(10) % 2
    unit = states / states.norm(dim=1, keepdim=True)
    each = []
    for i in range(10):
        others = [j for j in range(10) if j != i]
        positives = [j for j in others if truth[j] == truth[i] and corpus[j] != corpus[i]]
        if positives:
            total = sum(float((unit[i] @ unit[j] / 0.2).exp()) for j in others)
            each.append(
                -np.mean([float(unit[i] @ unit[j] / 0.2) - np.log(total) for j in positives])
            )
    loss = contrastive_loss(states, truth, corpus, 0.2).item()
    assert loss == pytest.approx(np.mean(each), rel=1e-4)
