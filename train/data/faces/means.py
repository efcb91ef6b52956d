"""Examples for the image arm: means of embeddings over time, of images and of ordinary talk.

`train.models.mean_arm` sees a sequence only through the mean of its normalised embeddings, so that
training needs no sequences. What speech and other people do to such means is taken from recordings
of people who talk without acting, and added to images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from train.data.features import Features

Random = np.random.Generator

EPSILON = 1e-5  # of PyTorch's layer norm
LONGEST = 22  # frames in a piece of talk: a window's, and a few more


@dataclass(frozen=True)
class MeanOptions:
    """How means are drawn; chosen on talking people left out."""

    balance: float = 0.5  # 0: labels as often as raters gave them; 1: all alike
    images: int = 4  # images mixed in one mean; half of the means are of one
    talk: float = 0.15  # share of examples that are ordinary talk
    neutral: float = 0.9  # share of neutral in the target of talk
    person: float = 0.5  # share of images moved as one talking person is from the others
    person_strength: float = 1.3  # at most, of that
    speech: float = 0.3  # share of images moved as a piece of talk is from its recording
    speech_strength: float = 1.2
    plain: float = 0.15  # share of images mixed with a neutral image, up to half
    noise: float = 0.15  # in deviations of the embeddings


@dataclass(frozen=True)
class TalkingFaces:
    """Recordings of people who talk without acting."""

    clips: Sequence[np.ndarray]  # (frames, width) embeddings of each recording or view of one
    people: Sequence[str]  # who speaks in each

    @classmethod
    def of(cls, features: Features, people: Sequence[str]) -> TalkingFaces:
        """Take all views of recordings in which a face was found."""
        named = [
            (view, person)
            for views, person in zip(features.sequences, people, strict=True)
            for view in views
            if len(view)
        ]
        return cls([view for view, _ in named], [person for _, person in named])


class MeanBatch(NamedTuple):
    """A batch of means with their targets, which depend on how they were drawn."""

    means: Tensor  # (n, width)
    targets: Tensor  # (n, classes) float32 probabilities


class FaceMeans:
    """Means of images' embeddings, moved as speech moves them, and means of ordinary talk.

    Args:
        images: of every image: views of one step.
        targets: (images, classes) float32 probabilities.
        talk: may be empty.
        neutral: (classes,) the target of a neutral face.
        count: of examples; training draws each anew every time.
        options: how they are drawn.
        seed: of the examples without augmentation.
    """

    targets: np.ndarray | None = None  # of each batch: see `MeanBatch`
    lengths: np.ndarray | None = None

    def __init__(
        self,
        images: Features,
        targets: np.ndarray,
        talk: TalkingFaces,
        *,
        neutral: np.ndarray,
        count: int,
        options: MeanOptions = MeanOptions(),
        seed: int = 0,
    ) -> None:
        stacked = np.stack([np.stack([view[0] for view in views]) for views in images.sequences])
        self._views = normalised(stacked)  # (images, views, width)
        self._targets, self._options, self._seed = targets, options, seed
        self._deviation = self._views[:, 0].std(0)
        self._of_class = np.cumsum(targets, 0)  # (images, classes), to draw an image of a class
        self._plain = np.cumsum(targets @ (neutral > 0))
        self._talk = _Talk(talk) if len(talk.clips) else None
        others = (1 - options.neutral) / max(1, (neutral == 0).sum())
        self._talk_target = np.where(neutral > 0, options.neutral * neutral, others)
        self._is_talk, self.labels = self._plan(count, int(neutral.argmax()))

    def _plan(self, count: int, neutral: int) -> tuple[np.ndarray, np.ndarray]:
        """Which of the examples are talk, and the classes that images are drawn from."""
        share = self._options.talk if self._talk is not None else 0.0
        is_talk = np.arange(count) < round(share * count)
        prior = self._targets.mean(0)
        weight = np.where(prior > 0, np.maximum(prior, 1e-12) ** (1 - self._options.balance), 0)
        edges = np.cumsum(weight / weight.sum())
        drawn = np.random.default_rng(self._seed).random(count)
        labels = np.minimum(np.searchsorted(edges, drawn), len(prior) - 1)
        return is_talk, np.where(is_talk, neutral, labels).astype(np.int64)

    def batch(self, indices: np.ndarray, random: Random | None) -> MeanBatch | Tensor:
        """Give (n, width) means: new ones with their targets, or always the same ones."""
        drawn = np.random.default_rng(self._seed) if random is None else random
        means, targets = self._of_images(indices, drawn)
        if self._talk is not None:
            means += self._talk.offsets(len(indices), drawn, self._options)
            talk = self._is_talk[indices]
            means[talk] = self._talk.pieces(int(talk.sum()), drawn)[0]
            targets[talk] = self._talk_target
        noise = drawn.standard_normal(means.shape)
        means = (means + self._options.noise * self._deviation * noise).astype(np.float32)
        if random is None:
            return torch.from_numpy(means)
        return MeanBatch(torch.from_numpy(means), torch.from_numpy(targets.astype(np.float32)))

    def digest(self) -> str:
        """Hash of everything that the examples are drawn from."""
        digest = hashlib.sha256(repr((self._options, self._seed)).encode())
        digest.update(self._views.tobytes())
        digest.update(self._targets.tobytes())
        if self._talk is not None:
            digest.update(self._talk.means.tobytes())
        return digest.hexdigest()[:16]

    def _of_images(self, indices: np.ndarray, random: Random) -> tuple[np.ndarray, np.ndarray]:
        """Means of one or several images of the examples' classes, and their targets."""
        options, n = self._options, len(indices)
        shown = np.empty((n, options.images), np.int64)
        labels = self.labels[indices]
        for label in np.unique(labels):
            rows = np.flatnonzero(labels == label)
            shown[rows] = _draw(self._of_class[:, label], (len(rows), options.images), random)
        share = random.dirichlet(np.ones(options.images), n).astype(np.float32)
        share[random.random(n) < 0.5] = np.eye(options.images)[0]
        view = random.integers(0, self._views.shape[1], shown.shape)
        means = (self._views[shown, view] * share[..., None]).sum(1)
        targets = (self._targets[shown] * share[..., None]).sum(1)
        plain = _draw(self._plain, (n,), random)
        amount = _amounts(n, options.plain, 0.5, random)
        means = (1 - amount) * means + amount * self._views[plain, 0]
        return means, (1 - amount) * targets + amount * self._targets[plain]


