"""Train the compact face network on single pictures, such as FER-2013's.

The number of epochs is fixed in advance and the last weights are kept, so the published test
pictures choose nothing and their accuracy is an honest test figure.
"""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from mfer_edge.outputs.files import make_folder, replacing, write_text
from train.data.augment_faces import vary_faces
from train.data.context import pictures
from train.data.index import DatasetError, Entry
from train.data.preprocess import read_face
from train.evaluate.metrics import softmax
from train.labels import FACE_EMOTIONS, FACE_OF_EMOTION
from train.models.fer_resnet import FACE_SIZE, FerResnet
from train.models.registry import FER_FACE
from train.models.weights import load_strict, read_state
from train.options import TrainError

BATCH = 128
LEARNING_RATE = 0.1
WEIGHT_DECAY = 5e-4
FINISH_LEARNING_RATE = 0.04  # highest, once the strong changes to the faces are over
FINISH_STRENGTH = 0.5  # of the random changes then: nearer to what the network will see
TEACHER_SHARE = 0.5  # of the target that is a teacher's opinion, where there is one
LABEL_SMOOTHING = 0.1
AVERAGE_DECAY = 0.998  # of the moving average of weights, per step
DROPOUT = 0.3


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
class Faces:
    """Labelled face pictures."""

    images: np.ndarray  # (n, 48, 48) uint8
    labels: np.ndarray  # (n,) int64, index into FACE_EMOTIONS

    def __len__(self) -> int:
        return len(self.labels)


def read_faces(entries: Sequence[Entry]) -> Faces:
    """Read pictures into memory.

    Raises:
        DatasetError: one can't be read.
    """
    images = np.zeros((len(entries), FACE_SIZE, FACE_SIZE), np.uint8)
    for index, entry in enumerate(entries):
        images[index] = read_face(entry, FACE_SIZE)
    labels = [FACE_EMOTIONS.index(FACE_OF_EMOTION[entry.label]) for entry in entries]
    return Faces(images, np.array(labels, np.int64))


def as_batch(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).float()[:, None].to(memory_format=torch.channels_last)


@torch.inference_mode()
def predict(model: nn.Module, faces: Faces) -> np.ndarray:
    """Give the logits of every face, (n, 7) float32."""
    model.eval()
    batches = range(0, len(faces), 256)
    return torch.cat([model(as_batch(faces.images[i : i + 256])) for i in batches]).numpy()


def targets_of(faces: Faces, teacher: nn.Module | None = None) -> np.ndarray:
    """Give what to learn for every face: its label, smoothed, and what a teacher thinks of it.

    Many labels of FER-2013 are wrong; a network trained before softens those (Furlanello
    et al. 2018, born-again networks).

    Returns:
        (n, 7) float32 probabilities.
    """
    labels = np.eye(len(FACE_EMOTIONS), dtype=np.float32)[faces.labels]
    smooth = (1 - LABEL_SMOOTHING) * labels + LABEL_SMOOTHING / len(FACE_EMOTIONS)
    if teacher is None:
        return smooth
    return (1 - TEACHER_SHARE) * smooth + TEACHER_SHARE * softmax(predict(teacher, faces))


