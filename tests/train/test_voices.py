"""The audio arm's training: on a made RAVDESS, no speaker is heard before he is judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from export.assets import SILERO_VAD
from mfer_edge.audio import SpeechBuffer
from mfer_edge.engine import Engine
from mfer_edge.media import read_sound
from tests.paths import shared_data
from tests.train.made import ravdess_tree, voice, whisper_file, write_sound
from train import features, voices
from train.arms import VoiceArm
from train.compact import AUDIO_WIDTH, DEPTH, CompactModel, pool_steps
from train.datasets import EMOTIONS, LUNA_JIMENEZ_FOLDS, Recording, ravdess_speech
from train.features import VoiceFeatures, speech_of, voice_features
from train.speech_encoder import SAMPLE_RATE, WIDTH

VIEWS = 3
EPOCHS = 4


@dataclass
class Run:
    """What a run of `train.voices` was given, left, and did on the way."""

    data: Path
    whisper: Path
    out: Path
    trained: list[tuple[VoiceArm, np.ndarray]] = field(default_factory=list)
    judged: list[tuple[VoiceArm, np.ndarray]] = field(default_factory=list)

    def start(self) -> None:
        """Run the command, with an eye on what each arm hears and judges."""
        train_voice_arm, predict = voices.train_voice_arm, voices.predict

        def training(f: VoiceFeatures, labels: np.ndarray, heard: np.ndarray, *rest: Any) -> Any:
            arm = train_voice_arm(f, labels, heard, *rest)
            self.trained.append((arm, heard))
            return arm

        def judging(arm: VoiceArm, f: VoiceFeatures, recordings: np.ndarray) -> np.ndarray:
            self.judged.append((arm, recordings))
            return predict(arm, f, recordings)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(voices, "VIEWS", VIEWS)
            patch.setattr(voices, "train_voice_arm", training)
            patch.setattr(voices, "predict", judging)
            arguments = ["--data", self.data, "--whisper", self.whisper, "--out", self.out]
            options = [str(a) for a in (*arguments, "--epochs", EPOCHS)]
            result = CliRunner().invoke(voices.main, options, catch_exceptions=False)
        assert result.exit_code == 0, result.output

    @property
    def unseen(self) -> dict[str, np.ndarray]:
        return dict(np.load(self.out / "unseen.npz"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("voices")
    made = Run(
        ravdess_tree(folder / "RAVDESS"),
        whisper_file(folder / "whisper.safetensors"),
        folder / "run",
    )
    made.start()
    return made


def test_every_recording_is_judged_once_by_an_arm_that_has_not_heard_its_speaker(
    run: Run,
) -> None:
    actors = np.array([r.actor for r in ravdess_speech(run.data)])
    heard_by = {id(arm): set(actors[heard]) for arm, heard in run.trained}
    judged = np.concatenate([recordings for _, recordings in run.judged])
    assert sorted(judged) == list(range(48))
    for arm, recordings in run.judged:
        assert not heard_by[id(arm)] & set(actors[recordings])


def test_each_fold_learns_from_all_other_speakers(run: Run) -> None:
    actors = np.array([r.actor for r in ravdess_speech(run.data)])
    for fold, (_, heard) in zip(LUNA_JIMENEZ_FOLDS, run.trained, strict=False):
        assert set(actors[heard]) == set(range(1, 25)) - set(fold)
        assert len(heard) == len(set(heard)) == 48 - 2 * len(fold)
    assert len(run.trained) == 6
    assert sorted(run.trained[-1][1]) == list(range(48))  # the one that ships


def test_an_arm_learns_from_its_own_recordings_alone(run: Run) -> None:
    """The features of what it must not hear are spoilt: it comes out the same."""
    heard = run.trained[0][1]
    recordings = ravdess_speech(run.data)
    whole = voice_features(recordings, run.whisper, VIEWS, run.out / "cache")
    spoilt = np.full_like(whole.states, np.nan)
    for recording in heard:
        for view in range(VIEWS):
            end = whole.ends[recording, view]
            start = end - len(whole.view(recording, view))
            spoilt[start:end] = whole.states[start:end]
    labels = np.array([r.emotion for r in recordings])
    arm = voices.train_voice_arm(VoiceFeatures(spoilt, whole.ends), labels, heard, EPOCHS, 0)
    for one, other in zip(arm.parameters(), run.trained[0][0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_logits_left_are_those_of_the_folds(run: Run) -> None:
    recordings, unseen = ravdess_speech(run.data), run.unseen
    assert unseen["logits"].shape == (48, len(EMOTIONS))
    assert np.isfinite(unseen["logits"]).all()
    assert unseen["labels"].tolist() == [r.emotion for r in recordings]
    assert unseen["actors"].tolist() == [r.actor for r in recordings]
    whole = voice_features(recordings, run.whisper, VIEWS, run.out / "cache")
    for arm, judged in run.judged:
        with torch.inference_mode():
            alone = [arm([torch.tensor(whole.view(i, 0)).float()])[0] for i in judged]
        np.testing.assert_allclose(unseen["logits"][judged], torch.stack(alone).numpy(), atol=1e-4)


def test_the_report_counts_what_the_logits_say(run: Run) -> None:
    report, unseen = json.loads((run.out / "report.json").read_text()), run.unseen
    right = unseen["logits"].argmax(1) == unseen["labels"]
    assert [fold["recordings"] for fold in report["folds"]] == [10, 10, 10, 10, 8]
    for fold, actors in zip(report["folds"], LUNA_JIMENEZ_FOLDS, strict=True):
        test = np.isin(unseen["actors"], actors)
        assert tuple(fold["test_actors"]) == actors
        assert fold["accuracy"] == pytest.approx(right[test].mean())
    assert report["accuracy_mean"] == pytest.approx(
        np.mean([fold["accuracy"] for fold in report["folds"]])
    )
    confusion = np.array(report["confusion"])
    assert confusion.sum(1).tolist() == np.bincount(unseen["labels"], minlength=8).tolist()
    assert confusion.trace() == right.sum()
    assert report["labels"] == list(EMOTIONS)
    assert report["temperature"] > 0


def test_the_arm_left_is_the_one_that_heard_everybody(run: Run) -> None:
    left = torch.load(run.out / "voice.pt", weights_only=True)
    arm = VoiceArm(DEPTH, WIDTH, AUDIO_WIDTH, len(EMOTIONS))
    arm.load_state_dict(left)
    for one, other in zip(arm.parameters(), run.trained[-1][0].parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_second_run_takes_the_features_from_disk_and_repeats(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, files = run.unseen["logits"], sorted((run.out / "cache").iterdir())

    def never(*_: Any) -> Any:
        raise AssertionError("features were computed again")

    monkeypatch.setattr(features, "SpeechEncoder", never)
    monkeypatch.setattr(features, "speech_of", never)
    again = Run(run.data, run.whisper, run.out)
    again.start()
    np.testing.assert_array_equal(again.unseen["logits"], before)
    assert sorted((run.out / "cache").iterdir()) == files


@pytest.fixture
def recordings(tmp_path: Path) -> list[Recording]:
    return ravdess_speech(ravdess_tree(tmp_path / "RAVDESS", actors=2, takes=1))


def cached(
    recordings: list[Recording], tmp_path: Path, seed: int = 0, views: int = 2
) -> VoiceFeatures:
    whisper = whisper_file(tmp_path / f"whisper-{seed}.safetensors", seed)
    return voice_features(recordings, whisper, views, tmp_path / "cache")


def spoil_view(patch: pytest.MonkeyPatch) -> None:
    def half(speech: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return speech[: len(speech) // 2]

    patch.setattr(features, "vary_voice", half)


def test_features_of_other_weights_are_others(recordings: list[Recording], tmp_path: Path) -> None:
    one, other = cached(recordings, tmp_path), cached(recordings, tmp_path, seed=1)
    assert one.states.shape == other.states.shape
    assert np.abs(one.states.astype(float) - other.states).max() > 0.1


def test_features_of_another_recording_are_others(
    recordings: list[Recording], tmp_path: Path
) -> None:
    one = cached(recordings, tmp_path)
    assert len(cached(recordings[:1], tmp_path).ends) == 1
    assert len(cached(recordings, tmp_path, views=1).states) < len(one.states)


def test_a_cut_off_computation_is_not_taken_for_a_whole_one(
    recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save: Callable[..., None] = np.save

    def killed(path: Path, array: np.ndarray) -> None:
        save(path, array[: len(array) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(np, "save", killed)
        cached(recordings, tmp_path)
    whole = cached(recordings, tmp_path)
    assert whole.ends[-1, -1] == len(whole.states)


def test_the_first_view_is_the_recording_and_the_others_are_changes(
    recordings: list[Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil_view(monkeypatch)
    found = cached(recordings, tmp_path, views=3)
    for recording in range(2):
        lengths = [len(found.view(recording, view)) for view in range(3)]
        assert lengths[1] == lengths[2] == pytest.approx(lengths[0] / 2, abs=1)


@pytest.fixture(scope="module")
def vad() -> Engine:
    return Engine(SILERO_VAD, ["CPUExecutionProvider"], threads=1)


@pytest.mark.parametrize("name", ["03-01-05-01-01-01-01.flac", "03-01-01-01-02-02-01.flac"])
def test_training_hears_what_the_runtime_hears(name: str, vad: Engine) -> None:
    path = shared_data("RAVDESS", "Actor_01", name)
    samples = read_sound(path)
    buffer = SpeechBuffer(vad)
    for piece in np.array_split(samples, 7):
        buffer.push(piece)
    heard = buffer.speech(0, len(samples), last=True)
    assert 0.5 * SAMPLE_RATE < len(heard) < len(samples)
    np.testing.assert_array_equal(speech_of(path, vad), heard)


def test_where_no_speech_is_heard_training_takes_everything(tmp_path: Path, vad: Engine) -> None:
    quiet = np.random.default_rng(0).normal(0, 1e-3, 16_000).astype(np.float32)
    heard = speech_of(write_sound(tmp_path / "quiet.wav", quiet), vad)
    assert len(heard) == 16_000


def test_the_arm_sees_in_training_what_it_sees_on_the_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = voice(4.3)  # longer than what training takes of a recording
    monkeypatch.setattr(features, "speech_of", lambda path, vad: speech)
    recordings = ravdess_speech(ravdess_tree(tmp_path / "RAVDESS", actors=1, takes=1))
    found = cached(recordings, tmp_path, views=1)
    model = CompactModel().eval()
    model.speech.load_whisper(load_file(tmp_path / "whisper-0.safetensors"))
    wave = torch.from_numpy(speech[: 4 * SAMPLE_RATE])[None]
    with torch.inference_mode():
        expected = pool_steps(model.speech(wave))[0]
        deployed = model.embed_speech(wave)
        trained = model.audio.embed([torch.tensor(found.view(0, 0)).float()])
    np.testing.assert_allclose(found.view(0, 0), expected.numpy(), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(trained.numpy(), deployed.numpy(), atol=2e-3)
