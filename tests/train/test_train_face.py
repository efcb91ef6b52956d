"""Training of the face network on a synthetic FER-2013."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.train import face_training
from tests.train.face_training import (
    BATCH,
    EACH,
    OPTIONS,
    Killed,
    album,
    assert_same_weights,
    copied,
    held_out,
    is_held_out,
    killed_in_batch,
    last,
    log,
    train,
    unchanged,
)
from train import train_face
from train.data.batches import predict
from train.data.index import Entry
from train.errors import TrainError
from train.models.face_classifier import FaceClassifier, load_classifier
from train.models.registry import FER_FACE
from train.options import cosine_factor
from train.train_face import (
    MILD,
    STRONG,
    TRAINING,
    FaceOptions,
    predict_heads,
    read_faces,
)

pytestmark = pytest.mark.usefixtures("small_network")


def untimed(records: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{**record, "seconds": 0} for record in records]


@pytest.mark.parametrize("batch", [3, 4])  # of 4, 2 an epoch
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(
    entries: list[Entry], unbroken: Path, tmp_path: Path, batch: int
) -> None:
    with pytest.raises(Killed):
        train(entries, tmp_path, vary_faces=killed_in_batch(batch))
    assert not (tmp_path / FER_FACE).exists()
    assert len(log(tmp_path)) == 1
    torch.manual_seed(batch)  # another process' randomness
    told = train(entries, tmp_path)
    assert [record["epoch"] for record in told] == [2]
    assert_same_weights(tmp_path, unbroken)
    assert untimed(log(tmp_path)) == untimed(log(unbroken))


def test_a_kill_while_the_state_is_written_costs_an_epoch_and_no_more(
    entries: list[Entry], unbroken: Path, tmp_path: Path
) -> None:
    save, calls = torch.save, itertools.count(1)

    def killed(state: Any, path: Path) -> None:
        save(state, path)
        if next(calls) == 2:
            path.write_bytes(path.read_bytes()[:1000])
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(torch, "save", killed)
        train(entries, tmp_path)
    assert len(last(tmp_path)["history"]) == len(log(tmp_path)) == 1
    train(entries, tmp_path)
    assert_same_weights(tmp_path, unbroken)
    assert untimed(log(tmp_path)) == untimed(log(unbroken))


def test_a_finished_run_is_left_as_it_is(
    entries: list[Entry], unbroken: Path, tmp_path: Path
) -> None:
    again = tmp_path / "run"
    shutil.copytree(unbroken, again)
    (again / FER_FACE).unlink()
    assert train(entries, again, vary_faces=killed_in_batch(1)) == []
    assert log(again) == log(unbroken)
    assert_same_weights(again, unbroken)


def test_a_damaged_state_is_a_clear_error(
    entries: list[Entry], unbroken: Path, tmp_path: Path
) -> None:
    data = (unbroken / "last.pt").read_bytes()
    for spoilt in (b"", b"no state", data[:-100]):
        (tmp_path / "last.pt").write_bytes(spoilt)
        with pytest.raises(TrainError, match=r"last\.pt: damaged.*delete it"):
            train(entries, tmp_path)


def test_the_network_learns_to_tell_faces_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On stripes, which are their own mirror image, as faces are but for the details."""

    def striped(label: int, random: np.random.Generator) -> np.ndarray:
        stripes = np.cos(np.pi * (label + 1) * np.linspace(-1, 1, 48))[:, None]
        return (120 + 60 * stripes + 15 * random.standard_normal((48, 48))).astype(np.uint8)

    monkeypatch.setattr(face_training, "face_image", striped)
    train_set = album(tmp_path / "train", "train", 8, seed=0)
    listed = [*train_set, *map(held_out, album(tmp_path / "held", "train", 4, seed=1))]
    training = replace(
        OPTIONS.training, learning_rate=0.05, finish_learning_rate=0.02, average_decay=0.6
    )
    options = FaceOptions(training, label_weight=0.0).with_epochs(3, 2)
    records = train(listed, tmp_path / "run", options, unchanged)
    # Smoothed labels have an entropy of 0.45: the loss of a perfect classifier.
    assert records[-1]["loss"] < 0.55 < records[0]["loss"] - 0.5
    assert records[-1]["valid_accuracy"] > 0.9  # by chance 0.14


