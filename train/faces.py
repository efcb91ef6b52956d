"""Train the compact face network on FER-2013: `python -m train.faces --data FER2013 --out DIR`.

The number of epochs is fixed in advance and the last weights are kept, so the validation pictures
choose nothing and their accuracy is an honest test figure.
"""

from __future__ import annotations

import copy
import json
import math
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.augment_faces import vary_faces
from train.datasets import FACE_EMOTIONS, Faces, fer2013
from train.face_encoder import FaceEncoder

BATCH = 128
LEARNING_RATE = 0.1
WEIGHT_DECAY = 5e-4
FINISH_LEARNING_RATE = 0.02  # highest, once the strong changes to the faces are over
FINISH_STRENGTH = 0.4  # of the random changes then: nearer to what the network will see
LABEL_SMOOTHING = 0.1
AVERAGE_DECAY = 0.998  # of the moving average of weights, per step
DROPOUT = 0.3


class FaceClassifier(nn.Module):
    """The face network with the FER-2013 classifier that trains it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = FaceEncoder()
        self.dropout = nn.Dropout(DROPOUT)
        self.classifier = nn.Linear(FaceEncoder.embedding, len(FACE_EMOTIONS))

    def forward(self, faces: Tensor) -> Tensor:
        """Give (n, 7) logits for (n, 1, 48, 48) faces, 0 to 255."""
        return self.classifier(self.dropout(self.encoder(faces)))


def as_batch(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).float()[:, None].to(memory_format=torch.channels_last)


@torch.inference_mode()
def predict(model: nn.Module, faces: Faces) -> np.ndarray:
    """Give the logits of every face, (n, 7) float32."""
    model.eval()
    batches = range(0, len(faces), 256)
    return torch.cat([model(as_batch(faces.images[i : i + 256])) for i in batches]).numpy()


def train_epoch(
    model: nn.Module,
    average: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    faces: Faces,
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
        target = torch.from_numpy(faces.labels[batch])
        loss = F.cross_entropy(logits.float(), target, label_smoothing=LABEL_SMOOTHING)
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


@click.command()
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--epochs", default=28, show_default=True, help="With strong random changes.")
@click.option("--finish", default=9, show_default=True, help="Epochs after those, with mild ones.")
@click.option("--seed", default=0, show_default=True)
def main(data: Path, out: Path, epochs: int, finish: int, seed: int) -> None:
    """Train, or go on from OUT/last.pt; leave OUT/face.pt and OUT/log.jsonl."""
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    valid = fer2013(data / "valid")
    everything = fer2013(data / "train")
    faces = everything.without(valid)
    click.echo(f"{len(everything)} training faces, {len(faces)} after leaving out duplicates")
    if len(faces) < BATCH:
        raise click.ClickException(f"{data}: {len(faces)} faces do not fill one batch of {BATCH}")

    model = FaceClassifier()
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
    steps, finish_steps = (n * (len(faces) // BATCH) for n in (epochs, finish))
    warmup = steps // 20

    def rate(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if step < steps:
            return falling((step - warmup) / (steps - warmup))
        return FINISH_LEARNING_RATE / LEARNING_RATE * falling((step - steps) / max(1, finish_steps))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    state: dict[str, Any] = {
        "model": model,
        "average": average,
        "optimizer": optimizer,
        "schedule": schedule,
    }

    first, last = 0, out / "last.pt"
    if last.exists():
        saved = torch.load(last, weights_only=True)
        for name, part in state.items():
            part.load_state_dict(saved[name])
        torch.set_rng_state(saved["random"])
        first = saved["epoch"]

    for epoch in range(first, epochs + finish):
        started = time.perf_counter()
        strength = 1.0 if epoch < epochs else FINISH_STRENGTH
        loss = train_epoch(model, average, optimizer, schedule, faces, strength)
        accuracy = float((predict(average, valid).argmax(1) == valid.labels).mean())
        record = {"epoch": epoch + 1, "loss": loss, "valid_accuracy": accuracy}
        record["seconds"] = time.perf_counter() - started
        with open(out / "log.jsonl", "a") as log:
            log.write(json.dumps(record) + "\n")
        click.echo(record)
        saved = {name: part.state_dict() for name, part in state.items()}
        saved |= {"epoch": epoch + 1, "random": torch.get_rng_state()}
        torch.save(saved, out / "last.pt.new")
        (out / "last.pt.new").replace(last)
    torch.save(average.state_dict(), out / "face.pt")


if __name__ == "__main__":
    main()
