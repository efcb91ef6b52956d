"""`mfer-edge train`, from folders to a model, with both presets."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.train.cli_runs import (
    CROSSVAL_OPTIONS,
    Datasets,
    Runs,
    call,
    done,
    model,
    shell,
    with_paper,
)
from tests.train.synthetic import CAST, voice
from train.data.index import read_index
from train.evaluate.predictions import read_run
from train.models.registry import FACE_BACKBONES, FER_FACE, SPEECH_BACKBONES

pytestmark = pytest.mark.usefixtures("small")


def test_the_index_holds_every_made_file(datasets: Datasets) -> None:
    filmed = read_index(datasets.filmed)
    assert {e.dataset for e in filmed} == {"ravdess", "own", "crema-d", "shemo", "urdu", "saudi"}
    assert {e.kind for e in filmed if e.dataset in ("ravdess", "own")} == {"av"}
    assert len(filmed) == 4 * len(CAST) + 8 + 4 * (5 + 3 * 2)
    assert len(read_index(datasets.spoken)) == 4 * 16 + 7 * 26


def test_the_model_scores_faces_and_voices(runs: Runs) -> None:
    made = model(runs.one_by_one)
    assert made.preset.name == runs.preset
    faces = torch.zeros(3, 1, made.face.size, made.face.size, dtype=torch.uint8)  # type: ignore[arg-type]
    networks = made.networks()
    with torch.no_grad():
        (embeddings,) = networks["face"](faces)
        seen, visual, _ = networks["visual"](embeddings[None])
        heard, audio, _ = networks["audio"](torch.from_numpy(voice(0.5))[None])
        (joint,) = networks["fusion"](visual, audio)
    for scores in (seen, heard, joint):
        assert scores.shape == (1, len(made.preset.labels))
        assert float(scores.sum()) == pytest.approx(1, abs=1e-5)


def test_one_after_the_other_the_stages_give_what_all_gives(runs: Runs) -> None:
    for name in ("visual.safetensors", "audio.safetensors", "model.safetensors", "figures.json"):
        assert (runs.one_by_one / name).read_bytes() == (runs.at_once / name).read_bytes(), name


def test_the_model_is_made_of_the_trained_arms(runs: Runs) -> None:
    made = model(runs.one_by_one)
    arms = load_file(runs.one_by_one / "visual.safetensors")
    for name, value in made.visual.state_dict().items():
        torch.testing.assert_close(value, arms[name], rtol=1e-3, atol=1e-6)
    voices = load_file(runs.one_by_one / "audio.safetensors")
    for part, module in (("arm", made.audio), ("backbone", made.speech)):
        for name, value in module.state_dict().items():
            if part == "arm" or runs.preset == "compact":  # of which the backbone is fine-tuned
                torch.testing.assert_close(value, voices[f"{part}.{name}"], rtol=1e-3, atol=1e-6)


def test_the_frozen_backbones_are_the_published_ones(runs: Runs) -> None:
    made, weights = model(runs.one_by_one), runs.datasets.weights
    face = FACE_BACKBONES[made.preset.face].load_from(weights)
    for name, value in made.face.state_dict().items():
        torch.testing.assert_close(value, face.state_dict()[name], rtol=1e-3, atol=1e-6)
    speech = SPEECH_BACKBONES[made.preset.speech].load_from(weights).state_dict()
    same = {
        name: torch.allclose(value, speech[name], rtol=1e-3, atol=1e-6)
        for name, value in made.speech.state_dict().items()
    }
    tuned = {name for name, value in same.items() if not value}
    if runs.preset == "paper":
        assert not tuned
    else:
        assert tuned and all(name.startswith("layers.2.") for name in tuned)


def test_the_figures_are_kept_and_printed(runs: Runs) -> None:
    for run, name in ((runs.one_by_one, "fusion"), (runs.final, "final")):
        figures = json.loads((run / "figures.json").read_text())
        assert len(figures) == 3
        for figure in figures:
            assert (
                f"{figure['what']}: unweighted recall {figure['unweighted_recall']:.3f}"
                in (runs.printed[name])
            )
            for value in list(figure.values())[1:]:
                assert 0 <= value <= 1


def test_every_recording_is_predicted_once(runs: Runs) -> None:
    run, predictions = read_run(runs.crossval)
    entries = [e for e in read_index(runs.index) if e.dataset in ("ravdess", "own")]
    wanted = sorted(str(e.path) for e in entries)
    arms = {"compact": {"audio", "svm"}, "paper": {"visual", "audio", "combined", "svm"}}
    assert {part.arm for part in predictions} == arms[runs.preset]
    assert {part.fold for part in predictions} == set("12345")
    for arm in arms[runs.preset]:
        judged = [path for part in predictions if part.arm == arm for path in part.paths]
        assert sorted(judged) == wanted
    assert (run.preset, run.protocol, run.seed) == (runs.preset, "subject", 0)


def test_work_that_is_done_is_not_done_again(runs: Runs) -> None:
    before = {p: p.stat().st_mtime_ns for p in runs.datasets.cache.rglob("*.npz")}
    assert "to go" not in done("features", *runs.options())
    done("crossval", *runs.options("--out", runs.crossval, *CROSSVAL_OPTIONS))
    assert {p: p.stat().st_mtime_ns for p in runs.datasets.cache.rglob("*.npz")} == before
    for stage in ("visual", "audio"):
        kept = (runs.one_by_one / f"{stage}.safetensors").read_bytes()
        done(stage, *runs.options("--out", runs.one_by_one))
        assert (runs.one_by_one / f"{stage}.safetensors").read_bytes() == kept


@with_paper
def test_a_report_is_made_of_a_cross_validation(runs: Runs, tmp_path: Path) -> None:
    printed = done("report", runs.crossval, "--out", tmp_path / "report").split()
    assert all(Path(path).is_file() for path in printed)
    text = (tmp_path / "report" / "report.md").read_text()
    assert f"{runs.preset}, subject folds" in text
    figures = json.loads((tmp_path / "report" / "report.json").read_text())
    assert figures


def test_the_face_network_is_trained_and_loaded(datasets: Datasets, tmp_path: Path) -> None:
    printed = done(
        "faces", datasets.spoken, "--out", tmp_path / "faces", "--epochs", 1, "--finish", 0
    )
    epoch, figures = map(json.loads, printed.splitlines()[-2:])
    assert epoch["epoch"] == 1 and 0 <= figures["fer_2013"] <= 1
    weights = shutil.copytree(datasets.weights, tmp_path / "weights")
    shutil.copy(tmp_path / "faces" / FER_FACE, weights)
    face = FACE_BACKBONES["fer-resnet"].load(weights)
    trained = load_file(tmp_path / "faces" / FER_FACE)
    for name, value in face.state_dict().items():
        assert torch.equal(value, trained[f"encoder.{name}"])


def test_backbones_can_be_fine_tuned_within_the_folds(datasets: Datasets, tmp_path: Path) -> None:
    done(
        "crossval", datasets.filmed, "--preset", "paper", "--weights", datasets.weights, "--cache",
        datasets.cache, "--out", tmp_path, "--fold", 2, "--finetune-voice", 1, "--finetune-face", 2,
    )  # fmt: skip
    stages = {state.parent.name for state in (tmp_path / "fold-2").rglob("last.pt")}
    assert stages == {"audio", "voice-fine", "visual", "face-fine", "combined"}
    assert {part.arm for part in read_run(tmp_path)[1]} == {"visual", "audio", "combined"}


def test_the_four_emotions_are_cross_validated_too(datasets: Datasets, tmp_path: Path) -> None:
    done(
        "crossval", datasets.filmed, "--preset", "paper", "--weights", datasets.weights, "--cache",
        datasets.cache, "--out", tmp_path, "--classes", 4, "--protocol", "paper",
    )  # fmt: skip
    (predictions, *_) = read_run(tmp_path)[1]
    assert predictions.labels == ("neutral", "happy", "sad", "angry")
    assert set(predictions.datasets) <= {"crema-d", "shemo", "urdu", "saudi"}


def test_random_backbones_are_warned_of_and_repeat(datasets: Datasets, tmp_path: Path) -> None:
    kept = []
    for name in ("one", "other"):
        result = call(
            "audio", datasets.filmed, "--preset", "paper", "--random-init", "--weights",
            tmp_path / "none", "--cache", tmp_path / "cache", "--out", tmp_path / name,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert "the backbones are random" in result.stderr
        kept.append((tmp_path / name / "audio.safetensors").read_bytes())
    assert kept[0] == kept[1]


@with_paper
def test_a_real_kill_costs_nothing(runs: Runs, tmp_path: Path) -> None:
    options = runs.options("--out", tmp_path / "out", *CROSSVAL_OPTIONS)
    with shell("crossval", *options) as child:
        while not list(tmp_path.rglob("last.pt")):
            assert child.poll() is None, child.communicate()
            time.sleep(0.02)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    done("crossval", *options)
    found, expected = read_run(tmp_path / "out")[1], read_run(runs.crossval)[1]
    assert [(p.fold, p.arm, p.paths) for p in found] == [(p.fold, p.arm, p.paths) for p in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.logits, other.logits)
