"""Training: it learns, it is the same again after any kill, and it looks at nothing else."""

from __future__ import annotations

import json
import math
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mfer_edge.errors import OutputError
from tests.support.paths import ROOT
from train.loop import Epoch, TrainError, Training, TrainOptions, train
from train.models.arms import GruArm

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
    """Sequences whose class is in the sign of their first step; what is asked for is noted."""

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
    """Vectors, all alike in length and never changed."""

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
    return model, train(model, more.pop("toy", None) or Toy(), LEARN, VALID, options, **more)


def assert_same_weights(one: nn.Module, other: nn.Module) -> None:
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def timeless(epochs: tuple[Epoch, ...]) -> list[Epoch]:
    return [replace(epoch, seconds=0.0) for epoch in epochs]


def logged(run: Path) -> list[Epoch]:
    return [Epoch(**json.loads(line)) for line in (run / "log.jsonl").read_text().splitlines()]


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


RESUMED = {
    "everything": EVERYTHING,
    "one-cycle": replace(CONSTANT, schedule="one-cycle", keep="last"),
    "exponential": replace(CONSTANT, schedule="exponential", optimizer="adam", batch=20),
    "last of average": replace(CONSTANT, average_decay=0.9, keep="last"),
}


@pytest.mark.parametrize("options", RESUMED.values(), ids=RESUMED)
def test_a_training_that_is_killed_and_resumed_is_the_unbroken_one(
    options: TrainOptions, tmp_path: Path
) -> None:
    unbroken, expected = trained(options)
    steps = math.ceil(math.ceil(len(LEARN) / options.batch) / options.accumulate)
    for late in (1, steps):  # at the start and near the end of the epoch after the one saved
        run, kills = tmp_path / f"run-{late}", 0
        while True:
            model = arm()
            try:
                _, training = trained(
                    options, model=model, run=run, progress=killed_after(steps + late)
                )
                break
            except Killed:
                kills += 1
                torch.manual_seed(kills)  # a new process has its own random numbers
        assert kills == options.epochs - 1
        assert_same_weights(model, unbroken)
        assert training.kept == expected.kept
        assert timeless(training.epochs) == timeless(expected.epochs)
        assert logged(run) == list(training.epochs)
        assert sorted(path.name for path in run.iterdir()) == ["last.pt", "log.jsonl"]


def slow_training(run: Path, threads: int) -> None:
    """What the child process of the next test does."""
    torch.set_num_threads(threads)
    trained(EVERYTHING, run=run, progress=lambda share: time.sleep(0.2))


def test_a_training_survives_a_real_kill(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.train.test_loop import slow_training;"
        "slow_training(Path(sys.argv[1]), int(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(torch.get_num_threads())]
    with subprocess.Popen(command, cwd=ROOT) as child:
        while not (tmp_path / "last.pt").exists():
            assert child.poll() is None, "the child ended on its own"
            time.sleep(0.01)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    resumed, training = trained(EVERYTHING, run=tmp_path)
    unbroken, expected = trained(EVERYTHING)
    assert_same_weights(resumed, unbroken)
    assert timeless(training.epochs) == timeless(expected.epochs)
    assert logged(tmp_path) == list(training.epochs)


def test_a_training_that_is_done_stays_as_it_is(tmp_path: Path) -> None:
    first, training = trained(CONSTANT, run=tmp_path)
    toy = Toy()
    again, same = trained(CONSTANT, run=tmp_path, toy=toy, progress=killed_after(1))
    assert same == training
    assert not toy.learned | toy.validated
    assert_same_weights(first, again)


@pytest.mark.parametrize("left", ["", "torn: {", "twice"])
def test_a_log_that_a_kill_left_behind_is_put_right(left: str, tmp_path: Path) -> None:
    _, training = trained(CONSTANT, run=tmp_path)
    log = tmp_path / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole + whole if left == "twice" else left)
    trained(CONSTANT, run=tmp_path)
    assert log.read_text() == whole
    assert logged(tmp_path) == list(training.epochs)


def test_the_best_epoch_is_kept() -> None:
    options = TrainOptions(9, 0.1, "constant")

    def of_noise(options: TrainOptions) -> tuple[nn.Linear, Training]:
        """Labels that nothing tells: what is learned of them is soon wrong."""
        model = linear()
        return model, train(model, Rows(), np.arange(32), np.arange(32, 64), options)

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
    training = train(Stuck(), Rows(), np.arange(32), np.arange(32, 64), options)
    assert len({epoch.valid_loss for epoch in training.epochs}) == 1
    assert training.kept == 1


