"""The training loop: it learns, repeats itself, and uses nothing but its split."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.train.toys import (
    CONSTANT,
    EVERYTHING,
    LEARN,
    VALID,
    Killed,
    Rows,
    Stuck,
    Toy,
    arm,
    assert_same_weights,
    killed_after,
    linear,
    trained,
)
from train.data.batches import Split
from train.errors import TrainError
from train.loop import Hooks, Training, train
from train.options import TrainOptions


def test_an_arm_learns(capfd: pytest.CaptureFixture[str]) -> None:
    shares: list[float] = []
    model, training = trained(
        replace(CONSTANT, epochs=12, learning_rate=2e-2), progress=shares.append
    )
    assert not model.training
    assert [epoch.epoch for epoch in training.epochs] == list(range(1, 13))
    last = training.epochs[-1]
    assert last.valid_recall is not None and last.valid_recall > 0.9
    assert last.train_accuracy > 0.8 and last.loss < training.epochs[0].loss / 2
    assert len(shares) == 12 * 4 and shares[-1] == 1.0 and shares == sorted(shares)
    assert capfd.readouterr() == ("", "")


def test_the_best_epoch_is_kept() -> None:
    options = TrainOptions(9, 0.1, "constant")

    def of_noise(options: TrainOptions) -> tuple[nn.Linear, Training]:
        """Labels that nothing tells: what is learned of them is soon wrong."""
        model = linear()
        return model, train(model, Rows(), Split(np.arange(32), np.arange(32, 64)), options)

    best, training = of_noise(options)
    losses = [epoch.valid_loss for epoch in training.epochs]
    assert training.kept == int(np.argmin(losses)) + 1 < 9  # type: ignore[arg-type]
    stopped, _ = of_noise(replace(options, epochs=training.kept, keep="last"))
    assert_same_weights(best, stopped)
    last, to_the_end = of_noise(replace(options, keep="last"))
    assert to_the_end.kept == 9
    assert not torch.equal(last.weight, best.weight)


def test_of_equal_epochs_the_earlier_is_kept() -> None:
    options = replace(CONSTANT, weight_decay=0.0)
    training = train(Stuck(), Rows(), Split(np.arange(32), np.arange(32, 64)), options)
    assert len({epoch.valid_loss for epoch in training.epochs}) == 1
    assert training.kept == 1


def test_only_the_split_is_used() -> None:
    toy = Toy()
    for index in range(96, 120):
        toy.sequences[index][:] = np.nan
    trained(EVERYTHING, toy=toy)
    assert toy.learned <= set(LEARN)
    assert toy.validated == set(VALID)
    toy = Toy()
    trained(CONSTANT, toy=toy)
    assert toy.learned == set(LEARN)


def test_the_validation_part_affects_no_weights() -> None:
    options = replace(EVERYTHING, schedule="constant", keep="last")
    one, other, none = arm(), arm(), arm()
    train(one, Toy(), Split(LEARN, VALID), options)
    train(other, Toy(), Split(LEARN, VALID[:5]), options)
    training = train(none, Toy(), Split(LEARN, VALID[:0]), options)
    assert_same_weights(one, other)
    assert_same_weights(one, none)
    assert training.epochs[-1].valid_loss is None and training.epochs[-1].valid_recall is None


@pytest.mark.parametrize(
    ("options", "factors"),
    [
        (replace(CONSTANT, epochs=3), [1, 1, 1]),
        (TrainOptions(4, 0.1, "exponential", exponential_decay=0.9), [1, 0.9, 0.81, 0.729]),
        # the second epoch in a row that is no better lowers it
        (TrainOptions(7, 0.1, "plateau"), [1, 1, 1, 0.6, 0.6, 0.36, 0.36]),
        (TrainOptions(4, 0.1, "plateau", plateau_factor=0.5, plateau_patience=0),
         [1, 1, 0.5, 0.25]),
    ],
)  # fmt: skip
def test_the_learning_rate_of_each_epoch(options: TrainOptions, factors: list[float]) -> None:
    training = train(Stuck(), Rows(), Split(np.arange(32), np.arange(32, 64)), options)
    rates = [epoch.learning_rate for epoch in training.epochs]
    np.testing.assert_allclose(rates, options.learning_rate * np.array(factors))


def test_one_cycle_rises_and_falls_to_nothing() -> None:
    options = TrainOptions(20, 0.1, "one-cycle", batch=8)
    training = train(Stuck(), Rows(), Split(np.arange(32), np.arange(32, 64)), options)
    rates = np.array([epoch.learning_rate for epoch in training.epochs])
    assert rates[0] == pytest.approx(0.1 / 25) and rates.max() > 0.095 and rates[-1] < 0.005
    assert (np.diff(rates[:6]) > 0).all() and (np.diff(rates[6:]) < 0).all()


def test_groups_learn_at_their_own_rates() -> None:
    # Adam's first step is as long as the learning rate, in every weight.
    model, before = arm(), arm()
    groups = [(model.gru.parameters(), 0.1), (model.classifier.parameters(), 1.0)]
    options = TrainOptions(1, 1e-3, "constant", batch=64, optimizer="adam", clip_norm=1e9)
    training = train(model, Toy(), Split(LEARN, VALID), options, groups=groups)
    assert training.epochs[0].learning_rate == pytest.approx(1e-3)

    def moved(part: str) -> float:
        one, other = getattr(model, part), getattr(before, part)
        pairs = zip(one.parameters(), other.parameters(), strict=True)
        return max(float((p - q).detach().abs().max()) for p, q in pairs)

    assert moved("gru") == pytest.approx(1e-4, rel=0.01)
    assert moved("classifier") == pytest.approx(1e-3, rel=0.01)
    assert moved("norm") == 0


def test_gradients_of_several_batches_make_one_step() -> None:
    whole, parts = linear(), linear()
    options = TrainOptions(3, 1e-2, "constant", batch=24, keep="last")
    train(whole, Rows(), Split(np.arange(48), np.arange(0)), options)
    train(
        parts, Rows(), Split(np.arange(48), np.arange(0)), replace(options, batch=6, accumulate=4)
    )
    torch.testing.assert_close(parts.weight, whole.weight, atol=1e-5, rtol=0)
    assert not torch.equal(whole.weight, linear().weight)


def test_gradients_from_before_are_not_learned_from() -> None:
    fresh, used = linear(), linear()
    used(torch.ones(1, 4)).sum().backward()
    for model in (fresh, used):
        train(model, Rows(), Split(LEARN[:32], VALID[:0]), replace(CONSTANT, keep="last"))
    assert_same_weights(fresh, used)


def test_the_average_by_hand() -> None:
    decay, steps = 0.7, []
    options = TrainOptions(4, 0.1, "constant", batch=64, keep="last")
    for epochs in range(1, 5):  # an epoch is one step
        model = linear()
        train(model, Rows(), Split(np.arange(64), np.arange(0)), replace(options, epochs=epochs))
        steps.append(model.weight.detach())
    expected = steps[0]
    for step in steps[1:]:
        expected = decay * expected + (1 - decay) * step
    averaged = linear()
    train(
        averaged, Rows(), Split(np.arange(64), np.arange(0)), replace(options, average_decay=decay)
    )
    torch.testing.assert_close(averaged.weight.detach(), expected)


def test_the_seed_decides() -> None:
    one, again, other = (trained(CONSTANT, seed=seed) for seed in (0, 0, 1))
    assert_same_weights(one[0], again[0])
    assert one[1].epochs[-1].loss != other[1].epochs[-1].loss


def test_a_loss_that_is_not_finite_is_a_clear_error() -> None:
    toy = Toy()
    toy.sequences[3][0, 0] = np.nan
    with pytest.raises(TrainError, match="epoch 1: the loss is not finite"):
        trained(CONSTANT, toy=toy)
    toy = Toy()
    toy.sequences[VALID[3]][0, 0] = np.inf
    with pytest.raises(TrainError, match="epoch 1: the validation's logits are not finite"):
        trained(CONSTANT, toy=toy)


def test_a_gradient_that_is_not_finite_is_a_clear_error() -> None:
    class Steep(nn.Linear):
        """Its loss is finite, the slope of a root at zero isn't."""

        def forward(self, rows: Tensor) -> Tensor:
            return super().forward(rows) * (0 * self.weight[0, 0]).sqrt()

    with pytest.raises(TrainError, match="epoch 1: the gradient is not finite"):
        train(Steep(4, 3), Rows(), Split(LEARN[:32], VALID[:0]), replace(CONSTANT, keep="last"))


