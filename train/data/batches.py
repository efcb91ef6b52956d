"""Labelled examples of any kind, and how they come in batches."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

BUCKET = 8  # batches among which an epoch's examples are sorted by length


class Examples(Protocol):
    """What a model learns from and is validated on."""

    @property
    def labels(self) -> np.ndarray:
        """(n,) int64 classes."""

    @property
    def lengths(self) -> np.ndarray | None:
        """(n,) sizes, in any unit, for batches of like ones; None where all are alike."""

    def batch(self, indices: np.ndarray, random: np.random.Generator | None) -> Any:
        """Give the model's input for some examples.

        Args:
            random: of the changes that training makes to them; None: as they are.
        """


def training_batches(
    examples: Examples,
    part: np.ndarray,
    batch: int,
    random: np.random.Generator,
    weighted: bool = False,
) -> list[np.ndarray]:
    """Share out an epoch's examples in random order, with much the same length in a batch.

    Args:
        part: (n,) indices of the examples to learn from.
        weighted: draw as many, with replacement, so that every class is as likely; else each
            example comes once.
    """
    if weighted:
        labels = examples.labels[part]
        rarity = 1 / np.bincount(labels)[labels]
        order = random.choice(part, len(part), p=rarity / rarity.sum())
    else:
        order = random.permutation(part)
    if examples.lengths is None:
        return _pieces(order, batch)
    batches = []
    for chunk in _pieces(order, BUCKET * batch):
        by_length = np.argsort(examples.lengths[chunk], kind="stable")
        batches += _pieces(chunk[by_length], batch)
    return [batches[number] for number in random.permutation(len(batches))]


@torch.no_grad()
def predict(
    model: nn.Module, examples: Examples, indices: np.ndarray, batch: int = 16
) -> np.ndarray:
    """Give (n, classes) float32 logits of examples as they are; leaves evaluation mode on."""
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
    """Weigh rare classes more: (classes,) float32 of (n / (classes * count)) ** power.

    A class that has no labels weighs 1.
    """
    counts = torch.bincount(torch.as_tensor(labels), minlength=classes)
    weights = (len(labels) / (classes * counts.clamp(min=1))) ** power
    return weights.where(counts > 0, torch.ones(()))


def _pieces(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[start : start + size] for start in range(0, len(order), size)]
