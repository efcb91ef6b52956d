"""Labelled examples of any kind, their split, and their batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from train.options import TrainOptions

BUCKET = 8  # batches among which an epoch's examples are sorted by length


class Examples(Protocol):
    """Labelled examples for training and validation."""

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 classes."""

    @property
    def targets(self) -> np.ndarray | None:
        """(n, classes) float32 probabilities to train on in place of the labels; None: labels."""

    @property
    def lengths(self) -> np.ndarray | None:
        """(n,) sizes, in any unit, for batches of similar ones; None if all are alike."""

    def batch(self, indices: np.ndarray, random: np.random.Generator | None) -> Any:
        """Give the model's input for some examples.

        Args:
            random: of the augmentation in training, beside PyTorch's; None: no augmentation.
        """


@dataclass(frozen=True)
class Split:
    """Indices of examples for training and for validation."""

    train: np.ndarray  # (n,) int64
    valid: np.ndarray  # (m,) int64; may be empty if the last epoch is kept

    def where(self, mask: np.ndarray) -> Split:
        """Keep the examples of a mask over all of them: (all,) bool."""
        return Split(self.train[mask[self.train]], self.valid[mask[self.valid]])


def training_batches(
    examples: Examples, part: np.ndarray, options: TrainOptions, random: np.random.Generator
) -> list[np.ndarray]:
    """Draw an epoch's batches in random order, with similar lengths in a batch.

    Args:
        part: (n,) indices of the training examples.
        options: their `weighted_sampling` draws as many, with replacement, so that every class is
            as likely; else each example comes once.
    """
    if options.weighted_sampling:
        labels = examples.labels[part]
        rarity = 1 / np.bincount(labels)[labels]
        order = random.choice(part, len(part), p=rarity / rarity.sum())
    else:
        order = random.permutation(part)
    if options.drop_last:
        order = order[: len(order) // options.batch * options.batch]
    if examples.lengths is None:
        return _pieces(order, options.batch)
    batches = []
    for chunk in _pieces(order, BUCKET * options.batch):
        by_length = np.argsort(examples.lengths[chunk], kind="stable")
        batches += _pieces(chunk[by_length], options.batch)
    return [batches[number] for number in random.permutation(len(batches))]


@torch.no_grad()
def predict(
    model: nn.Module, examples: Examples, indices: np.ndarray, batch: int = 16
) -> np.ndarray:
    """Give (n, classes) float32 logits without augmentation; leaves evaluation mode on."""
    model.eval()
    order = np.arange(len(indices))
    if examples.lengths is not None:
        order = np.argsort(examples.lengths[indices], kind="stable")
    logits = [
        model(examples.batch(indices[piece], None)).float().cpu().numpy()
        for piece in _pieces(order, batch)
    ]
    return np.concatenate(logits)[np.argsort(order)]


def class_weights(labels: np.ndarray, classes: int, power: float) -> Tensor:
    """Weights of rare classes: (classes,) float32 of (n / (classes * count)) ** power.

    A class without labels weighs 1.
    """
    counts = torch.bincount(torch.as_tensor(labels), minlength=classes)
    weights = (len(labels) / (classes * counts.clamp(min=1))) ** power
    return weights.where(counts > 0, torch.ones(()))


def _pieces(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]
