"""The stages of training, as in the paper's section V: each arm alone, then both together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from train.data.batches import Examples, Split
from train.data.examples import FaceClips, SpeechExamples
from train.errors import TrainError
from train.loop import Hooks, train
from train.models.arms import SequenceArm
from train.models.emotion_model import audio_arm, visual_arm
from train.models.fusion import FusedClassifier
from train.options import StageContext, TrainOptions
from train.presets import FineTuning, Preset
from train.progress import progress_bar
from train.state import Groups

if TYPE_CHECKING:
    from typing_extensions import Self


M = TypeVar("M", bound=nn.Module)


def train_visual(
    preset: Preset,
    face: nn.Module,
    *,
    examples: Examples,
    split: Split,
    classes: int,
    stage: StageContext,
) -> SequenceArm:
    """Train the visual arm alone."""
    torch.manual_seed(stage.seed)
    arm = visual_arm(preset, face, classes)
    return _train(arm, examples, split, preset.visual.options, stage)


def train_audio_one(
    preset: Preset,
    speech: nn.Module,
    *,
    examples: Examples,
    split: Split,
    classes: int,
    stage: StageContext,
) -> SequenceArm:
    """Train the audio arm's first stage, if the preset has one: few emotions, several datasets."""
    assert preset.audio_one is not None
    torch.manual_seed(stage.seed)
    arm = audio_arm(preset, speech, classes)
    fit_statistics(arm, examples, split)
    return _train(arm, examples, split, preset.audio_one.options, stage)


def train_audio_two(
    preset: Preset,
    speech: nn.Module,
    *,
    examples: Examples,
    split: Split,
    classes: int,
    stage: StageContext,
    start: SequenceArm | None = None,
) -> SequenceArm:
    """Train the audio arm's second stage: a new classifier over the first stage's GRU.

    Args:
        start: the arm after the first stage, whose GRU is trained more slowly. Without it all of
            the arm is trained from random weights at one rate.
    """
    torch.manual_seed(stage.seed + 1)
    options = preset.audio_two.options
    if start is None:
        arm = audio_arm(preset, speech, classes)
        fit_statistics(arm, examples, split)
        return _train(arm, examples, split, options, stage)
    arm = start.with_labels(classes)
    fit_statistics(arm, examples, split)
    classifier = list(arm.classifier.parameters())
    known = {id(parameter) for parameter in classifier}
    rest = [parameter for parameter in arm.parameters() if id(parameter) not in known]
    groups = [(classifier, 1.0), (rest, preset.audio_two.gru_rate)]
    return _train(arm, examples, split, options, stage, groups)


def fit_statistics(arm: SequenceArm, examples: Examples, split: Split) -> None:
    """Standardise an arm's observations by those of its training examples, without augmentation."""
    arm.fit_statistics(
        sequence for index in split.train for sequence in examples.batch(np.array([index]), None)
    )


class OverBackbone(nn.Module):
    """An arm together with its backbone: takes raw examples."""

    def __init__(self, backbone: nn.Module, arm: SequenceArm) -> None:
        super().__init__()
        self.backbone, self.arm = backbone, arm

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen modules stay in evaluation mode."""
        super().train(mode)
        for module in self.backbone.modules():
            parameters = list(module.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()
        return self

    @property
    def classifier(self) -> nn.Linear:
        return self.arm.classifier

    def sequences(self, examples: Sequence[Tensor]) -> Sequence[Tensor]:
        """Give the embeddings of every example, (steps, width)."""
        raise NotImplementedError

    def embed(self, examples: Sequence[Tensor]) -> Tensor:
        """Give the (n, width) states after n examples."""
        return self.arm.embed(self.sequences(examples))

    def forward(self, examples: Sequence[Tensor]) -> Tensor:
        """Give (n, classes) logits of n examples."""
        return self.arm(self.sequences(examples))


class VoiceOverBackbone(OverBackbone):
    """From (samples,) recordings to logits."""

    def sequences(self, examples: Sequence[Tensor]) -> Sequence[Tensor]:
        return self.backbone.embed(examples)  # type: ignore[operator]


class FaceOverBackbone(OverBackbone):
    """From clips of (frames, 1, size, size) faces to logits."""

    def sequences(self, examples: Sequence[Tensor]) -> Sequence[Tensor]:
        return self.backbone(torch.cat(list(examples))).split([len(clip) for clip in examples])


Arm = SequenceArm | OverBackbone


def fine_tune(
    tuning: FineTuning,
    backbone: nn.Module,
    arm: SequenceArm,
    *,
    last: int,
    examples: SpeechExamples | FaceClips,
    split: Split,
    stage: StageContext,
) -> tuple[nn.Module, SequenceArm]:
    """Train copies of a trained arm and of the last layers of its backbone together.

    Args:
        last: layers of the backbone; the others stay frozen.

    Raises:
        TrainError: it has fewer layers.
    """
    backbone, arm = copy.deepcopy(backbone), copy.deepcopy(arm)
    backbone.requires_grad_(False)
    try:
        blocks = backbone.trainable(last)  # type: ignore[operator]
    except ValueError as error:
        raise TrainError(f"can't fine-tune the backbone: {error}") from None
    groups = [(list(arm.parameters()), 1.0)]
    for number, block in enumerate(reversed(blocks)):
        parameters = list(block.parameters())
        for parameter in parameters:
            parameter.requires_grad_(True)
        groups.append((parameters, tuning.layer_rate * tuning.layer_decay**number))
    over = VoiceOverBackbone if isinstance(examples, SpeechExamples) else FaceOverBackbone
    model = _train(over(backbone, arm), examples, split, tuning.options, stage, groups)
    return model.backbone.requires_grad_(True), model.arm


def train_combined(
    options: TrainOptions,
    visual: Arm,
    audio: Arm,
    *,
    examples: Examples,
    split: Split,
    stage: StageContext,
) -> FusedClassifier:
    """Train the paper's combined stage: the classifier over both arms, which are frozen."""
    return _train(FusedClassifier(visual, audio), examples, split, options, stage)


def _train(
    model: M,
    examples: Examples,
    split: Split,
    options: TrainOptions,
    stage: StageContext,
    groups: Groups | None = None,
) -> M:
    with progress_bar(stage.name) as progress:
        hooks = Hooks(progress=lambda share: progress(round(1000 * share), 1000))
        train(model, examples, split, options, stage=stage, groups=groups, hooks=hooks)
    return model