def test_nothing_else_is_looked_at() -> None:
    toy = Toy()
    for index in range(96, 120):
        toy.sequences[index][:] = np.nan
    trained(EVERYTHING, toy=toy)
    assert toy.learned <= set(LEARN)
    assert toy.validated == set(VALID)
    toy = Toy()
    trained(CONSTANT, toy=toy)
    assert toy.learned == set(LEARN)


def test_the_validation_part_teaches_nothing() -> None:
    options = replace(EVERYTHING, schedule="constant", keep="last")
    one, other, none = arm(), arm(), arm()
    train(one, Toy(), LEARN, VALID, options)
    train(other, Toy(), LEARN, VALID[:5], options)
    training = train(none, Toy(), LEARN, VALID[:0], options)
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
    training = train(Stuck(), Rows(), np.arange(32), np.arange(32, 64), options)
    rates = [epoch.learning_rate for epoch in training.epochs]
    np.testing.assert_allclose(rates, options.learning_rate * np.array(factors))


def test_one_cycle_rises_and_falls_to_nothing() -> None:
    options = TrainOptions(20, 0.1, "one-cycle", batch=8)
    training = train(Stuck(), Rows(), np.arange(32), np.arange(32, 64), options)
    rates = np.array([epoch.learning_rate for epoch in training.epochs])
    assert rates[0] == pytest.approx(0.1 / 25) and rates.max() > 0.095 and rates[-1] < 0.005
    assert (np.diff(rates[:6]) > 0).all() and (np.diff(rates[6:]) < 0).all()


def test_groups_learn_at_their_own_rates() -> None:
    # Adam's first step is as long as the learning rate, in every weight.
    model, before = arm(), arm()
    groups = [(model.gru.parameters(), 0.1), (model.classifier.parameters(), 1.0)]
    options = TrainOptions(1, 1e-3, "constant", batch=64, optimizer="adam", clip_norm=1e9)
    training = train(model, Toy(), LEARN, VALID, options, groups=groups)
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
    train(whole, Rows(), np.arange(48), np.arange(0), options)
    train(parts, Rows(), np.arange(48), np.arange(0), replace(options, batch=6, accumulate=4))
    torch.testing.assert_close(parts.weight, whole.weight, atol=1e-5, rtol=0)
    assert not torch.equal(whole.weight, linear().weight)


def test_gradients_from_before_are_not_learned_from() -> None:
    fresh, used = linear(), linear()
    used(torch.ones(1, 4)).sum().backward()
    for model in (fresh, used):
        train(model, Rows(), LEARN[:32], VALID[:0], replace(CONSTANT, keep="last"))
    assert_same_weights(fresh, used)


def test_the_average_by_hand() -> None:
    decay, steps = 0.7, []
    options = TrainOptions(4, 0.1, "constant", batch=64, keep="last")
    for epochs in range(1, 5):  # an epoch is one step
        model = linear()
        train(model, Rows(), np.arange(64), np.arange(0), replace(options, epochs=epochs))
        steps.append(model.weight.detach())
    expected = steps[0]
    for step in steps[1:]:
        expected = decay * expected + (1 - decay) * step
    averaged = linear()
    train(averaged, Rows(), np.arange(64), np.arange(0), replace(options, average_decay=decay))
    torch.testing.assert_close(averaged.weight.detach(), expected)


def test_the_seed_decides() -> None:
    one, again, other = (trained(CONSTANT, seed=seed) for seed in (0, 0, 1))
    assert_same_weights(one[0], again[0])
    assert one[1].epochs[-1].loss != other[1].epochs[-1].loss


def relabelled() -> Toy:
    toy = Toy()
    toy.labels = toy.labels.copy()
    toy.labels[0] = (toy.labels[0] + 1) % 3
    return toy


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"options": replace(CONSTANT, learning_rate=0.1)}, "learning_rate was 0.005, is 0.1"),
        ({"options": replace(CONSTANT, epochs=9)}, "epochs was 4, is 9"),
        ({"seed": 7}, "seed was 0, is 7"),
        ({"toy": relabelled()}, "data was"),
        ({"learn": LEARN[1:]}, "data was"),
        ({"valid": VALID[1:]}, "data was"),
        ({"model": arm(seed=5)}, "model was"),
        ({"model": GruArm(4, 9, 3)}, "model was"),
    ],
)
def test_another_training_is_not_resumed(
    changed: dict[str, Any], says: str, tmp_path: Path
) -> None:
    trained(replace(CONSTANT), run=tmp_path)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(TrainError, match=rf"last\.pt: .*{says}") as error:
        train(
            changed.get("model") or arm(),
            changed.get("toy") or Toy(),
            changed.get("learn", LEARN),
            changed.get("valid", VALID),
            changed.get("options", CONSTANT),
            seed=changed.get("seed", 0),
            run=tmp_path,
        )
    assert "\n" not in str(error.value)
    assert (tmp_path / "last.pt").read_bytes() == before


