"""Standardisation of an arm's observations: by its training set, and by the place in use.

An observation is what an arm takes from its backbone: each step of a sequence (`GruArm`), or the
mean and deviation of a whole recording (`StatisticsArm`). Adaptation without labels replaces their
mean and deviation in training by those of a place or a person, as adaptive batch normalisation does
(Li et al. 2016, "Revisiting Batch Normalization For Practical Domain Adaptation").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

EPSILON = 1e-6  # added to variances: an observation that never varied in training stays finite


@dataclass(frozen=True)
class Place:
    """Mean and deviation of the standardised observations of a place or a person.

    Zeros and ones stand for the training set itself and change nothing.
    """

    shift: Tensor  # (width,), or (n, width) for each of n examples
    scale: Tensor  # as shift, over 0

    def __getitem__(self, examples: slice | Tensor) -> Place:
        """The places of some examples; the same if all examples share one."""
        if self.shift.dim() == 1:
            return self
        return Place(self.shift[examples], self.scale[examples])

    def repeated(self, counts: Sequence[int]) -> Place:
        """The place of each observation, for examples of so many."""
        if self.shift.dim() == 1:
            return self
        repeats = torch.tensor(counts, device=self.shift.device)
        return Place(*(part.repeat_interleave(repeats, 0) for part in (self.shift, self.scale)))

    def apply(self, standardised: Tensor) -> Tensor:
        """Standardise (..., width) observations, standardised by the training set, anew."""
        return (standardised - self.shift) / self.scale


class Standardise(nn.Module):
    """Standardisation by the mean and deviation of the training set, which are not learned.

    Args:
        width: of an observation.
    """

    mean: Tensor  # (width,)
    deviation: Tensor  # (width,)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("deviation", torch.ones(width))

    def forward(self, observations: Tensor) -> Tensor:
        """Standardise (..., width) observations."""
        return (observations - self.mean) / self.deviation

    def aligned(self, observations: Tensor, place: Place) -> Tensor:
        """Give (..., width) observations of a place the mean and deviation of the training set.

        Unlike `forward` it leaves those of the training set as they are, exactly.
        """
        offset = self.mean - (self.mean + self.deviation * place.shift) / place.scale
        return observations / place.scale + offset

    @torch.no_grad()
    def set(self, mean: Tensor, variance: Tensor) -> None:
        """Set the (width,) statistics of the training set."""
        self.mean.copy_(mean)
        self.deviation.copy_((variance + EPSILON).sqrt())
