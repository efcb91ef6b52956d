"""Fusion: the paper's classifier over both arms, and the weights of `compact`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from train.data.batches import Split
from train.models.arms import GruArm
from train.models.fusion import FusedClassifier, FusionWeights, fit_fusion
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


def test_arms_that_err_apart_count_as_their_likelihoods_do() -> None:
    visual, audio = evidence(LABELS, 1.3, 1), evidence(LABELS, 1.7, 2)
    weights = fit_fusion(visual, 2 * audio, LABELS)  # twice as sure of itself as it should be
    assert weights.visual == pytest.approx(1, abs=0.1)
    assert weights.audio == pytest.approx(0.5, abs=0.05)
    assert np.abs(weights.bias).max() < 0.15


def test_an_arm_that_knows_nothing_counts_for_nothing() -> None:
    visual = evidence(LABELS, 1.5, 1)
    noise = np.random.default_rng(3).normal(0, 2, visual.shape).astype(np.float32)
    weights = fit_fusion(visual, noise, LABELS)
    assert abs(weights.audio) < 0.03
    assert weights.visual == pytest.approx(1, abs=0.1)
    assert accuracy(weights.logits(visual, noise)) >= accuracy(visual) - 0.01


def test_arms_that_complement_each_other_beat_each_alone() -> None:
    # One tells only the pair of labels, the other only which of the pair.
    noise = np.random.default_rng(4).normal(0, 0.3, (2, len(LABELS), 8))
    visual = (3 * (np.arange(8) // 2 == LABELS[:, None] // 2) + noise[0]).astype(np.float32)
    audio = (3 * (np.arange(8) % 2 == LABELS[:, None] % 2) + noise[1]).astype(np.float32)
    fused = fit_fusion(visual, audio, LABELS).logits(visual, audio)
    assert accuracy(visual) < 0.6
    assert accuracy(audio) < 0.4
    assert accuracy(fused) > 0.95


def test_the_bias_follows_what_is_common() -> None:
    labels = np.where(np.arange(6000) % 3 == 0, LABELS, 4)
    weights = fit_fusion(evidence(labels, 0.8, 1), evidence(labels, 0.8, 2), labels)
    assert weights.bias.argmax() == 4
    assert weights.bias[4] > 0.5


def test_weighted_logits_by_hand() -> None:
    weights = FusionWeights(0.5, 2.0, np.array([0.0, 1.0]))
    joint = weights.logits(np.array([[2.0, 4.0]]), np.array([[1.0, -1.0]]))
    np.testing.assert_array_equal(joint, np.array([[3.0, 1.0]], np.float32))
    assert joint.dtype == np.float32


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
