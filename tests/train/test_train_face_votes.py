"""The face network's training on FER+ votes, and from an earlier network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from tests.train.face_training import (
    BATCH,
    OPTIONS,
    Killed,
    assert_same_weights,
    is_held_out,
    killed_in_batch,
    log,
    train,
)
from train.data.index import Entry
from train.errors import TrainError
from train.faces.objective import TwoHeads
from train.labels import EMOTIONS, FACE_EMOTIONS
from train.models.face_classifier import HeadLogits
from train.models.registry import FER_FACE
from train.train_face import FINE_TUNING, FROZEN, FULL, LAST, FaceData, FaceOptions

pytestmark = pytest.mark.usefixtures("small_network")


def with_votes(entry: Entry, **votes: int) -> Entry:
    return replace(entry, votes=tuple(votes.get(emotion, 0) for emotion in EMOTIONS))


@pytest.fixture(scope="module")
def voted(entries: list[Entry]) -> list[Entry]:
    """Every image with eight votes for its label and two for sad or neutral."""
    return [
        with_votes(e, **{e.label: 8, "neutral" if e.label == "sad" else "sad": 2}) for e in entries
    ]


def shown(entries: list[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry.split == "train"]


def test_targets_are_votes_and_labels_are_smoothed(voted: list[Entry]) -> None:
    data = FaceData.read(shown(voted))
    assert data.examples.targets is not None
    np.testing.assert_allclose(data.examples.targets.max(1), 0.8, rtol=1e-6)
    np.testing.assert_allclose(data.label_targets.max(1), 0.9 + 0.1 / 7, rtol=1e-6)
    assert (data.examples.labels == data.label_targets.argmax(1)).all()


def test_images_without_agreement_are_left_out_and_rare_ones_shown_twice(
    voted: list[Entry],
) -> None:
    listed = shown(voted)
    torn = [with_votes(e, sad=3) if n == 1 else e for n, e in enumerate(listed)]
    torn[2] = replace(torn[2], votes=())
    data = FaceData.read(torn)
    assert len(data.examples.labels) == len(listed) - 2
    train_labels = data.examples.labels[data.split.train]
    times = dict(zip(*np.unique(train_labels, return_counts=True), strict=True))
    held = [is_held_out(e) for e in listed]
    each = (len(held) - sum(held)) // 7
    assert times[FACE_EMOTIONS.index("happy")] == each
    assert times[FACE_EMOTIONS.index("fear")] == 2 * (each - 1)  # less the one without votes


def test_held_out_images_are_those_that_most_raters_agree_on(voted: list[Entry]) -> None:
    split = [
        with_votes(e, angry=5, sad=5) if is_held_out(e) and e.label != "happy" else e for e in voted
    ]
    data = FaceData.read(shown(split))
    assert [FACE_EMOTIONS[k] for k in data.examples.labels[data.split.valid]] == ["happy"]
    assert not set(data.split.valid) & set(data.split.train)


def test_the_loss_is_of_both_heads(voted: list[Entry]) -> None:
    data, indices = FaceData.read(shown(voted)), np.array([0, 3])
    random = torch.Generator().manual_seed(0)
    votes, labels = (torch.randn(2, 7, generator=random) for _ in range(2))
    heads = HeadLogits(votes, labels)
    objective = TwoHeads(
        data.examples, data.label_targets, data.split.train, OPTIONS.training, label_weight=0.4
    )
    logits, loss = objective.loss(lambda _: heads, votes, indices)
    assert data.examples.targets is not None
    expected: Tensor = F.cross_entropy(votes, torch.from_numpy(data.examples.targets[indices]))
    expected += 0.4 * F.cross_entropy(labels, torch.from_numpy(data.label_targets[indices]))
    torch.testing.assert_close(loss, expected)
    assert logits is votes


def test_accuracy_is_of_the_majority_and_of_the_labels(voted: list[Entry], tmp_path: Path) -> None:
    train(voted, tmp_path)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["fer_plus_images"] == figures["fer_2013_images"] == 14
    assert 0 <= figures["fer_plus_majority"] <= 1 and 0 <= figures["fer_2013"] <= 1
    assert figures["fer_plus_recall"] == pytest.approx(figures["fer_plus_majority"])


def test_other_votes_are_another_training(voted: list[Entry], tmp_path: Path) -> None:
    train(voted, tmp_path)
    other = [with_votes(e, **{e.label: 7, "sad": 3}) for e in voted]
    with pytest.raises(TrainError, match="the state of another training"):
        train(other, tmp_path)


class TestStart:
    @pytest.fixture
    def options(self, unbroken: Path) -> FaceOptions:
        options = FaceOptions.from_network(unbroken / FER_FACE, frozen=1, full=3)
        return replace(options, training=replace(options.training, batch=BATCH, keep="last"))

    def test_first_layers_are_frozen_in_the_first_epochs(
        self, voted: list[Entry], unbroken: Path, options: FaceOptions, tmp_path: Path
    ) -> None:
        still = replace(
            options, training=replace(options.training, epochs=1), frozen_epochs=1, mild_epochs=0
        )
        train(voted, tmp_path / "frozen", still)
        train(voted, tmp_path / "all", options)
        start = load_file(unbroken / FER_FACE)
        for name, unchanged in (("frozen", True), ("all", False)):
            end = load_file(tmp_path / name / FER_FACE)
            for key in ("encoder.stem.0.0.weight", "encoder.stem.0.1.running_mean"):
                assert torch.equal(end[key], start[key]) == unchanged
            assert not torch.equal(end["votes.weight"], start["votes.weight"])

    def test_a_killed_run_ends_with_the_same_weights(
        self, voted: list[Entry], options: FaceOptions, tmp_path: Path
    ) -> None:
        train(voted, tmp_path / "whole", options)
        with pytest.raises(Killed):
            train(voted, tmp_path / "killed", options, killed_in_batch(5))
        assert len(log(tmp_path / "killed")) == 1
        train(voted, tmp_path / "killed", options)
        assert_same_weights(tmp_path / "killed", tmp_path / "whole")

    def test_damage_falls_towards_the_end(self, options: FaceOptions) -> None:
        assert [options.strength(epoch) for epoch in (1, 2, 3, 4)] == [FROZEN, FULL, LAST, LAST]
        assert FROZEN.damage > FULL.damage > LAST.damage > 0

    def test_one_cosine_without_a_second(self) -> None:
        assert FINE_TUNING.finish_epochs == 0 and FINE_TUNING.average_warmup

    def test_the_encoder_kept_lies_between_the_two(
        self, voted: list[Entry], unbroken: Path, options: FaceOptions, tmp_path: Path
    ) -> None:
        train(voted, tmp_path / "new", options)
        train(voted, tmp_path / "mixed", replace(options, new_share=0.5))
        start, new, mixed = (
            load_file(path / FER_FACE) for path in (unbroken, tmp_path / "new", tmp_path / "mixed")
        )
        name = "encoder.blocks.0.first.0.weight"
        torch.testing.assert_close(mixed[name], (start[name] + new[name]) / 2)
        assert not torch.equal(mixed["votes.weight"], new["votes.weight"])
