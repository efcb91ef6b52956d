"""The face network's training, on a made FER-2013: stopped and started again, and honest."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import click.testing
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.train.made import fer_tree
from train import faces
from train.datasets import FACE_EMOTIONS, fer2013
from train.faces import FaceClassifier, as_batch, predict

BATCH = 8
EACH = 5  # training pictures of an emotion: 4 steps an epoch
EPOCHS, FINISH = 1, 1


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("FER2013")
    fer_tree(folder / "valid", each=2, seed=1)
    fer_tree(folder / "train", each=EACH, seed=2)
    return folder


def train(data: Path, out: Path, **patches: Any) -> click.testing.Result:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"BATCH": BATCH, **patches}.items():
            patch.setattr(faces, name, value)
        options = ["--data", data, "--out", out, "--epochs", EPOCHS, "--finish", FINISH]
        return click.testing.CliRunner().invoke(faces.main, [str(o) for o in options])


def killed_in_batch(number: int) -> Any:
    """The random changes to faces, with the process killed in one batch's."""
    vary_faces, calls = faces.vary_faces, itertools.count(1)

    def vary(batch: Tensor, strength: float) -> Tensor:
        if next(calls) == number:
            raise SystemExit(137)
        return vary_faces(batch, strength)

    return vary


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("faces") / "run"
    result = train(data, out)
    assert result.exit_code == 0, result.output
    return out


def weights(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("batch", [6, 8])  # of 8, 4 an epoch
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(
    data: Path, whole: Path, tmp_path: Path, batch: int
) -> None:
    assert train(data, tmp_path, vary_faces=killed_in_batch(batch)).exit_code == 137
    assert not (tmp_path / "face.pt").exists()
    assert weights(tmp_path / "last.pt")["epoch"] == 1
    result = train(data, tmp_path)
    assert result.exit_code == 0, result.output
    resumed, expected = weights(tmp_path / "face.pt"), weights(whole / "face.pt")
    assert resumed.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(resumed[name], value), name
    for ours, theirs in zip(log(tmp_path), log(whole), strict=True):
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}


def test_a_run_that_was_killed_while_it_saved_goes_on_from_the_epoch_before(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    assert train(data, tmp_path, vary_faces=killed_in_batch(5)).exit_code == 137
    (tmp_path / "last.pt.new").write_bytes((tmp_path / "last.pt").read_bytes()[:1000])
    assert train(data, tmp_path).exit_code == 0
    for name, value in weights(whole / "face.pt").items():
        assert torch.equal(weights(tmp_path / "face.pt")[name], value), name


def test_the_last_epochs_are_milder(data: Path, tmp_path: Path) -> None:
    strengths: list[float] = []

    def vary(batch: Tensor, strength: float) -> Tensor:
        strengths.append(strength)
        return batch

    assert train(data, tmp_path, vary_faces=vary).exit_code == 0
    assert strengths == [1.0] * 4 + [faces.FINISH_STRENGTH] * 4


def test_the_learning_rate_falls_to_nothing_twice(data: Path, whole: Path, tmp_path: Path) -> None:
    assert train(data, tmp_path, vary_faces=killed_in_batch(5)).exit_code == 137
    (before,), (after,) = (
        {group["lr"] for group in weights(out / "last.pt")["optimizer"]["param_groups"]}
        for out in (tmp_path, whole)
    )
    assert before == pytest.approx(faces.FINISH_LEARNING_RATE)  # as the finish begins
    assert after == pytest.approx(0)


def test_a_finished_run_is_left_as_it_is(data: Path, whole: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(whole, again)
    (again / "face.pt").unlink()
    result = train(data, again, vary_faces=killed_in_batch(1))
    assert result.exit_code == 0, result.output
    assert log(again) == log(whole)
    for name, value in weights(whole / "face.pt").items():
        assert torch.equal(weights(again / "face.pt")[name], value), name


def test_what_is_left_is_the_average_of_the_weights_on_the_way(data: Path, tmp_path: Path) -> None:
    """Each step's weights are caught, and averaged here by the formula."""
    models: list[FaceClassifier] = []
    states: list[dict[str, Tensor]] = []  # before each step

    class Watched(FaceClassifier):
        def __init__(self) -> None:
            super().__init__()
            models.append(self)

    def vary(batch: Tensor, strength: float) -> Tensor:
        states.append(copied(models[0]))
        return batch

    patches = {"FaceClassifier": Watched, "vary_faces": vary, "AVERAGE_DECAY": 0.7}
    assert train(data, tmp_path, **patches).exit_code == 0
    assert len(states) == (EPOCHS + FINISH) * (7 * EACH // BATCH)
    states.append(weights(tmp_path / "last.pt")["model"])
    final = weights(tmp_path / "face.pt")
    assert final["encoder.stem.0.1.num_batches_tracked"] == len(states) - 1
    for name in ("classifier.bias", "encoder.stem.0.0.weight", "encoder.stem.0.1.running_var"):
        mean = states[0][name]
        for state in states[1:]:
            mean = 0.7 * mean + 0.3 * state[name]
        torch.testing.assert_close(final[name], mean, atol=1e-5, rtol=1e-4)
        assert (mean - states[-1][name]).abs().max() > 1e-4  # or the test would prove nothing


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_training_moves_the_weights_down_the_loss(data: Path, tmp_path: Path) -> None:
    options = {"vary_faces": lambda batch, strength: batch, "LEARNING_RATE": 0.02}
    assert train(data, tmp_path, **options).exit_code == 0
    first, second = log(tmp_path)
    assert second["loss"] < first["loss"] - 0.1


def test_no_picture_of_the_test_set_is_trained_on(data: Path, tmp_path: Path) -> None:
    leaky = tmp_path / "FER2013"
    shutil.copytree(data, leaky)
    for k, path in enumerate(sorted((leaky / "valid").rglob("*.png"))):
        shutil.copy(path, leaky / "train" / FACE_EMOTIONS[k % 7] / f"leak-{k}.png")
    seen: list[np.ndarray] = []
    vary_faces = faces.vary_faces

    def watched(batch: Tensor, strength: float) -> Tensor:
        seen.append(batch.numpy().astype(np.uint8))
        return vary_faces(batch, strength)

    result = train(leaky, tmp_path / "run", vary_faces=watched)
    assert result.exit_code == 0, result.output
    assert f"{7 * EACH + 14} training faces, {7 * EACH} after" in result.output
    trained_on = {image.tobytes() for image in np.concatenate(seen)[:, 0]}
    assert len(trained_on) > 30
    assert not trained_on & {image.tobytes() for image in fer2013(leaky / "valid").images}


def test_the_accuracy_told_is_that_of_the_weights_left(data: Path, whole: Path) -> None:
    classifier = FaceClassifier()
    classifier.load_state_dict(weights(whole / "face.pt"))
    valid = fer2013(data / "valid")
    logits = predict(classifier, valid)
    assert logits.shape == (14, 7)
    accuracy = (logits.argmax(1) == valid.labels).mean()
    assert log(whole)[-1]["valid_accuracy"] == pytest.approx(accuracy)


def test_too_few_pictures_for_one_batch_are_an_error(data: Path, tmp_path: Path) -> None:
    result = train(data, tmp_path, BATCH=36)
    assert result.exit_code == 1
    assert "35 faces do not fill one batch of 36" in result.output


def test_a_batch_is_grey_pictures_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48)).astype(np.uint8)
    batch = as_batch(images)
    assert batch.shape == (3, 1, 48, 48)
    np.testing.assert_array_equal(batch[:, 0].numpy(), images)
