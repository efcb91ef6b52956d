"""Fusion of the two arms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn


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


@dataclass(frozen=True)
class FusionWeights:
    """Weights of the arms' logits, and the bias of each label."""

    visual: float
    audio: float
    bias: np.ndarray  # (labels,)

    def logits(self, visual: np.ndarray, audio: np.ndarray) -> np.ndarray:
        """Fuse (n, labels) logits of both arms."""
        return (self.visual * visual + self.audio * audio + self.bias).astype(np.float32)


def fit_fusion(visual: np.ndarray, audio: np.ndarray, labels: np.ndarray) -> FusionWeights:
    """Fit the weights by maximum likelihood of the fused logits, with a penalty on the bias.

    Args:
        visual, audio: (n, labels) logits of people that neither arm was trained on: on others an
            arm is overconfident.
        labels: (n,) int64.
    """
    weight = torch.full((2,), 0.5, requires_grad=True)
    bias = torch.zeros(visual.shape[1], requires_grad=True)
    v, a, target = (torch.from_numpy(x) for x in (visual, audio, labels))
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = weight[0] * v + weight[1] * a + bias
        value = nn.functional.cross_entropy(logits, target) + 1e-2 * (bias**2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    visual_weight, audio_weight = weight.tolist()
    return FusionWeights(visual_weight, audio_weight, bias.detach().numpy())
