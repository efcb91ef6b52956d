"""A synthetic FER-2013, and short trainings of a small face network on it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.train.synthetic import entry, face_image
from train.data import examples as examples_module
from train.data.index import Entry
from train.labels import FACE_EMOTIONS, FACE_OF_EMOTION
from train.models import face_classifier
from train.models.fer_resnet import FerResnet, ResidualBlock
from train.models.registry import FER_FACE
from train.train_face import (
    TRAINING,
    FaceOptions,
    train_faces,
)

BATCH = 8
EACH = 3  # training images of an emotion: 2 steps an epoch
OPTIONS = FaceOptions(replace(TRAINING, batch=BATCH, keep="last")).with_epochs(1, 1)
EMOTION_OF_FACE = {face: emotion for emotion, face in FACE_OF_EMOTION.items() if emotion != "calm"}


class SmallEncoder(FerResnet):
    """The face network with one of its blocks: a tenth of the time."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(ResidualBlock(48, FerResnet.width, 4))


@pytest.fixture(scope="module")
def small_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(face_classifier, "FerResnet", SmallEncoder)
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
        listed = entry(path, "image", emotion, dataset="fer2013", split=split)
        yield replace(listed, content="00000001" + listed.content[8:])


def held_out(entry: Entry) -> Entry:
    """The same as an image that selects the epoch."""
    return replace(entry, content="00000000" + entry.content[8:])


def is_held_out(entry: Entry) -> bool:
    return entry.split == "train" and entry.content.startswith("00000000")


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Images of both splits, those that select the epoch, and one of neither split."""
    folder = tmp_path_factory.mktemp("FER2013")
    train, test = album(folder / "train", "train", EACH, 2), album(folder / "test", "test", 2, 1)
    held = map(held_out, album(folder / "held", "train", 1, 3))
    listed = [*train, *test, *held]
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
        if vary_faces is unchanged:
            patch.setattr(examples_module, "damage_faces", unchanged)
        train_faces(entries, out, options, say=printed.append)
    return [record for record in map(json.loads, printed) if "epoch" in record]


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
def unbroken(
    small_network: None, entries: list[Entry], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("faces") / "deep" / "run"
    train(entries, out)
    return out


def last(out: Path) -> dict[str, Any]:
    return torch.load(out / "last.pt", weights_only=True)


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def assert_same_weights(out: Path, expected: Path) -> None:
    ours, theirs = load_file(out / FER_FACE), load_file(expected / FER_FACE)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def copied(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
