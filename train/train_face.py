"""Train the face network of `compact` on single images, such as FER-2013's.

Targets are the raters' votes of FER+ where the index has them; a second classifier learns the
published labels. Some training images are held out and select the epoch; the published test images
select nothing, so that the accuracy on them is an honest test figure.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from mfer_edge.outputs.files import replacing, write_text
from train.data.batches import Split
from train.data.context import images
from train.data.examples import FaceImages
from train.data.faces.targets import (
    MAJORITY,
    face_labels,
    face_votes,
    rare,
    smoothed,
    vote_targets,
)
from train.data.features import fingerprint
from train.data.index import DatasetError, Entry
from train.data.preprocess import read_face
from train.evaluate.metrics import accuracy, unweighted_recall
from train.faces.objective import TwoHeads
from train.loop import Hooks, train
from train.models.face_classifier import (
    FaceClassifier,
    HeadLogits,
    fit_heads,
    load_classifier,
    mix_encoders,
)
from train.models.fer_resnet import FACE_SIZE
from train.models.registry import FER_FACE
from train.options import StageContext, TrainOptions

STUDENT_RATE = 0.05  # the highest learning rate of a network that starts from its teacher
HELD_OUT = 18  # one training image in so many selects the epoch
FIGURES_FILE = "figures.json"

TRAINING = TrainOptions(
    epochs=37,
    learning_rate=0.1,
    schedule="cosine",
    batch=128,
    optimizer="sgd",
    weight_decay=5e-4,
    decay_vectors=False,
    drop_last=True,
    warmup=0.05,
    finish_epochs=9,
    finish_learning_rate=0.04,
    clip_norm=math.inf,
    average_decay=0.998,
    average_buffers=True,
)
"""Strong augmentation, and milder in the last epochs."""

FINE_TUNING = replace(
    TRAINING,
    epochs=6,
    learning_rate=0.05,
    warmup=0.1,
    finish_epochs=0,
    average_warmup=True,
)
"""From an earlier network: one cosine."""


@dataclass(frozen=True)
class Strength:
    """Strength of the augmentation, 0 to 1."""

    vary: float  # of small changes to every face
    damage: float  # of what cameras and codecs do to some


STRONG, MILD = Strength(1.0, 0.55), Strength(0.5, 0.35)  # of training from random weights
FROZEN, FULL, LAST = Strength(0.7, 0.7), Strength(0.6, 0.55), Strength(0.6, 0.35)  # fine-tuning


@dataclass(frozen=True)
class FaceOptions:
    """Options of the face network's training."""

    training: TrainOptions = TRAINING
    seed: int = 0
    start: Path | None = None  # an earlier network: see `load_classifier`
    teachers: tuple[Path, ...] = ()  # earlier networks to distill; the first starts the training
    mixed: float = 0.0  # share of the batches whose images are mixed, but in the mild epochs
    frozen_epochs: int = 0  # first epochs that train the last layers alone
    mild_epochs: int = 9  # last epochs, with milder augmentation
    label_weight: float = 1.0  # of the loss of the published labels; that of the votes weighs 1
    new_share: float = 1.0
    """Of the fine-tuned weights in the encoder that is kept; the rest are those of `start`."""

    @classmethod
    def from_network(cls, start: Path, frozen: int = 3, full: int = 3) -> FaceOptions:
        """Options for fine-tuning an earlier network.

        Args:
            frozen: epochs in which the first layers keep their weights.
            full: epochs after those.

        Raises:
            TrainError: there are none.
        """
        return cls(
            replace(FINE_TUNING, epochs=frozen + full),
            start=start,
            frozen_epochs=frozen,
            mild_epochs=min(2, full),
        )

    @classmethod
    def distilling(cls, teachers: Sequence[Path]) -> FaceOptions:
        """Options for training from the first of several networks on the mean of their opinions."""
        return cls(teachers=tuple(teachers)).with_learning_rate(STUDENT_RATE)

    def with_learning_rate(self, highest: float) -> FaceOptions:
        """The same with another learning rate, also after the augmentation is reduced."""
        finish = highest / self.training.learning_rate * self.training.finish_learning_rate
        training = replace(self.training, learning_rate=highest, finish_learning_rate=finish)
        return replace(self, training=training)

    def with_epochs(self, main: int, finish: int) -> FaceOptions:
        """The same with other numbers of epochs, before and after the augmentation is reduced.

        Raises:
            TrainError: there are none.
        """
        training = replace(self.training, epochs=main + finish, finish_epochs=finish)
        return replace(self, training=training, mild_epochs=finish)

    def is_mild(self, epoch: int) -> bool:
        """Whether an epoch, from 1, is one of the last, with milder augmentation."""
        return epoch > self.training.epochs - self.mild_epochs

    def strength(self, epoch: int) -> Strength:
        """Strength of the augmentation in an epoch, from 1."""
        mild = self.is_mild(epoch)
        if self.start is None:
            return MILD if mild else STRONG
        return FROZEN if epoch <= self.frozen_epochs else LAST if mild else FULL


