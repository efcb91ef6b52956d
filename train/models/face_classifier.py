"""The face network with the two classifiers that train it, and its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from train.labels import FACE_EMOTIONS
from train.models.fer_resnet import FerResnet
from train.models.weights import load_strict, read_state

if TYPE_CHECKING:
    from typing_extensions import Self

DROPOUT = 0.3
FROZEN_BLOCKS = 2  # residual blocks that `freeze` freezes, beside the stem
MODEL_PART = "face."  # of the names in a model's checkpoint
HEADS = ("votes", "labels")


class HeadLogits(NamedTuple):
    """(n, 7) logits of both classifiers."""

    votes: Tensor
    labels: Tensor


class FaceClassifier(nn.Module):
    """The face network with a classifier for FER+ votes, and one for FER-2013's own labels.

    The two agree in 63 % of FER-2013's test images, so that one classifier can't predict both.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = FerResnet()
        self.dropout = nn.Dropout(DROPOUT)
        self.votes = nn.Linear(FerResnet.width, len(FACE_EMOTIONS))
        self.labels = nn.Linear(FerResnet.width, len(FACE_EMOTIONS))
        self._frozen = False

    def heads(self, faces: Tensor) -> HeadLogits:
        """Give both classifiers' logits for (n, 1, 48, 48) faces, 0 to 255."""
        embedded = self.dropout(self.encoder(faces))
        return HeadLogits(self.votes(embedded), self.labels(embedded))

    def forward(self, faces: Tensor) -> HeadLogits | Tensor:
        """Give both classifiers' logits in training, and the votes' alone in evaluation."""
        heads = self.heads(faces)
        return heads if self.training else heads.votes

    def freeze(self, frozen: bool) -> None:
        """Train the first layers or not; frozen ones keep their weights and statistics."""
        self._frozen = frozen
        for module in self._first_layers():
            module.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen layers stay in evaluation mode."""
        super().train(mode)
        if self._frozen:
            for module in self._first_layers():
                module.eval()
        return self

    def _first_layers(self) -> list[nn.Module]:
        return [self.encoder.stem, *list(self.encoder.blocks)[:FROZEN_BLOCKS]]


def load_classifier(path: Path) -> FaceClassifier:
    """Read a face network to train further.

    Args:
        path: a fer_face.safetensors, also one with a single classifier, with which both then
            start; or a compact model's checkpoint, whose classifiers start from zero.

    Raises:
        CheckpointError: it can't be read, or holds no such network.
    """
    model, state = FaceClassifier(), read_state(path)
    if any(name.startswith(MODEL_PART) for name in state):
        state = {
            f"encoder.{name.removeprefix(MODEL_PART)}": value
            for name, value in state.items()
            if name.startswith(MODEL_PART)
        }
        for head in HEADS:
            for name, value in getattr(model, head).state_dict().items():
                state[f"{head}.{name}"] = torch.zeros_like(value)
    for name in ("weight", "bias"):
        if f"classifier.{name}" in state:
            value = state.pop(f"classifier.{name}")
            state |= {f"{head}.{name}": value.clone() for head in HEADS}
    load_strict(model, state, str(path))
    return model


@torch.no_grad()
def mix_encoders(model: FaceClassifier, start: FaceClassifier, share: float) -> None:
    """Replace a fine-tuned encoder by a mean of it and of the one that it started from.

    Better than either on both what it was tuned for and what it knew (Wortsman et al. 2022, "Robust
    fine-tuning of zero-shot models"). The classifiers no longer fit: see `fit_heads`.

    Args:
        model: whose encoder is replaced.
        share: of its own weights and statistics, 0 to 1.
    """
    other = start.encoder.state_dict()
    for name, value in model.encoder.state_dict().items():
        if value.is_floating_point():
            value.lerp_(other[name], 1 - share)


def fit_heads(
    model: FaceClassifier, embedded: Tensor, votes: Tensor, labels: Tensor, decay: float = 1e-3
) -> None:
    """Fit both classifiers anew, by regularised logistic regression over a fixed encoder.

    Args:
        embedded: (n, width) embeddings.
        votes, labels: (n, 7) target probabilities.
        decay: L2 penalty of the weights over standardised embeddings.
    """
    mean, deviation = embedded.mean(0), embedded.std(0) + 1e-6
    standardised = (embedded - mean) / deviation
    for head, targets in ((model.votes, votes), (model.labels, labels)):
        weight = torch.zeros_like(head.weight, requires_grad=True)
        bias = torch.zeros_like(head.bias, requires_grad=True)
        _minimise(weight, bias, standardised, targets, decay)
        with torch.no_grad():
            head.weight.copy_(weight / deviation)
            head.bias.copy_(bias - head.weight @ mean)


def _minimise(weight: Tensor, bias: Tensor, inputs: Tensor, targets: Tensor, decay: float) -> None:
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = inputs @ weight.T + bias
        value = nn.functional.cross_entropy(logits, targets) + decay * weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
