"""What changes in the course of a training, kept on disk so that a kill costs one epoch at most."""

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
from torch.optim import Adam, AdamW, lr_scheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mfer_edge.errors import OutputError
from mfer_edge.outputs.files import make_folder, replacing, write_text
from train.options import TrainError, TrainOptions

STATE, LOG, BOARD = "last.pt", "log.jsonl", "tensorboard"  # what a run folder holds

Groups = Sequence[tuple[Iterable[nn.Parameter], float]]
"""Parameters, and the factor by which their learning rate is that of the options."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch came to."""

    epoch: int  # from 1
    loss: float  # mean over the examples, as trained on: smoothed and weighted
    learning_rate: float  # at its start, of parameters with factor 1
    train_accuracy: float  # while learning, with random changes and dropout
    valid_loss: float | None  # mean negative log likelihood; None without a validation part
    valid_recall: float | None  # unweighted
    seconds: float


class TrainState:
    """What changes in the course of a training, and what a resumed one starts from."""

    def __init__(self, model: nn.Module, groups: Groups, options: TrainOptions, examples: int):
        self.model, self.options = model, options
        model.zero_grad()  # of what came before
        self.groups = [(list(parameters), factor) for parameters, factor in groups]
        optimizer = AdamW if options.optimizer == "adamw" else Adam
        self.optimizer = optimizer(
            [{"params": p, "lr": f * options.learning_rate} for p, f in self.groups],
            weight_decay=options.weight_decay,
        )
        batches = math.ceil(examples / options.batch)
        steps = options.epochs * math.ceil(batches / options.accumulate)
        self.schedule = _schedule(self.optimizer, options, steps)
        self.average = None
        if options.average_decay:
            averaging = get_ema_multi_avg_fn(options.average_decay)
            self.average = AveragedModel(model, multi_avg_fn=averaging)
        self.history: list[Epoch] = []
        self.kept = 0
        self.kept_weights: dict[str, Tensor] = {}

    @property
    def deployed(self) -> nn.Module:
        """What is validated, and returned: the average where there is one."""
        return self.model if self.average is None else self.average.module

    @property
    def learning_rate(self) -> float:
        """That of parameters with factor 1, at this point."""
        return self.optimizer.param_groups[0]["lr"] / self.groups[0][1]

    def digest(self) -> str:
        """Sum up the weights that it starts from, and which are trained how fast."""
        digest = hashlib.sha256()
        for name, value in self.model.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy())
        name_of = {parameter: name for name, parameter in self.model.named_parameters()}
        for parameters, factor in self.groups:
            digest.update(f"{factor} {[name_of[p] for p in parameters]}".encode())
        return digest.hexdigest()[:16]

    def step(self) -> None:
        """Change the weights by the gradients gathered.

        Raises:
            FloatingPointError: these are not finite.
        """
        parameters = [p for group, _ in self.groups for p in group]
        if not nn.utils.clip_grad_norm_(parameters, self.options.clip_norm).isfinite():
            raise FloatingPointError("the gradient is not finite")
        self.optimizer.step()
        self.model.zero_grad()
        if self.options.schedule == "one-cycle":
            self.schedule.step()
        if self.average is not None:
            self.average.update_parameters(self.model)

    def finish(self, epoch: Epoch) -> None:
        """Take note of an epoch, and keep its weights if it is the best or the last."""
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
        """Write all of it to a run folder, and the log beside it.

        Args:
            identity: what tells this training from any other; `resume` compares it.

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
            except RuntimeError as error:  # what PyTorch makes of the system's error
                raise OutputError(f"{run / STATE}: not written; is the disk full?") from error
        self._write_log(run)

    def resume(self, run: Path, identity: dict[str, Any]) -> None:
        """Go on where the state in a run folder ends; where there is none, make the folder.

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
        except Exception as error:  # of any type: that depends on what the bytes happen to spell
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
        self._write_log(run)  # a kill may have come between the state and the log

    def _parts(self) -> dict[str, Any]:
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return parts if self.average is None else {**parts, "average": self.average}

    def _write_log(self, run: Path) -> None:
        # All of it each time: so no epoch is there twice, however often a training is killed.
        lines = [json.dumps(asdict(epoch)) + "\n" for epoch in self.history]
        write_text(run / LOG, "".join(lines))


def _schedule(optimizer: torch.optim.Optimizer, options: TrainOptions, steps: int) -> Any:
    if options.schedule == "plateau":
        return lr_scheduler.ReduceLROnPlateau(
            optimizer, factor=options.plateau_factor, patience=options.plateau_patience
        )
    if options.schedule == "one-cycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return lr_scheduler.OneCycleLR(optimizer, highest, steps)
    decay = options.exponential_decay if options.schedule == "exponential" else 1.0
    return lr_scheduler.ExponentialLR(optimizer, decay)
