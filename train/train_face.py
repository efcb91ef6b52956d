"""Train the face network of `compact` on single images, such as FER-2013's.

The number of epochs is fixed and the last weights are kept: the published test images select
nothing, so that the accuracy on them is an honest test figure.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mfer_edge.outputs.files import replacing
from train.data.batches import Split, predict
from train.data.context import images
from train.data.examples import FaceImages
from train.data.index import DatasetError, Entry
from train.data.preprocess import read_face
from train.evaluate.metrics import softmax
from train.labels import FACE_EMOTIONS, FACE_OF_EMOTION
from train.loop import Hooks, train
from train.models.fer_resnet import FACE_SIZE, FerResnet
from train.models.registry import FER_FACE
from train.models.weights import load_strict, read_state
from train.options import StageContext, TrainOptions

STRENGTH = 1.0  # of the augmentation
FINISH_STRENGTH = 0.5  # of the augmentation in the last epochs: nearer to faces as they are
TEACHER_SHARE = 0.5  # of the target that is the teacher's prediction, where there is one
LABEL_SMOOTHING = 0.1  # of the labels' part of the target
DROPOUT = 0.3

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
    bf16=True,
    keep="last",
)
"""Strong augmentation, and milder in the last epochs."""


class FaceClassifier(nn.Module):
    """The face network with the FER-2013 classifier that trains it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = FerResnet()
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(FerResnet.width, len(FACE_EMOTIONS))

    def forward(self, faces: Tensor) -> Tensor:
        """Give (n, 7) logits for (n, 1, 48, 48) faces, 0 to 255."""
        return self.classifier(self.dropout(self.encoder(faces)))


@dataclass(frozen=True)
class FaceOptions:
    """Options of the face network's training."""

    training: TrainOptions = TRAINING
    seed: int = 0
    teacher: Path | None = None  # a fer_face.safetensors to start from and to distill

    def with_epochs(self, main: int, finish: int) -> FaceOptions:
        """The same with other numbers of epochs, before and after the augmentation is reduced.

        Raises:
            TrainError: there are none.
        """
        training = replace(self.training, epochs=main + finish, finish_epochs=finish)
        return replace(self, training=training)


def read_faces(entries: Sequence[Entry]) -> FaceImages:
    """Read images into memory.

    Raises:
        DatasetError: one can't be read.
    """
    faces = np.zeros((len(entries), FACE_SIZE, FACE_SIZE), np.uint8)
    for index, entry in enumerate(entries):
        faces[index] = read_face(entry, FACE_SIZE)
    labels = [FACE_EMOTIONS.index(FACE_OF_EMOTION[entry.label]) for entry in entries]
    return FaceImages(faces, np.array(labels, np.int64), STRENGTH)


def soft_targets(examples: FaceImages, teacher: nn.Module | None = None) -> np.ndarray:
    """Targets of training: the smoothed labels, or their mean with a teacher's predictions.

    Many labels of FER-2013 are wrong; a network trained before softens them (born-again networks,
    Furlanello et al. 2018).

    Returns:
        (n, 7) float32 probabilities.
    """
    labels = np.eye(len(FACE_EMOTIONS), dtype=np.float32)[examples.labels]
    smooth = (1 - LABEL_SMOOTHING) * labels + LABEL_SMOOTHING / len(FACE_EMOTIONS)
    if teacher is None:
        return smooth
    logits = predict(teacher, examples, np.arange(len(examples.labels)), batch=256)
    return (1 - TEACHER_SHARE) * smooth + TEACHER_SHARE * softmax(logits)


def train_faces(
    entries: Sequence[Entry],
    out: Path,
    options: FaceOptions = FaceOptions(),
    *,
    say: Callable[[str], None] = print,
) -> None:
    """Train, or resume from OUT/last.pt; write OUT/fer_face.safetensors and OUT/log.jsonl.

    Args:
        entries: images with a published split.
        say: called with every epoch's figures, as JSON.

    Raises:
        DatasetError: there are too few images, or one can't be read.
        CheckpointError: the teacher's file is none.
        TrainError: OUT holds a training with other options, images or teacher, or a damaged one.
    """
    torch.manual_seed(options.seed)
    shown = [(split, images(entries, split)) for split in ("train", "test")]
    count = {split: len(chosen) for split, chosen in shown}
    if count["train"] < options.training.batch:
        raise DatasetError(
            f"{count['train']} training images do not fill one batch of {options.training.batch}"
        )
    examples = read_faces([entry for _, chosen in shown for entry in chosen])
    split = Split(np.arange(count["train"]), count["train"] + np.arange(count["test"]))

    model, teacher = FaceClassifier(), None
    if options.teacher is not None:
        load_strict(model, read_state(options.teacher), str(options.teacher))
        teacher = model
    examples = examples.with_targets(soft_targets(examples, teacher))

    def set_strength(epoch: int) -> None:
        main = epoch <= options.training.main_epochs
        examples.strength = STRENGTH if main else FINISH_STRENGTH

    train(
        model,
        examples,
        split,
        options.training,
        stage=StageContext(out, options.seed),
        hooks=Hooks(
            before_epoch=set_strength, after_epoch=lambda epoch: say(json.dumps(asdict(epoch)))
        ),
        identity={"images": hashlib.sha256(examples.faces.tobytes()).hexdigest()},
    )
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    with replacing(out / FER_FACE) as beside:
        save_file(weights, beside)
