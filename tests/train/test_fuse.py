"""Fusion and calibration on people that the arms were not trained on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.train.arm_runs import (
    Compact,
    actors_of,
    context,
    trained,
)
from train.data.batches import predict
from train.data.context import DataContext, class_indices
from train.data.examples import FeatureExamples
from train.data.index import Entry
from train.errors import TrainError
from train.evaluate.metrics import fit_temperature
from train.evaluate.predictions import Predictions
from train.fuse import Figures, assemble
from train.labels import EMOTIONS
from train.models.emotion_model import EmotionModel, load_model
from train.models.fusion import FittedFusion, fit_fusion
from train.presets import PRESETS
from train.train_arms import held_out_split, train_visual_arm

pytestmark = pytest.mark.usefixtures("small")


def logits(
    model: EmotionModel, data: DataContext, entries: Sequence[Entry]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What a model's arms say of clips, and of which they can say something."""
    truth, chosen = class_indices(entries, EMOTIONS), list(entries)
    everything = np.arange(len(entries))
    said, there = {}, {}
    for name, arm, features in (
        ("visual", model.visual, data.face_features(chosen)),
        ("audio", model.audio, data.voice_features(chosen)),
    ):
        there[name] = everything[features.present]
        said[name] = predict(arm, FeatureExamples(features, truth), there[name])
    return said, there


def test_everything_trains_on_every_actor(
    paper: DataContext, filmed: list[Entry], tmp_path: Path
) -> None:
    trained(paper, filmed, tmp_path, everything=True)  # takes are held back to choose the epoch
    assert actors_of(tmp_path, "audio") == {e.actor for e in filmed}
    assert actors_of(tmp_path, "visual") == {e.actor for e in filmed if e.has_pictures}
    with pytest.raises(TrainError, match="were trained on every actor"):
        assemble(context(paper, filmed, tmp_path), [])


def test_temperatures_are_fitted_on_unseen_people(
    unchosen: DataContext, filmed: list[Entry], run: Path
) -> None:
    assemble(context(unchosen, filmed, run), [])
    model, met = load_model(run / "model.safetensors"), actors_of(run, "audio")
    clips = [e for e in filmed if e.actor not in met]
    said, there = logits(model, unchosen, clips)
    truth = class_indices(clips, EMOTIONS)
    expected = [fit_temperature(said[arm], truth[there[arm]]) for arm in ("visual", "audio")]
    np.testing.assert_allclose(model.temperature[:2], expected, rtol=2e-3)


def test_fusion_weights_are_fitted_on_unseen_people(
    unchosen: DataContext, filmed: list[Entry], run: Path
) -> None:
    assemble(context(unchosen, filmed, run), [])
    model, met = load_model(run / "model.safetensors"), actors_of(run, "audio")
    clips = [e for e in filmed if e.actor not in met and e.has_pictures]
    said, there = logits(model, unchosen, clips)
    assert there["visual"].tolist() == there["audio"].tolist() == list(range(len(clips)))
    # What they say is compared: where an arm is hardly sure, any discount of it is as good.
    calibrated = (
        torch.from_numpy(said[arm]) / temperature
        for arm, temperature in zip(("visual", "audio"), model.temperature, strict=False)
    )
    scores = model.fusion(*calibrated).softmax(1).numpy()

    def largest_difference(fitted: FittedFusion) -> float:
        theirs = torch.from_numpy(fitted.logits(said["visual"], said["audio"])).softmax(1)
        return float(np.abs(scores - theirs.numpy()).max())

    truth = class_indices(clips, EMOTIONS)
    assert largest_difference(fit_fusion(said["visual"], said["audio"], truth)) < 0.02
    others = [e for e in filmed if e.actor in met and e.has_pictures]
    known, _ = logits(model, unchosen, others)
    on_known = fit_fusion(known["visual"], known["audio"], class_indices(others, EMOTIONS))
    assert largest_difference(on_known) > 0.05


def test_arms_trained_on_every_actor_together_are_not_calibrated(
    unchosen: DataContext, filmed: list[Entry], run: Path
) -> None:
    """As after training one arm with one seed and the other with another."""
    options = PRESETS["paper"].visual.options
    unheard = {e.actor for e in filmed} - actors_of(run, "audio")

    def held(seed: int) -> set[str]:
        run = context(unchosen, filmed, seed=seed)
        split = held_out_split(run, filmed, options, everything=False)
        return {filmed[index].actor for index in split.valid}

    seed = next(seed for seed in range(1, 50) if not held(seed) & unheard)
    train_visual_arm(context(unchosen, filmed, run, seed), everything=False)
    with pytest.raises(TrainError, match="were trained on every actor"):
        assemble(context(unchosen, filmed, run), [])


