"""Training and judging an arm, whatever its sequences are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Batch = tuple[Sequence[Tensor], Tensor]
"""Sequences of any lengths, and their (n,) labels."""


@dataclass(frozen=True)
class FitOptions:
    """How an arm is trained."""

    steps: int
    learning_rate: float = 2e-3  # highest, of a one-cycle schedule
    weight_decay: float = 1e-2
    label_smoothing: float = 0.1


def fit(model: nn.Module, draw: Callable[[], Batch], options: FitOptions) -> None:
    """Train a model on batches that `draw` makes, for a fixed number of steps."""
    optimizer = torch.optim.AdamW(
        model.parameters(), options.learning_rate, weight_decay=options.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, options.learning_rate, options.steps)
    model.train()
    for _ in range(options.steps):
        sequences, labels = draw()
        loss = F.cross_entropy(model(sequences), labels, label_smoothing=options.label_smoothing)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def unweighted_recall(predicted: np.ndarray, labels: np.ndarray) -> float:
    """The mean over the classes of the share of each that is recognised."""
    present = np.unique(labels)
    return float(np.mean([(predicted[labels == label] == label).mean() for label in present]))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature under which logits are likeliest (Guo et al. 2017)."""
    temperatures = np.exp(np.linspace(np.log(0.2), np.log(5), 400))
    return float(min(temperatures, key=lambda t: negative_log_likelihood(logits / t, labels)))


def negative_log_likelihood(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean over (n, classes) logits."""
    return float(F.cross_entropy(torch.as_tensor(logits), torch.as_tensor(labels)))


def calibration_error(scores: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Expected calibration error: how far confidence is from accuracy, over equal-width bins."""
    confidence, correct = scores.max(1), scores.argmax(1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(confidence[which == k].mean() - correct[which == k].mean()) * (which == k).mean()
        for k in np.unique(which)
    ]
    return float(sum(gaps))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn (n, classes) logits into probabilities."""
    return torch.as_tensor(logits).softmax(1).numpy()
