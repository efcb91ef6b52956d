"""Joining trained arms, and calibrating all by people that they have not met."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from mfer_edge.outputs.files import write_text
from train.data.batches import predict
from train.data.context import DataContext, eight_class, label_numbers, pictures
from train.data.examples import (
    FeatureExamples,
    PairedExamples,
    SpeechExamples,
    SyntheticFaceSequences,
)
from train.data.index import DatasetError, Entry
from train.evaluate.metrics import (
    accuracy,
    calibration_error,
    fit_temperature,
    softmax,
    unweighted_recall,
)
from train.evaluate.predictions import Predictions, join, read_run
from train.labels import EMOTIONS
from train.models.emotion_model import MODEL_FILE, EmotionModel, save_model
from train.models.fusion import fit_fusion
from train.models.weights import load_strict, read_state
from train.options import TrainError
from train.presets import Preset
from train.stages import Split, VoiceOverBackbone, Work, train_combined
from train.train_arms import ACTORS, AUDIO_FILE, VISUAL_FILE, face_sequences, held_out_parts

REPORT_FILE = "figures.json"
CALIBRATING = 4_000  # faces over time made of pictures, for calibrating; and as many for testing


@dataclass(frozen=True)
class Figures:
    """How good something is on examples that it has not seen."""

    what: str
    unweighted_recall: float
    accuracy: float
    calibration_error: float

    @classmethod
    def of(cls, what: str, logits: np.ndarray, truth: np.ndarray) -> Figures:
        """Judge (n, classes) logits over their temperature."""
        predicted = logits.argmax(1)
        return cls(
            what,
            unweighted_recall(predicted, truth),
            accuracy(predicted, truth),
            calibration_error(softmax(logits), truth),
        )


def read_unseen(crossval: Path, preset: Preset) -> list[Predictions]:
    """Read what arms like those of a model said of people whom they had not met.

    Raises:
        DatasetError: the folder is no cross-validation.
        TrainError: its arms are of another preset, or had met those people.
    """
    run, predictions = read_run(crossval)
    if run.preset != preset.name:
        raise TrainError(f"{crossval}: a cross-validation of {run.preset}, not of {preset.name}")
    if run.protocol == "paper":
        raise TrainError(
            f"{crossval}: with protocol paper its arms had met everyone: calibrate by one with "
            "--protocol subject or loso"
        )
    return predictions


def assemble(
    materials: DataContext,
    entries: Sequence[Entry],
    run: Path,
    work: Work,
    unseen: Sequence[Predictions],
) -> list[Figures]:
    """Join the trained arms, calibrate all, and leave RUN/model.safetensors and figures.json.

    Args:
        unseen: of `read_unseen`, to calibrate by. Without them the actors serve from whom neither
            arm has learned.

    Raises:
        TrainError: an arm is missing; or nothing is there that the arms have not seen.
    """
    model = EmotionModel(materials.preset, materials.face, materials.speech)
    learned = _load(model, run)
    clips = eight_class(entries)
    if unseen:
        options = materials.preset.combined or materials.preset.visual.options
        parts = held_out_parts(entries, clips, options, work.seed, everything=True)
        joint = _said(unseen, "combined")
    else:
        met = np.array([entry.group in learned for entry in clips])
        if met.all():
            raise TrainError(
                f"{run}: its arms have learned from every actor: calibrate by a cross-validation "
                "(--crossval), or train them again without one"
            )
        parts, joint = Split(np.flatnonzero(met), np.flatnonzero(~met)), None
        unseen = _judge(model, materials, [clips[index] for index in parts.valid])
    audio = _said(unseen, "audio")
    if audio is None:
        raise TrainError("nobody is there to calibrate by whom the audio arm has not heard")
    if any(entry.has_pictures for entry in clips):
        visual = _said(unseen, "visual")
        if visual is None:
            raise TrainError("nobody is there to calibrate by whom the visual arm has not seen")
        figures = _join_on_clips(model, materials, clips, parts, work, visual, audio, joint)
    else:
        figures = _join_on_made_up(model, materials, entries, work.seed, audio)
    save_model(model, run / MODEL_FILE)
    text = json.dumps([asdict(f) for f in figures], indent=1)
    write_text(run / REPORT_FILE, text + "\n")
    return figures


def _judge(model: EmotionModel, materials: DataContext, clips: list[Entry]) -> list[Predictions]:
    """What each arm says of recordings, where it can say anything."""
    truth, preset = label_numbers(clips), materials.preset
    faces = materials.face_features(clips)
    waves = [materials.inputs(e).speech if e.has_sound else np.zeros(0) for e in clips]
    # From the samples: the backbone may have been fine-tuned.
    voices = SpeechExamples(waves, truth, preset.voice_changes, preset.longest_s)
    judged: list[Predictions] = []
    for arm, judge, examples, present in (
        ("visual", model.visual, FeatureExamples(faces, truth), faces.present),
        ("audio", VoiceOverBackbone(model.speech, model.audio), voices, voices.lengths > 0),
    ):
        if len(there := np.flatnonzero(present)):
            judged.append(
                Predictions.of(
                    [clips[index] for index in there],
                    truth[there],
                    predict(judge, examples, there),
                    protocol="subject",
                    fold="held-back",
                    arm=arm,
                    labels=EMOTIONS,
                )
            )
    return judged


def _said(unseen: Sequence[Predictions], arm: str) -> Predictions | None:
    """All that an arm said of the eight emotions."""
    parts = [part for part in unseen if part.arm == arm and part.labels == EMOTIONS]
    return join(parts) if parts else None


def _join_on_clips(
    model: EmotionModel,
    materials: DataContext,
    clips: list[Entry],
    parts: Split,
    work: Work,
    visual: Predictions,
    audio: Predictions,
    joint: Predictions | None,
) -> list[Figures]:
    """Join on recordings with both face and voice, and calibrate.

    Args:
        parts: of the recordings, for the combined stage.
        visual, audio, joint: what was said of people not met; without `joint` the new fused
            classifier says it.
    """
    place = {path: index for index, path in enumerate(audio.paths)}
    seen = np.flatnonzero([path in place for path in visual.paths])
    heard = np.array([place[visual.paths[index]] for index in seen], np.int64)
    if not len(seen):
        raise TrainError("too few recordings have both a face and a voice to join the arms on")
    options, truth = materials.preset.combined, visual.truth[seen]
    what = "both, unseen people; they also chose how the arms are joined"
    if options is None:
        weights = fit_fusion(visual.logits[seen], audio.logits[heard], truth)
        model.set_fusion(weights.visual, weights.audio, torch.from_numpy(weights.bias))
        logits = weights.logits(visual.logits[seen], audio.logits[heard])
    else:
        labels = label_numbers(clips)
        faces = materials.face_features(clips)
        # Of the fine-tuned backbone, if it was: the model's is that of the materials.
        voices = materials.voice_features(clips)
        pairs = PairedExamples(FeatureExamples(faces, labels), FeatureExamples(voices, labels))
        both = parts.among(faces.present & voices.present)
        stage = work.stage("combined")
        fused = train_combined(options, model.visual, model.audio, pairs, both, stage)
        model.fusion.load_state_dict(fused.classifier.state_dict())
        if joint is None:
            logits, truth = predict(fused, pairs, both.valid), labels[both.valid]
        else:
            logits, truth, what = joint.logits, joint.truth, "both, unseen people"
    judged = [
        ("visual arm, unseen people", visual.logits, visual.truth),
        ("audio arm, unseen people", audio.logits, audio.truth),
        (what, logits, truth),
    ]
    for index, (_, said, labels) in enumerate(judged):
        model.temperature[index] = fit_temperature(said, labels)
    return [
        Figures.of(what, said / float(temperature), labels)
        for (what, said, labels), temperature in zip(judged, model.temperature, strict=True)
    ]


def _join_on_made_up(
    model: EmotionModel,
    materials: DataContext,
    entries: Sequence[Entry],
    seed: int,
    audio: Predictions,
) -> list[Figures]:
    """Join on faces over time made of pictures, each with an unseen voice of the same emotion.

    One half of the published test pictures calibrates, the other half tests. Voices are judged by
    weights that other speakers gave.
    """
    shown = pictures(entries, "test")
    if not shown:
        raise DatasetError("the index has neither recordings with faces nor test pictures")
    voices, truth, speakers = audio.logits, audio.truth, np.array(audio.actors)
    of_label = [np.flatnonzero(truth == label) for label in range(len(EMOTIONS))]
    if silent := [e for e, has in zip(EMOTIONS, of_label, strict=True) if not len(has)]:
        raise TrainError(
            f"no voice to calibrate by is {' or '.join(silent)}: more actors are needed"
        )
    if len(np.unique(speakers)) < 2:
        raise TrainError("one speaker alone is there to calibrate by: more actors are needed")
    fitting, testing = (
        SyntheticFaceSequences(face_sequences(materials, half), CALIBRATING, seed=seed + n)
        for n, half in enumerate((shown[0::2], shown[1::2]))
    )
    everything = np.arange(CALIBRATING)
    faces_fit = predict(model.visual, fitting, everything)
    faces_test = predict(model.visual, testing, everything)
    random = np.random.default_rng(seed)
    drawn = np.array([random.choice(of_label[label]) for label in fitting.labels])
    model.temperature[0] = fit_temperature(faces_fit, fitting.labels)
    model.temperature[1] = fit_temperature(voices, truth)
    fused = np.zeros_like(faces_test)
    for speaker in np.unique(speakers[drawn]):
        test = speakers[drawn] == speaker
        others = drawn[~test]
        weights = fit_fusion(faces_fit[~test], voices[others], truth[others])
        fused[test] = weights.logits(faces_test[test], voices[drawn[test]])
    weights = fit_fusion(faces_fit, voices[drawn], truth[drawn])
    model.set_fusion(weights.visual, weights.audio, torch.from_numpy(weights.bias))
    return [
        Figures.of("audio arm, unseen speakers", voices / float(model.temperature[1]), truth),
        Figures.of(
            "visual arm, made-up sequences of one unseen picture",
            faces_test / float(model.temperature[0]),
            testing.labels,
        ),
        Figures.of("both, those sequences with voices of unseen speakers", fused, testing.labels),
    ]


def _load(model: EmotionModel, run: Path) -> set[str]:
    """Put the trained arms into a model; give the actors that either has learned from."""
    learned: set[str] = set()
    for name in (VISUAL_FILE, AUDIO_FILE):
        path = run / name
        if not path.is_file():
            raise TrainError(f"{path}: not there: train that arm first")
        state = read_state(path)
        with safe_open(path, "pt") as file:
            actors = (file.metadata() or {}).get(ACTORS)
        if actors is None:
            raise TrainError(f"{path}: doesn't tell whom it has learned from: train it again")
        learned |= set(json.loads(actors))
        if name == VISUAL_FILE:
            load_strict(model.visual, state, str(path))
            continue
        for part, module in (("arm.", model.audio), ("backbone.", model.speech)):
            own = {n.removeprefix(part): v for n, v in state.items() if n.startswith(part)}
            if own or part == "arm.":
                load_strict(module, own, str(path))
    return learned
