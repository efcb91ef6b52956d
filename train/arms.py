"""The two arms and their fusion: GRUs over embeddings, as in the paper, section III."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence


class GruArm(nn.Module):
    """A two-layer GRU over a sequence of embeddings, and a classifier on its last state.

    Args:
        width_in: numbers per step.
        width: of the GRU's state, which is what fusion sees.
        labels: classes.
        dropout: of what goes into the second layer and into the classifier.
    """

    def __init__(self, width_in: int, width: int, labels: int, dropout: float = 0.4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width_in)
        self.gru = nn.GRU(width_in, width, num_layers=2, batch_first=True, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, labels)

    def embed(self, sequences: Sequence[Tensor]) -> Tensor:
        """Give the (n, width) states after n sequences of (steps, width_in), of any lengths.

        Packing keeps each sequence's result free of the others' lengths.
        """
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        padded = self.norm(pad_sequence(list(sequences), batch_first=True))
        packed = pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False)
        return self.gru(packed)[1][-1]

    def forward(self, sequences: Sequence[Tensor]) -> Tensor:
        """Give (n, labels) logits of n sequences."""
        return self.classifier(self.dropout(self.embed(sequences)))


class LayerMix(nn.Module):
    """A learned weighting of a speech encoder's layers, each normalised first.

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


class VoiceArm(nn.Module):
    """The speech encoder's layers mixed, then a GRU arm over them."""

    def __init__(self, depth: int, width_in: int, width: int, labels: int) -> None:
        super().__init__()
        self.mix = LayerMix(depth)
        self.arm = GruArm(width_in, width, labels)

    def mixed(self, sequences: Sequence[Tensor]) -> list[Tensor]:
        """Mix n sequences of (steps, depth, width_in) to n of (steps, width_in)."""
        lengths = [len(sequence) for sequence in sequences]
        return list(self.mix(torch.cat(list(sequences))).split(lengths))

    def embed(self, sequences: Sequence[Tensor]) -> Tensor:
        """Give the (n, width) states after n sequences of (steps, depth, width_in)."""
        return self.arm.embed(self.mixed(sequences))

    def forward(self, sequences: Sequence[Tensor]) -> Tensor:
        """Give (n, labels) logits of n sequences."""
        return self.arm(self.mixed(sequences))
