"""The training loop: repeatable, and resumed exactly after a kill at any point."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.data.batches import Examples, Split, class_weights, predict, training_batches
from train.errors import TrainError
from train.evaluate.metrics import accuracy, negative_log_likelihood, unweighted_recall
from train.options import NO_FOLDER, StageContext, TrainOptions
from train.state import BOARD, Epoch, Groups, TrainState


@dataclass(frozen=True)
class Training:
    """The history of a training."""

    epochs: tuple[Epoch, ...]
    kept: int  # number of the epoch whose weights the model has


@dataclass(frozen=True)
class Hooks:
    """Functions that a training calls."""

    progress: Callable[[float], None] = lambda share: None  # after a step: share that is done
    before_epoch: Callable[[int], None] = lambda number: None
    """With the number of the epoch, from 1: for augmentation that depends on it, and on it alone,
    as a resumed training skips the epochs that are done."""
    after_epoch: Callable[[Epoch], None] = lambda epoch: None  # once its state is saved


class Objective(Protocol):
    """Which examples are drawn in an epoch, and the loss of a batch."""

    @property
    def draws(self) -> int:
        """Examples in an epoch."""

    def batches(self, options: TrainOptions, random: np.random.Generator) -> list[np.ndarray]:
        """Draw an epoch's batches of indices."""

    def loss(self, model: Any, inputs: Any, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Give a batch's logits, (n, classes), and its mean loss."""


class CrossEntropy:
    """Every training example once; cross-entropy to soft targets, or to labels."""

    def __init__(self, examples: Examples, part: np.ndarray, options: TrainOptions) -> None:
        self._examples, self._part, self._options = examples, part, options
        self.draws = len(part)

    def batches(self, options: TrainOptions, random: np.random.Generator) -> list[np.ndarray]:
        """Draw an epoch's batches as the options say."""
        return training_batches(self._examples, self._part, options, random)

    def loss(self, model: Any, inputs: Any, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        """Give a batch's logits and mean loss; class weights count all training examples."""
        examples, options = self._examples, self._options
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            logits = model(inputs)
        logits = logits.float() if options.bf16 else logits
        labels, power = examples.labels[self._part], options.class_weight_power
        weights = class_weights(labels, logits.shape[1], power)
        targets = examples.labels if examples.targets is None else examples.targets
        return logits, F.cross_entropy(
            logits,
            torch.as_tensor(targets[indices], device=logits.device),
            weights.to(logits),
            label_smoothing=options.label_smoothing,
        )


def train(
    model: nn.Module,
    examples: Examples,
    split: Split,
    options: TrainOptions,
    *,
    stage: StageContext = NO_FOLDER,
    groups: Groups | None = None,
    hooks: Hooks = Hooks(),
    objective: Objective | None = None,
    identity: Mapping[str, str] | None = None,
) -> Training:
    """Train a model in place, and leave it in evaluation mode with the weights to keep.

    The same arguments give the same weights, bit for bit on a CPU with as many threads, however
    often the training is killed and started again. PyTorch's random numbers are seeded anew.

    Args:
        model: gives (n, classes) logits of n examples.
        split: of the examples; may have no validation part with keep="last".
        stage: the seed of order, augmentation and dropout; and the folder of the state to resume
            from and of the log, which has one line of JSON for each `Epoch`.
        groups: by default all parameters, with factor 1. Parameters in no group are not trained.
        objective: of the training examples; by default cross-entropy, each example once.
        identity: properties of this training beside options, seed, labels and initial weights: a
            state with others is not resumed.

    Raises:
        TrainError: the folder holds another training or damaged state, TensorBoard is missing,
            the validation part is missing, or the loss is not finite.
        OutputError: the folder can't be written to.
    """
    _check_split(split, options)
    everything = [(model.parameters(), 1.0)]
    goal = CrossEntropy(examples, split.train, options) if objective is None else objective
    state = TrainState(model, everything if groups is None else groups, options, goal.draws)
    described = {
        **asdict(options),
        "seed": stage.seed,
        "data": _digest_of_data(examples, split),
        "model": state.digest(),
        **(identity or {}),
    }
    if stage.folder is not None:
        state.resume(stage.folder, described)
    with _board(stage, len(state.history)) as board:
        for number in range(len(state.history) + 1, options.epochs + 1):
            hooks.before_epoch(number)
            epoch = _epoch(state, examples, split, goal, (stage.seed, number), hooks)
            state.finish(epoch)
            if stage.folder is not None:
                state.save(stage.folder, described)
            board(epoch)
            hooks.after_epoch(epoch)
    model.load_state_dict(state.kept_weights)
    model.eval()
    return Training(tuple(state.history), state.kept)


def _epoch(
    state: TrainState,
    examples: Examples,
    split: Split,
    objective: Objective,
    seed_and_number: tuple[int, int],
    hooks: Hooks,
) -> Epoch:
    """Train on one epoch's examples, and validate."""
    started, learning_rate = time.perf_counter(), state.learning_rate
    # Random numbers are seeded for each epoch: a resumed training draws the same ones.
    random = np.random.default_rng(seed_and_number)
    torch.manual_seed(int(random.integers(2**63)))
    number, options = seed_and_number[1], state.options

    def progress(share: float) -> None:
        hooks.progress((number - 1 + share) / options.epochs)

    try:
        loss, train_accuracy = _train_batches(state, examples, objective, random, progress)
        validated = _validate(state, examples, split.valid)
    except FloatingPointError as error:
        raise TrainError(
            f"epoch {number}: {error}; look for examples that are not finite, or take"
            f" a learning rate below {options.learning_rate:g}"
        ) from error
    return Epoch(
        epoch=number,
        loss=loss,
        learning_rate=learning_rate,
        train_accuracy=train_accuracy,
        valid_loss=None if validated is None else validated.loss,
        valid_recall=None if validated is None else validated.recall,
        valid_accuracy=None if validated is None else validated.accuracy,
        seconds=time.perf_counter() - started,
    )


def _train_batches(
    state: TrainState,
    examples: Examples,
    objective: Objective,
    random: np.random.Generator,
    progress: Callable[[float], None],
) -> tuple[float, float]:
    """Train on one epoch's batches: the mean loss, and the accuracy."""
    options, model = state.options, state.model
    batches = objective.batches(options, random)
    total, right, count = 0.0, 0, sum(map(len, batches))
    model.train()
    for first in range(0, len(batches), options.accumulate):
        together = batches[first : first + options.accumulate]
        for indices in together:
            inputs = examples.batch(indices, random)
            logits, loss = objective.loss(model, inputs, indices)
            if not loss.isfinite():
                raise FloatingPointError("the loss is not finite")
            (loss / len(together)).backward()
            total += loss.item() * len(indices)
            right += int((logits.argmax(1).cpu().numpy() == examples.labels[indices]).sum())
        state.step()
        progress((first + len(together)) / len(batches))
    return total / count, right / count


@dataclass(frozen=True)
class _Validation:
    loss: float  # mean negative log likelihood of the labels
    recall: float  # unweighted
    accuracy: float


def _validate(state: TrainState, examples: Examples, part: np.ndarray) -> _Validation | None:
    if not len(part):
        return None
    labels = examples.labels[part]
    logits = predict(state.deployed, examples, part, state.options.batch)
    if not np.isfinite(logits).all():
        raise FloatingPointError("the validation's logits are not finite")
    predicted = logits.argmax(1)
    return _Validation(
        negative_log_likelihood(logits, labels),
        unweighted_recall(predicted, labels),
        accuracy(predicted, labels),
    )


def _check_split(split: Split, options: TrainOptions) -> None:
    if not len(split.train):
        raise TrainError("there is nothing to train on")
    if options.drop_last and len(split.train) < options.batch:
        raise TrainError(f"{len(split.train)} examples do not fill one batch of {options.batch}")
    if not len(split.valid):
        if options.keep == "best":
            raise TrainError("without a validation part no epoch is the best: keep the last")
        if options.schedule == "plateau":
            raise TrainError("without a validation part there is no plateau: take another schedule")


def _digest_of_data(examples: Examples, split: Split) -> str:
    digest = hashlib.sha256()
    for part in (split.train, split.valid):
        digest.update(np.asarray(part, np.int64).tobytes())
        digest.update(np.asarray(examples.labels[part], np.int64).tobytes())
        if examples.lengths is not None:
            digest.update(np.asarray(examples.lengths[part], np.float64).tobytes())
        if examples.targets is not None:
            digest.update(np.asarray(examples.targets[part], np.float32).tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _board(stage: StageContext, done: int) -> Iterator[Callable[[Epoch], None]]:
    """Open TensorBoard's file, if it is asked for, for the epochs after those done."""
    if not stage.tensorboard:
        yield lambda epoch: None
        return
    if stage.folder is None:
        raise TrainError("TensorBoard's file is written to a run folder: name one")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainError(
            "the package tensorboard is missing: python -m pip install tensorboard"
        ) from error
    with SummaryWriter(str(stage.folder / BOARD), purge_step=done + 1) as writer:

        def write(epoch: Epoch) -> None:
            for name, value in asdict(epoch).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, epoch.epoch)

        yield write
