"""Training a model to keep: each arm on its recordings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import nn

from train.crossval import train_first_stage
from train.data.batches import Examples
from train.data.context import (
    FOUR_CLASS_DATASETS,
    DataContext,
    eight_class,
    label_numbers,
    pictures,
)
from train.data.examples import (
    FaceSequences,
    FeatureExamples,
    SpeechExamples,
    SyntheticFaceSequences,
)
from train.data.folds import split_off
from train.data.index import DatasetError, Entry
from train.labels import EMOTIONS, FACE_EMOTIONS, FACE_OF_EMOTION
from train.options import TrainOptions
from train.stages import Split, Work, fine_tune, train_audio_two, train_visual

VISUAL_FILE, AUDIO_FILE = "visual.safetensors", "audio.safetensors"
ACTORS = "actors"  # in an arm's file: those that it has learned from
SYNTHETIC = 12_000  # faces over time made of pictures, in one epoch


def held_out_parts(
    entries: Sequence[Entry],
    chosen: Sequence[Entry],
    options: TrainOptions,
    seed: int,
    everything: bool,
) -> Split:
    """Part recordings by actor into what is learned from and what is held back.

    Args:
        entries: the index, which alone decides who is held back: the same for both arms.
        chosen: what is parted.
        everything: hold no actor back; takes are, where something must choose the epoch.
    """
    if everything and options.keep == "last":
        return Split(np.arange(len(chosen)), np.zeros(0, np.int64))
    clips, key = eight_class(entries), attrgetter("take" if everything else "group")
    _, back = split_off(clips, "paper" if everything else "subject", seed)
    held = {key(clips[index]) for index in back}
    inside = np.array([key(entry) in held for entry in chosen], bool)
    return Split(np.flatnonzero(~inside), np.flatnonzero(inside))


def train_visual_arm(
    materials: DataContext, entries: Sequence[Entry], run: Path, work: Work, everything: bool
) -> None:
    """Train the visual arm on recordings, or on faces over time made of single pictures.

    Leaves RUN/visual.safetensors.

    Args:
        everything: hold no actor back; then what calibrates must come from a cross-validation.

    Raises:
        DatasetError: the index has neither.
    """
    preset = materials.preset
    clips = [e for e in entries if e.has_pictures and e.dataset not in FOUR_CLASS_DATASETS]
    examples: Examples
    if clips:
        features = materials.face_features(clips)
        examples = FeatureExamples(features, label_numbers(clips))
        parts = held_out_parts(entries, clips, preset.visual.options, work.seed, everything)
        parts = parts.among(features.present)
    elif shown := pictures(entries, "train"):
        examples = SyntheticFaceSequences(face_sequences(materials, shown), SYNTHETIC)
        parts = Split(np.arange(SYNTHETIC), np.zeros(0, np.int64))
        options = replace(preset.visual.options, keep="last")
        preset = replace(preset, visual=replace(preset.visual, options=options))
    else:
        raise DatasetError("the index has no recordings with faces, and no pictures to train on")
    stage = work.stage("visual")
    arm = train_visual(preset, materials.face, examples, parts, stage, len(EMOTIONS))
    _save(arm, run / VISUAL_FILE, [clips[i] for i in parts.train] if clips else [])


def train_audio_arm(
    materials: DataContext,
    entries: Sequence[Entry],
    run: Path,
    work: Work,
    everything: bool,
    fine_tuned: int,
) -> None:
    """Train the audio arm: the four emotions of other datasets if there, the eight, fine-tuning.

    Leaves RUN/audio.safetensors, with the backbone in it if that was fine-tuned.

    Args:
        everything: hold no actor back; then what calibrates must come from a cross-validation.
        fine_tuned: last layers of the backbone to train on with the arm.
    """
    preset, speech = materials.preset, materials.speech
    first = train_first_stage(materials, entries, work.stage("audio-one"))
    spoken = [entry for entry in eight_class(entries) if entry.has_sound]
    features = materials.voice_features(spoken)
    truth = label_numbers(spoken)
    parts = held_out_parts(entries, spoken, preset.audio_two.options, work.seed, everything)
    parts = parts.among(features.present)
    examples = FeatureExamples(features, truth)
    stage = work.stage("audio-two")
    arm = train_audio_two(preset, speech, first, examples, parts, len(EMOTIONS), stage)
    saved: dict[str, nn.Module] = {"arm": arm}
    if fine_tuned:
        waves = [materials.inputs(entry).speech for entry in spoken]
        raw = SpeechExamples(waves, truth, preset.voice_changes, preset.longest_s)
        stage = work.stage("audio-fine")
        speech, arm = fine_tune(preset.fine_tuning, speech, arm, fine_tuned, raw, parts, stage)
        saved = {"arm": arm, "backbone": speech}
    _save(nn.ModuleDict(saved), run / AUDIO_FILE, [spoken[i] for i in parts.train])


def face_sequences(materials: DataContext, shown: Sequence[Entry]) -> FaceSequences:
    """Make faces over time possible out of pictures.

    Raises:
        DatasetError: an emotion has none.
    """
    faces = [FACE_OF_EMOTION[entry.label] for entry in shown]
    if missing := sorted(set(FACE_EMOTIONS) - set(faces)):
        raise DatasetError(f"of {len(shown)} pictures none is {' or '.join(missing)}: add some")
    labels = np.array([FACE_EMOTIONS.index(face) for face in faces], np.int64)
    return FaceSequences(materials.face_features(shown, "pictures"), labels)


def _save(module: nn.Module, path: Path, learned_from: Sequence[Entry]) -> None:
    """Keep an arm, and whom it has learned from."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(state, path, {ACTORS: json.dumps(sorted({e.group for e in learned_from}))})
