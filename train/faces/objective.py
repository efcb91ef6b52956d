"""The loss of the face network: votes and labels, mixed images, and earlier networks' opinions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.data.examples import FaceImages
from train.loop import CrossEntropy
from train.models.face_classifier import FaceClassifier, HeadLogits
from train.options import TrainOptions

TEACHER_SHARES = (0.5, 0.6)
"""Of the targets of votes and of labels, the share that is the teachers' where there are any."""
CONCENTRATION = 0.4  # of the beta distribution that shares of mixed images are drawn from


class TwoHeads(CrossEntropy):
    """The cross-entropy of both classifiers, each to its own targets.

    Args:
        examples: images; `targets` are those of the votes.
        labels: (n, 7) float32, the targets of the published labels.
        part: positions of the training images.
        label_weight: of the loss of the labels; that of the votes weighs 1.
        teachers: earlier networks, in evaluation mode. Their mean prediction of the very batch that
            is trained on is a part of its targets (Hinton et al. 2015; of labels that are often
            wrong, Furlanello et al. 2018).
    """

    mixing = 0.0  # share of the batches whose images are mixed: see `mix_images`

    def __init__(
        self,
        examples: FaceImages,
        labels: np.ndarray,
        part: np.ndarray,
        options: TrainOptions,
        *,
        label_weight: float,
        teachers: Sequence[FaceClassifier] = (),
    ) -> None:
        super().__init__(examples, part, options)
        assert examples.targets is not None
        self._votes, self._labels = (
            torch.from_numpy(targets).to(examples.device) for targets in (examples.targets, labels)
        )
        self._label_weight, self._teachers = label_weight, teachers

    def loss(self, model: nn.Module, inputs: Tensor, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Give a batch's logits of the votes, and the loss of both classifiers."""
        rows = torch.from_numpy(indices).to(self._votes.device)
        targets = HeadLogits(self._votes[rows], self._labels[rows])
        if self.mixing and float(torch.rand(())) < self.mixing:
            inputs, targets = mix_images(inputs, targets)
        if self._teachers:
            targets = taught(self._teachers, inputs, targets)
        heads: HeadLogits = model(inputs)
        votes = F.cross_entropy(heads.votes, targets.votes)
        labels = F.cross_entropy(heads.labels, targets.labels)
        return heads.votes, votes + self._label_weight * labels


@torch.no_grad()
def taught(teachers: Sequence[FaceClassifier], faces: Tensor, targets: HeadLogits) -> HeadLogits:
    """Mix targets with the mean of what earlier networks predict for the same faces."""
    heads = [teacher.heads(faces) for teacher in teachers]
    mixed = []
    for logits, own, share in zip(zip(*heads, strict=True), targets, TEACHER_SHARES, strict=True):
        mean = torch.stack([one.softmax(1) for one in logits]).mean(0)
        mixed.append(own.lerp(mean, share))
    return HeadLogits(*mixed)


def mix_images(faces: Tensor, targets: HeadLogits) -> tuple[Tensor, HeadLogits]:
    """Mix every image of a batch with another one, and its targets alike.

    By mixup (Zhang et al. 2018) or by CutMix, a square of the other image (Yun et al. 2019), each
    for half of the batches. Random numbers are PyTorch's, of the CPU.

    Args:
        faces: (n, 1, size, size) float.
        targets: (n, 7) each.
    """
    drawn = torch.distributions.Beta(CONCENTRATION, CONCENTRATION).sample()
    share, other = float(drawn), torch.randperm(len(faces)).to(faces.device)  # share that is kept
    if float(torch.rand(())) < 0.5:
        faces = faces[other].lerp(faces, share)
    else:
        size = faces.shape[-1]
        side = round(size * math.sqrt(1 - share))
        top, left = torch.randint(0, size - side + 1, (2,)).tolist()
        rows, columns = slice(top, top + side), slice(left, left + side)
        pasted = faces[other][..., rows, columns]
        faces = faces.clone()
        faces[..., rows, columns] = pasted
        share = 1 - (side / size) ** 2
    return faces, HeadLogits(*(own[other].lerp(own, share) for own in targets))
