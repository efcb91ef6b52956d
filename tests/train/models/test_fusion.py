"""Fusion: the paper's classifier over both arms, and the pool of `compact`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from train.data.batches import Split
from train.evaluate.metrics import calibration_error
from train.models.arms import GruArm
from train.models.fusion import (
    MAX_DISCOUNT,
    FittedFusion,
    FusedClassifier,
    OpinionPool,
    fit_fusion,
    sureness,
)
from train.options import NO_FOLDER, TrainOptions
from train.stages import train_combined

LABELS = np.random.default_rng(5).integers(0, 8, 6000)


def evidence(labels: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Calibrated logits of an arm: log-likelihoods of a noisy look at the label, (n, 8)."""
    random = np.random.default_rng(seed)
    seen = strength * np.eye(8)[labels] + random.standard_normal((len(labels), 8))
    return (strength * seen).astype(np.float32)


def accuracy(logits: np.ndarray) -> float:
    return float((logits.argmax(1) == LABELS).mean())


def scores(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(np.asarray(logits, np.float32)).softmax(1).numpy()


def pool(discount: tuple[float, float] = (0.0, 0.0), bias: float = 0.0) -> OpinionPool:
    made = OpinionPool(8)
    made.discount.copy_(torch.tensor(discount))
    made.bias.copy_(bias * torch.linspace(-1, 1, 16).view(2, 8))
    return made


def test_arms_that_err_apart_count_as_their_likelihoods_do() -> None:
    visual, audio = evidence(LABELS, 1.3, 1), evidence(LABELS, 1.7, 2)
    fitted = fit_fusion(visual, 2 * audio, LABELS)  # twice as sure of itself as it should be
    assert fitted.visual_temperature == pytest.approx(1, abs=0.1)
    assert fitted.audio_temperature == pytest.approx(2, abs=0.1)
    assert fitted.pool.discount.max() < 0.1
    assert fitted.pool.bias.abs().max() < 0.15


def test_an_arm_that_knows_nothing_counts_for_nothing() -> None:
    visual = evidence(LABELS, 1.5, 1)
    noise = np.random.default_rng(3).normal(0, 2, visual.shape).astype(np.float32)
    fitted = fit_fusion(visual, noise, LABELS)
    assert fitted.audio_temperature > 4.9
    assert fitted.visual_temperature == pytest.approx(1, abs=0.1)
    assert accuracy(fitted.logits(visual, noise)) >= accuracy(visual) - 0.01


def test_arms_that_complement_each_other_beat_each_alone() -> None:
    # One tells only the pair of labels, the other only which of the pair.
    noise = np.random.default_rng(4).normal(0, 0.3, (2, len(LABELS), 8))
    visual = (3 * (np.arange(8) // 2 == LABELS[:, None] // 2) + noise[0]).astype(np.float32)
    audio = (3 * (np.arange(8) % 2 == LABELS[:, None] % 2) + noise[1]).astype(np.float32)
    fused = fit_fusion(visual, audio, LABELS).logits(visual, audio)
    assert accuracy(visual) < 0.6
    assert accuracy(audio) < 0.4
    assert accuracy(fused) > 0.95


def test_arms_that_err_together_are_discounted() -> None:
    visual = evidence(LABELS, 1.5, 1)
    apart = fit_fusion(visual, evidence(LABELS, 1.5, 2), LABELS)
    together = fit_fusion(visual, visual + 0.01, LABELS)
    assert together.pool.discount.min() > apart.pool.discount.max() + 0.1
    fused = scores(together.logits(visual, visual + 0.01))
    assert calibration_error(fused, LABELS) < calibration_error(scores(2 * visual), LABELS)


def test_the_bias_follows_what_is_common() -> None:
    labels = np.where(np.arange(6000) % 3 == 0, LABELS, 4)
    fitted = fit_fusion(evidence(labels, 0.8, 1), evidence(labels, 0.8, 2), labels)
    bias = fitted.pool.bias.numpy()
    assert bias.argmax(1).tolist() == [4, 4]
    assert bias[:, 4].min() > 0.3


def test_labels_that_do_not_occur_keep_no_bias() -> None:
    labels = np.where(LABELS < 5, LABELS, 0)
    fitted = fit_fusion(evidence(labels, 1.0, 1), evidence(labels, 1.0, 2), labels)
    assert not fitted.pool.bias[:, 5:].any()
    assert fitted.pool.bias[:, 0].min() > 0
    torch.testing.assert_close(fitted.pool.bias.sum(1), torch.zeros(2), atol=1e-5, rtol=0)


discounts = st.tuples(st.floats(0, MAX_DISCOUNT), st.floats(0, MAX_DISCOUNT))


@settings(max_examples=50)
@given(seed=st.integers(0, 999), discount=discounts, bias=st.floats(0, 2))
def test_an_arm_with_uniform_scores_changes_nothing(
    seed: int, discount: tuple[float, float], bias: float
) -> None:
    logits = torch.randn(5, 8, generator=torch.Generator().manual_seed(seed)) * 3
    uniform, made = torch.full((5, 8), 0.7), pool(discount)
    for fused in (made(logits, uniform), made(uniform, logits)):
        torch.testing.assert_close(fused.softmax(1), logits.softmax(1), atol=1e-4, rtol=1e-4)
    # A bias counts as much as its arm is sure: that of the uniform arm changes nothing either.
    biased = pool(discount, bias)
    other = pool(discount, bias)
    other.bias[1] = 5.0 * torch.randn(8)
    torch.testing.assert_close(
        biased(logits, uniform).softmax(1), other(logits, uniform).softmax(1), atol=1e-4, rtol=1e-4
    )


@settings(max_examples=50)
@given(seed=st.integers(0, 999), discount=discounts)
def test_arms_of_one_opinion_are_surer_than_each(seed: int, discount: tuple[float, float]) -> None:
    logits = torch.randn(20, 8, generator=torch.Generator().manual_seed(seed)) * 3
    alone = logits.softmax(1).amax(1)
    together = pool(discount)(logits, logits).softmax(1)
    assert torch.equal(together.argmax(1), logits.argmax(1))
    assert (together.amax(1) >= alone - 1e-4).all()
    wavering = (alone < 0.99) & (sum(discount) < 0.95)
    assert (together.amax(1) > alone)[wavering].all()


def test_the_less_sure_of_two_arms_gives_way() -> None:
    sure, unsure = torch.zeros(1, 8), torch.zeros(1, 8)
    sure[0, 2], unsure[0, 5] = 6.0, 2.0
    for fused in (pool((0.5, 0.5))(sure, unsure), pool((0.5, 0.5))(unsure, sure)):
        assert fused.argmax() == 2
    assert float(sureness(sure.log_softmax(1))) > 0.9
    assert 0 < float(sureness(unsure.log_softmax(1))) < 0.3
    assert float(sureness(torch.zeros(1, 8).log_softmax(1))) == pytest.approx(0, abs=1e-6)


def test_pooled_logits_by_hand() -> None:
    made = OpinionPool(2)
    made.discount.copy_(torch.tensor([0.5, 0.25]))
    visual, audio = np.array([[0.8, 0.2]]), np.array([[0.4, 0.6]])
    sure = [1 + float((p * np.log2(p)).sum()) for p in (visual, audio)]
    expected = (1 - 0.5 * sure[1]) * np.log(visual) + (1 - 0.25 * sure[0]) * np.log(audio)
    fitted = FittedFusion(1.0, 2.0, made)
    result = fitted.logits(np.log(visual) + 3, 2 * np.log(audio) - 1)
    np.testing.assert_allclose(result, expected, rtol=1e-5)
    assert result.dtype == np.float32


class Pairs:
    """Random faces and voices with the class in their first step."""

    targets: np.ndarray | None = None

    def __init__(self, n: int = 60) -> None:
        random = np.random.default_rng(0)
        self.labels = np.arange(n) % 8
        self.lengths = random.integers(2, 7, n)
        self.sequences = [
            [
                torch.from_numpy(random.normal(0, 1, (k, width)).astype(np.float32))
                for width in (9, 11)
            ]
            for k in self.lengths
        ]
        for label, pair in zip(self.labels, self.sequences, strict=True):
            for sequence in pair:
                sequence[0, label] += 3

    def batch(
        self, indices: np.ndarray, random: np.random.Generator | None
    ) -> tuple[list[Tensor], list[Tensor]]:
        faces, voices = zip(*(self.sequences[index] for index in indices), strict=True)
        return list(faces), list(voices)


@pytest.fixture
def arms() -> tuple[GruArm, GruArm]:
    """An arm over faces and one over voices, of different widths."""
    torch.manual_seed(0)
    return GruArm(9, 6, 8, norm=False), GruArm(11, 4, 8, norm=False)


def test_the_fused_classifier_starts_as_the_arms_side_by_side(arms: tuple[GruArm, GruArm]) -> None:
    visual, audio = arms
    pair = Pairs().batch(np.arange(20), None)
    with torch.no_grad():
        logits = FusedClassifier(visual, audio).eval()(pair)
        faces, voices = visual.eval()(pair[0]), audio.eval()(pair[1])
        # Each arm's logits have all of its own bias; the fused ones have half of either.
        expected = faces + voices - (visual.classifier.bias + audio.classifier.bias) / 2
    torch.testing.assert_close(logits, expected)


def test_the_combined_stage_changes_nothing_in_the_arms(arms: tuple[GruArm, GruArm]) -> None:
    before = [{n: v.clone() for n, v in arm.state_dict().items()} for arm in arms]
    start = FusedClassifier(*arms).classifier.weight.detach().clone()
    options = TrainOptions(epochs=8, learning_rate=1e-2, schedule="constant", keep="last")
    split = Split(np.arange(60), np.arange(0))
    fused = train_combined(options, *arms, examples=Pairs(), split=split, stage=NO_FOLDER)
    assert set(fused.state_dict()) == {"classifier.weight", "classifier.bias"}
    assert (fused.classifier.weight - start).abs().max() > 1e-3
    for arm, state in zip(arms, before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in arm.state_dict().items())
        assert all(parameter.grad is None for parameter in arm.parameters())


def test_the_arms_forget_nothing_at_random_while_the_fused_classifier_learns(
    arms: tuple[GruArm, GruArm],
) -> None:
    pair = Pairs().batch(np.arange(20), None)
    fused = FusedClassifier(*(arm.train() for arm in arms)).train()
    with torch.no_grad():
        torch.testing.assert_close(fused(pair), fused(pair), rtol=0, atol=0)
