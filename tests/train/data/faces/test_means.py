"""Means of images and of ordinary talk, for the image arm."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train.data.faces.means import (
    FaceMeans,
    MeanBatch,
    MeanOptions,
    TalkingFaces,
    normalised,
)
from train.data.features import Features

WIDTH, LABELS, IMAGES, COUNT = 16, 3, 60, 400
STILL = MeanOptions(person=0, speech=0, plain=0, noise=0)
NEUTRAL = np.array([1.0, 0.0, 0.0], np.float32)


def random(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def images() -> Features:
    """Images of three classes, each class around a point of its own; two views."""
    drawn = random(1)
    points = drawn.standard_normal((LABELS, WIDTH))
    return Features(
        [
            [(points[n % LABELS] + 0.1 * drawn.standard_normal((1, WIDTH))).astype(np.float16)] * 2
            for n in range(IMAGES)
        ]
    )


TARGETS = np.eye(LABELS, dtype=np.float32)[np.arange(IMAGES) % LABELS]


@pytest.fixture(scope="module")
def talk() -> TalkingFaces:
    """Three recordings of two people, the last without a face in its second view."""
    drawn = random(2)
    clips = [[drawn.standard_normal((n, WIDTH)).astype(np.float16)] for n in (30, 8, 25)]
    clips[2].append(np.zeros((0, WIDTH), np.float16))
    return TalkingFaces.of(Features(clips), ["ann", "ann", "ben"])


NO_TALK = TalkingFaces([], [])


def means(images: Features, talk: TalkingFaces, options: MeanOptions = STILL) -> FaceMeans:
    return FaceMeans(images, TARGETS, talk, neutral=NEUTRAL, count=COUNT, options=options, seed=3)


def batch(examples: FaceMeans, seed: int = 0) -> MeanBatch:
    drawn = examples.batch(np.arange(COUNT), random(seed))
    assert isinstance(drawn, MeanBatch)
    return drawn


def test_a_recording_without_a_face_is_left_out(talk: TalkingFaces) -> None:
    assert [len(clip) for clip in talk.clips] == [30, 8, 25]
    assert list(talk.people) == ["ann", "ann", "ben"]


def test_normalised_is_pytorch_s_layer_norm() -> None:
    x = random().standard_normal((4, 3, WIDTH)).astype(np.float32)
    expected = torch.nn.functional.layer_norm(torch.from_numpy(x), (WIDTH,))
    np.testing.assert_allclose(normalised(x), expected, atol=1e-5)


def test_an_image_s_mean_has_the_image_s_target(images: Features) -> None:
    drawn = batch(means(images, NO_TALK))
    assert drawn.means.dtype == drawn.targets.dtype == torch.float32
    torch.testing.assert_close(drawn.targets.sum(1), torch.ones(COUNT))
    # All images of one mean are of one class here, and lie around its point.
    torch.testing.assert_close(drawn.targets.amax(1), torch.ones(COUNT))
    views = normalised(np.stack([views[0][0] for views in images.sequences]))
    centres = np.stack([views[np.arange(IMAGES) % LABELS == c].mean(0) for c in range(LABELS)])
    nearest = np.square(drawn.means.numpy()[:, None] - centres).sum(2).argmin(1)
    assert (nearest == drawn.targets.argmax(1).numpy()).all()


def test_labels_are_drawn_between_their_frequency_and_evenly(images: Features) -> None:
    uneven = TARGETS.copy()
    uneven[20:] = NEUTRAL  # 47 of 60 neutral
    for balance, low, high in ((0.0, 0.7, 0.86), (1.0, 0.25, 0.42)):
        options = MeanOptions(balance=balance, plain=0, noise=0)
        made = FaceMeans(images, uneven, NO_TALK, neutral=NEUTRAL, count=2000, options=options)
        assert low < (made.labels == 0).mean() < high


def test_talk_is_soft_neutral(images: Features, talk: TalkingFaces) -> None:
    options = MeanOptions(talk=0.25, person=0, speech=0, plain=0, noise=0)
    drawn, labels = batch(means(images, talk, options)), means(images, talk, options).labels
    soft = torch.tensor([0.9, 0.05, 0.05])
    is_talk = (drawn.targets - soft).abs().amax(1) < 1e-6
    assert int(is_talk.sum()) == COUNT // 4
    assert (labels[is_talk.numpy()] == 0).all()


def test_pieces_of_talk_are_means_of_consecutive_frames(
    images: Features, talk: TalkingFaces
) -> None:
    options = MeanOptions(talk=1.0, person=0, speech=0, plain=0, noise=0)
    drawn = batch(means(images, talk, options)).means.numpy()
    clips = [normalised(clip) for clip in talk.clips]
    possible = np.stack(
        [
            clip[start:end].mean(0)
            for clip in clips
            for start in range(len(clip))
            for end in range(start + 1, min(len(clip), start + 22) + 1)
        ]
    )
    gaps = np.abs(drawn[:60, None] - possible[None]).max(2).min(1)
    assert gaps.max() < 1e-4


def test_images_are_moved_as_speech_and_people_move(images: Features, talk: TalkingFaces) -> None:
    for options in (
        MeanOptions(talk=0, person=1.0, speech=0, plain=0, noise=0),
        MeanOptions(talk=0, person=0, speech=1.0, plain=0, noise=0),
        MeanOptions(talk=0, person=0, speech=0, plain=0, noise=0.5),
    ):
        still = batch(means(images, talk, MeanOptions(0.5, 4, 0, 0.9, 0, 1, 0, 1, 0, 0)))
        moved = batch(means(images, talk, options))
        assert moved.means.std(0).mean() > 1.02 * still.means.std(0).mean()


def test_a_plain_face_mixed_in_takes_its_share_of_the_target(images: Features) -> None:
    options = MeanOptions(plain=1.0, person=0, speech=0, noise=0)
    targets = batch(means(images, NO_TALK, options)).targets
    other = targets[targets.argmax(1) != 0]
    assert (other[:, 0] > 0).float().mean() > 0.9
    assert other[:, 0].max() <= 0.5 + 1e-6


def test_means_are_new_every_time_and_repeat_with_the_seed(
    images: Features, talk: TalkingFaces
) -> None:
    examples = means(images, talk, MeanOptions())
    one, other = batch(examples, 1), batch(examples, 2)
    assert torch.equal(one.means, batch(examples, 1).means)
    assert not torch.equal(one.means, other.means)
    fixed = examples.batch(np.arange(COUNT), None)
    assert isinstance(fixed, torch.Tensor)
    assert torch.equal(fixed, examples.batch(np.arange(COUNT), None))  # type: ignore[arg-type]


def test_the_digest_is_of_images_targets_and_talk(images: Features, talk: TalkingFaces) -> None:
    digests = {
        means(images, talk).digest(),
        means(images, NO_TALK).digest(),
        means(images, talk, MeanOptions()).digest(),
        FaceMeans(images, TARGETS[::-1].copy(), talk, neutral=NEUTRAL, count=COUNT).digest(),
    }
    assert len(digests) == 4
    assert means(images, talk).digest() in digests
