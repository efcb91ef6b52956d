"""The face network's two classifiers, and the files that they start from."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from train.models.emotion_model import CHECKPOINT, load_model
from train.models.face_classifier import (
    FaceClassifier,
    fit_heads,
    load_classifier,
    mix_encoders,
)
from train.models.weights import CheckpointError

FACES = torch.randint(0, 256, (5, 1, 48, 48), generator=torch.Generator().manual_seed(0)).float()


@pytest.fixture(scope="module")
def classifier() -> FaceClassifier:
    torch.manual_seed(3)
    return FaceClassifier().eval()


def test_training_gives_both_heads_and_evaluation_the_votes(classifier: FaceClassifier) -> None:
    with torch.no_grad():
        both = classifier.heads(FACES)
        assert both.votes.shape == both.labels.shape == (5, 7)
        assert torch.equal(classifier(FACES), both.votes)
        trained = FaceClassifier().train()(FACES)
    assert {name: value.shape for name, value in trained._asdict().items()} == {
        "votes": (5, 7), "labels": (5, 7),
    }  # fmt: skip


def test_frozen_layers_keep_weights_and_statistics() -> None:
    torch.manual_seed(0)
    model = FaceClassifier()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.freeze(True)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    heads = model(FACES)
    (heads.votes.square().mean() + heads.labels.square().mean()).backward()
    optimizer.step()
    changed = {n for n, value in model.state_dict().items() if not torch.equal(value, before[n])}
    first = ("encoder.stem", "encoder.blocks.0", "encoder.blocks.1")
    assert not {name for name in changed if name.startswith(first)}
    assert {"votes.weight", "labels.weight", "encoder.blocks.5.second.1.running_mean"} <= changed
    model.freeze(False)
    model.train()
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_a_network_is_read_back(classifier: FaceClassifier, tmp_path: Path) -> None:
    save_file(classifier.state_dict(), tmp_path / "face.safetensors")
    loaded = load_classifier(tmp_path / "face.safetensors").eval()
    with torch.no_grad():
        assert torch.equal(loaded(FACES), classifier(FACES))


def test_both_heads_start_from_the_one_of_an_earlier_network(
    classifier: FaceClassifier, tmp_path: Path
) -> None:
    state = {n: v for n, v in classifier.state_dict().items() if n.startswith("encoder.")}
    state["classifier.weight"], state["classifier.bias"] = torch.ones(7, 192), torch.arange(7.0)
    save_file(state, tmp_path / "face.safetensors")
    loaded = load_classifier(tmp_path / "face.safetensors").eval()
    with torch.no_grad():
        votes, labels = loaded.heads(FACES)
    assert torch.equal(votes, labels)
    torch.testing.assert_close(votes.diff(), torch.ones(5, 6), atol=1e-3, rtol=0)


def test_the_face_network_of_a_model_is_taken_with_new_heads() -> None:
    loaded, model = load_classifier(CHECKPOINT).eval(), load_model(CHECKPOINT)
    with torch.no_grad():
        torch.testing.assert_close(loaded.encoder(FACES), model.face(FACES))
        assert not loaded(FACES).any()


def test_other_weights_are_a_clear_error(tmp_path: Path) -> None:
    save_file({"encoder.stem.0.0.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"other\.safetensors: not the weights"):
        load_classifier(tmp_path / "other.safetensors")


def test_encoders_are_mixed_and_both_heads_fitted_anew(classifier: FaceClassifier) -> None:
    torch.manual_seed(8)
    start, model = FaceClassifier().eval(), copy.deepcopy(classifier)
    mix_encoders(model, start, 0.25)
    for name, value in model.encoder.state_dict().items():
        new, old = classifier.encoder.state_dict()[name], start.encoder.state_dict()[name]
        expected = 0.25 * new + 0.75 * old if value.is_floating_point() else new
        torch.testing.assert_close(value, expected)
    with torch.no_grad():
        embedded = model.encoder(FACES)
    votes, labels = torch.eye(7)[:5], torch.eye(7)[2:]
    fit_heads(model, embedded, votes, labels, decay=1e-5)
    with torch.no_grad():
        heads = model.heads(FACES)
    assert torch.equal(heads.votes.argmax(1), votes.argmax(1))
    assert torch.equal(heads.labels.argmax(1), labels.argmax(1))
