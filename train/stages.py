"""The stages of training, as in the paper's section V: each arm alone, then both together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from train.data.batches import Examples
from train.data.examples import FaceClips, SpeechExamples
from train.loop import train
from train.models.arms import SequenceArm
from train.models.emotion_model import audio_arm, visual_arm
from train.models.fusion import FusedClassifier
from train.options import TrainError, TrainOptions
from train.presets import FineTuning, Preset
from train.progress import progress_bar
from train.state import Groups

if TYPE_CHECKING:
    from typing_extensions import Self


M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class Split:
    """Which of a source's examples are learned from, and which choose the epoch."""

    train: np.ndarray  # (n,) int64
    valid: np.ndarray  # (m,) int64; may be empty where the last epoch is kept

    def among(self, present: np.ndarray) -> Split:
        """Leave out the examples that are not there: (all,) bool."""
        return Split(self.train[present[self.train]], self.valid[present[self.valid]])


@dataclass(frozen=True)
class Work:
    """Where and how a stage runs."""

    run: Path | None  # keeps state and log, to go on from after a kill; None: neither
    seed: int = 0
    name: str = "training"  # shown beside the progress bar
    tensorboard: bool = False

    def stage(self, name: str) -> Work:
        """The same for one of several stages."""
        return replace(self, name=name, run=None if self.run is None else self.run / name)


def train_visual(
    preset: Preset, face: nn.Module, examples: Examples, parts: Split, work: Work, labels: int
) -> SequenceArm:
    """Train the visual arm alone."""
    torch.manual_seed(work.seed)
    arm = visual_arm(preset, face, labels)
    return _train(arm, examples, parts, preset.visual.options, work)


def train_audio_one(
    preset: Preset, speech: nn.Module, examples: Examples, parts: Split, labels: int, work: Work
) -> SequenceArm:
    """Train the audio arm's first stage: a few emotions, over several datasets."""
    torch.manual_seed(work.seed)
    arm = audio_arm(preset, speech, labels)
    return _train(arm, examples, parts, preset.audio_one.options, work)


def train_audio_two(
    preset: Preset,
    speech: nn.Module,
    start: SequenceArm | None,
    examples: Examples,
    parts: Split,
    labels: int,
    work: Work,
) -> SequenceArm:
    """Train the audio arm's second stage: the first one's GRU, more slowly, under a new classifier.

    Without a first stage the arm is trained from the beginning, all of it at one rate.
    """
    torch.manual_seed(work.seed + 1)
    stage = preset.audio_two
    if start is None:
        arm = audio_arm(preset, speech, labels)
        return _train(arm, examples, parts, stage.options, work)
    arm = start.with_labels(labels)
    classifier = list(arm.classifier.parameters())
    known = {id(parameter) for parameter in classifier}
    rest = [parameter for parameter in arm.parameters() if id(parameter) not in known]
    groups = [(classifier, 1.0), (rest, stage.gru_rate)]
    return _train(arm, examples, parts, stage.options, work, groups)


class OverBackbone(nn.Module):
    """An arm with the backbone under it: an arm that takes raw examples."""

    def __init__(self, backbone: nn.Module, arm: SequenceArm) -> None:
        super().__init__()
        self.backbone, self.arm = backbone, arm

    def train(self, mode: bool = True) -> Self:
        """Set the mode; what is frozen stays as in use: no dropout, no new batch statistics."""
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
        """Give (n, labels) logits of n examples."""
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
    last: int,
    examples: SpeechExamples | FaceClips,
    parts: Split,
    work: Work,
) -> tuple[nn.Module, SequenceArm]:
    """Train a trained arm on together with the last layers of its backbone; give copies of both.

    Args:
        last: layers of the backbone; the others stay as they are.

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
    model = _train(over(backbone, arm), examples, parts, tuning.options, work, groups)
    return model.backbone.requires_grad_(True), model.arm


def train_combined(
    options: TrainOptions, visual: Arm, audio: Arm, examples: Examples, parts: Split, work: Work
) -> FusedClassifier:
    """Train the paper's combined stage: the classifier over both arms, which stay as they are."""
    return _train(FusedClassifier(visual, audio), examples, parts, options, work)


def _train(
    model: M,
    examples: Examples,
    parts: Split,
    options: TrainOptions,
    work: Work,
    groups: Groups | None = None,
) -> M:
    with progress_bar(work.name) as progress:
        train(
            model,
            examples,
            parts.train,
            parts.valid,
            options,
            seed=work.seed,
            groups=groups,
            run=work.run,
            progress=lambda share: progress(round(1000 * share), 1000),
            tensorboard=work.tensorboard,
        )
    return model
