"""Training of the arms of a model to keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from train.data.batches import Split
from train.data.context import (
    FOUR_CLASS_DATASETS,
    DataContext,
    class_indices,
    first_stage_clips,
    images,
    label_clips,
)
from train.data.examples import FeatureExamples, SpeechExamples
from train.data.faces.means import MeanOptions
from train.data.faces.sequences import FaceSequences, SyntheticFaceSequences
from train.data.folds import split_off
from train.data.index import DatasetError, Entry
from train.errors import TrainError
from train.faces.training import FaceCorpora, talk_predictions, train_mean_arm
from train.labels import FACE_EMOTIONS, FACE_OF_EMOTION, FOUR_EMOTIONS
from train.models.arms import SequenceArm
from train.models.emotion_model import EmotionModel
from train.models.weights import load_strict, read_state
from train.options import TrainOptions
from train.run import RunContext
from train.stages import fine_tune, train_audio_one, train_visual
from train.voices.training import Voices, train_audio

VISUAL_FILE, AUDIO_FILE = "visual.safetensors", "audio.safetensors"
TALK_FILE = "visual-talk.npz"  # predictions of ordinary talk by visual arms not trained on it
ACTORS = "actors"  # in the metadata of an arm's file: the actors it was trained on
SYNTHETIC = 12_000  # synthetic face sequences in one epoch


def held_out_split(
    run: RunContext, chosen: Sequence[Entry], options: TrainOptions, *, everything: bool
) -> Split:
    """Split recordings by actor into training and held-out ones.

    The run's index alone decides who is held out: the same for both arms.

    Args:
        chosen: the recordings to split.
        everything: hold out no actor, but takes if something must select the epoch.
    """
    if everything and options.keep == "last":
        return Split(np.arange(len(chosen)), np.zeros(0, np.int64))
    every, key = label_clips(run.entries, run.preset), attrgetter("take" if everything else "group")
    _, back = split_off(every, "paper" if everything else "subject", run.seed)
    held = {key(every[index]) for index in back}
    inside = np.array([key(entry) in held for entry in chosen], bool)
    return Split(np.flatnonzero(~inside), np.flatnonzero(inside))


def train_first_stage(run: RunContext) -> SequenceArm | None:
    """Train the first audio stage on all of its datasets.

    None if the preset has no such stage, or the index none of its datasets.

    No recording of these datasets is in a test part of a cross-validation over all labels.
    """
    one, chosen = run.preset.audio_one, first_stage_clips(run.entries)
    if one is None or not chosen:
        return None
    stage = run.stage("audio-one")
    voices = run.data.voice_features(chosen, "voices, first stage")
    if one.options.keep == "last":
        split = Split(np.arange(len(chosen)), np.zeros(0, np.int64))
    else:
        split = Split(*split_off(chosen, "paper", stage.seed))
    return train_audio_one(
        run.preset,
        run.data.speech,
        examples=FeatureExamples(voices, class_indices(chosen, FOUR_EMOTIONS)),
        split=split.where(voices.present),
        classes=len(FOUR_EMOTIONS),
        stage=stage,
    )


def train_visual_arm(run: RunContext, *, everything: bool) -> None:
    """Train the visual arm on recordings, or on images if there are none.

    Ordinary talking faces are soft examples of neutral. Writes visual.safetensors to the run's
    folder, and visual-talk.npz, if the arm was trained on images and talk.

    Args:
        everything: hold out no actor; then a cross-validation must calibrate.

    Raises:
        DatasetError: the index has neither recordings with faces nor images.
    """
    preset = run.preset
    shown, talk = images(run.entries, "train"), talking_faces(run.entries)
    recorded = [
        e
        for e in run.entries
        if e.has_pictures and not e.soft and e.dataset not in FOUR_CLASS_DATASETS
    ]
    if not recorded and shown and preset.visual_arm == "mean":
        _train_on_images(run, shown, talk)
        return
    examples: FeatureExamples | SyntheticFaceSequences
    if recorded:
        recorded += talk
        features, labels = run.data.face_features(recorded), class_indices(recorded, preset.labels)
        examples = FeatureExamples(features, labels, soft_targets(recorded, preset.labels))
        split = held_out_split(run, recorded, preset.visual.options, everything=everything)
        split = split.where(features.present)
    elif shown:
        examples = SyntheticFaceSequences(face_sequences(run.data, shown), SYNTHETIC, preset.labels)
        split = Split(np.arange(SYNTHETIC), np.zeros(0, np.int64))
        options = replace(preset.visual.options, keep="last")
        preset = replace(preset, visual=replace(preset.visual, options=options))
    else:
        raise DatasetError("the index has no recordings with faces, and no images to train on")
    arm = train_visual(
        preset,
        run.data.face,
        examples=examples,
        split=split,
        classes=len(preset.labels),
        stage=run.stage("visual"),
    )
    _save(arm, run.out / VISUAL_FILE, [recorded[i] for i in split.train] if recorded else [])


def _train_on_images(run: RunContext, shown: Sequence[Entry], talk: Sequence[Entry]) -> None:
    """Train the visual arm on images and ordinary talk, and predict talk of people left out."""
    corpora = FaceCorpora.read(run, shown, talk)
    every = np.arange(len(corpora.talk))
    arm = train_mean_arm(run, corpora, every, run.stage("visual"))
    _save(arm, run.out / VISUAL_FILE, corpora.talk)
    if (predictions := talk_predictions(run, corpora)) is not None:
        predictions.save(run.out / TALK_FILE)


def talking_faces(entries: Sequence[Entry]) -> list[Entry]:
    """Recordings with faces of people who talk without acting."""
    return [entry for entry in entries if entry.soft and entry.has_pictures]


def soft_targets(entries: Sequence[Entry], labels: Sequence[str]) -> np.ndarray | None:
    """Targets of recordings, (n, labels); None if every label is certain."""
    soft = np.array([entry.soft for entry in entries])
    if not soft.any():
        return None
    targets = np.eye(len(labels), dtype=np.float32)[class_indices(entries, labels)]
    certain = MeanOptions().neutral
    targets[soft] = certain * targets[soft] + (1 - certain) / len(labels)
    return targets


def train_audio_arm(run: RunContext, *, everything: bool, fine_tuned: int) -> None:
    """Train the audio arm: first stage, if there is one; second stage; fine-tuning.

    Writes audio.safetensors to the run's folder, with the backbone in it if it was fine-tuned.

    Args:
        everything: hold out no actor; then a cross-validation must calibrate.
        fine_tuned: last layers of the backbone to fine-tune with the arm.
    """
    preset, speech = run.preset, run.data.speech
    first = train_first_stage(run)
    spoken = [entry for entry in label_clips(run.entries, preset) if entry.has_sound]
    features = run.data.voice_features(spoken)
    truth = class_indices(spoken, preset.labels)
    split = held_out_split(run, spoken, preset.audio_two.options, everything=everything)
    split = split.where(features.present)
    arm = train_audio(
        preset,
        speech,
        voices=Voices(spoken, features, truth, len(preset.labels)),
        split=split,
        stage=run.stage("audio-two"),
        start=first,
    )
    saved: dict[str, nn.Module] = {"arm": arm}
    if fine_tuned:
        waves = [run.data.inputs(entry).speech for entry in spoken]
        speech, arm = fine_tune(
            preset.fine_tuning,
            speech,
            arm,
            last=fine_tuned,
            examples=SpeechExamples(waves, truth, preset.voice_changes, preset.longest_s),
            split=split,
            stage=run.stage("audio-fine"),
        )
        saved = {"arm": arm, "backbone": speech}
    _save(nn.ModuleDict(saved), run.out / AUDIO_FILE, [spoken[i] for i in split.train])


def face_sequences(data: DataContext, shown: Sequence[Entry]) -> FaceSequences:
    """Make the generator of synthetic face sequences from images.

    Raises:
        DatasetError: an emotion has no image.
    """
    faces = [FACE_OF_EMOTION[entry.label] for entry in shown]
    if missing := sorted(set(FACE_EMOTIONS) - set(faces)):
        raise DatasetError(f"of {len(shown)} images none is {' or '.join(missing)}: add some")
    labels = np.array([FACE_EMOTIONS.index(face) for face in faces], np.int64)
    return FaceSequences(data.face_features(shown, "images"), labels)


def _save(module: nn.Module, path: Path, trained_on: Sequence[Entry]) -> None:
    """Write an arm, with the actors that it was trained on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    save_file(state, path, {ACTORS: json.dumps(sorted({e.group for e in trained_on}))})


def load_arms(model: EmotionModel, folder: Path) -> set[str]:
    """Load the trained arms of a run's folder; give the actors that either was trained on.

    Raises:
        TrainError: an arm is missing, or lists no actors.
        CheckpointError: it does not fit the model.
    """
    actors: set[str] = set()
    for name in (VISUAL_FILE, AUDIO_FILE):
        path = folder / name
        if not path.is_file():
            raise TrainError(f"{path}: not there: train that arm first")
        state = read_state(path)
        with safe_open(path, "pt") as file:
            listed = (file.metadata() or {}).get(ACTORS)
        if listed is None:
            raise TrainError(f"{path}: lists no actors that it was trained on: train it again")
        actors |= set(json.loads(listed))
        if name == VISUAL_FILE:
            load_strict(model.visual, state, str(path))
            continue
        for part, module in (("arm.", model.audio), ("backbone.", model.speech)):
            own = {n.removeprefix(part): v for n, v in state.items() if n.startswith(part)}
            if own or part == "arm.":
                load_strict(module, own, str(path))
    return actors
