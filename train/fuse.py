"""Fusion and calibration of trained arms, on people that they were not trained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from mfer_edge.outputs.files import write_text
from train.data.batches import Split, predict
from train.data.context import class_indices, images, label_clips
from train.data.examples import FeatureExamples, PairedExamples, SpeechExamples
from train.data.faces.sequences import SyntheticFaceSequences
from train.data.faces.targets import agreed_images
from train.data.index import DatasetError, Entry
from train.errors import TrainError
from train.evaluate.av_clips import ClipLogits, clip_logits, measure_clips, read_clips
from train.evaluate.metrics import (
    accuracy,
    calibration_error,
    fit_temperature,
    softmax,
    unweighted_recall,
)
from train.evaluate.predictions import Predictions, join, read_run
from train.evaluate.strangers import StrangerLogits
from train.models.emotion_model import MODEL_FILE, EmotionModel, save_model
from train.models.fusion import OpinionPool, fit_fusion
from train.presets import Preset
from train.run import RunContext
from train.stages import VoiceOverBackbone, train_combined
from train.train_arms import TALK_FILE, face_sequences, held_out_split, load_arms

REPORT_FILE, CLIPS_FILE = "figures.json", "clips.json"
CALIBRATING = 4_000  # synthetic face sequences for calibration; and as many for testing


@dataclass(frozen=True)
class Figures:
    """Accuracy and calibration on unseen examples."""

    what: str
    unweighted_recall: float
    accuracy: float
    calibration_error: float

    @classmethod
    def of(cls, what: str, logits: np.ndarray, truth: np.ndarray) -> Figures:
        """Measure (n, classes) logits, already divided by their temperature."""
        predicted = logits.argmax(1)
        return cls(
            what,
            unweighted_recall(predicted, truth),
            accuracy(predicted, truth),
            calibration_error(softmax(logits), truth),
        )


def read_unseen(crossval: Path, preset: Preset) -> list[Predictions]:
    """Read a cross-validation's predictions of people that its arms were not trained on.

    Raises:
        DatasetError: the folder is no cross-validation.
        TrainError: its arms are of another preset, or were trained on everyone.
    """
    run, predictions = read_run(crossval)
    if run.preset != preset.name:
        raise TrainError(f"{crossval}: a cross-validation of {run.preset}, not of {preset.name}")
    if run.protocol == "paper":
        raise TrainError(
            f"{crossval}: with protocol paper its arms were trained on every actor: calibrate by "
            "one with --protocol subject or loso"
        )
    return predictions


def assemble(
    run: RunContext, unseen: Sequence[Predictions], clips: Path | None = None
) -> list[Figures]:
    """Fuse the trained arms, calibrate, and write model.safetensors and figures.json.

    Args:
        run: its folder has the arms.
        unseen: of `read_unseen`, to calibrate on. Without them the actors that neither arm was
            trained on serve.
        clips: folder of `train.evaluate.av_clips`, to fit the fusion on.

    Raises:
        TrainError: an arm is missing; or there is nothing unseen.
        DatasetError: the folder of clips is none.
    """
    listed = [] if clips is None else read_clips(clips)
    model = EmotionModel(run.preset, run.data.face, run.data.speech)
    actors = load_arms(model, run.out)
    figures = Assembly(run, model, actors, unseen).fuse(listed)
    save_model(model, run.out / MODEL_FILE)
    text = json.dumps([asdict(f) for f in figures], indent=1)
    write_text(run.out / REPORT_FILE, text + "\n")
    return figures


class Assembly:
    """A model whose arms are trained, and the predictions that fuse and calibrate it.

    Args:
        actors: that either arm was trained on.
        unseen: predictions of other people; by default the arms predict the actors left.

    Raises:
        TrainError: there is nothing unseen.
    """

    def __init__(
        self,
        run: RunContext,
        model: EmotionModel,
        actors: set[str],
        unseen: Sequence[Predictions],
    ) -> None:
        self.run, self.model = run, model
        self.clips = [entry for entry in label_clips(run.entries, run.preset) if not entry.soft]
        if unseen:
            options = run.preset.combined or run.preset.visual.options
            self.split = held_out_split(run, self.clips, options, everything=True)
            self.combined = self._of_arm(unseen, "combined")
        else:
            known = np.array([entry.group in actors for entry in self.clips])
            if known.all():
                raise TrainError(
                    f"{run.out}: its arms were trained on every actor: calibrate by a "
                    "cross-validation (--crossval), or train them again without one"
                )
            self.split = Split(np.flatnonzero(known), np.flatnonzero(~known))
            self.combined = None
            unseen = self._predict([self.clips[index] for index in self.split.valid])
        audio = self._of_arm(unseen, "audio")
        if audio is None:
            raise TrainError("no voice to calibrate on that the audio arm was not trained on")
        self.audio, self.visual = audio, self._of_arm(unseen, "visual")
        talk = Predictions.load(path) if (path := run.out / TALK_FILE).is_file() else None
        self.talk = talk if talk and talk.labels == run.preset.labels else None

    def fuse(self, clips: Sequence[Entry] = ()) -> list[Figures]:
        """Fit fusion and temperatures of the model.

        Args:
            clips: of `read_clips`, to fit the fusion on in place of the index's recordings.

        Raises:
            TrainError: too few people are unseen.
            DatasetError: there are neither recordings with faces nor images.
        """
        if clips and isinstance(self.model.fusion, OpinionPool):
            return self._fuse_on_strangers(clips)
        if not any(entry.has_pictures for entry in self.clips):
            return self._fuse_on_synthetic_faces()
        if self.visual is None:
            raise TrainError("no face to calibrate on that the visual arm was not trained on")
        return self._fuse_on_clips(self.visual)

    def _of_arm(self, unseen: Sequence[Predictions], arm: str) -> Predictions | None:
        """All predictions of one arm over the preset's labels."""
        labels = self.run.preset.labels
        parts = [part for part in unseen if part.arm == arm and part.labels == labels]
        return join(parts) if parts else None

    def _predict(self, clips: list[Entry]) -> list[Predictions]:
        """Each arm's predictions of the recordings that have its modality."""
        model, data, preset = self.model, self.run.data, self.run.preset
        truth, faces = class_indices(clips, preset.labels), data.face_features(clips)
        waves = [data.inputs(e).speech if e.has_sound else np.zeros(0) for e in clips]
        # From the samples: the backbone may have been fine-tuned.
        voices = SpeechExamples(waves, truth, preset.voice_changes, preset.longest_s)
        found: list[Predictions] = []
        for arm, module, examples, present in (
            ("visual", model.visual, FeatureExamples(faces, truth), faces.present),
            ("audio", VoiceOverBackbone(model.speech, model.audio), voices, voices.lengths > 0),
        ):
            if len(there := np.flatnonzero(present)):
                found.append(
                    Predictions.of(
                        [clips[index] for index in there],
                        truth[there],
                        predict(module, examples, there),
                        protocol="subject",
                        fold="held-back",
                        arm=arm,
                        labels=preset.labels,
                    )
                )
        return found

    def _fuse_on_clips(self, visual: Predictions) -> list[Figures]:
        """Fuse on recordings with both face and voice, and calibrate."""
        audio = self.audio
        place = {path: index for index, path in enumerate(audio.paths)}
        in_visual = np.flatnonzero([path in place for path in visual.paths])
        in_audio = np.array([place[visual.paths[index]] for index in in_visual], np.int64)
        if not len(in_visual):
            raise TrainError("too few recordings have both a face and a voice to fuse the arms")
        what = "both, unseen people; the fusion was fitted on them too"
        if self.run.preset.combined is None:
            truth = visual.truth[in_visual]
            audio_temperature = StrangerLogits.of(audio).temperature()
            temperatures = (self._visual_strangers(visual).temperature(), audio_temperature)
            pair = visual.logits[in_visual], audio.logits[in_audio]
            fitted = fit_fusion(*pair, truth, temperatures)
            self.model.set_fusion(fitted)
            logits = fitted.logits(*pair)
            return [
                Figures.of(
                    "visual arm, unseen people", visual.logits / temperatures[0], visual.truth
                ),
                Figures.of("audio arm, unseen people", audio.logits / temperatures[1], audio.truth),
                Figures.of(what, logits, truth),
            ]
        logits, truth = self._train_combined()
        what = what if self.combined is None else "both, unseen people"
        judged = [
            ("visual arm, unseen people", visual.logits, visual.truth),
            ("audio arm, unseen people", audio.logits, audio.truth),
            (what, logits, truth),
        ]
        temperature = self.model.temperature
        for index, (_, scored, labels) in enumerate(judged):
            temperature[index] = fit_temperature(scored, labels)
        return [
            Figures.of(what, scored / float(divisor), labels)
            for (what, scored, labels), divisor in zip(judged, temperature, strict=True)
        ]

    def _train_combined(self) -> tuple[np.ndarray, np.ndarray]:
        """Train the combined stage; give unseen logits and classes: given ones, or its own."""
        data, preset, options = self.run.data, self.run.preset, self.run.preset.combined
        assert options is not None
        labels = class_indices(self.clips, preset.labels)
        faces = data.face_features(self.clips)
        # Of the fine-tuned backbone, if it was: the model's is that of the data context.
        voices = data.voice_features(self.clips)
        pairs = PairedExamples(FeatureExamples(faces, labels), FeatureExamples(voices, labels))
        split = self.split.where(faces.present & voices.present)
        fused = train_combined(
            options,
            self.model.visual,
            self.model.audio,
            examples=pairs,
            split=split,
            stage=self.run.stage("combined"),
        )
        self.model.fusion.load_state_dict(fused.classifier.state_dict())
        if self.combined is not None:
            return self.combined.logits, self.combined.truth
        return predict(fused, pairs, split.valid), labels[split.valid]

    def _fuse_on_synthetic_faces(self) -> list[Figures]:
        """Fuse on synthetic face sequences, each with an unseen voice of the same emotion.

        One half of the published test images calibrates, the other half tests. Voices are tested
        with weights fitted on other speakers.
        """
        shown, seed = agreed_images(images(self.run.entries, "test")), self.run.seed
        if not shown:
            raise DatasetError("the index has neither recordings with faces nor test images")
        voices, truth, speakers = self.audio.logits, self.audio.truth, np.array(self.audio.actors)
        of_class = self._voices_of_classes(truth, speakers)
        fitting, testing = (
            SyntheticFaceSequences(
                face_sequences(self.run.data, half),
                CALIBRATING,
                self.run.preset.labels,
                seed=seed + number,
            )
            for number, half in enumerate((shown[0::2], shown[1::2]))
        )
        every = np.arange(CALIBRATING)
        faces_fit = predict(self.model.visual, fitting, every)
        faces_test = predict(self.model.visual, testing, every)
        random = np.random.default_rng(seed)
        drawn = np.array([random.choice(of_class[label]) for label in fitting.labels])
        strangers = self._visual_strangers(None).with_group("images", faces_fit, fitting.labels)
        temperatures = strangers.temperature(), StrangerLogits.of(self.audio).temperature()
        fused = np.zeros_like(faces_test)
        for speaker in np.unique(speakers[drawn]):
            test = speakers[drawn] == speaker
            others = drawn[~test]
            fitted = fit_fusion(faces_fit[~test], voices[others], truth[others], temperatures)
            fused[test] = fitted.logits(faces_test[test], voices[drawn[test]])
        self.model.set_fusion(fit_fusion(faces_fit, voices[drawn], truth[drawn], temperatures))
        return [
            Figures.of("audio arm, unseen speakers", voices / temperatures[1], truth),
            Figures.of(
                "visual arm, synthetic sequences of one unseen image",
                faces_test / temperatures[0],
                testing.labels,
            ),
            Figures.of(
                "both, those sequences with voices of unseen speakers", fused, testing.labels
            ),
        ]

    def _fuse_on_strangers(self, entries: Sequence[Entry]) -> list[Figures]:
        """Fuse on clips of people in no training data, and calibrate on all strangers."""
        self._add_neutral_prior()
        audio = self._voice_strangers()
        clips = clip_logits(self.model, entries, self.run.data.inputs)
        visual = self._visual_strangers(self.visual)
        shown = agreed_images(images(self.run.entries, "test"))
        if shown and self.visual is None:
            fitting = SyntheticFaceSequences(
                face_sequences(self.run.data, shown),
                CALIBRATING,
                self.run.preset.labels,
                seed=self.run.seed,
            )
            scored = predict(self.model.visual, fitting, np.arange(CALIBRATING))
            visual = visual.with_group("images", scored, fitting.labels)
        talk = self._talk_clips()
        fitted = clips.fit(visual, audio, talk)
        self.model.set_fusion(fitted)
        figures = measure_clips(clips, visual, audio, talk)
        write_text(self.run.out / CLIPS_FILE, json.dumps(asdict(figures), indent=1) + "\n")
        fused = fitted.logits(clips.visual, clips.audio)
        return [
            Figures.of(
                "audio arm, unseen people",
                self.audio.logits / fitted.audio_temperature,
                self.audio.truth,
            ),
            *self._left_out(audio.with_group("clips", clips.audio, clips.truth)),
            Figures.of("visual arm, clips", clips.visual / fitted.visual_temperature, clips.truth),
            Figures.of("both, clips; the fusion was fitted on them too", fused, clips.truth),
        ]

    def _talk_clips(self) -> ClipLogits | None:
        """Ordinary talk that both arms predicted without having been trained on it, if any."""
        if self.talk is None:
            return None
        place = {path: index for index, path in enumerate(self.audio.paths)}
        seen = np.flatnonzero([path in place for path in self.talk.paths])
        if not len(seen):
            return None
        talk = self.talk.select(seen)
        heard = np.array([place[path] for path in talk.paths])
        return ClipLogits(talk.logits, self.audio.logits[heard], talk.truth, np.array(talk.actors))

    def _voice_strangers(self) -> StrangerLogits:
        """Unseen people's voices, but for ordinary talk: soft labels calibrate nothing."""
        return StrangerLogits.of(self.audio).without("ordinary")

    def _add_neutral_prior(self) -> None:
        """Give the audio arm, and its predictions, the recipe's prior of neutral."""
        labels, recipe = self.run.preset.labels, self.run.preset.voices
        nats = recipe.neutral_prior if recipe else 0.0
        prior = np.zeros(len(labels), np.float32)
        prior[labels.index("neutral")] = nats * self._voice_strangers().temperature()
        with torch.no_grad():
            self.model.audio.classifier.bias.add_(torch.from_numpy(prior))
        self.audio = replace(self.audio, logits=(self.audio.logits + prior).astype(np.float32))

    def _left_out(self, audio: StrangerLogits) -> list[Figures]:
        """Calibration of each dataset by a temperature that was fitted on the others."""
        figures = []
        for name in np.unique(audio.groups):
            own, others = audio.groups == name, audio.without(name)
            if len(others.truth):
                scored = audio.logits[own] / others.temperature()
                what = f"audio arm, {name}, calibrated on the others"
                figures.append(Figures.of(what, scored, audio.truth[own]))
        return figures

    def _visual_strangers(self, visual: Predictions | None) -> StrangerLogits:
        """Unseen people's predictions, and those of ordinary talk."""
        labels = len(self.run.preset.labels)
        strangers = StrangerLogits.none(labels) if visual is None else StrangerLogits.of(visual)
        if self.talk is None:
            return strangers
        return strangers.with_group("ordinary", self.talk.logits, self.talk.truth)

    def _voices_of_classes(self, truth: np.ndarray, speakers: np.ndarray) -> list[np.ndarray]:
        """The unseen voices of each class, by position.

        Raises:
            TrainError: a class has none, or all are one speaker's.
        """
        labels = self.run.preset.labels
        of_class = [np.flatnonzero(truth == number) for number in range(len(labels))]
        if silent := [e for e, voices in zip(labels, of_class, strict=True) if not len(voices)]:
            raise TrainError(
                f"no voice to calibrate on is {' or '.join(silent)}: more actors are needed"
            )
        if len(np.unique(speakers)) < 2:
            raise TrainError("one speaker alone is there to calibrate on: more actors are needed")
        return of_class