def noisy(
    entries: Sequence[Entry],
    arm: str,
    sure: float,
    fold: str = "1",
    labels: tuple[str, ...] = EMOTIONS,
) -> Predictions:
    """What a calibrated arm would say, times how much too sure of itself it is."""
    truth = class_indices(entries, labels)
    random = np.random.default_rng(len(arm))
    seen = 1.5 * np.eye(len(labels))[truth] + random.standard_normal((len(truth), len(labels)))
    return Predictions(
        "subject", fold, arm, labels, tuple(str(e.path) for e in entries),
        tuple(e.dataset for e in entries), tuple(e.actor for e in entries), truth,
        (sure * 1.5 * seen).astype(np.float32),
    )  # fmt: skip


def many(entries: Sequence[Entry], times: int) -> list[Entry]:
    """As many recordings by each actor, under other names."""
    return [replace(e, path=e.path / str(n)) for n in range(times) for e in entries]


def test_a_cross_validation_calibrates_arms_trained_on_every_actor(
    paper: DataContext, unchosen: DataContext, filmed: list[Entry], run: Path
) -> None:
    clips = many(filmed, 30)
    sure = {"visual": 2.0, "audio": 3.0, "combined": 0.5}
    unseen = [noisy(clips, arm, times) for arm, times in sure.items()]
    figures = assemble(context(paper, filmed, run), unseen)
    temperature = load_model(run / "model.safetensors").temperature
    np.testing.assert_allclose(temperature, list(sure.values()), rtol=0.15)
    assert all(figure.calibration_error < 0.1 for figure in figures)

    assemble(context(unchosen, filmed, run), unseen)
    model = load_model(run / "model.safetensors")
    np.testing.assert_allclose(model.temperature, [2.0, 3.0, 1.0], rtol=0.15)
    assert model.fusion.discount.max() < 0.1  # the arms err apart


def test_the_combined_stage_leaves_the_arms_as_they_are(
    paper: DataContext, filmed: list[Entry], run: Path
) -> None:
    assemble(context(paper, filmed, run), [])
    model = load_model(run / "model.safetensors")
    for name, value in model.visual.state_dict().items():
        assert torch.equal(value, load_file(run / "visual.safetensors")[name])
    for name, value in model.audio.state_dict().items():
        assert torch.equal(value, load_file(run / "audio.safetensors")[f"arm.{name}"])
    side_by_side = torch.cat([model.visual.classifier.weight, model.audio.classifier.weight], 1)
    moved = (model.fusion.weight - side_by_side).abs().max()
    assert 0 < moved < 0.05


SEVEN = PRESETS["compact"].labels


def test_an_overconfident_arm_weighs_less(compact: Compact, tmp_path: Path) -> None:
    data, entries, arms = compact
    run = shutil.copytree(arms, tmp_path / "run")
    spoken = many([e for e in entries if e.has_sound], 10)
    unseen = [noisy(spoken[fold::3], "audio", 3.0, str(fold), SEVEN) for fold in range(3)]
    audio, visual, both = assemble(context(data, entries, run), unseen)
    model = load_model(run / "model.safetensors")
    assert float(model.temperature[1]) == pytest.approx(3, rel=0.15)
    assert model.temperature[2] == 1  # the pool is the likeliest as it is
    assert audio.calibration_error < 0.05
    assert both.accuracy > visual.accuracy + 0.2  # the faces of a random network say nothing


def test_voices_of_each_emotion_are_needed(compact: Compact, tmp_path: Path) -> None:
    data, entries, arms = compact
    run = shutil.copytree(arms, tmp_path / "run")
    spoken = [e for e in entries if e.has_sound]
    for chosen, says in (
        ([e for e in spoken if e.label not in ("happy", "angry")], "is happy or angry"),
        ([replace(e, actor="ravdess/01") for e in spoken], "one speaker alone"),
    ):
        with pytest.raises(TrainError, match=says):
            assemble(context(data, entries, run), [noisy(chosen, "audio", 1.0, labels=SEVEN)])
    with pytest.raises(TrainError, match="the audio arm was not trained on"):
        assemble(context(data, entries, run), [noisy(spoken, "svm", 1.0, labels=SEVEN)])


def test_arms_without_a_list_of_actors_are_refused(
    unchosen: DataContext, filmed: list[Entry], run: Path
) -> None:
    from safetensors.torch import save_file

    save_file(load_file(run / "visual.safetensors"), run / "visual.safetensors")
    with pytest.raises(TrainError, match=r"visual\.safetensors: lists no actors"):
        assemble(context(unchosen, filmed, run), [])


def test_figures_by_hand() -> None:
    logits = np.log(np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]], np.float32))
    figures = Figures.of("four", logits, np.array([0, 0, 1, 1]))
    assert (figures.accuracy, figures.unweighted_recall) == (0.75, 0.75)
    assert 0 <= figures.calibration_error <= 1