class _Talk:
    """Means of pieces of talk, and how they differ from their recordings and people."""

    def __init__(self, talk: TalkingFaces) -> None:
        clips = [normalised(clip) for clip in talk.clips]
        zero = np.zeros((1, clips[0].shape[1]), np.float32)
        self._sums = [np.concatenate([zero, np.cumsum(clip, 0)]) for clip in clips]
        self.means = np.stack([clip.mean(0) for clip in clips])
        people, number, count = np.unique(talk.people, return_inverse=True, return_counts=True)
        each = np.stack([self.means[number == person].mean(0) for person in range(len(people))])
        self._people = each - each.mean(0)
        share = 1 / count[number]
        self._share = share / share.sum()  # every person as often

    def pieces(self, n: int, random: Random) -> tuple[np.ndarray, np.ndarray]:
        """Means of n random pieces, (n, width), and those of the whole recordings."""
        chosen = random.choice(len(self._sums), n, p=self._share)
        means = np.empty((n, self.means.shape[1]), np.float32)
        for row, clip in enumerate(chosen):
            sums = self._sums[clip]
            length = min(len(sums) - 1, int(random.integers(1, LONGEST + 1)))
            start = random.integers(len(sums) - length)
            means[row] = (sums[start + length] - sums[start]) / length
        return means, self.means[chosen]

    def offsets(self, n: int, random: Random, options: MeanOptions) -> np.ndarray:
        """Random differences of people and of pieces of speech: (n, width)."""
        person = self._people[random.integers(0, len(self._people), n)]
        pieces, whole = self.pieces(n, random)
        return _amounts(n, options.person, options.person_strength, random) * person + _amounts(
            n, options.speech, options.speech_strength, random
        ) * (pieces - whole)


def normalised(embeddings: np.ndarray) -> np.ndarray:
    """Layer norm without scale and shift: (..., width) float32."""
    centred = np.asarray(embeddings, np.float32)
    centred = centred - centred.mean(-1, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(-1, keepdims=True) + EPSILON)


def _draw(cumulated: np.ndarray, shape: tuple[int, ...], random: Random) -> np.ndarray:
    """Draw indices by cumulated weights."""
    found = np.searchsorted(cumulated, random.random(shape) * cumulated[-1])
    return np.minimum(found, len(cumulated) - 1)


def _amounts(n: int, share: float, highest: float, random: Random) -> np.ndarray:
    """Uniform amounts up to the highest for a share of examples, 0 for the others: (n, 1)."""
    amounts = random.random(n) * highest * (random.random(n) < share)
    return amounts.astype(np.float32)[:, None]