@dataclass(frozen=True)
class FaceFigures:
    """Accuracy on the published test images, over the seven emotions."""

    fer_plus_majority: float | None  # of images for which most of FER+'s raters agree
    fer_plus_recall: float | None  # unweighted, of the same
    fer_plus_images: int
    fer_2013: float | None  # of the published labels
    fer_2013_images: int


def read_faces(entries: Sequence[Entry], device: torch.device | None = None) -> FaceImages:
    """Read images into a device's memory, with their published labels.

    Raises:
        DatasetError: one can't be read.
    """
    faces = np.zeros((len(entries), FACE_SIZE, FACE_SIZE), np.uint8)
    for index, entry in enumerate(entries):
        faces[index] = read_face(entry, FACE_SIZE)
    return FaceImages(faces, face_labels(entries), STRONG.vary, device=device)


@dataclass(frozen=True)
class FaceData:
    """Images with the targets of both classifiers, and their split."""

    examples: FaceImages  # labels and targets are the votes', where there are any
    label_targets: np.ndarray  # (n, 7) float32, of the published labels
    split: Split

    @classmethod
    def read(
        cls,
        entries: Sequence[Entry],
        device: torch.device | None = None,
    ) -> FaceData:
        """Read training images; with votes, those whose raters disagree too much are left out.

        Images of rare emotions are shown twice an epoch.

        Raises:
            DatasetError: one can't be read.
        """
        examples, votes = read_faces(entries, device), face_votes(entries)
        held = np.array([int(entry.content[:8], 16) % HELD_OUT == 0 for entry in entries], bool)
        return cls.of(examples, votes, held)

    @classmethod
    def of(cls, examples: FaceImages, votes: np.ndarray, held: np.ndarray) -> FaceData:
        """Make targets and split of images with their published labels.

        Args:
            votes: (n, 7) of FER+; zeros where there are none.
            held: (n,) bool: images that may select the epoch.
        """
        voted, (targets, usable) = bool(votes.any()), vote_targets(votes)
        if voted:
            examples, targets = examples.select(usable), targets[usable]
            votes, held = votes[usable], held[usable]
        label_targets, shown = smoothed(examples.labels), np.flatnonzero(~held)
        if voted:
            examples.labels = targets.argmax(1)
            shown = np.concatenate([shown, shown[rare(targets[shown])]])
            held = held & (votes.max(1) >= MAJORITY)
        examples.targets = targets if voted else label_targets
        return cls(examples, label_targets, Split(shown, np.flatnonzero(held)))

    def fit_heads(self, model: FaceClassifier) -> None:
        """Fit both classifiers of a network anew on the training images as they are."""
        targets, every = self.examples.targets, np.unique(self.split.train)
        assert targets is not None
        model.eval()
        with torch.inference_mode():
            embedded = [
                model.encoder(self.examples.batch(every[first : first + 256], None))
                for first in range(0, len(every), 256)
            ]
        fit_heads(
            model,
            torch.cat(embedded).clone(),
            torch.from_numpy(targets[every]).to(self.examples.device),
            torch.from_numpy(self.label_targets[every]).to(self.examples.device),
        )

    def digest(self) -> str:
        """Hash of images and of the published labels' targets."""
        digest = hashlib.sha256(self.examples.faces.tobytes())
        digest.update(self.label_targets.tobytes())
        return digest.hexdigest()


