"""Training of the image arm of `compact` on means of images and of ordinary talk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from train.data.batches import Split, predict
from train.data.context import class_indices
from train.data.examples import FeatureExamples
from train.data.faces.means import FaceMeans, MeanBatch, TalkingFaces
from train.data.faces.targets import face_labels, face_votes, over_labels, vote_targets
from train.data.features import Features
from train.data.index import DatasetError, Entry
from train.evaluate.predictions import Predictions, join
from train.labels import FACE_EMOTIONS
from train.loop import CrossEntropy, Hooks, train
from train.models.emotion_model import visual_arm
from train.models.mean_arm import MeanArm, OverMeans
from train.options import StageContext, TrainOptions
from train.progress import progress_bar
from train.run import RunContext

MEANS = 12_800  # means in one epoch
TALK_FOLDS = 4  # in which talking people are left out, to measure and calibrate


@dataclass(frozen=True)
class FaceCorpora:
    """What the image arm is trained on: images with targets, and recordings of ordinary talk."""

    images: Features
    targets: np.ndarray  # (images, labels) float32
    neutral: np.ndarray  # (labels,) float32, the target of a neutral face
    talk: list[Entry]
    talking: Features  # of `talk`

    @classmethod
    def read(cls, run: RunContext, shown: Sequence[Entry], talk: Sequence[Entry]) -> FaceCorpora:
        """Compute features, or read them from the cache.

        Of images with votes those are kept whose raters agree; without votes their labels serve.

        Raises:
            MediaError, DatasetError: a file can't be read, or an emotion has no image.
        """
        if missing := sorted(set(FACE_EMOTIONS) - {FACE_EMOTIONS[k] for k in face_labels(shown)}):
            raise DatasetError(f"of {len(shown)} images none is {' or '.join(missing)}: add some")
        votes = face_votes(shown)
        if votes.any():
            targets, usable = vote_targets(votes)
            shown = [entry for entry, kept in zip(shown, usable, strict=True) if kept]
            targets = targets[usable]
        else:
            targets = np.eye(len(FACE_EMOTIONS), dtype=np.float32)[face_labels(shown)]
        labels = run.preset.labels
        plain = np.eye(len(FACE_EMOTIONS), dtype=np.float32)[FACE_EMOTIONS.index("neutral")]
        images = run.data.face_features(shown, "images")
        talking = run.data.face_features(talk, "talking faces") if talk else Features([])
        seen = talking.present if talk else np.zeros(0, bool)
        kept = np.flatnonzero(seen).tolist()
        return cls(
            images,
            over_labels(targets, labels),
            over_labels(plain[None], labels)[0],
            [talk[index] for index in kept],
            Features([talking.sequences[index] for index in kept]),
        )

    def means(self, kept: np.ndarray, seed: int) -> FaceMeans:
        """The examples, with some of the recordings of talk.

        Args:
            kept: (n,) their positions.
        """
        talk = TalkingFaces.of(
            Features([self.talking.sequences[index] for index in kept]),
            [self.talk[index].group for index in kept],
        )
        return FaceMeans(
            self.images, self.targets, talk, neutral=self.neutral, count=MEANS, seed=seed
        )


class MeanObjective(CrossEntropy):
    """Cross-entropy to the targets of a `MeanBatch`."""

    def loss(self, model: Any, inputs: MeanBatch, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Give a batch's logits and mean loss."""
        logits = model(inputs.means)
        return logits, F.cross_entropy(logits, inputs.targets)


def train_mean_arm(
    run: RunContext, corpora: FaceCorpora, kept: np.ndarray, stage: StageContext
) -> MeanArm:
    """Train the arm on all images, and on some of the recordings of talk."""
    torch.manual_seed(stage.seed)
    arm = visual_arm(run.preset, run.data.face, len(run.preset.labels))
    assert isinstance(arm, MeanArm)
    arm.fit_statistics(
        torch.from_numpy(views[0].astype(np.float32)) for views in corpora.images.sequences
    )
    examples = corpora.means(kept, stage.seed)
    options: TrainOptions = replace(run.preset.visual.options, keep="last")
    split = Split(np.arange(MEANS), np.zeros(0, np.int64))
    objective, model = MeanObjective(examples, split.train, options), OverMeans(arm)
    with progress_bar(stage.name) as progress:
        hooks = Hooks(progress=lambda share: progress(round(1000 * share), 1000))
        train(
            model, examples, split, options, stage=stage, hooks=hooks, objective=objective,
            identity={"faces": examples.digest()},
        )  # fmt: skip
    return model.arm


def talk_predictions(run: RunContext, corpora: FaceCorpora) -> Predictions | None:
    """Predictions of talking people by arms that were not trained on them.

    None if fewer than two people talk.
    """
    people = sorted({entry.group for entry in corpora.talk})
    if len(people) < 2:
        return None
    order = np.random.default_rng(run.seed).permutation(len(people))
    fold_of = {people[person]: place % TALK_FOLDS for place, person in enumerate(order)}
    folds = np.array([fold_of[entry.group] for entry in corpora.talk])
    truth = class_indices(corpora.talk, run.preset.labels)
    examples = FeatureExamples(corpora.talking, truth)
    parts = []
    for fold in np.unique(folds):
        name = f"{fold + 1}"
        left_out = np.flatnonzero(folds == fold)
        stage = run.stage(f"visual-talk-{name}")
        arm = train_mean_arm(run, corpora, np.flatnonzero(folds != fold), stage)
        parts.append(
            Predictions.of(
                [corpora.talk[index] for index in left_out],
                truth[left_out],
                predict(arm, examples, left_out),
                protocol="subject",
                fold=name,
                arm="visual",
                labels=run.preset.labels,
            )
        )
    return join(parts)
