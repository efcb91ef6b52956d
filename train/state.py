"""The state of a training: saved after every epoch, so that a kill costs one epoch at most."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mfer_edge.errors import OutputError
from mfer_edge.outputs.files import make_folder, replacing, write_text
from train.errors import TrainError
from train.options import TrainOptions, cosine_factor

STATE, LOG, BOARD = "last.pt", "log.jsonl", "tensorboard"  # what a run folder holds
MOMENTUM = 0.9  # of SGD, Nesterov's

Groups = Sequence[tuple[Iterable[nn.Parameter], float]]
"""Parameters, and the factor of the options' learning rate for them."""


@dataclass(frozen=True)
class Epoch:
    """Figures of one epoch."""

    epoch: int  # from 1
    loss: float  # mean over the examples, as trained on: smoothed and weighted
    learning_rate: float  # at its start, of parameters with factor 1
    train_accuracy: float  # while training, with augmentation and dropout
    valid_loss: float | None  # mean negative log likelihood; None without validation examples
    valid_recall: float | None  # unweighted
    seconds: float
    valid_accuracy: float | None = None


class TrainState:
    """Model, optimizer, schedule, moving average and history of a training.

    Args:
        examples: trained on in an epoch.
    """

    def __init__(self, model: nn.Module, groups: Groups, options: TrainOptions, examples: int):
        self.model, self.options = model, options
        model.zero_grad()  # of an earlier use
        self.groups = [(list(parameters), factor) for parameters, factor in groups]
        self.optimizer = _optimizer(self.groups, options)
        batches = examples // options.batch if options.drop_last else -(-examples // options.batch)
        self.schedule = _schedule(self.optimizer, options, math.ceil(batches / options.accumulate))
        self.average = _average(model, options) if options.average_decay else None
        self.history: list[Epoch] = []
        self.kept = 0
        self.kept_weights: dict[str, Tensor] = {}

    @property
    def deployed(self) -> nn.Module:
        """The module that is validated and kept: the moving average if there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def learning_rate(self) -> float:
        """The current rate of parameters with factor 1."""
        return self.optimizer.param_groups[0]["lr"] / self.groups[0][1]

    def digest(self) -> str:
        """Hash of the initial weights, and of the groups with their factors."""
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
        name_of = {parameter: name for name, parameter in self.model.named_parameters()}
        for parameters, factor in self.groups:
            digest.update(f"{factor} {[name_of[p] for p in parameters]}".encode())
        return digest.hexdigest()[:16]

    def step(self) -> None:
        """Update the weights by the accumulated gradients.

        Raises:
            FloatingPointError: a gradient is not finite.
        """
        parameters = [p for group, _ in self.groups for p in group]
        if not nn.utils.clip_grad_norm_(parameters, self.options.clip_norm).isfinite():
            raise FloatingPointError("the gradient is not finite")
        self.optimizer.step()
        self.model.zero_grad()
        if self.options.schedule in PER_STEP:
            self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def finish(self, epoch: Epoch) -> None:
        """Record an epoch, and keep its weights if it is the best or the last."""
        if self.options.schedule == "plateau":
            self.schedule.step(epoch.valid_loss)
        elif self.options.schedule == "exponential":
            self.schedule.step()
        self.history.append(epoch)
        weights = self.deployed.state_dict()
        losses = [done.valid_loss for done in self.history if done.valid_loss is not None]
        if self.options.keep == "last":
            self.kept, self.kept_weights = epoch.epoch, weights
        elif losses[-1] < min(losses[:-1], default=math.inf):
            self.kept = epoch.epoch
            self.kept_weights = {name: value.clone() for name, value in weights.items()}

    def save(self, run: Path, identity: dict[str, Any]) -> None:
        """Write the state and the log to a run folder.

        Args:
            identity: of this training; `resume` compares it.

        Raises:
            OutputError: it can't be written.
        """
        state = {
            "identity": identity,
            "history": [asdict(epoch) for epoch in self.history],
            "kept": self.kept,
            "kept_weights": self.kept_weights,
            **{name: part.state_dict() for name, part in self._parts().items()},
        }
        with replacing(run / STATE) as beside:
            try:
                torch.save(state, beside)
            except RuntimeError as error:  # PyTorch hides the system's error in it
                raise OutputError(f"{run / STATE}: not written; is the disk full?") from error
        self._write_log(run)

    def resume(self, run: Path, identity: dict[str, Any]) -> None:
        """Load the state of a run folder; make the folder if there is none.

        Raises:
            TrainError: the state is damaged, or another training's.
            OutputError: the folder can't be made.
        """
        path = run / STATE
        make_folder(run, "a run")
        if not path.exists():
            return
        try:
            if ZipFile(path).testzip():  # PyTorch doesn't look at the checksums that it writes
                raise BadZipFile
            state = torch.load(path, map_location="cpu", weights_only=True)
            began = dict(state["identity"])
            history = [Epoch(**epoch) for epoch in state["history"]]
        except OSError as error:
            raise TrainError(f"{path}: can't be read ({error.strerror})") from error
        except Exception as error:  # of any type, depending on the damaged bytes
            raise TrainError(f"{path}: damaged; delete it to start this training again") from error
        changed = [
            f"{name} was {began.get(name)}, is {value}"
            for name, value in identity.items()
            if began.get(name) != value
        ]
        if changed:
            raise TrainError(
                f"{path}: the state of another training ({'; '.join(changed)}); take another run"
                " folder, or delete the file to start again"
            )
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.history, self.kept = history, state["kept"]
        self.kept_weights = state["kept_weights"]
        self._write_log(run)  # a kill may have come between state and log

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return parts if self.average is None else {**parts, "average": self.average}

    def _write_log(self, run: Path) -> None:
        # Rewritten each time: a resumed training writes no epoch twice.
        lines = [json.dumps(asdict(epoch)) + "\n" for epoch in self.history]
        write_text(run / LOG, "".join(lines))


PER_STEP = ("one-cycle", "cosine")  # schedules that change the rate after every step


def _optimizer(
    groups: Sequence[tuple[list[nn.Parameter], float]], options: TrainOptions
) -> torch.optim.Optimizer:
    settings: list[dict[str, Any]] = []
    for parameters, factor in groups:
        rate = factor * options.learning_rate
        if options.decay_vectors:
            settings.append({"params": parameters, "lr": rate})
            continue
        matrices = [p for p in parameters if p.ndim > 1]
        vectors = [p for p in parameters if p.ndim <= 1]
        settings.append({"params": matrices, "lr": rate})
        settings.append({"params": vectors, "lr": rate, "weight_decay": 0.0})
    if options.optimizer == "sgd":
        return SGD(
            settings,
            lr=options.learning_rate,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=options.weight_decay,
        )
    optimizer = AdamW if options.optimizer == "adamw" else Adam
    return optimizer(settings, weight_decay=options.weight_decay)


def _schedule(optimizer: torch.optim.Optimizer, options: TrainOptions, steps: int) -> Any:
    """The learning rate's schedule, with so many steps an epoch."""
    if options.schedule == "plateau":
        return lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=options.plateau_factor, patience=options.plateau_patience
        )
    if options.schedule == "one-cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return lr_scheduler.OneCycleLR(optimizer, highest, options.epochs * steps)
    if options.schedule == "cosine":
        return lr_scheduler.LambdaLR(optimizer, lambda step: cosine_factor(step / steps, options))
    decay = options.exponential_decay if options.schedule == "exponential" else 1.0
    return lr_scheduler.ExponentialLR(optimizer, decay)


def _average(model: nn.Module, options: TrainOptions) -> AveragedModel:
    def update(averaged: Any, current: Any, count: Any) -> None:
        if not averaged[0].is_floating_point():
            for mean, value in zip(averaged, current, strict=True):  # counts of batches
                mean.copy_(value)
            return
        decay = options.average_decay
        if options.average_warmup:
            # So that a short training's average is not full of its first weights.
            decay = min(decay, (1 + int(count)) / (10 + int(count)))
        get_ema_multi_avg_fn(decay)(averaged, current, count)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=options.average_buffers)
