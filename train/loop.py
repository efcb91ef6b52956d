"""The epochs of a training: repeatable, and resumable after a kill at any point."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from train.data.batches import Examples, class_weights, predict, training_batches
from train.evaluate.metrics import negative_log_likelihood, unweighted_recall
from train.options import TrainError, TrainOptions
from train.state import BOARD, Epoch, Groups, TrainState


@dataclass(frozen=True)
class Training:
    """What a training came to."""

    epochs: tuple[Epoch, ...]
    kept: int  # the number of the epoch whose weights the model has


def train(
    model: nn.Module,
    examples: Examples,
    train_part: np.ndarray,
    valid_part: np.ndarray,
    options: TrainOptions,
    *,
    seed: int = 0,
    groups: Groups | None = None,
    run: Path | None = None,
    progress: Callable[[float], None] | None = None,
    tensorboard: bool = False,
) -> Training:
    """Train a model in place, and leave it in evaluation mode with the weights to keep.

    The same arguments give the same weights, bit for bit on a CPU with as many threads, however
    often the training is killed and started again. PyTorch's random numbers are seeded anew.

    Args:
        model: gives (n, classes) logits of n examples.
        train_part: (n,) indices into the examples, to learn from.
        valid_part: (n,) indices that choose the epoch; none only with keep="last".
        seed: of the order, the random changes and the dropout; 0 or more.
        groups: by default all parameters, with factor 1. What is in no group is not trained.
        run: a folder for what a killed training is resumed from and for the log, one line of
            JSON for an `Epoch`; without it nothing is written.
        progress: told the share that is done, after every optimizer step.
        tensorboard: also write scalars for TensorBoard to the run folder.

    Raises:
        TrainError: the run folder holds another training or damaged state, TensorBoard is not
            there, the validation part is missing, or the loss is not finite.
        OutputError: the run folder can't be written to.
    """
    _check_parts(train_part, valid_part, options)
    everything = [(model.parameters(), 1.0)]
    course = TrainState(model, everything if groups is None else groups, options, len(train_part))
    identity = {
        **asdict(options),
        "seed": seed,
        "data": _digest_of_data(examples, train_part, valid_part),
        "model": course.digest(),
    }
    if run is not None:
        course.resume(run, identity)
    with _board(run, tensorboard, len(course.history)) as board:
        for number in range(len(course.history) + 1, options.epochs + 1):

            def tell(share: float, done: int = number - 1) -> None:
                if progress is not None:
                    progress((done + share) / options.epochs)

            epoch = _epoch(course, examples, train_part, valid_part, (seed, number), tell)
            course.finish(epoch)
            if run is not None:
                course.save(run, identity)
            board(epoch)
    model.load_state_dict(course.kept_weights)
    model.eval()
    return Training(tuple(course.history), course.kept)


def _epoch(
    course: TrainState,
    examples: Examples,
    train_part: np.ndarray,
    valid_part: np.ndarray,
    seed_and_number: tuple[int, int],
    tell: Callable[[float], None],
) -> Epoch:
    """Learn from as many examples as there are to learn from, and validate."""
    started, learning_rate = time.perf_counter(), course.learning_rate
    # Nothing random lives longer than an epoch: a resumed training draws what it would have.
    random = np.random.default_rng(seed_and_number)
    torch.manual_seed(int(random.integers(2**63)))
    try:
        loss, accuracy = _learn(course, examples, train_part, random, tell)
        valid_loss, valid_recall = _validate(course, examples, valid_part)
    except FloatingPointError as error:
        raise TrainError(
            f"epoch {seed_and_number[1]}: {error}; look for examples that are not finite, or take"
            f" a learning rate below {course.options.learning_rate:g}"
        ) from error
    return Epoch(
        epoch=seed_and_number[1],
        loss=loss,
        learning_rate=learning_rate,
        train_accuracy=accuracy,
        valid_loss=valid_loss,
        valid_recall=valid_recall,
        seconds=time.perf_counter() - started,
    )


def _learn(
    course: TrainState,
    examples: Examples,
    part: np.ndarray,
    random: np.random.Generator,
    tell: Callable[[float], None],
) -> tuple[float, float]:
    """Go through one epoch's batches: the mean loss, and the share that was recognised."""
    options, model = course.options, course.model
    batches = training_batches(examples, part, options.batch, random, options.weighted_sampling)
    total, right = 0.0, 0
    model.train()
    for first in range(0, len(batches), options.accumulate):
        together = batches[first : first + options.accumulate]
        for indices in together:
            logits = model(examples.batch(indices, random))
            labels = torch.as_tensor(examples.labels[indices], device=logits.device)
            weights = class_weights(
                examples.labels[part], logits.shape[1], options.class_weight_power
            )
            loss = F.cross_entropy(
                logits, labels, weights.to(logits), label_smoothing=options.label_smoothing
            )
            if not loss.isfinite():
                raise FloatingPointError("the loss is not finite")
            (loss / len(together)).backward()
            total += loss.item() * len(indices)
            right += int((logits.argmax(1) == labels).sum())
        course.step()
        tell((first + len(together)) / len(batches))
    return total / len(part), right / len(part)


def _validate(
    course: TrainState, examples: Examples, part: np.ndarray
) -> tuple[float | None, float | None]:
    """Give the loss and the unweighted recall; None and None without a part for it."""
    if not len(part):
        return None, None
    logits, labels = (
        predict(course.deployed, examples, part, course.options.batch),
        examples.labels[part],
    )
    if not np.isfinite(logits).all():
        raise FloatingPointError("the validation's logits are not finite")
    return negative_log_likelihood(logits, labels), unweighted_recall(logits.argmax(1), labels)


def _check_parts(train_part: np.ndarray, valid_part: np.ndarray, options: TrainOptions) -> None:
    if not len(train_part):
        raise TrainError("there is nothing to train on")
    if not len(valid_part):
        if options.keep == "best":
            raise TrainError("without a validation part no epoch is the best: keep the last")
        if options.schedule == "plateau":
            raise TrainError("without a validation part there is no plateau: take another schedule")


def _digest_of_data(examples: Examples, *parts: np.ndarray) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.asarray(part, np.int64).tobytes())
        digest.update(np.asarray(examples.labels[part], np.int64).tobytes())
        if examples.lengths is not None:
            digest.update(np.asarray(examples.lengths[part], np.float64).tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _board(run: Path | None, wanted: bool, done: int) -> Iterator[Callable[[Epoch], None]]:
    """Open TensorBoard's file, if that is wanted, for what comes after the epochs done."""
    if not wanted:
        yield lambda epoch: None
        return
    if run is None:
        raise TrainError("TensorBoard's file is written to a run folder: name one")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainError(
            "the package tensorboard is missing: python -m pip install tensorboard"
        ) from error
    with SummaryWriter(str(run / BOARD), purge_step=done + 1) as writer:

        def write(epoch: Epoch) -> None:
            for name, value in asdict(epoch).items():
                if name != "epoch" and value is not None:
                    writer.add_scalar(name, value, epoch.epoch)

        yield write