def test_parts_that_can_t_be() -> None:
    with pytest.raises(TrainError, match="nothing to train on"):
        train(arm(), Toy(), Split(LEARN[:0], VALID), CONSTANT)
    with pytest.raises(TrainError, match="no epoch is the best: keep the last"):
        train(arm(), Toy(), Split(LEARN, VALID[:0]), CONSTANT)
    with pytest.raises(TrainError, match="64 examples do not fill one batch of 65"):
        options = replace(CONSTANT, drop_last=True, batch=65)
        train(arm(), Toy(), Split(LEARN, VALID), options)
    with pytest.raises(TrainError, match="no plateau"):
        train(
            arm(),
            Toy(),
            Split(LEARN, VALID[:0]),
            replace(CONSTANT, schedule="plateau", keep="last"),
        )


def test_tensorboard_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    with pytest.raises(TrainError, match="pip install tensorboard"):
        trained(CONSTANT, run=tmp_path, tensorboard=True)
    with pytest.raises(TrainError, match="run folder"):
        trained(CONSTANT, tensorboard=True)


def test_tensorboard_shows_each_epoch_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with pytest.raises(Killed):
        trained(CONSTANT, run=tmp_path, tensorboard=True, progress=killed_after(9))
    _, training = trained(CONSTANT, run=tmp_path, tensorboard=True)
    shown = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = shown.Scalars("valid_loss")
    assert [scalar.step for scalar in scalars] == [1, 2, 3, 4]
    expected = [epoch.valid_loss for epoch in training.epochs]
    np.testing.assert_allclose([scalar.value for scalar in scalars], expected, rtol=1e-6)


