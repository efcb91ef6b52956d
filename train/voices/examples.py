"""Recordings of several corpora as standardised observations, each with a place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.data.batches import Split
from train.data.features import Features
from train.errors import TrainError
from train.models.arms import StatisticsArm
from train.models.standardise import Place
from train.voices.corpora import Corpora
from train.voices.recipe import VoiceRecipe
from train.voices.statistics import PlaceSampler, training_moments


@dataclass(frozen=True)
class VoiceBatch:
    """Standardised observations, and the places that they come from."""

    observations: Tensor  # (n, width)
    place: Place | None = None  # None: of the training set


class VoiceExamples:
    """Recordings for training an arm over statistics; sets what the arm standardises by.

    Args:
        features: of every recording.
        split: its training part has features.
    """

    targets: np.ndarray | None = None
    lengths: np.ndarray | None = None

    def __init__(
        self,
        arm: StatisticsArm,
        features: Features,
        corpora: Corpora,
        split: Split,
        recipe: VoiceRecipe,
    ) -> None:
        self.labels = corpora.truth
        self.corpora, self.recipe = corpora, recipe
        views = [observations(arm, features, view) for view in range(features.views)]
        clean = training_moments(views[0], corpora, split.train)
        arm.standardise.set(clean.mean, clean.variance)
        self.views = [arm.standardise(view) for view in views]
        self._places = PlaceSampler(self.views[0], corpora, split.train)

    def batch(self, indices: np.ndarray, random: np.random.Generator | None) -> VoiceBatch:
        """Give some recordings: as they are; or a view of each, in a place, for training."""
        if random is None:
            return VoiceBatch(self.views[0][torch.from_numpy(indices)])
        seen = np.zeros(len(indices), np.int64)
        if len(self.views) > 1:
            changed = random.random(len(indices)) >= self.recipe.clean
            seen[changed] = random.integers(1, len(self.views), int(changed.sum()))
        rows = zip(indices.tolist(), seen.tolist(), strict=True)
        drawn = torch.stack([self.views[view][index] for index, view in rows])
        moments = self._places.draw(indices, self.recipe.places.weights, random)
        place = moments.place
        moved = random.random((len(indices), 1)) < self.recipe.moved
        if moved.any():
            gap = self._places.differences(len(indices), random) * torch.from_numpy(moved)
            place = Place(place.shift - gap * place.scale, place.scale)
        return VoiceBatch(drawn, place)


def observations(arm: StatisticsArm, features: Features, view: int) -> Tensor:
    """Observations of a view of every recording, (n, width); zeros where there is no voice."""
    found = torch.zeros(len(features), arm.observed)
    for number, views in enumerate(features.sequences):
        if len(views[0]):
            steps = views[view if view < len(views) else 0]
            found[number] = arm.observations(torch.from_numpy(steps.astype(np.float32)))[0]
    return found


class OverObservations(nn.Module):
    """An arm from standardised observations on: it is trained in place.

    Args:
        heads: classifiers, each over its own part of the hidden layer. The arm's logits are their
            mean, so that an ensemble is one arm.

    Raises:
        TrainError: the hidden layer can't be divided so.
    """

    def __init__(self, arm: StatisticsArm, heads: int = 1) -> None:
        super().__init__()
        if arm.width % heads:
            raise TrainError(f"{heads} heads can't share a hidden layer of {arm.width}")
        self.arm = arm
        self._heads = heads

    def heads(self, batch: VoiceBatch) -> Iterator[tuple[Tensor, Tensor]]:
        """Give each head's states, (n, width / heads), and logits, (n, classes)."""
        arm, width = self.arm, self.arm.width // self._heads
        moved = batch.observations if batch.place is None else batch.place.apply(batch.observations)
        for start in range(0, arm.width, width):
            own = slice(start, start + width)
            # Each head has its own dropout of the input, as in separate trainings.
            hidden = F.linear(arm.dropout(moved), arm.hidden.weight[own], arm.hidden.bias[own])
            states = F.gelu(hidden)
            weight = arm.classifier.weight[:, own] * self._heads
            yield states, F.linear(states, weight, arm.classifier.bias)

    def forward(self, batch: VoiceBatch) -> Tensor:
        """Give (n, classes) logits."""
        return self.arm.classifier(self.arm.state_of(batch.observations, batch.place))