def test_the_last_epochs_are_milder(entries: list[Entry], tmp_path: Path) -> None:
    strengths: list[float] = []

    def vary(batch: Tensor, strength: float) -> Tensor:
        strengths.append(strength)
        return batch

    train(entries, tmp_path, vary_faces=vary)
    assert strengths == [STRONG.vary] * 2 + [MILD.vary] * 2


def test_the_optimizer_follows_the_learning_rate(
    entries: list[Entry], unbroken: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        train(entries, tmp_path, vary_faces=killed_in_batch(3))
    for out, epoch in ((tmp_path, 1), (unbroken, 2)):
        rates = {group["lr"] for group in last(out)["optimizer"]["param_groups"]}
        expected = 0.1 * cosine_factor(epoch, OPTIONS.training)
        np.testing.assert_allclose(list(rates), expected, atol=1e-12)


@pytest.mark.parametrize("options", [OPTIONS.with_epochs(0, 2), OPTIONS.with_epochs(2, 0)])
def test_either_part_may_be_left_out(
    entries: list[Entry], tmp_path: Path, options: FaceOptions
) -> None:
    assert [record["epoch"] for record in train(entries, tmp_path, options)] == [1, 2]
    assert (tmp_path / FER_FACE).exists()
    rates = {group["lr"] for group in last(tmp_path)["optimizer"]["param_groups"]}
    assert max(rates) <= TRAINING.finish_learning_rate


def test_the_file_has_the_moving_average_of_weights_and_statistics(
    entries: list[Entry], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step's weights are recorded, and averaged here by the formula."""
    models: list[FaceClassifier] = []
    states: list[dict[str, Tensor]] = []  # before each step

    class Watched(FaceClassifier):
        def __init__(self) -> None:
            super().__init__()
            models.append(self)

    def vary(batch: Tensor, strength: float) -> Tensor:
        states.append(copied(models[0]))
        return batch

    monkeypatch.setattr(train_face, "FaceClassifier", Watched)
    train(
        entries,
        tmp_path,
        replace(OPTIONS, training=replace(OPTIONS.training, average_decay=0.7)),
        vary,
    )
    assert len(states) == 2 * (7 * EACH // BATCH)
    states.append(last(tmp_path)["model"])
    final = load_file(tmp_path / FER_FACE)
    assert final["encoder.stem.0.1.num_batches_tracked"] == len(states) - 1
    for name in ("votes.bias", "encoder.stem.0.0.weight", "encoder.stem.0.1.running_var"):
        mean = states[1][name]  # the average starts with the first step's weights
        for state in states[2:]:
            mean = 0.7 * mean + 0.3 * state[name]
        torch.testing.assert_close(final[name], mean, atol=1e-5, rtol=1e-4)
        assert (mean - states[-1][name]).abs().max() > 1e-4  # or the test would prove nothing


def test_the_accuracy_told_is_that_of_the_weights_left(
    entries: list[Entry], unbroken: Path
) -> None:
    classifier = FaceClassifier()
    classifier.load_state_dict(load_file(unbroken / FER_FACE))
    valid = read_faces([listed for listed in entries if is_held_out(listed)])
    logits = predict(classifier, valid, np.arange(7))
    assert logits.shape == (7, 7)
    accuracy = (logits.argmax(1) == valid.labels).mean()
    assert log(unbroken)[-1]["valid_accuracy"] == pytest.approx(accuracy)


def test_the_test_images_are_measured_at_the_end(entries: list[Entry], unbroken: Path) -> None:
    classifier = load_classifier(unbroken / FER_FACE)
    test = read_faces([listed for listed in entries if listed.split == "test"])
    predicted = predict_heads(classifier, test).labels.argmax(1).numpy()
    figures = json.loads((unbroken / "figures.json").read_text())
    assert figures["fer_2013"] == pytest.approx((predicted == test.labels).mean())
    assert figures["fer_2013_images"] == 14
    assert figures["fer_plus_majority"] is None and figures["fer_plus_images"] == 0


def test_the_epoch_with_the_lowest_loss_on_held_out_images_is_kept(
    entries: list[Entry], tmp_path: Path
) -> None:
    training = replace(OPTIONS.training, keep="best")
    train(entries, tmp_path, replace(OPTIONS, training=training).with_epochs(2, 1))
    losses = [record["valid_loss"] for record in log(tmp_path)]
    assert last(tmp_path)["kept"] == 1 + int(np.argmin(losses))