def test_groups_are_part_of_a_training(tmp_path: Path) -> None:
    trained(CONSTANT, run=tmp_path)
    model = arm()
    with pytest.raises(TrainError, match="model was"):
        trained(CONSTANT, run=tmp_path, model=model, groups=[(model.parameters(), 0.5)])


class Bomb:
    """Code that a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("BOMB"),))


def damaged(state: bytes) -> dict[str, bytes]:
    middle = len(state) // 2
    return {
        "empty": b"",
        "text": b"version https://git-lfs.github.com/spec/v1\n",
        "half": state[:middle],
        "torn": state[:-1],
        "one bit": state[:middle] + bytes([state[middle] ^ 1]) + state[middle + 1 :],
    }


@pytest.mark.parametrize("how", damaged(b"--"))
def test_a_damaged_state_is_said_to_be(how: str, tmp_path: Path) -> None:
    trained(CONSTANT, run=tmp_path)
    path = tmp_path / "last.pt"
    path.write_bytes(damaged(path.read_bytes())[how])
    with pytest.raises(TrainError, match=r"last\.pt: damaged; delete it") as error:
        trained(CONSTANT, run=tmp_path)
    assert "\n" not in str(error.value)


def test_a_state_runs_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for state in (Bomb(), {"identity": {}, "history": [], "more": Bomb()}, [1, 2], {"a": 1}):
        torch.save(state, tmp_path / "last.pt")
        with pytest.raises(TrainError, match="delete it"):
            trained(CONSTANT, run=tmp_path)
    assert not (tmp_path / "BOMB").exists()


def test_a_full_disk_is_said_and_costs_no_state(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        trained(CONSTANT, run=tmp_path, progress=killed_after(5))
    before = (tmp_path / "last.pt").read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OutputError, match=r"last\.pt: not written"):
            trained(CONSTANT, run=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (tmp_path / "last.pt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pt", "log.jsonl"]


def test_a_run_needs_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file: no folder"):
        trained(CONSTANT, run=tmp_path / "file")


def test_a_loss_that_is_not_finite_is_said() -> None:
    toy = Toy()
    toy.sequences[3][0, 0] = np.nan
    with pytest.raises(TrainError, match="epoch 1: the loss is not finite"):
        trained(CONSTANT, toy=toy)
    toy = Toy()
    toy.sequences[VALID[3]][0, 0] = np.inf
    with pytest.raises(TrainError, match="epoch 1: the validation's logits are not finite"):
        trained(CONSTANT, toy=toy)


def test_a_gradient_that_is_not_finite_is_said() -> None:
    class Steep(nn.Linear):
        """Its loss is finite, the slope of a root at zero isn't."""

        def forward(self, rows: Tensor) -> Tensor:
            return super().forward(rows) * (0 * self.weight[0, 0]).sqrt()

    with pytest.raises(TrainError, match="epoch 1: the gradient is not finite"):
        train(Steep(4, 3), Rows(), LEARN[:32], VALID[:0], replace(CONSTANT, keep="last"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schedule": "cosine"}, "schedule 'cosine': it is constant or exponential"),
        ({"optimizer": "sgd"}, "optimizer 'sgd': it is adamw or adam"),
        ({"keep": "all"}, "keep 'all': it is best or last"),
        ({"epochs": 0}, "epochs is 0"),
        ({"batch": 0}, "batch is 0"),
        ({"accumulate": -1}, "accumulate is -1"),
    ],
)
def test_options_that_can_t_be(change: dict[str, Any], says: str) -> None:
    with pytest.raises(TrainError, match=says):
        TrainOptions(**{**asdict(CONSTANT), **change})


def test_parts_that_can_t_be() -> None:
    with pytest.raises(TrainError, match="nothing to train on"):
        train(arm(), Toy(), LEARN[:0], VALID, CONSTANT)
    with pytest.raises(TrainError, match="no epoch is the best: keep the last"):
        train(arm(), Toy(), LEARN, VALID[:0], CONSTANT)
    with pytest.raises(TrainError, match="no plateau"):
        train(arm(), Toy(), LEARN, VALID[:0], replace(CONSTANT, schedule="plateau", keep="last"))


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
