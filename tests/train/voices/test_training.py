"""Training on several corpora: strangers are recognised, and their place helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.voices.corpora import features_of, seeded, several, small_preset, truth_of
from train.data.batches import Split
from train.errors import TrainError
from train.models.arms import StatisticsArm
from train.options import NO_FOLDER, StageContext
from train.presets import COMPACT, PAPER
from train.voices.adaptation import REPEATS, adapted_recalls
from train.voices.recipe import VoiceRecipe
from train.voices.training import Voices, train_on_corpora

ENTRIES = several()
VOICES = Voices(ENTRIES, features_of(ENTRIES), truth_of(ENTRIES), 7)
LEFT_OUT = np.flatnonzero([entry.dataset == "gamma" for entry in ENTRIES])
SPLIT = Split(np.setdiff1d(np.arange(len(ENTRIES)), LEFT_OUT), LEFT_OUT[:0])


def trained(stage: StageContext = NO_FOLDER, epochs: int = 6) -> StatisticsArm:
    preset = small_preset(epochs=epochs)
    return train_on_corpora(preset, seeded(), voices=VOICES, split=SPLIT, stage=stage)


def recalls(arm: StatisticsArm) -> dict[int, float]:
    sequences = [VOICES.features.sequences[i][0] for i in LEFT_OUT]
    found = adapted_recalls(arm, sequences, VOICES.truth[LEFT_OUT], (5, 20, 41))
    assert all(len(each) == REPEATS for each in found.values())
    return {count: float(np.mean(each)) for count, each in found.items()}


@pytest.fixture(scope="module")
def arm() -> StatisticsArm:
    return trained(epochs=20)


def test_people_of_the_training_corpora_are_recognised(arm: StatisticsArm) -> None:
    with torch.no_grad():
        sequences = [torch.from_numpy(VOICES.features.sequences[i][0]) for i in SPLIT.train]
        predicted = arm(sequences).argmax(1).numpy()
    assert (predicted == VOICES.truth[SPLIT.train]).mean() > 0.65  # chance is 0.14


def test_a_place_is_recognised_better_the_more_was_heard(arm: StatisticsArm) -> None:
    with torch.no_grad():
        sequences = [torch.from_numpy(VOICES.features.sequences[i][0]) for i in LEFT_OUT]
        plain = (arm(sequences)[:, :5].argmax(1).numpy() == VOICES.truth[LEFT_OUT]).mean()
    found = recalls(arm)
    assert set(found) == {5, 20}  # 41 recordings leave less than half of the 80
    assert found[20] > plain + 0.1
    assert found[20] > found[5] - 0.05


def test_training_repeats_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = trained(StageContext(tmp_path / "whole", seed=3))
    again = trained(StageContext(None, seed=3))
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    resumed = trained(StageContext(tmp_path / "whole", seed=3))  # all epochs are done
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_another_recipe_is_another_training(tmp_path: Path) -> None:
    trained(StageContext(tmp_path))
    other = small_preset(VoiceRecipe(draws=640, moved=0.1))
    with pytest.raises(TrainError, match="recipe was"):
        train_on_corpora(other, seeded(), voices=VOICES, split=SPLIT, stage=StageContext(tmp_path))


def test_presets_without_the_recipe_are_refused() -> None:
    for preset in (replace(COMPACT, voices=None), replace(PAPER, voices=COMPACT.voices)):
        with pytest.raises(TrainError, match="no recipe"):
            train_on_corpora(preset, seeded(), voices=VOICES, split=SPLIT, stage=NO_FOLDER)
