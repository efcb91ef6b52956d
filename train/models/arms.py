"""The arms: classifiers of sequences of embeddings, as in the paper's section III."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

if TYPE_CHECKING:
    from typing_extensions import Self


class LayerMix(nn.Module):
    """A learned weighting of a backbone's layers, each normalised first.

    Args:
        depth: layers to mix.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(depth))

    def forward(self, states: Tensor) -> Tensor:
        """Mix (..., depth, width) to (..., width)."""
        normal = F.layer_norm(states, states.shape[-1:])
        return (normal * self.weight.softmax(0)[:, None]).sum(-2)


class SequenceArm(nn.Module):
    """From sequences of embeddings, of any lengths, to a state, and from that to logits.

    Args:
        width: of the state, the input of fusion.
        labels: number of classes.
        dropout: of the classifier's input.
    """

    def __init__(self, width: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, labels)

    def state(self, sequence: Tensor) -> Tensor:
        """Give the (1, width) state after one sequence, (1, steps, width_in).

        Several layers of a backbone come as (1, steps, depth, width_in), here and below.
        """
        raise NotImplementedError

    def embed(self, sequences: Sequence[Tensor]) -> Tensor:
        """Give the (n, width) states after n sequences of (steps, width_in).

        A sequence's state does not depend on the others.
        """
        raise NotImplementedError

    def forward(self, sequences: Sequence[Tensor]) -> Tensor:
        """Give (n, labels) logits of n sequences."""
        return self.classifier(self.dropout(self.embed(sequences)))

    def with_labels(self, labels: int) -> Self:
        """Give a copy with a new classifier, for the paper's second audio stage."""
        arm = copy.deepcopy(self)
        arm.classifier = nn.Linear(self.width, labels)
        return arm


class GruArm(SequenceArm):
    """The last state of a two-layer GRU over a sequence of embeddings: the paper's arm.

    Args:
        width_in: numbers per step.
        dropout: also of the second layer's input.
        depth: layers of the backbone in each step; more than one are mixed.
        norm: whether steps are normalised before the GRU; the paper's backbones end in a layer
            norm of their own.
    """

    def __init__(
        self,
        width_in: int,
        width: int,
        labels: int,
        dropout: float = 0.4,
        depth: int = 1,
        norm: bool = True,
    ) -> None:
        super().__init__(width, labels, dropout)
        self.mix = LayerMix(depth) if depth > 1 else nn.Identity()
        self.norm = nn.LayerNorm(width_in) if norm else nn.Identity()
        self.gru = nn.GRU(width_in, width, num_layers=2, batch_first=True, dropout=dropout)

    def state(self, sequence: Tensor) -> Tensor:
        return self.gru(self.norm(self.mix(sequence)))[1][-1]

    def embed(self, sequences: Sequence[Tensor]) -> Tensor:
        lengths = [len(sequence) for sequence in sequences]
        steps = self.norm(self.mix(torch.cat(list(sequences))))
        padded = pad_sequence(list(steps.split(lengths)), batch_first=True)
        packed = pack_padded_sequence(
            padded, torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        return self.gru(packed)[1][-1]


class StatisticsArm(SequenceArm):
    """Mean and deviation over time of all of a backbone's layers, and one hidden layer.

    Over Whisper's layers it reaches an unweighted recall of 0.76 on unseen speakers, a GRU 0.75,
    at a fraction of the multiplications. It ignores the order of the steps.

    Args:
        width_in: numbers per step and layer.
        dropout: also of the statistics.
        depth: layers of the backbone in each step.
    """

    def __init__(
        self, width_in: int, width: int, labels: int, dropout: float = 0.6, depth: int = 1
    ) -> None:
        super().__init__(width, labels, dropout)
        self.norm = nn.BatchNorm1d(2 * depth * width_in, affine=False)
        self.hidden = nn.Linear(2 * depth * width_in, width)

    def state(self, sequence: Tensor) -> Tensor:
        return self.embed([sequence[0]])

    def embed(self, sequences: Sequence[Tensor]) -> Tensor:
        pooled = torch.stack([mean_and_deviation(sequence.flatten(1)) for sequence in sequences])
        # The statistics of a batch of one have no deviation.
        from_batch = self.training and len(sequences) > 1
        mean, variance = self.norm.running_mean, self.norm.running_var
        normal = F.batch_norm(pooled, mean, variance, training=from_batch)
        return F.gelu(self.hidden(self.dropout(normal)))


def mean_and_deviation(steps: Tensor) -> Tensor:
    """Pool (steps, width) over time: (2 * width,)."""
    variance = steps.var(0, correction=0)
    return torch.cat([steps.mean(0), variance.clamp(min=1e-8).sqrt()])
