"""The face network's training, on a made FER-2013: stopped and started again, and honest."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.train.made import entry, face_picture
from train import train_face
from train.data.index import DatasetError, Entry
from train.labels import EMOTIONS, FACE_EMOTIONS, FACE_OF_EMOTION
from train.models.fer_resnet import FerResnet, ResidualBlock
from train.models.registry import FACE_BACKBONES, FER_FACE
from train.models.weights import CheckpointError
from train.options import TrainError
from train.train_face import (
    FaceClassifier,
    FaceOptions,
    as_batch,
    learning_rate,
    predict,
    read_faces,
    targets_of,
    train_faces,
)

BATCH = 8
EACH = 3  # training pictures of an emotion: 2 steps an epoch
OPTIONS = FaceOptions(epochs=1, finish=1)
EMOTION_OF_FACE = {face: emotion for emotion, face in FACE_OF_EMOTION.items() if emotion != "calm"}


class SmallEncoder(FerResnet):
    """The face network with one of its blocks: a tenth of the time."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(ResidualBlock(48, FerResnet.width, 4))


@pytest.fixture(scope="module", autouse=True)
def small_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_face, "FerResnet", SmallEncoder)
        yield


def album(folder: Path, split: str, each: int, seed: int) -> Iterator[Entry]:
    """Write so many pictures of each emotion."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(7 * each):
        label = number % 7
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), face_picture(label, random))
        emotion = EMOTION_OF_FACE[FACE_EMOTIONS[label]]
        yield entry(path, "image", emotion, dataset="fer2013", split=split)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Pictures of both splits, and one of neither."""
    folder = tmp_path_factory.mktemp("FER2013")
    train, test = album(folder / "train", "train", EACH, 2), album(folder / "test", "test", 2, 1)
    listed = [*train, *test]
    return [*listed, replace(listed[0], split="")]


def train(entries: list[Entry], out: Path, *rest: Any, **patches: Any) -> list[dict[str, float]]:
    """Train in small batches; give what was told."""
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"BATCH": BATCH, **patches}.items():
            patch.setattr(train_face, name, value)
        train_faces(entries, out, *(rest or [OPTIONS]), say=told.append)
    return [json.loads(line) for line in told]


class Killed(BaseException):
    """The process ends here."""


def killed_in_batch(number: int) -> Callable[..., Tensor]:
    """The random changes to faces, with the process killed in one batch's."""
    vary_faces, calls = train_face.vary_faces, itertools.count(1)

    def vary(batch: Tensor, strength: float) -> Tensor:
        if next(calls) == number:
            raise Killed
        return vary_faces(batch, strength)

    return vary


def unchanged(batch: Tensor, strength: float) -> Tensor:
    return batch


