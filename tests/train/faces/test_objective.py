"""Mixed images and teachers in the loss of the face network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from train.data.examples import FaceImages
from train.faces.objective import TEACHER_SHARES, TwoHeads, mix_images, taught
from train.models.face_classifier import FaceClassifier, HeadLogits
from train.train_face import TRAINING

COUNT = 6


def plain_faces() -> Tensor:
    """Faces of one grey each, so that a pixel tells where it is from."""
    return torch.arange(COUNT).float()[:, None, None, None].expand(-1, 1, 48, 48) * 40


def one_hot() -> HeadLogits:
    return HeadLogits(torch.eye(7)[:COUNT], torch.eye(7)[:COUNT].flip(1))


def teachers(count: int) -> list[FaceClassifier]:
    """Networks with strong opinions."""
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        network = FaceClassifier().eval()
        for head in (network.votes, network.labels):
            nn.init.normal_(head.weight, std=5)
        made.append(network)
    return made


def test_targets_are_mixed_as_the_images_are() -> None:
    torch.manual_seed(0)
    faces, targets = plain_faces(), one_hot()
    kinds = set()
    for _ in range(40):
        mixed, given = mix_images(faces, targets)
        for head in given:
            torch.testing.assert_close(head.sum(1), torch.ones(COUNT))
        greys = given.votes[:, :COUNT] @ (torch.arange(COUNT) * 40.0)  # by the targets
        torch.testing.assert_close(mixed.mean((1, 2, 3)), greys, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(given.labels, given.votes.flip(1))
        if (mixed.flatten(1).std(1) > 1).any():
            kinds.add("CutMix")
        elif (mixed % 40).max() > 1:  # a grey that no image has
            kinds.add("mixup")
    assert kinds == {"mixup", "CutMix"}
    assert torch.equal(faces, plain_faces()) and torch.equal(targets.votes, torch.eye(7)[:COUNT])


def test_a_share_of_the_targets_is_the_mean_of_the_teachers() -> None:
    networks, targets = teachers(2), one_hot()
    torch.manual_seed(5)
    faces = torch.rand(COUNT, 1, 48, 48) * 255
    with torch.no_grad():
        heads = [network.heads(faces) for network in networks]
    given = taught(networks, faces, targets)
    for head, share in enumerate(TEACHER_SHARES):
        mean = sum(one[head].softmax(1) for one in heads) / 2
        torch.testing.assert_close(given[head], share * mean + (1 - share) * targets[head])
    assert not torch.allclose(given.votes, taught(networks[:1], faces, targets).votes)


def test_batches_are_mixed_as_often_as_asked() -> None:
    random = np.random.default_rng(0)
    examples = FaceImages(random.integers(0, 255, (COUNT, 48, 48), np.uint8), np.arange(COUNT), 1.0)
    examples.targets = np.eye(7, dtype=np.float32)[:COUNT]
    objective = TwoHeads(examples, examples.targets, np.arange(COUNT), TRAINING, label_weight=1.0)
    faces, seen = examples.batch(np.arange(COUNT), None), []

    def model(inputs: Tensor) -> HeadLogits:
        seen.append(torch.equal(inputs, faces))
        return HeadLogits(torch.zeros(COUNT, 7), torch.zeros(COUNT, 7))

    torch.manual_seed(0)
    unmixed = {}
    for share in (0.0, 0.5, 1.0):
        objective.mixing = share
        seen.clear()
        for _ in range(60):
            objective.loss(model, faces, np.arange(COUNT))  # type: ignore[arg-type]
        unmixed[share] = sum(seen)
    assert unmixed[0.0] == 60 and 15 < unmixed[0.5] < 50 and unmixed[1.0] < 20
