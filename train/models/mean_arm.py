"""The image arm of `compact`: the mean of a face's embeddings over time, and one hidden layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.arms import SequenceArm
from train.models.standardise import Place

MEAN_DROPOUT = 0.1  # of the means, in training
DROPOUT = 0.2  # of the hidden layer


class MeanArm(SequenceArm):
    """Mean over time of normalised embeddings, and one hidden layer over it.

    Over the face network's embeddings neither a GRU nor deviations nor maxima over time were better
    on people left out. A sequence's mean is its one observation, taken as it is: the means of a
    place are given the mean and deviation of training.

    Args:
        width_in: numbers per step.
    """

    def __init__(self, width_in: int, width: int, labels: int, dropout: float = DROPOUT) -> None:
        super().__init__(width, width_in, labels, dropout)
        self.norm = nn.LayerNorm(width_in, elementwise_affine=False)
        self.mean_dropout = nn.Dropout(MEAN_DROPOUT)
        self.hidden = nn.Linear(width_in, width)

    def observations(self, sequence: Tensor) -> Tensor:
        return self.norm(sequence).mean(0, keepdim=True)

    def state(self, sequence: Tensor, place: Place | None = None) -> tuple[Tensor, Tensor]:
        means = self.norm(sequence).mean(1)
        return self.state_of(means, place), self.standardise(means)[None]

    def embed(self, sequences: Sequence[Tensor], place: Place | None = None) -> Tensor:
        means = torch.cat([self.observations(sequence) for sequence in sequences])
        return self.state_of(means, place)

    def state_of(self, means: Tensor, place: Place | None = None) -> Tensor:
        """Give the (n, width) states of n sequences' means, (n, width_in)."""
        aligned = means if place is None else self.standardise.aligned(means, place)
        return F.gelu(self.hidden(self.mean_dropout(aligned)))


class OverMeans(nn.Module):
    """An arm that takes means of sequences in place of sequences."""

    def __init__(self, arm: MeanArm) -> None:
        super().__init__()
        self.arm = arm

    def forward(self, means: Tensor) -> Tensor:
        """Give (n, labels) logits of n means, (n, width_in)."""
        return self.arm.classifier(self.arm.dropout(self.arm.state_of(means)))