@pytest.fixture(scope="module")
def whole(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("faces") / "deep" / "run"
    train(entries, out)
    return out


def last(out: Path) -> dict[str, Any]:
    return torch.load(out / "last.pt", weights_only=True)


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def untimed(records: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{**record, "seconds": 0} for record in records]


def assert_same_weights(out: Path, expected: Path) -> None:
    ours, theirs = load_file(out / FER_FACE), load_file(expected / FER_FACE)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


@pytest.mark.parametrize("batch", [3, 4])  # of 4, 2 an epoch
def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(
    entries: list[Entry], whole: Path, tmp_path: Path, batch: int
) -> None:
    with pytest.raises(Killed):
        train(entries, tmp_path, vary_faces=killed_in_batch(batch))
    assert not (tmp_path / FER_FACE).exists()
    assert len(log(tmp_path)) == 1
    torch.manual_seed(batch)  # another process' randomness
    told = train(entries, tmp_path)
    assert [record["epoch"] for record in told] == [2]
    assert_same_weights(tmp_path, whole)
    assert untimed(log(tmp_path)) == untimed(log(whole))


def test_a_kill_while_the_state_is_written_costs_an_epoch_and_no_more(
    entries: list[Entry], whole: Path, tmp_path: Path
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
    assert len(last(tmp_path)["records"]) == len(log(tmp_path)) == 1
    train(entries, tmp_path)
    assert_same_weights(tmp_path, whole)
    assert untimed(log(tmp_path)) == untimed(log(whole))


def test_a_finished_run_is_left_as_it_is(entries: list[Entry], whole: Path, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(whole, again)
    (again / FER_FACE).unlink()
    assert train(entries, again, vary_faces=killed_in_batch(1)) == []
    assert log(again) == log(whole)
    assert_same_weights(again, whole)


def test_a_run_of_another_schedule_or_other_pictures_is_refused(
    entries: list[Entry], whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    other = [replace(entries[0], path=entries[7].path), *entries[1:]]  # of the same emotion
    relabelled = [replace(entries[0], label="sad"), *entries[1:]]
    attempts: list[tuple[Any, ...]] = [
        (other, OPTIONS),
        (relabelled, OPTIONS),
        (entries[1:], OPTIONS),
        (entries, replace(OPTIONS, epochs=2)),
        (entries, replace(OPTIONS, finish=2)),
        (entries, replace(OPTIONS, seed=1)),
        (entries, OPTIONS, whole / FER_FACE),
    ]
    before = (run / "last.pt").read_bytes()
    for listed, *rest in attempts:
        with pytest.raises(TrainError, match=r"last\.pt: of a training with other options"):
            train(listed, run, *rest)
    assert (run / "last.pt").read_bytes() == before
    moved = [replace(listed, actor="somebody") for listed in entries]
    assert train(moved, run) == []  # nothing that matters has changed


def test_a_damaged_state_is_a_clear_error(
    entries: list[Entry], whole: Path, tmp_path: Path
) -> None:
    data = (whole / "last.pt").read_bytes()
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

    monkeypatch.setitem(globals(), "face_picture", striped)
    train_set = album(tmp_path / "train", "train", 8, seed=0)
    listed = [*train_set, *album(tmp_path / "test", "test", 4, seed=1)]
    rates = {"LEARNING_RATE": 0.05, "FINISH_LEARNING_RATE": 0.02, "AVERAGE_DECAY": 0.6}
    records = train(listed, tmp_path / "run", FaceOptions(3, 2), vary_faces=unchanged, **rates)
    assert records[-1]["loss"] < records[0]["loss"] - 1
    assert records[-1]["valid_accuracy"] > 0.9  # by chance 0.14


def test_the_last_epochs_are_milder(entries: list[Entry], tmp_path: Path) -> None:
    strengths: list[float] = []

    def vary(batch: Tensor, strength: float) -> Tensor:
        strengths.append(strength)
        return batch

    train(entries, tmp_path, vary_faces=vary)
    assert strengths == [1.0] * 2 + [train_face.FINISH_STRENGTH] * 2


def test_the_optimizer_follows_the_learning_rate(
    entries: list[Entry], whole: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        train(entries, tmp_path, vary_faces=killed_in_batch(3))
    for out, epoch in ((tmp_path, 1), (whole, 2)):
        rates = {group["lr"] for group in last(out)["optimizer"]["param_groups"]}
        np.testing.assert_allclose(list(rates), learning_rate(epoch, OPTIONS), atol=1e-12)


@given(epochs=st.integers(1, 60), finish=st.integers(1, 20), share=st.floats(0, 1))
def test_the_learning_rate_rises_and_falls_to_nothing_twice(
    epochs: int, finish: int, share: float
) -> None:
    options = FaceOptions(epochs, finish)
    top = epochs / 20

    def rate(epoch: float) -> float:
        assert 0 <= learning_rate(epoch, options) <= train_face.LEARNING_RATE
        return learning_rate(epoch, options)

    assert rate(0) == 0
    assert rate(share * top) == pytest.approx(share * train_face.LEARNING_RATE)
    assert rate((top + epochs) / 2) == pytest.approx(train_face.LEARNING_RATE / 2)  # of a cosine
    assert rate(epochs - 1e-9) == pytest.approx(0, abs=1e-6)
    assert rate(epochs) == pytest.approx(train_face.FINISH_LEARNING_RATE)
    assert rate(epochs + finish / 2) == pytest.approx(train_face.FINISH_LEARNING_RATE / 2)
    assert rate(epochs + finish) == pytest.approx(0, abs=1e-9)
    falling = [rate(top + step * (epochs - top) / 50) for step in range(50)]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize("options", [FaceOptions(0, 2), FaceOptions(2, 0)])
def test_either_part_may_be_left_out(
    entries: list[Entry], tmp_path: Path, options: FaceOptions
) -> None:
    assert [record["epoch"] for record in train(entries, tmp_path, options)] == [1, 2]
    assert (tmp_path / FER_FACE).exists()
    rates = {group["lr"] for group in last(tmp_path)["optimizer"]["param_groups"]}
    assert max(rates) <= train_face.FINISH_LEARNING_RATE


def test_what_is_left_is_the_average_of_the_weights_on_the_way(
    entries: list[Entry], tmp_path: Path
) -> None:
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
    train(entries, tmp_path, **patches)
    assert len(states) == 2 * (7 * EACH // BATCH)
    states.append(last(tmp_path)["model"])
    final = load_file(tmp_path / FER_FACE)
    assert final["encoder.stem.0.1.num_batches_tracked"] == len(states) - 1
    for name in ("classifier.bias", "encoder.stem.0.0.weight", "encoder.stem.0.1.running_var"):
        mean = states[0][name]
        for state in states[1:]:
            mean = 0.7 * mean + 0.3 * state[name]
        torch.testing.assert_close(final[name], mean, atol=1e-5, rtol=1e-4)
        assert (mean - states[-1][name]).abs().max() > 1e-4  # or the test would prove nothing


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_nothing_but_the_training_pictures_is_trained_on(
    entries: list[Entry], tmp_path: Path
) -> None:
    seen: list[np.ndarray] = []
    vary_faces = train_face.vary_faces

    def watched(batch: Tensor, strength: float) -> Tensor:
        seen.append(batch.numpy().astype(np.uint8))
        return vary_faces(batch, strength)

    train(entries, tmp_path, vary_faces=watched)
    trained_on = {image.tobytes() for image in np.concatenate(seen)[:, 0]}
    allowed = read_faces([listed for listed in entries if listed.split == "train"])
    assert trained_on <= {image.tobytes() for image in allowed.images}
    assert len(trained_on) >= 16  # an epoch's


def test_the_accuracy_told_is_that_of_the_weights_left(entries: list[Entry], whole: Path) -> None:
    classifier = FaceClassifier()
    classifier.load_state_dict(load_file(whole / FER_FACE))
    valid = read_faces([listed for listed in entries if listed.split == "test"])
    logits = predict(classifier, valid)
    assert logits.shape == (14, 7)
    accuracy = (logits.argmax(1) == valid.labels).mean()
    assert log(whole)[-1]["valid_accuracy"] == pytest.approx(accuracy)


def test_without_test_pictures_no_accuracy_is_told(entries: list[Entry], tmp_path: Path) -> None:
    listed = [e for e in entries if e.split == "train"]
    (record,) = train(listed, tmp_path, FaceOptions(1, 0))
    assert record.keys() == {"epoch", "loss", "seconds"}


def test_the_file_left_is_the_backbone_s(entries: list[Entry], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_face, "FerResnet", FerResnet)
        train(entries, tmp_path, FaceOptions(0, 1))
        classifier = FaceClassifier().eval()
    classifier.load_state_dict(load_file(tmp_path / FER_FACE))
    encoder = FACE_BACKBONES["fer-resnet"].load(tmp_path)
    batch = as_batch(read_faces(entries).images)
    with torch.inference_mode():
        embedded = encoder(batch)
        torch.testing.assert_close(embedded, classifier.encoder(batch))
        torch.testing.assert_close(classifier.classifier(embedded), classifier(batch))
    assert embedded.shape == (len(entries), 192) and embedded.std() > 0


class TestTeacher:
    @pytest.fixture
    def teacher(self) -> FaceClassifier:
        """A network with strong opinions."""
        torch.manual_seed(4)
        classifier = FaceClassifier().eval()
        nn.init.normal_(classifier.classifier.weight, std=30)
        return classifier

    def test_without_one_a_target_is_the_label_smoothed(self, entries: list[Entry]) -> None:
        shown = read_faces(entries)
        targets = targets_of(shown)
        assert targets.dtype == np.float32
        np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
        own = targets[np.arange(len(shown)), shown.labels]
        np.testing.assert_allclose(own, 0.9 + 0.1 / 7, rtol=1e-6)
        np.testing.assert_allclose(np.sort(targets, 1)[:, :-1], 0.1 / 7, rtol=1e-6)

    def test_half_of_a_target_is_the_teacher_s_opinion(
        self, entries: list[Entry], teacher: FaceClassifier
    ) -> None:
        shown = read_faces(entries)
        targets = targets_of(shown, teacher)
        np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)
        opinion = 2 * targets - targets_of(shown)
        with torch.inference_mode():
            thought = teacher(torch.from_numpy(shown.images)[:, None].float()).softmax(1)
        np.testing.assert_allclose(opinion, thought, atol=1e-5)

    def test_training_starts_from_it_and_learns_from_it(
        self, entries: list[Entry], teacher: FaceClassifier, tmp_path: Path
    ) -> None:
        save_file(teacher.state_dict(), tmp_path / FER_FACE)
        learned: list[np.ndarray] = []
        starts: list[dict[str, Tensor]] = []

        def watched(model: nn.Module, *rest: Any) -> float:
            starts.append(copied(model))
            learned.append(rest[4])
            return 0.0

        train(entries, tmp_path / "run", OPTIONS, tmp_path / FER_FACE, train_epoch=watched)
        for name, value in teacher.state_dict().items():
            assert torch.equal(starts[0][name], value), name
        shown = read_faces([listed for listed in entries if listed.split == "train"])
        np.testing.assert_array_equal(learned[0], targets_of(shown, teacher))

    def test_a_run_with_it_goes_on_after_a_kill(
        self, entries: list[Entry], whole: Path, tmp_path: Path
    ) -> None:
        rest = (OPTIONS, whole / FER_FACE)
        train(entries, tmp_path / "whole", *rest)
        with pytest.raises(Killed):
            train(entries, tmp_path / "killed", *rest, vary_faces=killed_in_batch(4))
        train(entries, tmp_path / "killed", *rest)
        assert_same_weights(tmp_path / "killed", tmp_path / "whole")

    def test_what_is_no_such_network_is_a_clear_error(
        self, entries: list[Entry], tmp_path: Path
    ) -> None:
        save_file(FaceClassifier().encoder.state_dict(), tmp_path / "encoder.safetensors")
        for name in ("encoder.safetensors", "nowhere.safetensors"):
            with pytest.raises(CheckpointError, match=name):
                train(entries, tmp_path / "run", OPTIONS, tmp_path / name)


def test_pictures_are_read_with_their_labels(entries: list[Entry]) -> None:
    shown = read_faces(entries)
    assert len(shown) == len(entries)
    assert shown.images.dtype == np.uint8 and shown.labels.dtype == np.int64
    assert shown.labels.tolist() == [*range(7)] * (EACH + 2) + [0]
    for image, listed in zip(shown.images, entries, strict=True):
        np.testing.assert_array_equal(image, cv2.imread(str(listed.path), cv2.IMREAD_GRAYSCALE))
    eight = read_faces([replace(entries[0], label=emotion) for emotion in EMOTIONS])
    assert [FACE_EMOTIONS[label] for label in eight.labels] == list(FACE_OF_EMOTION.values())


def test_a_picture_that_is_none_is_a_clear_error(entries: list[Entry], tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"x\.png: not a picture"):
        read_faces([replace(entries[0], path=tmp_path / "x.png")])


@pytest.mark.parametrize("count", [0, BATCH - 1])
def test_too_few_pictures_are_a_clear_error(
    entries: list[Entry], tmp_path: Path, count: int
) -> None:
    listed = entries[:count] + entries[7 * EACH :]
    message = f"{count} training pictures do not fill one batch of {BATCH}"
    with pytest.raises(DatasetError, match=message):
        train(listed, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_batch_is_grey_pictures_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 48)).astype(np.uint8)
    batch = as_batch(images)
    assert batch.shape == (3, 1, 48, 48)
    np.testing.assert_array_equal(batch[:, 0].numpy(), images)
