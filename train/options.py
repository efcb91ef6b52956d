"""How a model is trained, and where a stage of training keeps its state."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from train.errors import TrainError

CHOICES = {
    "schedule": ("constant", "exponential", "plateau", "one-cycle", "cosine"),
    "optimizer": ("adamw", "adam", "sgd"),
    "keep": ("best", "last"),
}


@dataclass(frozen=True)
class TrainOptions:
    """Hyperparameters of one training.

    Raises:
        TrainError: a schedule, optimizer or `keep` is unknown; or a number is out of range.
    """

    epochs: int
    learning_rate: float  # of parameters with factor 1; of "one-cycle" and "cosine" the highest
    schedule: str  # one of CHOICES, as optimizer and keep
    batch: int = 16
    optimizer: str = "adamw"  # "sgd" has Nesterov momentum of 0.9
    weight_decay: float = 0.0
    decay_vectors: bool = True  # weight decay of biases and norm parameters too
    label_smoothing: float = 0.0
    class_weight_power: float = 0.0  # see `class_weights`; the paper's code takes 0.3
    weighted_sampling: bool = False  # draw, with replacement, every class as often
    drop_last: bool = False  # leave out an epoch's last batch if it is not full
    accumulate: int = 1  # batches per optimizer step; the paper's code takes 4
    exponential_decay: float = 0.95  # of the learning rate, per epoch
    plateau_factor: float = 0.6  # of the learning rate, after more than
    plateau_patience: int = 1  # this many epochs without a lower validation loss
    warmup: float = 0.0  # of "cosine": share of the epochs before `finish_epochs`
    finish_epochs: int = 0  # of "cosine": the last epochs, with a second half cosine
    finish_learning_rate: float = 0.0  # at the start of those
    clip_norm: float = 1.0  # of the gradient; infinite: no clipping
    average_decay: float = 0.0  # per step, of a moving average of the weights; 0: none
    average_warmup: bool = False  # let the average's decay rise from 0.1 in the first steps
    average_buffers: bool = False  # average batch norm's running statistics too
    bf16: bool = False  # forward pass under bfloat16 autocast
    keep: str = "best"  # weights of the epoch with the lowest validation loss, or of the last

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise TrainError(f"{name} {getattr(self, name)!r}: it is {' or '.join(choices)}")
        for name in ("epochs", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise TrainError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if not 0 <= self.finish_epochs <= self.epochs:
            raise TrainError(f"finish_epochs is {self.finish_epochs}, of {self.epochs} epochs")

    @property
    def main_epochs(self) -> int:
        """Epochs before the last `finish_epochs`."""
        return self.epochs - self.finish_epochs


def cosine_factor(epoch: float, options: TrainOptions) -> float:
    """Factor of the learning rate of schedule "cosine".

    Linear warm-up, half a cosine to 0, and then half a cosine from `finish_learning_rate` to 0.

    Args:
        epoch: passed, from 0; with fractions.
    """
    main = options.main_epochs
    warmup = options.warmup * main
    if epoch < warmup:
        return epoch / warmup
    if epoch < main:
        return _half_cosine((epoch - warmup) / (main - warmup))
    share = (epoch - main) / max(1, options.finish_epochs)
    return options.finish_learning_rate / options.learning_rate * _half_cosine(share)


def _half_cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))


@dataclass(frozen=True)
class StageContext:
    """Where one stage of training keeps its state, its seed, and how it shows its progress."""

    folder: Path | None = None  # of state and log, to resume from; None: nothing is written
    seed: int = 0
    name: str = "training"  # beside the progress bar
    tensorboard: bool = False

    def stage(self, name: str) -> StageContext:
        """The context of a stage inside this one, in a folder below."""
        folder = None if self.folder is None else self.folder / name
        return replace(self, name=name, folder=folder)

    def with_seed(self, seed: int) -> StageContext:
        """The same context with another seed."""
        return replace(self, seed=seed)


NO_FOLDER = StageContext()
