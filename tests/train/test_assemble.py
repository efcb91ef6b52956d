"""Putting the model together: made-up face sequences, fusion, and the checkpoint that comes out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from tests.train.made import face_picture, fer_tree, whisper_file
from train import assemble
from train.arms import VoiceArm
from train.assemble import (
    LONGEST,
    MAX_FACES,
    NEUTRAL,
    FaceViews,
    FusionWeights,
    face_sequence,
    face_views,
    fit_fusion,
    split_in_halves,
)
from train.compact import AUDIO_WIDTH, DEPTH, VISUAL_WIDTH, CompactModel, load_compact
from train.datasets import EMOTIONS, FACE_EMOTIONS, FACE_OF_EMOTION, Faces, fer2013
from train.face_encoder import FACE_EMBEDDING, FaceEncoder
from train.faces import FaceClassifier, predict
from train.fit import softmax
from train.speech_encoder import WIDTH

EACH, VIEWS = 20, 6  # faces of a label, and views of a face, in the made FaceViews

VIEWS_BY_HAND = FaceViews(
    # A view's embedding is the number of the face and that of the view.
    np.stack(np.meshgrid(np.arange(7 * EACH), np.arange(VIEWS), indexing="ij"), -1),
    [np.arange(EACH * label, EACH * (label + 1)) for label in range(7)],
)


@dataclass(frozen=True)
class Sequence:
    """What a made-up sequence shows in each frame."""

    faces: np.ndarray
    views: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        return self.faces // EACH


def sequences(emotion: str, count: int = 300, max_faces: int = MAX_FACES) -> list[Sequence]:
    random = np.random.default_rng(0)
    made = [
        face_sequence(VIEWS_BY_HAND, EMOTIONS.index(emotion), random, max_faces)
        for _ in range(count)
    ]
    return [Sequence(*sequence.T) for sequence in made]


def stretches(values: np.ndarray) -> int:
    """How many stretches of equal values there are."""
    return 1 + int((np.diff(values) != 0).sum())


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_a_sequence_shows_its_emotion_between_neutral_ends(emotion: str) -> None:
    wanted = FACE_EMOTIONS.index(FACE_OF_EMOTION[emotion])
    for sequence in sequences(emotion):
        length = len(sequence.labels)
        assert 3 <= length <= LONGEST
        shown = np.flatnonzero(sequence.labels == wanted)
        assert len(shown) >= length / 2
        assert (np.diff(shown) == 1).all()  # in one stretch
        ends = np.delete(sequence.faces, shown)
        assert set(ends // EACH) <= {NEUTRAL}
        assert len(set(ends)) <= 1
        assert shown[0] <= length // 4
        assert length - 1 - shown[-1] <= length // 4
        assert stretches(sequence.faces[shown]) <= MAX_FACES


def test_sequences_are_of_all_lengths_faces_and_views() -> None:
    made = sequences("happy", 2000)
    assert {len(s.labels) for s in made} == set(range(3, LONGEST + 1))
    happy = FACE_EMOTIONS.index("happy")
    assert {int(f) for s in made for f in s.faces[s.labels == happy]} == set(
        range(EACH * happy, EACH * happy + EACH)
    )
    assert {int(v) for s in made for v in s.views} == set(range(VIEWS))
    numbers = {len(set(s.faces[s.labels == happy])) for s in made}
    assert numbers == {1, 2, 3}
    with_ends = np.mean([(s.labels == NEUTRAL).any() for s in made])
    assert 0.3 < with_ends < 0.5  # half of them may have ends, of no frames too
    assert any(len(set(s.views)) > 1 and len(set(s.faces)) == 1 for s in made)


def test_one_face_is_one_face() -> None:
    for sequence in sequences("sad", max_faces=1):
        assert len(set(sequence.faces[sequence.labels != NEUTRAL])) == 1


def pictures(each: int, seed: int = 0) -> Faces:
    random = np.random.default_rng(seed)
    labels = np.arange(7).repeat(each)
    return Faces(np.stack([face_picture(label, random) for label in labels]), labels)


def test_views_are_random_repeatable_and_in_the_order_of_the_faces() -> None:
    torch.manual_seed(0)
    encoder, faces = FaceEncoder(), pictures(3)
    one, again = face_views(encoder, faces, seed=1), face_views(encoder, faces, seed=1)
    other = face_views(encoder, faces, seed=2)
    assert one.embeddings.shape == (21, assemble.VIEWS, FACE_EMBEDDING)
    assert one.embeddings.dtype == np.float32
    np.testing.assert_array_equal(one.embeddings, again.embeddings)
    assert (np.abs(one.embeddings - other.embeddings).max((1, 2)) > 1e-4).all()
    assert (one.embeddings.std(1).max(1) > 1e-4).all()
    assert [list(faces.labels[shown]) for shown in one.of_label] == [[k] * 3 for k in range(7)]
    fewer = face_views(encoder, Faces(faces.images[:1], faces.labels[:1]), seed=1)
    assert fewer.embeddings.shape[0] == 1


def test_halves_share_no_face_and_lose_none() -> None:
    faces = pictures(3)
    one, other = split_in_halves(faces)
    assert abs(len(one) - len(other)) <= 1
    together = {image.tobytes() for image in np.concatenate([one.images, other.images])}
    assert len(together) == len(one) + len(other) == len(faces)
    assert all(len(set(half.labels)) == 7 for half in (one, other))


def evidence(labels: np.ndarray, strength: float, seed: int) -> np.ndarray:
    """Calibrated logits of an arm: log-likelihoods of a noisy look at the label, (n, 8)."""
    random = np.random.default_rng(seed)
    seen = strength * np.eye(8)[labels] + random.standard_normal((len(labels), 8))
    return (strength * seen).astype(np.float32)


LABELS = np.random.default_rng(5).integers(0, 8, 6000)


def accuracy(logits: np.ndarray, labels: np.ndarray = LABELS) -> float:
    return float((logits.argmax(1) == labels).mean())


def test_arms_that_err_apart_count_as_their_likelihoods_do() -> None:
    visual, audio = evidence(LABELS, 1.3, 1), evidence(LABELS, 1.7, 2)
    weights = fit_fusion(visual, 2 * audio, LABELS)  # twice as sure of itself as it should be
    assert weights.visual == pytest.approx(1, abs=0.1)
    assert weights.audio == pytest.approx(0.5, abs=0.05)
    assert np.abs(weights.bias).max() < 0.15


def test_an_arm_that_knows_nothing_counts_for_nothing() -> None:
    visual = evidence(LABELS, 1.5, 1)
    noise = np.random.default_rng(3).normal(0, 2, visual.shape).astype(np.float32)
    weights = fit_fusion(visual, noise, LABELS)
    assert abs(weights.audio) < 0.03
    assert weights.visual == pytest.approx(1, abs=0.1)
    assert accuracy(weights.logits(visual, noise)) >= accuracy(visual) - 0.01


def test_arms_that_complement_each_other_beat_each_alone() -> None:
    # One tells only the pair of labels, the other only which of the pair.
    noise = np.random.default_rng(4).normal(0, 0.3, (2, len(LABELS), 8))
    visual = (3 * (np.arange(8) // 2 == LABELS[:, None] // 2) + noise[0]).astype(np.float32)
    audio = (3 * (np.arange(8) % 2 == LABELS[:, None] % 2) + noise[1]).astype(np.float32)
    fused = fit_fusion(visual, audio, LABELS).logits(visual, audio)
    assert accuracy(visual) < 0.6
    assert accuracy(audio) < 0.4
    assert accuracy(fused) > 0.95


def test_the_bias_follows_what_is_common() -> None:
    labels = np.where(np.arange(6000) % 3 == 0, LABELS, 4)
    weights = fit_fusion(evidence(labels, 0.8, 1), evidence(labels, 0.8, 2), labels)
    assert weights.bias.argmax() == 4
    assert weights.bias[4] > 0.5


def test_fused_scores_are_of_both_classifiers_weighted() -> None:
    torch.manual_seed(0)
    model = CompactModel().eval()
    model.temperature.copy_(torch.tensor([3.0, 4.0, 0.8]))
    weights = FusionWeights(0.4, 0.9, np.linspace(-1, 1, 8).astype(np.float32))
    model.set_fusion(weights.visual, weights.audio, torch.from_numpy(weights.bias))
    visual, audio = torch.randn(5, VISUAL_WIDTH), torch.randn(5, AUDIO_WIDTH)
    with torch.inference_mode():
        v, a = model.visual.classifier(visual), model.audio.arm.classifier(audio)
        fused = model.fused_scores(visual, audio).numpy()
    expected = softmax(weights.logits(v.numpy(), a.numpy()) / 0.8)
    np.testing.assert_allclose(fused, expected, atol=1e-6)
    by_hand = 0.4 * v + 0.9 * a + torch.linspace(-1, 1, 8)
    np.testing.assert_allclose(weights.logits(v.numpy(), a.numpy()), by_hand.numpy(), atol=1e-6)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `train.faces` and `train.voices` leave, untrained, and what comes of it."""
    folder = tmp_path_factory.mktemp("assemble")
    fer_tree(folder / "FER2013" / "train", each=6, seed=1)
    fer_tree(folder / "FER2013" / "valid", each=4, seed=2)
    whisper_file(folder / "whisper.safetensors")
    for name in ("faces", "voices"):
        (folder / name).mkdir()
    torch.manual_seed(0)
    torch.save(FaceClassifier().state_dict(), folder / "faces" / "face.pt")
    arm = VoiceArm(DEPTH, WIDTH, AUDIO_WIDTH, len(EMOTIONS))
    torch.save(arm.state_dict(), folder / "voices" / "voice.pt")
    labels = np.arange(240) % 8
    np.savez(
        folder / "voices" / "unseen.npz",
        logits=3 * evidence(labels, 1.5, 1),  # thrice too sure
        labels=labels,
        actors=np.arange(240) // 10 + 1,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assemble, "STEPS", 20)
        patch.setattr(assemble, "SEQUENCES", 800)
        options = [f"--{o}={folder / o}" for o in ("faces", "voices")]
        options += ["--data", str(folder / "FER2013")]
        options += ["--whisper", str(folder / "whisper.safetensors")]
        options += ["--out", str(folder / "out" / "model.safetensors")]
        options += ["--report", str(folder / "report.json")]
        result = CliRunner().invoke(assemble.main, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder


def test_the_checkpoint_holds_what_was_trained(made: Path) -> None:
    model = load_compact(made / "out" / "model.safetensors")
    face = torch.load(made / "faces" / "face.pt", weights_only=True)
    voice = torch.load(made / "voices" / "voice.pt", weights_only=True)
    for name, value in model.face.state_dict().items():
        torch.testing.assert_close(value, face[f"encoder.{name}"], rtol=1e-3, atol=1e-6)
    for name, value in model.audio.state_dict().items():
        torch.testing.assert_close(value, voice[name], rtol=1e-3, atol=1e-6)


def test_temperatures_calibrate_each_arm(made: Path) -> None:
    model = load_compact(made / "out" / "model.safetensors")
    report = json.loads((made / "report.json").read_text())
    np.testing.assert_allclose(report["temperature"], model.temperature, rtol=1e-3)
    assert report["temperature"][1] == pytest.approx(3, rel=0.2)
    assert report["temperature"][2] == 1  # fusion is fitted to be likeliest as it is


def test_the_fused_classifier_is_the_arms_weighted_as_reported(made: Path) -> None:
    model = load_compact(made / "out" / "model.safetensors")
    fusion = json.loads((made / "report.json").read_text())["fusion"]
    visual = fusion["visual_weight"] * model.visual.classifier.weight
    audio = fusion["audio_weight"] * model.audio.arm.classifier.weight
    expected = torch.cat([visual, audio], 1)
    torch.testing.assert_close(model.fusion.weight, expected, rtol=5e-3, atol=1e-5)
    assert fusion["audio_weight"] == pytest.approx(1 / 3, rel=0.25)


def test_the_report_tells_the_accuracy_of_faces_not_trained_on(made: Path) -> None:
    report = json.loads((made / "report.json").read_text())
    valid = fer2013(made / "FER2013" / "valid")
    classifier = FaceClassifier()
    classifier.load_state_dict(torch.load(made / "faces" / "face.pt", weights_only=True))
    accuracy = (predict(classifier, valid).argmax(1) == valid.labels).mean()
    assert report["faces"]["accuracy"] == pytest.approx(accuracy)
    assert report["faces"]["majority_accuracy"] == pytest.approx(1 / 7)
    assert 0.5 < report["fusion"]["accuracy"] <= 1  # the made voices alone give 0.6
