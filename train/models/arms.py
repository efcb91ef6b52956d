"""The arms: classifiers of sequences of embeddings, as in the paper's section III."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence

from train.models.standardise import Place, Standardise

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

    In between are an arm's observations, standardised by its training set; a `Place` standardises
    them anew. Several layers of a backbone come as (steps, depth, width_in) in a sequence.

    Args:
        width: of the state, the input of fusion.
        observed: width of an observation.
        labels: number of classes.
        dropout: of the classifier's input.
    """

    def __init__(self, width: int, observed: int, labels: int, dropout: float) -> None:
        super().__init__()
        self.width = width
        self.observed = observed
        self.standardise = Standardise(observed)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, labels)

    def observations(self, sequence: Tensor) -> Tensor:
        """Give the (n, observed) observations of one sequence, (steps, width_in), as they are."""
        raise NotImplementedError

    def state(self, sequence: Tensor, place: Place | None = None) -> tuple[Tensor, Tensor]:
        """Give the state after one sequence, (1, steps, width_in), and its observations.

        Returns:
            (1, width), and (1, n, observed), standardised by the training set.
        """
        raise NotImplementedError

    def embed(self, sequences: Sequence[Tensor], place: Place | None = None) -> Tensor:
        """Give the (n, width) states after n sequences of (steps, width_in).

        A sequence's state does not depend on the others.
        """
        raise NotImplementedError

    def forward(self, sequences: Sequence[Tensor], place: Place | None = None) -> Tensor:
        """Give (n, labels) logits of n sequences, all from one place or each from its own."""
        return self.classifier(self.dropout(self.embed(sequences, place)))

    @torch.no_grad()
    def fit_statistics(self, sequences: Iterable[Tensor]) -> None:
        """Standardise from now on by the mean and deviation of these sequences' observations."""
        count, total, squares = 0, torch.zeros(()), torch.zeros(())
        for sequence in sequences:
            observations = self.observations(sequence).double().cpu()
            count += len(observations)
            total = total + observations.sum(0)
            squares = squares + observations.square().sum(0)
        if count:
            mean = total / count
            self.standardise.set(mean, (squares / count - mean.square()).clamp(min=0))

    def with_labels(self, labels: int) -> Self:
        """Give a copy with a new classifier, for the paper's second audio stage."""
        arm = copy.deepcopy(self)
        arm.classifier = nn.Linear(self.width, labels)
        return arm


class GruArm(SequenceArm):
    """The last state of a two-layer GRU over a sequence of embeddings: the paper's arm.

    Every step is an observation. The GRU takes them as they are: the steps of a place are given the
    mean and deviation that it was trained with.

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
        super().__init__(width, width_in, labels, dropout)
        self.mix = LayerMix(depth) if depth > 1 else nn.Identity()
        self.norm = nn.LayerNorm(width_in) if norm else nn.Identity()
        self.gru = nn.GRU(width_in, width, num_layers=2, batch_first=True, dropout=dropout)

    def observations(self, sequence: Tensor) -> Tensor:
        return self.norm(self.mix(sequence))

    def state(self, sequence: Tensor, place: Place | None = None) -> tuple[Tensor, Tensor]:
        steps = self.observations(sequence)
        aligned = steps if place is None else self.standardise.aligned(steps, place)
        return self.gru(aligned)[1][-1], self.standardise(steps)

    def embed(self, sequences: Sequence[Tensor], place: Place | None = None) -> Tensor:
        lengths = [len(sequence) for sequence in sequences]
        steps = self.observations(torch.cat(list(sequences)))
        if place is not None:
            steps = self.standardise.aligned(steps, place.repeated(lengths))
        padded = pad_sequence(list(steps.split(lengths)), batch_first=True)
        packed = pack_padded_sequence(
            padded, torch.tensor(lengths), batch_first=True, enforce_sorted=False
        )
        return self.gru(packed)[1][-1]


class StatisticsArm(SequenceArm):
    """Mean and deviation over time of all of a backbone's layers, and one hidden layer.

    Over Whisper's layers it reaches an unweighted recall of 0.76 on unseen speakers, a GRU 0.75,
    at a fraction of the multiplications. It ignores the order of the steps. A sequence is one
    observation.

    Args:
        width_in: numbers per step and layer.
        dropout: also of the statistics.
        depth: layers of the backbone in each step.
    """

    def __init__(
        self, width_in: int, width: int, labels: int, dropout: float = 0.6, depth: int = 1
    ) -> None:
        super().__init__(width, 2 * depth * width_in, labels, dropout)
        self.hidden = nn.Linear(self.observed, width)

    def observations(self, sequence: Tensor) -> Tensor:
        return mean_and_deviation(sequence.flatten(1))[None]

    def state(self, sequence: Tensor, place: Place | None = None) -> tuple[Tensor, Tensor]:
        standardised = self.standardise(self.observations(sequence[0]))
        return self.state_of(standardised, place), standardised[None]

    def embed(self, sequences: Sequence[Tensor], place: Place | None = None) -> Tensor:
        pooled = torch.cat([self.observations(sequence) for sequence in sequences])
        return self.state_of(self.standardise(pooled), place)

    def state_of(self, standardised: Tensor, place: Place | None = None) -> Tensor:
        """Give the (n, width) states of n standardised observations, (n, observed)."""
        moved = standardised if place is None else place.apply(standardised)
        return F.gelu(self.hidden(self.dropout(moved)))


def mean_and_deviation(steps: Tensor) -> Tensor:
    """Pool (steps, width) over time: (2 * width,)."""
    variance = steps.var(0, correction=0)
    return torch.cat([steps.mean(0), variance.clamp(min=1e-8).sqrt()])
