"""Training of the image arm on images and ordinary talk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.train.cli_runs import Datasets
from tests.train.synthetic import entry, small_presets, write_film
from train.data.batches import predict
from train.data.context import DataContext
from train.data.examples import FeatureExamples
from train.data.index import DatasetError, Entry, read_index
from train.evaluate.predictions import Predictions
from train.evaluate.strangers import TalkFigures
from train.faces.training import TALK_FOLDS, FaceCorpora, talk_predictions, train_mean_arm
from train.labels import EMOTIONS
from train.presets import PRESETS
from train.run import RunContext
from train.train_arms import TALK_FILE, VISUAL_FILE, soft_targets, train_visual_arm

pytestmark = pytest.mark.usefixtures("small")
PEOPLE = ("ann", "ben", "cleo", "dan", "eve")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    """Short films of five people who talk, two of the first."""
    folder = tmp_path_factory.mktemp("talk")
    return [
        entry(
            write_film(folder / f"{number}.mp4", None, number),
            "av",
            dataset="ordinary",
            actor=f"ordinary/{person}",
            soft=True,
        )
        for number, person in enumerate((*PEOPLE, "ann"))
    ]


@pytest.fixture(scope="module")
def run(
    datasets: Datasets, talk: list[Entry], tmp_path_factory: pytest.TempPathFactory
) -> RunContext:
    """The visual arm of `compact`, trained on images and talk."""
    with small_presets():
        data = DataContext(PRESETS["compact"], datasets.weights, datasets.cache)
        images = [e for e in read_index(datasets.spoken) if e.kind == "image"]
        out = tmp_path_factory.mktemp("run")
        made = RunContext(data, [*images, *talk], out, save_state=False)
        train_visual_arm(made, everything=True)
    return made


def shown(run: RunContext) -> list[Entry]:
    return [e for e in run.entries if e.kind == "image" and e.split == "train"]


def test_talk_is_predicted_by_arms_that_were_not_trained_on_its_people(run: RunContext) -> None:
    predictions = Predictions.load(run.out / TALK_FILE)
    listed = [e for e in run.entries if e.soft]
    assert sorted(predictions.paths) == sorted(str(e.path) for e in listed)
    assert set(predictions.truth) == {0} and predictions.arm == "visual"
    figures = TalkFigures.of(predictions, 1.0)
    assert (figures.recordings, figures.people) == (6, 5)
    assert 0 <= figures.neutral <= 1 and 0 <= figures.false_alarms <= 1 - figures.neutral

    talk = [e for e in run.entries if e.soft]
    corpora = FaceCorpora.read(run, shown(run), talk)
    people = [e.group for e in corpora.talk]
    order = np.random.default_rng(run.seed).permutation(len(PEOPLE))
    left_out = {sorted(set(people))[person] for person in order[0::TALK_FOLDS]}
    kept = [n for n, person in enumerate(people) if person not in left_out]
    arm = train_mean_arm(run, corpora, np.array(kept), run.stage("again-1"))
    examples = FeatureExamples(corpora.talking, np.zeros(len(people), np.int64))
    test = np.array([n for n, person in enumerate(people) if person in left_out])
    expected = predict(arm, examples, test)
    rows = [predictions.paths.index(str(corpora.talk[n].path)) for n in test]
    np.testing.assert_allclose(predictions.logits[rows], expected, atol=1e-4)


def test_the_arm_kept_is_trained_on_everybody(run: RunContext) -> None:
    from safetensors import safe_open

    with safe_open(run.out / VISUAL_FILE, "pt") as file:
        actors = (file.metadata() or {})["actors"]
    assert all(person in actors for person in PEOPLE)
    state = load_file(run.out / VISUAL_FILE)
    assert state["hidden.weight"].shape == (64, 192)
    assert not torch.equal(state["standardise.mean"], torch.zeros(192))


def test_one_person_alone_can_not_be_left_out(run: RunContext) -> None:
    alone = [e for e in run.entries if e.soft and e.actor == "ordinary/ann"]
    assert talk_predictions(run, FaceCorpora.read(run, shown(run), alone)) is None
    assert talk_predictions(run, FaceCorpora.read(run, shown(run), [])) is None


def test_images_of_each_emotion_are_needed(run: RunContext) -> None:
    fewer = [e for e in shown(run) if e.label not in ("neutral", "fearful")]
    with pytest.raises(DatasetError, match="images none is fear or neutral"):
        FaceCorpora.read(run, fewer, [])


def test_votes_replace_labels_where_there_are_any(run: RunContext) -> None:
    listed = shown(run)
    by_label = FaceCorpora.read(run, listed, []).targets
    assert (by_label.max(1) == 1).all()
    counts = tuple(
        6 if emotion == "happy" else 4 if emotion == "sad" else 0 for emotion in EMOTIONS
    )
    voted = [replace(e, votes=counts) for e in listed[:-1]] + listed[-1:]
    targets = FaceCorpora.read(run, voted, []).targets
    labels = run.preset.labels
    assert len(targets) == len(listed) - 1
    np.testing.assert_allclose(targets[:, labels.index("happy")], 0.6, rtol=1e-6)
    np.testing.assert_allclose(targets[:, labels.index("sad")], 0.4, rtol=1e-6)


def test_talk_beside_recordings_is_soft(talk: list[Entry]) -> None:
    labels = PRESETS["compact"].labels
    certain = [replace(e, soft=False, label="sad") for e in talk[:2]]
    assert soft_targets(certain, labels) is None
    targets = soft_targets([*certain, talk[0]], labels)
    assert targets is not None
    np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
    assert targets[0, labels.index("sad")] == 1
    assert 0.85 < targets[2, labels.index("neutral")] < 0.95


def test_the_state_of_every_fold_is_resumed(
    datasets: Datasets, talk: list[Entry], tmp_path: Path
) -> None:
    data = DataContext(PRESETS["compact"], datasets.weights, datasets.cache)
    images = [e for e in read_index(datasets.spoken) if e.kind == "image"]
    made = RunContext(data, [*images, *talk], tmp_path)
    train_visual_arm(made, everything=True)
    before = (tmp_path / VISUAL_FILE).read_bytes()
    states = {path.parent.name for path in tmp_path.rglob("last.pt")}
    assert states == {"visual", *(f"visual-talk-{n + 1}" for n in range(TALK_FOLDS))}
    train_visual_arm(made, everything=True)
    assert (tmp_path / VISUAL_FILE).read_bytes() == before
