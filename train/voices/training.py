"""Training of the audio arm over all of a model's labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from train.data.batches import Split
from train.data.examples import FeatureExamples
from train.data.features import Features
from train.data.index import Entry
from train.errors import TrainError
from train.loop import Hooks, train
from train.models.arms import SequenceArm, StatisticsArm
from train.models.emotion_model import audio_arm
from train.options import StageContext
from train.presets import Preset
from train.progress import progress_bar
from train.stages import train_audio_two
from train.voices.corpora import Corpora
from train.voices.examples import OverObservations, VoiceExamples
from train.voices.objective import VoiceObjective


@dataclass(frozen=True)
class Voices:
    """Recordings of speech with their features and classes."""

    entries: Sequence[Entry]  # n
    features: Features  # of each
    truth: np.ndarray  # (n,) int64
    classes: int


def train_audio(
    preset: Preset,
    speech: nn.Module,
    *,
    voices: Voices,
    split: Split,
    stage: StageContext,
    start: SequenceArm | None = None,
) -> SequenceArm:
    """Train the audio arm: by the recipe for several corpora, or the paper's second stage.

    Args:
        split: of the recordings with features.
        start: the arm after the first stage, if the preset has one.
    """
    if preset.voices is not None:
        return train_on_corpora(preset, speech, voices=voices, split=split, stage=stage)
    return train_audio_two(
        preset,
        speech,
        examples=FeatureExamples(voices.features, voices.truth),
        split=split,
        classes=voices.classes,
        stage=stage,
        start=start,
    )


def train_on_corpora(
    preset: Preset, speech: nn.Module, *, voices: Voices, split: Split, stage: StageContext
) -> StatisticsArm:
    """Train an audio arm on several corpora together, by the preset's recipe.

    Raises:
        TrainError: the preset has no such recipe, or its arm is no `StatisticsArm`.
    """
    recipe, options = preset.voices, preset.audio_two.options
    torch.manual_seed(stage.seed + 1)
    arm = audio_arm(preset, speech, voices.classes)
    if recipe is None or not isinstance(arm, StatisticsArm):
        raise TrainError(f"preset {preset.name} has no recipe for training on several corpora")
    corpora = Corpora.of(voices.entries, voices.truth)
    examples = VoiceExamples(arm, voices.features, corpora, split, recipe)
    objective = VoiceObjective(corpora, split, voices.classes, recipe, options.label_smoothing)
    with progress_bar(stage.name) as progress:
        train(
            OverObservations(arm, recipe.heads),
            examples,
            split,
            options,
            stage=stage,
            hooks=Hooks(progress=lambda share: progress(round(1000 * share), 1000)),
            objective=objective,
            identity={"recipe": repr(recipe)},
        )
    return arm.eval()