ALL_ROWS = Split(np.arange(64), np.arange(0))
ONE_BATCH = TrainOptions(3, 0.1, "constant", batch=64, keep="last")


def test_targets_of_one_class_are_its_label() -> None:
    hard, soft = linear(), linear()
    rows = Rows()
    train(hard, rows, ALL_ROWS, ONE_BATCH)
    rows.targets = np.eye(3, dtype=np.float32)[rows.labels]
    train(soft, rows, ALL_ROWS, ONE_BATCH)
    torch.testing.assert_close(soft.weight, hard.weight)


def test_soft_targets_are_trained_on_and_labels_are_validated() -> None:
    rows = Rows()
    rows.targets = np.tile(np.array([0.2, 0.7, 0.1], np.float32), (64, 1))
    model = linear()
    training = train(
        model, rows, Split(np.arange(64), np.arange(64)), replace(ONE_BATCH, epochs=150)
    )
    with torch.no_grad():
        scores = model(rows.rows).softmax(1)
    torch.testing.assert_close(scores.mean(0), torch.tensor([0.2, 0.7, 0.1]), atol=0.02, rtol=0)
    share = float((rows.labels == 1).mean())
    assert training.epochs[-1].valid_accuracy == pytest.approx(share, abs=0.02)
    assert training.epochs[-1].train_accuracy == pytest.approx(share, abs=0.02)


def test_sgd_with_nesterov_momentum_by_hand() -> None:
    options = replace(
        ONE_BATCH, optimizer="sgd", weight_decay=0.5, decay_vectors=False, clip_norm=math.inf
    )
    rows, model, ours = Rows(), linear(), linear()
    train(model, rows, ALL_ROWS, options)
    velocity = [torch.zeros_like(parameter) for parameter in ours.parameters()]
    for _ in range(3):
        ours.zero_grad()
        nn.functional.cross_entropy(ours(rows.rows), torch.from_numpy(rows.labels)).backward()
        with torch.no_grad():
            for momentum, parameter in zip(velocity, ours.parameters(), strict=True):
                assert parameter.grad is not None
                decay = 0.5 if parameter.ndim > 1 else 0.0  # none of the bias
                gradient = parameter.grad + decay * parameter
                momentum.mul_(0.9).add_(gradient)
                parameter -= 0.1 * (gradient + 0.9 * momentum)
    for found, expected in zip(model.parameters(), ours.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_rate_of_a_cosine_falls_to_nothing_twice() -> None:
    options = TrainOptions(
        8, 0.1, "cosine", batch=16, warmup=0.25, finish_epochs=4, finish_learning_rate=0.04,
        keep="last",
    )  # fmt: skip
    training = train(Stuck(), Rows(), ALL_ROWS, options)
    rates = [epoch.learning_rate for epoch in training.epochs]
    expected = [0, 0.1, 0.075, 0.025, 0.04, 0.04 * 0.853553, 0.02, 0.04 * 0.146447]
    np.testing.assert_allclose(rates, expected, atol=1e-6)


class Normed(nn.Module):
    """Batch norm under a classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(4)
        self.classifier = nn.Linear(4, 3)

    def forward(self, rows: Tensor) -> Tensor:
        return self.classifier(self.norm(rows))


def test_running_statistics_are_averaged_if_asked_for() -> None:
    last, options = [], replace(ONE_BATCH, epochs=1)
    for epochs in (1, 2, 3):
        model = Normed()
        train(model, Rows(), ALL_ROWS, replace(options, epochs=epochs))
        last.append(model.norm.running_var)
    averaged, kept = Normed(), Normed()
    options = replace(options, epochs=3, average_decay=0.5)
    train(averaged, Rows(), ALL_ROWS, replace(options, average_buffers=True))
    train(kept, Rows(), ALL_ROWS, options)
    expected = 0.25 * last[0] + 0.25 * last[1] + 0.5 * last[2]
    torch.testing.assert_close(averaged.norm.running_var, expected)
    torch.testing.assert_close(kept.norm.running_var, last[2])
    assert averaged.norm.num_batches_tracked == 3


def test_bfloat16_is_for_the_forward_pass_alone() -> None:
    types = []

    class Watched(nn.Linear):
        def forward(self, rows: Tensor) -> Tensor:
            logits = super().forward(rows)
            types.append((self.training, logits.dtype))
            return logits

    model = Watched(4, 3)
    split = Split(np.arange(32), np.arange(32, 64))
    train(model, Rows(), split, replace(ONE_BATCH, batch=32, bf16=True))
    assert set(types) == {(True, torch.bfloat16), (False, torch.float32)}
    assert model.weight.dtype == torch.float32


def test_hooks_are_called_around_every_epoch() -> None:
    calls: list[object] = []
    hooks = Hooks(
        progress=lambda share: calls.append(round(share, 2)),
        before_epoch=lambda number: calls.append(f"before {number}"),
        after_epoch=lambda epoch: calls.append(f"after {epoch.epoch}"),
    )
    train(linear(), Rows(), ALL_ROWS, replace(ONE_BATCH, epochs=2), hooks=hooks)
    assert calls == ["before 1", 0.5, "after 1", "before 2", 1.0, "after 2"]