def train_epoch(
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    faces: Faces,
    targets: np.ndarray,
    strength: float = 1.0,
) -> float:
    """Go once over the faces in random order; give the mean loss."""
    model.train()
    total = 0.0
    order = torch.randperm(len(faces))[: len(faces) // BATCH * BATCH].view(-1, BATCH)
    for batch in order.numpy():
        x = vary_faces(as_batch(faces.images[batch]), strength)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(x)
        loss = F.cross_entropy(logits.float(), torch.from_numpy(targets[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
        with torch.no_grad():
            for mean, value in zip(
                average.state_dict().values(), model.state_dict().values(), strict=True
            ):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - AVERAGE_DECAY)
                else:
                    mean.copy_(value)
    return total / len(order)


def falling(share: float) -> float:
    """Half a cosine, from 1 to 0 as a share of the way is gone."""
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


@dataclass(frozen=True)
class FaceOptions:
    """How long the face network is trained."""

    epochs: int = 28  # with strong random changes
    finish: int = 9  # after those, with mild ones
    seed: int = 0


def train_faces(
    entries: Sequence[Entry],
    out: Path,
    options: FaceOptions = FaceOptions(),
    teacher: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Train, or go on from OUT/last.pt; leave OUT/fer_face.safetensors and OUT/log.jsonl.

    Args:
        entries: pictures with a published split.
        teacher: a fer_face.safetensors to start from, and to learn half of each target from.
        say: is told of every epoch.

    Raises:
        DatasetError: there are too few pictures, or one can't be read.
        CheckpointError: the teacher is no such file.
        TrainError: OUT holds a training with other options, pictures or teacher, or a damaged one.
    """
    torch.manual_seed(options.seed)
    faces, valid = (read_faces(pictures(entries, split)) for split in ("train", "test"))
    if len(faces) < BATCH:
        raise DatasetError(f"{len(faces)} training pictures do not fill one batch of {BATCH}")
    make_folder(out, "a run")

    model = FaceClassifier()
    targets = targets_of(faces)
    if teacher is not None:
        load_strict(model, read_state(teacher), str(teacher))
        targets = targets_of(faces, model)
    average = copy.deepcopy(model)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.SGD(
        [
            {"params": decayed, "weight_decay": WEIGHT_DECAY},
            {"params": plain, "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        momentum=0.9,
        nesterov=True,
    )
    batches = len(faces) // BATCH
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate(step / batches, options) / LEARNING_RATE
    )
    state: dict[str, Any] = {
        "model": model,
        "average": average,
        "optimizer": optimizer,
        "schedule": schedule,
    }
    learned = faces.images.tobytes() + faces.labels.tobytes()
    learned += b"" if teacher is None else teacher.read_bytes()
    identity = f"{options} {hashlib.sha256(learned).hexdigest()}"

    records: list[dict[str, float]] = []
    last, log = out / "last.pt", out / "log.jsonl"
    if last.exists():
        saved = _read_last(last)
        if saved.get("identity") != identity:
            raise TrainError(
                f"{last}: of a training with other options, pictures or teacher: delete it"
            )
        for name, part in state.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["random"])
        records = saved["records"]

    for epoch in range(len(records), options.epochs + options.finish):
        started = time.perf_counter()
        strength = 1.0 if epoch < options.epochs else FINISH_STRENGTH
        loss = train_epoch(model, average, optimizer, schedule, faces, targets, strength)
        record: dict[str, float] = {"epoch": epoch + 1, "loss": loss}
        if len(valid):
            right = predict(average, valid).argmax(1) == valid.labels
            record["valid_accuracy"] = float(right.mean())
        record["seconds"] = time.perf_counter() - started
        records.append(record)
        saved = {name: part.state_dict() for name, part in state.items()}
        saved |= {"records": records, "random": torch.get_rng_state(), "identity": identity}
        with replacing(last) as beside:
            torch.save(saved, beside)
        # All of it each time: so no epoch is there twice, however often a training is killed.
        write_text(log, "".join(json.dumps(record) + "\n" for record in records))
        say(json.dumps(record))
    weights = {name: value.contiguous() for name, value in average.state_dict().items()}
    with replacing(out / FER_FACE) as beside:
        save_file(weights, beside)


def _read_last(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, weights_only=True)
    except Exception as error:  # of any type: that depends on what the bytes happen to spell
        reason = f"damaged, or not to be read ({type(error).__name__})"
        raise TrainError(f"{path}: {reason}; delete it to start this training again") from error


def learning_rate(epoch: float, options: FaceOptions) -> float:
    """Rise for a twentieth of the epochs with strong changes, fall; begin lower for the mild."""
    warmup = options.epochs / 20
    if epoch < warmup:
        return LEARNING_RATE * epoch / warmup
    if epoch < options.epochs:
        return LEARNING_RATE * falling((epoch - warmup) / (options.epochs - warmup))
    return FINISH_LEARNING_RATE * falling((epoch - options.epochs) / max(1, options.finish))
