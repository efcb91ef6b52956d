"""Training of the face network on a synthetic FER-2013."""

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
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.train.synthetic import entry, face_image
from train import train_face
from train.data import examples as examples_module
from train.data.batches import Split, predict
from train.data.examples import FaceImages
from train.data.index import DatasetError, Entry
from train.errors import TrainError
from train.labels import EMOTIONS, FACE_EMOTIONS, FACE_OF_EMOTION
from train.models.fer_resnet import FerResnet, ResidualBlock
from train.models.registry import FACE_BACKBONES, FER_FACE
from train.models.weights import CheckpointError
from train.options import cosine_factor
from train.train_face import (
    TRAINING,
    FaceClassifier,
    FaceOptions,
    read_faces,
    soft_targets,
    train_faces,
)

BATCH = 8
EACH = 3  # training images of an emotion: 2 steps an epoch
OPTIONS = FaceOptions(replace(TRAINING, batch=BATCH)).with_epochs(1, 1)
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
    """Write so many images of each emotion."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(7 * each):
        label = number % 7
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), face_image(label, random))
        emotion = EMOTION_OF_FACE[FACE_EMOTIONS[label]]
        yield entry(path, "image", emotion, dataset="fer2013", split=split)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Pictures of both splits, and one of neither."""
    folder = tmp_path_factory.mktemp("FER2013")
    train, test = album(folder / "train", "train", EACH, 2), album(folder / "test", "test", 2, 1)
    listed = [*train, *test]
    return [*listed, replace(listed[0], split="")]


def train(
    entries: list[Entry],
    out: Path,
    options: FaceOptions = OPTIONS,
    vary_faces: Callable[..., Tensor] | None = None,
) -> list[dict[str, float]]:
    """Train in small batches; give the epochs' figures as printed."""
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        if vary_faces is not None:
            patch.setattr(examples_module, "vary_faces", vary_faces)
        train_faces(entries, out, options, say=printed.append)
    return [json.loads(line) for line in printed]


class Killed(BaseException):
    """The process ends here."""


def killed_in_batch(number: int) -> Callable[..., Tensor]:
    """The random changes to faces, with the process killed in one batch's."""
    vary_faces, calls = examples_module.vary_faces, itertools.count(1)

    def vary(batch: Tensor, strength: float) -> Tensor:
        if next(calls) == number:
            raise Killed
        return vary_faces(batch, strength)

    return vary


def unchanged(batch: Tensor, strength: float) -> Tensor:
    return batch


