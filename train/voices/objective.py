"""Sampling and loss of training on several corpora."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from train.data.batches import Split
from train.options import TrainOptions
from train.voices.corpora import Corpora
from train.voices.examples import OverObservations, VoiceBatch
from train.voices.recipe import VoiceRecipe

FOREIGN = -30.0  # logit of labels that an example's corpus does not have


class VoiceObjective:
    """Draws balanced batches, and gives the loss of one.

    The loss is a cross-entropy with smoothed labels over all classes, in part over the labels of
    the example's corpus alone, and a supervised contrastive loss (Khosla et al. 2020) between
    recordings of one label in different corpora. The logits are adjusted by the classes'
    frequencies (Menon et al. 2021).
    """

    def __init__(
        self, corpora: Corpora, split: Split, classes: int, recipe: VoiceRecipe, smoothing: float
    ) -> None:
        self._corpora, self._part, self._recipe = corpora, split.train, recipe
        self._weights = corpora.weights(split.train, recipe)
        self.draws = recipe.draws
        truth = corpora.truth[split.train]
        frequency = np.bincount(truth, self._weights, classes)
        adjustment = recipe.prior_adjustment * np.log(frequency + 1e-8)
        self._adjustment = torch.from_numpy(adjustment.astype(np.float32))
        own = corpora.own_labels(split.train, classes)
        self._foreign = torch.from_numpy(np.where(own, 0.0, FOREIGN).astype(np.float32))
        soft = np.where(corpora.soft, recipe.ordinary_smoothing, smoothing)
        self._smoothing = torch.from_numpy(soft.astype(np.float32))

    def batches(self, options: TrainOptions, random: np.random.Generator) -> list[np.ndarray]:
        """Draw an epoch's batches, with replacement."""
        drawn = random.choice(self._part, self.draws, p=self._weights)
        return [drawn[at : at + options.batch] for at in range(0, len(drawn), options.batch)]

    def loss(
        self, model: OverObservations, batch: VoiceBatch, indices: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """Give the logits of a batch, (n, classes), and its mean loss."""
        found = list(model.heads(batch))
        losses = [self._head_loss(states, logits, indices) for states, logits in found]
        logits = torch.stack([logits for _, logits in found]).mean(0)
        return logits, torch.stack(losses).mean()

    def _head_loss(self, states: Tensor, logits: Tensor, indices: np.ndarray) -> Tensor:
        recipe = self._recipe
        device = logits.device
        truth = torch.from_numpy(self._corpora.truth[indices]).to(device)
        corpus = torch.from_numpy(self._corpora.corpus[indices])
        smoothing = self._smoothing[torch.from_numpy(indices)][:, None].to(device)
        classes = logits.shape[1]
        target = F.one_hot(truth, classes) * (1 - smoothing) + smoothing / classes
        loss = F.cross_entropy(logits + self._adjustment.to(device), target)
        if recipe.closed:
            closed = F.cross_entropy(logits + self._foreign[corpus].to(device), truth)
            loss = (1 - recipe.closed) * loss + recipe.closed * closed
        if recipe.contrast:
            contrast = contrastive_loss(
                states, truth, corpus.to(device), recipe.contrast_temperature
            )
            loss = loss + recipe.contrast * contrast
        return loss


def contrastive_loss(states: Tensor, truth: Tensor, corpus: Tensor, temperature: float) -> Tensor:
    """Supervised contrastive loss; positives have an example's label, in another corpus.

    Args:
        states: (n, width).
        truth, corpus: (n,).

    Returns:
        The mean over the examples with positives; 0 if none has one.
    """
    unit = F.normalize(states, dim=1)
    similarity = unit @ unit.T / temperature
    itself = torch.eye(len(states), dtype=torch.bool, device=states.device)
    similarity = similarity.masked_fill(itself, -torch.inf)
    likely = similarity.log_softmax(1).masked_fill(itself, 0.0)
    positive = (truth[:, None] == truth) & (corpus[:, None] != corpus)
    count = positive.sum(1)
    if not count.any():
        return states.sum() * 0.0
    mean = (likely * positive).sum(1) / count.clamp(min=1)
    return -mean[count > 0].mean()
