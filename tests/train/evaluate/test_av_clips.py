"""Clips that measure: their layout, both arms' logits of them, and figures of people left out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.train.arm_runs import Compact, context
from tests.train.cli_runs import done, refused
from tests.train.synthetic import voice, write_film, write_sound
from tests.train.test_fuse import SEVEN, many, noisy
from train.data.cache import Cache
from train.data.index import DatasetError
from train.data.preprocess import CROP_SCALE, Preprocessor
from train.evaluate.av_clips import ClipLogits, clip_logits, measure_clips, read_clips
from train.evaluate.metrics import closed_recall
from train.evaluate.predictions import Predictions
from train.evaluate.strangers import StrangerLogits, TalkFigures
from train.fuse import assemble
from train.models.emotion_model import load_model

pytestmark = pytest.mark.usefixtures("small")
CODES = {"01": "neutral", "02": "sad", "03": "happy", "04": "surprised", "05": "fearful",
         "06": "angry"}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve films of two people, one of which shows no face."""
    made = tmp_path_factory.mktemp("clips")
    for person in (1, 2):
        for code in CODES:
            path = made / f"{person:02}-01-{code}_01.mp4"
            write_film(path, voice(0.6, 10 * person + int(code)), 8 * person + int(code))
    return made


class TestReading:
    def test_names_tell_person_sentence_and_emotion(self, folder: Path) -> None:
        entries = read_clips(folder)
        assert [e.label for e in entries] == 2 * list(CODES.values())
        assert {e.actor for e in entries} == {"01", "02"}
        assert {e.kind for e in entries} == {"av"} and {e.sentence for e in entries} == {"01"}
        assert len({e.content for e in entries}) == 12

    @pytest.mark.parametrize("name", ["01-01-07_01.mp4", "ann-01-01_01.mp4", "clip.mp4"])
    def test_other_names_are_a_clear_error(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).touch()
        with pytest.raises(DatasetError, match="not PERSON-SENTENCE-EMOTION_01"):
            read_clips(tmp_path)

    def test_one_person_alone_is_a_clear_error(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no clips of two or more people"):
            read_clips(tmp_path)
        (tmp_path / "01-01-01_01.mp4").touch()
        with pytest.raises(DatasetError, match="no clips of two or more people"):
            read_clips(tmp_path)


def evidence(truth: np.ndarray, strength: float, seed: int) -> np.ndarray:
    seen = strength * np.eye(7)[truth] + np.random.default_rng(seed).standard_normal(
        (len(truth), 7)
    )
    return (strength * seen).astype(np.float32)


@pytest.fixture(scope="module")
def clips() -> ClipLogits:
    """Both arms' logits of 5 people, where the visual arm is thrice too sure."""
    people = np.repeat([f"{n:02}" for n in range(5)], 60)
    truth = np.tile([0, 2, 1, 6, 4, 3], 50).astype(np.int64)
    return ClipLogits(3 * evidence(truth, 1.2, 1), evidence(truth, 1.4, 2), truth, people)


class TestMeasuring:
    def test_recall_is_among_the_labels_that_occur_by_person(self, clips: ClipLogits) -> None:
        figures = measure_clips(clips)
        each = [
            closed_recall(part.visual, part.truth)
            for person in np.unique(clips.people)
            for part in [clips.select(clips.people == person)]
        ]
        assert figures.face.mean == pytest.approx(np.mean(each))
        assert figures.face.std == pytest.approx(np.std(each))
        assert (figures.clips, figures.people, figures.face.folds) == (300, 5, 5)

    def test_both_are_better_and_calibrated(self, clips: ClipLogits) -> None:
        figures = measure_clips(clips)
        assert figures.both.mean > max(figures.face.mean, figures.voice.mean) + 0.03
        assert figures.calibration_error < 0.08

    def test_nothing_is_fitted_on_the_person_left_out(self, clips: ClipLogits) -> None:
        truth = clips.truth.copy()
        own = clips.people == "00"
        fitted = clips.select(~own).fit(StrangerLogits.none(7), StrangerLogits.none(7))
        truth[own] = np.random.default_rng(0).permutation(truth[own])
        other = ClipLogits(clips.visual, clips.audio, truth, clips.people).select(~own)
        again = other.fit(StrangerLogits.none(7), StrangerLogits.none(7))
        assert fitted.visual_temperature == again.visual_temperature
        assert np.array_equal(fitted.pool.bias, again.pool.bias)

    def test_other_strangers_share_the_temperature(self, clips: ClipLogits) -> None:
        truth = np.arange(3000) % 7
        strangers = StrangerLogits.none(7).with_group("talk", evidence(truth, 1.5, 4), truth)
        none = StrangerLogits.none(7)
        alone, shared = clips.fit(none, none), clips.fit(strangers, none)
        assert alone.visual_temperature == pytest.approx(3, rel=0.2)
        # Both groups count as much, although one has ten times as many examples.
        assert 1.4 < shared.visual_temperature < 2.6
        assert shared.audio_temperature == alone.audio_temperature


def test_talk_figures_by_hand() -> None:
    labels = ("neutral", "happy", "angry")
    scores = np.array([[0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.3, 0.2, 0.5]], np.float32)
    talk = Predictions(
        "subject", "1", "visual", labels, ("a", "b", "c"), ("ordinary",) * 3,
        ("ann", "ann", "ben"), np.zeros(3, np.int64), np.log(scores),
    )  # fmt: skip
    assert TalkFigures.of(talk, 1.0) == TalkFigures(1 / 3, 1 / 3, 3, 2)
    assert TalkFigures.of(talk, 2.0).false_alarms == 0


def test_arms_run_over_clips_as_in_the_runtime(
    compact: Compact, folder: Path, tmp_path: Path
) -> None:
    data, entries, arms = compact
    run = shutil.copytree(arms, tmp_path / "run")
    spoken = many([e for e in entries if e.has_sound], 10)
    unseen = [noisy(spoken[fold::3], "audio", 3.0, str(fold), SEVEN) for fold in range(3)]
    figures = assemble(context(data, entries, run), unseen, folder)
    assert figures[0].calibration_error < 0.08
    assert [f.what for f in figures if "left" in f.what or "calibrated" in f.what] == [
        "audio arm, clips, calibrated on the others",
        "audio arm, ravdess, calibrated on the others",
    ]
    model = load_model(run / "model.safetensors")
    assert model.temperature[2] == 1

    listed = read_clips(folder)
    logits = clip_logits(model, listed, Preprocessor(48, CROP_SCALE, Cache(tmp_path / "cache")))
    assert logits.visual.shape == logits.audio.shape == (12, 7)
    assert np.abs(logits.visual).max(1).min() > 0
    written = json.loads((run / "clips.json").read_text())
    assert (written["clips"], written["people"]) == (12, 2)
    expected = [
        closed_recall(part.audio, part.truth)
        for person in ("01", "02")
        for part in [logits.select(logits.people == person)]
    ]
    assert written["voice"]["mean"] == pytest.approx(np.mean(expected), abs=0.02)

    printed = done("clips", folder, "--checkpoint", run, "--cache", tmp_path / "cache")
    assert "12 clips of 2 people" in printed
    assert f"| voice | {np.mean(expected):.3f}" in printed
    assert "ordinary talking faces" not in printed  # the arm was trained without


def test_a_clip_without_a_face_leaves_it_to_the_voice(
    compact: Compact, folder: Path, tmp_path: Path
) -> None:
    data, entries, arms = compact
    made = shutil.copytree(folder, tmp_path / "clips")
    faceless = made / "01-01-01_01.mp4"
    faceless.unlink()
    write_sound(made / "sound.wav", voice(0.6)).rename(faceless)  # audio alone
    run = shutil.copytree(arms, tmp_path / "run")
    spoken = [e for e in entries if e.has_sound]
    assemble(context(data, entries, run), [noisy(spoken, "audio", 1.0, labels=SEVEN)])
    model = load_model(run / "model.safetensors")
    logits = clip_logits(model, read_clips(made), Preprocessor(48, CROP_SCALE, Cache(tmp_path)))
    assert not logits.visual[0].any() and logits.audio[0].any()


def test_what_is_no_folder_of_clips_is_said(tmp_path: Path) -> None:
    line = refused("clips", tmp_path, "--checkpoint", tmp_path, "--cache", tmp_path / "cache")
    assert f"{tmp_path}: no clips of two or more people" in line