@pytest.fixture(scope="module")
def unbroken(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Path:
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


def test_a_run_of_another_schedule_or_other_images_is_refused(
    entries: list[Entry], unbroken: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    other = [replace(entries[0], path=entries[7].path), *entries[1:]]  # of the same emotion
    relabelled = [replace(entries[0], label="sad"), *entries[1:]]
    attempts: list[tuple[list[Entry], FaceOptions]] = [
        (other, OPTIONS),
        (relabelled, OPTIONS),
        (entries[1:], OPTIONS),
        (entries, OPTIONS.with_epochs(2, 1)),
        (entries, OPTIONS.with_epochs(1, 2)),
        (entries, replace(OPTIONS, seed=1)),
        (entries, replace(OPTIONS, teacher=unbroken / FER_FACE)),
    ]
    before = (run / "last.pt").read_bytes()
    for listed, options in attempts:
        with pytest.raises(TrainError, match=r"last\.pt: the state of another training"):
            train(listed, run, options)
    assert (run / "last.pt").read_bytes() == before
    moved = [replace(listed, actor="somebody") for listed in entries]
    assert train(moved, run) == []  # nothing that matters has changed


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

    monkeypatch.setitem(globals(), "face_image", striped)
    train_set = album(tmp_path / "train", "train", 8, seed=0)
    listed = [*train_set, *album(tmp_path / "test", "test", 4, seed=1)]
    training = replace(
        OPTIONS.training, learning_rate=0.05, finish_learning_rate=0.02, average_decay=0.6
    )
    options = FaceOptions(training).with_epochs(3, 2)
    records = train(listed, tmp_path / "run", options, unchanged)
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
    train(entries, tmp_path, FaceOptions(replace(OPTIONS.training, average_decay=0.7)), vary)
    assert len(states) == 2 * (7 * EACH // BATCH)
    states.append(last(tmp_path)["model"])
    final = load_file(tmp_path / FER_FACE)
    assert final["encoder.stem.0.1.num_batches_tracked"] == len(states) - 1
    for name in ("classifier.bias", "encoder.stem.0.0.weight", "encoder.stem.0.1.running_var"):
        mean = states[1][name]  # the average starts with the first step's weights
        for state in states[2:]:
            mean = 0.7 * mean + 0.3 * state[name]
        torch.testing.assert_close(final[name], mean, atol=1e-5, rtol=1e-4)
        assert (mean - states[-1][name]).abs().max() > 1e-4  # or the test would prove nothing


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_nothing_but_the_training_images_is_trained_on(
    entries: list[Entry], tmp_path: Path
) -> None:
    seen: list[np.ndarray] = []
    vary_faces = examples_module.vary_faces

    def watched(batch: Tensor, strength: float) -> Tensor:
        seen.append(batch.numpy().astype(np.uint8))
        return vary_faces(batch, strength)

    train(entries, tmp_path, vary_faces=watched)
    trained_on = {image.tobytes() for image in np.concatenate(seen)[:, 0]}
    allowed = read_faces([listed for listed in entries if listed.split == "train"])
    assert trained_on <= {image.tobytes() for image in allowed.faces}
    assert len(trained_on) >= 16  # an epoch's


def test_the_accuracy_told_is_that_of_the_weights_left(
    entries: list[Entry], unbroken: Path
) -> None:
    classifier = FaceClassifier()
    classifier.load_state_dict(load_file(unbroken / FER_FACE))
    valid = read_faces([listed for listed in entries if listed.split == "test"])
    logits = predict(classifier, valid, np.arange(14))
    assert logits.shape == (14, 7)
    accuracy = (logits.argmax(1) == valid.labels).mean()
    assert log(unbroken)[-1]["valid_accuracy"] == pytest.approx(accuracy)


def test_without_test_images_no_accuracy_is_told(entries: list[Entry], tmp_path: Path) -> None:
    listed = [e for e in entries if e.split == "train"]
    (record,) = train(listed, tmp_path, OPTIONS.with_epochs(1, 0))
    assert record["valid_accuracy"] is None and record["valid_loss"] is None


def test_the_file_left_is_the_backbone_s(entries: list[Entry], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_face, "FerResnet", FerResnet)
        train(entries, tmp_path, OPTIONS.with_epochs(0, 1))
        classifier = FaceClassifier().eval()
    classifier.load_state_dict(load_file(tmp_path / FER_FACE))
    encoder = FACE_BACKBONES["fer-resnet"].load(tmp_path)
    batch = read_faces(entries).batch(np.arange(len(entries)), None)
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
        targets = soft_targets(shown)
        assert targets.dtype == np.float32
        np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
        own = targets[np.arange(len(entries)), shown.labels]
        np.testing.assert_allclose(own, 0.9 + 0.1 / 7, rtol=1e-6)
        np.testing.assert_allclose(np.sort(targets, 1)[:, :-1], 0.1 / 7, rtol=1e-6)

    def test_half_of_a_target_is_the_teacher_s_opinion(
        self, entries: list[Entry], teacher: FaceClassifier
    ) -> None:
        shown = read_faces(entries)
        targets = soft_targets(shown, teacher)
        np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-5)
        opinion = 2 * targets - soft_targets(shown)
        with torch.inference_mode():
            thought = teacher(torch.from_numpy(shown.faces)[:, None].float()).softmax(1)
        np.testing.assert_allclose(opinion, thought, atol=1e-5)

    def test_training_starts_from_it_and_learns_from_it(
        self, entries: list[Entry], teacher: FaceClassifier, tmp_path: Path
    ) -> None:
        save_file(teacher.state_dict(), tmp_path / FER_FACE)
        learned: list[np.ndarray] = []
        starts: list[dict[str, Tensor]] = []

        def watched(
            model: nn.Module, examples: FaceImages, split: Split, *_: Any, **__: Any
        ) -> None:
            starts.append(copied(model))
            assert examples.targets is not None
            learned.append(examples.targets[split.train])

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train_face, "train", watched)
            train(entries, tmp_path / "run", replace(OPTIONS, teacher=tmp_path / FER_FACE))
        for name, value in teacher.state_dict().items():
            assert torch.equal(starts[0][name], value), name
        shown = read_faces([listed for listed in entries if listed.split == "train"])
        np.testing.assert_allclose(learned[0], soft_targets(shown, teacher), atol=1e-6)

    def test_a_run_with_it_goes_on_after_a_kill(
        self, entries: list[Entry], unbroken: Path, tmp_path: Path
    ) -> None:
        options = replace(OPTIONS, teacher=unbroken / FER_FACE)
        train(entries, tmp_path / "whole", options)
        with pytest.raises(Killed):
            train(entries, tmp_path / "killed", options, killed_in_batch(4))
        train(entries, tmp_path / "killed", options)
        assert_same_weights(tmp_path / "killed", tmp_path / "whole")

    def test_what_is_no_such_network_is_a_clear_error(
        self, entries: list[Entry], tmp_path: Path
    ) -> None:
        save_file(FaceClassifier().encoder.state_dict(), tmp_path / "encoder.safetensors")
        for name in ("encoder.safetensors", "nowhere.safetensors"):
            with pytest.raises(CheckpointError, match=name):
                train(entries, tmp_path / "run", replace(OPTIONS, teacher=tmp_path / name))


def test_images_are_read_with_their_labels(entries: list[Entry]) -> None:
    shown = read_faces(entries)
    assert shown.faces.dtype == np.uint8 and shown.labels.dtype == np.int64
    assert shown.labels.tolist() == [*range(7)] * (EACH + 2) + [0]
    for image, listed in zip(shown.faces, entries, strict=True):
        np.testing.assert_array_equal(image, cv2.imread(str(listed.path), cv2.IMREAD_GRAYSCALE))
    eight = read_faces([replace(entries[0], label=emotion) for emotion in EMOTIONS])
    assert [FACE_EMOTIONS[label] for label in eight.labels] == list(FACE_OF_EMOTION.values())


def test_an_image_that_is_none_is_a_clear_error(entries: list[Entry], tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"x\.png: not a image"):
        read_faces([replace(entries[0], path=tmp_path / "x.png")])


@pytest.mark.parametrize("count", [0, BATCH - 1])
def test_too_few_images_are_a_clear_error(entries: list[Entry], tmp_path: Path, count: int) -> None:
    listed = entries[:count] + entries[7 * EACH :]
    message = f"{count} training images do not fill one batch of {BATCH}"
    with pytest.raises(DatasetError, match=message):
        train(listed, tmp_path / "run")
    assert not (tmp_path / "run").exists()
