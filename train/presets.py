"""The two presets, their architecture and training: `paper` and `compact`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from train.data.voice_changes import PAPER as PAPER_VOICES
from train.data.voice_changes import STRONG as STRONG_VOICES
from train.data.voice_changes import VoiceChanges
from train.labels import EMOTIONS, SEVEN_EMOTIONS
from train.options import TrainOptions
from train.voices.recipe import BackboneTuning, PlaceShares, VoiceRecipe


@dataclass(frozen=True)
class Stage:
    """One stage of training an arm."""

    options: TrainOptions
    gru_rate: float = 1.0  # the GRU's learning rate, as a share of the classifier's


@dataclass(frozen=True)
class FineTuning:
    """Further training of an arm, together with the last layers of its backbone."""

    options: TrainOptions
    layer_rate: float  # the last layer's learning rate, as a share of the arm's
    layer_decay: float  # of that, from a layer to the one before


@dataclass(frozen=True)
class Preset:
    """An architecture, and how each stage trains it."""

    name: str
    labels: tuple[str, ...]  # classes of the model
    face: str  # key of train.models.registry.FACE_BACKBONES
    speech: str  # key of train.models.registry.SPEECH_BACKBONES
    visual_width: int
    audio_width: int
    visual_arm: Literal["gru", "mean"]
    audio_arm: Literal["gru", "statistics"]
    norm: bool  # layer norm of the embeddings, before the GRU
    dropout: float  # of GRU arms
    audio_dropout: float  # of the audio arm
    fp16: bool  # weights in the checkpoint
    views: int  # of each recording's speech: itself, and augmented ones
    face_views: int  # of its faces, and of images
    face_changes: float  # strength of the augmentation of faces, 0 to 1
    face_damage: float  # strength of what cameras and codecs do to every second augmented view
    voice_changes: VoiceChanges
    longest_s: float  # of speech in a recording; the rest is cut off
    visual: Stage
    audio_one: Stage | None  # None: no stage on four emotions, but all corpora together
    audio_two: Stage
    voices: VoiceRecipe | None  # of training on all corpora together; needs a "statistics" arm
    backbone: BackboneTuning | None  # of the speech backbone on all corpora; None: as published
    fine_tuning: FineTuning
    fine_tuned: int  # last layers of the speech backbone fine-tuned by default
    fusion: Literal["classifier", "pool"]  # over both arms' states, or of their scores
    combined: TrainOptions | None
    """Training of a classifier over both states. None: the fusion's few numbers are fitted on
    people that neither arm was trained on."""


_PAPER = TrainOptions(
    epochs=30,
    learning_rate=1e-3,
    schedule="exponential",
    batch=16,
    optimizer="adamw",
    label_smoothing=0.03,
    class_weight_power=0.3,
    weighted_sampling=True,
    accumulate=4,
)
"""Section V of the paper; label smoothing, class weights, weighted sampling and accumulation are
in its authors' code alone."""


PAPER = Preset(
    name="paper",
    labels=EMOTIONS,
    face="vit",
    speech="emotion2vec",
    visual_width=384,
    audio_width=384,
    visual_arm="gru",
    audio_arm="gru",
    norm=False,
    dropout=0.4,
    audio_dropout=0.4,
    fp16=False,
    views=4,
    face_views=4,
    face_changes=0.5,
    face_damage=0.0,
    voice_changes=PAPER_VOICES,
    longest_s=10.0,
    visual=Stage(replace(_PAPER, weight_decay=5e-4)),
    audio_one=Stage(replace(_PAPER, schedule="plateau", optimizer="adam")),
    audio_two=Stage(replace(_PAPER, epochs=25, schedule="plateau", optimizer="adam"), gru_rate=0.1),
    voices=None,
    backbone=None,
    fine_tuning=FineTuning(
        replace(_PAPER, epochs=5, learning_rate=1e-4, schedule="one-cycle"), 0.1, 0.8
    ),
    fine_tuned=0,
    fusion="classifier",
    combined=replace(_PAPER, epochs=8, learning_rate=5e-4, schedule="constant"),
)

_COMPACT = TrainOptions(
    epochs=40,
    learning_rate=1e-3,
    schedule="one-cycle",
    batch=32,
    weight_decay=1.0,
    label_smoothing=0.1,
    keep="last",
)

COMPACT = Preset(
    name="compact",
    labels=SEVEN_EMOTIONS,
    face="fer-resnet",
    speech="whisper-tiny-en",
    visual_width=64,
    audio_width=384,
    visual_arm="mean",
    audio_arm="statistics",
    norm=True,
    dropout=0.4,
    audio_dropout=0.7,
    fp16=True,
    views=2,
    face_views=3,
    face_changes=0.8,
    face_damage=0.5,
    voice_changes=STRONG_VOICES,
    longest_s=4.0,
    visual=Stage(
        replace(
            _COMPACT,
            epochs=24,
            learning_rate=2e-3,
            batch=256,
            weight_decay=1e-2,
            label_smoothing=0.0,
            clip_norm=math.inf,
            average_decay=0.995,
            average_warmup=True,
        )
    ),
    audio_one=None,
    audio_two=Stage(replace(_COMPACT, epochs=8, batch=128)),
    voices=VoiceRecipe(
        heads=3,
        clean=0.5,
        corpus_power=0.5,
        ordinary=1.5,
        places=PlaceShares(training=2, corpus=1, person=1, subset=2),
        moved=0.5,
        prior_adjustment=0.5,
        closed=0.3,
        contrast=0.2,
        neutral_prior=0.2,  # on people left out, 0.1 to 0.4 cost no recall (benchmarks/results)
    ),
    backbone=BackboneTuning(
        replace(
            _COMPACT,
            epochs=12,
            batch=128,
            weight_decay=0.05,
            average_decay=0.995,
            average_warmup=True,
        ),
        VoiceRecipe(
            heads=3,
            clean=0.3,
            corpus_power=0.5,
            prior_adjustment=0.5,
            closed=0.3,
            contrast=0.2,
        ),
        layer_rate=0.15,
    ),
    fine_tuning=FineTuning(
        replace(_COMPACT, epochs=6, learning_rate=3e-4, weight_decay=1e-2, average_decay=0.99),
        0.33,
        0.7,
    ),
    fine_tuned=0,  # on unseen speakers it gained nothing
    fusion="pool",
    combined=None,
)

PRESETS = {preset.name: preset for preset in (COMPACT, PAPER)}
