"""How examples come in batches, and what a model says of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from train.data.batches import class_weights, predict, training_batches
from train.models.arms import GruArm
from train.options import TrainOptions


def options(batch: int, **more: Any) -> TrainOptions:
    return TrainOptions(1, 0.1, "constant", batch, **more)


class Sequences:
    """Random sequences of random lengths."""

    targets: np.ndarray | None = None

    def __init__(self, n: int, seed: int = 0, longest: int = 40) -> None:
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, 3, n)
        self.lengths = random.integers(1, longest + 1, n)
        self.sequences = [
            torch.from_numpy(random.normal(0, 1, (length, 4)).astype(np.float32))
            for length in self.lengths
        ]

    def batch(self, indices: np.ndarray, random: np.random.Generator | None) -> list[Tensor]:
        return [self.sequences[index] for index in indices]


class Labels(Sequences):
    """Examples of which only the labels matter, all of one length."""

    def __init__(self, labels: list[int]) -> None:
        self.labels = np.array(labels)
        self.lengths: Any = None


@settings(max_examples=30)
@given(st.integers(1, 300), st.integers(1, 20), st.booleans(), st.integers(0, 5))
def test_an_epoch_has_each_example_once(n: int, batch: int, sized: bool, seed: int) -> None:
    examples = Sequences(n) if sized else Labels([0] * n)
    part = np.arange(n)[::2]
    batches = training_batches(examples, part, options(batch), np.random.default_rng(seed))
    assert sorted(np.concatenate(batches)) == list(part)
    assert len(batches) == -(-len(part) // batch)
    assert max(map(len, batches)) <= batch
    again = training_batches(examples, part, options(batch), np.random.default_rng(seed))
    assert all(np.array_equal(*pair) for pair in zip(batches, again, strict=True))


def test_batches_of_like_lengths_waste_little() -> None:
    examples, random = Sequences(1024), np.random.default_rng(0)

    def padding(batches: list[np.ndarray]) -> float:
        """The share of a padded batch that is no example."""
        padded = sum(examples.lengths[b].max() * len(b) for b in batches)
        return 1 - examples.lengths.sum() / padded

    sorted_ones = padding(training_batches(examples, np.arange(1024), options(16), random))
    assert sorted_ones < 0.15 < 0.4 < padding(np.split(random.permutation(1024), 64))


def test_short_ones_don_t_come_first() -> None:
    examples = Sequences(1024)
    batches = training_batches(examples, np.arange(1024), options(16), np.random.default_rng(0))
    means = [examples.lengths[b].mean() for b in batches]
    assert abs(np.corrcoef(np.arange(8), np.reshape(means, (8, 8)).mean(0))[0, 1]) < 0.9
    assert abs(np.corrcoef(np.arange(64), means)[0, 1]) < 0.3


def test_weighted_drawing_makes_classes_alike() -> None:
    labels = [0] * 900 + [1] * 90 + [2] * 10
    examples, part = Labels([*labels, 3, 3]), np.arange(1000)
    batches = training_batches(
        examples, part, options(16, weighted_sampling=True), np.random.default_rng(0)
    )
    drawn = np.concatenate(batches)
    assert len(drawn) == 1000 and drawn.max() < 1000
    np.testing.assert_allclose(np.bincount(examples.labels[drawn]) / 1000, 1 / 3, atol=0.05)


def test_class_weights_by_hand() -> None:
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 3])
    weights = class_weights(labels, 4, 0.3)
    expected = [(9 / (4 * 6)) ** 0.3, (9 / (4 * 2)) ** 0.3, 1.0, (9 / 4) ** 0.3]
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert class_weights(labels, 4, 0.0).tolist() == [1.0] * 4


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_padding_changes_no_prediction(batch: int) -> None:
    torch.manual_seed(0)
    arm, examples, indices = GruArm(4, 8, 3), Sequences(50), np.arange(50)[::-2]
    logits = predict(arm, examples, indices, batch)
    assert logits.shape == (25, 3) and logits.dtype == np.float32
    with torch.no_grad():
        alone = torch.cat([arm([examples.sequences[index]]) for index in indices])
    np.testing.assert_allclose(logits, alone, atol=1e-6)


def test_predicting_is_without_dropout_or_gradients() -> None:
    arm = GruArm(4, 8, 3, dropout=0.9).train()
    one, again = (predict(arm, Sequences(9), np.arange(9)) for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert all(parameter.grad is None for parameter in arm.parameters())


@pytest.mark.parametrize("sized", [True, False])
def test_the_last_batch_is_left_out_if_asked_for(sized: bool) -> None:
    examples = Sequences(50) if sized else Labels([0] * 50)
    drawn = options(16, drop_last=True)
    batches = training_batches(examples, np.arange(50), drawn, np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [16, 16, 16]
    assert len(np.unique(np.concatenate(batches))) == 48
