"""Options of a training."""

from __future__ import annotations

from dataclasses import dataclass

from mfer_edge.errors import MferError

CHOICES = {
    "schedule": ("constant", "exponential", "plateau", "one-cycle"),
    "optimizer": ("adamw", "adam"),
    "keep": ("best", "last"),
}


class TrainError(MferError):
    """A training that can't be started, resumed or brought to an end."""


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained.

    Raises:
        TrainError: there is no such schedule, optimizer or thing to keep; or a count is below 1.
    """

    epochs: int
    learning_rate: float  # of parameters with factor 1; with "one-cycle" the highest
    schedule: str  # of CHOICES, as optimizer and keep
    batch: int = 16
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    class_weight_power: float = 0.0  # see `class_weights`; the paper's code takes 0.3
    weighted_sampling: bool = False  # draw, with replacement, every class as often
    accumulate: int = 1  # batches per optimizer step; the paper's code takes 4
    exponential_decay: float = 0.95  # per epoch
    plateau_factor: float = 0.6  # when the validation loss has not fallen for more than
    plateau_patience: int = 1  # so many epochs
    clip_norm: float = 1.0  # of the gradient
    average_decay: float = 0.0  # per step, of a moving average of the weights; 0: none
    keep: str = "best"  # on the validation part

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise TrainError(f"{name} {getattr(self, name)!r}: it is {' or '.join(choices)}")
        for name in ("epochs", "batch", "accumulate"):
            if getattr(self, name) < 1:
                raise TrainError(f"{name} is {getattr(self, name)}; it must be 1 or more")
