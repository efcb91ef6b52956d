"""Mean and variance of observations: of corpora, of speakers, and of places to adapt to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from train.models.standardise import EPSILON, Place
from train.voices.corpora import Corpora

PRIOR_RECORDINGS = 10.0  # that the training statistics count as, beside those of a place


@dataclass(frozen=True)
class Moments:
    """Mean and variance of observations, (width,) or (groups, width)."""

    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, observations: Tensor) -> Moments:
        """Those of (n, width) observations."""
        return cls(observations.mean(0), observations.var(0, correction=0))

    def blended(self, count: int, prior: Moments) -> Moments:
        """Shrink towards other statistics by the number of recordings: n / (n + n0).

        One recording has no variance of its own.
        """
        share = count / (count + PRIOR_RECORDINGS)
        variance = prior.variance.expand_as(self.variance) if count < 2 else self.variance
        return Moments(
            share * self.mean + (1 - share) * prior.mean,
            share * variance + (1 - share) * prior.variance,
        )

    @property
    def place(self) -> Place:
        """The place with these statistics, of standardised observations."""
        return Place(self.mean, (self.variance + EPSILON).sqrt())


def stacked(moments: list[Moments]) -> Moments:
    """Put groups' statistics together: (groups, width)."""
    return Moments(
        torch.stack([group.mean for group in moments]),
        torch.stack([group.variance for group in moments]),
    )


def training_moments(observations: Tensor, corpora: Corpora, part: np.ndarray) -> Moments:
    """Statistics to standardise by: the mean of the corpora's means, and of their variances.

    A corpus counts as much as another whatever its size, and the differences between corpora are
    not part of the variance.

    Args:
        observations: (n, width) of all recordings, as they are.
        part: (k,) of the training part.
    """
    corpus = corpora.corpus[part]
    groups = [Moments.of(observations[part[corpus == number]]) for number in np.unique(corpus)]
    together = stacked(groups)
    return Moments(together.mean.mean(0), together.variance.mean(0))


def adapted_place(observations: Tensor) -> Place:
    """The place that (n, width) unlabelled standardised observations come from, blended."""
    width = observations.shape[1]
    training = Moments(torch.zeros(width), torch.ones(width))
    return Moments.of(observations).blended(len(observations), training).place


class PlaceSampler:
    """Draws places for training examples, from standardised observations of the training part.

    Args:
        observations: (n, width) standardised, of all recordings as they are.
        part: (k,) of the training part.
    """

    def __init__(self, observations: Tensor, corpora: Corpora, part: np.ndarray) -> None:
        self._observations, self._corpora = observations, corpora
        width = observations.shape[1]
        self.training = Moments(torch.zeros(width), torch.ones(width))
        corpus, person = corpora.corpus[part], corpora.person[part]
        self._members = {int(c): part[corpus == c] for c in np.unique(corpus)}
        by_corpus = {c: Moments.of(observations[own]) for c, own in self._members.items()}
        self.corpora = _table(by_corpus, len(corpora.names), self.training)
        by_person, home = {}, {}
        for number in np.unique(person):
            own = part[person == number]
            home[int(number)] = int(corpora.corpus[own[0]])
            moments = Moments.of(observations[own])
            by_person[int(number)] = moments.blended(len(own), by_corpus[home[int(number)]])
        self.people = _table(by_person, int(corpora.person.max()) + 1, self.training)
        self._known = np.array(list(by_person))
        homes = np.array(list(home.values()))
        even = 1 / np.bincount(homes)[homes]  # corpora alike, and the speakers of each
        self._even = even / even.sum()

    def draw(
        self, examples: np.ndarray, weights: tuple[float, ...], random: np.random.Generator
    ) -> Moments:
        """Statistics to standardise each example by: (k, width).

        Args:
            examples: (k,) recordings of the training part.
            weights: of the kinds, in the order of `PlaceShares`.
        """
        shares = np.array(weights) / sum(weights)
        kind = random.choice(len(shares), len(examples), p=shares)
        width = self._observations.shape[1]
        mean, variance = torch.zeros(len(examples), width), torch.ones(len(examples), width)
        for number, (numbers, table) in enumerate(
            ((self._corpora.corpus, self.corpora), (self._corpora.person, self.people)), 1
        ):
            chosen = np.flatnonzero(kind == number)
            groups = torch.from_numpy(numbers[examples[chosen]])
            mean[chosen], variance[chosen] = table.mean[groups], table.variance[groups]
        corpus = self._corpora.corpus[examples]
        for number in np.unique(corpus[kind == 3]):
            chosen = np.flatnonzero((kind == 3) & (corpus == number))
            subset = self._subset(int(number), random)
            mean[chosen], variance[chosen] = subset.mean, subset.variance
        return Moments(mean, variance)

    def _subset(self, corpus: int, random: np.random.Generator) -> Moments:
        """Statistics of 3 to 60 recordings of a corpus, blended as adaptation does."""
        count = int(np.exp(random.uniform(np.log(3), np.log(60))))
        own = random.choice(self._members[corpus], count)
        return Moments.of(self._observations[own]).blended(count, self.training)

    def differences(self, count: int, random: np.random.Generator) -> Tensor:
        """Random differences between two speakers' means, each at random strength."""
        one, other = random.choice(self._known, (2, count), p=self._even)
        gap = self.people.mean[torch.from_numpy(one)] - self.people.mean[torch.from_numpy(other)]
        strength = torch.from_numpy(random.random((count, 1)).astype(np.float32))
        return gap * strength


def _table(groups: dict[int, Moments], count: int, default: Moments) -> Moments:
    """Groups' statistics by number; of groups outside the training part the default."""
    return stacked([groups.get(number, default) for number in range(count)])
