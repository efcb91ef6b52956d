"""Images, targets and teacher of the face network's training."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.train.face_training import (
    BATCH,
    EACH,
    OPTIONS,
    Killed,
    assert_same_weights,
    copied,
    is_held_out,
    killed_in_batch,
    train,
)
from train import train_face
from train.data import examples as examples_module
from train.data.index import DatasetError, Entry
from train.errors import TrainError
from train.faces.objective import TwoHeads
from train.labels import EMOTIONS, FACE_EMOTIONS, FACE_OF_EMOTION
from train.models import face_classifier
from train.models.face_classifier import FaceClassifier
from train.models.fer_resnet import FerResnet
from train.models.registry import FACE_BACKBONES, FER_FACE
from train.models.weights import CheckpointError
from train.train_face import FaceData, FaceOptions, read_faces

pytestmark = pytest.mark.usefixtures("small_network")


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
        (entries, replace(OPTIONS, mixed=0.5)),
        (entries, replace(OPTIONS, teachers=(unbroken / FER_FACE,))),
    ]
    before = (run / "last.pt").read_bytes()
    for listed, options in attempts:
        with pytest.raises(TrainError, match=r"last\.pt: the state of another training"):
            train(listed, run, options)
    assert (run / "last.pt").read_bytes() == before
    moved = [replace(listed, actor="somebody") for listed in entries]
    assert train(moved, run) == []  # nothing that matters has changed


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
    allowed = read_faces(trained_on_images(entries))
    assert trained_on <= {image.tobytes() for image in allowed.faces}
    assert len(trained_on) >= 16  # an epoch's


def trained_on_images(entries: list[Entry]) -> list[Entry]:
    return [e for e in entries if e.split == "train" and not is_held_out(e)]


def test_without_held_out_images_the_last_epoch_is_kept(
    entries: list[Entry], tmp_path: Path
) -> None:
    training = replace(OPTIONS.training, keep="best")
    options = replace(OPTIONS, training=training).with_epochs(1, 0)
    (record,) = train(trained_on_images(entries), tmp_path, options)
    assert record["valid_accuracy"] is None and record["valid_loss"] is None
    assert not (tmp_path / "figures.json").exists()  # without test images


def test_the_file_left_is_the_backbone_s(entries: list[Entry], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(face_classifier, "FerResnet", FerResnet)
        train(entries, tmp_path, OPTIONS.with_epochs(0, 1))
        classifier = FaceClassifier().eval()
    classifier.load_state_dict(load_file(tmp_path / FER_FACE))
    encoder = FACE_BACKBONES["fer-resnet"].load(tmp_path)
    batch = read_faces(entries).batch(np.arange(len(entries)), None)
    with torch.inference_mode():
        embedded = encoder(batch)
        torch.testing.assert_close(embedded, classifier.encoder(batch))
        torch.testing.assert_close(classifier.votes(embedded), classifier(batch))
    assert embedded.shape == (len(entries), 192) and embedded.std() > 0


def test_without_a_teacher_a_target_is_the_label_smoothed(entries: list[Entry]) -> None:
    data = FaceData.read(trained_on_images(entries))
    targets = data.label_targets
    assert targets.dtype == np.float32
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    own = targets[np.arange(len(targets)), data.examples.labels]
    np.testing.assert_allclose(own, 0.9 + 0.1 / 7, rtol=1e-6)
    np.testing.assert_allclose(np.sort(targets, 1)[:, :-1], 0.1 / 7, rtol=1e-6)


class TestTeachers:
    def test_training_starts_from_the_first_and_learns_from_all(
        self, entries: list[Entry], tmp_path: Path
    ) -> None:
        paths = []
        for number in range(2):
            torch.manual_seed(number)
            teacher = FaceClassifier()
            nn.init.normal_(teacher.labels.weight, std=30)  # a network with strong opinions
            paths.append(tmp_path / f"{number}.safetensors")
            save_file(teacher.state_dict(), paths[-1])
        starts: list[dict[str, Tensor]] = []
        losses: list[float] = []

        def watched(model: nn.Module, *_: Any, objective: TwoHeads, **__: Any) -> None:
            (tmp_path / "run").mkdir(exist_ok=True)
            starts.append(copied(model))
            faces = read_faces(entries[:BATCH]).batch(np.arange(BATCH), None)
            loss = objective.loss(model.eval().heads, faces, np.arange(BATCH))[1]
            losses.append(loss.item())

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train_face, "train", watched)
            for chosen in (paths[:1], paths, paths[::-1]):
                train(entries, tmp_path / "run", replace(OPTIONS, teachers=tuple(chosen)))
        for start, path in zip(starts, (paths[0], paths[0], paths[1]), strict=True):
            for name, value in load_file(path).items():
                assert torch.equal(start[name], value), name
        # A network agrees with itself; another one's strong opinions are far from its own.
        assert losses[1] > losses[0] + 1 and losses[2] > losses[0] + 1

    def test_a_run_with_it_goes_on_after_a_kill(
        self, entries: list[Entry], unbroken: Path, tmp_path: Path
    ) -> None:
        options = replace(OPTIONS, teachers=(unbroken / FER_FACE,))
        train(entries, tmp_path / "whole", options)
        with pytest.raises(Killed):
            train(entries, tmp_path / "killed", options, killed_in_batch(4))
        train(entries, tmp_path / "killed", options)
        assert_same_weights(tmp_path / "killed", tmp_path / "whole")

    def test_another_network_s_file_is_a_clear_error(
        self, entries: list[Entry], tmp_path: Path
    ) -> None:
        save_file(FaceClassifier().encoder.state_dict(), tmp_path / "encoder.safetensors")
        for name in ("encoder.safetensors", "nowhere.safetensors"):
            with pytest.raises(CheckpointError, match=name):
                train(entries, tmp_path / "run", replace(OPTIONS, teachers=(tmp_path / name,)))


def test_images_are_read_with_their_labels(entries: list[Entry]) -> None:
    shown = read_faces(entries)
    assert shown.faces.dtype == np.uint8 and shown.labels.dtype == np.int64
    assert shown.labels.tolist() == [*range(7)] * (EACH + 3) + [0]
    for image, listed in zip(shown.faces, entries, strict=True):
        np.testing.assert_array_equal(image, cv2.imread(str(listed.path), cv2.IMREAD_GRAYSCALE))
    eight = read_faces([replace(entries[0], label=emotion) for emotion in EMOTIONS])
    assert [FACE_EMOTIONS[label] for label in eight.labels] == list(FACE_OF_EMOTION.values())


def test_a_damaged_image_is_a_clear_error(entries: list[Entry], tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"x\.png: not an? (image|picture)"):
        read_faces([replace(entries[0], path=tmp_path / "x.png")])


@pytest.mark.parametrize("count", [0, BATCH - 1])
def test_too_few_images_are_a_clear_error(entries: list[Entry], tmp_path: Path, count: int) -> None:
    listed = entries[:count] + [e for e in entries[7 * EACH :] if e.split == "test"]
    message = f"{count} training images do not fill one batch of {BATCH}"
    with pytest.raises(DatasetError, match=message):
        train(listed, tmp_path / "run")
    assert not (tmp_path / "run").exists()
