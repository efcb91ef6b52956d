"""Training of the audio arm on several corpora together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from train.data.batches import Split
from train.data.features import Features
from train.data.index import Entry
from train.errors import TrainError
from train.loop import Hooks, train
from train.models.arms import StatisticsArm
from train.models.emotion_model import audio_arm
from train.options import StageContext
from train.presets import Preset
from train.progress import progress_bar
from train.voices.corpora import Corpora
from train.voices.examples import OverObservations, VoiceExamples
from train.voices.objective import VoiceObjective


def train_voices(
    preset: Preset,
    speech: nn.Module,
    *,
    entries: Sequence[Entry],
    features: Features,
    truth: "np.ndarray",
    split: Split,
    classes: int,
    stage: StageContext,
) -> StatisticsArm:
    """Train an audio arm by the preset's recipe for several corpora.

    Args:
        entries: n recordings.
        features: of every recording.
        truth: (n,) int64 classes.
        split: of the recordings with features; no validation part is needed.

    Raises:
        TrainError: the preset has no such recipe.
    """
    recipe = preset.voices
    if recipe is None:
        raise TrainError(f"preset {preset.name} has no recipe for several corpora")
    torch.manual_seed(stage.seed + 1)
    arm = audio_arm(preset, speech, classes)
    assert isinstance(arm, StatisticsArm)
    corpora = Corpora.of(entries, truth)
    options = preset.audio_two.options
    examples = VoiceExamples(arm, features, corpora, split, recipe)
    objective = VoiceObjective(corpora, split, classes, recipe, options.label_smoothing)
    with progress_bar(stage.name) as progress:
        train(
            OverObservations(arm),
            examples,
            split,
            options,
            stage=stage,
            hooks=Hooks(progress=lambda share: progress(round(1000 * share), 1000)),
            objective=objective,
            identity={"recipe": repr(recipe)},
        )
    return arm.eval()
