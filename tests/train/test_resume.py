"""Resuming a training: exact after any kill, and refused for another training."""

from __future__ import annotations

import io
import math
import resource
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mfer_edge.errors import OutputError
from tests.support.paths import ROOT
from tests.train.toys import (
    CONSTANT,
    EVERYTHING,
    LEARN,
    VALID,
    Killed,
    Toy,
    arm,
    assert_same_weights,
    killed_after,
    logged,
    timeless,
    trained,
)
from train.data.batches import Split
from train.errors import TrainError
from train.loop import train
from train.models.arms import GruArm
from train.options import StageContext, TrainOptions

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
        "import sys; from pathlib import Path; from tests.train.test_resume import slow_training;"
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
def test_a_log_that_a_kill_left_behind_is_repaired(left: str, tmp_path: Path) -> None:
    _, training = trained(CONSTANT, run=tmp_path)
    log = tmp_path / "log.jsonl"
    whole = log.read_text()
    log.write_text(whole + whole if left == "twice" else left)
    trained(CONSTANT, run=tmp_path)
    assert log.read_text() == whole
    assert logged(tmp_path) == list(training.epochs)


def softened() -> Toy:
    """The toy with soft targets."""
    toy = Toy()
    toy.targets = np.full((len(toy.labels), 3), 1 / 3, np.float32)
    return toy


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
        ({"toy": softened()}, "data was"),
        ({"identity": {"images": "other"}}, "images was None, is other"),
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
            Split(changed.get("learn", LEARN), changed.get("valid", VALID)),
            changed.get("options", CONSTANT),
            stage=StageContext(tmp_path, changed.get("seed", 0)),
            identity=changed.get("identity"),
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


def inside_a_tensor(state: bytes) -> int:
    """Offset of a byte that the checksums cover; padding between entries is not covered."""
    if not zipfile.is_zipfile(io.BytesIO(state)):
        return 0
    with zipfile.ZipFile(io.BytesIO(state)) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
        return state.index(archive.read(largest)) + largest.file_size // 2


def damaged(state: bytes) -> dict[str, bytes]:
    middle = len(state) // 2
    bit = inside_a_tensor(state)
    return {
        "empty": b"",
        "text": b"version https://git-lfs.github.com/spec/v1\n",
        "half": state[:middle],
        "torn": state[:-1],
        "one bit": state[:bit] + bytes([state[bit] ^ 1]) + state[bit + 1 :],
    }


@pytest.mark.parametrize("how", damaged(b"--"))
def test_a_damaged_state_is_a_clear_error(how: str, tmp_path: Path) -> None:
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


def test_a_full_disk_is_a_clear_error_and_costs_no_state(tmp_path: Path) -> None:
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
