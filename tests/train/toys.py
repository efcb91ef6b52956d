"""Small examples and models for tests of the training loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from train.data.batches import Split
from train.loop import Hooks, Training, train
from train.models.arms import GruArm
from train.options import StageContext, TrainOptions
from train.state import Epoch

LEARN, VALID = np.arange(0, 64), np.arange(64, 96)


CONSTANT = TrainOptions(epochs=4, learning_rate=5e-3, schedule="constant")


EVERYTHING = TrainOptions(
    epochs=5,
    learning_rate=2e-2,
    schedule="plateau",
    batch=8,
    weight_decay=1e-2,
    label_smoothing=0.1,
    class_weight_power=0.3,
    weighted_sampling=True,
    accumulate=4,
    plateau_patience=0,
    average_decay=0.8,
)


class Toy:
    """Sequences with their class in the first step; records which examples are used."""

    targets: np.ndarray | None = None

    def __init__(self, n: int = 120, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.labels = random.choice(3, n, p=[0.5, 0.3, 0.2])
        self.lengths = random.integers(2, 9, n)
        self.sequences = [random.normal(0, 0.5, (length, 4)) for length in self.lengths]
        for sequence, label in zip(self.sequences, self.labels, strict=True):
            sequence[0, label] += 3
        self.learned: set[int] = set()
        self.validated: set[int] = set()

    def batch(self, indices: np.ndarray, random: np.random.Generator | None) -> list[Tensor]:
        (self.validated if random is None else self.learned).update(indices.tolist())
        chosen = [self.sequences[index] for index in indices]
        if random is not None:
            chosen = [sequence + random.normal(0, 0.1, sequence.shape) for sequence in chosen]
        return [torch.from_numpy(sequence).float() for sequence in chosen]


class Rows:
    """Vectors without augmentation."""

    targets: np.ndarray | None = None

    def __init__(self, n: int = 64, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.labels = random.integers(0, 3, n)
        self.lengths = None
        self.rows = torch.from_numpy(random.normal(0, 1, (n, 4)).astype(np.float32))

    def batch(self, indices: np.ndarray, random: np.random.Generator | None) -> Tensor:
        return self.rows[indices]


class Stuck(nn.Module):
    """A model that can't learn: its loss stays where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, rows: Tensor) -> Tensor:
        return rows[:, :3] + 0 * self.weight


class Killed(Exception):
    """Stands for whatever ends a training early."""


def killed_after(calls: int) -> Callable[[float], None]:
    """A progress callback that ends the training at its n-th call."""
    left = iter(range(calls - 1))

    def progress(share: float) -> None:
        if next(left, None) is None:
            raise Killed

    return progress


def arm(seed: int = 0) -> GruArm:
    torch.manual_seed(seed)
    return GruArm(4, 8, 3, dropout=0.2)


def linear() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def trained(options: TrainOptions, **more: Any) -> tuple[nn.Module, Training]:
    """An arm, trained on the toy."""
    model = more.pop("model", None) or arm()
    toy = more.pop("toy", None) or Toy()
    stage = StageContext(
        more.pop("run", None), more.pop("seed", 0), tensorboard=more.pop("tensorboard", False)
    )
    if "progress" in more:
        more["hooks"] = Hooks(progress=more.pop("progress"))
    return model, train(model, toy, Split(LEARN, VALID), options, stage=stage, **more)


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def timeless(epochs: tuple[Epoch, ...]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in epochs]


def logged(run: Path) -> list[Epoch]:
    return [Epoch(**json.loads(line)) for line in (run / "log.jsonl").read_text().splitlines()]
