"""Fusion of the two arms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from train.evaluate.metrics import fit_temperature

BIAS_PENALTY, DISCOUNT_PENALTY = 2e-2, 1e-3  # in nats
MAX_DISCOUNT = 0.5  # up to it, arms of one opinion are together surer than each


class EmbeddingArm(Protocol):
    """An arm, with or without its backbone."""

    @property
    def classifier(self) -> nn.Linear: ...
    def embed(self, examples: Sequence[Tensor]) -> Tensor: ...
    def eval(self) -> Any: ...


class FusedClassifier(nn.Module):
    """The paper's combined stage: one classifier over the states of both arms, which are frozen.

    It starts from the arms' own classifiers side by side, with the mean of their biases.
    """

    def __init__(self, visual: EmbeddingArm, audio: EmbeddingArm) -> None:
        super().__init__()
        v, a = visual.classifier, audio.classifier
        self.classifier = nn.Linear(v.in_features + a.in_features, v.out_features)
        with torch.no_grad():
            self.classifier.weight.copy_(torch.cat([v.weight, a.weight], 1))
            self.classifier.bias.copy_((v.bias + a.bias) / 2)
        self._arms = (visual.eval(), audio.eval())  # in a tuple: no submodules, not trained

    def forward(self, pairs: tuple[Sequence[Tensor], Sequence[Tensor]]) -> Tensor:
        """Give (n, labels) logits of n clips' face and voice sequences."""
        with torch.no_grad():
            states = [arm.embed(part) for arm, part in zip(self._arms, pairs, strict=True)]
        return self.classifier(torch.cat(states, 1))


class OpinionPool(nn.Module):
    """Logarithmic opinion pool of both arms' scores, in which an unsure arm gives way.

    The pooled score of a label is the product of the arms' scores, each raised to a weight (Genest
    & Zidek 1986, "Combining Probability Distributions"). A weight is 1 next to an arm that knows
    nothing and falls to 1 - discount next to one that is sure, as arms that see and hear one person
    err together. An arm is as sure as its scores are far from uniform: 1 less their entropy over
    the largest one. So an arm with uniform scores changes nothing, and arms of one opinion are
    together surer than each.

    Each arm also has a bias of every label, which counts as much as the arm is sure.

    Args:
        labels: number of classes.
    """

    discount: Tensor  # (2,) of the visual and the audio arm, from 0 to MAX_DISCOUNT
    bias: Tensor  # (2, labels) of the same

    def __init__(self, labels: int) -> None:
        super().__init__()
        self.register_buffer("discount", torch.zeros(2))
        self.register_buffer("bias", torch.zeros(2, labels))

    def forward(self, visual: Tensor, audio: Tensor) -> Tensor:
        """Pool (n, labels) calibrated logits of both arms: (n, labels) logits."""
        return pooled(visual, audio, self.discount, self.bias)


def pooled(visual: Tensor, audio: Tensor, discount: Tensor, bias: Tensor) -> Tensor:
    """Pool calibrated logits: see `OpinionPool`."""
    visual, audio = visual.log_softmax(1), audio.log_softmax(1)
    visual_sure, audio_sure = sureness(visual), sureness(audio)
    return (1 - discount[0] * audio_sure) * (visual + visual_sure * bias[0]) + (
        1 - discount[1] * visual_sure
    ) * (audio + audio_sure * bias[1])


def sureness(log_scores: Tensor) -> Tensor:
    """How far scores are from uniform: (n, 1), from 0 to 1.

    Args:
        log_scores: (n, labels) logarithms of scores.
    """
    entropy = -(log_scores.exp() * log_scores).sum(1, keepdim=True)
    return 1 - entropy / math.log(log_scores.shape[1])


@dataclass(frozen=True)
class FittedFusion:
    """Temperatures of both arms, and the pool of their calibrated logits."""

    visual_temperature: float
    audio_temperature: float
    pool: OpinionPool

    @torch.inference_mode()
    def logits(self, visual: np.ndarray, audio: np.ndarray) -> np.ndarray:
        """Fuse (n, labels) logits of both arms: (n, labels) float32."""
        v, a = (torch.from_numpy(x.astype(np.float32)) for x in (visual, audio))
        return self.pool(v / self.visual_temperature, a / self.audio_temperature).numpy()


def fit_fusion(
    visual: np.ndarray,
    audio: np.ndarray,
    labels: np.ndarray,
    temperatures: tuple[float, float] | None = None,
) -> FittedFusion:
    """Fit the pool by maximum likelihood, with a penalty on bias and discount.

    Labels that do not occur keep a bias of 0, and are no answer while it is fitted.

    Args:
        visual, audio: (n, labels) logits of people that neither arm was trained on: on others an
            arm is overconfident.
        labels: (n,) int64.
        temperatures: of the visual and the audio arm; by default fitted on the same logits.
    """
    if temperatures is None:
        temperatures = fit_temperature(visual, labels), fit_temperature(audio, labels)
    occurring, target = np.unique(labels, return_inverse=True)
    v, a = (
        torch.from_numpy(logits.astype(np.float32)) / temperature
        for logits, temperature in zip((visual, audio), temperatures, strict=True)
    )
    raw = torch.full((2,), -2.0, requires_grad=True)  # of the discounts, before the sigmoid
    free = torch.zeros(2, len(occurring), requires_grad=True)
    place = torch.nn.functional.one_hot(torch.from_numpy(occurring), visual.shape[1]).float()
    truth = torch.from_numpy(target)
    optimizer = torch.optim.LBFGS([raw, free], max_iter=200, line_search_fn="strong_wolfe")

    def parameters() -> tuple[Tensor, Tensor]:
        bias = (free - free.mean(1, keepdim=True)) @ place
        return MAX_DISCOUNT * raw.sigmoid(), bias

    def loss() -> Tensor:
        optimizer.zero_grad()
        discount, bias = parameters()
        logits = pooled(v, a, discount, bias) @ place.T
        value = nn.functional.cross_entropy(logits, truth)
        value = value + BIAS_PENALTY * bias.square().sum() + DISCOUNT_PENALTY * discount.sum()
        value.backward()
        return value

    optimizer.step(loss)
    pool = OpinionPool(visual.shape[1])
    with torch.no_grad():
        discount, bias = parameters()
        pool.discount.copy_(discount)
        pool.bias.copy_(bias)
    return FittedFusion(*temperatures, pool)