def train_faces(
    entries: Sequence[Entry],
    out: Path,
    options: FaceOptions = FaceOptions(),
    *,
    device: torch.device | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Train, or resume from OUT/last.pt.

    Writes OUT/fer_face.safetensors, OUT/log.jsonl, and OUT/figures.json, the `FaceFigures`.

    Args:
        entries: images with a published split.
        device: that trains; by default the CPU.
        say: called with every epoch's figures and at last with those of the test images, as JSON.

    Raises:
        DatasetError: there are too few images, or one can't be read.
        CheckpointError: the file to start from, or the teacher's, is none.
        TrainError: OUT holds a training with other options, images or teacher, or a damaged one.
    """
    torch.manual_seed(options.seed)
    shown, test = images(entries, "train"), images(entries, "test")
    teachers = [load_classifier(path).to(device).eval() for path in options.teachers]
    if teachers:
        model = copy.deepcopy(teachers[0])
    else:
        model = FaceClassifier() if options.start is None else load_classifier(options.start)
    model.to(device)
    data = FaceData.read(shown, device)
    training, count = options.training, len(data.split.train)
    if count < training.batch:
        raise DatasetError(f"{count} training images do not fill one batch of {training.batch}")
    if not len(data.split.valid):
        training = replace(training, keep="last")

    objective = TwoHeads(
        data.examples,
        data.label_targets,
        data.split.train,
        training,
        label_weight=options.label_weight,
        teachers=teachers,
    )

    def before_epoch(epoch: int) -> None:
        objective.mixing = 0.0 if options.is_mild(epoch) else options.mixed
        strength = options.strength(epoch)
        data.examples.strength, data.examples.damage = strength.vary, strength.damage
        model.freeze(epoch <= options.frozen_epochs)

    train(
        model,
        data.examples,
        data.split,
        training,
        stage=StageContext(out, options.seed),
        hooks=Hooks(
            before_epoch=before_epoch,
            after_epoch=lambda epoch: say(json.dumps(asdict(epoch))),
        ),
        objective=objective,
        identity={
            "images": data.digest(),
            "faces": repr(replace(options, start=None, teachers=(), new_share=1.0)),
            "teachers": " ".join(map(fingerprint, teachers)),
        },
    )
    model.freeze(False)
    if options.start is not None and options.new_share < 1:
        mix_encoders(model, load_classifier(options.start).to(device), options.new_share)
        data.fit_heads(model)
    weights = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
    with replacing(out / FER_FACE) as beside:
        save_file(weights, beside)
    if test:
        figures = json.dumps(asdict(face_figures(model, test, device)))
        write_text(out / FIGURES_FILE, figures + "\n")
        say(figures)


def face_figures(
    model: FaceClassifier, entries: Sequence[Entry], device: torch.device | None = None
) -> FaceFigures:
    """Measure both classifiers on images that neither was trained on.

    Raises:
        DatasetError: one can't be read.
    """
    examples, votes = read_faces(entries, device), face_votes(entries)
    heads = predict_heads(model, examples)
    agreed = votes.max(1) >= MAJORITY
    lead, predicted = votes.argmax(1)[agreed], heads.votes.numpy().argmax(1)[agreed]
    return FaceFigures(
        fer_plus_majority=accuracy(predicted, lead) if agreed.any() else None,
        fer_plus_recall=unweighted_recall(predicted, lead) if agreed.any() else None,
        fer_plus_images=int(agreed.sum()),
        fer_2013=accuracy(heads.labels.numpy().argmax(1), examples.labels),
        fer_2013_images=len(entries),
    )


@torch.inference_mode()
def predict_heads(model: FaceClassifier, examples: FaceImages, batch: int = 256) -> HeadLogits:
    """Predict all images without augmentation, on their device; leaves evaluation mode on."""
    model.eval()
    every = np.arange(len(examples.labels))
    parts = [
        model.heads(examples.batch(every[first : first + batch], None))
        for first in range(0, len(every), batch)
    ]
    return HeadLogits(*(torch.cat(logits).cpu() for logits in zip(*parts, strict=True)))
